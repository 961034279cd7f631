"""Messages about models that cannot be opened, word for word."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.checkpoint.checkpoint import Checkpoint
from runtime.checkpoint.component_source import fetch_weights
from runtime.errors import UserError
from runtime.graph.model import ComponentSpec
from tests.support import hubs

WEIGHTS = hubs.WEIGHTS


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return hubs.folder(tmp_path / "model", hubs.model())


def write(name: str, content: bytes | str) -> Callable[[Path], None]:
    """A change to a model: one file with other content."""
    data = content.encode() if isinstance(content, str) else content
    return lambda root: void(hubs.folder(root, {name: data}))


def remove(name: str) -> Callable[[Path], None]:
    return lambda root: (root / name).unlink()


def void(value: object) -> None:
    del value


def predicted(model: Path, spec: ComponentSpec) -> int:
    return fetch_weights(Checkpoint.open(str(model)).component(spec)).nbytes()


HELD = "ROOT/transformer holds config.json, no .safetensors and no .bin."
BAD = [
    (
        lambda root: (root / "model_index.json").write_text("{"),
        ComponentSpec("transformer"),
        "ROOT/model_index.json is no valid JSON: Expecting property name enclosed in double quotes:"
        " line 1 column 2 (char 1)\n    help: download the file again, or mend it",
    ),
    (
        remove("model_index.json"),
        ComponentSpec("transformer"),
        "`ROOT` has no model_index.json: it holds scheduler, transformer, README.md.\n"
        "    help: give a diffusers-format folder",
    ),
    (
        lambda root: (
            remove("model_index.json")(root),
            write("sd.safetensors", b"")(root),
        ),
        ComponentSpec("transformer"),
        "`ROOT` has no model_index.json: it holds single-file weights (sd.safetensors), which are"
        " not supported.\n"
        "    help: give the model in diffusers format, a folder with model_index.json",
    ),
    (
        lambda root: (
            remove("model_index.json")(root),
            write("config.json", '{"model_type": "llama", "architectures": ["L"]}')(root),
        ),
        ComponentSpec("transformer"),
        "`ROOT` has no model_index.json: it is a transformers model (llama).\n"
        "    help: give a diffusers model; a text encoder goes to `components.<name>.path`",
    ),
    (
        remove(WEIGHTS),
        ComponentSpec("transformer"),
        f"`transformer` has no weights: {HELD}\n    help: download the model again",
    ),
    (
        write(WEIGHTS, hubs.model()[WEIGHTS][:-3]),
        ComponentSpec("transformer"),
        f"ROOT/{WEIGHTS} is cut short: it has 4757 bytes, its header asks for 4760.\n"
        "    help: download the file again",
    ),
    (
        write(WEIGHTS, "version https://git-lfs.github.com/spec/v1\noid sha256:00\n"),
        ComponentSpec("transformer"),
        f"ROOT/{WEIGHTS} is a git-lfs pointer, not weights.\n"
        "    help: run `git lfs pull` in its folder",
    ),
    (
        write("transformer/config.json", "{}"),
        ComponentSpec("transfromer"),
        "`ROOT` has no component `transfromer`.\n"
        "    help: did you mean `transformer`? it has: scheduler, transformer",
    ),
    (
        lambda root: None,
        ComponentSpec("image_encoder"),
        "`ROOT` has no component `image_encoder`: its model_index.json leaves it out.\n"
        "    help: it has: scheduler, transformer",
    ),
    (
        lambda root: None,
        ComponentSpec("transformer", revision="v2"),
        "components.transformer.revision: `v2` is given, but `ROOT` is a local folder, which has no"
        " revisions.\n    help: give a hub id as components.transformer.path, or leave the revision"
        " out",
    ),
    (
        lambda root: None,
        ComponentSpec("transformer", path="ROOT/schedular"),
        "components.transformer.path: `ROOT/schedular` is neither a folder nor a hub id"
        " (`organisation/name`).\n    help: did you mean `ROOT/scheduler`?",
    ),
    (
        write("empty/notes.txt", ""),
        ComponentSpec("transformer", path="ROOT/empty"),
        "components.transformer.path: `ROOT/empty` is no source for `transformer`: it has no folder"
        " `transformer` and no config.json, scheduler_config.json or tokenizer_config.json.\n"
        "    help: give a component's folder, a model with one (folder or hub id), or a"
        " .safetensors",
    ),
    (
        lambda root: None,
        ComponentSpec("transformer", path="ROOT/none.safetensors"),
        "components.transformer.path: `ROOT/none.safetensors` is no source for `transformer`: there"
        " is no such file.\n"
        "    help: give a component's folder, a model with one (folder or hub id), or a"
        " .safetensors",
    ),
]


@pytest.mark.parametrize(("change", "spec", "message"), BAD)
def test_messages(
    model: Path, change: Callable[[Path], None], spec: ComponentSpec, message: str
) -> None:
    change(model)
    path = spec.path and spec.path.replace("ROOT", str(model))
    with pytest.raises(UserError) as caught:
        predicted(model, ComponentSpec(spec.name, path=path, revision=spec.revision))
    assert str(caught.value).replace(str(model), "ROOT") == message


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (
            "modle",
            "model_path: `ROOT/modle` is neither a folder nor a hub id (`organisation/name`).\n"
            "    help: did you mean `ROOT/model`?",
        ),
        (
            "model/README.md",
            "model_path: `ROOT/model/README.md` is a file, not a folder.\n"
            "    help: give a folder in diffusers format (with model_index.json) or a hub id",
        ),
        (
            "model/transformer",
            "`ROOT/model/transformer` has no model_index.json: it is one component"
            " (FluxTransformer2DModel).\n"
            "    help: give the whole model, and this folder as `components.<name>.path`",
        ),
    ],
)
def test_messages_of_paths(model: Path, path: str, message: str) -> None:
    root = model.parent
    with pytest.raises(UserError) as caught:
        Checkpoint.open(str(root / path))
    assert str(caught.value).replace(str(root), "ROOT") == message
