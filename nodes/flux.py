"""FLUX.1: its transformer with a prompt, an embedded guidance and a reference picture bound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from nodes.contracts import Transformer
from nodes.latents import pack, unpack
from nodes.prediction import Prediction, to_unit
from runtime.contract.declare import Component
from runtime.contract.denoising import Denoiser
from runtime.contract.values import Latents, TextEmbeds

NOT_EMBEDDED = "this checkpoint takes no guidance as an input of its transformer"


@dataclass(frozen=True, kw_only=True)
class FluxDenoiser:
    """Bind a prompt and an embedded guidance to a FLUX.1 transformer.

    text       tokens 1 l d, of T5
    pooled     pooled 1 d, of CLIP
    guidance   embedded in a checkpoint that was distilled with guidance; else no effect
    reference  `image`: 1 c h w, even h and w: the input picture of Kontext; may have no parts
    denoiser   predicts the velocity of `image`, b c h w with even h and w

    Source: diffusers 0.42, pipelines/flux/pipeline_flux.py and pipeline_flux_kontext.py.
    """

    transformer: Component[Transformer]

    class Out(NamedTuple):
        denoiser: Denoiser

    def ignores(self) -> dict[str, str]:
        """A checkpoint that was not distilled with guidance has no input for it."""
        embedded = self.transformer.config.guidance_embeds
        return {} if embedded else {"guidance": NOT_EMBEDDED}

    def run(
        self,
        *,
        text: TextEmbeds,
        pooled: TextEmbeds,
        guidance: float = 3.5,
        reference: Latents | None = None,
    ) -> Out:
        """Bind; no weight is touched."""
        embedded = self.transformer.config.guidance_embeds
        bound = {
            "text": text.tokens,
            "pooled": pooled.pooled,
            "guidance": torch.full([1], guidance, dtype=torch.float32) if embedded else None,
            "reference": reference.parts.get("image") if reference else None,
        }
        return self.Out(Prediction(self.transformer, flux_velocity, bound))


def flux_velocity(
    net: Transformer,
    *,
    latents: Tensor,
    timestep: Tensor,
    text: Tensor,
    pooled: Tensor,
    guidance: Tensor | None = None,
    reference: Tensor | None = None,
) -> tuple[Tensor]:
    """latents b c h w, timestep b, text b l d, pooled b d, guidance b to velocity b c h w.

    reference  b c h w of its own size: its tokens follow, and their velocity is left out
    """
    rows, columns = latents.shape[-2:]
    tokens = pack(latents.to(net.dtype))
    places, count = positions(rows // 2, columns // 2, tokens), tokens.shape[1]
    if reference is not None:
        height, width = reference.shape[-2:]
        tokens = torch.cat([tokens, pack(reference.to(net.dtype))], dim=1)
        places = torch.cat([places, positions(height // 2, width // 2, tokens, image=1)])
    output = net(
        hidden_states=tokens,
        timestep=to_unit(timestep, latents),
        guidance=guidance,
        pooled_projections=pooled.to(net.dtype),
        encoder_hidden_states=text.to(net.dtype),
        txt_ids=tokens.new_zeros(text.shape[1], 3),
        img_ids=places,
        return_dict=False,
    )
    return (unpack(output[0][:, :count], rows, columns),)


def positions(rows: int, columns: int, like: Tensor, image: int = 0) -> Tensor:
    """Where each packed token is: (rows columns) 3, as image, row, column; in dtype of `like`."""
    row = torch.arange(rows, device=like.device, dtype=like.dtype)
    column = torch.arange(columns, device=like.device, dtype=like.dtype)
    grid = torch.stack(torch.meshgrid(row, column, indexing="ij"), dim=-1).reshape(-1, 2)
    return torch.cat([torch.full_like(grid[:, :1], image), grid], dim=1)
