"""Components that several families share, tiny and random: one config per class.

A seed fixes the weights, which are wide
enough that pictures vary with prompt, guidance and seed.
"""

from __future__ import annotations

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
QWEN_CHAT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
    "{% endif %}"
)


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


def qwen_tokenizer() -> Any:
    """A byte-level tokenizer with a chat template, as Qwen has it: merges that spell `WORDS`."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import Qwen2Tokenizer

    merges: list[tuple[str, str]] = []
    for word in WORDS:
        left = "Ġ"  # how the byte of a space is written
        for letter in word:
            if (left, letter) not in merges:
                merges.append((left, letter))
            left += letter
    pieces = [*sorted(ByteLevel.alphabet()), *(a + b for a, b in merges)]
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"]
    tokenizer = Qwen2Tokenizer(
        vocab={piece: i for i, piece in enumerate(dict.fromkeys([*pieces, *special]))},
        merges=merges,
        extra_special_tokens=special[1:3],
        model_max_length=131072,
    )
    tokenizer.chat_template = QWEN_CHAT
    return tokenizer


def umt5() -> Any:
    """A UMT5 encoder of two layers."""
    from transformers import UMT5Config, UMT5EncoderModel

    return seeded(lambda: UMT5EncoderModel(UMT5Config(**t5_shape())), scale=1.0)


def t5(**changes: Any) -> Any:
    """A T5 encoder of two layers."""
    from transformers import T5Config, T5EncoderModel

    return seeded(lambda: T5EncoderModel(T5Config(**{**t5_shape(), **changes})), scale=1.0)


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


def qwen3() -> Any:
    """A Qwen3 decoder of three layers, without a head: its hidden states are the text."""
    from transformers import Qwen3Config, Qwen3Model

    config = Qwen3Config(
        vocab_size=len(qwen_tokenizer()),
        hidden_size=TEXT_WIDTH,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
    )
    return seeded(lambda: Qwen3Model(config), scale=8.0)


def image_vae(**changes: Any) -> Any:
    """An image VAE: 4 channels, 8× in space, scaled and shifted, if `changes` do not differ."""
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
    return seeded(lambda: AutoencoderKL(**{**config, **changes}), scale=1.5)


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
