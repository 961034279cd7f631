"""Tiny Qwen-Image checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from PIL import Image

from tests.support.tiny.parts import TEXT_WIDTH, qwen_tokenizer, seeded
from tests.support.tiny.rows import LONG, SHORT, Pixels, Request, Row, pixels

VISION = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")


def checkpoint(folder: Path) -> Path:
    """Write a Qwen-Image checkpoint and return its folder."""
    from diffusers import QwenImagePipeline

    QwenImagePipeline(**components(language_tokenizer()), vae=vae()).save_pretrained(folder)
    return folder


def edit_checkpoint(
    folder: Path,
    name: str = "QwenImageEditPipeline",
    of_transformer: Mapping[str, Any] = MappingProxyType({}),
    of_vae: Mapping[str, Any] = MappingProxyType({}),
) -> Path:
    """Write a checkpoint that is shown pictures. of_transformer, of_vae: changes to configs.

    Its VAE is narrow and scales by 16, for the pictures have about 1024 px a side.
    """
    import diffusers

    tokenizer = language_tokenizer()
    narrow = {"base_dim": 2, "dim_mult": [1, 1, 1, 1, 1]}
    small = vae(**narrow, temperal_downsample=[False, False, True, True], **of_vae)
    parts = components(tokenizer, **of_transformer)
    parts |= {"vae": small, "processor": processor(tokenizer)}
    getattr(diffusers, name)(**parts).save_pretrained(folder)
    return folder


def plus_checkpoint(folder: Path) -> Path:
    """The same for several pictures, which the transformer takes as clean, as that of 2511 does."""
    return edit_checkpoint(folder, "QwenImageEditPlusPipeline", {"zero_cond_t": True})


def language_tokenizer() -> Any:
    """A tokenizer with the tokens that frame and stand for pictures."""
    tokenizer = qwen_tokenizer()
    tokenizer.add_special_tokens({"extra_special_tokens": [*VISION]})
    return tokenizer


def processor(tokenizer: Any, images: Any = None) -> Any:
    """A Qwen2VLProcessor around an image processor by PIL: the whole one would need torchvision.

    It is saved as the published one, and reads text and pictures as that does; our own side loads
    the image processor alone where torchvision is missing.
    """
    from transformers import Qwen2VLProcessor
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    few = {"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 24}  # tokens of a picture
    images = images or Qwen2VLImageProcessorPil(size=few)

    def call(self: Any, text: Any, images: Any = None, **options: Any) -> Any:
        texts, read = [text] if isinstance(text, str) else text, self.image_processor(images)
        counts = iter([int(grid.prod()) // 4 for grid in read["image_grid_thw"]])
        place = "<|image_pad|>"
        pieces = [t.split(place) for t in texts]
        texts = ["".join(p + place * next(counts) for p in ps[:-1]) + ps[-1] for ps in pieces]
        tokens = self.tokenizer(texts, padding=True, return_tensors="pt")
        kinds = (tokens.input_ids == self.tokenizer.convert_tokens_to_ids(place)).int()
        tokens.update({k: torch.as_tensor(v) for k, v in read.items()})
        tokens["mm_token_type_ids"] = kinds
        return tokens

    def save(self: Any, folder: Path, **options: Any) -> None:
        self.image_processor.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    body = {"__init__": lambda self: None, "__call__": call, "save_pretrained": save}
    body |= {"__module__": Qwen2VLProcessor.__module__}
    body |= {"batch_decode": lambda self, *ids, **o: self.tokenizer.batch_decode(*ids, **o)}
    made: Any = type("Qwen2VLProcessor", (Qwen2VLProcessor,), body)()
    made.image_processor, made.tokenizer = images, tokenizer
    return made


@cache
def pipeline(model: Path) -> Any:
    """The vanilla pipeline of a folder, given a processor that needs no torchvision."""
    from diffusers import DiffusionPipeline
    from transformers import AutoImageProcessor, AutoTokenizer

    folder = model / "processor"
    parts = AutoTokenizer.from_pretrained(folder), AutoImageProcessor.from_pretrained(folder)
    made = DiffusionPipeline.from_pretrained(model, processor=processor(*parts))
    made.set_progress_bar_config(disable=True)
    return made


def with_processor(model: Path, request: Request, pictures: list[Image.Image]) -> Pixels:
    """What the vanilla pipeline draws, given such a processor."""
    call = {k: v for k, v in request.items() if k != "seed"}
    generator = torch.Generator().manual_seed(request["seed"])
    image = pictures if len(pictures) > 1 else pictures[0]
    return pixels(pipeline(model)(image, **call, generator=generator, output_type="np"))


def components(tokenizer: Any, **changes: Any) -> dict[str, Any]:
    """What every pipeline of the family holds, but for the VAE. changes: of the transformer."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    shift = {"base_shift": 0.5, "max_shift": 0.9, "max_image_seq_len": 8192}  # as published
    return {
        "scheduler": FlowMatchEulerDiscreteScheduler(
            **shift, shift_terminal=0.02, use_dynamic_shifting=True
        ),
        "text_encoder": language_model(tokenizer),
        "tokenizer": tokenizer,
        "transformer": transformer(**changes),
    }


def language_model(tokenizer: Any) -> Any:
    """A Qwen2.5-VL of two layers that sees by two more."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": TEXT_WIDTH,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2]},
        "eos_token_id": tokenizer.convert_tokens_to_ids("<|im_end|>"),
        "bos_token_id": tokenizer.convert_tokens_to_ids("<|endoftext|>"),
    }
    vision = {
        "depth": 2,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_heads": 2,
        "out_hidden_size": TEXT_WIDTH,
        "fullatt_block_indexes": [1],
    }
    ids = dict(
        zip(
            ("vision_start_token_id", "vision_end_token_id", "image_token_id", "video_token_id"),
            tokenizer.convert_tokens_to_ids([*VISION]),
            strict=True,
        )
    )
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision, **ids)
    return seeded(lambda: Qwen2_5_VLForConditionalGeneration(config), scale=8.0)


def transformer(**changes: Any) -> Any:
    """A transformer of two blocks over 16 packed channels."""
    from diffusers import QwenImageTransformer2DModel

    config = {
        "patch_size": 2,
        "in_channels": 16,
        "out_channels": 4,
        "num_layers": 2,
        "attention_head_dim": 16,
        "num_attention_heads": 2,
        "joint_attention_dim": TEXT_WIDTH,
        "axes_dims_rope": (4, 6, 6),
    }
    return seeded(lambda: QwenImageTransformer2DModel(**{**config, **changes}), scale=2.0)


def vae(**changes: Any) -> Any:
    """A VAE: 4 channels, 8x in space, with means and deviations that matter."""
    from diffusers import AutoencoderKLQwenImage

    config = {
        "base_dim": 8,
        "z_dim": 4,
        "dim_mult": [1, 2, 2, 2],
        "num_res_blocks": 1,
        "temperal_downsample": [False, True, True],
        "latents_mean": [-0.3, 0.1, 0.2, -0.1],
        "latents_std": [1.7, 2.1, 1.4, 2.5],
    }
    return seeded(lambda: AutoencoderKLQwenImage(**{**config, **changes}), scale=1.5)


def layered_checkpoint(folder: Path) -> Path:
    """Write a checkpoint that takes a picture apart; its language model can describe one."""
    vae = {"input_channels": 4, "z_dim": 2, "latents_mean": [-0.3, 0.1], "latents_std": [1.7, 2.1]}
    transformer = {"in_channels": 8, "out_channels": 2}  # the reference tells pixels by 4 channels
    transformer |= {"use_additional_t_cond": True, "use_layer3d_rope": True}
    return edit_checkpoint(folder, "QwenImageLayeredPipeline", transformer, vae)


def layers(model: Path, request: Request, pictures: list[Image.Image]) -> Pixels:
    """What the vanilla pipeline makes of a picture, opaque: every layer, as bytes."""
    made: Pixels = with_processor(model, request, [p.convert("RGBA") for p in pictures])[0]
    return made


SCALE = {"guidance_scale": "true_cfg_scale"}
ROWS = (
    Row("qwen_image", checkpoint, (
        dict(prompt=SHORT, negative_prompt="blue", guidance_scale=4.0, height=48, width=112),
        dict(prompt=LONG * 4, negative_prompt=" ", guidance_scale=1.0, height=80, width=32),
    ), renamed=SCALE),
    Row("qwen_image_edit", edit_checkpoint, (
        dict(prompt=SHORT, negative_prompt="blue", guidance_scale=4.0, height=64, width=128),
        dict(prompt=LONG, negative_prompt=" ", guidance_scale=1.0, height=96, width=32),
    ), renamed=SCALE, pictures=1, reference=with_processor),
    Row("qwen_image_edit_plus", plus_checkpoint, (
        dict(prompt=SHORT, negative_prompt="blue", guidance_scale=4.0, height=64, width=128),
        dict(prompt=LONG, negative_prompt=" ", guidance_scale=1.0, height=96, width=32),
    ), renamed=SCALE, pictures=2, reference=with_processor),
    Row("qwen_image_layered", layered_checkpoint, (
        dict(prompt=SHORT, negative_prompt="blue", guidance_scale=4.0, cfg_normalize=True),
        dict(prompt="", negative_prompt=" ", guidance_scale=2.0, layers=3, use_en_prompt=True),
    ), dict(layers=2), renamed=SCALE, pictures=1, reference=layers),
)  # fmt: skip
