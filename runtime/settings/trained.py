"""What a model was trained for: words of a prompt, values of a number. Imports no torch.

A graph declares it on a request field, so that a request that would give a blank picture is an
error that says what works. `checks.trained=false` lets such a request through.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runtime.errors import UserError, nearest

TRAINED_KEYS = ("values", "words", "needs", "before", "examples")
WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True)
class Trained:
    """What the values of a request field may be for the result to be good.

    values    the numbers
    words     group to its words; a text has words of these groups only
    needs     groups of which a text has at least one word
    before    group to the group that stands before it: where no word of that one does, its first
              word that the text does not have is put there
    examples  texts that work
    """

    values: tuple[float, ...] = ()
    words: tuple[tuple[str, tuple[str, ...]], ...] = ()
    needs: tuple[str, ...] = ()
    before: tuple[tuple[str, str], ...] = ()
    examples: tuple[str, ...] = ()

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Trained:
        """From what a graph says; raises UserError whose field is the key that is wrong."""
        for key in data:
            if key not in TRAINED_KEYS:
                raise UserError(f"`{key}` is none of {', '.join(TRAINED_KEYS)}", field=key)
        words = _map_of(data, "words")
        groups = {group: _texts(listed, f"words.{group}") for group, listed in words.items()}
        before = {group: str(other) for group, other in _map_of(data, "before").items()}
        needs = _texts(data.get("needs") or (), "needs")
        for group in (*needs, *before, *before.values()):
            if group not in groups:
                raise UserError(
                    f"`{group}` is no group of words. There are: {', '.join(groups)}.",
                    field="needs" if group in needs else "before",
                )
        values = tuple(data.get("values") or ())
        if not all(isinstance(value, int | float) for value in values):
            raise UserError("expects a list of numbers", field="values")
        examples = _texts(data.get("examples") or (), "examples")
        return cls(values, tuple(groups.items()), needs, tuple(before.items()), examples)

    def admit(self, name: str, value: object, unit: str = "") -> tuple[object, str]:
        """The value, and a note where a word that it lacks was put in.

        name  config path of the field, for messages. Raises UserError where it is not trained.
        """
        if isinstance(value, str) and self.words:
            text = self._text(name, value)
            return text, "" if text == value else f"`{name}` is read as: {text}"
        numeric = isinstance(value, int | float) and not isinstance(value, bool)
        if numeric and self.values and value not in self.values:
            listed = " or ".join(f"{v:g}" for v in self.values)
            raise UserError(
                f"`{name}` expects {listed}{unit and f' {unit}'}, which the model was trained for, "
                f"got {value:g}",
                help="leave it out, or try it all the same with `checks.trained=false`",
                field=name,
            )
        return value, ""

    def _text(self, name: str, text: str) -> str:
        groups = dict(self.words)
        of = {word: group for group, words in groups.items() for word in words}
        found = [(m.group().lower(), m.start()) for m in WORD.finditer(text)]
        unknown = list(dict.fromkeys(word for word, _ in found if word not in of))
        if unknown:
            named = ", ".join(f"`{word}`" for word in unknown)
            near = list(dict.fromkeys(n for word in unknown for n in nearest(word, of, cutoff=0.6)))
            meant = f"did you mean {', '.join(f'`{word}`' for word in near)}? " if near else ""
            raise self._error(name, f"has words that the model does not know: {named}", meant)
        for group in self.needs:
            if not any(of[word] == group for word, _ in found):
                raise self._error(name, f"names no {group}: {', '.join(groups[group])}")
        return self._with_needed_words(text, found, of, groups)

    def _with_needed_words(
        self,
        text: str,
        found: Sequence[tuple[str, int]],
        of: Mapping[str, str],
        groups: Mapping[str, tuple[str, ...]],
    ) -> str:
        """The text with a word put before each one that needs one and has none."""
        words = [word for word, _ in found]
        for index, (word, at) in reversed([*enumerate(found)]):
            wanted = dict(self.before).get(of[word])
            if wanted and (not index or of[words[index - 1]] != wanted):
                put = next((w for w in groups[wanted] if w not in words), groups[wanted][0])
                text = f"{text[:at]}{put} {text[at:]}"
        return text

    def _error(self, name: str, message: str, meant: str = "") -> UserError:
        works = " | ".join(self.examples)
        return UserError(
            f"`{name}` {message}",
            help=f"{meant}These work: {works}. `checks.trained=false` tries it all the same",
            field=name,
        )


def _map_of(data: Mapping[str, object], key: str) -> Mapping[str, object]:
    value = data.get(key) or {}
    if not isinstance(value, Mapping):
        raise UserError("expects a map of groups", field=key)
    return value


def _texts(value: object, key: str) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(one, str) for one in value):
        raise UserError("expects a list of texts (`on` and `off` need quotes)", field=key)
    return tuple(value)
