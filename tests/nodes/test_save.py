"""Save nodes: which file a result becomes, and where it may be."""

from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
import torch

from nodes.save import SaveFrames, SaveMedia
from runtime.contract.calls import answer
from runtime.contract.outputs import Destination, File
from runtime.contract.values import Image, Video
from runtime.errors import UserError
from runtime.files.image_files import read_image
from runtime.files.video_files import read_video
from tests.support.scenes import clip


@pytest.mark.parametrize("node", [SaveMedia, SaveFrames])
def test_ports_can_be_read(node: type[SaveMedia | SaveFrames]) -> None:
    hints = get_type_hints(node.run)
    assert set(get_args(hints["media"])) >= {Image, Video}
    assert hints["to"] is Destination
    assert get_type_hints(node.Out) == {"file": File}


@pytest.mark.parametrize(
    ("frames", "suffix", "name", "media_type"),
    [
        (0, "", "x.png", "image/png"),
        (0, ".jpg", "x.jpg", "image/jpeg"),
        (0, ".mp4", "x.mp4", "video/mp4"),
        (1, "", "x.png", "image/png"),
        (1, ".webp", "x.webp", "image/webp"),
        (1, ".mp4", "x.mp4", "video/mp4"),
        (1, ".gif", "x.gif", "image/gif"),
        (5, "", "x.mp4", "video/mp4"),
        (5, ".gif", "x.gif", "image/gif"),
        (5, ".webp", "x.webp", "image/webp"),
    ],
)  # fmt: skip
def test_save_media(tmp_path: Path, frames: int, suffix: str, name: str, media_type: str) -> None:
    pixels = torch.from_numpy(clip(max(1, frames), 33, 40))
    media = Video(pixels, fps=16.0) if frames else Image(pixels[0])
    file = answer(SaveMedia().run(media=media, to=Destination(tmp_path / "new", "x", suffix))).file
    assert file == File(tmp_path / "new" / name, media_type, file.path.stat().st_size)
    if file.path.suffix in {".mp4", ".gif"} or frames > 1:
        found, rate = read_video(file.path)
        assert found.shape == tuple(pixels.shape)
        if frames > 1:
            assert rate == pytest.approx(16, abs=0.3)
    else:
        assert read_image(file.path).shape == (33, 40, 3)


@pytest.mark.parametrize("frames", [0, 1, 5])
def test_save_frames(tmp_path: Path, frames: int) -> None:
    pixels = torch.from_numpy(clip(max(1, frames), 33, 40)).flip(-1)
    media = Video(pixels, fps=16.0) if frames else Image(pixels[0])
    file = SaveFrames().run(media=media, to=Destination(tmp_path, "x", ".png")).file
    assert (file.path, file.media_type) == (tmp_path / "x.npy", "application/octet-stream")
    loaded = np.load(file.path)
    assert loaded.dtype == np.uint8
    np.testing.assert_array_equal(loaded, pixels.numpy())


def test_saving_passes_the_quality_on(tmp_path: Path) -> None:
    def size(frames: int, **options: Any) -> int:
        media = Video(torch.from_numpy(clip(frames, 64, 64)), fps=16.0)
        to = Destination(tmp_path, "x", ".webp" if frames == 1 else ".mp4", **options)
        return int(answer(SaveMedia().run(media=media, to=to)).file.size)

    for frames in (1, 5):
        assert size(frames, quality="low") < size(frames, quality="high")
        assert size(frames, compression=90) == size(frames, quality="high")
    assert size(5, x264_preset="ultrafast") != size(5)


def test_saving_refuses_a_suffix_that_does_not_fit(tmp_path: Path) -> None:
    media = Video(torch.zeros(17, 8, 8, 3, dtype=torch.uint8), fps=16.0)
    with pytest.raises(UserError, match=r'ends in ".png", which cannot hold 17 frames'):
        SaveMedia().run(media=media, to=Destination(tmp_path, "x", ".png"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/b", "..", "", "x\0", "..\\x"])
@pytest.mark.parametrize("node", [SaveMedia(), SaveFrames()])
def test_saving_stays_in_its_folder(
    tmp_path: Path, name: str, node: SaveMedia | SaveFrames
) -> None:
    media = Image(torch.zeros(8, 8, 3, dtype=torch.uint8))
    with pytest.raises(UserError, match="not a plain file name"):
        node.run(media=media, to=Destination(tmp_path / "folder", name))
    assert list(tmp_path.iterdir()) == []


def test_a_link_is_replaced_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside.png").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/x.png").symlink_to(tmp_path / "outside.png")
    media = Image(torch.zeros(8, 8, 3, dtype=torch.uint8))
    SaveMedia().run(media=media, to=Destination(tmp_path / "folder", "x"))
    assert (tmp_path / "outside.png").read_text() == "mine"
