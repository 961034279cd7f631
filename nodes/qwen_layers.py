"""Qwen-Image-Layered: decompose a picture into transparent layers, denoised as one sequence.

Source: diffusers 0.42, pipelines/qwenimage/pipeline_qwenimage_layered.py.
"""

# ruff: noqa: RUF001  # the language model is asked in Chinese

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from nodes.contracts import VAE, ImageProcessor, Scheduler, TextEncoder, Tokenizer
from nodes.finite import decode
from nodes.latents import image_size, latent_channels
from nodes.qwen_edit import fitted, seen
from nodes.schedule import TYPICAL_MU, make_schedule
from nodes.vae import decode_video
from runtime.contract.calls import Asking, Call
from runtime.contract.declare import Component
from runtime.contract.denoising import Schedule
from runtime.contract.values import Image, Latents, Rng, TextEmbeds
from runtime.errors import UserError

RESOLUTIONS = (640, 1024)  # px, roots of the areas that the model was trained on
PATCH = 2  # latent pixels per token side
BASE_TOKENS = 256  # of a picture that needs no shift
MOST_WORDS = 512  # tokens of a caption
ANSWER = "<|im_end|>\n<|im_start|>assistant\n"
ASK = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
# As the reference has them, broken lines and all.
IN_ENGLISH = (
    "# Image Annotator\nYou are a professional\nimage annotator. Please write an image caption"
    " based on the input image:\n1. Write the caption using natural,\ndescriptive language without"
    " structured formats or rich text.\n2. Enrich caption details by including: \n - Object\n"
    "attributes, such as quantity, color, shape, size, material, state, position, actions, and so"
    " on\n - Vision Relations\nbetween objects, such as spatial relations, functional relations,"
    " possessive relations, attachment relations, action\nrelations, comparative relations, causal"
    " relations, and so on\n - Environmental details, such as weather, lighting,\ncolors, textures,"
    " atmosphere, and so on\n - Identify the text clearly visible in the image, without translation"
    " or\nexplanation, and highlight it in the caption with quotation marks\n3. Maintain"
    " authenticity and accuracy:\n - Avoid\ngeneralizations\n - Describe all visible information in"
    " the image, while do not add information not explicitly shown in\nthe image\n"
)
IN_CHINESE = (
    "# 图像标注器\n你是一个专业的图像标注器。请基于输入图像，撰写图注:\n1.\n"
    "使用自然、描述性的语言撰写图注，不要使用结构化形式或富文本形式。\n"
    "2. 通过加入以下内容，丰富图注细节：\n"
    " - 对象的属性：如数量、颜色、形状、大小、位置、材质、状态、动作等\n -\n"
    "对象间的视觉关系：如空间关系、功能关系、动作关系、从属关系、比较关系、因果关系等\n"
    " - 环境细节：例如天气、光照、颜色、纹理、气氛等\n"
    " - 文字内容：识别图像中清晰可见的文字，不做翻译和解释，用引号在图注中强调\n3.\n"
    "保持真实性与准确性：\n - 不要使用笼统的描述\n -\n"
    "描述图像中所有可见的信息，但不要加入没有在图像中出现的内容\n"
)


@dataclass(frozen=True, kw_only=True)
class ResizeToResolution:
    """Resize a picture, with its transparency, to an area that the model was trained on.

    image          h w 3 or h w 4, uint8; without alpha it is opaque
    resolution     px, root of the area
    images         the one picture, h w 4
    height, width  its size, px: that of every layer
    """

    class Out(NamedTuple):
        images: tuple[Image, ...]
        height: int
        width: int

    def run(self, *, image: Image, resolution: int) -> Out:
        self.estimate(resolution=resolution)
        opaque = torch.full_like(image.pixels[..., :1], 255)
        pixels = fitted(torch.cat([image.pixels, opaque], dim=-1)[..., :4], resolution)
        return self.Out((Image(pixels),), *pixels.shape[:2])

    def estimate(self, *, resolution: int) -> int:
        """Bytes of the picture; an unknown resolution is refused before anything is loaded."""
        if resolution not in RESOLUTIONS:
            options = " or ".join(map(str, RESOLUTIONS))
            raise UserError(
                f"`request.resolution` expects {options} px, got {resolution}",
                help=f"the model knows {options}", field="request.resolution",
            )  # fmt: skip
        return 4 * resolution**2


@dataclass(frozen=True, kw_only=True)
class Caption:
    """Caption a picture with the language model where the request has no prompt.

    prompt   if it is not empty, it is the text, and nothing is captioned
    english  whether the caption is in English; else it is in Chinese
    text     at most 512 tokens
    """

    text_encoder: Component[TextEncoder]
    tokenizer: Component[Tokenizer]
    processor: Component[ImageProcessor]

    class Out(NamedTuple):
        text: str

    @staticmethod
    def bypass(*, prompt: str) -> str | None:
        """With a prompt the picture is not captioned."""
        return "prompt" if prompt not in {"", " "} else None

    def run(self, *, prompt: str, images: tuple[Image, ...], english: bool) -> Asking[Out]:
        """Ask for one caption."""
        if self.bypass(prompt=prompt):
            return self.Out(prompt)
        pixels, grid, (place,) = seen(self.processor, images)
        asked = ASK + (IN_ENGLISH if english else IN_CHINESE) + place + ANSWER
        ids = self.tokenizer([asked], return_tensors="pt").input_ids
        batched = {"ids": ids, "pixels": pixels[None]}
        ((answer,),) = yield [Call(self.text_encoder, caption, batched, {"grid": grid})]
        decoder: Any = self.tokenizer
        (text,) = decoder.batch_decode(
            answer, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return self.Out(text.strip())


@dataclass(frozen=True, kw_only=True)
class LayerNoise:
    """Draw the initial noise of the layers, and of the whole picture, which comes first.

    layers         n - 1
    height, width  px
    like           noise is drawn in the dtype of these hidden states
    latents        `image`: 1 n c h w
    """

    vae: Component[VAE]
    sized: ClassVar[tuple[str, ...]] = ("height", "width")

    class Out(NamedTuple):
        latents: Latents
        rng: Rng

    def run(self, *, layers: int, height: int, width: int, rng: Rng, like: TextEmbeds) -> Out:
        """Draw on the CPU, so that a seed means the same on every device."""
        rows, columns = image_size(self.vae.config, PATCH, height, width)
        shape = (1, layers + 1, latent_channels(self.vae.config), rows, columns)
        noise, rng = rng.normal(shape, like.tokens.dtype)
        return self.Out(Latents({"image": noise}), rng)


@dataclass(frozen=True, kw_only=True)
class LayerSchedule:
    """Space sigmas evenly down to zero, shifted by the square root of a picture's tokens.

    steps          number of steps
    height, width  px
    """

    scheduler: Component[Scheduler]
    vae: Component[VAE]

    class Out(NamedTuple):
        schedule: Schedule

    def run(self, *, steps: int, height: int, width: int) -> Out:
        """Set the timesteps on a new scheduler, so that the component does not change."""
        tokens = prod(image_size(self.vae.config, PATCH, height, width)) // PATCH**2
        spaced = partial(space_and_shift, mu=(tokens / BASE_TOKENS) ** 0.5)
        return self.Out(make_schedule(self.scheduler, steps, spaced))

    def verify(self, *, steps: int | None = None, **_: Any) -> None:
        """Refuse a scheduler that cannot make these steps; the size changes only the shift."""
        if steps is not None:
            make_schedule(self.scheduler, steps, partial(space_and_shift, mu=TYPICAL_MU))


def space_and_shift(scheduler: Any, steps: int, *, mu: float) -> None:
    """Set the timesteps of even sigmas from 1 to 1 / steps, shifted by `mu`."""
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 0, steps + 1)[:-1], mu=mu)


@dataclass(frozen=True, kw_only=True)
class DecodeLayers:
    """Decode the layers as one batch; the whole picture, which comes first, is dropped.

    latents  `image`: 1 n c h w, zero mean and unit variance per channel
    images   n - 1 layers, 8h 8w 4, uint8 (factor as the VAE's config states it)
    """

    vae: Component[VAE]
    sized: ClassVar[tuple[str, ...]] = ("latents",)

    class Out(NamedTuple):
        images: tuple[Image, ...]

    def run(self, *, latents: Latents) -> Asking[Out]:
        """Ask for one decoding."""
        batched = {"latents": latents.parts["image"][0, 1:].unsqueeze(2)}
        frames = yield from decode(self.vae, decode_video, batched)
        return self.Out(tuple(Image(layer) for layer in frames[:, 0]))


def caption(
    net: Any, ids: Tensor, pixels: Tensor, *, grid: tuple[tuple[int, ...], ...]
) -> tuple[Tensor]:
    """Token ids `b l` and patches `b p d` to the token ids that the model answers with, b l."""
    answer = net.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        pixel_values=pixels.flatten(0, 1),
        image_grid_thw=torch.tensor(grid * len(ids), device=ids.device),
        mm_token_type_ids=(ids == net.config.image_token_id).int(),
        max_new_tokens=MOST_WORDS,
        do_sample=False,  # the published settings sample at a temperature of 1e-6
    )
    return (answer[:, ids.shape[1] :],)
