"""The three networks, at the sizes of the demo: 0.86 M, 0.19 M and 2.87 M parameters."""

from __future__ import annotations

from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from transformers import UMT5Config, UMT5EncoderModel

TRAINED_CHANNELS = 16  # of the VAE's latents while it trains
CHANNELS = 8  # of the latents after the fold


def make_vae(channels: int) -> AutoencoderKLWan:
    """A VAE that is 8 times smaller in space and 4 times in time."""
    return AutoencoderKLWan(
        base_dim=16, decoder_base_dim=20, z_dim=channels, dim_mult=[1, 2, 2], num_res_blocks=1,
        temperal_downsample=[True, True], patch_size=2, in_channels=12, out_channels=12,
        scale_factor_temporal=4, scale_factor_spatial=8,
        latents_mean=[0.0] * channels, latents_std=[1.0] * channels,
    )  # fmt: skip


def make_text_encoder(words: int) -> UMT5EncoderModel:
    """A two-layer text encoder for a vocabulary of so many words."""
    return UMT5EncoderModel(
        UMT5Config(
            vocab_size=words, d_model=96, d_kv=32, num_heads=3, d_ff=192, num_layers=2,
            dropout_rate=0.0, pad_token_id=0, eos_token_id=1, decoder_start_token_id=0,
        )
    )  # fmt: skip


def make_transformer() -> WanTransformer3DModel:
    """A five-layer transformer: 16 tokens per latent frame at 128x128."""
    return WanTransformer3DModel(
        patch_size=(1, 4, 4), num_attention_heads=4, attention_head_dim=48, in_channels=CHANNELS,
        out_channels=CHANNELS, text_dim=96, freq_dim=128, ffn_dim=512, num_layers=5,
        cross_attn_norm=True, rope_max_seq_len=64,
    )  # fmt: skip
