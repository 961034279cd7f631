"""Tiny GLM-Image checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from PIL import Image

from tests.support.tiny.parts import TEXT_WIDTH, image_vae, seeded, t5
from tests.support.tiny.rows import LONG, SHORT, Pixels, Request, Row, pipeline, pixels

VISION = 48  # tokens that the language model draws with
SPECIAL = ("<sop>", "<eop>", "<|image|>", "<|begin|>", "<|end|>", "<pad>", "<|user|>")
CHAT = (
    "{% for m in messages %}<|user|>{% for c in m.content %}"
    "{% if c.type == 'image' %}<|begin|><|image|><|end|>{% else %}{{ c.text }}{% endif %}"
    "{% endfor %}{% endfor %}"
)


def checkpoint(folder: Path) -> Path:
    """Write a GLM-Image checkpoint and return its folder."""
    from diffusers import FlowMatchEulerDiscreteScheduler, GlmImagePipeline
    from transformers import ByT5Tokenizer

    pipeline = GlmImagePipeline(
        tokenizer=ByT5Tokenizer(),
        processor=processor(),
        text_encoder=t5(vocab_size=384),
        vision_language_encoder=language_model(),
        vae=image_vae(latents_mean=[-0.3, 0.1, 0.2, -0.1], latents_std=[1.7, 2.1, 1.4, 2.5]),
        transformer=glm_transformer(),
        scheduler=FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True, base_shift=0.25, max_shift=0.75, time_shift_type="linear"
        ),
    )
    pipeline.save_pretrained(folder)
    return folder


def processor() -> Any:
    """Its processor over a byte-level tokenizer and the PIL image processor."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GlmImageProcessor, PreTrainedTokenizerFast
    from transformers.models.glm_image.image_processing_pil_glm_image import (
        GlmImageImageProcessorPil,
    )

    drawn = [f"<v{i}>" for i in range(VISION)]
    pieces = [*drawn, *SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    model = Tokenizer(models.BPE(vocab={p: i for i, p in enumerate(pieces)}, merges=[]))
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=model,
        bos_token="<|begin|>",
        pad_token="<pad>",
        additional_special_tokens=["<|user|>", "<|end|>"],
        extra_special_tokens=dict(
            image_token="<|image|>", grid_bos_token="<sop>", grid_eos_token="<eop>"
        ),
    )
    pictures = GlmImageImageProcessorPil(
        patch_size=16, merge_size=1, temporal_patch_size=1, min_pixels=64**2, max_pixels=512**2
    )
    return GlmImageProcessor(pictures, tokenizer, chat_template=CHAT)


def language_model() -> Any:
    """A language model of two layers that draws tokens; none of them ends the picture."""
    from transformers import GenerationConfig, GlmImageConfig, GlmImageForConditionalGeneration

    ids = {name: VISION + i for i, name in enumerate(SPECIAL)}
    text = dict(
        vocab_size=VISION + len(SPECIAL) + 256, vision_vocab_size=VISION, hidden_size=32,
        intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        pad_token_id=ids["<pad>"], eos_token_id=ids["<|end|>"],
        rope_parameters=dict(rope_type="default", rope_theta=10000.0, mrope_section=[4, 2, 2]),
    )  # fmt: skip
    vision = dict(depth=1, hidden_size=16, num_heads=2, image_size=512, intermediate_size=32)
    config = GlmImageConfig(
        text_config=text,
        vision_config=vision,
        vq_config=dict(embed_dim=8, num_embeddings=VISION, latent_channels=16),
        image_token_id=ids["<|image|>"],
        image_start_token_id=ids["<|begin|>"],
        image_end_token_id=ids["<|end|>"],
    )
    model = seeded(lambda: GlmImageForConditionalGeneration(config), scale=8.0)
    model.generation_config = GenerationConfig(
        do_sample=True, temperature=0.9, top_p=0.75, pad_token_id=ids["<pad>"],
        eos_token_id=ids["<|end|>"],
    )  # fmt: skip
    return model


def glm_transformer() -> Any:
    """A transformer of two blocks over four latent channels, patch 2."""
    from diffusers import GlmImageTransformer2DModel

    config = dict(
        in_channels=4, out_channels=4, num_layers=2, attention_head_dim=16, num_attention_heads=2,
        text_embed_dim=TEXT_WIDTH, time_embed_dim=16, condition_dim=8,
        prior_vq_quantizer_codebook_size=VISION,
    )  # fmt: skip
    return seeded(lambda: GlmImageTransformer2DModel(**config), scale=3.0)


def bridged(model: Path, request: Request, pictures: list[Image.Image]) -> Pixels:
    """What the vanilla pipeline draws from pictures whose size it takes.

    It expects packed features where its language model now gives a map of each picture and back;
    without this it fails at every picture. Its own sizes must make both models count equal tokens.
    """
    net = pipeline(model).vision_language_encoder
    fitting = [p.resize((32 * round(p.width // 2 / 16), 32 * round(p.height // 2 / 16)),
                        Image.Resampling.LANCZOS) for p in pictures]  # fmt: skip
    features, tokens = type(net).get_image_features, type(net).get_image_tokens

    def packed(*given: Any, **options: Any) -> Any:
        out = features(net, *given, **options)
        if not options:  # else `generate` asks, which knows its own
            out.pooler_output = [x.flatten(1).T for x in out.pooler_output]
        return out

    def unpacked(states: Any, grids: Any) -> Any:
        parts = states.split([int(h * w) for _, h, w in grids])
        maps = [x.T.unflatten(1, tuple(g[1:].tolist())) for x, g in zip(parts, grids, strict=True)]
        return torch.cat([tokens(net, [x.contiguous()]).flatten() for x in maps])

    net.get_image_features, net.get_image_tokens = packed, unpacked
    call = {k: v for k, v in request.items() if k != "seed"}
    generator = torch.Generator().manual_seed(request["seed"])
    return pixels(pipeline(model)(**call, image=fitting, generator=generator, output_type="np"))


CASES = (
    dict(prompt=f"{SHORT} and 'two' \"words\"", guidance_scale=2.5, height=32, width=96),
    dict(prompt=f'a sign says "{LONG}"', guidance_scale=1.0, height=96, width=64,
         max_sequence_length=64),
)  # fmt: skip
ROWS = (
    Row("glm_image", checkpoint, CASES),
    Row("glm_image", checkpoint, CASES, pictures=2, reference=bridged, label="pictures"),
)
