"""Folders with published configs and no weights: what a hub id gives before anything large."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.support.tiny import flux, wan

DATA = Path(__file__).parents[1] / "data" / "published"
# The tokenizers, schedulers and the index are those of a tiny checkpoint of the family.
TINY = {"flux1_dev": flux.ROWS[0], "wan2_1_t2v_14b": wan.ROWS[0]}
WEIGHTS = shutil.ignore_patterns("*.safetensors*", "*.bin*")


def published(name: str, folder: Path) -> Path:
    """The folder of a model of tests/data/published, as its repository is without weights."""
    tiny = TINY[name].checkpoint(folder / "tiny")
    made = shutil.copytree(tiny, folder / name, ignore=WEIGHTS)
    for component, config in json.loads((DATA / f"{name}.json").read_text("utf-8")).items():
        (made / component / "config.json").write_text(json.dumps(config), "utf-8")
    return made
