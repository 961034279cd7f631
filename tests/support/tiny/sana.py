"""Tiny Sana checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.tiny.parts import LETTERS, TEXT_WIDTH, WORDS, seeded
from tests.support.tiny.rows import LONG, SHORT, Row


def checkpoint(folder: Path, *, scheduler: Any = None, **changes: Any) -> Path:
    """Write a Sana checkpoint (Gemma 2, Sana transformer, deep-compression VAE, DPM-Solver).

    scheduler  in place of the published one
    changes    values of its transformer's config
    """
    from diffusers import DPMSolverMultistepScheduler, SanaPipeline

    pipeline = SanaPipeline(
        tokenizer=gemma_tokenizer(),
        text_encoder=gemma(),
        vae=deep_vae(),
        transformer=transformer(**changes),
        scheduler=scheduler
        or DPMSolverMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        ),
    )
    pipeline.save_pretrained(folder)
    return folder


def gemma_tokenizer() -> Any:
    """A byte-pair tokenizer as Gemma has it: merges that spell `WORDS`, a token at the start."""
    from tokenizers.processors import TemplateProcessing
    from transformers import GemmaTokenizer

    merges: list[tuple[str, str]] = []
    for word in WORDS:
        left = word[0]
        for letter in word[1:]:
            if (left, letter) not in merges:
                merges.append((left, letter))
            left += letter
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    pieces = [*special, "▁", *LETTERS, *(a + b for a, b in merges)]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer: Any = GemmaTokenizer(vocab=vocabulary, merges=merges, padding_side="left")
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", vocabulary["<bos>"])]
    )
    return tokenizer


def gemma() -> Any:
    """A Gemma 2 decoder of two layers, without a head: its hidden states are the text."""
    from transformers import Gemma2Config, Gemma2Model

    config = Gemma2Config(
        vocab_size=len(gemma_tokenizer()),
        hidden_size=TEXT_WIDTH,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        query_pre_attn_scalar=8,
        sliding_window=64,
    )
    return seeded(lambda: Gemma2Model(config), scale=8.0)


def transformer(**changes: Any) -> Any:
    """A Sana transformer of two blocks over four latent channels, made for 512 px."""
    from diffusers import SanaTransformer2DModel

    config = {
        "in_channels": 4,
        "out_channels": 4,
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "num_layers": 2,
        "num_cross_attention_heads": 2,
        "cross_attention_head_dim": 16,
        "cross_attention_dim": 32,
        "caption_channels": TEXT_WIDTH,
        "sample_size": 16,
    }
    return seeded(lambda: SanaTransformer2DModel(**{**config, **changes}), scale=1.5)


def deep_vae() -> Any:
    """An autoencoder of deep compression: 4 channels, 32× in space."""
    from diffusers import AutoencoderDC

    config = {
        "latent_channels": 4,
        "attention_head_dim": 4,
        "encoder_block_types": ("ResBlock",) * 4 + ("EfficientViTBlock",) * 2,
        "decoder_block_types": ("ResBlock",) * 4 + ("EfficientViTBlock",) * 2,
        "encoder_block_out_channels": (4, 4, 4, 8, 8, 8),
        "decoder_block_out_channels": (4, 4, 4, 8, 8, 8),
        "encoder_layers_per_block": (1,) * 6,
        "decoder_layers_per_block": (1,) * 6,
        "encoder_qkv_multiscales": ((), (), (), (), (5,), (5,)),
        "decoder_qkv_multiscales": ((), (), (), (), (5,), (5,)),
        "scaling_factor": 0.41407,
    }
    return seeded(lambda: AutoencoderDC(**config), scale=1.5)


ROWS = (
    Row("sana", checkpoint, (
        dict(prompt=SHORT.upper(), negative_prompt="Blue", guidance_scale=4.5,
             height=50, width=113),
        dict(prompt=LONG, guidance_scale=1.0, height=160, width=64, use_resolution_binning=False),
    )),
)  # fmt: skip
