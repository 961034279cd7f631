"""Load a vanilla pipeline with all of its parts, or a single component."""

from __future__ import annotations

import re
from typing import Any

import torch

from runtime.checkpoint.component_source import ComponentSource, fetch
from runtime.checkpoint.load import load, no_progress_bars
from runtime.checkpoint.skeleton import building
from runtime.checkpoint.vae_tiling import is_tuned, tune
from runtime.checkpoint.vanilla_pipeline import PipelineSource, fetch_code, find_class
from runtime.device import to_dtype
from runtime.errors import UserError


def load_pipeline(
    source: PipelineSource, *, dtype: torch.dtype | None, device: torch.device
) -> Any:
    """The pipeline with all parts on the device, by its own loader."""
    cls = find_class(source)
    fetch_code(source)
    parts = {name: fetch(part) for name, part in source.parts.items()}
    each = {name: to_dtype(said) for name, said in source.dtypes.items()}
    passed = {
        name: load(parts[name], dtype=each.get(name, dtype), device=device)
        for name in sorted(source.changed)
    }
    variants = {v for n, part in parts.items() if n not in passed and (v := _variant(part))}
    with no_progress_bars(), building.exclusive():
        try:
            made = cls.from_pretrained(
                source.checkpoint.root,
                dtype={**each, "default": dtype} if each else dtype,
                variant=min(variants, default=None),
                trust_remote_code=source.trusted,
                local_files_only=True,
                **passed,
            )
        except (OSError, ValueError, TypeError, ImportError, AttributeError) as problem:
            raise UserError(
                f"diffusers cannot load `{source.checkpoint.name}` as {source.class_name}:"
                f" {problem}",
                help="check the files, or choose another class: `model.pipeline_class_name=CLASS`",
                field="model.path",
            ) from problem
    made.to(device)
    made.set_progress_bar_config(disable=True)  # its steps are events of the runtime
    if is_tuned(source.vae) and getattr(made, "vae", None) is not None:
        tune(made.vae, source.vae)
    return made


def _variant(part: ComponentSource) -> str:
    """`fp16` of `model.fp16.safetensors` and `model.fp16-00001-of-00002.safetensors`."""
    name = min((path.name for path in part.weights), default="")
    found = re.fullmatch(r"[^.]+\.([^.]+?)(-\d+-of-\d+)?\.(safetensors|bin)", name)
    return found[1] if found else ""


def load_source(
    source: ComponentSource | PipelineSource,
    *,
    dtype: torch.dtype | None,
    device: torch.device,
    trust_remote_code: bool = False,
) -> Any:
    """Load a component or a whole pipeline, downloading what is missing.

    dtype  of floating-point weights; none: as stored
    """
    if isinstance(source, PipelineSource):
        return load_pipeline(source, dtype=dtype, device=device)
    return load(fetch(source), dtype=dtype, device=device, trust_remote_code=trust_remote_code)
