"""The size, length and rate of a result beside what was asked, for every node that declares them.

A node class says in `sized` which of its inputs its result's size comes from. From the node that
makes a picture or a clip this leads to what the request says: through the VAE's decoder and the
denoising loop to the noise, and not past a node that states nothing, such as one that upscales.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from runtime.contract.calls import Asking
from runtime.contract.result_size import MEASURES, differences
from runtime.contract.values import Video, VideoStream
from runtime.graph.check import Checked
from runtime.graph.model import Ref


class WrongSize(ValueError):
    """A result is not of the size, length or rate that was asked for: it is no result."""


def asked_size(checked: Checked, node: str, value: Callable[[Ref], Any]) -> dict[str, float]:
    """The measures that a node's result should have, as far as its inputs tell.

    value  of an edge; a KeyError where it is not known any more
    """
    found: dict[str, float | None] = {}
    spec, cls = checked.graph.nodes[node], checked.declarations[node].cls
    for name in vars(cls).get("sized", ()):  # not inherited: a subclass may do anything
        ref = spec.inputs.get(name)
        if name in MEASURES:
            try:
                known = value(ref) if ref else spec.params.get(name)
            except KeyError:
                found.setdefault(name, None)  # the node got a value, which nobody remembers
                continue
            if isinstance(known, int | float):
                found.setdefault(name, known)
        elif ref and ref.node in checked.graph.nodes:
            for measure, number in asked_size(checked, ref.node, value).items():
                found.setdefault(measure, number)
    return {measure: number for measure, number in found.items() if number is not None}


def as_asked(out: Any, wanted: dict[str, float]) -> Any:
    """A node's `Out`; WrongSize where an output has another size. Streams are checked as read."""
    if not wanted:
        return out
    wrong = [text for value in out for text in differences(value, wanted)]
    if wrong:
        raise WrongSize(_message(wrong))
    return out._replace(
        **{
            name: checked_stream(value, wanted)
            for name, value in zip(out._fields, out, strict=True)
            if isinstance(value, VideoStream)
        }
    )


def checked_stream(stream: VideoStream, wanted: dict[str, float]) -> VideoStream:
    """The stream; reading it raises WrongSize at the first frames of another size or number."""

    def parts() -> Iterator[Asking[Any]]:
        count, most = 0, stream.num_frames

        def part(ask: Asking[Any], left: int) -> Asking[Any]:
            nonlocal count
            frames = yield from ask
            sides = {n: v for n, v in wanted.items() if n in {"height", "width"}}
            wrong = [*differences(Video(frames, stream.fps), sides)]
            count += len(frames)
            if count > most or (not left and count != most):
                wrong.append(f"num_frames {count} instead of {most}")
            if wrong:
                raise WrongSize(_message(wrong))
            return frames

        asks = [*stream.parts()]
        for index, ask in enumerate(asks, start=1):
            yield part(ask, len(asks) - index)

    return dataclasses.replace(stream, parts=parts)


def _message(wrong: list[str]) -> str:
    return (
        f"the result has {', '.join(dict.fromkeys(wrong))}: its VAE, or the tiles that it is set "
        "to, make another size than was asked for"
    )
