"""Tiny HunyuanVideo checkpoints."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from PIL import Image

from nodes.hunyuan import DESCRIBE
from tests.support.tiny.parts import POOLED_WIDTH, TEXT_WIDTH, WORDS, clip, clip_tokenizer, seeded
from tests.support.tiny.rows import LONG, SHORT, Pixels, Request, Row, vanilla


def checkpoint(folder: Path) -> Path:
    """Write a HunyuanVideo checkpoint and return its folder."""
    from diffusers import FlowMatchEulerDiscreteScheduler, HunyuanVideoPipeline

    pipeline = HunyuanVideoPipeline(
        text_encoder=llama(),
        tokenizer=llama_tokenizer(),
        transformer=transformer(),
        vae=vae(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
        text_encoder_2=clip(),
        tokenizer_2=clip_tokenizer(),
    )
    pipeline.save_pretrained(folder)
    return folder


def fast(folder: Path) -> Path:
    """Write the same under a name that tells that it was distilled."""
    return checkpoint(folder.with_name("FastHunyuan-diffusers"))


def shifted(model: Path, request: Request, pictures: list[Image.Image]) -> Pixels:
    """The reference with the flow shift of few steps, which is not the checkpoint's own."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    return vanilla(model, request, pictures, scheduler=FlowMatchEulerDiscreteScheduler(shift=17.0))


def llama_tokenizer() -> Any:
    """A byte-level tokenizer as Llama 3 has it: merges that spell `WORDS` and the template's."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    special += ["<|pad|>"]
    said = re.sub(r"<\|\w+\|>", " ", DESCRIBE)
    words = [f"Ġ{word}" for word in WORDS]
    for word in re.findall(r"[A-Za-z]+", said):
        words += [word, f"Ġ{word}"]
    merges = list(dict.fromkeys((w[:i], w[i]) for w in words for i in range(1, len(w))))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = dict.fromkeys([*special, *alphabet, *(a + b for a, b in merges)])
    built = Tokenizer(models.BPE(vocab={p: i for i, p in enumerate(pieces)}, merges=merges))
    built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    built.decoder = decoders.ByteLevel()
    built.post_processor = processors.TemplateProcessing(
        single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=built,
        bos_token=special[0],
        eos_token=special[3],
        pad_token=special[4],
        extra_special_tokens=special[1:3],
        padding_side="right",
        model_max_length=8192,
    )


def llama() -> Any:
    """A Llama decoder of four layers, without a head: its second layer's states are the text."""
    from transformers import LlamaConfig, LlamaModel

    config = LlamaConfig(
        vocab_size=len(llama_tokenizer()),
        hidden_size=TEXT_WIDTH,
        intermediate_size=48,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        pad_token_id=4,
    )
    return seeded(lambda: LlamaModel(config), scale=8.0)


def transformer() -> Any:
    """A HunyuanVideo transformer of one double and one single block over four channels."""
    from diffusers import HunyuanVideoTransformer3DModel

    config = {
        "in_channels": 4,
        "out_channels": 4,
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "num_layers": 1,
        "num_single_layers": 1,
        "num_refiner_layers": 1,
        "text_embed_dim": TEXT_WIDTH,
        "pooled_projection_dim": POOLED_WIDTH,
        "rope_axes_dim": (4, 6, 6),
    }
    return seeded(lambda: HunyuanVideoTransformer3DModel(**config), scale=2.0)


def vae() -> Any:
    """A HunyuanVideo VAE: 4 channels, 4× in time, 8× in space."""
    from diffusers import AutoencoderKLHunyuanVideo

    config = {
        "latent_channels": 4,
        "block_out_channels": (8, 8, 8, 16),
        "layers_per_block": 1,
        "norm_num_groups": 4,
    }
    return seeded(lambda: AutoencoderKLHunyuanVideo(**config), scale=1.5)


ROWS = (
    Row("hunyuan_video", checkpoint, (
        dict(prompt=SHORT, guidance_scale=6.0, height=48, width=112, num_frames=9),
        dict(prompt=LONG, negative_prompt="blue", embedded_cfg_scale=2.0, true_cfg_scale=2.5,
             height=80, width=32, num_frames=1),
    ), renamed={"embedded_cfg_scale": "guidance_scale"}),
    Row("fast_hunyuan", fast, (
        dict(prompt="a green square", height=80, width=48, num_frames=1),
        # Longer than what the VAE decodes at once.
        dict(prompt=SHORT, height=32, width=48, num_frames=21),
    ), reference=shifted),
)  # fmt: skip
