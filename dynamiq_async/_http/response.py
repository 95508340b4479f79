"""Reading 2xx responses: decoding their bodies to the type asked for."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec
from msgspec import Struct, field

from dynamiq_async import _json, errors
from dynamiq_async._credentials import mask
from dynamiq_async._failures import failure_in
from dynamiq_async._http.error_responses import (
    beginning,
    content_type,
    masked,
    request_id,
    type_error,
)
from dynamiq_async._tasks import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")

OnFailure = Literal["raise", "return"]
"""What to do with a body that reports a failed workflow: raise an error, or return it."""


class BufferedResponse(Struct):
    """A 2xx response with its whole body."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    attempts: int = 1


class ResponseInfo(Struct, frozen=True, kw_only=True):
    """Information on the response behind a stream.

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
    request: object, response: BufferedResponse, type: type[T], *, key: str | None
) -> T:
    """The body as `type`. Errors mask `key` where the body repeats it.

    Args:
        request: its `str` is its name in errors.

    Raises:
        ContentTypeError: the body is not JSON, and its content type does not claim so.
        ResponseDecodeError: the body is not JSON although its content type claims so, or does not
            fit `type`.
    """
    try:
        return _json.decode(response.body, type)
    except _json.DECODE_ERRORS as error:
        raise _not_decoded(request, response, type, error, key) from error


async def decode_apart(
    request: object, response: BufferedResponse, type: type[T], *, key: str | None
) -> T:
    """`decode_body`, in a thread where that would block the loop."""
    value: T = await decode_output(request, response, type, key=key, on_failure="return")
    return value


def _not_decoded(
    request: object, response: BufferedResponse, type: Any, failure: Exception, key: str | None
) -> errors.APIResponseError:
    status, headers = response.status, response.headers
    malformed = not isinstance(failure, msgspec.ValidationError)
    if malformed and "json" not in content_type(headers):
        return type_error(str(request), "application/json", status, headers, response.body, key)
    what = "is not JSON" if malformed else f"does not fit {_json.type_name(type)}"
    return errors.ResponseDecodeError(
        f"the answer to {request} {what}: {mask(str(failure), key)}",
        status=status,
        request_id=request_id(headers),
        body=beginning(response.body, key),
    )


def read_with(
    read: Callable[[Any], T], data: Any, wrong: str, *, key: str | None, **known: Any
) -> T:
    """A part of a response, read by `read`.

    Raises:
        ResponseDecodeError: `read` raised one of `DECODE_ERRORS`. The message begins with `wrong`,
            and the error has `known`.
    """
    try:
        return read(data)
    except _json.DECODE_ERRORS as error:
        raw = bytes(data) if isinstance(data, msgspec.Raw) else msgspec.json.encode(data)
        raise errors.ResponseDecodeError(
            f"{wrong}: {mask(str(error), key)}", body=beginning(raw, key), **known
        ) from error


async def decode_output(
    request: object,
    response: BufferedResponse,
    type: Any,
    *,
    key: str | None,
    on_failure: OnFailure = "raise",
) -> Any:
    """The body of a synchronous call as `type`, decoded in a thread where that would block the
    loop.

    The root endpoint's output is any JSON value, so only the form of the library's own result of
    a failed run counts as a failure. It is raised, unless `on_failure` is "return".
    """
    failure = failure_in(response.body) if on_failure == "raise" else None
    if failure is None:
        try:
            return _json.decode_at_once(response.body, type)
        except _json.LongLookError:
            pass
        except _json.DECODE_ERRORS as error:
            raise _not_decoded(request, response, type, error, key) from error
        return await in_thread(partial(decode_body, request, response, type, key=key))
    cause = failure.cause
    raise failure.error(
        f"{request}: the run",
        key,
        status=response.status,
        details=masked(cause, key) if isinstance(cause, dict) else None,
        request_id=request_id(response.headers),
        body=beginning(response.body, key),
        attempts=response.attempts,
    )
