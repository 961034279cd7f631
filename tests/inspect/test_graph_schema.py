"""`sglang graphs --schema`: what is right passes; what is wrong is told where a schema can tell."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator  # type: ignore[import-untyped]  # it has no types

from cli.main import main
from runtime.contract.declare import Declaration
from runtime.inspect.json_schema import graph_schema
from runtime.inspect.node_schema import declared

ROOT = Path(__file__).parents[2]
GOOD = [*(ROOT / "graphs").glob("*.yaml"), *(ROOT / "tests/data/graphs").glob("*.yaml")]
TOLD = {  # wrong graph: places that the schema names; what needs the whole graph it cannot tell
    "bad_component": {"components.vae", "components.vae.dtype", "nodes.decode.components.vea"},
    "bad_request_fields": {"request", "request.a.type", "request.b.default", "request.c",
                           "request.e"},
    "empty": {""},
    "key_after_the_type": {"nodes.draw.params.colour", "nodes.total.inputs.c"},
    "misshapen_values": {"matches.class", "matches.config", "request.n.min", "request.n.multiple",
                         "request.n.required", "request.n.help", "request.a.choices",
                         "components.vae.path", "components.vae.config", "nodes.sum.params"},
    "missing_input": {"nodes.total"},
    "missing_parameter": {"nodes.sized"},
    "misspelt_sections": {"", "nodes.first", "nodes.second", "nodes.third.type"},
    "no_outputs": {""},
    "not_an_edge": {"nodes.first.inputs.b"},
    "sets_policies": {""},
    "unknown_input_and_parameter": {"nodes.sum.inputs.bb", "nodes.sum.params.pluss"},
    "unknown_node_type": {f"nodes.{n}.type" for n in ("one", "two", "four", "five", "six",
                                                      "seven")},
    "wrong_parameter": {"nodes.sum.params.plus"},
}  # fmt: skip
NODES: dict[str, Declaration] = declared()[0]


@cache
def validator() -> Any:
    """The schema, with the toy graphs on the search path."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SGLANG_GRAPH_PATH", str(ROOT / "tests/data/graphs"))
        schema = graph_schema()
    Draft7Validator.check_schema(schema)
    return Draft7Validator(schema)


def places(graph: object) -> set[str]:
    """Dotted paths of what the schema refuses."""
    return {".".join(map(str, e.absolute_path)) for e in validator().iter_errors(graph)}


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


@pytest.mark.parametrize("path", GOOD, ids=lambda p: p.stem)
def test_every_graph_is_right(path: Path) -> None:
    assert places(read(path)) == set()


@pytest.mark.parametrize("name", TOLD)
def test_what_is_wrong_is_told_with_its_place(name: str) -> None:
    assert places(read(ROOT / f"tests/data/bad_graphs/{name}.yaml")) == TOLD[name]


@pytest.mark.parametrize("type", NODES)
def test_every_node_knows_its_ports(type: str) -> None:
    known = NODES[type]
    said: dict[str, Any] = {
        "inputs": dict.fromkeys(known.inputs, "other.port"),
        "components": {name: name for name in known.components},
    }
    whole = {"type": type, **said}
    listed = {"params": dict.fromkeys(p for p, port in known.params.items() if port.required)}
    graph = {"nodes": {"one": {**whole, **listed}}, "outputs": {"x": "one.port"}}
    assert places(graph) == set()
    for section in ("inputs", "params", "components"):
        wrong = {**whole, **listed, section: {**said.get(section, listed["params"]), "xyz": "a.b"}}
        found = places({"nodes": {"one": wrong}, "outputs": {"x": "one.port"}})
        assert found == {f"nodes.one.{section}.xyz"}
        variant = {"defaults": ["unknown", "_self_"], "nodes": {"one": {"type": type}}}
        assert places(variant) == set(), "what it extends may say the rest"
    needed = [p for p in known.inputs.values() if p.required]
    alone = {"nodes": {"one": {"type": type, **listed}}, "outputs": {"x": "one.port"}}
    assert bool(places(alone)) == bool(needed)


def test_a_variant_knows_the_nodes_and_fields_that_it_extends() -> None:
    def variant(**said: Any) -> set[str]:
        return places({"defaults": ["wan2_1_t2v", "_self_"], **said})

    assert variant(nodes={"denoise": {"inputs": {"latents": "start.latents"}}}) == set()
    assert variant(nodes={"denoise": {"inputs": {"latent": "start.latents"}}}) == {
        "nodes.denoise.inputs.latent"
    }
    assert (
        variant(nodes={"denoise": None}, request={"fps": None, "height": {"default": 64}}) == set()
    )
    assert variant(request={"height": {"default": "tall"}}) == {"request.height.default"}
    assert variant(nodes={"nodenoise": {"inputs": {"latents": "a.b"}}}) == {"nodes.nodenoise"}
    changed = {
        "type": "guidance.RouteByTimestep",
        "inputs": {"high": "cond.denoiser", "cond": None},
    }
    assert variant(nodes={"guided": changed}) == set(), "null removes what was left over"


def test_a_parameter_is_of_its_type() -> None:
    def noise(value: object) -> set[str]:
        node = {"type": "latents.ImageNoise", "params": {"patch_size": value}}
        return places({"defaults": ["flux1", "_self_"], "nodes": {"noise": node}})

    assert noise(2) == noise(None) == set()
    assert noise("two") == noise(True) == {"nodes.noise.params.patch_size"}


def test_a_plugin_that_is_not_installed_may_be_right() -> None:
    def node(type: str) -> set[str]:
        return places({"nodes": {"one": {"type": type}}, "outputs": {"x": "one.port"}})

    assert node("joy:arith.Add") == set()
    assert node("toy:arith.Addd") == {"nodes.one.type"}


def test_an_editor_is_told_what_ports_are_for() -> None:
    said = validator().schema["definitions"]["vae.DecodeVideo"]["properties"]["inputs"][
        "properties"
    ]
    assert said["latents"]["description"].startswith("Latents; `video`: ")
    assert validator().schema["properties"]["matches"]["description"]


def test_the_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["graphs", "--schema"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["definitions"]["field"] == validator().schema["definitions"]["field"]
    assert main(["graphs", "--shema"]) == 2
