"""The role of a component is declared by the graph; policies reach components by it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtime import GraphError, Runtime, UserError
from runtime.checkpoint.component_source import ComponentSource
from runtime.checkpoint.vanilla_pipeline import PipelineSource
from runtime.configure.resolve import edit, resolve_graph
from runtime.graph.catalog import entries
from runtime.graph.check import check
from runtime.graph.roles import component_roles, stated_roles
from runtime.plan.planner import bound
from tests.support.tiny import glm, ltx2, wan, wan_i2v

REQUEST: dict[str, Any] = dict(prompt="a cat", height=64, width=64, seed=1)
GRAPHS = sorted(entries())


@pytest.mark.parametrize("name", GRAPHS)
def test_every_packaged_graph_declares_the_role_of_every_component(name: str) -> None:
    graph = resolve_graph([edit("graph", name)])
    stated = stated_roles(graph)
    assert all(stated.values()), stated
    checked = check(graph)
    needed = {
        key
        for node, known in checked.declarations.items()
        for field, key in bound(checked.graph.nodes[node], known).items()
        if known.components[field]
    }
    assert needed <= {*stated}, "a node needs a component that is not declared"


@pytest.mark.parametrize("name", GRAPHS)
def test_the_node_classes_give_the_same_roles(name: str) -> None:
    """What a graph without roles falls back to."""
    graph = resolve_graph([edit("graph", name)])
    bare = resolve_graph(
        [edit("graph", name), *(edit(f"components.{n}.role", None) for n in graph.components)]
    )
    assert not any(stated_roles(bare).values())
    assert component_roles(bare).items() >= stated_roles(graph).items()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Any], Path]:
    made: dict[Any, Path] = {}

    def once(module: Any) -> Path:
        if module not in made:
            made[module] = module.checkpoint(tmp_path_factory.mktemp("roles") / "model")
        return made[module]

    return once


def plan_text(runtime: Runtime, **request: Any) -> dict[str, str]:
    """Component to its dtype, as the text of the plan has it."""
    lines = (line.split() for line in str(runtime.plan(**REQUEST, **request)).splitlines())
    return {words[1]: words[3] for words in lines if words[0] == "load" and len(words) > 5}


ENCODERS = {"precision.text_encoders": ["float16"]}
VAE = {"precision.vae": "float16"}
CASES = [
    (ltx2, ENCODERS, {"text_encoder", "connectors"}, ""),
    (ltx2, VAE, {"vae"}, "`audio_vae`, `vocoder` (role audio), which keep their dtype:"
     " `components.audio_vae.dtype` sets it"),
    (ltx2, VAE | {"components.audio_vae.dtype": "float16", "components.vocoder.dtype": "float16"},
     {"vae", "audio_vae", "vocoder"}, ""),
    (glm, ENCODERS, {"text_encoder", "vision_language_encoder"}, ""),
    (glm, VAE, {"vae"}, ""),
    (wan_i2v, ENCODERS, {"text_encoder"}, "`image_encoder` (role image_encoder), which keeps its"
     " dtype: `components.image_encoder.dtype` sets it"),
    (wan_i2v, VAE, {"vae"}, ""),
]  # fmt: skip


@pytest.mark.parametrize(("model", "overrides", "reached", "note"), CASES)
@pytest.mark.parametrize("backend", ["sglang", "diffusers"])
def test_a_precision_reaches_what_has_its_role_or_says_what_it_leaves(
    model: Any, overrides: Any, reached: set[str], note: str, backend: str,
    folder: Callable[[Any], Path],
) -> None:  # fmt: skip
    runtime = Runtime.load(folder(model), {**overrides, "model.backend": backend})
    notes = [text for text in runtime.config.notes if "precision." in text]
    assert [text.partition(" is not for ")[2] for text in notes] == ([note] if note else [])
    if backend == "diffusers":
        (source,) = runtime.engine.sources.values()
        assert isinstance(source, PipelineSource)
        half = {name for name, dtype in source.dtypes.items() if dtype == "float16"}
    else:
        half = {n for n, f in runtime.engine.facts.items() if f.dtype == "float16"}
    assert half == reached
    if backend == "sglang":
        request = {"image_path": image()} if model is wan_i2v else {}
        text = plan_text(runtime, **request)
        assert {n for n, dtype in text.items() if dtype == "float16"} == reached & set(text)


def image() -> Any:
    import numpy as np

    return np.full((64, 64, 3), 128, np.uint8)


def test_dtypes_of_encoders_are_counted_by_role(folder: Callable[[Any], Path]) -> None:
    three = {"precision.text_encoders": ["float16", "float32", "float16"]}
    with pytest.raises(
        UserError, match="has 3 dtypes, and this model has 2 text encoders"
    ) as caught:
        Runtime.load(folder(ltx2), three)
    assert caught.value.help == "give 2 at most, in order"
    two = Runtime.load(folder(ltx2), {"precision.text_encoders": ["float16", "float32"]})
    dtypes = {n: two.engine.facts[n].dtype for n in ("text_encoder", "connectors")}
    assert dtypes == {"text_encoder": "float16", "connectors": "float32"}


OWN = """
defaults: [wan2_1_t2v, _self_]
title: Wan, whose parts have names of their own
components:
  text_encoder: null
  {vae}
  {encoder}
nodes:
  positive: {{components: {{text_encoder: reader}}}}
  negative: {{components: {{text_encoder: reader}}}}
  decode: {{components: {{vae: decoder}}}}
"""


@pytest.mark.parametrize("stated", [True, False])
def test_names_of_components_mean_nothing(
    stated: bool, folder: Callable[[Any], Path], tmp_path: Path
) -> None:
    model = folder(wan)
    roles = {"vae": "role: vae, ", "encoder": "role: text_encoder, "} if stated else {}
    text = OWN.format(
        vae=f"decoder: {{{roles.get('vae', '')}path: {model / 'vae'}}}",
        encoder=f"reader: {{{roles.get('encoder', '')}path: {model / 'text_encoder'}}}",
    )
    graph = tmp_path / "own.yaml"
    graph.write_text(text, "utf-8")
    overrides = {"precision.vae": "float16", "vae.slicing": True, "vae.config.load_encoder": False}
    runtime = Runtime.load(model, overrides, graph=str(graph))
    assert runtime.engine.facts["decoder"].dtype == "float16"
    source = runtime.engine.sources["decoder"]
    assert isinstance(source, ComponentSource)
    assert (source.left_out, bool(source.vae_settings)) == (("encoder",), True)
    dtypes = {"precision.text_encoders": ["float16"]}
    reader = Runtime.load(model, dtypes, graph=str(graph)).engine.facts["reader"]
    assert reader.dtype == "float16"


def test_a_role_that_there_is_not() -> None:
    graph = resolve_graph([edit("graph", "demo"), edit("components.vae.role", "vea")])
    with pytest.raises(GraphError) as caught:
        check(graph)
    assert '"vea" is no role' in str(caught.value)
    assert "did you mean `vae`?" in str(caught.value)
