"""File names, seeds and prompt files."""

import random
from datetime import datetime
from pathlib import Path

import pytest

from cli.naming import LONGEST_NAME, derived_stem, numbered, split_name
from cli.samples import read_prompts, sample_seeds
from runtime import UserError

NOW = datetime(2026, 3, 4, 5, 6, 7)
DIGEST = "0123456789abcdef"
TAIL = "_20260304-050607_01234567"


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("a red circle", "a_red_circle"),
        ("  a \t red\n circle ", "a_red_circle"),
        ("../../etc/passwd", "etc_passwd"),
        ("/absolute", "absolute"),
        ("C:\\x", "C_x"),
        ("a\x00b\x1bc", "a_b_c"),
        ("...", "output"),
        ("", "output"),
        ("-rf", "rf"),
        ("ein blauer Würfel", "ein_blauer_Würfel"),
        ("红色的圆", "红色的圆"),
        ("\udcff x", "x"),
        ("${oc.env:HOME}", "${oc.env_HOME}"),
        ("x" * 400, "x" * 100),
    ],
)
def test_derived(prompt: str, words: str) -> None:
    assert derived_stem(prompt, NOW, DIGEST) == words + TAIL


def test_derived_is_always_one_safe_name() -> None:
    draw = random.Random(1)
    alphabet = 'ab /\\.\x00\n\t:*?"<>|-_~é红\u202e\U0001f600\u0301\udc80'
    for _ in range(3000):
        prompt = "".join(draw.choices(alphabet, k=draw.randrange(200)))
        stem = derived_stem(prompt, NOW, DIGEST)
        assert stem.endswith(TAIL)
        assert len(stem) <= LONGEST_NAME
        assert len(stem.encode()) <= 200
        assert Path(stem).name == stem
        assert not set(stem) & set('\x00\n/\\:*?"<>|\u202e')
        assert stem[0] not in ".-"


@pytest.mark.parametrize(
    ("name", "stem", "suffix"),
    [
        ("x.png", "x", ".png"),
        ("x.JPEG", "x", ".JPEG"),
        ("x", "x", ""),
        ("v1.5", "v1.5", ""),
        ("a.b.mp4", "a.b", ".mp4"),
        ("ein Würfel.webp", "ein Würfel", ".webp"),
        ("frames.npy", "frames", ".npy"),
    ],
)
def test_chosen(name: str, stem: str, suffix: str) -> None:
    assert split_name(name) == (stem, suffix)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "a/b", "/a", "..\\a", "a\x00", "a\n", "CON", "nul.png", "com1.x.png", ".a",
     "-a", " a", "a ", "a .png", "x" * 151, "红" * 100, "a\udcff", "a\u202eb"],
)  # fmt: skip
def test_refused(name: str) -> None:
    with pytest.raises(UserError, match=r"^--output-file-name"):
        split_name(name)


def test_numbered() -> None:
    assert [numbered("x", i, 2) for i in range(2)] == ["x_0", "x_1"]
    assert numbered("x", 0, 1) == "x"


@pytest.mark.parametrize(
    ("given", "samples", "default", "expected"),
    [
        ((), None, 7, [7]),
        ((), None, None, [42]),
        ((), 3, 7, [7, 8, 9]),
        ((5,), 3, 7, [5, 6, 7]),
        ((5, 1), None, 7, [5, 1]),
        ((5, 1), 2, 7, [5, 1]),
        ((0,), None, 7, [0]),
    ],
)
def test_seeds(
    given: tuple[int, ...], samples: int | None, default: int | None, expected: list[int]
) -> None:
    assert sample_seeds(given, samples, default) == expected


def test_prompt_file(tmp_path: Path) -> None:
    file = tmp_path / "p.txt"
    file.write_bytes("\ufeffa red circle\r\n\n  \n a=b, c: d \nein Wür\u2028fel".encode())
    assert read_prompts(str(file)) == ["a red circle", "a=b, c: d", "ein Wür\u2028fel"]
