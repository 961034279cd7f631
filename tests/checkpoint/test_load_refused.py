"""Components that are refused, and the message of each."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from runtime.checkpoint.component_source import ComponentSource
from runtime.checkpoint.folder import Folder
from runtime.checkpoint.load_pipeline import load_source
from runtime.errors import UserError
from tests.checkpoint.test_load import CPU, MODELS, load, pickled, source


def save(name: str, folder: Path) -> Path:
    """Write a tiny model; its folder."""
    MODELS[name]().save_pretrained(folder / name)
    return folder / name


class Evil:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", ["umt5", "image_vae"])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_with_code_is_refused(tmp_path: Path, name: str, zipped: bool) -> None:
    MODELS[name]().save_pretrained(tmp_path / "model")
    (weights,) = source(tmp_path / "model").weights
    weights.unlink()
    target = tmp_path / "model" / pickled(weights)
    evil = Evil(tmp_path / "harm")
    torch.save({"w": evil}, target) if zipped else target.write_bytes(pickle.dumps({"w": evil}, 2))
    with pytest.raises(UserError) as caught:
        load(tmp_path / "model")
    assert str(caught.value).startswith(
        f"{target} was refused: it is a pickle of more than tensors"
    )
    assert not (tmp_path / "harm").exists()


def drop(weights: Path) -> None:
    tensors = load_file(weights)
    for key in sorted(tensors)[:4]:
        del tensors[key]
    save_file(tensors, weights)


def add(weights: Path) -> None:
    tensors = load_file(weights)
    save_file({**tensors, "surplus.weight": torch.zeros(2)}, weights)


def reshape(weights: Path) -> None:
    tensors = load_file(weights)
    key = min(key for key in tensors if tensors[key].ndim == 2)
    save_file({**tensors, key: torch.zeros(3, 5)}, weights)


CHECK = (
    "the weights belong to another class or config; check components.part.path,"
    " or download them again"
)
BAD = [
    (
        "flux",
        drop,
        "FILE lacks 4 weights for FluxTransformer2DModel (`part`): context_embedder.weight,"
        f" context_embedder.bias, norm_out.linear.weight, ...\n    help: {CHECK}",
    ),
    (
        "umt5",
        drop,
        "FILE lacks 4 weights for UMT5EncoderModel (`part`):"
        " encoder.block.0.layer.0.SelfAttention.k.weight,"
        " encoder.block.0.layer.0.SelfAttention.o.weight,"
        f" encoder.block.0.layer.0.SelfAttention.q.weight, ...\n    help: {CHECK}",
    ),
    (
        "image_vae",
        add,
        f"FILE has unknown 1 weight for AutoencoderKL (`part`): surplus.weight\n    help: {CHECK}",
    ),
    (
        "clip",
        add,
        f"FILE has unknown 1 weight for CLIPTextModel (`part`): surplus.weight\n    help: {CHECK}",
    ),
    (
        "wan",
        reshape,
        "FILE: `blocks.0.attn1.to_k.weight` has the shape [3, 5], but WanTransformer3DModel"
        " (`part`) with its config expects [48, 48].\n"
        "    help: the weights belong to another config; give config.json and weights of one model",
    ),
    (
        "t5",
        reshape,
        "FILE: `encoder.block.0.layer.0.SelfAttention.k.weight` has the shape [3, 5], but"
        " T5EncoderModel (`part`) with its config expects [32, 32].\n"
        "    help: the weights belong to another config; give config.json and weights of one model",
    ),
]


@pytest.mark.parametrize(("name", "change", "message"), BAD)
def test_weights_that_do_not_fit(
    tmp_path: Path, name: str, change: Callable[[Path], None], message: str
) -> None:
    save(name, tmp_path)
    (weights,) = source(tmp_path / name).weights
    change(weights)
    with pytest.raises(UserError) as caught:
        load(tmp_path / name)
    assert str(caught.value).replace(str(weights), "FILE") == message


@pytest.mark.parametrize(
    ("name", "changed", "message"),
    [
        (
            "wan",
            {"num_heads": 3},
            "components.part.config.num_heads: WanTransformer3DModel has no such setting.\n"
            "    help: did you mean `num_attention_heads`?",
        ),
        (
            "umt5",
            {"d_modl": 3},
            "components.part.config.d_modl: UMT5EncoderModel has no such setting.\n"
            "    help: did you mean `d_model`?",
        ),
        (
            "wan_vae",
            {"quantization_config": {"quant_method": "bitsandbytes"}},
            "FOLDER: the weights of `part` are quantized, which is unsupported.\n"
            "    help: give unquantized weights as components.part.path",
        ),
        (
            "flux",
            {"_class_name": "FluxTransformer9DModel"},
            "`part` is a `FluxTransformer9DModel` of `diffusers`: the installed libraries have no"
            " such class.\n    help: did you mean `FluxTransformer2DModel`?",
        ),
        (
            "clip",
            {"architectures": ["OwnModel"], "auto_map": {"AutoModel": "own.OwnModel"}},
            "`part` is a `OwnModel` of `transformers`: its config asks for code of its own"
            " (`auto_map`), and the installed libraries have no such class. Code that comes with a"
            " model runs only with `model.trust_remote_code`, and cannot be loaded yet.\n"
            "    help: upgrade diffusers and transformers, or use a model whose classes they have",
        ),
    ],
)
def test_configs_that_are_refused(
    tmp_path: Path, name: str, changed: dict[str, Any], message: str
) -> None:
    config = save(name, tmp_path) / "config.json"
    user = {k: v for k, v in changed.items() if k in {"num_heads", "d_modl"}}
    own = {k: v for k, v in changed.items() if k not in user}
    config.write_text(json.dumps({**json.loads(config.read_text()), **own}))
    with pytest.raises(UserError) as caught:
        load(tmp_path / name, **user)
    assert str(caught.value).replace(str(tmp_path / name), "FOLDER") == message


def test_trusted_code_is_said_to_be_missing(tmp_path: Path) -> None:
    part = ComponentSource("part", "diffusers", "Own", Folder(tmp_path), {})
    with pytest.raises(UserError, match=r"`model\.trust_remote_code` is given, but code that"):
        load_source(part, dtype=None, device=CPU, trust_remote_code=True)
