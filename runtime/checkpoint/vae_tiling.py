"""How a loaded VAE saves memory: tiles and slices."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from runtime.errors import UserError
from runtime.settings.policies import Vae


def tile_settings(vae: Vae) -> dict[str, Any]:
    """The settings of tiles that the user made, by their name in the model."""
    settings = {k: v for k, v in dataclasses.asdict(vae).items() if k.startswith("tile_")}
    return {k: v for k, v in settings.items() if v is not None}


def has_vae_settings(vae: Vae) -> bool:
    """Whether the user says anything on tiles or slices."""
    return bool(tile_settings(vae)) or vae.tiling is not None or vae.slicing is not None


def apply_vae_settings(model: object, vae: Vae) -> None:
    """Turn tiling and slicing on or off, and size the tiles, where the user says so.

    Raises UserError where this class of VAE has none, or no such setting.
    """
    sized = _sized(model, vae)
    for what, asked in (("tiling", vae.tiling), ("slicing", vae.slicing)):
        if asked is None:
            continue
        try:
            switch = getattr(model, f"{'enable' if asked else 'disable'}_{what}")
            takes = inspect.signature(switch).parameters if what == "tiling" else ()
            switch(**{k: v for k, v in sized.items() if k in takes})
        except (AttributeError, NotImplementedError):
            if asked:
                raise UserError(
                    f"`vae.{what}`: {type(model).__name__} has no {what}",
                    help="leave it out", field=f"vae.{what}",
                ) from None  # fmt: skip
    for key, value in sized.items():
        setattr(model, key, value)


def _sized(model: object, vae: Vae) -> dict[str, object]:
    """Settings of tiles with those that follow: strides and latent sizes keep their proportion."""
    settings = tile_settings(vae)
    completed = dict(settings)
    for key, value in settings.items():
        if not hasattr(model, key):
            known = ", ".join(sorted(k for k in vars(model) if k.startswith("tile_sample")))
            raise _wrong(key, f"{type(model).__name__} has no such setting", f"it has: {known}")
        if not vae.tiling:
            raise _wrong(key, "it sizes tiles, and nothing is tiled", "add `vae.tiling=true`")
        for near in (key.replace("_min_", "_stride_"), key.replace("_sample_", "_latent_")):
            if near not in settings and near != key and hasattr(model, near):
                scaled = int(value * getattr(model, near) / getattr(model, key))
                unit = _unit(model, near)
                completed[near] = max(unit, scaled - scaled % unit)
    return completed


def _unit(model: object, name: str) -> int:
    """Of what number a stride in pixels or frames is a multiple, so that tiles meet exactly."""
    if "_stride_" not in name:
        return 1
    scale = "temporal_compression_ratio" if "num_frames" in name else "spatial_compression_ratio"
    return int(getattr(model, scale, 1) or 1)


def _wrong(key: str, problem: str, help: str) -> UserError:
    return UserError(f"vae.config.{key}: {problem}", help=help, field=f"vae.config.{key}")


@contextmanager
def tiled(vae: Any) -> Iterator[None]:
    """Let a VAE work in tiles while this is open, and as before afterwards."""
    vae.enable_tiling()
    try:
        yield
    finally:
        vae.disable_tiling()
