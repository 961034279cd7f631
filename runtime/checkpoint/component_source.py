"""Where a component's class, config and weights come from, before anything is loaded. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from runtime.checkpoint import hub, identity
from runtime.checkpoint.file_faults import file_fault
from runtime.checkpoint.folder import Folder
from runtime.checkpoint.required_files import (
    CONFIGS,
    GENERATION,
    MODEL,
    TOKENIZER,
    check_files,
    expected_config,
)
from runtime.checkpoint.weight_files import (
    has_index,
    header,
    incomplete_shards,
    is_integer_weight,
    select_weight_files,
    weight_variant,
)
from runtime.errors import UserError
from runtime.settings.policies import Vae


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
    changed: Mapping[str, object] = field(default_factory=dict, repr=False)
    weights: tuple[Path, ...] = ()
    missing: tuple[str, ...] = ()
    lacking: UserError | None = field(default=None, compare=False, repr=False)
    vae_settings: Vae | None = None
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
    def variant(self) -> str:
        """`fp16` where the weights are a variant's files; empty for plain ones."""
        return weight_variant([*(path.name for path in self.weights), *self.missing])

    @property
    def is_indexed(self) -> bool:
        """Whether the libraries find the weights too: shards without an index only we read."""
        return has_index(self.files, [path.name for path in self.weights])

    @property
    def generation(self) -> Mapping[str, object]:
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
        settings = [self.generation] if self.has_weights and self.generation else []
        settings += [{"left_out": self.left_out}] if self.left_out else []
        settings += [{"tuned": repr(self.vae_settings)}] if self.vae_settings else []
        return identity.digest_of(
            self.library, self.class_name, dict(self.config), files, *settings
        )

    @cached_property
    def content_digest(self) -> str:
        """A digest of class, config and files, wherever they lie: it stands in provenance.

        It is taken once, as the weights are read once: files that are replaced later are not what
        a running process computes with.
        """
        if self.has_weights:
            here = [identity.of_content(path) for path in self.weights]
            remote = (self.files.remote(n).blob or n for n in self.missing)
            files: list[Any] = sorted([*here, *remote])
        else:
            names = [n for n in self.files.names() if self.files.on_disk(n)]
            files = [[n, identity.of_content(self.folder / n)] for n in names]
        config = {k: v for k, v in self.config.items() if not k.startswith("_")}  # _name_or_path
        return identity.digest_of(self.class_name, config, files, dict(self.generation))

    def nbytes(self, dtype: str | None = None) -> int:
        """Predicted bytes of the weights in `dtype` (as stored where none), from headers alone.

        Pickles and files still on the hub count with their size on disk. The few modules that a
        class keeps in float32 are not known before it is imported, and count as `dtype`. Where no
        weights are at hand, the model is built from its config without memory and counted.
        """
        if self.lacking:
            from runtime.checkpoint.skeleton import predicted_nbytes

            kind = (self.name, self.library, self.class_name)
            try:
                return predicted_nbytes(*kind, self.config, dtype)
            except UserError:
                raise
            except (
                Exception
            ) as problem:  # its config is broken too: what it lacks is reported first
                raise self.lacking from problem
        total = sum(self.files.remote(name).size for name in self.missing)
        for path in self.weights:
            if path.suffix == ".safetensors":
                loaded = (
                    t for k, t in header(path).items() if k.split(".")[0] not in self.left_out
                )
                total += sum(t.bytes_as(dtype) for t in loaded)
            else:
                total += path.stat().st_size
        return total


def find_component(
    name: str,
    files: Folder,
    declared: tuple[str, str] | None,
    *,
    changed: Mapping[str, object],
    weights: Path | None = None,
    own: Mapping[str, object] | None = None,
) -> ComponentSource:
    """The source of a component from its folder.

    declared  library and class of model_index.json
    weights   a file to take instead of the folder's weights
    own       where the folder is an override: the config of the model's own component
    """
    config_name = _config_name(name, files, declared)
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
        chosen = select_weight_files(files)
        here = tuple(files.path / n for n in chosen if files.on_disk(n))
        missing = tuple(n for n in chosen if not files.on_disk(n))
        unreadable = next(filter(None, map(file_fault, here)), None)
        if not chosen or unreadable or (missing and files.repo is None):
            lacking = unreadable or _no_weights(name, files, missing)
        elif not missing and not config.get("quantization_config"):
            lacking = _integer_weights(name, here)
        if lacking:
            here, missing = (), ()
    else:
        check_files(name, files, library, class_name)
    return ComponentSource(
        name, library, class_name, files, {**config, **changed}, config_name, changed, here,
        missing, lacking,
    )  # fmt: skip


def of_class(source: ComponentSource, class_name: str) -> ComponentSource:
    """The component as another class of its library, such as a scheduler on another's config."""
    config = {k: v for k, v in source.config.items() if k != "_class_name"}
    library = source.library if source.library in {"diffusers", "transformers"} else "diffusers"
    return replace(source, class_name=class_name, library=library, config=config)


def fetch_weights(source: ComponentSource) -> ComponentSource:
    """Download what the source still misses; the source with its weights on disk."""
    if source.lacking:
        raise source.lacking
    if not source.missing or source.files.repo is None:
        return source
    files = source.files
    assert files.repo is not None
    hub.fetch_files(files.repo, [files.repo_path(n) for n in source.missing])
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


def _config_name(name: str, files: Folder, declared: tuple[str, str] | None) -> str:
    """The file that holds a component's config; a UserError where it is missing."""
    present = [n for n in files.names() if files.has_entry(n)]
    first = expected_config(declared[1]) if declared else (MODEL,)
    others = CONFIGS if first == (MODEL,) else [n for n in CONFIGS if n != MODEL]
    found = next((n for n in (*first, *others) if n in present), "")
    if declared and first == (MODEL,) and found != MODEL and not _is_configured(present):
        holds = f"it holds {', '.join(present[:6])}" if present else "it is empty"
        raise UserError(
            f"{files.path} lacks {MODEL}, which says how `{name}` ({declared[1]}) is built;"
            f" {holds}.",
            help="download the model again" if files.repo is None else hub.REFETCH,
            field=f"components.{name}.path",
        )
    return found


def _is_configured(names: Iterable[str]) -> bool:
    """Whether a folder has a config of a name of its own, which only its class knows."""
    others = {*CONFIGS, GENERATION}
    return any(n.endswith("_config.json") and n not in others for n in names)


def _class(
    config_name: str,
    config: Mapping[str, Any],
    declared: tuple[str, str] | None,
    own: Mapping[str, object] | None,
) -> tuple[str, str]:
    """Library and class, from the component's own config first."""
    stated = config.get("_class_name")
    if isinstance(stated, str):
        return declared if declared and declared[1] == stated else ("diffusers", stated)
    if config_name == MODEL and (built := config.get("architectures")):
        # An encoder's config often names the whole model it was cut from; the role in this model
        # decides as long as the kind of network is the same.
        same = own is None or own.get("model_type") == config.get("model_type")
        if declared and declared[0] == "transformers" and same:
            return declared
        return "transformers", str(built[0])
    if config_name == TOKENIZER and own is not None and (stated := config.get("tokenizer_class")):
        return "transformers", str(stated)
    return declared or ("", "")


def _integer_weights(name: str, paths: Iterable[Path]) -> UserError | None:
    """Why weights cannot be computed with as they are: they are quantized."""
    with suppress(UserError):  # a damaged header is named where the weights are counted
        for path in paths:
            tensors = header(path).items() if path.suffix == ".safetensors" else ()
            found = next(((k, t.dtype) for k, t in tensors if is_integer_weight(k, t.dtype)), None)
            if found:
                return integer_weight(name, path, *found)
    return None


def integer_weight(name: str, path: Path, key: str, dtype: str) -> UserError:
    """The error for a weight that is stored in integers."""
    return UserError(
        f"{path}: `{key}` of `{name}` is stored as {dtype}: the weights are quantized, and a"
        " network computes with floating-point weights.",
        help=f"give float16, bfloat16 or float32 weights as `components.{name}.path`",
        field=f"components.{name}.path",
    )


def _no_weights(name: str, files: Folder, missing: tuple[str, ...]) -> UserError:
    """Why a model has no weights to load: a broken link, missing shards, or no file at all."""
    field = f"components.{name}.path"
    for file in missing:
        if problem := file_fault(files.path / file):
            return UserError(f"`{name}`: {problem.message}", help=problem.help, field=field)
    help = "download the model again" if files.repo is None else hub.REFETCH_WEIGHTS
    lacks = f"`{name}` has no weights: {files.path} lacks"
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        return UserError(f"{lacks} {', '.join(missing[:3])}{more}.", help=help, field=field)
    if absent := incomplete_shards(files):
        return UserError(
            f"{lacks} {', '.join(absent[:3])} of a set of shards, and their index"
            " (...index.json).", help=help, field=field,
        )  # fmt: skip
    if index := next((n for n in files.names() if ".index." in n), ""):
        message = f"{files.path / index} names no shards (`weight_map`)."
        return UserError(message, help=help, field=field)
    holds = ", ".join(files.names()[:6]) or "nothing"
    return UserError(
        f"`{name}` has no weights: {files.path} holds {holds}, no .safetensors and no .bin.",
        help=help, field=field,
    )  # fmt: skip
