"""`--vae-tiling`, `--vae-slicing` and the sizes of tiles, on graphs of our own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cli.main import main
from runtime import Runtime, UserError
from runtime.contract.outputs import Destination
from runtime.events import Noted
from runtime.files.video_files import read_video
from runtime.provenance.read_back import provenance
from runtime.run.residency import residency
from tests.support.tiny import flux, wan

CLIP: dict[str, Any] = dict(
    prompt="a red circle", height=96, width=80, num_frames=5, num_inference_steps=1, seed=3
)
TILES = {"vae.config.tile_sample_min_height": 64, "vae.config.tile_sample_min_width": "48"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wan.checkpoint(tmp_path_factory.mktemp("tiling") / "wan")


def frames(model: Path, overrides: dict[str, Any]) -> NDArray[np.uint8]:
    video = Runtime.load(model, overrides).generate(**CLIP).outputs["video"]
    return np.asarray(video.frames.numpy())


def vanilla(model: Path, *, tiled: bool) -> NDArray[np.uint8]:
    import torch
    from diffusers import WanPipeline

    pipeline = WanPipeline.from_pretrained(model)
    pipeline.set_progress_bar_config(disable=True)
    if tiled:
        # Strides of three quarters, as is the default, down to a multiple of the VAE's 8 px.
        pipeline.vae.enable_tiling(64, 48, 48, 32)
    call = {k: v for k, v in CLIP.items() if k != "seed"}
    made = pipeline(**call, generator=torch.Generator().manual_seed(3), output_type="np").frames[0]
    return np.asarray((made * 255).round().astype(np.uint8))


def test_tiles_are_those_of_diffusers(model: Path) -> None:
    whole, tiled = frames(model, {}), frames(model, {**TILES, "vae.tiling": True})
    assert (whole != tiled).any(), "tiles blend into each other"
    for ours, theirs in ((whole, False), (tiled, True)):
        reference = vanilla(model, tiled=theirs)
        assert np.abs(ours.astype(int) - reference.astype(int)).max() <= 1


def test_a_streamed_clip_is_tiled_as_well(model: Path, tmp_path: Path) -> None:
    runtime = Runtime.load(model, {**TILES, "vae.tiling": True})
    to = Destination(tmp_path, "x", ".mp4", quality="maximum")
    file = runtime.generate(**CLIP, outputs=("file",), destination=to).outputs["file"]
    pixels = read_video(file.path)[0].astype(int)
    whole = np.abs(pixels - frames(model, {})).mean()
    assert np.abs(pixels - frames(model, {**TILES, "vae.tiling": True})).mean() < whole


def test_slices_change_nothing_in_a_run_of_one(model: Path) -> None:
    np.testing.assert_array_equal(frames(model, {"vae.slicing": True}), frames(model, {}))


def test_two_settings_are_two_loaded_models(model: Path) -> None:
    plain, tuned = Runtime.load(model), Runtime.load(model, {**TILES, "vae.tiling": True})
    identities = [r.plan(**CLIP).facts.components["vae"].variant.identity for r in (plain, tuned)]
    assert identities[0] != identities[1]


@pytest.mark.parametrize(
    ("overrides", "message", "help"),
    [
        (TILES, "it sizes tiles, and nothing is tiled", "add `vae.tiling=true`"),
        ({"vae.config.tile_sample_min_size": 64, "vae.tiling": True},
         "AutoencoderKLWan has no such setting",
         "it has: tile_sample_min_height, tile_sample_min_width"),
    ],
)  # fmt: skip
def test_what_a_vae_cannot_do(
    overrides: dict[str, Any], message: str, help: str, model: Path
) -> None:
    with pytest.raises(UserError) as caught:
        frames(model, overrides)
    assert message in caught.value.message
    assert caught.value.help.startswith(help)


def test_a_misspelt_setting_of_tiles(model: Path) -> None:
    with pytest.raises(UserError, match="tile_sample_min_hight") as caught:
        Runtime.load(model, {"vae.config.tile_sample_min_hight": 64})
    assert "tile_sample_min_height" in caught.value.help


def test_pictures(tmp_path: Path) -> None:
    folder = flux.checkpoint(tmp_path / "flux")
    request = dict(prompt="a cat", height=64, width=96, num_inference_steps=1, seed=1)
    size = {"vae.tiling": True, "vae.config.tile_sample_min_size": 32}
    whole = Runtime.load(folder).generate(**request).outputs["image"].pixels
    tiled = Runtime.load(folder, size).generate(**request).outputs["image"].pixels
    assert whole.shape == tiled.shape
    assert (whole != tiled).any()


@pytest.fixture
def short_of_memory(model: Path, nothing_loaded: None) -> Iterator[None]:
    """The decoder takes no more than a tile, as on a device with little memory."""
    Runtime.load(model).generate(**CLIP)
    vae = next(held.value for held in residency().resident() if held.name == "vae")

    def full(module: Any, inputs: tuple[Any, ...]) -> None:
        if inputs[0].shape[-2:].numel() > 8 * 6:
            raise torch.OutOfMemoryError("out of memory: 2 MB of 1 MB")

    before = (vae.tile_sample_min_height, vae.tile_sample_min_width)
    strides = (vae.tile_sample_stride_height, vae.tile_sample_stride_width)
    vae.tile_sample_min_height, vae.tile_sample_min_width = 64, 48
    vae.tile_sample_stride_height, vae.tile_sample_stride_width = 48, 32
    hook = vae.decoder.register_forward_pre_hook(full)
    yield
    hook.remove()
    vae.tile_sample_min_height, vae.tile_sample_min_width = before
    vae.tile_sample_stride_height, vae.tile_sample_stride_width = strides
    assert not vae.use_tiling, "the next run is whole again where memory allows"


@pytest.mark.usefixtures("short_of_memory")
@pytest.mark.parametrize("output", ["video", "file"])
def test_memory_that_is_short_forces_tiles_and_says_so(
    output: str, model: Path, tmp_path: Path
) -> None:
    to = Destination(tmp_path, "x", ".mp4", quality="maximum")
    run = Runtime.load(model).start(**CLIP, outputs=(output,), destination=to)
    notes = [event.text for event in run if isinstance(event, Noted)]
    assert notes == [
        "memory is short: results kept for later requests are dropped",
        "memory is short: `text_encoder`, `transformer` left the device",
        "memory is short: vae works in tiles (`vae.tiling`)",
    ]
    tiled = frames(model, {**TILES, "vae.tiling": True})
    if output == "video":
        np.testing.assert_array_equal(run.result.outputs["video"].frames.numpy(), tiled)
    else:
        again = Destination(tmp_path, "y", ".mp4", quality="maximum")
        asked = Runtime.load(model, {**TILES, "vae.tiling": True})
        same = asked.generate(**CLIP, outputs=("file",), destination=again).outputs["file"]
        pixels = [read_video(f.path)[0] for f in (run.result.outputs["file"], same)]
        np.testing.assert_array_equal(pixels[0], pixels[1])
        assert len(list(tmp_path.iterdir())) == 2
        records = [provenance(f.path)["execution"] for f in (run.result.outputs["file"], same)]
        assert [record.get("recovery") for record in records] == [{"vae": "tile"}, None]


@pytest.mark.usefixtures("short_of_memory")
@pytest.mark.parametrize("suffix", [".webp", ".gif", ".mp4"])
def test_a_file_says_what_memory_forced_and_its_replay_does_it_again(
    suffix: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to = Destination(tmp_path, "x", suffix, quality="maximum")
    Runtime.load(model).generate(**CLIP, outputs=("file",), destination=to)
    assert main(["inspect", str(tmp_path / f"x{suffix}")]) == 0
    assert re.search(r"^ *recovery +vae tile$", capsys.readouterr().out, re.MULTILINE)
    replay = ["--replay", str(tmp_path / f"x{suffix}"), "--model-path", str(model)]
    replay += [f"{path}={size}" for path, size in TILES.items()]  # as the fixture sized them
    assert main(["generate", *replay, "--output-path", str(tmp_path / "again")]) == 0
    told = capsys.readouterr().err
    assert "memory was short for `vae` when" in told
    assert "it worked in tiles; `--vae-tiling` stands for it" in told
    differs = re.findall(r"--replay: `([\w.]+)` ", told)
    assert differs == [f"settings.{path}" for path in TILES]
    same = "bit for bit the same as" if suffix == ".gif" else "the same pixels as"
    assert same in told
