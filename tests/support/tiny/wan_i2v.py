"""Tiny Wan checkpoints that make a clip from pictures: Wan 2.1's, with CLIP, and Wan 2.2's."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from tests.support.tiny.parts import seeded
from tests.support.tiny.rows import LONG, SHORT, Pixels, Request, Row, vanilla
from tests.support.tiny.wan import saved, wan_transformer

CLIP_WIDTH, CLIP_TOKENS = 16, 17
LAST = str(Path(__file__).parents[3] / "docs/images/pictures.png")


def checkpoint(folder: Path, *, both: bool = False) -> Path:
    """Write a Wan 2.1 checkpoint with a vision encoder. both: for a first and a last picture."""
    from diffusers import WanImageToVideoPipeline

    places = {"pos_embed_seq_len": 2 * CLIP_TOKENS} if both else {}
    net = seeing(image_dim=CLIP_WIDTH, added_kv_proj_dim=48, **places)
    if both:  # diffusers starts these at zero, and zeros prove nothing
        net.condition_embedder.image_embedder.pos_embed.data.normal_()
    pictures = {"image_encoder": clip_vision(), "image_processor": clip_processor()}
    return saved(WanImageToVideoPipeline, folder, transformer=net, **pictures)


def experts(folder: Path) -> Path:
    """Write a Wan 2.2 checkpoint of two experts, without a vision encoder."""
    from diffusers import WanImageToVideoPipeline

    nets = {"transformer": seeing(), "transformer_2": seeing(num_layers=1), "boundary_ratio": 0.9}
    return saved(WanImageToVideoPipeline, folder, **nets)


def seeing(**changes: Any) -> Any:
    """A Wan transformer of latents, mask and latents of the picture, which it heeds."""
    net = wan_transformer(in_channels=12, **changes)
    net.patch_embedding.weight.data[:, 4:] *= 8
    return net


def clip_vision() -> Any:
    """A CLIP vision encoder of three layers over 4×4 patches."""
    from transformers import CLIPVisionConfig, CLIPVisionModel

    config = CLIPVisionConfig(
        hidden_size=CLIP_WIDTH,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
    )
    return seeded(lambda: CLIPVisionModel(config), scale=4.0)


def clip_processor() -> Any:
    """CLIP's image processor by PIL alone, at the encoder's size."""
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    side = {"height": 32, "width": 32}
    return CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=side)


def reference(model: Path, request: Request, pictures: list[Image.Image]) -> Pixels:
    """The vanilla pipeline, which takes the last picture as one, not as a path."""
    clean_without_ftfy()
    last = request.get("last_image")
    opened = {"last_image": Image.open(last).convert("RGB")} if last else {}
    return vanilla(model, {**request, **opened}, pictures)


def clean_without_ftfy() -> None:
    """Give the pipeline for pictures the cleaning of the one for text: its own fails without ftfy.

    Both clean alike where ftfy is installed, and nothing else differs.
    """
    from diffusers.pipelines.wan import pipeline_wan, pipeline_wan_i2v

    pipeline_wan_i2v.prompt_clean = pipeline_wan.prompt_clean


ROWS = (
    Row("wan2_1_i2v", checkpoint, (
        dict(prompt=SHORT, negative_prompt="blue", guidance_scale=4.0,
             height=48, width=112, num_frames=9),
        dict(prompt=LONG, guidance_scale=1.0, height=80, width=32, num_frames=1),
    ), pictures=1, reference=reference),
    Row("wan2_1_i2v", partial(checkpoint, both=True), (
        dict(prompt=SHORT, guidance_scale=4.0, height=48, width=112, num_frames=9, last_image=LAST),
        dict(prompt=LONG, guidance_scale=1.0, height=80, width=32, num_frames=5, last_image=LAST),
    ), pictures=1, reference=reference, label="last"),
    Row("wan2_2_i2v", experts, (
        dict(prompt=SHORT, negative_prompt="blue", guidance_scale=3.5,
             height=48, width=112, num_frames=5),
        dict(prompt=LONG, guidance_scale=1.0, height=80, width=32, num_frames=5, last_image=LAST),
    ), pictures=1, reference=reference),
)  # fmt: skip
