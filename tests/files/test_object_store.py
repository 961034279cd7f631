"""Uploads to an object store: a real one, over HTTP, in its own process."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.main import main
from nodes.upload import Upload
from runtime import Destination, Runtime, UserError
from runtime.contract.outputs import File, Url
from runtime.files.object_store import (
    ACCESS_KEY,
    SECRET_KEY,
    ObjectStore,
    UploadFailed,
    check_store,
    delete_object,
    upload_file,
)
from tests.support.stores import ACCESS, BUCKET, SECRET, StoreServer, fetch, object_store

SMALL = ["--prompt", "a red circle", "--height", "64", "--width", "64"]
SMALL += ["--num-inference-steps", "1"]
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def shared() -> Iterator[StoreServer]:
    with object_store() as store:
        yield store


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The test's own keys, and none that this machine may have."""
    for name in os.environ:
        if name.startswith(("AWS_", "SGLANG_S3_", "SGLANG_CLOUD")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv(ACCESS_KEY, ACCESS)
    monkeypatch.setenv(SECRET_KEY, SECRET)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up early, where the store is down on purpose."""
    monkeypatch.setattr("runtime.files.object_store.ATTEMPTS", 2)


def of(shared: StoreServer, bucket: str = BUCKET) -> ObjectStore:
    return ObjectStore("s3", bucket, shared.url)


def command(folder: Path, environment: dict[str, str], *words: str) -> tuple[int, str, str]:
    """Run `sglang generate` as a process: exit code, stdout, stderr. Keys are never in them."""
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "generate", *SMALL, *words, "--output-path",
         str(folder / "out")], env={**os.environ, **environment}, check=False,
        capture_output=True, text=True, timeout=55,
    )  # fmt: skip
    assert ACCESS not in done.stdout + done.stderr
    assert SECRET not in done.stdout + done.stderr
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("store", "url"),
    [
        (ObjectStore("s3", "b"), "https://b.s3.us-east-1.amazonaws.com/"),
        (ObjectStore("s3", "b", None, "eu-west-1"), "https://b.s3.eu-west-1.amazonaws.com/"),
        (ObjectStore("s3", "b", "http://minio:9000/"), "http://minio:9000/b/"),
        (ObjectStore("s3", "b", "https://h/s3"), "https://h/s3/b/"),
        (
            ObjectStore("s3", "b", "https://oss-cn-x.aliyuncs.com"),
            "https://b.oss-cn-x.aliyuncs.com/",
        ),
        (ObjectStore("s3", "b", "https://cos.x.myqcloud.com/"), "https://b.cos.x.myqcloud.com/"),
    ],
)
def test_public_urls(store: ObjectStore, url: str) -> None:
    assert store.url("a_1.png") == f"{url}a_1.png"
    assert store.url("a b/ü?#%&+~.png") == f"{url}a%20b/%C3%BC%3F%23%25%26%2B~.png"


@pytest.mark.parametrize("key", ["x_0.png", "a b ü ${x} %41+&?#.png"])
def test_upload_and_delete(shared: StoreServer, tmp_path: Path, key: str) -> None:
    path = tmp_path / "local"
    path.write_bytes(b"content")
    url = upload_file(of(shared), path, key, "image/png")
    body, headers = fetch(url)
    assert (body, headers["Content-Type"]) == (b"content", "image/png")
    assert path.exists()
    path.write_bytes(b"second attempt")
    assert upload_file(of(shared), path, key, "image/png") == url
    assert fetch(url)[0] == b"second attempt"
    for _ in range(2):  # one that is gone is fine
        delete_object(of(shared), key)
    with pytest.raises(urllib.error.HTTPError, match="404"):
        fetch(url)


def test_a_large_file_goes_in_parts(shared: StoreServer, tmp_path: Path) -> None:
    path = tmp_path / "big.mp4"
    path.write_bytes(os.urandom(2**20) * 20)
    url = upload_file(of(shared), path, "big.mp4", "video/mp4")
    body, headers = fetch(url)
    assert body == path.read_bytes()
    assert headers["Content-Type"] == "video/mp4"
    assert headers["ETag"].strip('"').endswith("-3")  # three parts
    delete_object(of(shared), "big.mp4")


def test_the_node_deletes_what_it_uploaded(shared: StoreServer, tmp_path: Path) -> None:
    path = tmp_path / "one.png"
    path.write_bytes(b"pixels")
    made = Upload().run(file=File(path, "image/png", 6), to=of(shared)).url
    assert made == Url(f"{shared.url}/{BUCKET}/one.png", "one.png")
    assert fetch(made.url)[0] == b"pixels"
    assert not path.exists()


def test_wrong_bucket(shared: StoreServer, tmp_path: Path) -> None:
    path = tmp_path / "one.png"
    path.write_bytes(b"pixels")
    with pytest.raises(UploadFailed) as caught:
        Upload().run(file=File(path, "image/png", 6), to=of(shared, "nobodys"))
    assert caught.value.reason == "the object store has no bucket `nobodys`"
    assert (caught.value.path, caught.value.transient) == (path, False)
    assert path.read_bytes() == b"pixels"


def test_access_denied(tmp_path: Path) -> None:
    path = tmp_path / "one.png"
    path.write_bytes(b"pixels")
    with object_store(INITIAL_NO_AUTH_ACTION_COUNT="2") as store:  # two make the bucket
        for act in (
            lambda: upload_file(of(store), path, "one.png", "image/png"),
            lambda: delete_object(of(store), "one.png"),
        ):
            with pytest.raises(UploadFailed, match=r"denied access \(InvalidAccessKeyId\)"):
                act()


@pytest.mark.usefixtures("quick")
def test_down_and_back(tmp_path: Path) -> None:
    path = tmp_path / "one.png"
    path.write_bytes(b"pixels")
    with object_store() as store:
        store.down()
        with pytest.raises(UploadFailed) as caught:
            Upload().run(file=File(path, "image/png", 6), to=of(store))
        assert (str(caught.value), caught.value.transient) == (
            "the object store is unreachable",
            True,
        )
        assert path.exists()
        with pytest.raises(UploadFailed, match="unreachable"):
            delete_object(of(store), "one.png")
        store.up()
        Upload().run(file=File(path, "image/png", 6), to=of(store))
        assert store.keys() == ["one.png"]
    assert not path.exists()


@pytest.mark.parametrize("size", [1000, 20 * 2**20])  # whole, and in parts
def test_an_upload_that_hangs_can_be_stopped(tmp_path: Path, size: int) -> None:
    (tmp_path / "x").write_bytes(bytes(size))
    script = """\
import signal, sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job starts without it
from runtime.files.object_store import ObjectStore, upload_file
upload_file(ObjectStore("s3", "bbb", sys.argv[1]), Path(sys.argv[2]), "x", "image/png")
"""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        words = [sys.executable, "-c", script, url, str(tmp_path / "x")]
        with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
            connection, _ = silent.accept()
            with connection:
                time.sleep(0.3)
                process.send_signal(signal.SIGINT)
                try:
                    _, stderr = process.communicate(timeout=10)
                finally:
                    process.kill()
    assert stderr.strip().endswith("KeyboardInterrupt")
    assert SECRET not in stderr
    assert (tmp_path / "x").exists()


def test_no_file(shared: StoreServer, tmp_path: Path) -> None:
    with pytest.raises(UploadFailed, match=r"^the file cannot be read \(no such file or"):
        upload_file(of(shared), tmp_path / "none", "none", "image/png")


@pytest.mark.parametrize(
    ("store", "message"),
    [
        (ObjectStore(), "there is no object store"),
        (ObjectStore("s3"), "SGLANG_S3_BUCKET_NAME"),
        (
            ObjectStore("s3", "s3://b"),
            'SGLANG_S3_BUCKET_NAME is "s3://b", which is not a valid',
        ),
        (ObjectStore("s3", "bbb", region="a.b/c"), 'SGLANG_S3_REGION_NAME is "a.b/c"'),
        *[
            (ObjectStore("s3", "bbb", url), "SGLANG_S3_ENDPOINT_URL is not a valid URL")
            for url in ("minio:9000", "ftp://h", "http://", f"http://x:{SECRET}@h", "http://h:0x")
        ],
    ],
)
def test_mistakes_are_errors_before_the_run(store: ObjectStore, message: str) -> None:
    with pytest.raises(UserError) as caught:
        check_store(store)
    assert message in str(caught.value)
    assert SECRET not in str(caught.value)


def test_missing_keys_are_errors_before_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    check_store(ObjectStore("s3", "bbb"))
    monkeypatch.setenv(SECRET_KEY, f"{SECRET}\u2028{SECRET}")
    with pytest.raises(UserError, match=f"^{SECRET_KEY} has characters that keys cannot have\n"):
        check_store(ObjectStore("s3", "bbb"))
    monkeypatch.setenv(SECRET_KEY, f" {SECRET}\n")
    check_store(ObjectStore("s3", "bbb"))  # what surrounds it is a slip of copying
    monkeypatch.delenv(SECRET_KEY)
    with pytest.raises(UserError, match=f"{ACCESS_KEY} is set, but not {SECRET_KEY}"):
        check_store(ObjectStore("s3", "bbb"))
    monkeypatch.delenv(ACCESS_KEY)
    with pytest.raises(UserError, match="there are no credentials"):
        check_store(ObjectStore("s3", "bbb"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "y")
    check_store(ObjectStore("s3", "bbb"))  # boto3's own chain
    monkeypatch.setenv("AWS_PROFILE", "none")
    with pytest.raises(UserError, match="cannot be read"):
        check_store(ObjectStore("s3", "bbb"))


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("key", [ACCESS, f"{ACCESS}\r\nx: y", f"{ACCESS}\u2028ü"])
def test_keys_are_in_no_log_and_no_error(
    shared: StoreServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    key: str,
) -> None:
    monkeypatch.setenv(ACCESS_KEY, key)
    path = tmp_path / "one.png"
    path.write_bytes(b"pixels")
    with caplog.at_level(logging.DEBUG):
        text = repr(of(shared))
        for store in (
            of(shared),
            of(shared, "nobodys"),
            ObjectStore("s3", BUCKET, "http://127.0.0.1:1"),
        ):
            try:
                upload_file(store, path, "one.png", "image/png")
            except UploadFailed as problem:
                text += f"{problem!r} {problem.__cause__}"
                text += "" if problem.__suppress_context__ else "chained"
    for secret in (ACCESS, SECRET, "chained"):
        assert secret not in caplog.text
        assert secret not in text


def test_the_graph_uploads_only_when_asked(
    shared: StoreServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = {"storage.type": "s3", "storage.bucket": BUCKET, "storage.endpoint_url": shared.url}
    pipeline, to = Runtime.load(None, store), Destination(tmp_path, "again")
    small = {"prompt": "a", "height": 64, "width": 64, "num_inference_steps": 1}
    assert pipeline.plan(outputs=["file"], **small).dropped["upload"]
    for _ in range(2):  # effects are not recalled: the second run uploads too
        made = pipeline.generate(outputs=["url"], destination=to, **small).outputs["url"]
        assert made == Url(f"{shared.url}/{BUCKET}/again.png", "again.png")
        assert fetch(made.url)[0].startswith(b"\x89PNG")
        assert not list(tmp_path.iterdir())
        delete_object(of(shared), "again.png")
    with pytest.raises(UserError, match="there is no object store"):
        Runtime.load().plan(outputs=["url"], **small)
    monkeypatch.delenv(SECRET_KEY)
    with pytest.raises(UserError, match="is set, but not"):
        pipeline.generate(outputs=["url"], **small)


def test_command_line(shared: StoreServer, tmp_path: Path) -> None:
    local = command(tmp_path, {}, "--output-file-name", "a b.png")
    assert local[:2] == (0, f"{tmp_path}/out/a b.png\n")
    pixels = (tmp_path / "out/a b.png").read_bytes()
    environment = shared.environment()
    words = ["--output-file-name", "a b.png", "--return-frames", "--save-output", "--overwrite"]
    code, out, err = command(tmp_path, environment, *words, "--debug", "--log-level", "debug")
    url, frames = out.splitlines()
    assert (code, url) == (0, f"{shared.url}/{BUCKET}/a%20b.png")
    assert fetch(url)[0] == pixels
    assert {str(path) for path in (tmp_path / "out").iterdir()} == {frames, f"{frames}.json"}
    assert "note: raw frames are not uploaded" in err


@pytest.mark.parametrize("debug", [False, True])
def test_command_line_and_a_store_that_is_down(tmp_path: Path, debug: bool) -> None:
    environment = StoreServer(port=1).environment()
    words = ["--num-samples", "2", "--output-file-name", "x.png", *["--debug"] * debug]
    code, out, err = command(tmp_path, environment, *words)
    files = [tmp_path / "out" / name for name in ("x_0.png", "x_1.png")]
    assert (code, out) == (1, "")
    for index, path in enumerate(files, 1):
        assert path.read_bytes().startswith(b"\x89PNG")
        message = (
            f"[{index}/2] sglang generate: error: not uploaded: the object store is unreachable"
        )
        assert f"{message}\nthe file is kept: {path}\n" in err
    assert "Traceback" not in err


def test_command_line_mistakes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("SGLANG_CLOUD_STORAGE_TYPE", "s3")
    assert main(["generate", *SMALL]) == 2
    assert "help: set SGLANG_S3_BUCKET_NAME" in capsys.readouterr().err
    monkeypatch.setenv("SGLANG_S3_BUCKET_NAME", BUCKET)
    assert main(["generate", *SMALL, "--dry-run", "outputs.url=null", "nodes.upload=null"]) == 2
    assert "graph `demo` has no output `url`" in capsys.readouterr().err
    assert main(["generate", *SMALL, "--dry-run"]) == 0
    assert "upload.Upload" in capsys.readouterr().out
    words = ["--dry-run", "--return-frames", "--no-save-output"]
    assert main(["generate", *SMALL, *words]) == 0
    assert "not run upload " in capsys.readouterr().out
    monkeypatch.setenv("SGLANG_CLOUD_STORAGE_TYPE", "gcs")
    assert main(["generate", *SMALL]) == 2
    assert "expects one of none, s3" in capsys.readouterr().err


def test_without_boto3() -> None:
    script = """\
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"boto3", "botocore", "s3transfer"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocker())
from cli.main import main
code = main(["generate", "--prompt", "a red circle"])
assert "torch" not in sys.modules
sys.exit(code)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, **StoreServer(1).environment()},
        check=False, capture_output=True, text=True, timeout=50,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert "uploads need boto3, which is not installed" in done.stderr
    assert 'pip install "sglang-graph[s3]"' in done.stderr
