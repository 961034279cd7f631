"""A clip four times as long takes hardly more memory to decode into a file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

MEASURE = """
import sys
from pathlib import Path
import torch
from tests.support.tiny import cogvideox, wan
from nodes.cogvideox import StreamFrames
from nodes.save import SaveMedia
from nodes.vae_stream import DecodeCausal
from runtime.contract.calls import answer
from runtime.contract.outputs import Destination
from runtime.contract.values import Latents

kind, frames, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
torch.set_num_threads(1)
wanted = kind == "wan"
vae = wan.wan_vae() if wanted else cogvideox.cogvideox_vae()


def status(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key + ":"))


def decode(count, name):
    shape = (1, 4, count, 12, 12) if wanted else (1, count, 4, 12, 12)
    latents = Latents({"video": torch.randn(shape)})
    if wanted:
        stream = DecodeCausal(vae=vae).run(latents=latents, fps=16).video
    else:
        frames = 4 * count - 3
        stream = StreamFrames(vae=vae).run(latents=latents, num_frames=frames, fps=16).video
    answer(SaveMedia().run(media=stream, to=Destination(folder, name, ".mp4")))


decode(3, "warm")
before = status("VmRSS")
Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
decode((frames + 3) // 4, "clip")
print(status("VmHWM") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("kind", ["wan", "cogvideox"])
def test_peak_memory_does_not_grow_with_the_clip(kind: str, tmp_path: Path) -> None:
    def peak(frames: int) -> float:
        """KB above what stood in memory before."""
        words = [sys.executable, "-c", MEASURE, kind, str(frames), str(tmp_path)]
        # The allocator gives large blocks back at once: what is measured is what is held.
        blocks = {"MALLOC_MMAP_THRESHOLD_": "65536"}
        environment = {
            **os.environ,
            **blocks,
            "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
        }
        done = subprocess.run(
            words, capture_output=True, text=True, check=True, env=environment, timeout=300
        )
        return float(done.stdout)

    assert peak(4 * 41) < 1.3 * peak(41)
