"""Typed fields: how a value of a request, policy or component is parsed. Imports no torch."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from runtime.errors import UserError, did_you_mean
from runtime.settings.setting import Raw
from runtime.settings.trained import Trained

TYPES = (
    *("text", "int", "float", "bool", "choice", "file", "seed", "dtype", "path", "map"),
    *("image", "video"),
)
PIXELS = frozenset({"image", "video"})  # types whose values are read into pixels
DTYPES = {
    "fp32": "float32", "float32": "float32", "float": "float32",
    "fp16": "float16", "float16": "float16", "half": "float16",
    "bf16": "bfloat16", "bfloat16": "bfloat16",
}  # fmt: skip
# As people write them: Python would also take 1_000 and the digits of every script.
WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,30}")
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?", re.IGNORECASE)
MOST = 10**30
DEFAULT_SEED = 42  # where neither the request nor the graph states one
RANDOM_SEED_HELP = "for another result each time give another number, such as $RANDOM of the shell"
NOT_EMPTY = "describe what to generate; a variable of the shell may have been empty"
TRUE, FALSE = frozenset({"true"}), frozenset({"false"})


@dataclass(frozen=True)
class Field:
    """What a field accepts.

    type      one of TYPES; `file` is a path or URL of an input, `image` that of a picture (from
              Python also a PIL image or an array), `video` that of a clip, `seed` a non-negative
              integer
    many      a list of such values
    default   value where nothing is set; none with `required` false means the field may stay empty
    min, max  inclusive bounds of numbers
    multiple  numbers must be `offset` plus a multiple of this (sizes, frames: multiple 4, offset 1)
    choices   the accepted words, where type is `choice`
    unit      px, frames, steps, s, ...
    config    key of the checkpoint's configs whose value, where it has one, is the default
    trained   what the model was trained for, a map of values, words, needs, before, examples;
              anything else is refused unless `checks.trained` is false
    frames    of a clip: the field that says how many frames are read; the rest is not decoded
    fps       of a clip: the field whose value, if it has one, is the rate at which it is read
    alpha     of a picture: its transparency is kept, as h w 4; else it is composited on white
    shape_of  of `height` and `width`: the field of a picture or clip whose aspect ratio the size
              has where the request names none; at most the area of the defaults
    help      one line
    reason    why numbers outside the bounds are refused, where that is not plain: one line
    """

    name: str
    type: str = "text"
    many: bool = False
    default: Any = None
    required: bool = False
    min: float | None = None
    max: float | None = None
    multiple: int | None = None
    offset: int = 0
    choices: tuple[str, ...] = ()
    unit: str = ""
    config: str = ""
    trained: Trained | None = None
    frames: str = ""
    fps: str = ""
    help: str = ""
    reason: str = ""
    shape_of: str = ""
    alpha: bool = False

    def parse(self, value: object, label: str = "") -> Any:
        """The typed value of what a user wrote; a UserError names `label`, value and fix."""
        label = label or f"`{self.name}`"
        if value is None or (
            isinstance(value, Raw) and self.type != "text" and value.lower() in {"null", "none"}
        ):
            return None
        if self.many:
            items = self._items(value)
            return tuple(self._one(item, label) for item in items)
        if isinstance(value, Sequence) and not isinstance(value, str):
            raise UserError(
                f"{label} takes one value, got {len(value)}: {', '.join(map(str, value))}",
                help="give a single value", field=self.name,
            )  # fmt: skip
        return self._one(value, label)

    def _items(self, value: object) -> Sequence[object]:
        if isinstance(value, Sequence) and not isinstance(value, str):
            return value
        if isinstance(value, Raw) and value.startswith("[") and value.endswith("]"):
            if self.type == "text":
                return _texts(value) or [value]
            return [Raw(part.strip()) for part in value[1:-1].split(",") if part.strip()]
        if (
            isinstance(value, Raw)
            and self.type in {"int", "float", "seed", "dtype"}
            and "," in value
        ):
            return [Raw(part.strip()) for part in value.split(",")]
        return [value]

    def _one(self, value: object, label: str) -> object:
        reader = getattr(self, f"_read_{self.type}")
        parsed = reader(value, label)
        if isinstance(parsed, int | float) and not isinstance(parsed, bool):
            self._check_number(parsed, label)
        return parsed

    def _wrong(self, value: object, label: str, expected: str, help: str = "") -> UserError:
        return UserError(
            f"{label} expects {expected}, got {show(value)}", help=help, field=self.name
        )

    def _read_text(self, value: object, label: str) -> str:
        if not isinstance(value, str):
            raise self._wrong(
                value, label, "text", help=f"put it in quotes: {json.dumps(str(value))}"
            )
        if self.type == "text" and not is_unicode(value):
            raise self._wrong(
                value.encode("unicode_escape").decode(), label, "text in UTF-8",
                help="save the file, or set the terminal and the locale, to UTF-8",
            )  # fmt: skip
        if self.type == "text" and self.required and not value.strip():
            raise UserError(f"{label} is empty", help=NOT_EMPTY, field=self.name)
        return str(value)

    _read_path = _read_file = _read_text

    def _read_image(self, value: object, label: str) -> object:
        from runtime.files.input_pictures import check_picture

        return self._checked(check_picture, value, label)

    def _read_video(self, value: object, label: str) -> object:
        from runtime.files.input_pictures import check_clip

        return self._checked(check_clip, value, label)

    def _checked(self, check: Callable[[Any], Any], value: object, label: str) -> object:
        try:
            return check(value)
        except UserError as problem:
            raise UserError(
                f"{label}: {problem.message}", help=problem.help, field=self.name
            ) from problem

    def _read_int(self, value: Any, label: str) -> int:
        if isinstance(value, str) and WHOLE_NUMBER.fullmatch(value.strip()):
            return int(value)
        whole = isinstance(value, Integral) or (isinstance(value, float) and value.is_integer())
        if isinstance(value, bool) or not whole or abs(value) > MOST:
            raise self._wrong(value, label, "a whole number")
        return int(value)

    def _read_seed(self, value: object, label: str) -> int:
        try:
            seed = self._read_int(value, label)
        except UserError:
            seed = -1
        if not 0 <= seed < 2**63:
            raise self._wrong(value, label, "a whole number from 0 to 2^63 - 1", RANDOM_SEED_HELP)
        return seed

    def _read_float(self, value: Any, label: str) -> float:
        is_text = isinstance(value, str)
        fits = NUMBER.fullmatch(value.strip()) if is_text else isinstance(value, Real)
        try:
            number = float(value) if fits and not isinstance(value, bool) else math.nan
        except OverflowError:  # a whole number beyond the floats
            number = math.nan
        if not math.isfinite(number):
            raise self._wrong(value, label, "a number")
        return number

    def _read_bool(self, value: object, label: str) -> bool:
        if isinstance(value, bool):
            return value
        word = value.strip().lower() if isinstance(value, str) else ""
        if word not in TRUE | FALSE:
            raise self._wrong(value, label, "true or false")
        return word in TRUE

    def _read_choice(self, value: object, label: str) -> str:
        if isinstance(value, str) and value.strip() in self.choices:
            return value.strip()
        listed = ", ".join(self.choices)
        raise self._wrong(
            value, label, f"one of {listed}", help=did_you_mean(str(value), self.choices)
        )

    def _read_dtype(self, value: object, label: str) -> str:
        if isinstance(value, str) and value.strip().lower() in DTYPES:
            return DTYPES[value.strip().lower()]
        raise self._wrong(value, label, "one of fp32, fp16, bf16")

    def _read_map(self, value: object, label: str) -> Mapping[str, object]:
        if isinstance(value, Raw):
            try:
                value = json.loads(value)
            except json.JSONDecodeError as problem:
                raise self._wrong(
                    str(value), label, "a JSON object", help=f"JSON says: {problem}"
                ) from None
        if not isinstance(value, Mapping):
            raise self._wrong(value, label, "a JSON object")
        return value

    def _check_number(self, value: float, label: str) -> None:
        unit = f" {self.unit}" if self.unit else ""
        if self.min is not None and value < self.min:
            raise self._wrong(value, label, f"at least {plain_number(self.min)}{unit}", self.reason)
        if self.max is not None and value > self.max:
            raise self._wrong(value, label, f"at most {plain_number(self.max)}{unit}", self.reason)
        if self.multiple and (value - self.offset) % self.multiple:
            options = " or ".join(plain_number(x) for x in self.neighbours(value))
            help = f"the nearest that {'fit are' if ' or ' in options else 'fits is'} {options}"
            raise self._wrong(value, label, self.rule + unit, help=help)

    @property
    def rule(self) -> str:
        """What numbers must be, in words."""
        return f"a multiple of {self.multiple}" + (f" plus {self.offset}" if self.offset else "")

    def neighbours(self, value: float) -> list[Any]:
        """The numbers that fit next to `value`, below and above; itself where it fits.

        Where the model was trained for some values only: the nearest of these.
        """
        if self.trained and self.trained.values:
            return [min(self.trained.values, key=lambda known: abs(known - value))]
        step = self.multiple or 1
        low = value - (value - self.offset) % step
        return [
            x for x in {low: 0, low + step: 0} if self._inside(x) and (x == value or low != value)
        ]

    def _inside(self, value: float) -> bool:
        return (self.min is None or value >= self.min) and (self.max is None or value <= self.max)


def is_unicode(text: str) -> bool:
    """Whether a text has no bytes that could not be decoded (Python keeps them as surrogates)."""
    return not any("\ud800" <= c <= "\udfff" for c in text)


def _texts(value: str) -> list[str]:
    """The texts of a JSON list; none where it is something else, such as a text in brackets."""
    try:
        found = json.loads(value)
    except ValueError:
        return []
    return found if all(isinstance(text, str) for text in found) else []


def plain_number(number: float) -> str:
    """A number as a person writes it: 4 rather than 4.0."""
    return str(int(number)) if float(number).is_integer() else str(number)


def show(value: object) -> str:
    """A found value in a message: quoted text, JSON for the rest, at most 60 characters."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."
