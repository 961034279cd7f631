"""Notes on the words of a prompt that a text encoder truncates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from nodes.contracts import Tokenizer
from runtime.checkpoint.vocabulary import UNLIMITED

Notes: TypeAlias = Mapping[str, Sequence[str]]  # by input port: sentences without their subject
LONGEST_QUOTE = 160  # characters of the words in a note


def text_truncation(
    tokenizer: Tokenizer, encoder: Any, text: str, length: int, **options: Any
) -> list[str]:
    """The note on a text that is cut to `length` tokens as the tokenizer cuts; none where it fits.

    options  of the tokenizer, as the text is encoded with
    """

    if length >= UNLIMITED:
        return []  # encoding refuses it, with the reason

    def ids(text: str, **more: Any) -> list[int]:
        found = tokenizer([text], verbose=False, **options, **more).input_ids[0]
        return [int(token) for token in found]

    read = ids(text, truncation=True, max_length=length)
    return token_truncation(tokenizer, encoder, ids(text), read, ids(""))


def chat_truncation(
    tokenizer: Tokenizer,
    encoder: Any,
    chat: Callable[[Tokenizer, str], str],
    text: str,
    length: int,
) -> list[str]:
    """The note on a text that is cut with the chat around it. chat: the text in its template."""

    def ids(text: str) -> list[int]:
        found = tokenizer([chat(tokenizer, text)], add_special_tokens=False, verbose=False)
        return [int(token) for token in found.input_ids[0]]

    return token_truncation(tokenizer, encoder, ids(text), ids(text)[:length], ids(""))


def token_truncation(
    tokenizer: Any,
    encoder: Any,
    whole: Sequence[int],
    read: Sequence[int],
    template: Sequence[int],
) -> list[str]:
    """The note on the tokens of `whole` that are not in `read`, the encoder's input; or none.

    template  the tokens of an empty text: what ends them does not belong to the text
    """
    start = _shared(whole, read)
    after = _shared(whole[start:][::-1], read[start:][::-1])
    after = max(after, _shared(whole[::-1], template[::-1]))
    tokens = list(whole[start : len(whole) - after])
    words = " ".join(tokenizer.decode(tokens, skip_special_tokens=True).split()) if tokens else ""
    if not words:
        return []
    if len(words) > LONGEST_QUOTE:
        words = words[: LONGEST_QUOTE - 4].rsplit(" ", 1)[0] + " ..."
    return [
        f'is cut: `{encoder.name}` does not read "{words}" ({len(tokens)} of {len(whole)} tokens)'
    ]


def _shared(one: Sequence[int], two: Sequence[int]) -> int:
    """How many tokens two sequences have in common before they differ."""
    pairs = enumerate(zip(one, two, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(two)))
