"""`--adjust-size` and `--adjust-frames` round to what the graph makes, and say so."""

from __future__ import annotations

import pytest

from cli.main import main
from runtime import Runtime, UserError
from runtime.settings.field import Field
from runtime.settings.policies import Adjust
from runtime.settings.rounding import nearest_fit, parse_rounded

SIZE = Field("height", "int", min=32, max=256, multiple=32, unit="px")
FRAMES = Field("num_frames", "int", min=1, max=17, multiple=4, offset=1, unit="frames")


@pytest.mark.parametrize(
    ("field", "value", "fit"),
    [
        (SIZE, 64, 64), (SIZE, 65, 64), (SIZE, 80, 64), (SIZE, 81, 96), (SIZE, 256, 256),
        (FRAMES, 1, 1), (FRAMES, 4, 5), (FRAMES, 7, 5), (FRAMES, 17, 17), (FRAMES, 16, 17),
    ],
)  # fmt: skip
def test_the_nearest_that_fits(field: Field, value: int, fit: int) -> None:
    assert nearest_fit(field, value) == fit
    assert field.parse(fit) == fit


def test_only_what_is_asked_for_is_rounded() -> None:
    assert parse_rounded(SIZE, 80, "--height", Adjust(size=True)) == (
        64, "--height is rounded to 64 px; the graph takes a multiple of 32",
    )  # fmt: skip
    for adjust in (Adjust(), Adjust(frames=True)):
        with pytest.raises(UserError, match="multiple of 32 px, got 80"):
            parse_rounded(SIZE, 80, "--height", adjust)
    with pytest.raises(UserError, match="at most 256"):
        parse_rounded(SIZE, 300, "--height", Adjust(size=True))
    assert parse_rounded(FRAMES, 7, "", Adjust(frames=True))[0] == 5


def test_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["generate", "--prompt", "a red circle", "--height", "100", "--width", "129"]
    assert main([*words, "--num-frames", "6", "--dry-run"]) == 2
    capsys.readouterr()
    assert main([*words, "--num-frames", "6", "--adjust-size", "--adjust-frames", "--dry-run"]) == 0
    said = capsys.readouterr().err
    assert "--height is rounded to 128 px; the model was trained for that" in said
    assert "--width is rounded to 128 px" in said
    assert "--num-frames is rounded to 5 frames; the graph takes a multiple of 4 plus 1" in said


def test_from_python(caplog: pytest.LogCaptureFixture) -> None:
    runtime = Runtime.load(overrides={"adjust.size": True})
    assert runtime.validate(prompt="x", height=70)["height"] == 128
    assert "`height` is rounded to 128 px" in caplog.text
