"""Write the trained networks as a folder that `sglang` and vanilla diffusers load."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler

from demo.denoiser import FLOW_SHIFT, STAGES
from demo.models import CHANNELS, make_text_encoder, make_transformer, make_vae
from demo.text import END, PADDING, UNKNOWN, build_tokenizer
from demo.training import Run

TOKENIZER = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "pad_token": PADDING,
    "eos_token": END,
    "unk_token": UNKNOWN,
    "model_max_length": 512,
    "padding_side": "right",
    "clean_up_tokenization_spaces": False,
}
PIPELINE = {
    "_class_name": "WanPipeline",
    "_diffusers_version": diffusers.__version__,
    "boundary_ratio": None,
    "expand_timesteps": False,
    "scheduler": ["diffusers", "UniPCMultistepScheduler"],
    "text_encoder": ["transformers", "UMT5EncoderModel"],
    "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
    "transformer": ["diffusers", "WanTransformer3DModel"],
    "transformer_2": [None, None],
    "vae": ["diffusers", "AutoencoderKLWan"],
}


@dataclass(frozen=True)
class ExportSettings:
    """The folder to write, and the dtype of the weights in it."""

    out: str = "checkpoint"
    dtype: str = "float16"


def export(run: Run, settings: ExportSettings) -> None:
    """Write the last denoiser trained, and the sharpened VAE where there is one."""
    folder = Path(settings.out)
    last = [stage for stage in STAGES if run.result(stage).is_file()][-1:] or [STAGES[0]]
    trained = run.load(last[0])
    vae = make_vae(CHANNELS)
    sharpened = run.result("dec").is_file()
    vae.load_state_dict(run.load("dec" if sharpened else "fold")["vae"])
    tokenizer = build_tokenizer()
    text_encoder, transformer = make_text_encoder(tokenizer.get_vocab_size()), make_transformer()
    text_encoder.load_state_dict(trained["text_encoder"])
    transformer.load_state_dict(trained["transformer"])
    dtype = getattr(torch, settings.dtype)
    parts = {"vae": vae, "text_encoder": text_encoder, "transformer": transformer}
    for name, network in parts.items():
        network.to(dtype).save_pretrained(folder / name)
    _say_float32(folder / "text_encoder/config.json")
    UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=FLOW_SHIFT,
        num_train_timesteps=1000,
    ).save_pretrained(folder / "scheduler")  # fmt: skip
    (folder / "tokenizer").mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer/tokenizer.json"))
    _write_json(TOKENIZER, folder / "tokenizer/tokenizer_config.json")
    _write_json(PIPELINE, folder / "model_index.json")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    run.log("export", f"{folder}: `{last[0]}` after {trained['steps']} steps, {size / 1e6:.2f} MB")


def _say_float32(path: Path) -> None:
    """Name float32 in a config: transformers loads in the dtype it names, and CPUs want this one.

    The file itself stays in half precision.
    """
    config = json.loads(path.read_text())
    config.pop("torch_dtype", None)
    _write_json({**config, "dtype": "float32"}, path)


def _write_json(content: dict[str, Any], path: Path) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")
