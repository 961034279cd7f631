"""Why a library could not load a component: the file, the package or the setting at fault.

The libraries' own texts speak of other files, of downloads and of packages that would not help.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime.checkpoint.classes import STAND_IN
from runtime.checkpoint.component_source import ComponentSource
from runtime.checkpoint.file_faults import access_fault, json_value
from runtime.checkpoint.required_files import (
    PIECES,
    is_installed,
    missing_packages,
    piece_model_fault,
)
from runtime.errors import UserError

# What building an object from a broken config raises. Memory errors are none of these.
BUILD_ERRORS = (
    *(ValueError, TypeError, KeyError, IndexError, AttributeError, ImportError, OSError),
    *(AssertionError, ZeroDivisionError, NotImplementedError),
)
MODULE_WORD = re.compile(r"[A-Za-z][\w-]+")
# Optional modules that the libraries' messages name.
OPTIONAL_MODULES = {
    *("accelerate", "bitsandbytes", "bs4", "cv2", "flash_attn", "ftfy", "gguf", "k_diffusion"),
    *("kernels", "librosa", "note_seq", "onnxruntime", "peft", "protobuf", "scipy"),
    *("sentencepiece", "tiktoken", "timm", "torchao", "torchaudio", "torchsde", "torchvision"),
    "xformers",
}
MODULES = {"protobuf": "google.protobuf"}
LONGEST_REASON = 200


@contextmanager
def load_errors(
    source: ComponentSource, kinds: tuple[type[Exception], ...] = (Exception,)
) -> Iterator[None]:
    """Turn a library's errors into a UserError that names the component and what is at fault."""
    try:
        yield
    except (UserError, MemoryError):
        raise
    except kinds as problem:
        raise load_fault(source, problem) from problem


def load_fault(source: ComponentSource, problem: Exception) -> UserError:
    """The error for a component that a library refuses."""
    field = f"components.{source.name}.path"
    if damaged := damaged_file(source.folder):
        message = f"`{source.name}`: {damaged.message}"
        return UserError(message, help=damaged.help, field=field)
    subject = f"`{source.name}` ({source.class_name} of {source.folder})"
    if packages := packages_of(problem):
        return missing_packages(subject, packages, field)
    if isinstance(problem, PermissionError) and problem.filename:
        return access_fault(Path(str(problem.filename)), problem)
    config = source.folder / source.config_name if source.config_name else source.folder
    return UserError(
        f"`{source.name}`: {source.class_name} cannot be made from {config}{reason_of(problem)}",
        help="check the values in its config, or download its files again",
        field=field,
    )


def damaged_file(folder: Path) -> UserError | None:
    """The first file of a folder that is not what its name says."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        try:
            if path.suffix == ".json":
                json_value(path)
            elif path.suffix in PIECES and (fault := piece_model_fault(path)):
                return fault
        except UserError as problem:
            return problem
    return None


def packages_of(problem: Exception) -> list[str]:
    """Packages that a library's error asks for and that are not installed."""
    if isinstance(problem, ModuleNotFoundError) and problem.name:
        return [problem.name.partition(".")[0]]
    words = MODULE_WORD.findall(str(problem)) if isinstance(problem, ImportError) else []
    modules = [word.lower().replace("-", "_") for word in words]
    found = [MODULES.get(module, module) for module in modules if module in OPTIONAL_MODULES]
    return [module for module in dict.fromkeys(found) if not is_installed(module)]


def reason_of(problem: Exception) -> str:
    """The first line of a library's reason, where it says more than that a file is missing."""
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    if isinstance(problem, OSError | ImportError) or not lines:
        return "."
    line = lines[0] if len(lines[0]) <= LONGEST_REASON else f"{lines[0][:LONGEST_REASON]}..."
    return f": {type(problem).__name__}: {line}"


def stand_in_fault(source: ComponentSource, cls: type) -> UserError:
    """The error for a class that diffusers or transformers only has with other packages."""
    backends = [str(name) for name in getattr(cls, STAND_IN, ())]
    absent = [name for name in backends if not is_installed(name)] or backends
    return missing_packages(
        f"`{source.name}` ({source.class_name})", absent, f"components.{source.name}"
    )
