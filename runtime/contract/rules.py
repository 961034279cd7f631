"""Rules that a node class may declare beside its ports, for the planner and the engine.

A rule is a method whose parameters are names of the node's own inputs and parameters; it is called
with the values that are known before the node runs. `check` refuses any other parameter name.

    bypass  the input that stands for the node's output, where the node has nothing to do
    verify  raises UserError for what the node could not run; asked before anything is loaded
    ignores input to the reason why the node does not use it; the user is told of options without
            effect
    notes   input to sentences, without their subject, that the user is told before the run;
            tokenizers are loaded for it

`ladder` lists the steps to try, in order, when a call of the node runs out of memory.

`sized` names the inputs that the size of the node's result comes from, first come first: `height`,
`width`, `num_frames` and `fps` are measures themselves, any other input is a value of that size. A
result of another size fails the node. Nodes that change sizes by rules of their own state nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any, ClassVar, Protocol, TypeVar

C = TypeVar("C", bound=type)
RULES = ("bypass", "verify", "ignores", "notes")
ROLES: Mapping[str, str] = {
    "dit": "the network that denoises: a transformer or a UNet",
    "text_encoder": "encodes the prompt",
    "image_encoder": "encodes a picture for the dit, other than the VAE",
    "vae": "converts between pixels and latents",
    "audio": "converts between sound and latents; the vocoder too",
    "tokenizer": "converts text to token ids",
    "processor": "converts pictures, or a chat with pictures, to the inputs of an encoder",
    "scheduler": "the config that a schedule is made from",
    "pipeline": "a whole model that runs itself",
}


class Rung(StrEnum):
    """A step of the ladder that is tried after a call ran out of memory.

    forget  results that are kept for later requests go (exact)
    evict   components that no call uses leave the device (exact)
    split   calls that were answered as a batch are answered one by one (as exact as a batch is)
    tile    the VAE works in tiles (changes pixels where tiles meet)
    """

    FORGET = "forget"
    EVICT = "evict"
    SPLIT = "split"
    TILE = "tile"


DEFAULT_RUNGS = (Rung.FORGET, Rung.EVICT, Rung.SPLIT)  # tried for every node


class Bypass(Protocol):
    """A node that may have nothing to do: `bypass(**inputs)` names the input that replaces it."""

    bypass: Callable[..., str | None]


class Verify(Protocol):
    """A node that refuses requests: `verify(**inputs)` raises UserError."""

    verify: Callable[..., None]


class Ignores(Protocol):
    """A node that may not use an input: `ignores(**inputs)` names those, with the reason."""

    ignores: Callable[..., Mapping[str, str]]


class Tells(Protocol):
    """A node with notes for the user: `notes(**inputs)` gives sentences by input."""

    notes: Callable[..., Mapping[str, Sequence[str]]]


class Recovers(Protocol):
    """A node with rungs of its own, tried after the usual ones."""

    ladder: ClassVar[tuple[Rung, ...]]


class Sized(Protocol):
    """A node whose result has the size of its inputs, or that they state; not inherited."""

    sized: ClassVar[tuple[str, ...]]


def role(name: str, ladder: tuple[Rung, ...] = ()) -> Callable[[C], C]:
    """Mark a Protocol of components with its role and its own steps against lack of memory.

    name  one of ROLES: policies speak of roles; a graph may give a component another (`role:`)
    """
    if name not in ROLES:
        raise ValueError(f"`{name}` is no role: there are {', '.join(ROLES)}")

    def mark(cls: C) -> C:
        marked: Any = cls
        marked.__role__, marked.ladder = name, ladder
        return cls

    return mark


def lazy(cls: C) -> C:
    """Mark a value class that only binds: networks are called later, by the users of the value.

    A value of such a class keeps alive what it was made from, and is never kept across requests.
    """
    vars_of: Any = cls
    vars_of.__lazy__ = True
    return cls


def effect(cls: C) -> C:
    """Mark a value class that stands for a side effect, such as a file; it is never cached."""
    vars_of: Any = cls
    vars_of.__effect__ = True
    return cls


def is_lazy(kind: object) -> bool:
    """Whether values of this class only bind."""
    return bool(getattr(kind, "__lazy__", False))


def is_effect(kind: object) -> bool:
    """Whether values of this class stand for a side effect."""
    return bool(getattr(kind, "__effect__", False))
