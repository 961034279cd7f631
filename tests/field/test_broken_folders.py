"""Kind 9: a folder that was copied, downloaded or saved wrongly is named as what it is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from cli.main import main
from demo import checkpoint as packaged_demo

DEMO = Path(packaged_demo.__path__[0])
Change = Callable[[Path], object]
# What the libraries say of such folders: none of it may reach a user.
LIBRARY_TEXTS = (
    "Error no file named",
    "pip install tiktoken",
    "Can't load tokenizer",
    "is the correct path",
    "Traceback",
    "from_pretrained",
    "Errno",
)


def link(file: str, target: str = "../../gone/file") -> Change:
    """A file as a link whose target is gone, as `cp -r` of a cache leaves it."""

    def change(model: Path) -> None:
        path = model / file
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        path.symlink_to(target)

    return change


def remove(*files: str) -> Change:
    def change(model: Path) -> None:
        for file in files:
            path = model / file
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


def pair(name: str) -> Change:
    """One of the two files of a byte-pair vocabulary, and no tokenizer.json."""

    def change(model: Path) -> None:
        (model / TOKENS).unlink()
        (model / "tokenizer" / name).write_text("{}")

    return change


def replace_by_file(folder: str) -> Change:
    def change(model: Path) -> None:
        shutil.rmtree(model / folder)
        (model / folder).write_text("a note")

    return change


def pieces(content: bytes) -> Change:
    """A SentencePiece model instead of tokenizer.json."""

    def change(model: Path) -> None:
        (model / TOKENS).unlink()
        (model / "tokenizer/spiece.model").write_bytes(content)

    return change


def write(file: str, content: bytes) -> Change:
    return lambda model: (model / file).write_bytes(content)


def before(file: str, prefix: bytes) -> Change:
    return lambda model: (model / file).write_bytes(prefix + (model / file).read_bytes())


def utf16(file: str) -> Change:
    return lambda model: (model / file).write_bytes((model / file).read_text().encode("utf-16"))


def rename(file: str, name: str) -> Change:
    return lambda model: (model / file).rename(model / file.rpartition("/")[0] / name)


def edit(file: str, **values: object) -> Change:
    def change(model: Path) -> None:
        path = model / file
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return change


def folder(file: str) -> Change:
    def change(model: Path) -> None:
        (model / file).unlink()
        (model / file).mkdir()

    return change


def dtype(file: str, name: str) -> Change:
    """Matrices in another dtype."""

    def change(model: Path) -> None:
        tensors = load_file(model / file)
        kind = getattr(torch, name)
        save_file({k: v.to(kind) if v.ndim > 1 else v for k, v in tensors.items()}, model / file)

    return change


UNET = "transformer/diffusion_pytorch_model.safetensors"
VAE = "vae/diffusion_pytorch_model.safetensors"
TEXT = "text_encoder/model.safetensors"
TOKENS = "tokenizer/tokenizer.json"
CP = "cp -rL"
BOM = b"\xef\xbb\xbf"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0123456789 size 12345678"
PAGE = b"<!DOCTYPE html><html><head><title>404</title></head><body>not found</body></html>"
INDEX = b'{"weight_map": {"a": "x-00001-of-00001.safetensors"}}'
SCHEDULER = "scheduler/scheduler_config.json"
SHARD = "diffusion_pytorch_model{}-0000{}-of-00002.safetensors"
CASES: list[tuple[str, Change, tuple[str, ...]]] = [
    *(
        (f"link-{file}", link(file), (file, "is a broken link to ../../gone/file", CP))
        for file in (
            "model_index.json",
            "transformer/config.json",
            "vae/config.json",
            UNET,
            VAE,
            TEXT,
            "text_encoder/config.json",
            SCHEDULER,
            TOKENS,
            "tokenizer/tokenizer_config.json",
            "vae",
            "tokenizer",
        )
    ),
    ("link-loop", link(VAE, VAE.rpartition("/")[2]), (VAE, "is a broken link")),
    (
        "no-transformer-config",
        remove("transformer/config.json"),
        ("transformer lacks config.json",),
    ),
    ("no-vae-config", remove("vae/config.json"), ("vae lacks config.json", "`vae`")),
    ("no-text-config", remove("text_encoder/config.json"), ("text_encoder lacks config.json",)),
    ("no-scheduler", remove(SCHEDULER), ("scheduler lacks scheduler_config.json",)),
    ("no-vocabulary", remove(TOKENS), ("tokenizer lacks its vocabulary", "tokenizer.json")),
    (
        "no-tokenizer-files",
        remove(TOKENS, "tokenizer/tokenizer_config.json"),
        ("tokenizer lacks", "it is empty"),
    ),
    ("no-weights", remove(VAE), ("`vae` has no weights", "holds config.json")),
    ("no-vae", remove("vae"), ("has no folder `vae`",)),
    ("vae-is-a-file", replace_by_file("vae"), ("/vae is a file",)),
    ("no-index", remove("model_index.json"), ("has no model_index.json",)),
    (
        "bom-index",
        before("model_index.json", BOM),
        ("model_index.json begins with a byte-order mark", "without BOM"),
    ),
    (
        "bom-config",
        before("vae/config.json", BOM),
        ("vae/config.json begins with a byte-order mark",),
    ),
    ("bom-tokenizer", before(TOKENS, BOM), (TOKENS, "begins with a byte-order mark")),
    (
        "bom-scheduler",
        before(SCHEDULER, BOM),
        ("scheduler_config.json begins with a byte-order mark",),
    ),
    ("utf16-config", utf16("transformer/config.json"), ("transformer/config.json is UTF-16",)),
    (
        "utf16-tokenizer",
        utf16("tokenizer/tokenizer_config.json"),
        ("tokenizer_config.json is UTF-16",),
    ),
    ("latin-1", before("vae/config.json", b'{"a": "\xe9"}'), ("vae/config.json is not UTF-8",)),
    ("empty-index", write("model_index.json", b""), ("model_index.json is empty",)),
    ("empty-config", write("vae/config.json", b""), ("vae/config.json is empty",)),
    ("empty-tokenizer", write(TOKENS, b""), (f"{TOKENS} is empty",)),
    ("empty-weights", write(VAE, b""), (f"{VAE} is empty",)),
    ("cut-tokenizer", write(TOKENS, b'{"model": '), (f"{TOKENS} is no valid JSON",)),
    ("list-tokenizer", write(TOKENS, b"[]"), ("`tokenizer`", "tokenizer")),
    ("empty-object-tokenizer", write(TOKENS, b"{}"), ("`tokenizer`", "tokenizer")),
    ("list-config", write("vae/config.json", b"[]"), ("vae/config.json holds no JSON object",)),
    ("null-index", write("model_index.json", b"null"), ("model_index.json holds no JSON object",)),
    ("empty-object-index", write("model_index.json", b"{}"), ("model_index.json", "_class_name")),
    (
        "no-class-name",
        edit("model_index.json", _class_name=None),
        ("model_index.json", "`_class_name`"),
    ),
    (
        "lfs-config",
        write("vae/config.json", LFS),
        ("vae/config.json is a git-lfs pointer", "git lfs pull"),
    ),
    ("lfs-tokenizer", write(TOKENS, LFS), (TOKENS, "git-lfs pointer")),
    ("lfs-weights", write(VAE, LFS), (VAE, "git-lfs pointer")),
    ("page-weights", write(UNET, PAGE), (UNET, "is a web page")),
    ("page-config", write("vae/config.json", PAGE), ("vae/config.json is a web page",)),
    ("folder-config", folder("vae/config.json"), ("vae lacks config.json",)),
    ("folder-weights", folder(VAE), ("`vae` has no weights",)),
    (
        "cut-weights",
        lambda m: (m / VAE).write_bytes((m / VAE).read_bytes()[:5000]),
        (VAE, "is cut short"),
    ),
    ("int8", dtype(UNET, "int8"), (UNET, "stored as I8", "quantized")),
    ("uint8-text", dtype(TEXT, "uint8"), (TEXT, "stored as U8", "quantized")),
    ("int-vae", dtype(VAE, "int32"), (VAE, "stored as I32", "quantized")),
    (
        "config-values",
        edit("vae/config.json", base_dim="wide"),
        ("`vae`: AutoencoderKLWan cannot be made from", "vae/config.json"),
    ),
    (
        "transformer-values",
        edit("transformer/config.json", num_layers=None),
        ("`transformer`: WanTransformer3DModel cannot be made from",),
    ),
    ("text-values", edit("text_encoder/config.json", num_layers="two"), ("`text_encoder`",)),
    (
        "scheduler-values",
        edit(SCHEDULER, num_train_timesteps="many"),
        ("scheduler", "UniPCMultistepScheduler cannot"),
    ),
    ("shard", rename(VAE, SHARD.format("", 1)), ("lacks " + SHARD.format("", 2), "index")),
    ("fp16-shard", rename(UNET, SHARD.format(".fp16", 2)), ("lacks " + SHARD.format(".fp16", 1),)),
    (
        "index-alone",
        write("vae/diffusion_pytorch_model.safetensors.index.json", INDEX),
        ("vae lacks x-00001-of-00001.safetensors",),
    ),
    ("garbage-pieces", pieces(b"garbage"), ("tokenizer/spiece.model is no SentencePiece model",)),
    ("cut-pieces", pieces(b"\n\x05ab"), ("tokenizer/spiece.model is no SentencePiece model",)),
    (
        "no-merges",
        pair("vocab.json"),
        ("tokenizer lacks merges.txt",),
    ),
    ("no-vocab-json", pair("merges.txt"), ("tokenizer lacks vocab.json",)),
]


@pytest.mark.parametrize("backend", ["sglang", "diffusers"])
@pytest.mark.parametrize(("change", "parts"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_a_broken_folder_is_named_as_what_it_is(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Change,
    parts: tuple[str, ...],
    backend: str,
) -> None:
    model = tmp_path / "model"
    shutil.copytree(DEMO, model)
    change(model)
    words = ["--prompt", "a red circle", "--num-inference-steps", "1", "--height", "64"]
    words += [
        "checks.trained=false",
        "--width",
        "64",
        "--num-frames",
        "1",
        "--output-path",
        str(tmp_path / "out"),
    ]
    code = main(["generate", "--model-path", str(model), "--backend", backend, *words])
    said = capsys.readouterr().err
    assert code == 2, said
    assert not [part for part in parts if part not in said], said
    assert not [text for text in LIBRARY_TEXTS if text in said], said
    assert not list((tmp_path / "out").glob("*"))
