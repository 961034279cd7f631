"""Tiny LTX-2 and LTX-2.3 checkpoints."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from tests.support.tiny.parts import LETTERS, TEXT_WIDTH, WORDS, seeded
from tests.support.tiny.rows import LONG, SHORT, Pixels, Request, Row, pipeline, pixels

LAYERS = 2  # of the language model; its embedding counts as one more
REGISTERS = 16  # a prompt's length is a multiple of these
BINS = 16  # of the spectrogram


def checkpoint(folder: Path, *, newer: bool = False, noisy: bool = False) -> Path:
    """Write an LTX-2 checkpoint and return its folder; LTX-2.3 if `newer`.

    noisy  its decoder takes the last step of denoising
    """
    from diffusers import FlowMatchEulerDiscreteScheduler, LTX2Pipeline

    pipeline = LTX2Pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True, base_shift=0.95, max_shift=2.05,
            base_image_seq_len=1024, max_image_seq_len=4096, shift_terminal=0.1,
        ),
        vae=vae(timestep_conditioning=noisy),
        audio_vae=audio_vae(),
        text_encoder=gemma(),
        tokenizer=gemma_tokenizer(),
        connectors=connectors(newer=newer),
        transformer=transformer(newer=newer),
        vocoder=vocoder(newer=newer),
    )  # fmt: skip
    pipeline.save_pretrained(folder)
    return folder


def gemma_tokenizer() -> Any:
    """A byte-pair tokenizer as Gemma has it: merges that spell `WORDS`, padded on the left."""
    from transformers import GemmaTokenizer

    merges: list[tuple[str, str]] = []
    for word in WORDS:
        left = "▁"
        for letter in word:
            if (left, letter) not in merges:
                merges.append((left, letter))
            left += letter
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    pieces = dict.fromkeys([*special, "▁", *LETTERS, *(a + b for a, b in merges)])
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    return GemmaTokenizer(vocab=vocabulary, merges=merges, model_max_length=131072)


def gemma() -> Any:
    """A Gemma 3 of two layers, with the vision tower that it comes with."""
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    heads = dict(num_hidden_layers=LAYERS, num_attention_heads=2, intermediate_size=48)
    text = dict(
        vocab_size=len(gemma_tokenizer()), hidden_size=TEXT_WIDTH, num_key_value_heads=1,
        head_dim=16, **heads,
    )  # fmt: skip
    vision = dict(hidden_size=16, image_size=28, patch_size=14, **heads)
    config = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)
    return seeded(lambda: Gemma3ForConditionalGeneration(config), scale=8.0)


def connectors(*, newer: bool) -> Any:
    """Connectors of one layer to contexts for video and audio."""
    from diffusers.pipelines.ltx2 import LTX2TextConnectors

    config: dict[str, Any] = dict(caption_channels=TEXT_WIDTH, text_proj_in_factor=LAYERS + 1)
    for kind in ("video", "audio"):
        config |= {
            f"{kind}_connector_num_attention_heads": 2,
            f"{kind}_connector_attention_head_dim": 16,
            f"{kind}_connector_num_layers": 1,
            f"{kind}_connector_num_learnable_registers": REGISTERS,
            f"{kind}_gated_attn": newer,
            f"{kind}_hidden_dim": 32,
        }
    config |= dict(rope_type="split", per_modality_projections=newer, proj_bias=newer)
    return seeded(lambda: LTX2TextConnectors(**config), scale=4.0)


def transformer(*, newer: bool) -> Any:
    """A transformer of two blocks over eight channels of video and sixteen of audio."""
    from diffusers import LTX2VideoTransformer3DModel

    config: dict[str, Any] = dict(
        in_channels=8, out_channels=8, num_attention_heads=2, attention_head_dim=16,
        cross_attention_dim=32, audio_in_channels=BINS, audio_out_channels=BINS,
        audio_num_attention_heads=2, audio_attention_head_dim=16, audio_cross_attention_dim=32,
        num_layers=2, caption_channels=TEXT_WIDTH, rope_type="split",
    )  # fmt: skip
    for name in ("gated_attn", "cross_attn_mod", "audio_gated_attn", "audio_cross_attn_mod"):
        config[name] = newer
    config |= dict(use_prompt_embeddings=not newer, perturbed_attn=newer)
    return seeded(lambda: LTX2VideoTransformer3DModel(**config), scale=3.0)


def vae(**changes: Any) -> Any:
    """A video VAE: 8 channels, 8× in time, 32× in space."""
    from diffusers import AutoencoderKLLTX2Video

    config = dict(
        latent_channels=8, block_out_channels=(8, 8, 16, 16), layers_per_block=(1, 1, 1, 1, 1),
        decoder_block_out_channels=(8, 16, 32), decoder_layers_per_block=(1, 1, 1, 1),
        spatial_compression_ratio=32, temporal_compression_ratio=8,
    )  # fmt: skip
    made = seeded(lambda: AutoencoderKLLTX2Video(**{**config, **changes}), scale=1.5)
    return with_statistics(made)


def audio_vae() -> Any:
    """An audio VAE: 4 channels, 4× in time, 4× along the spectrum."""
    from diffusers import AutoencoderKLLTX2Audio

    config = dict(base_channels=BINS, latent_channels=4, num_res_blocks=1, mel_bins=BINS)
    return with_statistics(seeded(lambda: AutoencoderKLLTX2Audio(**config), scale=1.5))


def with_statistics(model: Any) -> Any:
    """Give a VAE means and deviations that matter."""
    count = len(model.latents_mean)
    model.latents_mean.copy_(torch.linspace(-0.3, 0.2, count))
    model.latents_std.copy_(torch.linspace(1.4, 2.1, count))
    return model


def vocoder(*, newer: bool) -> Any:
    """A vocoder to 24 kHz; the newer one widens 16 kHz to 48 kHz."""
    from diffusers.pipelines.ltx2 import LTX2Vocoder, LTX2VocoderWithBWE

    channels = dict(in_channels=2 * BINS, hidden_channels=64)
    if not newer:
        return seeded(lambda: LTX2Vocoder(**channels), scale=2.0)
    wider = dict(bwe_in_channels=2 * BINS, bwe_hidden_channels=64, num_mel_channels=BINS)
    made = seeded(lambda: LTX2VocoderWithBWE(**channels, **wider), scale=1.2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        for basis in (made.mel_stft.mel_basis, made.mel_stft.stft_fn.forward_basis):
            basis.copy_(torch.rand_like(basis) / basis.shape[-1])
    return made


def made(model: Path, request: Request, pictures: list[Image.Image]) -> Any:
    """What the vanilla pipeline makes: of text alone its own, with a picture the one for those."""
    from diffusers import LTX2ImageToVideoPipeline

    pipe: Any = pipeline(model)
    call = {k: v for k, v in request.items() if k != "seed"}
    if pictures:
        pipe = LTX2ImageToVideoPipeline(**pipe.components)
        pipe.set_progress_bar_config(disable=True)
        call["image"] = pictures[0]
    generator = torch.Generator().manual_seed(request["seed"])
    return pipe(**call, generator=generator, output_type="np")


def reference(model: Path, request: Request, pictures: list[Image.Image]) -> Pixels:
    """Its frames."""
    return pixels(made(model, request, pictures))


CASES = (
    dict(prompt=SHORT, negative_prompt="blue", guidance_scale=4.0, stg_scale=1.0,
         modality_scale=3.0, guidance_rescale=0.7, audio_guidance_scale=7.0,
         audio_stg_scale=0.5, audio_modality_scale=2.0, audio_guidance_rescale=0.5,
         height=64, width=160, num_frames=9),
    dict(prompt=LONG, guidance_scale=1.0, stg_scale=0.0, modality_scale=1.0, guidance_rescale=0.0,
         audio_guidance_scale=1.0, audio_stg_scale=0.0, audio_modality_scale=1.0,
         audio_guidance_rescale=0.0, height=128, width=64, num_frames=17, fps=30),
)  # fmt: skip
COMMON = dict(spatio_temporal_guidance_blocks=[1], max_sequence_length=64)
SHOWN = (CASES[0], dict(CASES[1], image_crf=0))
NEWER = partial(checkpoint, newer=True)
SAID: dict[str, Any] = dict(common=COMMON, renamed={"fps": "frame_rate"}, reference=reference)
ROWS = (
    Row("ltx2", checkpoint, CASES, **SAID),
    Row("ltx2", checkpoint, SHOWN, pictures=1, label="picture", **SAID),
    Row("ltx2_3", NEWER, CASES, **SAID),
    Row("ltx2_3", NEWER, SHOWN, pictures=1, label="picture", **SAID),
)
