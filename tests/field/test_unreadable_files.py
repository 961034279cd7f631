"""Kind 9: files and folders that may not be read are named, with what allows it.

Nothing is forbidden to root: there the command runs without root's two capabilities for it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.main import main
from demo import checkpoint as packaged_demo

DEMO = Path(packaged_demo.__path__[0])
AS_ANY_USER = """
import ctypes, os, sys
if os.geteuid() == 0:
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable, of two words each
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.capget(header, sets) == 0
    for place in (0, 1):
        sets[place] &= ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    assert libc.capset(header, sets) == 0
from cli.main import main
sys.exit(main(sys.argv[1:]))
"""
SIZE = [
    "checks.trained=false",
    "--num-inference-steps",
    "1",
    "--height",
    "64",
    "--width",
    "64",
    "--num-frames",
    "1",
]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A folder whose contents may be removed again."""
    yield tmp_path
    for path in [tmp_path / "model", *tmp_path.rglob("*")]:
        if path.exists():
            path.chmod(0o755)


def sglang(*words: str) -> tuple[int, str]:
    """The command, as a user for whom permissions hold."""
    command = [sys.executable, "-c", AS_ANY_USER, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize("backend", ["sglang", "diffusers"])
@pytest.mark.parametrize(
    ("name", "help"),
    [
        ("vae/diffusion_pytorch_model.safetensors", "chmod u+r"),
        ("transformer/config.json", "chmod u+r"),
        ("tokenizer/tokenizer.json", "chmod u+r"),
        ("model_index.json", "chmod u+r"),
        ("vae", "chmod u+rx"),
        (".", "chmod u+rx"),
    ],
)
def test_what_may_not_be_read_is_named(place: Path, name: str, help: str, backend: str) -> None:
    model = place / "model"
    shutil.copytree(DEMO, model)
    (model / name).chmod(0)
    words = ["--model-path", str(model), "--prompt", "red", "--backend", backend, *SIZE]
    code, said = sglang("generate", *words)
    assert code == 2, said
    assert "permission denied" in said
    assert str(model / name) in said
    assert help in said
    assert "Errno" not in said


@pytest.mark.parametrize("words", [["inspect"], ["generate", "--replay"]])
@pytest.mark.parametrize("name", ["x.png", "x.mp4", "x.json"])
def test_a_file_that_may_not_be_inspected(place: Path, name: str, words: list[str]) -> None:
    file = place / name
    file.write_bytes(b"{}")
    file.chmod(0)
    code, said = sglang(*words, str(file))
    assert code == 2, said
    assert f"{file} cannot be read: permission denied" in said


def test_a_readable_file_without_provenance_still_says_so(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = place / "x.json"
    file.write_text("{}")
    assert main(["inspect", str(file)]) == 2
    assert "does not say how it was made" in capsys.readouterr().err
