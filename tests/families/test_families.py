"""Every family against its reference: same checkpoint, request and seed, float32 on a CPU.

A row per graph, in its family's module of `tiny`: a random checkpoint, and two requests that
between them cover odd landscape and portrait sizes, guidance on and off, a negative prompt, a
prompt beyond the tokenizer's limit. At most 1/255 may differ anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from cli.main import main
from runtime import Runtime
from runtime.files.image_files import read_image
from runtime.files.video_files import read_video
from tests.support.scenes import psnr
from tests.support.tiny import (
    cogvideox,
    demo_edit,
    fastwan,
    flux,
    flux2,
    glm,
    hunyuan,
    ltx,
    ltx2,
    other,
    ovis,
    qwen,
    sana,
    sd3,
    sdxl,
    wan,
    wan2_2,
    wan_i2v,
    z_image,
)
from tests.support.tiny.rows import Pixels, Request, Row, given

ROOT = Path(__file__).parents[2]
STEPS = {"num_inference_steps": 3, "seed": 7}
ROWS: tuple[Row, ...] = (
    *wan.ROWS,
    *wan_i2v.ROWS,
    *wan2_2.ROWS,
    *fastwan.ROWS,
    *cogvideox.ROWS,
    *demo_edit.ROWS,
    *flux.ROWS,
    *flux2.ROWS,
    *glm.ROWS,
    *sd3.ROWS,
    *ovis.ROWS,
    *other.ROWS,
    *z_image.ROWS,
    *qwen.ROWS,
    *sdxl.ROWS,
    *sana.ROWS,
    *hunyuan.ROWS,
    *ltx.ROWS,
    *ltx2.ROWS,
)
NAMES = [row.name for row in ROWS]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Row], Path]:
    """The tiny checkpoint of a row, written at its first use."""
    made: dict[str, Path] = {}

    def of(row: Row) -> Path:
        if row.name not in made:
            made[row.name] = row.checkpoint(tmp_path_factory.mktemp(row.name) / "model")
        return made[row.name]

    return of


def loaded(row: Row, folder: Path) -> Runtime:
    """Our pipeline of a row's checkpoint."""
    return Runtime.load(folder, graph=row.graph if row.named else None)


def ours(runtime: Runtime, request: Request, pictures: list[Image.Image]) -> Pixels:
    """Frames of our pipeline, f h w c: its first output."""
    (value,) = runtime.generate(**request, **given(runtime, pictures)).outputs.values()
    if hasattr(value, "frames"):
        return np.asarray(value.frames)
    shown = value if isinstance(value, tuple) else (value,)  # several pictures, as layers are
    return np.stack([np.asarray(picture.pixels) for picture in shown])


def difference(a: Pixels, b: Pixels) -> int:
    """The largest difference in steps of 1/255."""
    assert a.shape == b.shape
    return int(np.abs(a.astype(int) - b.astype(int)).max())


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_equals_its_reference(row: Row, index: int, model: Callable[[Row], Path]) -> None:
    folder = model(row)
    runtime = loaded(row, folder)
    assert runtime.graph.name == row.graph
    request = {**STEPS, **row.common, **row.cases[index]}
    pictures = row.scenes()
    theirs = {row.renamed.get(k, k): v for k, v in request.items()}
    reference = row.reference(folder, theirs, pictures)
    assert reference.std() > 5, "a flat picture proves nothing"
    assert difference(ours(runtime, request, pictures), reference) <= 1


@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_two_outputs_each_equal_their_own_seed(
    row: Row, model: Callable[[Row], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = model(row)
    request = {**STEPS, **row.common, **row.cases[0]}
    pictures = row.scenes()
    for i, picture in enumerate(pictures):
        picture.save(tmp_path / f"{i}.png")
    flags = [f"--{k.replace('_', '-')}={v}" for k, v in {**request, "seed": 5}.items()]
    flags += [f"--image-path={tmp_path / f'{i}.png'}" for i in range(len(pictures))]
    flags += ["--num-outputs-per-prompt", "2", "--return-frames", "--log-level", "error"]
    flags += [f"--graph={row.graph}"] * row.named
    assert main(["generate", f"--model-path={folder}", f"--output-path={tmp_path}", *flags]) == 0
    paths = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert len(paths) == 2
    frames = [np.load(p) if p.suffix == ".npy" else read_image(p)[None] for p in paths]
    runtime = loaded(row, folder)
    for seed, found in zip((5, 6), frames, strict=True):
        np.testing.assert_array_equal(found, ours(runtime, {**request, "seed": seed}, pictures))
    assert difference(*frames) > 5, "another seed is another picture"


def test_every_graph_that_names_a_reference_has_a_row() -> None:
    graphs = sorted((ROOT / "graphs").glob("*.yaml"))
    said = [g.stem for g in graphs if yaml.safe_load(g.read_text("utf-8")).get("reference")]
    assert set(said) <= {row.graph for row in ROWS}


def test_a_decoded_clip_is_close_to_its_reference(
    model: Callable[[Row], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same as MP4: more than 30 dB at high quality, every frame, the rate of the graph."""
    row = next(row for row in ROWS if row.name == "demo")
    request = {**STEPS, "num_inference_steps": 12, **row.cases[0]}
    reference = row.reference(model(row), request, [])
    flags = [f"--{k.replace('_', '-')}={v}" for k, v in request.items()]
    flags += ["--output-quality", "high", "--log-level", "error"]
    assert main(["generate", f"--output-path={tmp_path}", *flags]) == 0
    frames, rate = read_video(Path(capsys.readouterr().out.strip()))
    assert (frames.shape, rate) == (reference.shape, 16)
    assert psnr(frames, reference) > 30
