"""What a node class may declare beside its ports: rules that the planner and the engine ask.

A rule is a method whose parameters are names of the node's own inputs and parameters; it is asked
with those that are known before the node runs. `check` refuses a rule with any other name.

    bypass  the input that stands for the node's output, where the node has nothing to do
    verify  raises UserError for what the node could not run; asked before anything is loaded
    ignores input to the reason why the node does not use it; the user is told of options without
            effect
    notes   input to sentences, without their subject, that the user is told before the run;
            tokenizers are loaded for it

`ladder` is what may be done, in order, when a call of the node's runs out of memory.

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
    "text_encoder": "what reads the prompt",
    "image_encoder": "what reads a picture for the dit, other than the VAE",
    "vae": "between pixels and latents",
    "audio": "between sound and latents, the vocoder too",
    "tokenizer": "text to token ids",
    "processor": "pictures, or a chat with pictures, to what an encoder takes",
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
    """A node that may have nothing to do: `bypass(**inputs)` names the input that is its output."""

    bypass: Callable[..., str | None]


class Verify(Protocol):
    """A node that refuses requests: `verify(**inputs)` raises UserError."""

    verify: Callable[..., None]


class Ignores(Protocol):
    """A node that may not use an input: `ignores(**inputs)` names those, with the reason."""

    ignores: Callable[..., Mapping[str, str]]


class Tells(Protocol):
    """A node that has something to tell: `notes(**inputs)` gives sentences by input."""

    notes: Callable[..., Mapping[str, Sequence[str]]]


class Recovers(Protocol):
    """A node with rungs of its own, tried after the usual ones."""

    ladder: ClassVar[tuple[Rung, ...]]


class Sized(Protocol):
    """A node whose result has the size of its inputs, or that they state; not inherited."""

    sized: ClassVar[tuple[str, ...]]


def role(name: str, ladder: tuple[Rung, ...] = ()) -> Callable[[C], C]:
    """Mark a Protocol of components: what they are for, and what they can do where memory is short.

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
    """Mark a value class that only binds: networks are asked later, by whoever uses the value.

    A value of such a class keeps alive what it was made from, and is never kept across requests.
    """
    vars_of: Any = cls
    vars_of.__lazy__ = True
    return cls


def effect(cls: C) -> C:
    """Mark a value class that says what was done outside, such as a file: it is never recalled."""
    vars_of: Any = cls
    vars_of.__effect__ = True
    return cls


def is_lazy(kind: object) -> bool:
    """Whether values of this class only bind."""
    return bool(getattr(kind, "__lazy__", False))


def is_effect(kind: object) -> bool:
    """Whether values of this class say what was done outside."""
    return bool(getattr(kind, "__effect__", False))
