"""Reading 2xx responses: bodies become values of the type asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import msgspec

from dynamiq_async import _json, errors
from dynamiq_async._credentials import mask
from dynamiq_async._http.error_responses import (
    _masked,
    beginning,
    content_type,
    request_id,
    type_error,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

from msgspec import Struct, field

T = TypeVar("T")


class Answer(Protocol):
    """A whole 2xx response."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    attempts: int


class ResponseInfo(Struct, frozen=True, kw_only=True):
    """What is known of the response behind a stream.

    Attributes:
        status: the HTTP status.
        headers: the response's headers, their names in lower case.
        request_id: the server's or proxy's id for the request.
        attempts: how many times the request was sent or tried.
    """

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    request_id: str | None = None
    attempts: int = 1


def decode_body(
    request: str,
    body: bytes,
    type: type[T],
    *,
    status: int,
    headers: Mapping[str, str],
    key: str | None = None,
) -> T:
    """A 2xx body as `type`.

    Raises:
        ContentTypeError: it is not JSON and does not claim to be.
        ResponseDecodeError: it is not JSON although it claims to be, or does not fit `type`.
    """
    try:
        value: T = _json.decode(body, type)
    except _json.DECODE_ERRORS as error:
        failure = error
    else:
        return value
    malformed = not isinstance(failure, msgspec.ValidationError)
    if malformed and "json" not in content_type(headers):
        raise type_error(request, "application/json", status, headers, body, key)
    what = "is not JSON" if malformed else f"does not fit {getattr(type, '__name__', type)}"
    raise errors.ResponseDecodeError(
        f"the answer to {request} {what}: {mask(str(failure), key)}",
        status=status,
        request_id=request_id(headers),
        body=beginning(body, key),
    ) from failure


class _Result(msgspec.Struct):
    """The library's result of a whole run, which a node's failure turns into `failure`."""

    status: Literal["failure", "canceled"]
    input: Any
    output: Any
    error: dict[str, Any]


def decode_output(request: str, answer: Answer, type: Any, *, key: str | None) -> Any:
    """A synchronous call's body as `type`.

    The root endpoint's output is any JSON value, so only the library's own result of a whole run
    (`status`, `input`, `output` and an `error` object) is taken for a failure and raised.
    """
    body = answer.body
    if b'"failure"' in body or b'"canceled"' in body:
        _raise_failed_result(request, answer, key)
    return decode_body(request, body, type, status=answer.status, headers=answer.headers, key=key)


def _raise_failed_result(request: str, answer: Answer, key: str | None) -> None:
    try:
        result = _json.decode(answer.body, _Result)
    except _json.DECODE_ERRORS:
        return
    canceled = result.status == "canceled"
    kind = errors.RunCanceledError if canceled else errors.RunFailedError
    error = _masked(result.error, key)
    what = error.get("message") or error.get("type") or "no reason given"
    raise kind(
        f"{request}: the run {'was canceled' if canceled else 'failed'}: {what}",
        status=answer.status,
        details=error,
        request_id=request_id(answer.headers),
        body=beginning(answer.body, key),
        attempts=answer.attempts,
    )
