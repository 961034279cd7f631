"""Where a component's class, config and weights come from, before anything is loaded. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from runtime.checkpoint import hub, identity
from runtime.checkpoint.folder import Folder
from runtime.checkpoint.weight_files import choose, header
from runtime.errors import UserError
from runtime.settings.policies import Vae

MODEL, SCHEDULER = "config.json", "scheduler_config.json"
TOKENIZER, PROCESSOR = "tokenizer_config.json", "preprocessor_config.json"
GENERATION = "generation_config.json"
CONFIGS = (MODEL, SCHEDULER, TOKENIZER, PROCESSOR, "processor_config.json")


@dataclass(frozen=True)
class ComponentSource:
    """A component as found: class, config, files; nothing of it is loaded.

    library      where the class is: `diffusers`, `transformers`, or a module of diffusers.pipelines
    config       its own config, with the values that the user replaced
    config_name  the file the config is in; empty where the folder has none
    changed      the values that the user replaced
    weights      files on disk, in order; empty where the component has none
    missing      weight files that are still on the hub only
    lacking      why there are no weights to load, though it is a model: it can only be planned
    left_out     modules that are not loaded
    """

    name: str
    library: str
    class_name: str
    files: Folder = field(repr=False)
    config: Mapping[str, Any] = field(repr=False)
    config_name: str = ""
    changed: Mapping[str, Any] = field(default_factory=dict, repr=False)
    weights: tuple[Path, ...] = ()
    missing: tuple[str, ...] = ()
    lacking: UserError | None = field(default=None, compare=False, repr=False)
    tuned: Vae | None = None
    left_out: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """The component's folder on disk."""
        return self.files.path

    @property
    def has_weights(self) -> bool:
        """Whether the component is a model: a network with weights of its own."""
        return bool(self.weights or self.missing or self.lacking)

    @property
    def generation(self) -> Mapping[str, Any]:
        """How a language model samples; empty where its folder does not say."""
        return self.files.json(GENERATION)

    @cached_property
    def identity(self) -> str:
        """Equal for equal class, config and weights, whatever the path in the hub's cache."""
        if not self.has_weights:
            names = [n for n in self.files.names() if self.files.on_disk(n)]
            files = [[n, identity.of_file(self.folder / n)] for n in names]
        else:
            # Blob ids stand for missing files, so that a download changes nothing.
            stored = identity.of_files(self.weights)
            files = [sorted([*stored, *(self.files.remote(n).blob or n for n in self.missing)])]
        said = [self.generation] if self.has_weights and self.generation else []
        said += [{"left_out": self.left_out}] if self.left_out else []
        said += [{"tuned": repr(self.tuned)}] if self.tuned else []
        return identity.digest(self.library, self.class_name, dict(self.config), files, *said)

    def nbytes(self, dtype: str | None = None) -> int:
        """Predicted bytes of the weights in `dtype` (as stored where none), from headers alone.

        Pickles and files still on the hub count with their size on disk. The few modules that a
        class keeps in float32 are not known before it is imported, and count as `dtype`. Where no
        weights are at hand, the model is built from its config without memory and counted.
        """
        if self.lacking:
            from runtime.checkpoint.skeleton import predicted_nbytes

            return predicted_nbytes(self.name, self.library, self.class_name, self.config, dtype)
        total = sum(self.files.remote(name).size for name in self.missing)
        for path in self.weights:
            if path.suffix == ".safetensors":
                kept = (t for k, t in header(path).items() if k.split(".")[0] not in self.left_out)
                total += sum(t.bytes_as(dtype) for t in kept)
            else:
                total += path.stat().st_size
        return total


def resolve(
    name: str,
    files: Folder,
    declared: tuple[str, str] | None,
    *,
    changed: Mapping[str, Any],
    weights: Path | None = None,
    own: Mapping[str, Any] | None = None,
) -> ComponentSource:
    """The source of a component from its folder.

    declared  library and class of model_index.json
    weights   a file to take instead of the folder's weights
    own       where the folder is an override: the config of the model's own component
    """
    config_name = _config_name(files, declared)
    config = files.json(config_name) if config_name else {}
    library, class_name = _class(config_name, config, declared, own)
    if not class_name:
        raise UserError(
            f"{files.path} does not say of which class `{name}` is:"
            f" {config_name or 'its config'} has neither `_class_name` nor `architectures`.",
            help="give a component in diffusers format",
            field=f"components.{name}.path",
        )
    here: tuple[Path, ...] = ()
    missing: tuple[str, ...] = ()
    lacking: UserError | None = None
    if weights is not None:
        here = (weights,)
    elif config_name == MODEL:
        chosen = choose(files)
        here = tuple(files.path / n for n in chosen if files.on_disk(n))
        missing = tuple(n for n in chosen if not files.on_disk(n))
        if not chosen or (missing and files.repo is None):
            lacking, here, missing = _no_weights(name, files, missing), (), ()
    return ComponentSource(
        name, library, class_name, files, {**config, **changed}, config_name, changed, here,
        missing, lacking,
    )  # fmt: skip


def fetch(source: ComponentSource) -> ComponentSource:
    """Download what the source still misses; the source with its weights on disk."""
    if source.lacking:
        raise source.lacking
    if not source.missing or source.files.repo is None:
        return source
    files = source.files
    assert files.repo is not None
    hub.fetch(files.repo, [files.repo_path(n) for n in source.missing])
    paths = sorted([*source.weights, *(files.path / n for n in source.missing)])
    for path in paths:
        if not path.is_file():
            raise UserError(
                f"`{source.name}` lacks {path.name}, which is not in the cache.",
                help="check the connection, and unset HF_HUB_OFFLINE, to download it"
                f" from `{files.repo.id}`",
                field=f"components.{source.name}.path",
            )
    return replace(source, weights=tuple(paths), missing=())


def _config_name(files: Folder, declared: tuple[str, str] | None) -> str:
    names = set(files.names())
    role = declared[1] if declared else ""
    first = TOKENIZER if "Tokenizer" in role else PROCESSOR if "Processor" in role else MODEL
    return next((n for n in (first, *CONFIGS) if n in names and files.on_disk(n)), "")


def _class(
    config_name: str,
    config: Mapping[str, Any],
    declared: tuple[str, str] | None,
    own: Mapping[str, Any] | None,
) -> tuple[str, str]:
    """Library and class, from the component's own config first."""
    said = config.get("_class_name")
    if isinstance(said, str):
        return declared if declared and declared[1] == said else ("diffusers", said)
    if config_name == MODEL and (built := config.get("architectures")):
        # An encoder's config often names the whole model it was cut from; the role in this model
        # decides as long as the kind of network is the same.
        same = own is None or own.get("model_type") == config.get("model_type")
        if declared and declared[0] == "transformers" and same:
            return declared
        return "transformers", str(built[0])
    if config_name == TOKENIZER and own is not None and (said := config.get("tokenizer_class")):
        return "transformers", str(said)
    return declared or ("", "")


def _no_weights(name: str, files: Folder, missing: tuple[str, ...]) -> UserError:
    lacking = ", ".join(missing[:3]) or "no .safetensors and no .bin"
    held = ", ".join(files.names()[:6])
    return UserError(
        f"`{name}` has no weights: {files.path} "
        + (f"lacks {lacking}." if missing else f"holds {held}, {lacking}."),
        help="download the model again"
        if files.repo is None
        else "its weights are not in the cache: unset HF_HUB_OFFLINE to download them",
        field=f"components.{name}.path",
    )
