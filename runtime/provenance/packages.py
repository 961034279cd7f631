"""Versions of the packages that a result may depend on: those always used, and optional ones.

diffusers and transformers change what they compute by what is installed: a text is cleaned with
ftfy or not, a picture resized by torchvision or by Pillow, noise levels spaced with scipy. No torch
is imported.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from functools import cache
from importlib import metadata

from runtime.checkpoint.required_files import is_installed

NOT_INSTALLED = "not installed"
# Distribution to the module that is imported.
ALWAYS = {
    "sglang-graph": "runtime", "torch": "torch", "diffusers": "diffusers",
    "transformers": "transformers", "tokenizers": "tokenizers", "safetensors": "safetensors",
    "numpy": "numpy", "pillow": "PIL", "av": "av",
    # Optional, and recorded where they are absent as well: their absence changes results too.
    "accelerate": "accelerate", "ftfy": "ftfy", "protobuf": "google.protobuf", "scipy": "scipy",
    "sentencepiece": "sentencepiece", "torchvision": "torchvision",
}  # fmt: skip
# Recorded where they are installed.
OPTIONAL = {
    "beautifulsoup4": "bs4", "bitsandbytes": "bitsandbytes", "einops": "einops",
    "flash-attn": "flash_attn", "flash-attn-3": "flash_attn_interface", "gguf": "gguf",
    "k-diffusion": "k_diffusion", "kernels": "kernels", "librosa": "librosa",
    "nvidia-modelopt": "modelopt", "onnxruntime": "onnxruntime", "opencv-python": "cv2",
    "optimum-quanto": "optimum.quanto", "peft": "peft", "pillow-heif": "pillow_heif",
    "sageattention": "sageattention", "tiktoken": "tiktoken", "timm": "timm",
    "torch_xla": "torch_xla", "torchao": "torchao", "torchaudio": "torchaudio",
    "torchsde": "torchsde", "triton": "triton", "xformers": "xformers",
}  # fmt: skip
MARK = "versions.ftfy"  # in every record that lists optional packages


@cache
def versions() -> Mapping[str, str]:
    """Version by distribution, and that of Python."""
    found = {"python": platform.python_version()}
    found |= {name: _version(name, module) for name, module in ALWAYS.items()}
    optional = {name: _version(name, module) for name, module in OPTIONAL.items()}
    return found | {name: version for name, version in optional.items() if version != NOT_INSTALLED}


def _version(name: str, module: str) -> str:
    """The version of a package; what cannot be imported is not installed, whatever is listed."""
    if not is_installed(module):
        return NOT_INSTALLED
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "unknown version"  # a folder on the path, without the metadata of an installation
