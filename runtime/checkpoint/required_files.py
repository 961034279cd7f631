"""Which files a component needs besides weights, and which packages read them. No torch.

Checked before anything is loaded, so that an incomplete copy or download is reported as one, not
by a message of a library.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable
from pathlib import Path

from runtime.checkpoint import hub
from runtime.checkpoint.file_faults import AGAIN, download_fault, file_fault, reading, text_fault
from runtime.checkpoint.folder import Folder
from runtime.errors import UserError

MODEL, SCHEDULER = "config.json", "scheduler_config.json"
TOKENIZER, PROCESSOR = "tokenizer_config.json", "preprocessor_config.json"
GENERATION = "generation_config.json"
CONFIGS = (MODEL, SCHEDULER, TOKENIZER, PROCESSOR, "processor_config.json")
TEXT_SUFFIXES = (".json", ".txt", ".jinja")
SIGNATURE_BYTES = 64  # bytes that tell what a file is
# A vocabulary in one file, by the ends of their names; `vocab.json` needs `merges.txt` beside it.
VOCABULARIES = ("tokenizer.json", "vocab.txt", ".model", ".spm", ".tiktoken", "tekken.json")
PIECES = (".model", ".spm")
PROTOBUF = b"\n"  # the tag of the first field of a SentencePiece model
RANKS = re.compile(rb"[A-Za-z0-9+/]+=* \d+\s")  # a line of tiktoken's vocabularies
PAIR = ("vocab.json", "merges.txt")
BYTES_ONLY = frozenset({"ByT5Tokenizer", "CanineTokenizer", "PerceiverTokenizer"})
# Package of an import, where their names differ.
DISTRIBUTIONS = {"google.protobuf": "protobuf", "PIL": "pillow", "cv2": "opencv-python"}
DISTRIBUTIONS |= {"bs4": "beautifulsoup4", "sklearn": "scikit-learn"}


def expected_config(class_name: str) -> tuple[str, ...]:
    """Where a component of this class keeps its config, by the role that its name tells."""
    if "Tokenizer" in class_name:
        return (TOKENIZER,)
    if "Processor" in class_name or "FeatureExtractor" in class_name:
        return (PROCESSOR, "processor_config.json")
    return (SCHEDULER,) if "Scheduler" in class_name else (MODEL,)


def check_files(name: str, files: Folder, library: str, class_name: str) -> None:
    """Refuse a tokenizer, processor or scheduler whose files are missing or cannot be read.

    name, library, class_name  of the component
    """
    field = f"components.{name}.path"
    listed = files.names()
    present = [n for n in listed if files.has_entry(n)]
    for file in present:
        if file.endswith((*TEXT_SUFFIXES, *VOCABULARIES)) and (
            problem := _fault(files.path / file)
        ):
            raise UserError(f"`{name}`: {problem.message}", help=problem.help, field=field)
    lacking = _lacking(present, class_name)
    if lacking:
        holds = f"it holds {', '.join(present[:6])}" if present else "it is empty"
        again = "download the model again" if files.repo is None else hub.REFETCH
        raise UserError(
            f"{files.path} lacks {lacking}, which `{name}` ({class_name}) needs; {holds}.",
            help=again, field=field,
        )  # fmt: skip
    if library == "transformers" and (packages := needed_packages(files.path, present)):
        raise missing_packages(f"`{name}` ({class_name} of {files.path})", packages, field)


def _fault(path: Path) -> UserError | None:
    """What is wrong with a file, by what it is and its first bytes."""
    if problem := file_fault(path):
        return problem
    head = _head(path)
    if path.suffix == ".json" and (problem := text_fault(path, head)):
        return problem
    if problem := download_fault(path, head):
        return problem
    if path.suffix in PIECES and not RANKS.match(head) and not head.startswith(PROTOBUF):
        return piece_model_fault(path)
    return None


def _lacking(present: list[str], class_name: str) -> str:
    """The file, or the files of which one is needed, that a component lacks; empty: none."""
    expected = expected_config(class_name)
    if "Tokenizer" in class_name:
        return _vocabulary(present, class_name)
    if expected == (MODEL,) or set(expected) & set(present):
        has_tokenizer = "Processor" in class_name and TOKENIZER in present
        return _vocabulary(present, class_name) if has_tokenizer else ""
    return "" if set(present) & {*CONFIGS} else expected[0]


def _vocabulary(present: list[str], class_name: str) -> str:
    if class_name in BYTES_ONLY or any(n.endswith(VOCABULARIES) for n in present):
        return ""
    absent = [n for n in PAIR if n not in present]
    if len(absent) < len(PAIR):
        return " and ".join(absent)
    return "its vocabulary (tokenizer.json, vocab.json with merges.txt, or spiece.model)"


def needed_packages(folder: Path, present: Iterable[str]) -> list[str]:
    """Packages that reading a vocabulary needs and that are not installed.

    `tokenizer.json` needs none: transformers builds all others into its form.
    """
    if "tokenizer.json" in present:
        return []
    for name in present:
        if name.endswith(PIECES):
            is_ranks = RANKS.match(_head(folder / name))
            wanted = ("tiktoken",) if is_ranks else ("sentencepiece", "google.protobuf")
            return [module for module in wanted if not is_installed(module)]
        if name.endswith(".tiktoken"):
            return [] if is_installed("tiktoken") else ["tiktoken"]
    return []


def piece_model_fault(path: Path) -> UserError | None:
    """Why a file is no SentencePiece model; it is read by that package where it is installed."""
    head = _head(path)
    if RANKS.match(head):
        return None
    wrong = UserError(f"{path} is no SentencePiece model, or it is damaged.", help=AGAIN)
    if not head.startswith(PROTOBUF):
        return wrong
    if is_installed("sentencepiece"):
        from sentencepiece import SentencePieceProcessor

        try:
            SentencePieceProcessor(model_file=str(path))
        except (RuntimeError, OSError):
            return wrong
    return None


def _head(path: Path) -> bytes:
    with reading(path), path.open("rb") as file:
        return file.read(SIGNATURE_BYTES)


def is_installed(module: str) -> bool:
    """Whether a module can be imported; it is not."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def missing_packages(subject: str, modules: Iterable[str], field: str) -> UserError:
    """The error for packages that something needs and that are not installed."""
    names = [DISTRIBUTIONS.get(module, module) for module in modules]
    listed = " and ".join(f"`{name}`" for name in names)
    are = "packages" if len(names) > 1 else "package"
    return UserError(
        f"{subject} needs the {are} {listed}, not installed here.",
        help=f"python -m pip install {' '.join(names)}", field=field,
    )  # fmt: skip
