"""Fragments: parts of graphs in `graphs/fragments/`, which are no graphs of their own."""

from pathlib import Path

import pytest

from runtime.api import Runtime
from runtime.errors import UserError
from runtime.graph import catalog
from runtime.graph.compose_cache import _is_plain, _key

ROOT = Path(__file__).parents[2]
FRAGMENTS = sorted((ROOT / "graphs/fragments").glob("*.yaml"))
GRAPHS = sorted((ROOT / "graphs").glob("*.yaml"))


def test_a_fragment_is_no_graph_of_the_catalogue() -> None:
    assert FRAGMENTS
    assert not {path.stem for path in FRAGMENTS} & set(catalog.entries())
    with pytest.raises(UserError, match="there is no graph"):
        Runtime.load(graph=FRAGMENTS[0].stem)


@pytest.mark.parametrize("path", GRAPHS, ids=lambda path: path.stem)
def test_the_composition_of_every_packaged_graph_is_cached(path: Path) -> None:
    assert _is_plain(path)


def test_a_graph_outside_may_extend_a_fragment_and_follows_its_changes(tmp_path: Path) -> None:
    fragment = tmp_path / "fragments/result.yaml"
    fragment.parent.mkdir()
    graph = tmp_path / "mine.yaml"
    graph.write_text("defaults: [demo, fragments/result, _self_]\n", "utf-8")
    for size in (64, 96):
        text = f"# @package _global_\nrequest: {{height: {{default: {size}}}}}\n"
        fragment.write_text(text, "utf-8")
        assert Runtime.load(graph=graph).fields["height"].default == size


def test_what_a_fragment_holds_decides_the_key_of_the_cache(tmp_path: Path) -> None:
    fragment = tmp_path / "fragments/result.yaml"
    fragment.parent.mkdir()
    graph = tmp_path / "mine.yaml"
    graph.write_text("defaults: [demo, fragments/result, _self_]\n", "utf-8")
    keys = set()
    for size in (64, 96):
        fragment.write_text(f"# @package _global_\nrequest: {{height: {{default: {size}}}}}\n")
        keys.add(_key(graph, (tmp_path, *catalog.folders()), {}))
    assert len(keys) == 2
    assert _is_plain(graph)
