"""The service and an object store in its own process: uploads, a store that is down, removal."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from runtime.files.object_store import ACCESS_KEY, SECRET_KEY, UploadFailed
from tests.support.services import engine, make, new, outputs, serving, until
from tests.support.stores import ACCESS, SECRET, StoreServer, fetch, object_store


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv(ACCESS_KEY, ACCESS)
    monkeypatch.setenv(SECRET_KEY, SECRET)


def of(store: StoreServer) -> dict[str, str]:
    return {
        "storage__type": "s3", "storage__bucket": "pictures", "storage__endpoint_url": store.url,
    }  # fmt: skip


def test_files_go_to_the_store_even_if_it_was_down(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async def go(store: StoreServer) -> None:
        async with serving(tmp_path, **of(store)) as service:
            job = new("video", n=2)
            await service.submit(job)
            done = await service.wait(job.id)
            names = [f"{job.id}_{n}.png" for n in (0, 1)]
            assert [(f.name, f.url) for f in done.files] == [
                (name, f"{store.url}/pictures/{name}") for name in names
            ]
            assert outputs(service) == set()
            assert store.keys() == names
            assert fetch(done.files[0].url or "")[1]["content-type"] == "image/png"

            store.down()
            late = new()
            await service.submit(late)
            done = await service.wait(late.id)
            (file,) = done.files
            assert (done.status, done.error, file.url) == ("completed", None, None)
            assert file.upload == "the object store is unreachable"
            assert outputs(service) == {file.name}

            store.up()
            async with asyncio.timeout(40):
                while (known := await service.get(late.id)) and not known.files[0].url:
                    await asyncio.sleep(0.1)
            assert known
            assert known.files[0].upload is None
            await until(lambda: outputs(service) == set(), 5)
            assert store.keys() == [file.name]

            assert await service.delete(late.id)
            await until(lambda: store.keys() == [], 10)

    with object_store() as store:
        asyncio.run(go(store))
    said = "".join(capfd.readouterr())
    assert SECRET not in said
    assert ACCESS not in said


def test_expired_jobs_leave_nothing_in_the_store(tmp_path: Path) -> None:
    async def go(store: StoreServer) -> None:
        async with serving(tmp_path, server__keep_jobs=1, **of(store)) as service:
            first, second = new("video"), new("video")
            for job in (first, second):
                await service.submit(job)
                assert (await service.wait(job.id)).status == "completed"
            await until(lambda: store.keys() == [f"{second.id}_0.png"], 20)
            for _ in range(200):  # its row goes once its objects are gone
                if await service.get(first.id) is None:
                    break
                await asyncio.sleep(0.05)
            assert await service.get(first.id) is None

            store.down()
            with pytest.raises(UploadFailed):
                await service.delete(second.id)
            assert await service.get(second.id), "a removal that failed can be repeated"
            store.up()
            assert await service.delete(second.id)
            assert await service.get(second.id) is None

    with object_store() as store:
        asyncio.run(go(store))


def test_a_store_without_keys_keeps_the_engine_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(ACCESS_KEY)
    monkeypatch.delenv(SECRET_KEY)

    async def go() -> None:
        service = await make(tmp_path, **of(StoreServer(port=9)))
        await service.start()
        await until(lambda: engine(service)["state"] == "refused")
        assert "there are no credentials" in (service.not_ready() or "")
        await service.stop(0)

    asyncio.run(go())
