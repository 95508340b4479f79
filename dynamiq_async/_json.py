"""Decodes JSON as servers really send it: msgspec, and a second look at what msgspec refuses.

`json.loads` accepts a lone surrogate escape (`"\\ud83d"`), and so do the servers that produce one;
msgspec does not. Bytes that are not UTF-8 occur when a server cuts text in the middle of a
character. Both become U+FFFD, so that a broken emoji does not lose a response. Python's own `json`
writes NaN, Infinity and -Infinity, and accepts numbers that no float holds, such as 1e400. They
become what `json.loads` makes of them.

The second look happens only after msgspec has refused, so valid JSON does not pay for it. JSON that
is well-formed but of another type gets none, nor does JSON of more than `MENDABLE_BYTES`: the
second look runs in Python, and blocks the event loop meanwhile.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, overload

import msgspec
import msgspec.inspect
from msgspec import NODEFAULT, Raw

from dynamiq_async._scalars import is_of_a_frame, plain
from dynamiq_async._types import OncePerType, PerType
from dynamiq_async.errors import InvalidArgumentError, ResponseDecodeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)
Buffer = bytes | bytearray | memoryview

_LF = b"\n"[0]

DECODE_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError)
"""The errors of msgspec for bad input: malformed, misfitting, not UTF-8, nested too deeply."""

# Escapes are matched one after another, so that the `\\ud83d` of an escaped backslash followed by
# plain text is not taken for a surrogate.
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|(?P<lone>u[dD][89a-fA-F][0-9a-fA-F]{2})"
    rb"|.)",
    re.DOTALL,
)


class KeepsRaw:
    """A mixin for Structs that keep the JSON they were decoded from, as `raw`.

    The JSON is not a field: it takes no part in comparing, printing and encoding. Copies, pickles
    and what `msgspec.structs.replace` returns do not have it. In a Struct with a `Raw` field, which
    refers to the same bytes, it costs only a pointer.
    """

    __slots__ = ("_line",)

    _line: Buffer

    @property
    def raw(self) -> bytes:
        """The JSON that this was decoded from, byte for byte, with fields unknown to the type.
        An object that was made by hand, copied or changed gives the JSON of its fields."""
        try:
            line = self._line
        except AttributeError:
            return msgspec.json.encode(self)
        if line and line[-1] == _LF:
            line = line[:-1]
        return line if type(line) is bytes else bytes(line)


def keep(value: Any, data: Buffer) -> None:
    """Make a value keep the JSON it was decoded from.

    An event keeps `bytes` that msgspec has read. Any other buffer may hold NaN or Infinity.
    """
    line = bytes(data) + b"\n" if data[-1:] == b"\n" else data
    keep_line(value, LINE, line if type(data) is bytes else memoryview(line))


def is_sound(value: Any) -> bool:
    """Whether the JSON that an event keeps is known to have no NaN or Infinity in it."""
    return type(getattr(value, LINE, b"")) is bytes


def kept(value: Any) -> Buffer | None:
    """The JSON that a value keeps, None for one that was made by hand, copied or changed."""
    return getattr(value, LINE, None)


# `keep_line(value, LINE, line)` does the same for a line of a stream, with its LF or without. A
# stream calls it for every event, so it is one call into C, and `raw` cuts the LF off.
keep_line, LINE = msgspec.structs.force_setattr, "_line"


MENDABLE_BYTES = 1024 * 1024
"""The largest JSON that gets a second look."""

IN_PLACE_BYTES = 64 * 1024
"""From this size on, the second look runs in a thread, where the caller can await that."""


def repair(data: Buffer) -> bytes:
    """`data` with lone surrogate escapes and invalid UTF-8 replaced by U+FFFD, and without the byte
    order mark that some proxies put first."""
    text = bytes(data).decode("utf-8", "replace").removeprefix("\ufeff").encode()
    if b"\\ud" not in text and b"\\uD" not in text:
        return text
    return _ESCAPE.sub(lambda match: rb"\ufffd" if match["lone"] else match[0], text)


@overload
def decode(data: Buffer) -> Any: ...
@overload
def decode(data: Buffer, type: type[T]) -> T: ...
def decode(data: Buffer, type: Any = Any) -> Any:
    """Decode a whole JSON text, tolerating what `decode_with` tolerates.

    Raises one of `DECODE_ERRORS`.
    """
    return decode_with(_decoder(type), data)


def decode_at_once(data: Buffer, type: Any = Any) -> Any:
    """`decode`, unless its second look would block the event loop.

    Raises one of `DECODE_ERRORS`, or LongLookError: then call `decode` in a thread.
    """
    decoder = _decoder(type)
    try:
        return decoder(data)
    except DECODE_ERRORS as error:
        size = memoryview(data).nbytes
        if size > IN_PLACE_BYTES and _is_mendable(error, size):
            raise LongLookError from None
    return decode_with(decoder, data)


class LongLookError(Exception):
    """The second look at JSON takes too long for the event loop."""


def _decoder(type: Any) -> Callable[[Any], Any]:
    return _decode if type is Any else _made(type)


def _make_decoder(type: Any) -> Callable[[Any], Any]:
    if hasattr(type, _VALIDATE_JSON):
        return partial(_validated, type)
    return msgspec.json.Decoder(type, dec_hook=from_builtin).decode


_made = PerType(_make_decoder)


def decode_with(decoder: Callable[[Any], T], data: Buffer) -> T:
    """Decode `data` with a decoder that the caller keeps. If that fails, replace lone surrogates
    and invalid UTF-8 by U+FFFD and decode again, at last with the numbers of `json.loads`.

    Args:
        decoder: the `decode` of a `msgspec.json.Decoder`.

    Raises one of `DECODE_ERRORS`.
    """
    try:
        return decoder(data)
    except DECODE_ERRORS as error:
        if not _is_mendable(error, memoryview(data).nbytes):
            raise
        failure = error
    text = repair(data)
    if text != data:
        try:
            return decoder(text)
        except DECODE_ERRORS as error:
            if not _is_mendable(error, len(text)):
                raise
            failure = error
    value: Any = NODEFAULT
    with suppress(ValueError, RecursionError):
        value = json.loads(text.decode())
    if value is NODEFAULT:
        # Not raised in a handler: the error of `json` holds the whole text, which may repeat a key.
        raise failure
    converted: T = _converted(value, decoder)
    return converted


def _is_mendable(error: Exception, size: int) -> bool:
    """Whether another look may help: not where JSON is of another type than the one asked for."""
    if isinstance(error, msgspec.ValidationError) and not str(error).startswith(_OUT_OF_RANGE):
        return False
    return size <= MENDABLE_BYTES


_OUT_OF_RANGE = "Number out of range"  # msgspec's for a float


def _converted(value: Any, decoder: Any) -> Any:
    """What `decoder` would make of a value that `json.loads` read."""
    if isinstance(decoder, partial):
        return from_builtin(decoder.args[0], value)
    type = getattr(getattr(decoder, "__self__", None), "type", Any)
    if type is Any:
        return value
    return convert(value, type)


def convert(value: Any, type: Any) -> Any:
    """A decoded JSON value as `type`, as far as the value still shows what the JSON was.

    Raises one of `DECODE_ERRORS`.
    """
    filled = _with_raw(value, msgspec.inspect.type_info(type))
    return msgspec.convert(filled, type, dec_hook=from_builtin, str_keys=True)


def _with_raw(value: Any, info: msgspec.inspect.Type) -> Any:
    """`value` with JSON where its type has `Raw`, because msgspec does not convert to `Raw`."""
    if isinstance(info, msgspec.inspect.RawType):
        return value if isinstance(value, Raw) else dumped(value)
    if isinstance(info, msgspec.inspect.UnionType):
        for one in info.types:
            value = _with_raw(value, one)
        return value
    if isinstance(value, dict):
        if isinstance(info, msgspec.inspect.DictType):
            return {name: _with_raw(item, info.value_type) for name, item in value.items()}
        known = {f.encode_name: f.type for f in getattr(info, "fields", ())}
        return {n: _with_raw(v, known[n]) if n in known else v for n, v in value.items()}
    if isinstance(value, list) and (item_type := getattr(info, "item_type", None)) is not None:
        return [_with_raw(item, item_type) for item in value]
    return value


def dumped(value: Any) -> Raw:
    """The JSON of a decoded value, its NaN and infinities as Python writes them."""
    return Raw(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


def type_name(type: Any) -> str:
    """The name of a type in messages."""
    return str(getattr(type, "__name__", type))


def decode_as(
    data: Buffer, type: Any, what: str, *, masked: Callable[[str], str] = str, **known: Any
) -> Any:
    """`data` as a type that the caller asked for.

    Raises:
        ResponseDecodeError: it does not fit. The message begins with `what`, and the error has
            `known`.
    """
    try:
        return decode(data, type)
    except DECODE_ERRORS as error:
        raise ResponseDecodeError(
            masked(f"{what} does not fit {type_name(type)}: {error}"), **known
        ) from error


def check_type(type: Any, argument: str = "output_type") -> None:
    """Raise InvalidArgumentError unless JSON can be decoded to `type`.

    It is called before a request is sent, so that the error does not come with the response.
    """
    if type is Any or type is None:
        return
    try:
        _check(type)
    except TypeError as error:
        raise InvalidArgumentError(
            f"{argument} is not a type that msgspec can decode to: {error}", argument=argument
        ) from error


def _check_type(type: Any) -> None:
    """Raise TypeError for a type that check_type refuses."""
    unknown: list[Any] = []
    decoder = msgspec.json.Decoder(type, dec_hook=lambda asked, _: unknown.append(asked))
    # msgspec accepts any class, and passes those that it does not know to the hook.
    with suppress(msgspec.ValidationError):
        decoder.decode(b"null")
    if unknown and not hasattr(unknown[0], _VALIDATE):
        name = type_name(unknown[0])
        raise TypeError(f"{name} is neither a Struct, a dataclass nor the like")


_check = OncePerType(_check_type)


def fitting(content: dict[str, Any], type: type[S]) -> S:
    """`content` as a Struct, without the fields whose values have an unexpected type."""
    try:
        return msgspec.convert(content, type)
    except msgspec.ValidationError:
        known = {}
        for field in msgspec.structs.fields(type):
            if field.encode_name in content:
                with suppress(msgspec.ValidationError):
                    known[field.name] = msgspec.convert(content[field.encode_name], field.type)
        return type(**known)


def from_builtin(type: type[T], value: Any) -> T:
    """Make a value of a type that msgspec does not know: a pydantic model.

    The model is given JSON, because a strict model accepts a date, a UUID or a tuple only as JSON
    or as the type itself.
    """
    if hasattr(type, _VALIDATE_JSON):
        return _model(type, bytes(dumped(value)))
    validate = getattr(type, _VALIDATE, None)
    if validate is None:
        raise TypeError(f"there is no way to make it the type {type.__name__}")
    model: T = validate(value)
    return model


def _validated(type: type[T], data: Any) -> T:
    """A pydantic model from JSON.

    Raises one of `DECODE_ERRORS`, a msgspec.ValidationError if it is JSON that does not fit.
    """
    text = bytes(data)
    try:
        return _model(type, text)
    except msgspec.ValidationError:
        _decode(text)  # raises its own error for text that is not JSON
        raise


def _model(type: type[T], text: bytes) -> T:
    try:
        model: T = getattr(type, _VALIDATE_JSON)(text)
    except ValueError as error:
        raise msgspec.ValidationError(str(error)) from error
    return model


_VALIDATE = "model_validate"  # a pydantic model's own
_VALIDATE_JSON = "model_validate_json"


_decode = msgspec.json.Decoder().decode


def to_builtin(value: Any) -> Any:
    """Turn values that msgspec does not know into builtins: pydantic models, mappings other than
    dict, subclasses of builtins, and the numbers, texts and times of numpy and pandas."""
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        return dump(mode="json", by_alias=True)
    if isinstance(value, Mapping):
        return dict(value)
    found = plain(value)
    if found is NotImplemented:
        raise TypeError(f"{type(value).__name__} cannot be encoded as JSON")
    return found


_encoder = msgspec.json.Encoder(enc_hook=to_builtin)

_ENCODE_ERRORS = (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError)


def encode(value: Any, argument: str) -> bytes:
    """`value` as JSON. Raises InvalidArgumentError, which names `argument` and the field, if that
    is not possible."""
    try:
        return _encoder.encode(value)
    except _ENCODE_ERRORS as error:
        where = _first(value, _refused, argument) or argument
        raise InvalidArgumentError(
            f"{where} cannot be encoded as JSON: {error}", argument=argument
        ) from error


def encode_object(value: Any, argument: str, *, row: bool = False) -> bytes:
    """`encode` for a value that must be an object in JSON.

    Args:
        row: the value may be the row of a frame, whose missing values are NaN.
    """
    encoded = encode(value, argument)
    if encoded[:1] != b"{":
        raise InvalidArgumentError(
            f"{argument} must be a mapping, a msgspec Struct, a dataclass or a pydantic model "
            f"(the fields of the workflow's Input node), not {type(value).__name__}",
            argument=argument,
        )
    if b"null" in encoded and (where := _first(value, _is_unnamed, argument)):
        if _is_row(value, row=row):
            filled = {n: None if _is_nan(item) else item for n, item in value.items()}
            return encode_object(filled, argument)
        raise _unnamed(where, argument)
    return encoded


def encode_value(value: Any, argument: str) -> bytes:
    """`encode` for any JSON value. Raises InvalidArgumentError also for a number that JSON has no
    name for, and for bytes, which msgspec would write in base64."""
    if isinstance(value, bytes | bytearray | memoryview):
        raise InvalidArgumentError(
            f"{argument} must be a value to encode as JSON, not {type(value).__name__}; what is "
            "JSON already goes in a msgspec.Raw",
            argument=argument,
        )
    encoded = encode(value, argument)
    if b"null" in encoded and (where := _first(value, _is_unnamed, argument)):
        raise _unnamed(where, argument)
    return encoded


def _unnamed(where: str, argument: str) -> InvalidArgumentError:
    """The error for a number that msgspec would silently write as null."""
    return InvalidArgumentError(
        f"{where} is a number that JSON has no name for (NaN or infinity)", argument=argument
    )


def _is_row(value: Any, *, row: bool) -> bool:
    """Whether `value` is a row of a frame, in which NaN is a missing value: a mapping in a batch of
    a program that uses pandas, or a mapping with values of numpy or pandas."""
    if not isinstance(value, Mapping) or not any(map(_is_nan, value.values())):
        return False
    return (row and "pandas" in sys.modules) or any(map(is_of_a_frame, value.values()))


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _is_unnamed(value: Any) -> bool:
    return type(value) is float and not math.isfinite(value)


def _refused(value: Any) -> bool:
    try:
        _encoder.encode(value)
    except _ENCODE_ERRORS:
        return True
    return False


def _first(value: Any, is_wrong: Callable[[Any], bool], path: str, depth: int = 64) -> str | None:
    """Where the first wrong value is, as `input.rows[3].score`; None where there is none."""
    parts = _parts(value) if depth else None
    if parts is None:
        return path if is_wrong(value) else None
    for name, part in parts:
        if found := _first(part, is_wrong, f"{path}{name}", depth - 1):
            return found
    return None


def _parts(value: Any) -> Iterable[tuple[str, Any]] | None:
    """The parts of a value, each with its name; None for a value without parts."""
    if isinstance(value, type):
        return None
    if isinstance(value, msgspec.Struct):
        return ((f".{name}", getattr(value, name)) for name in value.__struct_fields__)
    if is_dataclass(value):
        return ((f".{f.name}", getattr(value, f.name)) for f in fields(value))
    if callable(getattr(value, "model_dump", None)):
        value = dict(value)
    if isinstance(value, Mapping):
        return ((f".{name}", part) for name, part in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return ((f"[{index}]", part) for index, part in enumerate(value))
    return None


def text_of(value: Any, argument: str) -> str:
    """`value` as text: a string in JSON (such as a UUID, a date or an enum's value) without its
    quotes, anything else as JSON."""
    encoded = encode(value, argument)
    return msgspec.json.decode(encoded, type=str) if encoded[:1] == b'"' else encoded.decode()
