"""Checkpoints before they are loaded: folders, the hub's cache, downloads, identity, messages."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from runtime.checkpoint.checkpoint import ABSENT, Checkpoint
from runtime.checkpoint.folder import Folder
from runtime.checkpoint.identity import of_file
from runtime.checkpoint.weight_files import select_weight_files
from runtime.graph.model import ComponentSpec
from runtime.paths import cache_root
from tests.support import hubs

WEIGHTS = hubs.WEIGHTS
OPEN = """
import json, sys
from runtime.checkpoint.checkpoint import Checkpoint
from runtime.errors import UserError
from runtime.graph.model import ComponentSpec

def look(name, revision=None):
    checkpoint = Checkpoint.open(name, revision=revision)
    source = checkpoint.component(ComponentSpec("transformer"))
    return checkpoint, source

def say(*values):
    print(json.dumps(values))

def wrong(name, revision=None):
    try:
        Checkpoint.open(name, revision=revision)
    except UserError as problem:
        say(str(problem))
"""
HEAVY = "{'torch', 'diffusers', 'transformers'} & set(sys.modules)"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return hubs.folder(tmp_path / "model", hubs.model())


def lines(printed: str) -> list[list[object]]:
    return [json.loads(line) for line in printed.splitlines()]


def test_a_folder_is_opened_without_torch_or_the_hubs_client(model: Path) -> None:
    code = f"{OPEN}\nc, s = look({str(model)!r})\nsay(s.identity, s.nbytes('float32'))\n"
    code += f"assert not {HEAVY} and 'huggingface_hub' not in sys.modules"
    (found,) = lines(hubs.python(code, model))
    assert found[1] == (256 * 4 + 256) * 4


def test_what_an_opened_model_says(model: Path) -> None:
    checkpoint = Checkpoint.open(str(model))
    source = checkpoint.component(ComponentSpec("transformer", config={"in_channels": 8}))
    assert checkpoint.class_name == "FluxPipeline"
    assert checkpoint.keys == ("scheduler", "transformer")
    assert (source.library, source.class_name) == ("diffusers", "FluxTransformer2DModel")
    assert source.config["in_channels"] == 8
    assert source.weights == (model / WEIGHTS,)
    assert source.nbytes() == 256 * 4 * 4 + 256 * 2
    assert source.nbytes("bfloat16") == (256 * 4 + 256) * 2
    scheduler = checkpoint.component(ComponentSpec("scheduler"))
    assert not scheduler.has_weights
    assert scheduler.nbytes("bfloat16") == 0


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("transformer.in_channels", 4),
        ("transformer.rope.theta", 10),
        ("transformer", "FluxTransformer2DModel"),
        ("scheduler.shift", 3.0),
        ("boundary_ratio", 0.9),
        ("image_encoder", None),
        ("vae", ABSENT),
        ("vae.z_dim", ABSENT),
        ("transformer.rope.base", ABSENT),
        ("transformer.in_channels.x", ABSENT),
    ],
)
def test_lookup(model: Path, key: str, value: object) -> None:
    assert Checkpoint.open(str(model)).lookup(key) == value


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        ("model.safetensors", "model.safetensors"),
        ("model.safetensors pytorch_model.bin", "model.safetensors"),
        ("pytorch_model.bin", "pytorch_model.bin"),
        ("diffusion_pytorch_model.bin model.fp16.safetensors", "model.fp16.safetensors"),
        ("model.fp16.safetensors model.safetensors", "model.safetensors"),
        ("model.fp16.safetensors model.bf16.safetensors", "model.bf16.safetensors"),
        ("model.fp16-00001-of-00002.safetensors", ""),
        ("model.safetensors.index.json", "a-1.safetensors a-2.safetensors"),
        ("model.safetensors.index.fp16.json", "a-1.safetensors a-2.safetensors"),
        ("config.json model.onnx notes.safetensors", ""),
    ],
)
def test_choice_of_weight_files(tmp_path: Path, names: str, chosen: str) -> None:
    index = {"weight_map": {"x": "a-1.safetensors", "y": "a-2.safetensors"}}
    hubs.folder(tmp_path, dict.fromkeys(names.split(), json.dumps(index).encode()))
    assert select_weight_files(Folder(tmp_path)) == tuple(chosen.split())


def test_overrides(tmp_path: Path, model: Path) -> None:
    """By a model that has the component, the component itself, a file of weights."""
    other = hubs.folder(tmp_path / "other", hubs.model(fill=1, width=8))
    checkpoint = Checkpoint.open(str(model))

    def width_and_path(path: Path) -> tuple[object, Path]:
        source = checkpoint.component(ComponentSpec("transformer", path=str(path)))
        return source.config["in_channels"], source.weights[0]

    assert width_and_path(other) == (8, other / WEIGHTS)
    assert width_and_path(other / "transformer") == (8, other / WEIGHTS)
    assert width_and_path(other / WEIGHTS) == (4, other / WEIGHTS)


def test_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large files by path, size, time and header; the header is remembered, the cache may break."""
    monkeypatch.setenv("SGLANG_DIFFUSION_CACHE_ROOT", str(tmp_path / "cache"))
    path = tmp_path / "large.safetensors"
    path.write_bytes(hubs.safetensors({"w": ("F32", [300_000])}))
    first = of_file(path)
    (entry,) = (cache_root() / "headers").iterdir()
    assert of_file(path) == first
    entry.write_text("{ broken")
    assert of_file(path) == first
    (tmp_path / "file").write_text("a file where the cache should be")
    monkeypatch.setenv("SGLANG_DIFFUSION_CACHE_ROOT", str(tmp_path / "file"))
    assert of_file(path) == first
    os.utime(path, ns=(1, 1))
    assert of_file(path) != first
    path.write_bytes(hubs.safetensors({"v": ("F32", [300_000])}))
    os.utime(path, ns=(1, 1))
    second = of_file(path)
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(path.read_bytes())
    assert second not in {first, of_file(copy)}


def test_identity_covers_weights_config_and_class(tmp_path: Path, model: Path) -> None:
    same = Checkpoint.open(str(hubs.folder(tmp_path / "same", hubs.model())))
    other = Checkpoint.open(str(hubs.folder(tmp_path / "other", hubs.model(fill=1))))
    checkpoint = Checkpoint.open(str(model))
    spec = ComponentSpec("transformer")
    plain = checkpoint.component(spec).identity
    assert same.component(spec).identity == plain  # small files count by content
    changed = ComponentSpec("transformer", config={"in_channels": 5})
    assert len({plain, other.component(spec).identity, checkpoint.component(changed).identity}) == 3
    scheduler = ComponentSpec("scheduler")
    assert same.component(scheduler).identity == checkpoint.component(scheduler).identity


def test_the_hubs_cache_offline(tmp_path: Path) -> None:
    """Branch, tag and commit; equal blobs in two snapshots are one identity."""
    snapshots = {hubs.COMMIT: hubs.model(), hubs.OTHER: hubs.model(fill=1)}
    snapshots[hubs.OTHER]["scheduler/scheduler_config.json"] += b"\n"
    hubs.cache(tmp_path, "org/name", snapshots, {"main": hubs.COMMIT, "v2": hubs.OTHER})
    hubs.cache(tmp_path, "org/copy", {hubs.OTHER: hubs.model()}, {"main": hubs.OTHER})
    code = f"""{OPEN}
for name, revision in (("org/name", None), ("org/name", "v2"), ("org/name", "{hubs.COMMIT}"),
                       ("org/copy", None)):
    c, s = look(name, revision)
    say(c.revision, s.identity, s.missing)
wrong("org/name", "v3")
wrong("org/none")
c = Checkpoint.open("org/name")
for spec in (dict(path="org/copy"), dict(revision="v2"), dict(path="org/name", revision="v2")):
    say(c.component(ComponentSpec("transformer", **spec)).identity)
assert not {HEAVY}"""
    printed = lines(hubs.python(code, tmp_path, HF_HUB_OFFLINE="1"))
    main, tag, commit, copy, revision, absent, *overrides = printed
    assert overrides == [[main[1]], [tag[1]], [tag[1]]]
    assert [found[0] for found in (main, tag, commit)] == [hubs.COMMIT, hubs.OTHER, hubs.COMMIT]
    assert main == commit
    assert main[1] == copy[1] != tag[1]
    help = "\n    help: unset HF_HUB_OFFLINE to download it, or give a local folder"
    missing = f"is not in the cache {tmp_path}, and HF_HUB_OFFLINE is set.{help}"
    assert revision == [f"revision `v3` of `org/name` {missing}"]
    assert absent == [f"`org/none` {missing}"]


def test_weights_that_the_cache_lacks(tmp_path: Path) -> None:
    """Offline: no weights at all, and one shard of two."""
    files = hubs.model()
    weights = files.pop(WEIGHTS)
    hubs.cache(tmp_path, "org/none", {hubs.COMMIT: files}, {"main": hubs.COMMIT})
    index = {"weight_map": {"w": "a-1.safetensors", "b": "a-2.safetensors"}}
    shards = {
        "transformer/diffusion_pytorch_model.safetensors.index.json": json.dumps(index).encode(),
        "transformer/a-1.safetensors": weights,
    }
    hubs.cache(tmp_path, "org/half", {hubs.COMMIT: {**files, **shards}}, {"main": hubs.COMMIT})
    code = f"""{OPEN}
for name in ("org/none", "org/half"):
    try:
        c, s = look(name)
        say(s.missing)
        c.fetch_weights(s)
    except UserError as problem:
        say(str(problem))"""
    nothing, none, missing, half = lines(hubs.python(code, tmp_path, HF_HUB_OFFLINE="1"))
    folder = tmp_path / "models--org--none/snapshots" / hubs.COMMIT / "transformer"
    assert none == [
        f"`transformer` has no weights: {folder} holds config.json, no .safetensors and no .bin.\n"
        "    help: its weights are not in the cache: unset HF_HUB_OFFLINE to download them"
    ]
    assert nothing == [[]]
    assert missing == [["a-2.safetensors"]]
    assert half == [
        "`transformer` lacks a-2.safetensors, which is not in the cache.\n    help: check the"
        " connection, and unset HF_HUB_OFFLINE, to download it from `org/half`"
    ]


def test_download(tmp_path: Path) -> None:
    """Small files at once, weights when asked for; then everything works offline."""
    files = hubs.model()
    code = f"""{OPEN}
c, s = look("org/name")
say(s.identity, s.missing, s.nbytes(), sorted(p.name for p in c.root.rglob("*") if p.is_file()))
s = c.fetch_weights(s)
say(s.identity, s.missing, s.nbytes("float32"), [p.is_file() for p in s.weights])
c, s = look("org/name")
say(s.identity, s.missing)"""
    with hubs.server({"org/name": files}) as (address, asked):
        before, after, again = lines(hubs.python(code, tmp_path, HF_ENDPOINT=address))
    small = ["config.json", "model_index.json", "scheduler_config.json"]
    name = WEIGHTS.rpartition("/")[2]
    assert before[1:] == [[name], len(files[WEIGHTS]), small]
    assert after == [before[0], [], (256 * 4 + 256) * 4, [True]]
    assert again == [before[0], []]
    assert sum("README" in path for path in asked) == 0
    code = f"{OPEN}\nc, s = look('org/name')\nsay(c.revision, s.identity)"
    (offline,) = lines(hubs.python(code, tmp_path, HF_HUB_OFFLINE="1"))
    assert offline == [hubs.COMMIT, before[0]]


def test_what_the_hub_refuses(tmp_path: Path) -> None:
    answers: dict[str, hubs.Files | tuple[int, str]] = {
        "org/gated": (403, "GatedRepo"),
        "org/none": (401, "RepoNotFound"),
        "org/broken": (500, ""),
        "org/name": hubs.model(),
    }
    code = (
        f"{OPEN}\nfor n in ('gated', 'none', 'broken'): wrong('org/' + n)\nwrong('org/name', 'v3')"
    )
    with hubs.server(answers) as (address, _):
        said = [str(line[0]) for line in lines(hubs.python(code, tmp_path, HF_ENDPOINT=address))]
    assert said == [
        "`org/gated` is gated: its licence has to be accepted before it can be downloaded.\n"
        f"    help: accept it at {address}/org/gated, then set HF_TOKEN to a token of that account",
        "the hub has no model `org/none`, or it is private.\n"
        f"    help: check the name at {address}/org/none; for a private model set HF_TOKEN",
        "the hub answered 500 for `org/broken`.\n    help: try again later",
        "`org/name` has no revision `v3`.\n"
        f"    help: branches and tags are listed at {address}/org/name/tree/main",
    ]
    printed = hubs.python(f"{OPEN}\nwrong('org/name')", tmp_path, HF_ENDPOINT=address)
    assert lines(printed) == [
        [
            f"`org/name` is not in the cache {tmp_path}, and {address} cannot be reached"
            " (ConnectError).\n    help: check the connection, or give a local folder"
        ]
    ]
