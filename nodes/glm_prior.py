"""GLM-Image's language model: it samples a coarse picture as tokens, and encodes references."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple, Protocol

import torch
from PIL import Image as Pillow
from torch import Tensor

from nodes.contracts import VAE, ImageProcessor, TextEncoder
from nodes.image import resized
from nodes.vae import encode_image
from runtime.contract.calls import Asking, Call
from runtime.contract.declare import Component
from runtime.contract.rules import role
from runtime.contract.values import Image, Latents
from runtime.errors import UserError
from runtime.files.image_files import to_numpy

TOKEN = 16  # px per side of a token of the transformer


@role("processor")
class Processor(Protocol):
    """A processor of transformers: a chat to tokens, with grids of the pictures in it."""

    image_processor: ImageProcessor

    def apply_chat_template(self, chats: list[Any], **options: Any) -> Any: ...


@dataclass(frozen=True)
class Prior:
    """Pictures as tokens of the language model, one per token of the transformer.

    ids         b l  of the sampled picture
    references  b l  of each reference picture
    """

    ids: Annotated[Tensor, "b l"]
    references: tuple[Tensor, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PreparePictures:
    """Resize reference pictures for the language model, and encode them for the transformer.

    images   in: h w 3, uint8; out: resized where the two models would count different numbers of
             tokens (the reference fails there)
    latents  1 c h w of each, by its index

    Source: diffusers 0.42, pipelines/glm_image/pipeline_glm_image.py, as all of this file.
    """

    processor: Component[Processor]
    vae: Component[VAE]

    class Out(NamedTuple):
        images: tuple[Image, ...]
        latents: Latents

    def run(self, *, images: tuple[Image, ...] = ()) -> Asking[Out]:
        """Ask for one encoding of each picture."""
        fitted = tuple(Image(fit(self.processor, image.pixels)) for image in images)
        whole = [
            resized(i.pixels, *(x // TOKEN * TOKEN for x in i.pixels.shape[:2])) for i in fitted
        ]
        shared = {"scaled": False}
        asks = [Call(self.vae, encode_image, {"pixels": x[None]}, shared) for x in whole]
        encoded = (yield asks) if asks else []
        return self.Out(fitted, Latents({str(i): x for i, (x,) in enumerate(encoded)}))


@dataclass(frozen=True, kw_only=True)
class SamplePrior:
    """Sample the picture as tokens, one per 32 px; without references a small picture first.

    text           the prompt
    height, width  px
    seed           seeds the global generator, from which the model samples
    images         h w 3, uint8: reference pictures
    prior          each token as 2×2
    """

    processor: Component[Processor]
    vision_language_encoder: Component[TextEncoder]

    class Out(NamedTuple):
        prior: Prior

    def run(
        self, *, text: str, height: int, width: int, seed: int, images: tuple[Image, ...] = ()
    ) -> Asking[Out]:
        """Ask for one sequence of tokens, and for those of each picture."""
        content = [{"type": "image", "image": picture(image.pixels)} for image in images]
        inputs = self.processor.apply_chat_template(
            [[{"role": "user", "content": [*content, {"type": "text", "text": text}]}]],
            tokenize=True,
            padding=False,
            target_h=height,
            target_w=width,
            return_dict=True,
            return_tensors="pt",
        )
        grids = [(int(h), int(w)) for _, h, w in inputs["image_grid_thw"]]
        before = sum(h * w for h, w in grids[len(images) + 1 :])  # the small picture
        rows, columns = grids[len(images)]
        batched = {
            "ids": inputs["input_ids"],
            "mask": inputs["attention_mask"],
            "grids": inputs["image_grid_thw"][None],
        }
        if images:
            batched["patches"] = inputs["pixel_values"][None]
        shared = {"seed": seed, "count": before + rows * columns + 1, "references": len(images)}
        ((tokens, *references),) = yield [
            Call(self.vision_language_encoder, sample_tokens, batched, shared)
        ]
        prior = doubled(tokens[:, before : before + rows * columns], rows, columns)
        seen = (doubled(x, *grid) for x, grid in zip(references, grids, strict=False))
        return self.Out(Prior(prior, tuple(seen)))

    def estimate(self, *, height: int, width: int) -> int:
        """Bytes of the tokens."""
        return 8 * (height // 16) * (width // 16)


def fit(processor: Processor, pixels: Tensor) -> Tensor:
    """Pixels `h w 3`, uint8, resized where the two models would count different tokens."""
    try:
        seen = processor.image_processor(images=[picture(pixels)], return_tensors="pt")
    except ValueError as problem:
        raise UserError(
            f"`request.image_path`: {problem}", help="give a larger or less elongated picture",
            field="request.image_path",
        ) from problem  # fmt: skip
    size = tuple(2 * int(side) for side in seen["image_grid_thw"][0, 1:])
    if size == tuple(side // TOKEN for side in pixels.shape[:2]):
        return pixels
    return resized(pixels, size[0] * TOKEN, size[1] * TOKEN)


def picture(pixels: Tensor) -> Any:
    """Pixels `h w 3`, uint8, as a processor takes them."""
    return Pillow.fromarray(to_numpy(pixels))


def doubled(ids: Tensor, rows: int, columns: int) -> Tensor:
    """Ids `b (rows columns)`, each as 2×2."""
    grid = ids.view(-1, rows, columns)
    return grid.repeat_interleave(2, 1).repeat_interleave(2, 2).flatten(1)


def sample_tokens(
    net: Any,
    *,
    ids: Tensor,
    mask: Tensor,
    grids: Tensor,
    patches: Tensor | None = None,
    seed: int,
    count: int,
    references: int,
) -> tuple[Tensor, ...]:
    """Token ids and mask `b l`, patches `b p d` of pictures to `count` new ids, and theirs.

    grids  b n 3: of the reference pictures, then of those to sample

    The model samples from the global generator, which is as before afterwards.
    """
    pictures, seen = {}, []
    if patches is not None:
        pictures = {"pixel_values": patches.flatten(0, 1)}
        features = net.get_image_features(pictures["pixel_values"], grids[0, :references])
        seen = [net.get_image_tokens([x]).flatten()[None] for x in features.pooler_output]
    device = ids.device
    accelerators = [] if device.index is None else [device.index]
    with torch.random.fork_rng(accelerators, device_type=device.type):
        torch.manual_seed(seed)
        tokens = net.generate(
            input_ids=ids,
            attention_mask=mask,
            image_grid_thw=grids.flatten(0, 1),
            images_per_sample=torch.full_like(ids[:, 0], grids.shape[1]),
            max_new_tokens=count,
            do_sample=True,
            **pictures,
        )
    return tokens[:, ids.shape[1] :], *seen
