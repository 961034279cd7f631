"""Protocols of components: the parts of diffusers' and transformers' interfaces that nodes use.

A network arrives as a handle (name and config) and is itself only inside a `forward`; a tokenizer
or scheduler has no weights and arrives as the object.
"""

from __future__ import annotations

from inspect import Signature
from typing import Any, Protocol

import torch
from torch import Tensor

from runtime.contract.rules import Rung, role


class Network(Protocol):
    """A component with weights. name: its key in the graph. config: attributes of config.json."""

    @property
    def name(self) -> str: ...

    @property
    def config(self) -> Any: ...

    @property
    def dtype(self) -> torch.dtype: ...


@role("text_encoder")
class TextEncoder(Network, Protocol):
    """Token ids `b l` to `last_hidden_state` `b l d` and, of CLIP, `pooler_output` `b d`."""

    def __call__(self, ids: Tensor, mask: Tensor | None = None, **options: Any) -> Any: ...


@role("dit")
class Transformer(Network, Protocol):
    """A denoising network; each family has its own keyword arguments."""

    def __call__(self, **inputs: Any) -> Any: ...


@role("image_encoder")
class ImageEncoder(Network, Protocol):
    """Pixels `b c h w` to hidden states `b l d`."""

    def __call__(self, pixels: Tensor, **options: Any) -> Any: ...


@role("vae", ladder=(Rung.TILE,))
class VAE(Network, Protocol):
    """An autoencoder between pixels and latents."""

    def encode(self, pixels: Tensor) -> Any: ...

    def decode(self, latents: Tensor, return_dict: bool = True) -> Any: ...


@role("audio")
class SoundNetwork(Network, Protocol):
    """A network between latents, spectrograms and samples."""


@role("pipeline")
class Pipeline(Protocol):
    """A whole model that runs itself. call: the signature of its `__call__`."""

    @property
    def class_name(self) -> str: ...

    @property
    def call(self) -> Signature: ...


@role("tokenizer")
class Tokenizer(Protocol):
    """A tokenizer of transformers. model_max_length: tokens that its encoder was made for."""

    model_max_length: int
    pad_token_id: int

    def __call__(self, text: list[str], **options: Any) -> Any: ...

    def apply_chat_template(self, conversation: list[Any], **options: Any) -> Any: ...


@role("processor")
class ImageProcessor(Protocol):
    """A processor that cuts pictures into patches. merge_size: patches per token side."""

    merge_size: int

    def __call__(self, images: list[Any], **options: Any) -> Any: ...


@role("scheduler")
class Scheduler(Protocol):
    """A scheduler of diffusers: a schedule and a solver in one object, with state in it."""

    timesteps: Tensor
    sigmas: Tensor
    alphas_cumprod: Tensor  # part of the signal's variance, by timestep; flow matching has none

    @property
    def config(self) -> Any: ...

    @classmethod
    def from_config(cls, config: Any, **changes: Any) -> Any: ...

    def set_timesteps(self, *arguments: Any, **options: Any) -> None: ...

    def set_begin_index(self, begin_index: int = 0) -> None: ...

    def step(
        self, model_output: Tensor, timestep: Tensor, sample: Tensor, **options: Any
    ) -> Any: ...
