"""Networks on shapes: built from their configs as the loader builds them, without weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from runtime.checkpoint.classes import find_class
from runtime.checkpoint.component_source import ComponentSource
from runtime.checkpoint.load import LeftOut
from runtime.checkpoint.skeleton import build_skeleton, torch_default_dtype
from runtime.checkpoint.vae_tiling import apply_vae_settings
from runtime.device import CPU
from runtime.rehearse.ledger import Ledger, element_bytes
from runtime.rehearse.shapes import SHAPES, SMALL, Shape


def network_on_shapes(source: ComponentSource, dtype: torch.dtype, ledger: Ledger) -> nn.Module:
    """A network of diffusers or transformers on shapes, in its final dtype."""
    cls = find_class(source.name, source.library, source.class_name, source.config)
    if hasattr(cls, "config_class"):
        with torch_default_dtype(dtype), torch.device("meta"):
            model = cls(cls.config_class.from_dict(dict(source.config)))
        in_float32 = set(model._keep_in_fp32_modules_strict or ())
        if dtype == torch.float16:
            in_float32 |= set(model._keep_in_fp32_modules or ())
        model.tie_weights()
    else:
        with torch_default_dtype(dtype):
            model = build_skeleton(cls, source.config)
        in_float32 = set(getattr(cls, "_keep_in_fp32_modules", None) or ())
        for part in source.left_out:
            setattr(model, part, LeftOut(source.name, part))
    _lower(model, dtype, in_float32, ledger)
    if source.vae_settings:
        apply_vae_settings(model, source.vae_settings)
    made: nn.Module = model.requires_grad_(False).eval()
    return made


def weight_bytes(model: nn.Module) -> int:
    """Bytes of parameters and buffers, tied ones once."""
    held = {id(t): t for t in (*model.parameters(), *model.buffers())}
    return sum(map(element_bytes, held.values()))


def _lower(model: nn.Module, dtype: torch.dtype, in_float32: set[str], ledger: Ledger) -> None:
    """Replace parameters and buffers by shapes; tied ones stay tied."""
    made: dict[int, Any] = {}
    kept = []  # an id is of use while its tensor lives
    for path, module in model.named_modules():
        exact = bool(in_float32 & set(path.split(".")))
        for name, parameter in module._parameters.items():
            if parameter is None:
                continue
            kept.append(parameter)
            if id(parameter) not in made:
                final = torch.float32 if exact or name in in_float32 else dtype
                if not parameter.is_floating_point():
                    final = parameter.dtype
                bare = torch.empty(parameter.shape, dtype=final, device=SHAPES)
                shape = Shape(bare, SHAPES, ledger, weight=True)
                made[id(parameter)] = nn.Parameter(shape, requires_grad=False)
            module._parameters[name] = made[id(parameter)]
        for name, buffer in module._buffers.items():
            if buffer is None:
                continue
            kept.append(buffer)
            if id(buffer) not in made:
                small = buffer.device == CPU and buffer.numel() <= SMALL
                bare = buffer.detach() if small else buffer.detach().to(SHAPES)
                made[id(buffer)] = Shape(bare, SHAPES, ledger, weight=True)
            module._buffers[name] = made[id(buffer)]
