"""Token ids that a text encoder does not know: refused before its embedding is indexed with them.

A tokenizer may have tokens that were added after the encoder was trained. On a CPU such an id is an
IndexError without a name; on a GPU it ends every computation of the process.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import nn

from runtime.checkpoint.component_source import ComponentSource
from runtime.checkpoint.file_faults import json_value
from runtime.errors import UserError

UNLIMITED = 10**20  # what transformers takes where no file says it


def check_token_ids(model: nn.Module, source: ComponentSource) -> None:
    """Let a model of transformers refuse ids beyond its input embedding, with the token's text."""
    with suppress(NotImplementedError, AttributeError):
        inputs: Any = model.get_input_embeddings()  # type: ignore[operator]  # of transformers
        for module in model.modules():
            if isinstance(module, nn.Embedding) and module.weight is inputs.weight:
                module.register_forward_pre_hook(_check(source, module.num_embeddings))


def _check(source: ComponentSource, size: int) -> Any:
    def check(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        ids = inputs[0]
        if ids.is_meta or not ids.numel() or (highest := int(ids.max())) < size:
            return
        tokens = added_tokens(source.folder.parent, highest, size)
        named = f"the token {' or '.join(f'`{t}`' for t in tokens)}" if tokens else "a token"
        raise UserError(
            f"{named} of the prompt (id {highest}) is not in the vocabulary of `{source.name}`,"
            f" which has {size} tokens: it was added to the tokenizer, and the encoder was not"
            " trained with it.",
            help="leave the token out of the prompt, or give the text encoder that was trained with"
            f" it as `components.{source.name}.path`",
            field="request.prompt",
        )

    return check


def unlimited_tokenizer(name: str, part: object, problem: Exception) -> UserError | None:
    """The error for a tokenizer that does not say how many tokens its encoder takes.

    Padding to that length then fails with a number beyond the machine's.
    """
    length = getattr(part, "model_max_length", 0)
    if not isinstance(length, int) or length < UNLIMITED or "Tokenizer" not in type(part).__name__:
        return None
    if not isinstance(problem, OverflowError) and "max_length" not in str(problem):
        return None
    return unlimited_length(part, name)


def unlimited_length(tokenizer: object, name: str = "tokenizer") -> UserError:
    """The error for a tokenizer whose files do not say how many tokens its encoder takes."""
    folder = getattr(tokenizer, "name_or_path", "") or "its folder"
    return UserError(
        f"`{name}` does not say how many tokens it takes: tokenizer_config.json of {folder} is"
        " missing, or has no `model_max_length`.",
        help="download the model again",
        field=f"components.{name}.path",
    )


def added_tokens(model: Path, id: int, size: int) -> list[str]:
    """Texts of a token by its id, from the tokenizers of a model.

    transformers may number added tokens anew: where none has the id, those beyond `size` are meant.
    """
    found: dict[int, str] = {}
    for folder in sorted(model.iterdir()) if model.is_dir() else ():
        if folder.name.startswith(("tokenizer", "processor")):
            with suppress(UserError, OSError):
                found |= _tokens(folder)
    beyond = [text for place, text in sorted(found.items()) if place >= size]
    return [found[id]] if id in found else list(dict.fromkeys(beyond))[:3]


def _tokens(folder: Path) -> dict[int, str]:
    """Tokens that were added to a tokenizer, by id: each generation of files has its own place."""
    found: dict[int, str] = {}
    config = _object(folder / "tokenizer_config.json").get("added_tokens_decoder")
    for key, entry in config.items() if isinstance(config, Mapping) else ():
        if str(key).isdigit() and isinstance(entry, Mapping):
            found[int(key)] = str(entry.get("content", ""))
    listed = _object(folder / "tokenizer.json").get("added_tokens")
    for entry in listed if isinstance(listed, list) else ():
        if isinstance(entry, Mapping) and isinstance(entry.get("id"), int):
            found[entry["id"]] = str(entry.get("content", ""))
    older = _object(folder / "added_tokens.json")
    return found | {id: text for text, id in older.items() if isinstance(id, int)}


def _object(path: Path) -> Mapping[str, object]:
    value = json_value(path) if path.is_file() else {}
    return value if isinstance(value, Mapping) else {}
