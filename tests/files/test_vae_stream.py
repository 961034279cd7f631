"""Clips that are decoded while they are written: equal to decoding at once, in steady memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nodes.cogvideox import DecodeFrames, StreamFrames
from nodes.save import SaveMedia
from nodes.vae import DecodeVideo
from nodes.vae_stream import DecodeCausal
from runtime.contract.calls import Asking, answer, gather
from runtime.contract.outputs import Destination
from runtime.contract.values import Latents, VideoStream
from runtime.files.video_files import VideoWriter, read_video
from tests.support.tiny import cogvideox, wan


def frames_of(stream: VideoStream) -> torch.Tensor:
    """All frames of a stream."""

    def read() -> Asking[list[torch.Tensor]]:
        found = []
        for ask in stream.parts():
            found += yield from gather(ask)
        return found

    return torch.cat(answer(read()))


@pytest.mark.parametrize("frames", [1, 2, 5])
@pytest.mark.parametrize("tiles", [False, True])
def test_equal_to_decoding_at_once(frames: int, tiles: bool) -> None:
    vae = wan.wan_vae()
    if tiles:
        vae.enable_tiling(64, 64, 48, 40)
    latents = torch.randn(1, 4, frames, 13, 9, generator=torch.Generator().manual_seed(1))
    stream = DecodeCausal(vae=vae).run(latents=Latents({"video": latents}), fps=8).video
    found = frames_of(stream)
    whole = answer(DecodeVideo(vae=vae).run(latents=Latents({"video": latents}), fps=8)).video
    assert stream.num_frames == len(found) == 4 * (frames - 1) + 1
    assert torch.equal(found, whole.frames)


@pytest.mark.parametrize("frames", [1, 9, 17])
@pytest.mark.parametrize("tiles", [False, True])
def test_chunks_of_several_latent_frames(frames: int, tiles: bool) -> None:
    vae = cogvideox.cogvideox_vae()
    if tiles:
        vae.enable_tiling(64, 48, 1 / 6, 1 / 5)
    shape = (1, (frames - 1) // 4 + 1, 4, 13, 9)
    latents = Latents({"video": torch.randn(shape, generator=torch.Generator().manual_seed(1))})
    stream = StreamFrames(vae=vae).run(latents=latents, num_frames=frames).video
    whole = answer(DecodeFrames(vae=vae).run(latents=latents, num_frames=frames)).video
    assert torch.equal(frames_of(stream), whole.frames)
    assert len(whole.frames) == frames


@pytest.mark.parametrize("suffix", [".mp4", ".gif", ".webp", ""])
@pytest.mark.parametrize("frames", [1, 3])
def test_saving_a_stream(tmp_path: Path, suffix: str, frames: int) -> None:
    latents = torch.randn(1, 4, frames, 7, 5, generator=torch.Generator().manual_seed(2))
    vae, value = wan.wan_vae(), Latents({"video": latents})
    to = Destination(tmp_path, "x", suffix, quality="maximum")
    stream = DecodeCausal(vae=vae).run(latents=value, fps=8).video
    file = answer(SaveMedia().run(media=stream, to=to)).file
    again = Destination(tmp_path, "y", suffix, quality="maximum")
    video = answer(DecodeVideo(vae=vae).run(latents=value, fps=8)).video
    same = answer(SaveMedia().run(media=video, to=again)).file
    assert file.path.read_bytes() == same.path.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == [file.path.name, same.path.name]
    if file.path.suffix == ".mp4":
        pixels, fps = read_video(file.path)
        assert (pixels.shape, fps) == ((4 * (frames - 1) + 1, 56, 40, 3), 8.0)


def frames(count: int) -> Iterator[np.ndarray[Any, Any]]:
    for index in range(count):
        yield np.full((2, 32, 48, 3), 10 * index, np.uint8)


def failing() -> Iterator[np.ndarray[Any, Any]]:
    yield from ()
    raise RuntimeError("decoder")


def write(path: Path, parts: Iterable[np.ndarray[Any, Any]]) -> None:
    with VideoWriter(path, fps=8) as writer:
        for part in parts:
            writer.write(part)


def test_what_fails_while_frames_are_made_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="decoder"):
        write(tmp_path / "x.mp4", chain(frames(3), failing()))
    assert not list(tmp_path.iterdir())


def test_what_fails_while_encoding_is_told_where_frames_are_made(tmp_path: Path) -> None:
    odd = np.zeros((1, 16, 16, 3), np.uint8)
    with pytest.raises(ValueError, match="frames differ in shape"):
        write(tmp_path / "x.mp4", chain([odd], frames(50)))
    assert not list(tmp_path.iterdir())
