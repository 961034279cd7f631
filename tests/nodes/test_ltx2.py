"""LTX-2's sound and first frame, its decoder that may denoise, what it refuses, its file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image

from nodes.ltx2_first_frame import FixFirstFrame, PlaceFirstFrame, compressed_like_a_clip
from nodes.ltx2_guidance import JointGuidance, Unconditional
from runtime import Runtime
from runtime.contract.outputs import Destination
from runtime.contract.values import Latents
from runtime.errors import UserError
from runtime.files.video_files import read_video
from tests.support.tiny import ltx2
from tests.support.tiny.rows import pixels, scene

Made = Callable[..., Path]
STEPS: dict[str, Any] = {"num_inference_steps": 3, "seed": 7}
SMALL: dict[str, Any] = {**ltx2.CASES[1], **ltx2.COMMON, **STEPS, "num_frames": 9}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Tiny checkpoints, each written at its first use."""
    folders: dict[str, Path] = {}

    def make(**options: bool) -> Path:
        name = "-".join(options)
        if name not in folders:
            folders[name] = ltx2.checkpoint(tmp_path_factory.mktemp("ltx2") / name, **options)
        return folders[name]

    return make


def reference(model: Path, request: dict[str, Any], *pictures: Image.Image) -> Any:
    """What the vanilla pipeline makes of a request."""
    said = {{"fps": "frame_rate"}.get(k, k): v for k, v in request.items()}
    return ltx2.made(model, said, list(pictures))


@pytest.mark.parametrize("newer", [False, True])
@pytest.mark.parametrize("case", ltx2.CASES, ids=["guided", "unguided"])
def test_sound_equals_the_reference(made: Made, newer: bool, case: dict[str, Any]) -> None:
    model = made(newer=True) if newer else made()
    request = {**case, **ltx2.COMMON, **STEPS}
    runtime = Runtime.load(model)
    audio = runtime.generate(**request, outputs=("audio",)).outputs["audio"]
    expected = reference(model, request).audio[0]
    assert audio.rate == (48000 if newer else 24000)
    assert audio.samples.shape == expected.shape
    assert (audio.samples - expected).abs().max() < 1e-4
    for other in ({"seed": 8}, {"prompt": "a green square"}):
        change = runtime.generate(**{**request, **other}, outputs=("audio",)).outputs["audio"]
        assert (audio.samples - change.samples).abs().max() > 1e-3, other


def test_sound_to_a_picture_equals_the_reference(made: Made) -> None:
    runtime = Runtime.load(made())
    shown = runtime.generate(**SMALL, image_path=scene(0), outputs=("audio",)).outputs["audio"]
    expected = reference(made(), SMALL, scene(0)).audio[0]
    assert (shown.samples - expected).abs().max() < 1e-4
    unseen = runtime.generate(**SMALL, outputs=("audio",)).outputs["audio"]
    assert (shown.samples - unseen.samples).abs().max() > 1e-3


def test_the_vanilla_pipeline_has_its_sound(made: Made, tmp_path: Path) -> None:
    runtime = Runtime.load(made(), {"model.backend": "diffusers"})
    more = {k: v for k, v in SMALL.items() if k not in runtime.fields}
    said = {k: v for k, v in SMALL.items() if k in runtime.fields} | {"diffusers_kwargs": more}
    to = Destination(tmp_path, "clip", ".mp4")
    found = runtime.generate(**said, destination=to, outputs=("audio", "file")).outputs
    expected = reference(made(), SMALL).audio[0]
    assert torch.equal(found["audio"].samples, expected)
    with av.open(str(found["file"].path)) as file:
        assert [s.type for s in file.streams] == ["video", "audio"]


def test_a_first_frame_stands_still() -> None:
    zeros, ones = torch.zeros(1, 2, 3, 4, 4), torch.ones(1, 2, 1, 4, 4)
    parts = {"video": zeros, "audio": zeros[0]}
    first, none = Latents({"video": ones}), Latents({})
    begun = PlaceFirstFrame().run(latents=Latents(parts), first=first).latents.parts
    assert begun["video"].sum(dim=(0, 1, 3, 4)).tolist() == [32, 0, 0]
    assert begun["audio"] is parts["audio"]
    assert zeros.sum() == 0, "values are never written"
    assert PlaceFirstFrame().run(latents=Latents(parts), first=none).latents.parts == parts
    anything: Any = object()
    assert FixFirstFrame().run(denoiser=anything, first=none).denoiser is anything


@pytest.mark.parametrize("size", [(90, 130), (33, 47), (1, 40)])
def test_a_picture_as_lossy_as_a_clip(size: tuple[int, int]) -> None:
    from diffusers.pipelines.ltx2.utils import apply_image_conditioning_crf

    picture = np.asarray(scene(0).resize(size[::-1]))
    assert compressed_like_a_clip(picture, 0) is picture
    found = compressed_like_a_clip(picture, 33)
    if min(size) > 1:
        np.testing.assert_array_equal(found, apply_image_conditioning_crf(picture, 33))
        assert found.shape == (size[0] // 2 * 2, size[1] // 2 * 2, 3)
    else:
        assert found is picture, "too thin for a clip"


@pytest.mark.parametrize("said", [{}, {"decode_timestep": 0.4}, {"decode_noise_scale": 0.3}])
def test_a_decoder_that_denoises(made: Made, said: dict[str, float]) -> None:
    model = made(noisy=True)
    request = {**SMALL, **said}
    video = Runtime.load(model).generate(**request).outputs["video"].frames
    expected = pixels(reference(model, request))
    assert np.abs(video.numpy().astype(int) - expected.astype(int)).max() <= 1


@pytest.mark.parametrize("name", ["clip.mp4", "clip.gif"])
def test_the_file_has_both(made: Made, tmp_path: Path, name: str) -> None:
    to = Destination(tmp_path, "clip", Path(name).suffix)
    runtime = Runtime.load(made(newer=True))
    found = runtime.generate(**SMALL, destination=to, outputs=("file", "audio")).outputs
    assert found["file"].path == tmp_path / name
    if name == "clip.gif":
        assert len(read_video(tmp_path / name)[0]) == 9  # and no sound
        return
    with av.open(str(found["file"].path)) as file:
        assert [s.type for s in file.streams] == ["video", "audio"]
        sound = file.streams.audio[0]
        assert (sound.codec_context.name, sound.rate, sound.channels) == ("aac", 48000, 2)
        assert sound.duration * sound.time_base == pytest.approx(9 / 30, abs=1e-4)
        heard = np.concatenate([f.to_ndarray() for f in file.decode(sound)], axis=1)
    wanted = found["audio"].samples.numpy()[:, :4000]
    assert np.corrcoef(heard[0, :4000], wanted[0])[0, 1] > 0.7


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"max_sequence_length": 40}, "32 or 48"),
        ({"spatio_temporal_guidance_blocks": [2]}, "0 to 1 for this checkpoint"),
        ({"num_frames": 1, "fps": 60}, "too short for sound at 60 frames/s"),
        ({"height": 80}, "64 or 96"),
    ],
)
def test_what_does_not_fit_is_refused(made: Made, wrong: dict[str, Any], said: str) -> None:
    runtime = Runtime.load(made())
    with pytest.raises(UserError, match=r".*") as caught:
        runtime.generate(**{**SMALL, **wrong})
    assert said in f"{caught.value.message} {caught.value.help}"
    assert caught.value.field.removeprefix("request.") in wrong


def test_nothing_is_asked_of_what_is_off(made: Made) -> None:
    runtime = Runtime.load(made())
    off = {"guidance_scale": 1.0, "audio_guidance_scale": 0.0}
    plans = [runtime.plan(**{**SMALL, **said}) for said in (off, {"guidance_scale": 2.0})]
    assert ["negative" in plan.checked.graph.nodes for plan in plans] == [False, True]
    assert Unconditional.bypass(scale=1.0, audio_scale=None) == "cond"
    assert Unconditional.bypass(scale=1.0, audio_scale=7.0) is None
    scales: dict[str, Any] = {"scale": 1.0, "stg_scale": 0.0, "modality_scale": 1.0, "rescale": 0.0}
    for more, asked in (
        ({}, []), ({"audio_scale": 3.0}, [0]), ({"audio_stg_scale": 1.0}, [1]),
        ({"modality_scale": 3.0}, [2]), ({"scale": 3.0, "audio_modality_scale": 2.0}, [0, 2]),
    ):  # fmt: skip
        four: Any = dict.fromkeys(("cond", "uncond", "weakened", "isolated"))
        denoiser: Any = JointGuidance().run(**four, **{**scales, **more}).denoiser
        assert denoiser.asked == asked
