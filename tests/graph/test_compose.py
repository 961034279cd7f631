"""Graphs extend graphs, `null` removes, settings lie over files, and text stays as typed."""

from __future__ import annotations

import os
from pathlib import Path
from textwrap import dedent

import pytest

from runtime import Position, Raw, Runtime, Setting, UserError
from runtime.configure.resolve import edit, resolve, resolve_graph

TOY = "tests/data/graphs/toy.yaml"


@pytest.fixture(autouse=True)
def _at_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    monkeypatch.setenv("SGLANG_GRAPH_PATH", "tests/data/graphs")


def said(text: str, position: str = "command line") -> Setting:
    key, _, value = text.partition("=")
    return Setting(tuple(key.split(".")), Raw(value), key, Position(position))


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(dedent(text), "utf-8")
    return path


def test_a_graph_by_path_extends_one_on_the_search_path(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
        defaults: [toy, _self_]
        request: {n: {default: 8}}
        nodes:
          same: null
          again: null
          sum: {inputs: {b: null}}
        """,
    )
    graph = Runtime.load(graph=path).graph
    assert graph.name == "mine"
    assert graph.request["n"].default == 8
    assert graph.request["n"].min == 1
    assert "same" not in graph.nodes
    assert set(graph.nodes["sum"].inputs) == {"a"}


def test_a_variant_of_a_packaged_graph(tmp_path: Path) -> None:
    path = write(tmp_path, "defaults: [demo, _self_]\nrequest: {height: {default: 64}}\n")
    runtime = Runtime.load(graph=path)
    assert runtime.validate(prompt="a red circle")["height"] == 64
    assert runtime.config.checkpoint.class_name == "WanPipeline"


@pytest.mark.parametrize("searched", [False, True])
def test_a_graph_on_top_of_itself_breaks_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, searched: bool
) -> None:
    (tmp_path / "demo.yaml").write_text("defaults: [demo, _self_]\n", "utf-8")
    if searched:
        monkeypatch.setenv("SGLANG_GRAPH_PATH", str(tmp_path))
    path = write(tmp_path, "defaults: [demo, _self_]\nrequest: {height: {default: 64}}\n")
    runtime = Runtime.load(graph=path)
    assert runtime.validate(prompt="a red circle")["height"] == 64
    assert [p for p in runtime.graph.sources if p.parent == tmp_path] == [path]
    with pytest.raises(UserError, match="extends itself"):
        Runtime.load(graph=tmp_path / "demo.yaml")


def test_an_edited_graph_file_is_composed_anew(tmp_path: Path) -> None:
    path = write(tmp_path, "defaults: [toy, _self_]\ntitle: one\n")
    assert Runtime.load(graph=path).graph.title == "one"
    write(tmp_path, "defaults: [toy, _self_]\ntitle: a second title\n")
    assert Runtime.load(graph=path).graph.title == "a second title"


def test_later_settings_win() -> None:
    settings = [said("graph=toy"), said("request.n=3"), said("request.n=5")]
    assert resolve(settings).request == {"n": 5}


@pytest.mark.parametrize(
    "text", ["${oc.env:HOME}", "~", "a,b", "{x: 1}", "k=v", "no", "1e10", "null"]
)
def test_text_stays_as_typed(text: str) -> None:
    assert resolve([said(f"request.prompt={text}")]).request["prompt"] == (text,)
    if text != "null":
        assert resolve([said(f"output.file_name={text}")]).policies.output.file_name == text


def test_policy_options_and_fields() -> None:
    assert resolve([said("memo=off")]).policies.memo.max_mb == 0
    both = resolve(
        [said("memo=off"), said("memo.max_mb=7"), said("precision=mixed_bfloat16")]
    ).policies
    assert (both.memo.max_mb, both.precision.dit) == (7, "bfloat16")


def test_overrides_are_the_second_argument() -> None:
    with pytest.raises(UserError) as caught:
        Runtime.load({"request.height": 96})  # type: ignore[arg-type]
    assert str(caught.value) == (
        "the first argument of Runtime.load is a model, got a map\n"
        "    help: give the map as `overrides`, the second argument"
    )


def test_a_component_of_another_kind_lacks_what_nodes_ask_for() -> None:
    runtime = Runtime.load(None, {"components.vae.path": "demo/checkpoint/transformer"})
    with pytest.raises(UserError) as caught:
        runtime.plan(prompt="x")
    assert str(caught.value) == (
        "the config of `vae` (WanTransformer3DModel) has no `scale_factor_spatial`\n"
        "    help: give a component of the same kind with components.vae.path"
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_graph_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = write(tmp_path, "nodes: {}")
    path.chmod(0)
    with pytest.raises(UserError, match="cannot be read"):
        Runtime.load(graph=path)


def test_three_spellings_of_a_component_path(tmp_path: Path) -> None:
    component = resolve([said(f"components.vae.path={tmp_path}")]).graph.components["vae"]
    assert component.path == str(tmp_path)
    assert component.dtype == "float32"


@pytest.mark.parametrize(
    "setting",
    [
        *("parallel.num_gpus=1", "parallel.sp_degree=1", "placement.dit_cpu_offload=false"),
        *("attention.backend=null", "vae.tiling=false", "request.image_path=null"),
        *("warmup.mode=off", "placement.performance_mode=auto"),
    ],
)
def test_what_asks_for_nothing_is_accepted(setting: str) -> None:
    assert resolve([said(setting)])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "parallel.num_gpus=2",
            "parallel.num_gpus is 2, and nothing in this version uses it\n"
            "    help: leave it out",
        ),
        (
            "request.hieght=64",
            "request.hieght: graph `toy` takes no `hieght`. It takes: n, a, steps, seed.",
        ),
        ("request.n=0", "request.n expects at least 1, got 0"),
        ("request.n=four", 'request.n expects a whole number, got "four"'),
        (
            "components.vae.path=x",
            "components.vae: graph `toy` has no component `vae`. It has: none.",
        ),
        (
            "memo=of",
            "memo expects an option of conf/memo, got `of`\n    help: there are: default, off",
        ),
        ("memo.max_mb=-1", 'memo.max_mb expects at least 0 MB, got -1'),
        (
            "memo.max=1",
            "memo.max is 1, and nothing in this version uses it\n"
            "    help: did you mean `memo.max_mb`?",
        ),
        (
            "output.quality=hihg",
            "output.quality expects one of default, low, medium, high, maximum, "
            'got "hihg"\n    help: did you mean `high`?',
        ),
        (
            "model.backend=diffusers",
            "`backend` is diffusers, and graph `toy` is none of its graphs\n"
            "    help: leave one of the two out",
        ),
    ],
)  # fmt: skip
def test_errors(setting: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        resolve([said("graph=toy"), said(setting)])
    assert str(caught.value).replace("components.vae.path:", "components.vae:") == message


def test_all_wrong_values_are_reported_together() -> None:
    with pytest.raises(UserError) as caught:
        resolve([said("graph=toy"), said("request.n=x"), said("request.b=1"), said("foo.bar=2")])
    assert len(str(caught.value).split("\n")) >= 3


def test_an_unknown_graph_names_the_nearest() -> None:
    with pytest.raises(UserError, match="there is no graph `wan2_1_t2`") as caught:
        resolve([said("graph=wan2_1_t2")])
    assert caught.value.help == "did you mean `wan2_1_t2v`?"


def test_a_graph_that_brings_no_model_says_so() -> None:
    with pytest.raises(UserError) as caught:
        resolve([said("graph=wan2_1_t2v")])
    assert str(caught.value) == (
        "graph `wan2_1_t2v` needs a model and none is given\n"
        "    help: add `model.path=FOLDER` or a hub id"
    )


def test_the_checkpoint_chooses_the_graph() -> None:
    assert resolve([said("model.path=demo/checkpoint")]).graph.name == "demo"
    named = [said("model.path=demo/checkpoint"), said("graph=wan2_1_t2v")]
    assert resolve(named).graph.name == "wan2_1_t2v"


def test_a_class_that_no_graph_serves() -> None:
    with pytest.raises(UserError) as caught:
        resolve(
            [said("model.path=tests/data/toy_model"), said("model.pipeline_class_name=WanPipelin")]
        )
    assert str(caught.value) == (
        "no graph serves WanPipelin (from `tests/data/toy_model`); diffusers has no pipeline "
        "`WanPipelin` either\n    help: did you mean `WanPipeline`?"
    )


def test_a_later_option_replaces_what_was_said_of_its_fields() -> None:
    file, line = said("precision.dit=float16", "run.yaml"), said("precision=all_float32")
    assert resolve([file, line]).policies.precision.dit == "float32"
    assert resolve([line, file]).policies.precision.dit == "float16"


def test_null_leaves_a_component_where_it_was() -> None:
    for name in ("path", "revision", "dtype"):
        graph = resolve([said(f"components.vae.{name}=null")]).graph
        assert getattr(graph.components["vae"], name) is None


def test_a_revision_stays_text() -> None:
    settings = [said("components.vae.path=org/model"), said("components.vae.revision=12345")]
    assert resolve(settings).graph.components["vae"].revision == "12345"


def test_a_parameter_may_be_written_with_an_exponent() -> None:
    settings = [Setting(("graph",), TOY, "--graph", Position("command line"))]
    graph = resolve([*settings, said("nodes.sum.params.plus=1e-3")]).graph
    assert graph.nodes["sum"].params == {"plus": 0.001}


def test_overrides_may_be_nested() -> None:
    flat = Runtime.load(None, {"request.n": 8, "nodes.sum.params.plus": 1.0}, graph=TOY)
    nested = {"request": {"n": 8}, "nodes": {"sum": {"params": {"plus": 1.0}}}}
    assert Runtime.load(None, nested, graph=TOY).request == flat.request == {"n": 8}
    assert Runtime.load(None, nested, graph=TOY).graph.nodes == flat.graph.nodes


@pytest.mark.parametrize("path", ["nodes", "request", "outputs", "components"])
def test_a_section_is_no_setting(path: str) -> None:
    with pytest.raises(UserError, match=f"{path} is .*nothing in this version uses it"):
        Runtime.load(None, {path: 1}, graph=TOY)


def test_no_prompts_are_none_given() -> None:
    with pytest.raises(UserError, match=r"`request\.prompt` is required and not given"):
        Runtime.load(None, {"request.prompt": []}).validate()


def test_looking_at_a_graph_ignores_no_setting() -> None:
    with pytest.raises(UserError, match="takes no `nn`"):
        resolve_graph([edit("graph", TOY), said("request.nn=1")])


def test_an_edited_file_in_a_subfolder_is_composed_anew(tmp_path: Path) -> None:
    base = tmp_path / "parts/base.yaml"
    base.parent.mkdir()
    path = write(tmp_path, "defaults: [toy, parts/base@_global_, _self_]\n")
    for n in (5, 6):
        base.write_text(f"request: {{n: {{default: {n}}}}}\n")
        assert Runtime.load(graph=path).graph.request["n"].default == n


def test_a_composition_is_the_same_from_the_cache(tmp_path: Path) -> None:
    path = write(tmp_path, "defaults: [toy, _self_]\nmatches: {config: {1: 2}}\n")
    facts = [Runtime.load(graph=path).graph.matches for _ in range(2)]
    assert facts == [{"config": {1: 2}}] * 2


@pytest.mark.parametrize(
    "text",
    [
        "matches: Foo",
        "matches: {class: 5, config: 3}",
        "defaults: 5",
        "[1]",
        "checkpoint: 5",
        "a: [",
    ],
)
def test_a_broken_neighbour_breaks_no_other_graph(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, text)
    monkeypatch.setenv("SGLANG_GRAPH_PATH", str(tmp_path))
    assert Runtime.load().graph.name == "demo"
    assert "mine" in {row["name"] for row in Runtime.graphs()}


def test_a_graph_that_stands_in_for_a_packaged_one_cannot_extend_it(tmp_path: Path) -> None:
    path = tmp_path / "toy.yaml"
    path.write_text("defaults: [toy, _self_]\n")
    with pytest.raises(UserError, match="extends itself"):
        Runtime.load(graph=path)


def test_graphs_may_be_links_and_have_odd_names(tmp_path: Path) -> None:
    real = write(tmp_path, "defaults: [toy, _self_]\n")
    for name in ("my.v2", "a b", "a@b", "a=b", "x,y", "it's", "${x}"):
        link = tmp_path / f"{name}.yaml"
        link.symlink_to(real)
        assert Runtime.load(graph=link).graph.name == name


@pytest.mark.parametrize("model", ["", "model.path=demo/checkpoint"])
def test_a_revision_is_for_the_hub_only(model: str) -> None:
    settings = [said("model.revision=main"), *map(said, filter(None, [model]))]
    with pytest.raises(UserError, match="`revision` is main, and a local folder has no revisions"):
        resolve(settings)
