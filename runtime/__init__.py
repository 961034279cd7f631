"""The runtime of pipeline graphs. `Runtime` is its interface; importing it loads no torch."""

from runtime.errors import (
    Cancelled,
    GraphError,
    NodeFailed,
    Position,
    Problem,
    UserError,
    did_you_mean,
)
from runtime.output import Destination, File
from runtime.runtime import Result, Run, Runtime
from runtime.settings import Raw, Setting

__all__ = [
    "Cancelled",
    "Destination",
    "File",
    "GraphError",
    "NodeFailed",
    "Position",
    "Problem",
    "Raw",
    "Result",
    "Run",
    "Runtime",
    "Setting",
    "UserError",
    "did_you_mean",
]
