"""Request bodies: JSON and multipart, limited in size, parsed into typed values and uploads."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from runtime import Raw, UserError
from runtime.settings.field import Field, show
from server.errors import ApiError, bad_request, from_user_error
from server.parameter_names import unknown_parameter_help
from server.schemas import MAX_NUMBER, MAX_PROMPT, Accepts

JSON_BYTES = 1 << 20
COMPRESSED_SIGNATURES = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd")  # how gzip and zstd begin
DRAIN_BYTES = 8 << 20
MAX_FILES, MAX_FIELDS = 16, 200
RANDOM_SEED_ADVICE = (
    "leave it out for the default, or draw a random number in the client for a random one"
)
JSON_TYPES: Mapping[str, tuple[tuple[type, ...], str]] = {
    "int": ((int, float), "a whole number"),
    "seed": ((int, float), "a whole number"),
    "float": ((int, float), "a number"),
    "bool": ((bool,), "true or false"),
    "map": ((dict,), "an object"),
}


@dataclass
class RequestBody:
    """A parsed body.

    values   typed, by field name; fields that are null or absent are left out
    files    uploads and URLs, by field name
    ignored  names of fields that were given and have no effect
    """

    values: dict[str, Any] = field(default_factory=dict)
    files: dict[str, list[UploadFile | str]] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)


async def read_body(
    request: Request, accepts: Accepts, types: tuple[str, ...], limit: int
) -> RequestBody:
    """The body by its content type. types: those accepted; limit: bytes of a body with files."""
    _check_encoding(request)
    part = limit if accepts.takes_uploads else JSON_BYTES  # a field may hold a data URL
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type in types and content_type == "multipart/form-data":
        return parse_fields(await _form(request, limit, part), accepts, as_text=True)
    if content_type in types:
        most = limit * 4 // 3 if accepts.takes_uploads else JSON_BYTES  # data URLs are base64
        return parse_fields(await _json(request, most), accepts, as_text=False)
    found = show(content_type) if content_type else "missing"
    raise ApiError(
        415,
        f"the content type is {found}; send {' or '.join(types)}",
        param="Content-Type", code="unsupported_media_type",
    )  # fmt: skip


def _check_encoding(request: Request) -> None:
    encoding = request.headers.get("content-encoding", "").strip().lower()
    if encoding not in {"", "identity"}:
        raise ApiError(
            415,
            f"the body is compressed ({show(encoding)}); send it uncompressed, without the header "
            "`Content-Encoding`",
            param="Content-Encoding", code="unsupported_content_encoding",
            headers={"Accept-Encoding": "identity"},
        )  # fmt: skip


async def _limited_chunks(request: Request, limit: int) -> AsyncGenerator[bytes, None]:
    """The body's chunks; an ApiError beyond `limit` bytes.

    Some more bytes are read and dropped: a client reads the response only after it has sent all.
    """
    total = 0
    async for chunk in request.stream():
        total += len(chunk)
        if total <= limit:
            yield chunk
        elif total > 2 * limit + DRAIN_BYTES:
            break
    if total > limit:
        _too_large(limit)


def _too_large(limit: int) -> NoReturn:
    raise ApiError(413, f"the body is larger than {limit / 2**20:g} MiB", code="request_too_large")


async def _json(request: Request, limit: int) -> dict[str, list[Any]]:
    data = b"".join([chunk async for chunk in _limited_chunks(request, limit)])
    try:
        body = json.loads(data, parse_constant=_no_constant, object_pairs_hook=_no_duplicates)
        json.dumps(body, ensure_ascii=False).encode()  # lone surrogates have no encoding
    except UnicodeError:
        compressed = data.startswith(COMPRESSED_SIGNATURES)
        reason = "compressed; send it uncompressed" if compressed else "not UTF-8"
        raise bad_request(f"the body is {reason}", code="invalid_json") from None
    except ValueError as problem:
        raise bad_request(f"the body is not JSON: {problem}", code="invalid_json") from None
    except RecursionError:
        raise bad_request("the body is nested too deeply", code="invalid_json") from None
    if not isinstance(body, dict):
        raise bad_request(f"the body must be a JSON object, got {show(body)}", code="invalid_json")
    return {name: [value] for name, value in body.items()}


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The members of a JSON object, each given once."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise bad_request(f"`{_short(name)}` is given twice", _short(name), "duplicate_key")
        found[name] = value
    return found


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not a JSON number")


async def _form(request: Request, limit: int, part: int) -> dict[str, list[Any]]:
    parser = MultiPartParser(
        request.headers, _limited_chunks(request, limit),
        max_files=MAX_FILES, max_fields=MAX_FIELDS, max_part_size=part,
    )  # fmt: skip
    try:
        form = await parser.parse()
    except MultiPartException as problem:
        raise bad_request(
            f"the multipart body: {problem.message}", code="invalid_multipart"
        ) from None
    except (ValueError, KeyError, LookupError) as problem:
        raise bad_request(f"the multipart body: {problem}", code="invalid_multipart") from None
    made: dict[str, list[Any]] = {}
    for name, value in form.multi_items():
        made.setdefault(_form_name(name), []).append(value)
    return made


def _form_name(name: str) -> str:
    """`seed[]` is one of several seeds; `input_reference[image_url]` is its URL."""
    return re.sub(r"\[(image_url)?\]$", "", name)


def parse_fields(body: Mapping[str, list[Any]], accepts: Accepts, *, as_text: bool) -> RequestBody:
    """Every value parsed by its field; an ApiError names the first that cannot be."""
    given = RequestBody()
    for name, values in body.items():
        if name.partition("[")[0] in accepts.unused:
            if any(value not in (None, "") for value in values):
                given.ignored.append(name)
            continue
        if name in accepts.files:
            given.files[name] = [f for v in values for f in _files(name, v)]
            continue
        if name not in accepts.fields:
            help = unknown_parameter_help(_short(name), accepts.names)
            raise bad_request(
                f"`{_short(name)}` is not a field of this request{help}", _short(name),
                "unknown_parameter",
            )  # fmt: skip
        value = _value(accepts.fields[name], values, as_text=as_text)
        if value is not None:
            given.values[name] = value
    for name in accepts.required:
        if name not in given.values:
            raise bad_request(f"`{name}` is required", name, "missing_required_parameter")
    return given


def _short(name: str) -> str:
    return name if len(name) <= 100 else name[:97] + "..."


def _files(name: str, value: Any) -> list[UploadFile | str]:
    """Uploads and URLs of one field."""
    if value is None or value == "":
        return []
    if isinstance(value, UploadFile) and not value.filename and not value.size:
        return []  # how a page sends a file input without a file
    if isinstance(value, list):
        return [f for item in value for f in _files(name, item)]
    if isinstance(value, dict) and set(value) <= {"image_url", "file_id"}:
        if value.get("file_id") is not None:
            raise bad_request(
                "this server has no Files API: send the file itself or its URL", f"{name}.file_id"
            )
        value = value.get("image_url")
    if not isinstance(value, UploadFile | str):
        raise bad_request(
            f"`{name}` expects a file or its URL, got {show(value)}", name, "invalid_type"
        )
    return [value]


def _value(field: Field, values: list[Any], *, as_text: bool) -> Any:
    """One typed value, or a tuple of them for seeds and lists; None where the field is empty."""
    several = field.many or field.type == "seed"
    if as_text:
        if any(isinstance(v, UploadFile) for v in values):
            raise bad_request(f"`{field.name}` takes text, not a file", field.name, "invalid_type")
        values = [v for v in values if v != ""]  # how a page sends an input without text
        if field.type != "text":
            values = [Raw(v) for v in values]
    elif several and isinstance(values[0], list):
        values = values[0]
        if not values:
            raise bad_request(f"`{field.name}` is an empty list", field.name)
        if None in values:
            raise bad_request(f"`{field.name}` has a null in its list", field.name, "invalid_type")
    if len(values) > 1 and not several:
        raise bad_request(f"`{field.name}` is given {len(values)} times", field.name)
    parsed = [_one(field, value, as_text=as_text) for value in values]
    parsed = [value for value in parsed if value is not None]
    return (tuple(parsed) if several else parsed[0]) if parsed else None


def _one(field: Field, value: Any, *, as_text: bool) -> Any:
    if value is None:
        return None
    if not as_text:
        value = _strict(field, value)
    elif field.type != "text" and len(value) > MAX_NUMBER and field.type != "map":
        raise bad_request(f"`{field.name}` is too long: {show(str(value))}", field.name)
    try:
        parsed = field.parse(value) if not field.many else field.parse([value])[0]
    except UserError as problem:
        if field.type == "seed" and "random" not in f"{problem.message} {problem.help}":
            problem.help = RANDOM_SEED_ADVICE
        raise from_user_error(problem, field.name) from None
    if parsed is None:  # the word null: a form has no nulls
        raise bad_request(
            f"`{field.name}` is {show(str(value))}; leave it out", field.name, "invalid_type"
        )
    if field.type == "text" and len(parsed) > MAX_PROMPT:
        raise bad_request(f"`{field.name}` is longer than {MAX_PROMPT} characters", field.name)
    return parsed


def _strict(field: Field, value: Any) -> Any:
    """In JSON a number is a number; OpenAI's `seconds` may be one or text."""
    kinds, expected = JSON_TYPES.get(field.type, ((str,), "text"))
    if field.name == "seconds" and isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:.3f}".rstrip("0").rstrip(".") if abs(value) < 1e7 else str(value)
    right = isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))
    if not right:
        raise bad_request(
            f"`{field.name}` expects {expected}, got {show(value)}", field.name, "invalid_type"
        )
    return value
