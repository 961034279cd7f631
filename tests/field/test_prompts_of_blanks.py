"""A prompt that a graph requires says something: on the command line, in Python, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.main import main
from runtime import Runtime, UserError
from runtime.settings.field import Field
from tests.support.servers import Server, serving

BLANKS = ["", " ", "\t\n", "\u3000"]
MESSAGE = "is empty"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("blanks")) as made:
        yield made


@pytest.mark.parametrize("prompt", BLANKS)
def test_on_the_command_line(prompt: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "--dry-run", "--prompt", prompt]) == 2
    said = capsys.readouterr().err
    assert "--prompt" in said
    assert MESSAGE in said


def test_in_a_config_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run.yaml").write_text("request: {prompt: ' '}\n", "utf-8")
    assert main(["generate", "--dry-run", "--config", str(tmp_path / "run.yaml")]) == 2
    assert MESSAGE in capsys.readouterr().err


@pytest.mark.parametrize("prompt", BLANKS)
def test_in_python(prompt: str) -> None:
    with pytest.raises(UserError, match=MESSAGE) as caught:
        Runtime.load().generate(prompt=prompt)
    assert caught.value.field.endswith("prompt")


@pytest.mark.parametrize("prompt", BLANKS)
@pytest.mark.parametrize("path", ["/v1/images/generations", "/v1/videos"])
def test_over_http(prompt: str, path: str, server: Server) -> None:
    answer = server.post(path, {"prompt": prompt})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["param"] == "prompt"
    assert MESSAGE in error["message"]


def test_what_a_graph_does_not_require_may_be_empty() -> None:
    request = {"prompt": "a red circle", "negative_prompt": " "}
    assert Runtime.load().validate(**request)["negative_prompt"] == " "
    assert Field("prompt", default="").parse("") == ""
