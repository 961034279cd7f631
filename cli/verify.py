"""`sglang graphs verify`: a graph beside the vanilla pipeline of its checkpoint, edge by edge."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cli.generate import gather_settings
from cli.parser import parse
from runtime import Runtime, Setting, UserError

if TYPE_CHECKING:
    from runtime.verify.against_reference import Verified
    from runtime.verify.compare import Row

HELP = """usage: sglang graphs verify GRAPH [--model-path M] [flags] [KEY=VALUE ...]

Run a graph beside the vanilla diffusers pipeline: the class that the graph names as its
`reference`, else the checkpoint's. Both get the same checkpoint, dtypes, seed and request. Every
value that both have is compared, in the order of the run: what each network takes and gives,
initial noise, the prediction and the latents of each step, pixels. Take a small size and few steps:
all of it is kept in memory.

  GRAPH               a name that `sglang graphs` lists, or a file
  --prompt TEXT ...   the request, with the flags of `sglang generate`
  --diffusers-kwargs  arguments by the pipeline's own names, where a graph's field has another one:
                      --diffusers-kwargs true_cfg_scale=4
  --reference CLASS   another pipeline of diffusers than the graph's `reference`
  --tolerance X       largest difference on an edge, as part of its largest value (default 0.001);
                      pixels may differ by 1/255
  --json              the same as JSON

Exit code 0: equal within the tolerance. 1: not; the first edge that diverges is named."""
OWN = ("request", "diffusers_kwargs")


def verify(argv: Sequence[str]) -> int:
    """Run the command."""
    if {"-h", "--help"} & set(argv):
        print(HELP)
        return 0
    own, words = _own(argv)
    if not words or words[0].startswith("-") or "=" in words[0]:
        raise UserError(
            "there is no graph to verify", help="sglang graphs verify GRAPH --model-path M"
        )
    line = parse([f"--graph={words[0]}", *words[1:]])
    settings, line = gather_settings(line)
    theirs, ours = _apart(settings)
    session = Runtime.load(ours, allow_unused=line.allow_unused)

    from runtime.verify.against_reference import TOLERANCE, verify

    tolerance = _number(own["--tolerance"]) if "--tolerance" in own else TOLERANCE
    done = verify(session, theirs, class_name=own.get("--reference"), tolerance=tolerance)
    print(_json(session, done) if "--json" in own else text(session, done))
    return 0 if done.parity.first is None else 1


def text(session: Runtime, done: Verified) -> str:
    """The report: a line per value, then what came of it."""
    parity = done.parity
    head = ("STEP", "EDGE", "VALUE", "SHAPE", "MAXIMUM", "COSINE", "")
    lines = [head, *map(_cells, parity.rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    table = ["  ".join(f"{c:{w}}" for c, w in zip(x, widths, strict=True)).rstrip() for x in lines]
    model = session.config.checkpoint.name
    title = f"graph {session.graph.name} beside {done.reference} of {model}"
    notes = [f"note: {note}" for note in done.notes]
    notes += [
        f"note: {count} call{'s' * (count != 1)} of `{part}` without a counterpart"
        for part, count in sorted(parity.alone.items())
    ]
    return "\n".join([title, "", *table, "", *notes, conclusion(done)])


def conclusion(done: Verified) -> str:
    """One sentence: equal, or where it first is not."""
    row, rows = done.parity.first, done.parity.rows
    if row is None:
        judged = sum(r.equal is not None for r in rows)
        return f"equal: {judged} values on {len({r.edge for r in rows})} edges"
    step = f" in step {row.step}" if row.step else ""
    text = f"first that diverges: {row.edge} ({row.value}){step}: {_differs(row)}"
    unjudged = [r.edge for r in rows[: rows.index(row)] if r.equal is None]
    before = f"\nof another shape before it: {', '.join(dict.fromkeys(unjudged))}"
    return text + before * bool(unjudged)


def _differs(row: Row) -> str:
    return row.note or f"maximum {row.maximum:.3g}, cosine {row.cosine:.6f}"


def _cells(row: Row) -> tuple[str, ...]:
    known = not math.isnan(row.maximum)
    maximum = f"{row.maximum:.3g}" if known else ""
    if row.value == "pixels":
        maximum = f"{round(row.maximum * 255)}/255"
    shape = " ".join(map(str, row.shape))
    verdict = "DIVERGES" if row.equal is False else ""
    notes = ", ".join(filter(None, (verdict, row.note)))
    cosine = f"{row.cosine:.6f}" if known else ""
    return str(row.step or ""), row.edge, row.value, shape, maximum, cosine, notes


def _json(session: Runtime, done: Verified) -> str:
    rows = [dataclasses.asdict(row) for row in done.parity.rows]
    for row in rows:
        row |= {k: None for k in ("maximum", "cosine") if math.isnan(row[k])}
    first = done.parity.first
    report: dict[str, Any] = {
        "graph": session.graph.name,
        "reference": done.reference,
        "equal": first is None,
        "first": None if first is None else rows[done.parity.rows.index(first)],
        "rows": rows,
        "alone": dict(done.parity.alone),
        "notes": list(done.notes),
    }
    return json.dumps(report, indent=2)


def _own(argv: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Flags of this command alone with their values, and the other words."""
    own: dict[str, str] = {}
    words: list[str] = []
    rest = iter(argv)
    for word in rest:
        name, equals, value = word.partition("=")
        if word == "--json":
            own[word] = ""
        elif name in {"--tolerance", "--reference"}:
            own[name] = value if equals else next(rest, "")
        else:
            words.append(word)
    if own.get("--reference") == "":
        raise UserError("--reference needs a value", help="write --reference CLASS")
    return own, words


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < math.inf:
        raise UserError(
            f'--tolerance is a number of 0 or more, got "{text}"', help="write --tolerance 0.001",
            field="tolerance",
        )  # fmt: skip
    return number


def _apart(settings: Sequence[Setting]) -> tuple[dict[str, Any], list[Setting]]:
    """Arguments of the pipeline by its own names, and the settings of the graph's run."""
    theirs: dict[str, Any] = {}
    for setting in settings:
        if setting.path[:2] == OWN and len(setting.path) > 2:
            theirs[".".join(setting.path[2:])] = _plain(setting.value)
    return theirs, [s for s in settings if s.path[:2] != OWN]


def _plain(value: Any) -> Any:
    """What was typed means what it would in JSON."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return str(value)
