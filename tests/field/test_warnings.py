"""Notes of a run over HTTP: they stand in `warnings` of the answer, and in those of the job."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.servers import Server, serving, wait_until

NODE = '''"""A node that notes something."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from runtime.events import Noted


@dataclass(frozen=True, kw_only=True)
class Note:
    """Note that a field has no effect, twice."""

    class Out(NamedTuple):
        text: str

    def run(self, *, text: str) -> Iterator[Any]:
        """The text."""
        for _ in range(2):
            yield Noted(text="`request.negative_prompt` has no effect: guidance is off")
        return self.Out(text)
'''
GRAPH = """defaults: [demo, _self_]
nodes:
  note: {type: "noting:node.Note", inputs: {text: request.prompt}}
  positive: {inputs: {text: note.text}}
"""
WARNING = "`negative_prompt` has no effect: guidance is off"
# A prompt for each test: a result that is recalled from an earlier run brings no notes.
BODY = {"prompt": "a red circle on a blue background", "n": 2}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("warnings")
    plugin(folder)
    graph = folder / "noting.yaml"
    graph.write_text(GRAPH)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ["PYTHONPATH"]]))
        with serving(folder, "--graph", str(graph)) as made:
            yield made


def plugin(folder: Path) -> None:
    """An installed package with the node."""
    (folder / "noting").mkdir()
    (folder / "noting" / "__init__.py").write_text('"""A plugin."""\n')
    (folder / "noting" / "node.py").write_text(NODE)
    info = folder / "noting-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: noting\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[sglang_graph.nodes]\nnoting = noting\n")


def test_notes_are_in_the_answer_of_an_image(server: Server) -> None:
    answer = server.post("/v1/images/generations", BODY | {"style": "vivid"}).json()
    assert answer["warnings"] == ["`style` has no effect on this server", WARNING]


def test_notes_are_in_the_job_of_a_video(server: Server) -> None:
    made = server.post("/v1/videos", BODY | {"prompt": "a yellow star", "num_frames": 5}).json()
    assert made["warnings"] == []
    url = f"/v1/videos/{made['id']}"
    wait_until(lambda: server.get(url).json()["status"] == "completed")
    assert server.get(url).json()["warnings"] == [WARNING]
    assert server.get("/v1/videos").json()["data"][0]["warnings"] == [WARNING]


def test_a_multipart_answer_has_them_too(server: Server) -> None:
    form = {"prompt": "a green square", "num_frames": "5", "user": "me"}
    made = server.post("/v1/videos", data=form, files={"input_reference": ("", b"")}).json()
    url = f"/v1/videos/{made['id']}"
    wait_until(lambda: server.get(url).json()["status"] == "completed")
    assert server.get(url).json()["warnings"] == [WARNING]
