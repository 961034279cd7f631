"""Load a vanilla pipeline with all of its parts, or a single component."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from diffusers.utils import is_accelerate_available
from huggingface_hub.errors import StrictDataclassError

from runtime.checkpoint.classes import find_class as find_part_class
from runtime.checkpoint.component_source import ComponentSource, fetch_weights
from runtime.checkpoint.load import check_buildable, load, no_progress_bars
from runtime.checkpoint.load_faults import BUILD_ERRORS, damaged_file, packages_of, reason_of
from runtime.checkpoint.required_files import missing_packages
from runtime.checkpoint.skeleton import building
from runtime.checkpoint.vae_tiling import apply_vae_settings, has_vae_settings
from runtime.checkpoint.vanilla_pipeline import PipelineSource, fetch_code, find_pipeline_class
from runtime.checkpoint.vocabulary import check_token_ids
from runtime.device import to_dtype
from runtime.errors import UserError


def load_pipeline(
    source: PipelineSource, *, dtype: torch.dtype | None, device: torch.device
) -> object:
    """The pipeline with all parts on the device, by its own loader."""
    cls = find_pipeline_class(source)
    fetch_code(source)
    parts = {name: fetch_weights(part) for name, part in source.parts.items()}
    each = {name: to_dtype(dtype_name) for name, dtype_name in source.dtypes.items()}
    ours = source.changed | {name for name, part in parts.items() if is_ours_to_load(part)}
    passed = {
        name: load(parts[name], dtype=each.get(name, dtype), device=device) for name in sorted(ours)
    }
    variants = {part.variant for n, part in parts.items() if n not in passed and part.variant}
    with no_progress_bars(), building.exclusive():
        try:
            made = cls.from_pretrained(
                source.checkpoint.root,
                dtype={**each, "default": dtype} if each else dtype,
                variant=min(variants, default=None),
                trust_remote_code=source.trusted,
                local_files_only=True,
                low_cpu_mem_usage=is_accelerate_available(),
                **passed,
            )
        except (*BUILD_ERRORS, StrictDataclassError) as problem:
            raise _pipeline_fault(source, parts, problem) from problem
    for name, part in parts.items():
        model = getattr(made, name, None)
        if part.has_weights and name not in passed and isinstance(model, torch.nn.Module):
            check_token_ids(model, part)
    made.to(device)
    made.set_progress_bar_config(disable=True)  # its steps are events of the runtime
    for name in source.vaes if has_vae_settings(source.vae) else ():
        apply_vae_settings(getattr(made, name), source.vae)
    return made


def is_ours_to_load(part: ComponentSource) -> bool:
    """Whether diffusers' loader refuses a part that ours reads: without accelerate, or an index."""
    return needs_accelerate(part) or bool(part.weights and not part.is_indexed)


def needs_accelerate(part: ComponentSource) -> bool:
    """Whether diffusers' loader refuses a part for want of accelerate; ours gives equal weights.

    It does so for every class that keeps some of its weights in float32.
    """
    if is_accelerate_available() or part.library != "diffusers" or not part.has_weights:
        return False
    cls = find_part_class(part.name, part.library, part.class_name, part.config)
    return bool(getattr(cls, "_keep_in_fp32_modules", None))


def _pipeline_fault(
    source: PipelineSource, parts: Mapping[str, ComponentSource], problem: Exception
) -> UserError:
    """The error for a pipeline that diffusers refuses: the part at fault, where one is found."""
    try:  # its parts are built one by one: the first that cannot be is at fault
        for part in parts.values():
            check_buildable(part)
    except UserError as fault:
        return fault
    for part in parts.values():
        if damaged := damaged_file(part.folder):
            return UserError(
                f"`{part.name}`: {damaged.message}",
                help=damaged.help, field=f"components.{part.name}.path",
            )  # fmt: skip
    name = source.checkpoint.name
    if packages := packages_of(problem):
        return missing_packages(f"{source.class_name} of {name}", packages, "model.path")
    return UserError(
        f"diffusers cannot load `{name}` as {source.class_name}{reason_of(problem)}",
        help="check the files, or choose another class: `model.pipeline_class_name=CLASS`",
        field="model.path",
    )


def load_source(
    source: ComponentSource | PipelineSource,
    *,
    dtype: torch.dtype | None,
    device: torch.device,
    trust_remote_code: bool = False,
) -> object:
    """Load a component or a whole pipeline, downloading what is missing.

    dtype  of floating-point weights; none: as stored
    """
    if isinstance(source, PipelineSource):
        return load_pipeline(source, dtype=dtype, device=device)
    return load(
        fetch_weights(source), dtype=dtype, device=device, trust_remote_code=trust_remote_code
    )
