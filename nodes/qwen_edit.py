"""Qwen-Image-Edit: pictures that the language model reads with the prompt, and the VAE as well.

Source: Qwen-Image report, arXiv:2508.02324; diffusers 0.42, pipelines/qwenimage/.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod, sqrt
from typing import Any, NamedTuple

import torch
from PIL import Image as Pillow
from torch import Tensor

from nodes.contracts import VAE, ImageProcessor, TextEncoder, Tokenizer
from nodes.image import resized
from runtime.contract.calls import Asking, Call
from runtime.contract.declare import Component
from runtime.contract.values import Image, Latents, TextEmbeds
from runtime.errors import UserError
from runtime.files.image_files import to_numpy

EDIT = (
    "<|im_start|>system\nDescribe the key features of the input image (color, shape, size, texture,"
    " objects, background), then explain how the user's text instruction should alter or modify the"
    " image. Generate a new image that meets the user's requirements while maintaining consistency"
    " with the original input where appropriate.<|im_end|>\n"
    "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
)
EDIT_TOKENS = 64  # of the template before the user's turn: their hidden states are dropped
IMAGE_TOKEN = "<|image_pad|>"  # stands for one token of a picture
MULTIPLE = 32  # px of the sizes that pictures are resized to
MOST_RATIO = 200  # of a picture's sides, for the language model
POSITIONS = 4096 - 256  # of text that the transformer can count, after those of its pictures


@dataclass(frozen=True, kw_only=True)
class ResizeToArea:
    """Resize pictures to an area of about `side` × `side`, each in its own shape.

    side    px
    images  in: h w 3, uint8, any sizes; out: sizes in multiples of 32 px
    """

    side: int

    class Out(NamedTuple):
        images: tuple[Image, ...]

    def run(self, *, images: Image | tuple[Image, ...]) -> Out:
        """Resize by Lanczos."""
        given = images if isinstance(images, tuple) else (images,)
        if not given:
            raise UserError(
                "`request.image_path` is empty", help="give a picture", field="request.image_path"
            )
        return self.Out(tuple(Image(fitted(image.pixels, self.side)) for image in given))


@dataclass(frozen=True, kw_only=True)
class OutputSize:
    """Choose the size of the result: that of the request, else the shape of the last picture.

    images         as resized
    height, width  px; those of the last picture where the request gives none
    """

    class Out(NamedTuple):
        height: int
        width: int

    def run(
        self, *, images: tuple[Image, ...], height: int | None = None, width: int | None = None
    ) -> Out:
        """Complete each side alone, as the reference does."""
        rows, columns = images[-1].pixels.shape[:2]
        return self.Out(rows if height is None else height, columns if width is None else width)


@dataclass(frozen=True, kw_only=True)
class EncodeInstruction:
    """Encode a prompt together with its input pictures.

    numbered   the pictures are called `Picture 1` and so on
    positions  whether the language model numbers the tokens of a picture by row and column, as in
               its training. Off by default, because diffusers with transformers 5 does not
               (github.com/huggingface/diffusers/issues/14194), and results must equal those
    text       never truncated
    images     h w 3, uint8
    embeds     tokens 1 l d, pictures and prompt; no padding, so no mask
    """

    text_encoder: Component[TextEncoder]
    tokenizer: Component[Tokenizer]
    processor: Component[ImageProcessor]
    numbered: bool = False
    positions: bool = False

    class Out(NamedTuple):
        embeds: TextEmbeds

    def run(self, *, text: str, images: tuple[Image, ...]) -> Asking[Out]:
        """Ask for one forward of the encoder."""
        pixels, grid, places = seen(self.processor, images)
        names = [f"Picture {i}: " if self.numbered else "" for i in range(1, len(images) + 1)]
        placeholders = "".join(name + place for name, place in zip(names, places, strict=True))
        ids = self.tokenizer([EDIT.format(placeholders + text)], return_tensors="pt").input_ids
        length = ids.shape[1] - EDIT_TOKENS
        if length > POSITIONS:
            raise UserError(
                f"`request.prompt` and the pictures have {length} tokens; the model reads at most"
                f" {POSITIONS}",
                help="shorten the prompt, or give fewer pictures", field="request.prompt",
            )  # fmt: skip
        batched = {"ids": ids, "pixels": pixels[None]}
        shared = {"grid": grid, "positions": self.positions}
        ((states,),) = yield [Call(self.text_encoder, seeing_states, batched, shared)]
        return self.Out(TextEmbeds(states[:, EDIT_TOKENS:]))


@dataclass(frozen=True, kw_only=True)
class EncodePictures:
    """Encode pictures to normalised latents: the mode of what the encoder predicts.

    images   8h 8w 3, uint8 (factor as the VAE's config states it)
    latents  `0`, `1` and so on: 1 c h w each, zero mean and unit variance per channel
    """

    vae: Component[VAE]

    class Out(NamedTuple):
        latents: Latents

    def run(self, *, images: tuple[Image, ...]) -> Asking[Out]:
        """Ask for one encoding per picture."""
        encoded = yield [
            Call(self.vae, encode_pictures, {"pixels": i.pixels[None]}) for i in images
        ]
        return self.Out(Latents({str(i): latents for i, (latents,) in enumerate(encoded)}))


def fitted(pixels: Tensor, side: int) -> Tensor:
    """Pixels `h w 3` at the area of `side` × `side`; the ratio is kept up to whole multiples."""
    rows, columns = pixels.shape[:2]
    if max(rows, columns) > MOST_RATIO * min(rows, columns):
        raise UserError(
            f"`request.image_path` expects a picture with sides of at most {MOST_RATIO} to 1, "
            f"got {columns} x {rows}",
            help="cut the picture",
            field="request.image_path",
        )
    ratio = columns / rows
    width = sqrt(side * side * ratio)
    height = width / ratio
    return resized(pixels, round(height / MULTIPLE) * MULTIPLE, round(width / MULTIPLE) * MULTIPLE)


def seen(
    processor: Any, images: tuple[Image, ...]
) -> tuple[Tensor, tuple[tuple[int, ...], ...], list[str]]:
    """Pictures as the language model takes them: patches l d, grids, and placeholder tokens.

    processor  an image processor, or one around it
    """
    processor = getattr(processor, "image_processor", processor)
    read = processor([Pillow.fromarray(to_numpy(i.pixels)) for i in images], return_tensors="pt")
    grids = tuple(tuple(int(n) for n in grid) for grid in read["image_grid_thw"])
    counts = [prod(grid) // processor.merge_size**2 for grid in grids]
    return (
        read["pixel_values"],
        grids,
        [f"<|vision_start|>{IMAGE_TOKEN * n}<|vision_end|>" for n in counts],
    )


def seeing_states(
    net: Any, ids: Tensor, pixels: Tensor, *, grid: tuple[tuple[int, ...], ...], positions: bool
) -> tuple[Tensor]:
    """Token ids `b l` and patches `b p d` to the last hidden states `b l d`."""
    kinds = {"mm_token_type_ids": (ids == net.config.image_token_id).int()} if positions else {}
    output = net.model(
        input_ids=ids,
        pixel_values=pixels.flatten(0, 1),
        image_grid_thw=torch.tensor(grid * len(ids), device=ids.device),
        use_cache=False,
        **kinds,
    )
    return (output.last_hidden_state.to(net.dtype),)


def encode_pictures(vae: VAE, pixels: Tensor) -> tuple[Tensor]:
    """Pixels `b h w 3`, uint8, to latents `b c h w` in the VAE's dtype."""
    frames = (2 * (pixels.float() / 255) - 1).permute(0, 3, 1, 2).unsqueeze(2)
    latents = vae.encode(frames.to(vae.dtype)).latent_dist.mode()
    mean, deviation = (
        torch.tensor(values).view(1, -1, 1, 1, 1).to(latents)
        for values in (vae.config.latents_mean, vae.config.latents_std)
    )
    return (((latents - mean) / deviation)[:, :, 0],)
