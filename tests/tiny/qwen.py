"""Tiny Qwen-Image checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tiny.parts import TEXT_WIDTH, qwen_tokenizer, seeded
from tiny.rows import LONG, SHORT, Row

VISION = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")


def checkpoint(folder: Path) -> Path:
    """Write a Qwen-Image checkpoint and return its folder."""
    from diffusers import QwenImagePipeline

    parts = components()
    del parts["processor"]
    QwenImagePipeline(**parts).save_pretrained(folder)
    return folder


def components() -> dict[str, Any]:
    """What every pipeline of the family holds."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    tokenizer = qwen_tokenizer()
    tokenizer.add_special_tokens({"extra_special_tokens": [*VISION]})
    shift = {"base_shift": 0.5, "max_shift": 0.9, "max_image_seq_len": 8192}  # as published
    return {
        "scheduler": FlowMatchEulerDiscreteScheduler(
            **shift, shift_terminal=0.02, use_dynamic_shifting=True
        ),
        "vae": vae(),
        "text_encoder": language_model(tokenizer),
        "tokenizer": tokenizer,
        "processor": None,
        "transformer": transformer(),
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


ROWS = (
    Row("qwen_image", checkpoint, (
        dict(prompt=SHORT, negative_prompt="blue", guidance_scale=4.0, height=48, width=112),
        dict(prompt=LONG * 4, negative_prompt=" ", guidance_scale=1.0, height=80, width=32),
    ), renamed={"guidance_scale": "true_cfg_scale"}),
)  # fmt: skip
