"""Wan: its transformer, and the first and last frame as latents and as tokens.

Source of all here: Wan report, arXiv:2503.20314, section 5.1; diffusers 0.42,
pipelines/wan/pipeline_wan_i2v.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar, NamedTuple

import torch
from PIL import Image as Pillow
from torch import Tensor

from nodes.contracts import VAE, ImageEncoder, ImageProcessor, Transformer
from nodes.image import resized
from nodes.prediction import Prediction
from nodes.vae import encode_video, normalise
from runtime.contract.calls import Asking, Call
from runtime.contract.declare import Component
from runtime.contract.denoising import Denoiser
from runtime.contract.values import Image, Latents, TextEmbeds
from runtime.errors import UserError
from runtime.files.image_files import to_numpy


@dataclass(frozen=True, kw_only=True)
class EncodePictures:
    """Encode the first picture of a clip, and the last for a network made for both, as tokens.

    image, last_image  h w 3, uint8, any size
    tokens             tokens 1 l d: hidden states before the vision encoder's last layer
    """

    image_encoder: Component[ImageEncoder]
    image_processor: Component[ImageProcessor]
    transformer: Component[Transformer]

    class Out(NamedTuple):
        tokens: TextEmbeds

    def run(self, *, image: Image, last_image: Image | None = None) -> Asking[Out]:
        """Ask for one forward of the encoder."""
        self.verify(last_image=last_image)
        images = [image] if last_image is None else [image, last_image]
        pictures = [Pillow.fromarray(to_numpy(i.pixels)) for i in images]
        pixels = self.image_processor(images=pictures, return_tensors="pt").pixel_values
        ((states,),) = yield [Call(self.image_encoder, states_before_last, {"pixels": pixels})]
        return self.Out(TextEmbeds(states.flatten(0, 1)[None]))

    def estimate(self, *, last_image: Image | None) -> int:
        """Bytes of the hidden states; the encoder's own working set is not known here."""
        config = self.image_encoder.config
        tokens = (config.image_size // config.patch_size) ** 2 + 1
        return int(4 * tokens * config.hidden_size * (1 if last_image is None else 2))

    def verify(self, *, last_image: Image | None) -> None:
        """Refuse a number of pictures for which the network was not made."""
        both = self.transformer.config.pos_embed_seq_len is not None
        if both and last_image is None:
            raise UserError(
                "`request.last_image` is required: this checkpoint needs two pictures",
                help="add `request.last_image=FILE`", field="request.last_image",
            )  # fmt: skip
        if last_image is not None and not both:
            raise UserError(
                "`request.last_image` cannot be given: this checkpoint takes a first picture only",
                help="leave `request.last_image` out, or take a first-and-last-frame checkpoint",
                field="request.last_image",
            )


@dataclass(frozen=True, kw_only=True)
class EncodeCondition:
    """Encode the first and last frame as the condition: mask and latents of a grey clip.

    image, last_image  h w 3, uint8, stretched to height x width
    height, width      px
    num_frames         frames, 1 plus a multiple of the VAE's scale in time
    latents            `video`: 1 (s + c) t h w, float32: s frames per latent frame, 1 where known,
                       then the latents of the clip, grey where it is not known
    """

    vae: Component[VAE]

    class Out(NamedTuple):
        latents: Latents

    def run(
        self,
        *,
        image: Image,
        height: int,
        width: int,
        num_frames: int,
        last_image: Image | None = None,
    ) -> Asking[Out]:
        """Ask for one encoding."""
        self.verify(num_frames=num_frames, last_image=last_image)
        batched = {"first": resized(image.pixels, height, width)[None]}
        if last_image is not None:
            batched["last"] = resized(last_image.pixels, height, width)[None]
        shared = {"num_frames": num_frames}
        ((latents,),) = yield [Call(self.vae, encode_ends, batched, shared)]
        return self.Out(Latents({"video": latents}))

    def verify(self, *, num_frames: int, last_image: Image | None) -> None:
        """Refuse a last picture for a clip of one frame."""
        if last_image is not None and num_frames < 2:
            raise UserError(
                f"`request.num_frames` is {num_frames}: a clip with `request.last_image` needs a"
                " last frame",
                help="the smallest that fits is 5", field="request.num_frames",
            )  # fmt: skip

    def estimate(self, *, height: int, width: int, num_frames: int) -> int:
        """Bytes of the clip's pixels and of the result."""
        config = self.vae.config
        step, side = config.scale_factor_temporal, config.scale_factor_spatial
        size = (num_frames - 1) // step + 1, height // side, width // side
        values = 3 * num_frames * height * width + (step + config.z_dim) * prod(size)
        return int(4 * values)


@dataclass(frozen=True, kw_only=True)
class FirstFrame:
    """Encode the picture that a clip begins with.

    image          h w 3, uint8, stretched to height x width; none: latents without parts
    height, width  px
    latents        `video`: 1 c 1 h w, float32
    """

    vae: Component[VAE]

    class Out(NamedTuple):
        latents: Latents

    def run(self, *, height: int, width: int, image: Image | None = None) -> Asking[Out]:
        """Ask for one encoding."""
        if image is None:
            return self.Out(Latents({}))
        frames = resized(image.pixels, height, width)[None, None]
        ((latents,),) = yield [Call(self.vae, encode_video, {"frames": frames})]
        return self.Out(Latents({"video": latents}))


@dataclass(frozen=True, kw_only=True)
class TokenwiseDenoiser:
    """Bind a prompt to a Wan transformer with a timestep per token.

    text      tokens 1 l d
    first     `video`: 1 c 1 h w, noiseless, stays the first frame; no part: none is known
    denoiser  predicts the velocity of `video`, b c t h w, in the transformer's dtype
    """

    transformer: Component[Transformer]

    class Out(NamedTuple):
        denoiser: Denoiser

    def run(self, *, text: TextEmbeds, first: Latents | None = None) -> Out:
        """Bind; no weight is touched."""
        known = first.parts.get("video") if first else None
        bound = {"text": text.tokens, "first": known}
        return self.Out(Prediction(self.transformer, tokenwise_velocity, bound, "video"))


@dataclass(frozen=True, kw_only=True)
class RestoreFirstFrame:
    """Put the given first frame back, which the scheduler has changed.

    latents  `video`: 1 c t h w
    first    `video`: 1 c 1 h w; no part: the latents stay as they are
    """

    sized: ClassVar[tuple[str, ...]] = ("latents",)

    class Out(NamedTuple):
        latents: Latents

    def run(self, *, latents: Latents, first: Latents) -> Out:
        """Replace the frame."""
        video = with_first_frame(latents.parts["video"], first.parts.get("video"))
        return self.Out(Latents({**latents.parts, "video": video}))


def tokenwise_velocity(
    net: Transformer,
    *,
    latents: Tensor,
    timestep: Tensor,
    text: Tensor,
    first: Tensor | None = None,
) -> tuple[Tensor]:
    """As `wan_velocity`, a timestep per token: 0 where first, b c 1 h w, is known."""
    b, _, t, rows, columns = latents.shape
    _, height, width = net.config.patch_size
    noisy = torch.ones(b, t, (rows // height) * (columns // width), device=latents.device)
    if first is not None:
        noisy[:, 0] = 0
    moments = (noisy * timestep.view(-1, 1, 1)).flatten(1)
    return wan_velocity(net, latents=with_first_frame(latents, first), timestep=moments, text=text)


def with_first_frame(video: Tensor, first: Tensor | None) -> Tensor:
    """Latents b c t h w with their first frame replaced by what is known of it, 1 c 1 h w."""
    if first is None:
        return video
    return torch.cat([first.to(video).expand(len(video), -1, -1, -1, -1), video[:, :, 1:]], dim=2)


def states_before_last(net: Any, pixels: Tensor) -> tuple[Tensor]:
    """Pixels b 3 h w, normalised, to hidden states b l d before the last layer."""
    return (net(pixel_values=pixels, output_hidden_states=True).hidden_states[-2],)


def encode_ends(
    vae: VAE, first: Tensor, last: Tensor | None = None, *, num_frames: int
) -> tuple[Tensor]:
    """First and last frames b h w 3, uint8, to mask and latents b (s + c) t h w, float32."""
    b, height, width, _ = first.shape
    clip = torch.zeros(b, 3, num_frames, height, width, device=first.device)
    step = vae.config.scale_factor_temporal
    clip[:, :, 0] = signed(first)
    if last is not None:
        clip[:, :, -1] = signed(last)
    latents = vae.encode(clip.to(vae.dtype)).latent_dist.mode().float()
    mask = latents.new_zeros(b, step, *latents.shape[2:])
    mask[:, :, 0] = 1
    if last is not None:
        mask[:, -1, -1] = 1
    return (torch.cat([mask, normalise(latents, vae.config)], dim=1),)


def signed(pixels: Tensor) -> Tensor:
    """Pixels b h w 3, uint8, to b 3 h w in [-1, 1]."""
    return (2 * (pixels.float() / 255) - 1).permute(0, 3, 1, 2)


@dataclass(frozen=True, kw_only=True)
class WanDenoiser:
    """Bind a prompt, and a picture where there is one, to a Wan transformer.

    text       tokens 1 l d
    condition  `video`: 1 c t h w, beside the latents on the channels
    picture    tokens 1 l d, of a vision encoder: attended to beside the text
    denoiser   predicts the velocity of `video`, b c t h w, in the transformer's dtype

    Source: Wan report, arXiv:2503.20314; diffusers 0.42, pipelines/wan/pipeline_wan.py and
    pipeline_wan_i2v.py.
    """

    transformer: Component[Transformer]

    class Out(NamedTuple):
        denoiser: Denoiser

    def run(
        self,
        *,
        text: TextEmbeds,
        condition: Latents | None = None,
        picture: TextEmbeds | None = None,
    ) -> Out:
        """Bind; no weight is touched."""
        bound = {
            "text": text.tokens,
            "condition": condition.parts["video"] if condition else None,
            "picture": picture.tokens if picture else None,
        }
        return self.Out(Prediction(self.transformer, wan_velocity, bound, "video"))


def wan_velocity(
    net: Transformer,
    *,
    latents: Tensor,
    timestep: Tensor,
    text: Tensor,
    condition: Tensor | None = None,
    picture: Tensor | None = None,
) -> tuple[Tensor]:
    """latents b c t h w, timestep b or b tokens, text b l d to velocity b c t h w.

    condition  b c t h w, more channels of the input
    picture    b l d; a network with places for two pictures takes the tokens of both
    """
    if condition is not None:
        latents = torch.cat([latents, condition], dim=1)
    if picture is not None:
        picture = picture.to(net.dtype)
        if net.config.pos_embed_seq_len is not None:  # it wants two pictures as two samples
            picture = picture.reshape(-1, picture.shape[1] // 2, picture.shape[2])
    output = net(
        hidden_states=latents.to(net.dtype),
        timestep=timestep,
        encoder_hidden_states=text.to(net.dtype),
        encoder_hidden_states_image=picture,
        return_dict=False,
    )
    return (output[0],)
