"""Build models and fill them from files: final dtype, target device, no second full copy.

While a model is built in another dtype than float32, the process-wide default dtype is changed for
some milliseconds, as both libraries do it; nothing may compute in other threads meanwhile.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from runtime.checkpoint.classes import STAND_IN, config_defaults, find_class
from runtime.checkpoint.component_source import ComponentSource, integer_weight
from runtime.checkpoint.file_faults import json_value
from runtime.checkpoint.load_faults import BUILD_ERRORS, load_errors, stand_in_fault
from runtime.checkpoint.required_files import SCHEDULER
from runtime.checkpoint.skeleton import build_skeleton, torch_default_dtype
from runtime.checkpoint.tensor_files import (
    DTYPE_NAMES,
    open_weights,
    shape,
    stored_dtype,
    take_tensor,
)
from runtime.checkpoint.vae_tiling import apply_vae_settings
from runtime.checkpoint.vocabulary import check_token_ids
from runtime.checkpoint.weight_files import is_integer_weight
from runtime.errors import UserError, did_you_mean

LARGE = 2**27  # bytes of weights; below, a tensor read whole before its cast does not matter


def load(
    source: ComponentSource,
    *,
    dtype: torch.dtype | None,
    device: torch.device,
    trust_remote_code: bool = False,
) -> Any:
    """Load a component: a model in eval mode, or a tokenizer, scheduler or processor.

    dtype  of floating-point weights; none: as stored
    """
    cls = find_class(
        source.name,
        source.library,
        source.class_name,
        source.config,
        trust_remote_code=trust_remote_code,
    )
    if not source.has_weights:
        with load_errors(source):
            return _weightless(cls, source)
    if hasattr(cls, STAND_IN):
        raise stand_in_fault(source, cls)
    if source.config.get("quantization_config"):
        raise UserError(
            f"{source.folder}: the weights of `{source.name}` are quantized, which is unsupported.",
            help=f"give unquantized weights as components.{source.name}.path",
            field=f"components.{source.name}.path",
        )
    final = dtype or stored_dtype(source.weights)
    if issubclass(cls, nn.Module) and hasattr(cls, "config_class"):
        model = _transformers(cls, source, final).to(device)
        check_token_ids(model, source)
    else:
        model = _diffusers(cls, source, final, device)
    if source.vae_settings:
        apply_vae_settings(model, source.vae_settings)
    return model.requires_grad_(False).eval()


def check_buildable(source: ComponentSource) -> None:
    """Build a component without its weights; a UserError where that cannot be done."""
    cls = find_class(source.name, source.library, source.class_name, source.config)
    with load_errors(source):
        if not source.has_weights:
            _weightless(cls, source)
        elif hasattr(cls, "config_class"):
            with torch.device("meta"):
                cls(cls.config_class.from_dict(dict(source.config)))
        else:
            build_skeleton(cls, source.config)


def nbytes(module: object) -> int:
    """Bytes of parameters and buffers of a module, or of a pipeline's, tied ones once; else 0."""
    parts = getattr(module, "components", None)
    modules = parts.values() if isinstance(parts, dict) else [module]
    networks = [m for m in modules if isinstance(m, nn.Module)]
    held = {id(t): t for m in networks for t in (*m.parameters(), *m.buffers())}
    return sum(t.numel() * t.element_size() for t in held.values())


class LeftOut(nn.Module):
    """Stands in for a part of a model that is not loaded."""

    def __init__(self, component: str, part: str) -> None:
        super().__init__()
        self.component, self.part = component, part

    def forward(self, *inputs: object, **options: object) -> object:
        """Turn the library's error into one that names the component."""
        raise UserError(
            f"{self.component}.config.load_{self.part} is false, and this graph needs the"
            f" {self.part} of its {self.component}",
            help="leave it out", field=f"{self.component}.config.load_{self.part}",
        )  # fmt: skip


def _weightless(cls: Any, source: ComponentSource) -> object:
    if source.config_name == SCHEDULER:
        if hasattr(cls, STAND_IN):
            raise stand_in_fault(source, cls)
        _check_changed(source, config_defaults(cls))
        return cls.from_config(dict(source.config))
    options = {"local_files_only": True, **source.changed}
    made = _loadable(cls, source).from_pretrained(source.folder, **options)
    if _differs_from_file(made, source.folder / "tokenizer.json"):
        from transformers import PreTrainedTokenizerFast

        made = PreTrainedTokenizerFast.from_pretrained(source.folder, **options)
    return made


def _differs_from_file(tokenizer: object, file: Path) -> bool:
    """Whether a tokenizer's class splits text in another way than tokenizer.json says.

    The class of some checkpoints sets a pre-tokenizer of its own (`Metaspace`: at spaces) over the
    one of the file (`ByteLevel`): github.com/huggingface/transformers/issues/45488.
    """
    split = getattr(getattr(tokenizer, "backend_tokenizer", None), "pre_tokenizer", None)
    if type(split).__name__ != "Metaspace" or not file.is_file():
        return False
    return "ByteLevel" in json.dumps(json_value(file).get("pre_tokenizer"))


def _loadable(cls: Any, source: ComponentSource) -> Any:
    """The class, or what loads the part that is asked for of a processor that cannot be whole.

    Without torchvision no processor that also takes videos can be built, though its tokenizer and
    its image processor, by PIL then, can; the component's name says which of the two is meant.
    """
    from transformers import AutoImageProcessor, AutoTokenizer, ProcessorMixin
    from transformers.utils import is_torchvision_available

    films = issubclass(cls, ProcessorMixin) and "video_processor" in cls.get_attributes()
    if (is_torchvision_available() or not films) and not hasattr(cls, STAND_IN):
        return cls
    return AutoTokenizer if source.name.startswith("tokenizer") else AutoImageProcessor


def _diffusers(
    cls: Any, source: ComponentSource, dtype: torch.dtype, device: torch.device
) -> nn.Module:
    _check_changed(source, config_defaults(cls))
    with torch_default_dtype(dtype), load_errors(source):
        model = build_skeleton(cls, source.config)
    for part in source.left_out:
        setattr(model, part, LeftOut(source.name, part))
    tensors = open_weights(source.weights, dtype)
    _check_floating(source, tensors)
    renamed = {key: key for key in tensors if key.split(".")[0] not in source.left_out}
    if len(source.weights) == 1:  # diffusers knows old names of single files only
        cls._fix_state_dict_keys_on_load(model, renamed)
    expected = model.state_dict()
    ignored = getattr(cls, "_keys_to_ignore_on_load_unexpected", None) or ()
    _check_keys(source, expected, renamed, ignored)
    in_float32 = set(getattr(cls, "_keep_in_fp32_modules", None) or ())
    for key, old in renamed.items():
        if key not in expected:
            continue
        final = torch.float32 if in_float32 & set(key.split(".")) else dtype
        _check_shape(source, key, shape(tensors[old]), expected[key].shape)
        _put(model, key, take_tensor(tensors.pop(old), final, device))
    for name, buffer in list(model.named_buffers()):
        _put(model, name, buffer.to(device))
    return model


def _transformers(cls: Any, source: ComponentSource, dtype: torch.dtype) -> nn.Module:
    """Let transformers build, rename, cast and tie; the files are read by us, tensor by tensor."""
    with load_errors(source):
        config = cls.config_class.from_dict(dict(source.config))
        blank = cls.config_class()
    other_names = {key: None for key in source.changed if hasattr(blank, key)}
    _check_changed(source, {**blank.to_dict(), **other_names})
    needs_cast = stored_dtype(source.weights) != dtype and source.nbytes() > LARGE
    cast = needs_cast and _all_cast(cls, config, dtype)
    tensors = open_weights(source.weights, dtype, cast=cast)
    _check_floating(source, tensors)
    with no_progress_bars(), torch_default_dtype(dtype), load_errors(source, BUILD_ERRORS):
        model, info = cls.from_pretrained(
            None,
            config=config,
            state_dict=tensors,
            dtype=dtype,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    for key, stored, wanted in sorted(info["mismatched_keys"]):
        _check_shape(source, key, stored, wanted)
    _report_keys(source, sorted(info["missing_keys"]), sorted(info["unexpected_keys"]))
    if (settings := source.generation) and model.can_generate():
        model.generation_config = type(model.generation_config).from_dict(dict(settings))
    built: nn.Module = model
    return built


def _all_cast(cls: Any, config: Any, dtype: torch.dtype) -> bool:
    """Whether transformers will cast every weight to `dtype`: then the files may be read so."""
    with torch_default_dtype(dtype), torch.device("meta"):
        model = cls(config)
    in_float32 = set(model._keep_in_fp32_modules_strict or ())
    if dtype == torch.float16:
        in_float32 |= set(model._keep_in_fp32_modules or ())
    floating = (t for t in model.state_dict().values() if t.is_floating_point())
    return not in_float32 and all(t.dtype == dtype for t in floating)


def _check_changed(source: ComponentSource, known: Mapping[str, object]) -> None:
    for key in source.changed:
        if key not in known:
            raise UserError(
                f"components.{source.name}.config.{key}: {source.class_name} has no such setting.",
                help=did_you_mean(key, known),
                field=f"components.{source.name}.config.{key}",
            )


def _check_floating(source: ComponentSource, tensors: Mapping[str, Any]) -> None:
    """Refuse weights in whole numbers, which also pickles may have."""
    for key, value in tensors.items():
        name = (
            str(DTYPE_NAMES.get(value.dtype, ""))
            if isinstance(value, Tensor)
            else value.get_dtype()
        )
        if is_integer_weight(key, name):
            raise integer_weight(source.name, source.weights[0], key, name)


def _check_keys(
    source: ComponentSource,
    expected: Mapping[str, object],
    found: Mapping[str, object],
    ignored: Iterable[str],
) -> None:
    missing = [key for key in expected if key not in found]
    extra = [key for key in found if key not in expected]
    extra = [key for key in extra if not any(re.search(p, key) for p in ignored)]
    _report_keys(source, missing, extra)


def _report_keys(source: ComponentSource, missing: list[str], extra: list[str]) -> None:
    for keys, what in ((missing, "lacks"), (extra, "has unknown")):
        if keys:
            listed = ", ".join(keys[:3]) + (", ..." if len(keys) > 3 else "")
            raise UserError(
                f"{_files(source)} {what} {len(keys)} weight{'s' * (len(keys) > 1)} for"
                f" {source.class_name} (`{source.name}`): {listed}",
                help="the weights belong to another class or config; check"
                f" components.{source.name}.path, or download them again",
                field=f"components.{source.name}.path",
            )


def _check_shape(
    source: ComponentSource, key: str, found: Iterable[int], expected: Iterable[int]
) -> None:
    if tuple(found) != tuple(expected):
        raise UserError(
            f"{_files(source)}: `{key}` has the shape {[*found]}, but {source.class_name}"
            f" (`{source.name}`) with its config expects {[*expected]}.",
            help="the weights belong to another config; give config.json and weights of one model",
            field=f"components.{source.name}.path",
        )


def _files(source: ComponentSource) -> str:
    first = source.weights[0]
    return (
        str(first) if len(source.weights) == 1 else f"{first.parent} ({len(source.weights)} files)"
    )


def _put(model: nn.Module, name: str, tensor: Tensor) -> None:
    """Replace one parameter or buffer."""
    place, _, leaf = name.rpartition(".")
    module = model.get_submodule(place)
    if leaf in module._parameters:
        module._parameters[leaf] = nn.Parameter(tensor, requires_grad=False)
    else:
        module._buffers[leaf] = tensor


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Keep the libraries' own bars off the terminal: loading is an event of the runtime."""
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    enabled = [x for x in (of_diffusers, of_transformers) if x.is_progress_bar_enabled()]
    for library in enabled:
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library in enabled:
            library.enable_progress_bar()
