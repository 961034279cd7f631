"""`sglang version`: this package, where it lies, and those it computes with; none is imported."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from runtime import UserError

PACKAGES = ("sglang-graph", "torch", "diffusers", "transformers", "safetensors", "huggingface_hub")


def version(argv: Sequence[str]) -> int:
    """Run the command."""
    if argv and argv[0] not in {"-h", "--help", "--debug"}:
        raise UserError(f"unexpected word `{argv[0]}`", help="sglang version")
    print(f"{PACKAGES[0]} {_installed(PACKAGES[0])} in {Path(__file__).parents[1]}")
    for name in PACKAGES[1:]:
        print(f"{name} {_installed(name)}")
    print(f"python {platform.python_version()}")
    return 0


def _installed(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "(not installed)"
