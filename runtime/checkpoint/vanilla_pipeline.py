"""A whole model as one component, `pipeline`: the vanilla pipeline with all of its parts.

Torch and diffusers are imported only where the class is looked at or loaded.
"""

from __future__ import annotations

import importlib.util
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, ClassVar

from runtime.checkpoint import hub, identity
from runtime.checkpoint.checkpoint import Checkpoint
from runtime.checkpoint.classes import LIBRARIES, STAND_IN
from runtime.checkpoint.component_source import ComponentSource
from runtime.checkpoint.handle import Config, Handle
from runtime.checkpoint.optional_imports import missing_imports
from runtime.checkpoint.required_files import is_installed, missing_packages
from runtime.errors import UserError, did_you_mean
from runtime.graph.model import ComponentSpec
from runtime.graph.parse import WHOLE_PIPELINE
from runtime.settings.policies import Model, Vae

RATE_ARGUMENTS = ("fps", "frame_rate")  # what pipelines call the frame rate of a clip
NOT_TO_LOAD = ("Auto", "Flax", "Onnx", "Modular")  # choosers, and pipelines of other frameworks
CODE = "pipeline.py"  # where the class is, if model_index.json gives only its name


@dataclass(frozen=True)
class PipelineSource:
    """The pipeline of a model as found: class, parts; nothing of it is loaded.

    code     the model's own file with the class, relative to it; empty where diffusers has it
    parts    every component of model_index.json, with the user's overrides
    changed  parts that the user replaced or reconfigured: ours to load, not the pipeline's
    dtypes   part to its dtype, where it differs from the pipeline's
    vaes     parts that are VAEs
    """

    class_name: str
    code: str
    checkpoint: Checkpoint
    parts: Mapping[str, ComponentSource] = field(repr=False)
    changed: frozenset[str]
    dtypes: Mapping[str, str]
    vae: Vae
    trusted: bool
    vaes: tuple[str, ...] = ()
    name: ClassVar[str] = WHOLE_PIPELINE
    library: ClassVar[str] = "diffusers"
    has_weights: ClassVar[bool] = True
    missing: ClassVar[tuple[str, ...]] = ()  # its parts are fetched one by one

    @property
    def lacking(self) -> UserError | None:
        """Why there are no weights to load; then it can only be planned."""
        return next((s.lacking for s in self.parts.values() if s.lacking), None)

    @property
    def config(self) -> Mapping[str, Any]:
        """What model_index.json says."""
        return self.checkpoint.index

    @cached_property
    def identity(self) -> str:
        """Equal for equal class, parts, dtypes and settings of the VAE."""
        parts = {n: [s.identity, self.dtypes.get(n)] for n, s in self.parts.items()}
        code = [
            identity.of_file(self.checkpoint.root / f)
            for f in remote_code(self.checkpoint, self.class_name)
            if self.checkpoint.files.on_disk(f)
        ]
        vae = repr(self.vae)
        return identity.digest_of(self.class_name, dict(self.config), parts, code, vae)

    def nbytes(self, dtype: str | None = None) -> int:
        """Predicted bytes of the weights of all parts."""
        weighty = {n: s for n, s in self.parts.items() if s.has_weights}
        return sum(s.nbytes(self.dtypes.get(n) or dtype or None) for n, s in weighty.items())


@dataclass(frozen=True)
class PipelineHandle(Handle):
    """What a node sees of a pipeline before its weights are read: also what a call of it takes."""

    source: PipelineSource = field(compare=False, repr=False)

    @property
    def call(self) -> inspect.Signature:
        """The signature of the pipeline's `__call__`; imports its class, loads nothing."""
        return inspect.signature(find_pipeline_class(self.source).__call__)


def handle_of(source: ComponentSource | PipelineSource, dtype: str | None) -> Handle:
    """The handle of a component, or of the whole pipeline."""
    if isinstance(source, ComponentSource):
        return Handle.of(source, dtype)
    name, config = source.class_name, Config(source)
    return PipelineHandle(WHOLE_PIPELINE, source.identity, dtype, name, config, source)


def find_pipeline(
    checkpoint: Checkpoint,
    declared: Mapping[str, ComponentSpec],
    model: Model,
    vae: Vae,
    dtype: Callable[[str], str],
    vaes: Iterable[str] = (),
) -> PipelineSource:
    """The pipeline of a model with the user's overrides.

    declared  the graph's components, with what the user changed
    dtype     of a part; empty: as the others
    vaes      parts that are VAEs
    """
    class_name = model.pipeline_class_name or checkpoint.class_name
    if (own := declared.get(WHOLE_PIPELINE)) and (own.path or own.revision or own.config):
        raise UserError(
            f"components.{WHOLE_PIPELINE} is the whole model: it has a dtype and nothing else",
            help="`model.path` names the model; `components.vae.path` replaces a part",
            field=f"components.{WHOLE_PIPELINE}",
        )  # fmt: skip
    specs = {key: declared.get(key, ComponentSpec(key)) for key in checkpoint.keys}
    parts = {key: checkpoint.component(spec) for key, spec in specs.items()}
    changed = {key for key, s in specs.items() if s.path or s.revision or s.config}
    dtypes = {key: name for key in specs if (name := dtype(key))}
    found = tuple(name for name in vaes if name in parts)
    if (vae.tiling or vae.slicing) and not found:
        what = "tiling" if vae.tiling else "slicing"
        raise _no_tiles(class_name, what, f"{checkpoint.name} has no VAE")
    check_trust(checkpoint, class_name, trusted=model.trust_remote_code)
    code = "" if class_name in pipeline_names() else _own_class(checkpoint, class_name)
    return PipelineSource(
        class_name, code, checkpoint, parts, frozenset(changed), dtypes, vae,
        model.trust_remote_code, found,
    )  # fmt: skip


@cache
def pipeline_names() -> frozenset[str]:
    """Names of the pipelines that the installed diffusers has, as its first file lists them."""
    found = importlib.util.find_spec("diffusers")
    text = Path(found.origin).read_text("utf-8") if found and found.origin else ""
    names = re.findall(r'"([A-Z]\w*Pipeline\w*)"', text)
    return frozenset(n for n in names if not n.startswith(NOT_TO_LOAD))


def remote_code(checkpoint: Checkpoint, class_name: str) -> tuple[str, ...]:
    """Python files that a model brings and its pipeline runs, relative to the model."""
    files = checkpoint.files
    found = [_own_class(checkpoint, class_name)]
    for key in checkpoint.keys:
        library = str(checkpoint.index[key][0])
        if library not in LIBRARIES and f"{library}.py" in files.child(key).names():
            found.append(f"{key}/{library}.py")
    return tuple(filter(None, found))


def _own_class(checkpoint: Checkpoint, class_name: str) -> str:
    """The file of a model that holds its pipeline's class; empty where it brings none."""
    stated = checkpoint.index.get("_class_name")
    names = checkpoint.files.names()
    if isinstance(stated, list) and len(stated) == 2 and stated[1] == class_name:
        return f"{stated[0]}.py"
    return CODE if class_name not in pipeline_names() and CODE in names else ""


def has_pipeline(checkpoint: Checkpoint, class_name: str) -> bool:
    """Whether there is such a pipeline: in diffusers, or in the model's own code."""
    return class_name in pipeline_names() or bool(_own_class(checkpoint, class_name))


def check_trust(checkpoint: Checkpoint, class_name: str, *, trusted: bool) -> None:
    """Refuse a model that brings code of its own, unless it is trusted."""
    files = remote_code(checkpoint, class_name)
    if files and not trusted:
        raise UserError(
            f"`{checkpoint.name}` brings Python of its own ({', '.join(files)}) for"
            f" {class_name}, which runs only with `model.trust_remote_code`",
            help="read it; if you trust it, add `model.trust_remote_code=true`",
            field="model.trust_remote_code",
        )  # fmt: skip


def unknown_class(class_name: str, name: str, reason: str = "") -> UserError:
    """The error for a class that neither diffusers nor the model has. reason: why not a graph."""
    absent = f"diffusers has no pipeline `{class_name}`"
    return UserError(
        f"{reason}; {absent} either" if reason else f"{absent} (from `{name}`)",
        help=did_you_mean(class_name, pipeline_names()) or "upgrade diffusers", field="model.path",
    )  # fmt: skip


def find_pipeline_class(source: PipelineSource) -> Any:
    """The class of a pipeline: diffusers', or from the model's own file where it is trusted."""
    import diffusers

    checkpoint, name = source.checkpoint, source.class_name
    if source.code:
        from diffusers.utils.dynamic_modules_utils import get_class_from_dynamic_module

        check_trust(checkpoint, name, trusted=source.trusted)
        fetch_code(source)
        return get_class_from_dynamic_module(
            checkpoint.root, module_file=source.code, class_name=name, trust_remote_code=True
        )
    with _fewer_warnings():
        found = getattr(diffusers, name, None) if name in pipeline_names() else None
    if found is None:
        raise unknown_class(name, checkpoint.name)
    if not issubclass(found, diffusers.DiffusionPipeline):  # it stands in for the class
        backends = [str(package) for package in getattr(found, STAND_IN, ())]
        absent = [package for package in backends if not is_installed(package)]
        raise missing_packages(name, absent or backends, "model.path")
    if absent := missing_imports(found):
        raise missing_packages(name, absent, "model.path")
    return found


def fetch_code(source: PipelineSource) -> None:
    """Download the Python files that a trusted model on the hub brings."""
    repo, files = source.checkpoint.files.repo, source.checkpoint.files
    wanted = remote_code(source.checkpoint, source.class_name) if source.trusted else ()
    missing = [f for f in wanted if not files.on_disk(f)]
    if repo and missing:
        hub.fetch_files(repo, missing)


@contextmanager
def _fewer_warnings() -> Iterator[None]:
    """Keep back what transformers says of packages that a pipeline's module imports in vain."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)


def _no_tiles(class_name: str, what: str, reason: str) -> UserError:
    return UserError(
        f"`vae.{what}`: {class_name} has no {what} of its VAE: {reason}",
        help="leave it out", field=f"vae.{what}",
    )  # fmt: skip
