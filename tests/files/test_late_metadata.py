"""A clip says what happened until its last frame, though its encoder began before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from runtime.contract.values import Audio
from runtime.files.image_files import write_frames
from runtime.files.mp4_comment import replace_mp4_comment
from runtime.files.video_files import VideoWriter, read_video, write_video
from runtime.provenance.read_back import read_record

FRAMES = np.random.default_rng(3).integers(0, 255, (9, 48, 64, 3), np.uint8)
SOUND = Audio(torch.linspace(-1, 1, 24000)[None], 24000)
FIRST = '{"provenance": 1}'
TEXTS = ['{"provenance": 1, "more": "' + "x" * n + '"}' for n in (0, 7, 4000)] + ["{}"]


def changing(*texts: str) -> Callable[[], str]:
    """A record that changes once its first text was asked for."""
    left = [*texts]
    return lambda: left.pop(0) if len(left) > 1 else left[0]


@pytest.mark.parametrize("text", TEXTS, ids=lambda t: str(len(t)))
@pytest.mark.parametrize("audio", [None, SOUND], ids=["silent", "sound"])
def test_an_mp4_is_the_one_that_had_the_comment_from_the_start(
    text: str, audio: Audio | None, tmp_path: Path
) -> None:
    write_video(FRAMES, tmp_path / "a.mp4", fps=8, metadata=text, audio=audio)
    write_video(FRAMES, tmp_path / "b.mp4", fps=8, metadata=changing(FIRST, text), audio=audio)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    assert read_record(tmp_path / "b.mp4") == text
    assert {p.name for p in tmp_path.iterdir()} == {"a.mp4", "b.mp4"}


@pytest.mark.parametrize("suffix", [".mp4", ".webp", ".gif", ".npy"])
def test_every_format_has_the_last_text(suffix: str, tmp_path: Path) -> None:
    path, said = tmp_path / f"x{suffix}", [FIRST]
    if suffix == ".npy":
        write_frames(FRAMES, path, metadata=changing(TEXTS[1]))
    else:
        with VideoWriter(path, fps=8, metadata=lambda: said[-1]) as writer:
            writer.write(FRAMES[:4])
            writer.write(FRAMES[4:])
            said.append(TEXTS[1])
    assert read_record(path) == TEXTS[1]


def test_an_mp4_without_a_comment_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "x.mp4"
    write_video(FRAMES, path, fps=8)
    before = path.read_bytes()
    assert not replace_mp4_comment(path, FIRST)
    assert path.read_bytes() == before
    assert len(read_video(path)[0]) == len(FRAMES)


def test_what_is_no_mp4_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "x.mp4"
    for content in (b"", b"moov", b"\0\0\0\x10moov\0\0\0\x99udta", b"\0\0\0\1moov" + b"\0" * 8):
        path.write_bytes(content)
        assert not replace_mp4_comment(path, FIRST)
        assert path.read_bytes() == content
