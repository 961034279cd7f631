"""Train the demo model: `python -m demo.train STAGE --work DIR`, or `all` for every stage in turn.

Each stage reads what the ones before left in the work folder. With --resume a stage continues from
its last saved state, and `all` passes over the stages that are done.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from demo import decoder, denoiser, export, fold, latents, vae
from demo.recipes import RECIPES, Settings
from demo.training import Run

STAGES: dict[str, tuple[Callable[[Run, Any], None], str]] = {
    "vae": (vae.train_picture_vae, "the VAE, on pictures"),
    "vvae": (vae.train_clip_vae, "its temporal layers, on clips"),
    "fold": (fold.fold, "rotate its 16 channels into 8 whitened ones"),
    "dec": (decoder.train_decoder, "sharpen its decoder"),
    "latents": (latents.make_latents, "draw and encode the training set"),
    "dit": (partial(denoiser.train_denoiser, "dit"), "text encoder and transformer, on pictures"),
    "clips": (partial(denoiser.train_denoiser, "clips"), "the same, clips added"),
    "mixed": (partial(denoiser.train_denoiser, "mixed"), "the same, half and half"),
    "export": (export.export, "write a diffusers folder"),
}
# Encoding goes shard by shard and export is quick: neither has one file that says it is done.
ALWAYS_RUN = ("latents", "export")


def setting_names(stage: str) -> list[str]:
    """The settings of a stage, each also a flag."""
    return [field.name for field in fields(RECIPES["cpu"][stage])]


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--work", type=Path, required=True, help="folder of the stages' results")
    shared.add_argument("--recipe", choices=RECIPES, default="cpu", help="sizes (default: cpu)")
    shared.add_argument("--device", default="cpu", help="torch's name for it (default: cpu)")
    shared.add_argument("--threads", type=int, default=2, help="CPU threads (default: 2)")
    shared.add_argument("--seed", type=int, default=0, help="draws weights and data (default: 0)")
    shared.add_argument("--resume", action="store_true", help="continue what was interrupted")
    shared.add_argument("--log-every", type=int, default=50, metavar="STEPS")
    shared.add_argument("--save-every", type=int, default=200, metavar="STEPS")
    parser = argparse.ArgumentParser(prog="python -m demo.train", description=__doc__)
    commands = parser.add_subparsers(dest="stage", required=True, metavar="STAGE")
    for stage, (_, says) in STAGES.items():
        command = commands.add_parser(stage, parents=[shared], help=says)
        for field in fields(RECIPES["cpu"][stage]):
            flag = "--" + field.name.replace("_", "-")
            kind = type(getattr(RECIPES["cpu"][stage], field.name))
            command.add_argument(flag, type=kind, help="(default: the recipe's)")
    everything = commands.add_parser("all", parents=[shared], help="every stage of the recipe")
    everything.add_argument("--out", help="folder to export to (default: checkpoint)")
    return parser.parse_args(argv)


def settings_of(stage: str, options: argparse.Namespace) -> Settings:
    """The recipe's settings of a stage, with what the command line says otherwise."""
    recipe = RECIPES[options.recipe]
    if stage not in recipe:
        raise SystemExit(
            f"The recipe `{options.recipe}` has no stage `{stage}`: {', '.join(recipe)}."
        )
    given = {name: getattr(options, name, None) for name in setting_names(stage)}
    return replace(recipe[stage], **{k: v for k, v in given.items() if v is not None})


def main(argv: Sequence[str] | None = None) -> int:
    """Run one stage, or all of them; returns the exit code."""
    options = parse(argv)
    torch.set_num_threads(options.threads)
    if options.device != "cpu":
        torch.set_float32_matmul_precision("high")
    options.work.mkdir(parents=True, exist_ok=True)
    run = Run(
        options.work, options.device, options.seed, options.resume, options.log_every,
        options.save_every,
    )  # fmt: skip
    stages = list(RECIPES[options.recipe]) if options.stage == "all" else [options.stage]
    for stage in stages:
        if run.resume and run.result(stage).is_file() and stage not in ALWAYS_RUN:
            run.log(stage, "already done")
            continue
        STAGES[stage][0](run, settings_of(stage, options))
    return 0


if __name__ == "__main__":
    sys.exit(main())
