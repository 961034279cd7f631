"""The runtime of pipeline graphs. `Runtime` is its interface; importing it loads no torch."""

import sys

from runtime.api import Result, Run, Runtime
from runtime.contract.outputs import Destination, File
from runtime.errors import (
    Cancelled,
    GraphError,
    NodeFailed,
    NotFinite,
    Position,
    Problem,
    UserError,
    did_you_mean,
)
from runtime.moved import OldPaths
from runtime.settings.setting import Raw, Setting

sys.meta_path.append(OldPaths())

__all__ = [
    "Cancelled",
    "Destination",
    "File",
    "GraphError",
    "NodeFailed",
    "NotFinite",
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
