"""Loaded components: equal to vanilla loading, shared, in little memory; handles and devices."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from runtime import device as devices
from runtime.checkpoint import load as loading
from runtime.checkpoint.checkpoint import Checkpoint
from runtime.checkpoint.component_source import ComponentSource, find_component
from runtime.checkpoint.folder import Folder
from runtime.checkpoint.handle import Handle
from runtime.checkpoint.skeleton import build_skeleton
from runtime.errors import UserError
from runtime.graph.model import ComponentSpec
from runtime.run.residency import Residency, State, WantedComponent
from tests.support.tiny import flux, parts, wan

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "demo/checkpoint"
CPU = torch.device("cpu")
MODELS: dict[str, Callable[[], Any]] = {
    "umt5": parts.umt5,
    "t5": parts.t5,
    "clip": parts.clip,
    "wan": wan.wan_transformer,
    "flux": lambda: flux.flux_transformer(guidance=True),
    "image_vae": parts.image_vae,
    "wan_vae": wan.wan_vae,
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of each tiny model in float32."""
    root = tmp_path_factory.mktemp("saved")
    for name, make in MODELS.items():
        make().save_pretrained(root / name)
    return root


def source(folder: Path, **changed: Any) -> ComponentSource:
    return find_component("part", Folder(folder), None, changed=changed)


def load(folder: Path, dtype: str | None = "float32", **changed: Any) -> Any:
    return held(Residency(), source(folder, **changed), dtype)


def held(store: Residency, part: ComponentSource, dtype: str | None) -> Any:
    """The loaded component, which stays in the store."""
    with store.acquire(WantedComponent.of(part, dtype or "", CPU)) as value:
        return value


def state(module: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and buffers, those that are computed included."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def assert_equal(found: nn.Module, expected: nn.Module) -> None:
    ours, theirs = state(found), state(expected)
    assert list(ours) == list(theirs)
    for key, tensor in theirs.items():
        assert ours[key].dtype == tensor.dtype, key
        assert torch.equal(ours[key], tensor), key


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("name", MODELS)
def test_equals_vanilla(saved: Path, name: str, dtype: str) -> None:
    """The same class, bits, dtypes, buffers, config and mode as `from_pretrained`."""
    found = load(saved / name, dtype)
    expected = type(found).from_pretrained(saved / name, torch_dtype=getattr(torch, dtype))
    assert_equal(found, expected)
    assert not found.training
    assert not any(p.requires_grad for p in found.parameters())
    assert settings(found) == settings(expected)


def settings(model: Any) -> dict[str, Any]:
    """The config of a model, without where it came from."""
    config = model.config if isinstance(model.config, dict) else model.config.to_dict()
    return {key: value for key, value in config.items() if key != "_name_or_path"}


def test_modules_that_stay_in_float32(saved: Path) -> None:
    wan = load(saved / "wan", "bfloat16")
    assert wan.condition_embedder.time_embedder.linear_1.weight.dtype == torch.float32
    assert wan.scale_shift_table.dtype == torch.float32
    assert wan.blocks[0].attn1.to_q.weight.dtype == torch.bfloat16
    assert torch.get_default_dtype() == torch.float32


def test_tied_weights_are_one_tensor(saved: Path) -> None:
    umt5 = load(saved / "umt5", "bfloat16")
    assert umt5.encoder.embed_tokens.weight is umt5.shared.weight
    held = sum(p.numel() for p in umt5.parameters()) * 2
    assert loading.nbytes(umt5) == held


@pytest.mark.parametrize("name", ["umt5", "wan"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_shards(saved: Path, tmp_path: Path, name: str, dtype: str) -> None:
    MODELS[name]().save_pretrained(tmp_path, max_shard_size="20KB")
    found = source(tmp_path)
    assert len(found.weights) > 2
    assert_equal(load(tmp_path, dtype), load(saved / name, dtype))
    assert found.nbytes("bfloat16") == source(saved / name).nbytes("bfloat16")


@pytest.mark.parametrize("name", ["umt5", "image_vae"])
def test_pickles_of_tensors(saved: Path, tmp_path: Path, name: str) -> None:
    MODELS[name]().save_pretrained(tmp_path)
    (weights,) = source(tmp_path).weights
    torch.save(load_file(weights), tmp_path / pickled(weights))
    weights.unlink()
    assert source(tmp_path).weights == (tmp_path / pickled(weights),)
    assert_equal(load(tmp_path, "bfloat16"), load(saved / name, "bfloat16"))


def pickled(weights: Path) -> str:
    transformers = weights.stem == "model"
    return "pytorch_model.bin" if transformers else f"{weights.stem}.bin"


def test_stored_dtype(saved: Path, tmp_path: Path) -> None:
    load(saved / "image_vae").half().save_pretrained(tmp_path)
    assert load(tmp_path, None).dtype == torch.float16


def test_the_demo_loads_whole() -> None:
    checkpoint, store = Checkpoint.open(str(DEMO)), Residency()
    found = {
        key: held(store, checkpoint.component(ComponentSpec(key)), "float32")
        for key in checkpoint.keys
    }
    from diffusers import DiffusionPipeline

    vanilla = DiffusionPipeline.from_pretrained(DEMO)
    for key, value in found.items():
        theirs = getattr(vanilla, key)
        assert type(value) is type(theirs), key
        if isinstance(value, nn.Module):
            assert_equal(value, theirs)
    prompt = "a red circle on a blue background"
    options = {"padding": "max_length", "max_length": 32, "truncation": True}
    ours, theirs = found["tokenizer"](prompt, **options), vanilla.tokenizer(prompt, **options)
    assert ours == theirs
    assert dict(found["scheduler"].config) == dict(vanilla.scheduler.config)


def test_equal_content_is_one_instance(saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved / "umt5", tmp_path / "copy")
    store = Residency()
    first = held(store, source(saved / "umt5"), "float32")
    assert held(store, source(tmp_path / "copy"), "float32") is first
    second = held(store, source(saved / "umt5"), "bfloat16")
    assert second is not first
    both = store.resident()
    assert [r.nbytes for r in both] == [loading.nbytes(first), loading.nbytes(second)]
    assert all(store.state(r.key) is State.READY for r in both)
    assert store.evict(CPU, lambda event: None) == ["part", "part"]
    assert not store.resident()
    assert store.state(both[0].key) is State.ABSENT


def test_threads_share_one_instance(saved: Path) -> None:
    store, found = Residency(), []
    part = source(saved / "wan")

    def run() -> None:
        found.append(held(store, part, "bfloat16"))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(value) for value in found}) == 1
    assert len(store.resident()) == 1


def test_handle(saved: Path) -> None:
    part = source(saved / "umt5", d_ff=64)
    handle = Handle.of(part, "bfloat16")
    assert (handle.name, handle.class_name, handle.config.d_ff) == ("part", "UMT5EncoderModel", 64)
    assert handle.config.hidden_size == handle.config["d_model"] == 32  # a name of the class
    assert handle == Handle.of(part, "bfloat16")
    assert len({handle, Handle.of(part, "bfloat16"), Handle.of(part, "float32")}) == 2
    vae = json.loads((saved / "wan_vae" / "config.json").read_text())
    del vae["scale_factor_spatial"]
    thin = ComponentSource("vae", "diffusers", "AutoencoderKLWan", Folder(saved / "wan_vae"), vae)
    config = Handle.of(thin).config
    assert (config.z_dim, config.scale_factor_spatial, config.get("none")) == (4, 8, None)
    with pytest.raises(AttributeError) as caught:
        _ = config.z_dims
    assert str(caught.value) == (
        "the config of `vae` (AutoencoderKLWan) has no `z_dims`\n    help: did you mean `z_dim`?"
    )


def test_a_buffer_filled_by_hand_is_real() -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.empty(3))
            self.register_buffer("table", torch.empty(2), persistent=False)
            self.get_buffer("table").fill_(2.0)

        @classmethod
        def from_config(cls, config: Any) -> Counts:
            return cls()

    built = build_skeleton(Counts, {})
    assert built.get_buffer("table").tolist() == [2.0, 2.0]


def test_devices() -> None:
    assert devices.choose_device("cpu") == CPU
    assert str(devices.choose_device(None)) == devices.available()[0]
    with pytest.raises(UserError) as caught:
        devices.choose_device("gpu")
    listed = ", ".join(devices.available())
    assert str(caught.value) == (f"there is no device `gpu`.\n    help: this machine has: {listed}")
    assert devices.default_dtype(CPU, "bfloat16") == torch.float32
    assert devices.to_dtype("bfloat16") == torch.bfloat16
    assert devices.free_bytes(CPU) > 0
    memory = devices.memory(CPU)
    assert 0 < memory.host <= memory.host_peak


MEASURE = """
import sys
from pathlib import Path
import torch
from runtime import device
from runtime.run.residency import Residency, WantedComponent
from runtime.checkpoint.folder import Folder
from runtime.checkpoint.component_source import find_component

def load(folder):
    source = find_component("part", Folder(Path(folder)), None, changed={})
    wanted = WantedComponent.of(source, "bfloat16", torch.device("cpu"))
    with Residency().acquire(wanted) as model:
        return source, model

load(sys.argv[2])  # imports, and whatever the first load of a class costs
before = device.peak_bytes(device.CPU)
source, model = load(sys.argv[1])
print((device.peak_bytes(device.CPU) - before) / source.nbytes("bfloat16"))
"""


@pytest.mark.parametrize("name", ["umt5", "wan"])
def test_peak_memory_of_a_cast(saved: Path, tmp_path: Path, name: str) -> None:
    """A float32 file of some hundred MB to bfloat16: at most a quarter more than the result."""
    large = {
        "umt5": {"d_model": 1024, "d_ff": 2816, "vocab_size": 20_000},
        "wan": {"num_attention_heads": 8, "attention_head_dim": 128, "ffn_dim": 4096},
    }[name]
    small = source(saved / name)
    config = {**small.config, **large}
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_layers": 6}))
    write_zeros(tmp_path, source_class(small))
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path), str(saved / name)],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) <= 1.25


def source_class(part: ComponentSource) -> Any:
    import diffusers
    import transformers

    return getattr(diffusers if part.library == "diffusers" else transformers, part.class_name)


def write_zeros(folder: Path, cls: Any) -> None:
    """Weights in float32 for the config in a folder."""
    config = json.loads((folder / "config.json").read_text())
    with torch.device("meta"):
        kind = getattr(cls, "config_class", None)
        model = cls(kind.from_dict(config)) if kind else cls.from_config(config)
    tensors = {key: torch.zeros(t.shape) for key, t in model.state_dict().items()}
    tensors.pop("encoder.embed_tokens.weight", None)  # tied to `shared`
    stem = "model" if kind else "diffusion_pytorch_model"
    save_file(tensors, folder / f"{stem}.safetensors")
