"""Tiny random checkpoints in diffusers' own format: real classes, real files, seconds on a CPU.

One config per component class, shared by the families. A seed fixes the weights, which are wide
enough that pictures vary with prompt, guidance and seed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

WORDS = tuple(
    word
    for line in (
        "a an the red green blue yellow white black circle square star ring cat ship on in at",
        "of and with big small moves slowly to left right background painting night blurry low",
    )
    for word in line.split()
)
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,;:!?'-()"
TEXT_WIDTH = 32
POOLED_WIDTH = 24


def wan(folder: Path) -> Path:
    """Write a Wan 2.1 checkpoint (UMT5, Wan transformer, Wan VAE, UniPC) and return its folder."""
    from diffusers import UniPCMultistepScheduler, WanPipeline

    pipeline = WanPipeline(
        tokenizer=t5_tokenizer(),
        text_encoder=umt5(),
        vae=wan_vae(),
        scheduler=UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        ),
        transformer=wan_transformer(),
    )
    pipeline.save_pretrained(folder)
    return folder


def flux(folder: Path, *, guidance: bool = True) -> Path:
    """Write a FLUX.1 checkpoint and return its folder: dev, or schnell without `guidance`."""
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline

    # As published: dev shifts by resolution, schnell not at all.
    shift = {"shift": 3.0, "use_dynamic_shifting": True} if guidance else {"shift": 1.0}
    pipeline = FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(**shift),
        vae=image_vae(),
        text_encoder=clip(),
        tokenizer=clip_tokenizer(),
        text_encoder_2=t5(),
        tokenizer_2=t5_tokenizer(),
        transformer=flux_transformer(guidance=guidance),
    )
    pipeline.save_pretrained(folder)
    return folder


def t5_tokenizer() -> Any:
    """A unigram tokenizer as T5 and UMT5 have it: whole words where it knows them, else letters."""
    from transformers import T5TokenizerFast

    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    letters = [(letter, -8.0) for letter in ("▁", *LETTERS)]
    words = [(f"▁{word}", -4.0) for word in WORDS]
    return T5TokenizerFast(vocab=[*special, *letters, *words], extra_ids=0, model_max_length=512)


def clip_tokenizer() -> Any:
    """A byte-pair tokenizer as CLIP has it: merges that spell `WORDS`, at most 77 tokens."""
    from transformers import CLIPTokenizer

    pieces = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS)]
    merges: list[tuple[str, str]] = []
    for word in WORDS:
        left = word[0] if len(word) > 1 else f"{word}</w>"
        for letter in [*word[1:-1], f"{word[-1]}</w>"] if len(word) > 1 else []:
            if (left, letter) not in merges:
                merges.append((left, letter))
            left += letter
    tokens = ["<|startoftext|>", "<|endoftext|>", *pieces, *(a + b for a, b in merges)]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=77)


def umt5() -> Any:
    """A UMT5 encoder of two layers."""
    from transformers import UMT5Config, UMT5EncoderModel

    return seeded(lambda: UMT5EncoderModel(UMT5Config(**t5_shape())), scale=1.0)


def t5() -> Any:
    """A T5 encoder of two layers."""
    from transformers import T5Config, T5EncoderModel

    return seeded(lambda: T5EncoderModel(T5Config(**t5_shape())), scale=1.0)


def t5_shape() -> dict[str, Any]:
    """Config values of both T5 encoders."""
    return {
        "vocab_size": 128,
        "d_model": TEXT_WIDTH,
        "d_kv": 8,
        "d_ff": 48,
        "num_layers": 2,
        "num_heads": 4,
        "feed_forward_proj": "gated-gelu",
    }


def clip() -> Any:
    """A CLIP text encoder of two layers."""
    from transformers import CLIPTextConfig, CLIPTextModel

    ids = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    config = CLIPTextConfig(
        vocab_size=len(clip_tokenizer()),
        hidden_size=POOLED_WIDTH,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        projection_dim=POOLED_WIDTH,
        **ids,
    )
    return seeded(lambda: CLIPTextModel(config), scale=8.0)


def wan_transformer() -> Any:
    """A Wan transformer of two blocks over four latent channels, patch 1×2×2."""
    from diffusers import WanTransformer3DModel

    config = {
        "patch_size": (1, 2, 2),
        "num_attention_heads": 2,
        "attention_head_dim": 24,
        "in_channels": 4,
        "out_channels": 4,
        "text_dim": TEXT_WIDTH,
        "freq_dim": 32,
        "ffn_dim": 64,
        "num_layers": 2,
        "cross_attn_norm": True,
        "qk_norm": "rms_norm_across_heads",
        "rope_max_seq_len": 64,
    }
    return seeded(lambda: WanTransformer3DModel(**config), scale=2.0)


def wan_vae() -> Any:
    """A Wan VAE: 4 channels, 4× in time, 8× in space, with means and deviations that matter."""
    from diffusers import AutoencoderKLWan

    config = {
        "base_dim": 8,
        "z_dim": 4,
        "dim_mult": [1, 2, 2, 2],
        "num_res_blocks": 1,
        "temperal_downsample": [False, True, True],
        "latents_mean": [-0.3, 0.1, 0.2, -0.1],
        "latents_std": [1.7, 2.1, 1.4, 2.5],
    }
    return seeded(lambda: AutoencoderKLWan(**config), scale=1.5)


def flux_transformer(*, guidance: bool) -> Any:
    """A FLUX transformer of one double and one single block over 16 packed channels."""
    from diffusers import FluxTransformer2DModel

    config = {
        "patch_size": 1,
        "in_channels": 16,
        "num_layers": 1,
        "num_single_layers": 1,
        "attention_head_dim": 16,
        "num_attention_heads": 2,
        "joint_attention_dim": TEXT_WIDTH,
        "pooled_projection_dim": POOLED_WIDTH,
        "axes_dims_rope": (4, 6, 6),
        "guidance_embeds": guidance,
    }
    return seeded(lambda: FluxTransformer2DModel(**config), scale=2.0)


def image_vae() -> Any:
    """An image VAE: 4 channels, 8× in space, scaled and shifted."""
    from diffusers import AutoencoderKL

    config = {
        "block_out_channels": (8, 8, 16, 16),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "layers_per_block": 1,
        "latent_channels": 4,
        "norm_num_groups": 4,
        "use_quant_conv": False,
        "use_post_quant_conv": False,
        "scaling_factor": 0.3611,
        "shift_factor": 0.1159,
    }
    return seeded(lambda: AutoencoderKL(**config), scale=1.5)


def seeded(build: Any, *, scale: float) -> Any:
    """Build a module from a fixed seed, its matrices widened by `scale`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        module = build().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim > 1:
                parameter.mul_(scale)
    return module
