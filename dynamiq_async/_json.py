"""JSON as servers really send it: msgspec, and a second look at what msgspec refuses.

`json.loads` accepts a lone surrogate escape (`"\\ud83d"`), and so do the servers that produce one;
msgspec does not. Bytes that are not UTF-8 occur when a server cuts text in the middle of a
character. Both come through as U+FFFD: a response is not lost over a broken emoji. The repair
runs only after msgspec has refused, so it costs nothing where nothing is wrong.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar, overload

import msgspec
import msgspec.inspect

from dynamiq_async.errors import InvalidArgumentError, ResponseDecodeError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)
Buffer = bytes | bytearray | memoryview

_LF = b"\n"[0]

DECODE_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError)
"""What msgspec raises for bad input: malformed, misfitting, not UTF-8, nested too deeply."""

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

    What is kept is no field: it takes no part in comparing, printing and encoding. Copies, pickles
    and what `msgspec.structs.replace` returns do not have it. It costs no memory beside a pointer
    where the Struct has a `Raw` field, which holds on to the same bytes.
    """

    __slots__ = ("_line",)

    _line: Buffer

    @property
    def raw(self) -> bytes:
        """The JSON that this was decoded from, byte for byte, with what the type does not know.
        For what was not decoded but made by hand, copied or changed: JSON of its fields."""
        try:
            line = self._line
        except AttributeError:
            return msgspec.json.encode(self)
        if line and line[-1] == _LF:
            line = line[:-1]
        return line if type(line) is bytes else bytes(line)


def keep(value: Any, data: Buffer) -> None:
    """Have a value keep the JSON it was decoded from."""
    keep_line(value, LINE, bytes(data) + b"\n" if data[-1:] == b"\n" else data)


# `keep_line(value, LINE, line)` does the same for a line of a stream, with its LF or without. A
# stream does it for every event, so it is one call into C, and `raw` is what cuts the LF off.
keep_line, LINE = msgspec.structs.force_setattr, "_line"


def repair(data: Buffer) -> bytes:
    """`data` with lone surrogate escapes and invalid UTF-8 replaced by U+FFFD, and without the byte
    order mark that some proxies put first."""
    text = bytes(data).decode("utf-8", "replace").removeprefix("\ufeff").encode()
    return _ESCAPE.sub(lambda match: rb"\ufffd" if match["lone"] else match[0], text)


@overload
def decode(data: Buffer) -> Any: ...
@overload
def decode(data: Buffer, type: type[T]) -> T: ...
def decode(data: Buffer, type: Any = Any) -> Any:
    """Decode a whole JSON text, tolerating what `repair` repairs.

    Raises one of `DECODE_ERRORS`.
    """
    if type is Any:
        return decode_with(_decode, data)
    return decode_with(msgspec.json.Decoder(type, dec_hook=from_builtin).decode, data)


def decode_with(decoder: Callable[[Any], T], data: Buffer) -> T:
    """`decode` with a decoder that the caller keeps."""
    try:
        return decoder(data)
    except DECODE_ERRORS:
        repaired = repair(data)
        if repaired == data:
            raise
    return decoder(repaired)


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
        info = msgspec.inspect.type_info(type)
        msgspec.json.Decoder(type)
        if isinstance(info, msgspec.inspect.CustomType) and not hasattr(info.cls, _VALIDATE):
            raise TypeError(f"{info.cls.__name__} is neither a Struct, a dataclass nor the like")
    except TypeError as error:
        raise InvalidArgumentError(
            f"{argument} is not a type that msgspec can decode to: {error}", argument=argument
        ) from error


def fitting(content: dict[str, Any], type: type[S]) -> S:
    """`content` as a Struct, without the fields that are of an unforeseen type."""
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
    """Make a value of a type that msgspec does not know: a pydantic model."""
    validate = getattr(type, _VALIDATE, None)
    if validate is None:
        raise TypeError(f"there is no way to make a {type.__name__} of it")
    model: T = validate(value)
    return model


_VALIDATE = "model_validate"  # a pydantic model's own


_decode = msgspec.json.Decoder().decode


def to_builtin(value: Any) -> Any:
    """Turn into builtins what msgspec does not know: pydantic models, and mappings but dict."""
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        return dump(mode="json", by_alias=True)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} cannot be encoded as JSON")


_encoder = msgspec.json.Encoder(enc_hook=to_builtin)


def encode(value: Any, argument: str) -> bytes:
    """`value` as JSON. Raises InvalidArgumentError, which names `argument`, if it cannot be."""
    try:
        return _encoder.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        raise InvalidArgumentError(
            f"{argument} cannot be encoded as JSON: {error}", argument=argument
        ) from error


def encode_object(value: Any, argument: str) -> bytes:
    """`encode` for a value that must be an object in JSON."""
    encoded = encode(value, argument)
    if encoded[:1] != b"{":
        raise InvalidArgumentError(
            f"{argument} must be a mapping, a msgspec Struct, a dataclass or a pydantic model "
            f"(the fields of the workflow's Input node), not {type(value).__name__}",
            argument=argument,
        )
    if b"null" in encoded:
        _check_finite(value, argument)
    return encoded


def _check_finite(value: Any, argument: str) -> None:
    """Raise InvalidArgumentError for a NaN or infinity: msgspec writes null in their place, which
    is not the input that was given."""
    try:
        json.dumps(msgspec.to_builtins(value, enc_hook=to_builtin), allow_nan=False)
    except ValueError as error:
        raise InvalidArgumentError(
            f"{argument} holds a number that JSON has no name for (NaN or infinity)",
            argument=argument,
        ) from error
