"""`sglang version`: this package and those it computes with, without importing them."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib import metadata

from runtime import UserError

PACKAGES = ("sglang-graph", "torch", "diffusers", "transformers", "safetensors", "huggingface_hub")


def version(argv: Sequence[str]) -> int:
    """Run the command."""
    if argv and argv[0] not in {"-h", "--help", "--debug"}:
        raise UserError(f"unexpected word `{argv[0]}`", help="sglang version")
    for name in PACKAGES:
        print(f"{name} {_installed(name)}")
    print(f"python {platform.python_version()}")
    return 0


def _installed(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "(not installed)"
