"""What a model was not trained for is refused with what works; what is left unsaid is put in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cli.main import main
from runtime import Runtime, UserError
from runtime.settings.trained import Trained

pytestmark = pytest.mark.usefixtures("only_trained")
RULE = Trained.read(
    {
        "words": {"colour": ["red", "blue"], "shape": ["circle", "star"], "other": ["a", "on"]},
        "needs": ["shape"],
        "before": {"shape": "colour"},
        "examples": ["a red circle"],
    }
)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("a red circle", "a red circle"),
        ("Star", "red Star"),
        ("a circle on red", "a blue circle on red"),
        ("a circle, a star!", "a red circle, a red star!"),
        ("circle on blue red", "red circle on blue red"),
    ],
)
def test_a_bare_noun_gets_a_colour(text: str, read: str) -> None:
    assert RULE.admit("request.prompt", text)[0] == read


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a red circel", "does not know: `circel`\nhelp: did you mean `circle`? These work: a red"),
        (
            "astronaut",
            "`request.prompt` has words that the model does not know: `astronaut`\nhelp: These",
        ),
        ("", "`request.prompt` names no shape: circle, star"),
        ("a_red_circle 7", "does not know: `7`"),
    ],
)
def test_other_words_are_an_error(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        RULE.admit("request.prompt", text)
    assert message in f"{caught.value.message}\nhelp: {caught.value.help}"
    assert caught.value.field == "request.prompt"


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({"word": []}, "word"),
        ({"words": ["circle"]}, "words"),
        ({"words": {"shape": ["circle", True]}}, "words.shape"),
        ({"words": {"shape": ["circle"]}, "needs": ["colour"]}, "needs"),
        ({"words": {"shape": ["circle"]}, "before": {"shape": "colour"}}, "before"),
        ({"values": ["128"]}, "values"),
    ],
)
def test_a_wrong_rule_is_an_error_of_the_graph(data: Mapping[str, Any], field: str) -> None:
    with pytest.raises(UserError) as caught:
        Trained.read(data)
    assert caught.value.field == field


def test_the_demo_draws_what_it_says() -> None:
    demo = Runtime.load()
    assert demo.validate(prompt="circle")["prompt"] == "red circle"
    for name, size in (("height", 64), ("width", 256)):
        with pytest.raises(UserError, match=f"`request.{name}` expects 128 px"):
            demo.validate(prompt="a red circle", **{name: size})
    rule = demo.fields["prompt"].trained
    assert rule is not None
    assert len(rule.examples) == 3
    for example in rule.examples:
        assert demo.validate(prompt=example)["prompt"] == example


def test_all_that_its_tokenizer_knows_and_no_more() -> None:
    from tokenizers import Tokenizer

    folder = Path(__file__).parents[2] / "demo/checkpoint/tokenizer/tokenizer.json"
    rule = Runtime.load().fields["prompt"].trained
    assert rule is not None
    known = {word for word in Tokenizer.from_file(str(folder)).get_vocab() if word.isalpha()}
    assert {word for _, words in rule.words for word in words} == known


def test_it_is_tried_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["generate", "--dry-run", "--prompt", "an astronaut", "--height", "64"]
    assert main(words) == 2
    assert "These work: a red circle on a blue background | " in capsys.readouterr().err
    assert main([*words, "checks.trained=false"]) == 0


def test_a_place_in_a_graph(tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text("defaults: [demo, _self_]\nrequest: {prompt: {trained: {needs: [form]}}}\n")
    with pytest.raises(UserError, match=r"2:\d+  request\.prompt\.trained\.needs"):
        _ = Runtime.load(graph=path).engine.checked
