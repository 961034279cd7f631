"""The samples of a call: every prompt with every seed, each with a file name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cli.naming import derived_stem, numbered, split_name
from runtime import Destination, Runtime, Setting, UserError
from runtime.configure.requests import Request
from runtime.settings.field import DEFAULT_SEED

END_OF_SEEDS = 2**63


@dataclass(frozen=True)
class Sample:
    """One run of the graph: a prompt with a seed.

    request   what differs from the settings
    complete  all of the request, checked
    stem      the name that the call's files share; of several, each has a number behind it
    """

    request: Mapping[str, Any]
    complete: Request
    destination: Destination
    stem: str = ""


def make_samples(session: Runtime, settings: Sequence[Setting], now: datetime) -> list[Sample]:
    """All samples of a call, checked; a UserError comes before anything is loaded."""
    prompts = _prompts(session, settings)
    given = session.request.get("seed", ())
    field = session.graph.request.get("seed")
    seeds = sample_seeds(given, session.output.num_outputs, field.default if field else None)
    requests = [
        ({} if prompt is None else {"prompt": prompt}) | ({"seed": seed} if field else {})
        for prompt in prompts
        for seed in seeds
    ]
    checked = [session.validate(**request) for request in requests]
    return [
        _sample(session, request, complete, (index, len(requests)), now)
        for index, (request, complete) in enumerate(zip(requests, checked, strict=True))
    ]


def sample_seeds(given: Sequence[int], samples: int | None, default: int | None) -> list[int]:
    """One seed per sample: the list that was given, or its one seed plus 0, 1, 2, ..."""
    if len(given) > 1:
        if samples not in {None, len(given)}:
            raise UserError(
                f"--seed has {len(given)} seeds for {samples} samples",
                help="give one seed, or one per sample", field="request.seed",
            )  # fmt: skip
        return list(given)
    first = given[0] if given else DEFAULT_SEED if default is None else int(default)
    count = 1 if samples is None else samples
    if first + count > END_OF_SEEDS:
        raise UserError(
            f"`request.seed` is {first}, and {count} samples count up from it beyond 2^63 - 1",
            help="give a smaller seed, or one per sample", field="request.seed",
        )  # fmt: skip
    return [first + i for i in range(count)]


def prompt_notes(session: Runtime) -> list[str]:
    """Notes on prompts that may not be what was meant: words that lost their quotes."""
    prompts: tuple[str, ...] = session.request.get("prompt", ())
    notes = []
    if len(prompts) > 1 and not any(" " in prompt for prompt in prompts):
        listed = ", ".join(f'"{prompt}"' for prompt in prompts[:4])
        more = ", ..." if len(prompts) > 4 else ""
        notes.append(
            f"note: {len(prompts)} prompts, one file each: {listed}{more}; "
            'a prompt of several words goes in quotes: --prompt "a red circle"'
        )
    return notes


def _prompts(session: Runtime, settings: Sequence[Setting]) -> Sequence[str | None]:
    """The prompts, one run each; None where none is given, which `validate` judges."""
    typed: tuple[str, ...] = session.request.get("prompt", ())
    file = session.output.prompt_file
    if not file:
        return typed or (None,)
    ranks = [_rank(settings, path) for path in (("request", "prompt"), ("output", "prompt_file"))]
    if typed and ranks[0] == ranks[1]:
        raise UserError(
            "--prompt and --prompt-file-path both give prompts", help="keep one of them",
            field="output.prompt_file",
        )  # fmt: skip
    return typed if typed and ranks[0] > ranks[1] else read_prompts(file)


def _rank(settings: Sequence[Setting], path: tuple[str, ...]) -> int:
    """From where a path was set: 2 the command line, 1 a file, 0 the environment."""
    place = next((s.position for s in reversed(settings) if s.path == path), None)
    if place is None or place.file == "environment":
        return 0
    return 2 if place.file == "command line" else 1


def read_prompts(file: str) -> list[str]:
    """The prompts of a text file, one per line; blank lines are skipped."""
    source = f"--prompt-file-path {file}"
    try:
        text = Path(file).expanduser().read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as problem:
        line = problem.object.count(b"\n", 0, problem.start) + 1
        raise UserError(
            f"{source}: line {line} is not UTF-8", help="save the file as UTF-8 text",
            field="output.prompt_file",
        ) from None  # fmt: skip
    except OSError as problem:
        reason = (problem.strerror or str(problem)).lower()
        raise UserError(f"{source}: {reason}", field="output.prompt_file") from None
    prompts = [line.strip() for line in text.split("\n") if line.strip()]
    if not prompts:
        raise UserError(
            f"{source}: no prompts in it", help="one prompt per line", field="output.prompt_file"
        )
    return prompts


def _sample(
    session: Runtime,
    request: Mapping[str, Any],
    complete: Request,
    place: tuple[int, int],
    now: datetime,
) -> Sample:
    """One sample and where it is written. place: its index, and how many there are."""
    output = session.output
    if output.file_name is None:
        identity = json.dumps([session.graph.name, dict(complete)], sort_keys=True, default=str)
        digest = hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()
        stem, suffix = derived_stem(str(complete.get("prompt") or ""), now, digest), ""
    else:
        stem, suffix = split_name(output.file_name)
    destination = Destination(
        folder=Path(output.path).expanduser(),
        name=numbered(stem, *place),
        suffix=suffix,
        quality=output.quality,
        compression=output.compression,
        x264_preset=output.x264_preset,
    )
    return Sample(request, complete, destination, stem)
