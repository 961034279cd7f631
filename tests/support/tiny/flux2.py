"""Tiny FLUX.2 checkpoints."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from tests.support.tiny.parts import WORDS, qwen_tokenizer, seeded
from tests.support.tiny.rows import LONG, SHORT, Pixels, Request, Row, pipeline, vanilla

WIDTH = 16  # of the text encoders
MISTRAL_CHAT = (
    "{{ bos_token }}{% for m in messages %}"
    "{% set text = m.content | map(attribute='text') | join %}"
    "{% if m.role == 'system' %}[SYSTEM_PROMPT]{{ text }}[/SYSTEM_PROMPT]"
    "{% else %}[INST]{{ text }}[/INST]{% endif %}{% endfor %}"
)


def checkpoint(folder: Path) -> Path:
    """Write a FLUX.2 [dev] checkpoint and return its folder.

    Its tokenizer is saved as the published one, a PixtralProcessor, which cannot be built here: it
    needs torchvision. Its text half is its tokenizer.
    """
    from diffusers import FlowMatchEulerDiscreteScheduler, Flux2Pipeline

    Flux2Pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=patch_vae(),
        text_encoder=mistral3(),
        tokenizer=mistral_tokenizer(),
        transformer=flux2_transformer(3 * WIDTH, guidance=True),
    ).save_pretrained(folder)
    index = json.loads((folder / "model_index.json").read_text())
    index["tokenizer"] = ["transformers", "PixtralProcessor"]
    (folder / "model_index.json").write_text(json.dumps(index))
    processor = {"processor_class": "PixtralProcessor"}
    said = {"image_processor_type": "PixtralImageProcessorFast", "size": {"longest_edge": 1540}}
    (folder / "tokenizer/preprocessor_config.json").write_text(json.dumps({**processor, **said}))
    (folder / "tokenizer/processor_config.json").write_text(json.dumps(processor))
    return folder


def mistral_tokenizer() -> Any:
    """A byte-level tokenizer with a chat template, as Mistral has it: it pads on the left."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["<unk>", "<s>", "</s>", "<pad>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]"]
    special += ["[/SYSTEM_PROMPT]", "[IMG]", "[IMG_BREAK]", "[IMG_END]"]
    merges = list(dict.fromkeys(
        ("Ġ" + word[:i], letter) for word in WORDS for i, letter in enumerate(word)
    ))  # fmt: skip
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = dict.fromkeys([*special, *alphabet, *(a + b for a, b in merges)])
    built = Tokenizer(models.BPE(vocab={p: i for i, p in enumerate(pieces)}, merges=merges))
    built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    built.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=built,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        extra_special_tokens=special[4:],
        padding_side="left",
        chat_template=MISTRAL_CHAT,
        model_max_length=131072,
    )


def mistral3() -> Any:
    """A Mistral 3 of 31 layers, for the 30th is read, with eyes that nothing looks through."""
    from transformers import Mistral3Config, Mistral3ForConditionalGeneration

    text = {"model_type": "mistral", **language_model(len(mistral_tokenizer()), 31)}
    vision = {
        "model_type": "pixtral",
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "head_dim": 8,
        "image_size": 28,
    }
    config = Mistral3Config(text_config=text, vision_config=vision, image_token_index=8)
    return seeded(lambda: Mistral3ForConditionalGeneration(config), scale=12.0)


def patch_vae() -> Any:
    """A VAE of 4 channels, 8× in space, with statistics of its patches that matter."""
    from diffusers import AutoencoderKLFlux2

    config = {
        "block_out_channels": (8, 8, 16, 16),
        "layers_per_block": 1,
        "latent_channels": 4,
        "norm_num_groups": 4,
    }
    vae = seeded(lambda: AutoencoderKLFlux2(**config), scale=1.5)
    vae.bn.running_mean.copy_(torch.linspace(-0.4, 0.3, 16))
    vae.bn.running_var.copy_(torch.linspace(0.5, 3.0, 16))
    return vae


def flux2_transformer(text_width: int, *, guidance: bool) -> Any:
    """A FLUX.2 transformer of one double and one single block over 16 patched channels."""
    from diffusers import Flux2Transformer2DModel

    config = {
        "in_channels": 16,
        "num_layers": 1,
        "num_single_layers": 1,
        "attention_head_dim": 16,
        "num_attention_heads": 2,
        "joint_attention_dim": text_width,
        "axes_dims_rope": (4, 4, 4, 4),
        "timestep_guidance_channels": 32,
        "guidance_embeds": guidance,
    }
    transformer = seeded(lambda: Flux2Transformer2DModel(**config), scale=2.0)
    for name, parameter in transformer.named_parameters():
        if "norm_" in name and parameter.ndim == 1:  # sharp attention, for a prompt's few tokens
            parameter.data.mul_(4)  # are among hundreds that every prompt has
    return transformer


def klein(folder: Path, *, distilled: bool) -> Path:
    """Write a FLUX.2 [klein] checkpoint, or one of its base, and return its folder."""
    from diffusers import FlowMatchEulerDiscreteScheduler, Flux2KleinPipeline

    Flux2KleinPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=patch_vae(),
        text_encoder=qwen3(),
        tokenizer=qwen_tokenizer(),
        transformer=flux2_transformer(3 * WIDTH, guidance=False),
        is_distilled=distilled,
    ).save_pretrained(folder)
    return folder


def qwen3() -> Any:
    """A Qwen3 of 28 layers, for the 27th is read, with its head."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(**language_model(len(qwen_tokenizer()), 28))
    return seeded(lambda: Qwen3ForCausalLM(config), scale=12.0)


def language_model(vocabulary: int, layers: int) -> dict[str, Any]:
    """Config values of both text encoders."""
    return {
        "vocab_size": vocabulary,
        "hidden_size": WIDTH,
        "intermediate_size": 24,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 8,
    }


def with_tokenizer(model: Path, request: Request, pictures: list[Image.Image]) -> Pixels:
    """The vanilla pipeline, given a tokenizer where it cannot build the processor around it."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model / "tokenizer")
    pipeline(model, tokenizer=None).register_modules(tokenizer=tokenizer)
    return vanilla(model, request, pictures, tokenizer=None)


def against(model: Path, request: Request, pictures: list[Image.Image]) -> Pixels:
    """The vanilla pipeline, which takes a negative prompt encoded only."""
    call = dict(request)
    if negative := call.pop("negative_prompt", None):
        call["negative_prompt_embeds"], _ = pipeline(model).encode_prompt(negative)
    return vanilla(model, call, pictures)


ROWS = (
    Row("flux2", checkpoint, (
        dict(prompt=SHORT, guidance_scale=4.0, height=48, width=112),
        dict(prompt=LONG, guidance_scale=1.0, height=80, width=32, max_sequence_length=320),
    ), reference=with_tokenizer),
    Row("flux2", checkpoint, (
        dict(prompt=SHORT, guidance_scale=2.5, height=48, width=112),
        dict(prompt="a [IMG] " + SHORT, guidance_scale=4.0),
    ), pictures=2, reference=with_tokenizer, label="references"),
    Row("flux2_klein", partial(klein, distilled=True), (
        dict(prompt=SHORT, height=48, width=112),
        dict(prompt=LONG, guidance_scale=1.0, height=80, width=32, max_sequence_length=320),
    )),
    Row("flux2_klein", partial(klein, distilled=True), (
        dict(prompt=SHORT, height=80),
        dict(prompt=LONG, height=48, width=112),
    ), pictures=1, label="references"),
    Row("flux2_klein_base", partial(klein, distilled=False), (
        dict(prompt=SHORT, negative_prompt="a blue ring", guidance_scale=4.0, height=48, width=112),
        dict(prompt=LONG, guidance_scale=1.0, height=80, width=32),
    ), reference=against),
    Row("flux2_klein_base", partial(klein, distilled=False), (
        dict(prompt=SHORT, guidance_scale=3.0, height=48, width=112),
        dict(prompt=LONG, guidance_scale=1.5),
    ), pictures=3, label="references"),
)  # fmt: skip
