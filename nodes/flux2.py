"""FLUX.2: text from several layers of a language model, patched latents, reference pictures.

Source of all here: github.com/black-forest-labs/flux2; diffusers 0.42, pipelines/flux2.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor

from nodes.contracts import VAE, Scheduler, TextEncoder, Tokenizer, Transformer
from nodes.finite import decode, is_finite
from nodes.flux import NOT_EMBEDDED
from nodes.image import resized
from nodes.latents import image_size, pack, spatial_scale, unpack
from nodes.prediction import Prediction, to_unit
from nodes.schedule import TYPICAL_MU, evenly_spaced
from nodes.truncation import Notes, token_truncation
from nodes.vae import to_bytes
from runtime.contract.calls import Asking, Call
from runtime.contract.declare import Component
from runtime.contract.denoising import Denoiser, Schedule
from runtime.contract.values import Image, Latents, TextEmbeds
from runtime.errors import UserError

MAX_AREA, MIN_SIDE, MAX_RATIO = 1024 * 1024, 64, 8  # of a reference, px; longer to shorter side
BETWEEN_PICTURES = 10  # steps of the first position between the picture and each reference


class PatchVAE(VAE, Protocol):
    """A VAE whose patches of 2×2 latent pixels are normalised by the statistics in `bn`."""

    bn: Any


@dataclass(frozen=True, kw_only=True)
class EncodeLayers:
    """Encode a prompt as a chat: hidden states of several layers, side by side.

    layers               which; 0 is the embeddings
    system               message before the prompt; without one the chat begins with the prompt,
                         and an empty thought precedes the reply
    text                 truncated with its template after `max_sequence_length` tokens
    max_sequence_length  l, tokens; padded on the side that the tokenizer states
    embeds               tokens 1 l (layers d); no mask: the transformer attends to the padding
    """

    text_encoder: Component[TextEncoder]
    tokenizer: Component[Tokenizer]
    layers: tuple[int, ...]
    system: str | None = None

    class Out(NamedTuple):
        embeds: TextEmbeds

    def run(self, *, text: str = "", max_sequence_length: int = 512) -> Asking[Out]:
        """Ask for one forward of the encoder."""
        tokens = chat_tokens(self.tokenizer, text, self.system, max_sequence_length)
        batched = {"ids": tokens["input_ids"], "mask": tokens["attention_mask"]}
        shared = {"layers": tuple(self.layers)}
        ((states,),) = yield [Call(self.text_encoder, layered_states, batched, shared)]
        return self.Out(TextEmbeds(states))

    def notes(self, *, text: str, max_sequence_length: int) -> Notes:
        """A note on the words that are truncated."""

        def ids(text: str) -> list[int]:
            found = chat_tokens(self.tokenizer, text, self.system, None)["input_ids"][0]
            return [int(token) for token in found]

        read = ids(text)[:max_sequence_length]
        return {
            "text": token_truncation(self.tokenizer, self.text_encoder, ids(text), read, ids(""))
        }

    def estimate(self, *, max_sequence_length: int) -> int:
        """Bytes of the hidden states, at most; the encoder's own working set is not known here."""
        config = self.text_encoder.config
        width = getattr(config, "text_config", config)["hidden_size"]
        return 4 * max_sequence_length * len(self.layers) * int(width)


@dataclass(frozen=True, kw_only=True)
class Flux2Denoiser:
    """Bind a prompt, and a guidance where one is embedded, to a FLUX.2 transformer.

    text        tokens 1 l d
    guidance    no effect on a checkpoint that was not distilled with guidance
    references  reference pictures, 1 c h w each, of any size, in order
    denoiser    predicts the velocity of `image`, b c h w, in patches
    """

    transformer: Component[Transformer]

    class Out(NamedTuple):
        denoiser: Denoiser

    def ignores(self) -> dict[str, str]:
        """A checkpoint that was not distilled with guidance has no input for it."""
        embedded = getattr(self.transformer.config, "guidance_embeds", True)
        return {} if embedded else {"guidance": NOT_EMBEDDED}

    def run(
        self,
        *,
        text: TextEmbeds,
        guidance: float | None = None,
        references: Latents | None = None,
    ) -> Out:
        """Bind; no weight is touched."""
        bound: dict[str, Any] = {"text": text.tokens, **(references.parts if references else {})}
        if guidance is not None:
            bound["guidance"] = torch.full([1], guidance, dtype=torch.float32)
        return self.Out(Prediction(self.transformer, flux2_velocity, bound))


@dataclass(frozen=True, kw_only=True)
class PictureSize:
    """Choose the size of the result: that of the request, else that of the first reference.

    side           px of both sides where there is no reference either
    height, width  px
    """

    vae: Component[VAE]
    side: int

    class Out(NamedTuple):
        height: int
        width: int

    def run(
        self,
        *,
        images: tuple[Image, ...] = (),
        height: int | None = None,
        width: int | None = None,
    ) -> Out:
        like = self.side, self.side
        if images:
            like = cropped_size(*reduced_size(images[0]), self.vae.config)
        return self.Out(height or like[0], width or like[1])

    def estimate(self, *, images: tuple[Image, ...]) -> int:
        """No bytes; an invalid reference is refused here, before anything is loaded."""
        for image in images:
            reduced_size(image)
        return 0


@dataclass(frozen=True, kw_only=True)
class EncodeReferences:
    """Encode pictures, each at its own size: shrunk to 1024² px, cropped to whole patches.

    images   64 px and more a side, at most 8 times as long as wide
    latents  `reference_0` and so on: 1 c h w, normalised patches, in the VAE's dtype
    """

    vae: Component[PatchVAE]

    class Out(NamedTuple):
        latents: Latents

    def run(self, *, images: tuple[Image, ...] = ()) -> Asking[Out]:
        """Ask for one encoding per picture."""
        pixels = [fitted_picture(image, self.vae.config)[None] for image in images]
        answers = yield [Call(self.vae, encode_patches, {"pixels": p}) for p in pixels]
        return self.Out(Latents({f"reference_{i}": x for i, (x,) in enumerate(answers)}))


@dataclass(frozen=True, kw_only=True)
class DecodePatches:
    """Decode normalised patches to an RGB picture.

    latents  `image`: 1 c h w
    image    16h 16w 3, uint8 (twice the factor that the VAE's config states)
    """

    vae: Component[PatchVAE]
    sized: ClassVar[tuple[str, ...]] = ("latents",)

    class Out(NamedTuple):
        image: Image

    def run(self, *, latents: Latents) -> Asking[Out]:
        """Ask for one decoding."""
        batched = {"latents": latents.parts["image"]}
        pictures = yield from decode(self.vae, decode_patches, batched)
        return self.Out(Image(pictures[0]))


@dataclass(frozen=True, kw_only=True)
class ShiftByTokensAndSteps:
    """Space sigmas evenly, shifted by the number of tokens and of steps.

    steps          number of steps
    height, width  px
    """

    scheduler: Component[Scheduler]
    vae: Component[VAE]

    class Out(NamedTuple):
        schedule: Schedule

    def run(self, *, steps: int, height: int, width: int) -> Out:
        """Set the timesteps on a new scheduler, so that the component does not change."""
        rows, columns = image_size(self.vae.config, 2, height, width)
        mu = empirical_mu(rows // 2 * (columns // 2), steps)
        return self.Out(evenly_spaced(self.scheduler, steps, mu))

    def verify(self, *, steps: int | None = None, **_: Any) -> None:
        """Refuse a scheduler that cannot make these steps; the size changes only the shift."""
        if steps is not None:
            evenly_spaced(self.scheduler, steps, TYPICAL_MU)


def chat_tokens(tokenizer: Tokenizer, text: str, system: str | None, length: int | None) -> Any:
    """One chat to `input_ids` and `attention_mask`, 1 l, padded and cut to `length` tokens.

    length  None: as long as the chat is
    """
    if system is None:
        turns: list[Any] = [{"role": "user", "content": text}]
        reply: dict[str, Any] = {"add_generation_prompt": True, "enable_thinking": False}
    else:  # a vision-language model takes each message as a list of parts, with [IMG] for a picture
        messages = {"system": system, "user": text.replace("[IMG]", "")}
        turns = [{"role": r, "content": [{"type": "text", "text": t}]} for r, t in messages.items()]
        reply = {}
    return tokenizer.apply_chat_template(
        [turns],
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        padding=False if length is None else "max_length",
        truncation=length is not None,
        max_length=length,
        **reply,
    )


def layered_states(
    net: TextEncoder, ids: Tensor, mask: Tensor, layers: tuple[int, ...]
) -> tuple[Tensor]:
    """Token ids and mask `b l` to hidden states of layers side by side, `b l (layers d)`."""
    # Logits are not used; asking for those of the last token only saves memory.
    output = net(
        ids, attention_mask=mask, output_hidden_states=True, use_cache=False, logits_to_keep=1
    )
    return (torch.cat([output.hidden_states[k] for k in layers], dim=-1).to(net.dtype),)


def flux2_velocity(
    net: Transformer,
    *,
    latents: Tensor,
    timestep: Tensor,
    text: Tensor,
    guidance: Tensor | None = None,
    **references: Tensor,
) -> tuple[Tensor]:
    """latents, references b c h w, timestep b, text b l d, guidance b to velocity b c h w."""
    pictures = [latents, *references.values()]
    output = net(
        hidden_states=torch.cat([as_tokens(x.to(net.dtype)) for x in pictures], dim=1),
        timestep=to_unit(timestep, latents),
        guidance=guidance,
        encoder_hidden_states=text.to(net.dtype),
        txt_ids=positions(text, tokens=text.shape[1]),
        img_ids=torch.cat(
            [positions(x, BETWEEN_PICTURES * i, *x.shape[-2:]) for i, x in enumerate(pictures)]
        ),
        return_dict=False,
    )
    rows, columns = latents.shape[-2:]
    return (as_picture(output[0][:, : rows * columns], rows, columns),)


def positions(
    like: Tensor, picture: int = 0, rows: int = 1, columns: int = 1, tokens: int = 1
) -> Tensor:
    """Where each token is: (rows columns tokens) 4, int64, on the device of `like`."""
    axes = ((picture, picture + 1), (0, rows), (0, columns), (0, tokens))
    return torch.cartesian_prod(*(torch.arange(*axis, device=like.device) for axis in axes))


def as_tokens(latents: Tensor) -> Tensor:
    """b c h w to b (h w) c."""
    return latents.flatten(2).transpose(1, 2)


def as_picture(tokens: Tensor, rows: int, columns: int) -> Tensor:
    """b (h w) c to b c h w."""
    return tokens.transpose(1, 2).reshape(len(tokens), -1, rows, columns)


def encode_patches(vae: PatchVAE, pixels: Tensor) -> tuple[Tensor]:
    """Pixels `b h w 3`, uint8, to normalised patches `b c h w`."""
    signed = (2 * (pixels.float() / 255) - 1).permute(0, 3, 1, 2)
    latents = vae.encode(signed.to(vae.dtype)).latent_dist.mode()
    rows, columns = latents.shape[-2] // 2, latents.shape[-1] // 2
    patches = as_picture(pack(latents), rows, columns)
    mean, deviation = statistics(vae, patches)
    return ((patches - mean) / deviation,)


def decode_patches(vae: PatchVAE, latents: Tensor) -> tuple[Tensor, Tensor]:
    """Normalised patches `b c h w` to pixels `b h w 3`, uint8, and whether they are finite, b."""
    mean, deviation = statistics(vae, latents)
    rows, columns = latents.shape[-2:]
    plain = unpack(as_tokens(latents * deviation + mean), 2 * rows, 2 * columns)
    pixels = vae.decode(plain.to(vae.dtype), return_dict=False)[0]
    return to_bytes(pixels).permute(0, 2, 3, 1).contiguous(), is_finite(pixels)


def statistics(vae: PatchVAE, like: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each channel of a patch, 1 c 1 1, in the dtype of `like`."""
    mean = vae.bn.running_mean.view(1, -1, 1, 1)
    variance = vae.bn.running_var.view(1, -1, 1, 1)
    return mean.to(like.dtype), torch.sqrt(variance + vae.config.batch_norm_eps).to(like.dtype)


def fitted_picture(image: Image, config: Any) -> Tensor:
    """Pixels h w 3 of a reference: reduced, then the middle of it in whole patches."""
    rows, columns = reduced_size(image)
    pixels = image.pixels
    if (rows, columns) != tuple(pixels.shape[:2]):
        pixels = resized(pixels, rows, columns)
    height, width = cropped_size(rows, columns, config)
    top, left = (rows - height) // 2, (columns - width) // 2
    return pixels[top : top + height, left : left + width]


def reduced_size(image: Image) -> tuple[int, int]:
    """Rows and columns of a reference within `MAX_AREA`; a UserError where it is none."""
    rows, columns = image.pixels.shape[:2]
    long, short = max(rows, columns), min(rows, columns)
    if short < MIN_SIDE or long > MAX_RATIO * short:
        raise UserError(
            f"`request.image_path`: a reference has at least {MIN_SIDE} px a side and is at most"
            f" {MAX_RATIO} times as long as wide, got {columns} x {rows} px (width x height)",
            help=f"enlarge it to {MIN_SIDE} px" if short < MIN_SIDE else "crop it",
            field="request.image_path",
        )
    if rows * columns <= MAX_AREA:
        return rows, columns
    scale = sqrt(MAX_AREA / (rows * columns))
    return int(rows * scale), int(columns * scale)


def cropped_size(rows: int, columns: int, config: Any) -> tuple[int, int]:
    """The most whole patches in that size, px; config: of the VAE."""
    patch = 2 * spatial_scale(config)
    return rows // patch * patch, columns // patch * patch


def empirical_mu(tokens: int, steps: int) -> float:
    """mu interpolated between the line for 10 steps and the line for 200, over the tokens."""
    few, many = 8.73809524e-05 * tokens + 1.89833333, 0.00016927 * tokens + 0.45666666
    if tokens > 4300:
        return many
    slope = (many - few) / 190
    return slope * steps + (many - 200 * slope)
