"""A run that makes several pictures: their files, on the command line and from the server."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cli.main import main
from runtime import Runtime, UserError
from runtime.files.object_store import ACCESS_KEY, SECRET_KEY
from server.job import Job
from server.service import Service
from tests.support.services import outputs, serving, until
from tests.support.stores import ACCESS, SECRET, StoreServer, object_store
from tests.support.tiny.qwen import layered_checkpoint

REQUEST: dict[str, Any] = {
    "prompt": "a red circle",
    "num_inference_steps": 2,
    "guidance_scale": 1.0,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return layered_checkpoint(tmp_path_factory.mktemp("layers") / "model")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A file that shows something."""
    shown = np.linspace(0, 255, 90 * 130 * 3).reshape(90, 130, 3).astype(np.uint8)
    Image.fromarray(shown).save(tmp_path / "in.png")
    return tmp_path / "in.png"


def test_the_command_line_writes_and_names_each(
    model: Path, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [f"--{k.replace('_', '-')}={v}" for k, v in REQUEST.items()]
    flags += [f"--image-path={picture}", "--layers=2", "--num-outputs=2", "--log-level=error"]
    flags += [f"--output-path={tmp_path}", "--output-file-name=layer.png"]
    assert main(["generate", f"--model-path={model}", *flags]) == 0
    paths = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert [p.name for p in paths] == [f"layer_{n}_{i}.png" for n in (0, 1) for i in (1, 2)]
    for path in paths:
        with Image.open(path) as image:
            assert (image.mode, image.size) == ("RGBA", (768, 544))


def test_names_sort_as_the_pictures_do(model: Path, picture: Path, tmp_path: Path) -> None:
    runtime = Runtime.load(model, {"output.path": str(tmp_path), "output.file_name": "x.webp"})
    made = runtime.generate(**REQUEST, image_path=str(picture), layers=10, outputs=("file",))
    names = [file.path.name for file in made.outputs["file"]]
    assert names == sorted(names)
    assert names[::9] == ["x_01.webp", "x_10.webp"]


@pytest.mark.parametrize(("field", "value"), [("resolution", 800), ("layers", 0)])
def test_what_the_model_cannot_do_is_refused(
    model: Path, picture: Path, field: str, value: int
) -> None:
    runtime = Runtime.load(model)
    with pytest.raises(UserError, match=rf"`(request\.)?{field}` expects .* got {value}"):
        runtime.plan(**{**REQUEST, "image_path": str(picture), field: value})


def test_the_server_keeps_and_uploads_each(
    model: Path, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv(ACCESS_KEY, ACCESS)
    monkeypatch.setenv(SECRET_KEY, SECRET)
    request = Runtime.load(model).validate(**REQUEST, image_path=str(picture), layers=2)

    async def made(service: Service) -> tuple[Job, list[str]]:
        job = Job(f"img_{secrets.token_hex(16)}", "image", (request,), 0)
        await service.submit(job)
        return await service.wait(job.id), [f"{job.id}_0_{i}.png" for i in (1, 2)]

    async def go(store: StoreServer) -> None:
        storage: dict[str, Any] = {"type": "s3", "bucket": "pictures", "endpoint_url": store.url}
        settings = {f"storage__{k}": v for k, v in storage.items()}
        async with serving(tmp_path, model__path=str(model), **settings) as service:
            done, names = await made(service)
            assert [(f.name, f.url) for f in done.files] == [
                (name, f"{store.url}/pictures/{name}") for name in names
            ]
            assert outputs(service) == set()

            store.down()
            late, names = await made(service)
            assert [(f.name, f.url) for f in late.files] == [(name, None) for name in names]
            assert outputs(service) == set(names)
            store.up()
            await until(lambda: outputs(service) == set())
            assert store.keys() == names

    with object_store() as store:
        asyncio.run(go(store))
