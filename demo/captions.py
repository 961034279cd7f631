"""Scenes to sentences: several templates, synonyms, and now and then a word nobody knows."""

from __future__ import annotations

import random

from demo.scenes import COLOURS, MOTIONS, POSITIONS, SHAPES, SIZES, Scene

SYNONYMS = {
    "center": ["center", "centre", "middle"],
    "gray": ["gray", "grey"],
    "purple": ["purple", "purple", "violet"],
    "ring": ["ring", "ring", "donut"],
    "cross": ["cross", "cross", "plus"],
    "diamond": ["diamond", "diamond", "rhombus"],
    "large": ["large", "big"],
    "small": ["small", "little", "tiny"],
}
KINDS = ["picture", "image", "drawing", "photo", "icon", "painting", "illustration"]
CHANGES = {
    "growing": ["growing", "grows"],
    "shrinking": ["shrinking", "shrinks"],
    "rotating": ["rotating", "spinning", "rotates"],
}
UNKNOWN_WORD = "zzz"


def caption(scene: Scene, rng: random.Random) -> str:
    """Say what a scene shows, in one of many ways."""
    back = _word(COLOURS[scene.background], rng)
    on = rng.choice(
        [f"on {_article(back)} background"] * 4
        + [f"on {back}", f"against {_article(back)} background", f", {back} background"]
    )
    first = f"{_word(COLOURS[scene.colour], rng)} {_word(SHAPES[scene.shape], rng)}"
    if scene.objects == 2:
        return _finish(f"{_two(scene, first, rng)} {on}", rng)
    if scene.size:
        first = f"{_word(SIZES[scene.size], rng)} {first}"
    place = _place(POSITIONS[scene.position], rng)
    motion = _motion(MOTIONS[scene.motion], rng)
    # the background may be left out where it is the expected one: white, or black under white
    expected = "black" if COLOURS[scene.colour] == "white" else "white"
    if COLOURS[scene.background] == expected and rng.random() < 0.4:
        on = ""
    template = rng.random()
    if template < 0.1 and on and not motion:
        return _finish(f"{_article(back)} background with {_article(first)} {place}", rng)
    if template < 0.2:
        return _finish(f"{first} {motion} {place} {on}", rng)
    middle = f"{place} {motion}" if rng.random() < 0.5 else f"{motion} {place}"
    if place and rng.random() < 0.3:
        return _finish(f"{_article(first)} {motion} {on} {place}", rng)
    return _finish(f"{_article(first)} {middle} {on}", rng)


def missing_caption(rng: random.Random) -> str:
    """What trains guidance: nothing, or (one time in five) only unknown words.

    A negative prompt in words this model does not know reads like the latter.
    """
    return "" if rng.random() < 0.8 else " ".join([UNKNOWN_WORD] * rng.randint(1, 24))


def _word(name: str, rng: random.Random) -> str:
    return rng.choice(SYNONYMS.get(name, [name]))


def _article(words: str) -> str:
    return ("an " if words[0] in "aeiou" else "a ") + words


def _two(scene: Scene, first: str, rng: random.Random) -> str:
    second = f"{_word(COLOURS[scene.second_colour], rng)} {_word(SHAPES[scene.second_shape], rng)}"
    one, other = _article(first), _article(second)
    if scene.relation == 0:
        text = rng.choice(
            [
                f"{one} and {other}",
                f"{one} and {other}",
                f"{one} next to {other}",
                f"{one} on the left and {other} on the right",
                f"{one} to the left of {other}",
                f"{first} and {second}",
            ]
        )
        return f"{other} to the right of {one}" if rng.random() < 0.15 else text
    return rng.choice(
        [
            f"{one} above {other}",
            f"{one} on top of {other}",
            f"{other} below {one}",
            f"{other} under {one}",
        ]
    )


def _place(position: str, rng: random.Random) -> str:
    if position == "center":
        return f"in the {_word(position, rng)}"
    if " " in position:
        return rng.choice([f"in the {position} corner", f"in the {position}", f"at the {position}"])
    if position in ("left", "right"):
        return rng.choice([f"on the {position}", f"on the {position} side", f"on the {position}"])
    return f"at the {position}" if position else ""


def _motion(motion: str, rng: random.Random) -> str:
    if motion in CHANGES:
        return rng.choice(CHANGES[motion])
    if not motion:
        return ""
    towards = f"to the {motion}" if motion in ("left", "right") else motion
    return rng.choice([f"moving {motion}", f"moves {motion}", f"moving {towards}"])


def _finish(words: str, rng: random.Random) -> str:
    text = " ".join(words.split()).replace(" ,", ",")
    if rng.random() < 0.12:
        text = f"{rng.choice(['a', 'an', 'the'])} {rng.choice(KINDS)} of {text}"
    if rng.random() < 0.04:
        text += f", {UNKNOWN_WORD}"  # the model learns to pass over words it does not know
    if rng.random() < 0.1:
        text += "."
    return text
