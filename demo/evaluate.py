"""Measure what the demo model draws: `python -m demo.evaluate --out FOLDER`.

Asks `sglang generate` for held-out pictures and clips, reads them with `demo.classify`, prints the
shares that show what the prompt says, writes results.json and contact sheets, and exits with 1
where a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from demo.classify import (
    CLIP_ASPECTS,
    PICTURE_ASPECTS,
    Pixels,
    judge_clip,
    judge_picture,
    read_motion,
    read_picture,
)
from demo.drawing import CANVAS, CLIP_FRAMES
from demo.heldout import Asked, held_out_clips, held_out_pictures
from demo.scenes import MOTIONS
from demo.sheet import write_sheet

BARS = {
    "pictures": {"background": 0.97, "colour": 0.97, "shape": 0.92},
    "clips": {"colour": 0.95, "shape": 0.80, "motion": 0.95},
}
# Position and motion are asked in words; a size is often not, so it stands beside the sum.
ALL_ASKED = {
    "pictures": ("background", "colour", "shape", "position"),
    "clips": CLIP_ASPECTS,
}
COLUMNS = ("background", "colour", "shape", "position", "size", "motion", "all asked")
STEPS, GUIDANCE = 12, 2.5
# What the script `sglang` runs, by the Python and from the tree that run this.
SGLANG = (sys.executable, "-m", "cli.main")


class EvaluationFailed(Exception):
    """The pictures to read could not be had."""


@dataclass(frozen=True)
class Measured:
    """Verdicts on one kind of output.

    kind      pictures or clips
    shares    share of outputs right, per aspect and for all asked
    rows      per output: prompt, verdict per aspect, what was read
    """

    kind: str
    shares: dict[str, float]
    rows: list[dict[str, Any]]

    def missed(self) -> list[str]:
        """The bars not reached, in words."""
        return [
            f"{self.kind}: {aspect} {self.shares[aspect]:.1%}, at least {bar:.0%} wanted"
            for aspect, bar in BARS[self.kind].items()
            if self.shares[aspect] < bar
        ]


def generate(
    kind: str, asked: Sequence[Asked], folder: Path, *, model: str, seed: int
) -> list[Path]:
    """Have one process of our command line make all outputs of a kind; their files in order."""
    folder.mkdir(parents=True, exist_ok=True)
    prompts = folder / "prompts.txt"
    prompts.write_text("".join(f"{one.prompt}\n" for one in asked), encoding="utf-8")
    words = [*SGLANG, "generate", "--prompt-file-path", str(prompts), "--output-path", str(folder)]
    words += ["--height", str(CANVAS), "--width", str(CANVAS), "--seed", str(seed)]
    words += ["--log-level", "warning"]
    words += ["--num-inference-steps", str(STEPS), "--guidance-scale", str(GUIDANCE)]
    words += ["--num-frames", "1"] if kind == "pictures" else []
    words += ["--num-frames", str(CLIP_FRAMES), "--return-frames"] if kind == "clips" else []
    words += ["--model-path", model] if model else []
    started = time.monotonic()
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False)
    print(f"{kind}: {len(asked)} in {time.monotonic() - started:.1f} s", flush=True)
    if done.returncode:
        raise EvaluationFailed(f"`{' '.join(words)}` ended with exit code {done.returncode}.")
    suffix = ".png" if kind == "pictures" else ".npy"
    lines = [Path(line.strip()) for line in done.stdout.splitlines()]
    files = [path for path in lines if path.suffix == suffix and path.is_file()]
    if len(files) != len(asked):
        raise EvaluationFailed(
            f"`{' '.join(words)}` named {len(files)} {suffix} files for {len(asked)} prompts:\n"
            f"{done.stdout}"
        )
    return files


def measure(
    kind: str,
    asked: Sequence[Asked],
    outputs: Sequence[Pixels],
) -> Measured:
    """Read outputs (`h w 3`, or `f h w 3` of clips) and compare them with what was asked."""
    rows: list[dict[str, Any]] = []
    for one, pixels in zip(asked, outputs, strict=True):
        if kind == "pictures":
            verdict, seen = judge_picture(one.scene, pixels), read_picture(pixels).words()
        else:
            verdict = judge_clip(one.scene, pixels)
            seen = read_picture(pixels[len(pixels) // 2]).words()
            seen["motion"] = MOTIONS[read_motion(pixels)]
        verdict["all asked"] = all(verdict[aspect] for aspect in ALL_ASKED[kind])
        rows.append({"prompt": one.prompt, "right": verdict, "read": seen})
    aspects = (*(PICTURE_ASPECTS if kind == "pictures" else CLIP_ASPECTS), "all asked")
    shares = {
        aspect: sum(row["right"][aspect] for row in rows) / len(rows) for aspect in aspects
    }  # fmt: skip
    return Measured(kind, shares, rows)


def table(measured: Sequence[Measured]) -> str:
    """The shares as a Markdown table."""
    lines = ["| | " + " | ".join(COLUMNS) + " |", "|" + "---|" * (len(COLUMNS) + 1)]
    for one in measured:
        cells = [f"{one.shares[c]:.0%}" if c in one.shares else "-" for c in COLUMNS]
        lines.append(f"| {one.kind} ({len(one.rows)}) | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def read_pixels(path: Path) -> Pixels:
    """A picture as `h w 3`, or a clip's raw frames as `f h w 3`."""
    if path.suffix == ".npy":
        frames: Pixels = np.load(path)
        return frames[0] if frames.ndim == 5 else frames
    return np.asarray(Image.open(path).convert("RGB"))


def write_sheets(kind: str, outputs: Sequence[Pixels], folder: Path) -> None:
    """Write eval_pictures.png, or eval_clips.png with every other frame of sixteen clips."""
    if kind == "pictures":
        write_sheet(outputs, 8, folder / "eval_pictures.png")
        return
    frames = [frame for clip in outputs[:16] for frame in clip[::2]]
    write_sheet(frames, len(outputs[0][::2]), folder / "eval_clips.png", scale=0.6)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m demo.evaluate", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for results and files")
    parser.add_argument("--pictures", type=count, default=100, help="how many (0 for none)")
    parser.add_argument("--clips", type=count, default=40, help="how many (0 for none)")
    parser.add_argument("--seed", type=int, default=2024, help="draws the prompts")
    parser.add_argument("--noise-seed", type=int, default=0, help="seed of the first output")
    parser.add_argument("--model-path", default="", help="a retrained checkpoint")
    parser.add_argument(
        "--from", type=Path, dest="made", metavar="FOLDER",
        help="read files made before, named in FOLDER/manifest.json: lists `pictures`, `clips`",
    )  # fmt: skip
    options = parser.parse_args(argv)
    if options.made and not (options.made / "manifest.json").is_file():
        parser.error(f"--from {options.made}: the folder has no manifest.json")
    if not options.pictures and not options.clips:
        parser.error("--pictures 0 and --clips 0 leave nothing to measure")
    return options


def count(text: str) -> int:
    """A number of files: 0 or more."""
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"expects 0 or more, got {number}")
    return number


def outputs_of(kind: str, asked: Sequence[Asked], options: argparse.Namespace) -> list[Path]:
    """The files of one kind: made now, or by an earlier run."""
    if not options.made:
        folder = options.out / kind
        made = generate(kind, asked, folder, model=options.model_path, seed=options.noise_seed)
        return [path.resolve() for path in made]
    names = json.loads((options.made / "manifest.json").read_text()).get(kind, [])
    if len(names) != len(asked):
        raise EvaluationFailed(
            f"{options.made}/manifest.json names {len(names)} {kind} for {len(asked)} prompts:"
            f" pass --{kind} {len(names)}"
        )
    return [options.made / name for name in names]


def evaluate(options: argparse.Namespace) -> int:
    """Measure all kinds, write and print the results; 0 where every bar is reached, else 1."""
    options.out.mkdir(parents=True, exist_ok=True)
    draws: dict[str, Callable[[], list[Asked]]] = {
        "pictures": lambda: held_out_pictures(options.pictures, options.seed),
        "clips": lambda: held_out_clips(options.clips, 2 * options.seed),
    }
    measured, manifest = [], {}
    for kind, draw in draws.items():
        if not getattr(options, kind):
            continue
        asked = draw()
        files = outputs_of(kind, asked, options)
        manifest[kind] = [str(path.resolve()) for path in files]
        outputs = [read_pixels(path) for path in files]
        measured.append(measure(kind, asked, outputs))
        write_sheets(kind, outputs, options.out)
    missed = [line for one in measured for line in one.missed()]
    results = {one.kind: {"shares": one.shares, "rows": one.rows} for one in measured}
    report = {"steps": STEPS, "guidance": GUIDANCE, "missed": missed, **results}
    (options.out / "results.json").write_text(json.dumps(report, indent=1) + "\n")
    (options.out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    print(table(measured))
    for line in missed:
        print(f"missed: {line}", file=sys.stderr)
    return 1 if missed else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the evaluation; returns the exit code."""
    try:
        return evaluate(parse(argv))
    except EvaluationFailed as failure:
        print(failure, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
