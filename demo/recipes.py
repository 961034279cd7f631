"""The stages in order, with their settings: measured on a CPU, sized for a GPU, and tiny."""

from __future__ import annotations

from dataclasses import replace

from demo.decoder import DecoderSettings
from demo.denoiser import DenoiserSettings
from demo.export import ExportSettings
from demo.fold import FoldSettings
from demo.latents import LatentSettings
from demo.vae import ClipVaeSettings, PictureVaeSettings

Settings = (
    PictureVaeSettings
    | ClipVaeSettings
    | FoldSettings
    | DecoderSettings
    | LatentSettings
    | DenoiserSettings
    | ExportSettings
)

PICTURES = DenoiserSettings()
CLIPS = replace(PICTURES, steps=1491, learning_rate=1.4e-3, decay=0.5, video_share=0.65)
CPU: dict[str, Settings] = {
    "vae": PictureVaeSettings(),
    "vvae": ClipVaeSettings(),
    "fold": FoldSettings(),
    "dec": DecoderSettings(),
    "latents": LatentSettings(),
    "dit": PICTURES,
    "clips": CLIPS,
    # the measured run left no note of this stage's rate: the one before is assumed
    "mixed": replace(CLIPS, steps=4509, video_share=0.5),
    "export": ExportSettings(),
}
# Sized for half an hour of one large GPU, never measured.
GPU: dict[str, Settings] = {
    "vae": PictureVaeSettings(steps=6000, batch=128),
    "vvae": ClipVaeSettings(steps=6000, batch=128, frames=13),
    "fold": FoldSettings(clips=128),
    "dec": DecoderSettings(steps=6000, batch=128),
    "latents": LatentSettings(images=200_000, clips=20_000, shard=20_000),
    "dit": replace(PICTURES, steps=25_000, batch=1024, video_share=0.4, pool=4),
    "export": ExportSettings(),
}
# Every stage in a few steps: shows that the recipe runs, and draws nothing.
SMALL: dict[str, Settings] = {
    "vae": PictureVaeSettings(steps=4, batch=4),
    "vvae": ClipVaeSettings(steps=4, batch=4, frames=5),
    "fold": FoldSettings(images=32, clips=2),
    "dec": DecoderSettings(steps=4, batch=6, frames=5),
    "latents": LatentSettings(images=24, clips=4, shard=16),
    "dit": replace(PICTURES, steps=4, batch=8),
    "clips": replace(CLIPS, steps=4, batch=8),
    "mixed": replace(CLIPS, steps=4, batch=8, video_share=0.5, pool=2),
    "export": ExportSettings(),
}
RECIPES = {"cpu": CPU, "gpu": GPU, "small": SMALL}
