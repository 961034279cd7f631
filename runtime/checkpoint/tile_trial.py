"""Try the tiles of a VAE before its weights are read: on tensors that have shapes and no values.

Sizes, strides and overlaps that do not fit each other raise in the middle of decoding, after all
steps, or make a picture of another size. Decoding on the meta device finds both in a moment, for
every class of VAE.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from runtime.checkpoint.classes import find_class
from runtime.checkpoint.component_source import ComponentSource
from runtime.checkpoint.vae_tiling import apply_vae_settings, tile_settings
from runtime.errors import UserError
from runtime.settings.policies import Vae

TRIAL_SIZE = 512  # px, where a request does not state a size
FEW = 8  # latent pixels along an axis whose tiles are not tried


def check_tiles(source: ComponentSource, vae: Vae, request: Mapping[str, object]) -> None:
    """Refuse tiles with which this VAE cannot decode a request, or makes another size.

    vae      the user's settings; without sizes of tiles nothing is tried
    request  `height`, `width` and `num_frames` of it are used, where it has them
    """
    if not tile_settings(vae):
        return
    cls = find_class(source.name, source.library, source.class_name, source.config)
    with torch.device("meta"):
        model = cls.from_config(dict(source.config)).eval()
    apply_vae_settings(model, vae)
    form = Form.of(model)
    if form is None:  # this class decodes from more than latents: it cannot be tried
        return
    _check_numbers(model, vae, form)
    for latents in form.latents(vae, request):
        try:
            shape, problem = _decoded(model, latents), ""
        except Exception as raised:  # whatever a division by zero or an empty tile leads to
            shape, problem = (), f"decoding fails: {type(raised).__name__}: {raised}"
        wanted = _whole(model, latents)
        if shape != wanted:
            raise _no_fit(
                vae, problem or f"the result is {_size(shape)} instead of {_size(wanted)}"
            )


@dataclass(frozen=True)
class Form:
    """What a VAE decodes.

    leading  axes before rows and columns: batch, channels and, of a clip, latent frames
    scale    px per latent pixel
    frames   frames per latent frame after the first
    """

    leading: tuple[int, ...]
    scale: int
    frames: int

    @classmethod
    def of(cls, model: Any) -> Form | None:
        """The form of a model; None where it decodes no bare latents."""
        channels = int(model.config.get("latent_channels") or model.config.get("z_dim") or 4)
        for leading in ((1, channels, 1), (1, channels)):
            try:
                few = _whole(model, torch.empty(*leading, 2, 2, device="meta"))
                if len(leading) == 2:
                    return cls(leading, few[-1] // 2, 1)
                more = _whole(model, torch.empty(1, channels, 2, 2, 2, device="meta"))
                return cls(leading, few[-1] // 2, max(1, more[2] - few[2]))
            except Exception:  # of another rank, or with more arguments
                continue
        return None

    def latents(self, vae: Vae, request: Mapping[str, Any]) -> Iterator[Tensor]:
        """Latents of a request's size along one axis each, for axes are tiled independently."""
        rows, columns = (
            max(1, (request.get(n) or TRIAL_SIZE) // self.scale) for n in ("height", "width")
        )
        for size in ((rows, min(columns, FEW)), (min(rows, FEW), columns)):
            yield torch.empty(*self.leading, *size, device="meta")
        if any("num_frames" in name for name in tile_settings(vae)) and len(self.leading) == 3:
            count = ((request.get("num_frames") or 1) - 1) // self.frames + 1
            size = min(rows, FEW), min(columns, FEW)
            yield torch.empty(*self.leading[:2], count, *size, device="meta")


def _check_numbers(model: object, vae: Vae, form: Form) -> None:
    """Refuse sizes and strides that are no multiple of the scale, and overlaps beyond their range.

    With those a VAE that crops the result makes a picture of the right size that is distorted.
    """
    for name, value in tile_settings(vae).items():
        path, unit = f"vae.config.{name}", form.frames if "num_frames" in name else form.scale
        if "overlap" in name:
            if not 0 <= value < 1:
                raise UserError(
                    f"`{path}` expects a number from 0 to below 1, got {value}",
                    help="0.25 is usual", field=path,
                )  # fmt: skip
        elif value <= 0 or value % unit:
            low = max(unit, value - value % unit)
            raise UserError(
                f"`{path}` expects a multiple of {unit} for this VAE, got {value}",
                help=f"the nearest that fit are {low} and {low + unit}", field=path,
            )  # fmt: skip
        size = getattr(model, name.replace("_stride_", "_min_"), None)
        if "_stride_" in name and size is not None and value > size:
            raise UserError(
                f"`{path}` is {value}, and a tile has only {size}: parts would be left out",
                help="a stride is at most the size of a tile", field=path,
            )  # fmt: skip


def _whole(model: Any, latents: Tensor) -> tuple[int, ...]:
    """The shape of what a VAE decodes without tiles."""
    tiling, model.use_tiling = getattr(model, "use_tiling", False), False
    try:
        return _decoded(model, latents)
    finally:
        model.use_tiling = tiling


def _decoded(model: Any, latents: Tensor) -> tuple[int, ...]:
    with torch.inference_mode():
        return tuple(model.decode(latents, return_dict=False)[0].shape)


def _size(shape: tuple[int, ...]) -> str:
    """A shape in words: height and width in px, and frames where there are several."""
    frames = f"{shape[2]} frames of " if len(shape) == 5 and shape[2] > 1 else ""
    return f"{frames}{shape[-2]}x{shape[-1]} px"


def _no_fit(vae: Vae, problem: str) -> UserError:
    settings = [f"`vae.config.{name}={value}`" for name, value in tile_settings(vae).items()]
    return UserError(
        f"{', '.join(settings)}: with these tiles {problem}",
        help="leave them out for the model's own, or take larger tiles that overlap",
        field=f"vae.config.{next(iter(tile_settings(vae)))}",
    )
