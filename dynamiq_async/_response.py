"""Reading answers: error envelopes become exceptions, bodies become values."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar
from urllib.parse import quote

import msgspec

from dynamiq_async import _json, errors
from dynamiq_async._secret import ACCESS_KEY, MASK, Credential, is_personal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")


class Answer(Protocol):
    """A whole 2xx response."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    attempts: int


MAX_ERROR_BODY = 16 * 1024
"""How much of an error's body is kept, in bytes."""

_REQUEST_ID_HEADERS = (
    "x-request-id",
    "request-id",
    "x-correlation-id",
    "x-amzn-requestid",
    "x-amzn-trace-id",
    "x-trace-id",
    "cf-ray",
)

_BY_STATUS: dict[int, type[errors.APIStatusError]] = {
    400: errors.BadRequestError,
    401: errors.AuthenticationError,
    402: errors.PaymentRequiredError,
    403: errors.PermissionDeniedError,
    404: errors.NotFoundError,
    409: errors.ConflictError,
    410: errors.GoneError,
    413: errors.PayloadTooLargeError,
    415: errors.UnsupportedMediaTypeError,
    422: errors.UnprocessableEntityError,
    429: errors.RateLimitError,
}

# The codes that the vendor documents, for an error that arrives within a stream and so without
# a status of its own.
_STATUS_BY_CODE = {
    "bad_request": 400,
    "unauthorized": 401,
    "forbidden": 403,
    "subscription_limit_reached": 403,
    "not_found": 404,
}

_TITLE = re.compile(r"<title[^<>]*>([^<]*)", re.IGNORECASE)
_BEARER = re.compile(r"(?i)(bearer\s+)[^\s\"'<>\\]+")
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')
# A shorter key is a placeholder for a public or emulated App, and a part of many words.
_MASKABLE = 6

_HARMLESS = 12  # so many characters of a key, as in `dynamiq_acc_`, give nothing away


class Envelope(msgspec.Struct, frozen=True):
    """What an error's body says. Dynamiq sends an object under `error`, Flowy a string."""

    message: str = ""
    code: str | None = None
    details: dict[str, Any] | None = None


def read_envelope(body: bytes) -> Envelope:
    """The error in `body`, as far as there is one: a proxy's HTML page yields its title."""
    try:
        value = _json.decode(body)
    except _json.DECODE_ERRORS:
        text = body.decode("utf-8", "replace")
        title = _TITLE.search(text)
        return Envelope(message=" ".join((title[1] if title else text).split())[:200])
    return envelope_of(value)


def envelope_of(value: Any) -> Envelope:
    """The error within a decoded body."""
    error = value.get("error", value) if isinstance(value, dict) else value
    if isinstance(error, str):
        return Envelope(message=error)
    if not isinstance(error, dict):
        return Envelope()
    message, code, details = (error.get(name) for name in ("message", "code", "details"))
    return Envelope(
        message=message if isinstance(message, str) else "",
        code=code if isinstance(code, str) else None,
        details=details if isinstance(details, dict) else None,
    )


def request_id(headers: Mapping[str, str]) -> str | None:
    """The id by which the other side's people can find the request."""
    for name in _REQUEST_ID_HEADERS:
        if value := headers.get(name):
            return value
    return None


def error_class(status: int, code: str | None) -> type[errors.APIStatusError]:
    if status == 403 and code == "subscription_limit_reached":
        return errors.QuotaExceededError
    if 300 <= status < 400:
        return errors.RedirectError
    if status >= 500:
        return errors.InternalServerError
    return _BY_STATUS.get(status, errors.APIStatusError)


def status_error(
    request: str,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    key: str | None = None,
    credential: Credential = ACCESS_KEY,
    retry_after: float | None = None,
    run_id: str | None = None,
) -> errors.APIStatusError:
    """The exception for an answer outside 2xx. `key` is masked should the body repeat it."""
    envelope = _masked(read_envelope(body[:MAX_ERROR_BODY]), key)
    said = ": " + " ".join(filter(None, (envelope.code, envelope.message)))
    if envelope.details:
        said += f" ({', '.join(f'{k}: {v}' for k, v in envelope.details.items())})"
    message = f"{request} was answered {status}{said if len(said) > 2 else ''}"
    message += _advice(status, envelope.code, headers, key, credential)
    if retry_after is not None:
        message += f"; the server asks to wait {retry_after:g} s"
    if id := request_id(headers):
        message += f" [request id {id}]"
    return error_class(status, envelope.code)(
        mask(message, key),
        status=status,
        code=envelope.code,
        details=envelope.details,
        request_id=id,
        body=beginning(body, key),
        run_id=run_id,
        retry_after=retry_after,
    )


def _advice(
    status: int,
    code: str | None,
    headers: Mapping[str, str],
    key: str | None,
    credential: Credential,
) -> str:
    name, argument, variable, personal = credential
    if 300 <= status < 400:
        location = headers.get("location", "an unnamed place")
        return (
            f"; redirects (here to {location}) are not followed, since they would carry the "
            f"{name} elsewhere: use the final address"
        )
    if status == 401:
        if key is None:
            return f"; no {name} was sent: set {variable} or pass {argument}"
        return f"; check the {name}"
    if status == 403 and code != "subscription_limit_reached":
        if not personal and key is not None and is_personal(key):
            return (
                "; the key looks like a Personal Access Token, which an App does not take: "
                "use an Access Key (dynamiq_acc_…)"
            )
        return f"; the {name} may be for another project or organisation"
    return ""


def mask(text: str, key: str | None) -> str:
    """`text` without the key, in whatever form a server or library repeats it."""
    if key and len(key) >= _MASKABLE:
        as_json = msgspec.json.encode(key).decode()[1:-1]
        for form in (key, as_json, key.replace("/", r"\/"), quote(key, safe="")):
            text = text.replace(form, MASK)
    return _BEARER.sub(rf"\1{MASK}", text)


def _masked(value: T, key: str | None) -> T:
    """The same for every string within a JSON value."""

    def within(match: re.Match[bytes]) -> bytes:
        return msgspec.json.encode(mask(msgspec.json.decode(match[0]), key))

    return msgspec.json.decode(_STRING.sub(within, msgspec.json.encode(value)), type=type(value))


def beginning(body: bytes, key: str | None) -> str:
    """What an error keeps of a body, without the key, be that cut off at the end."""
    text = mask(body[:MAX_ERROR_BODY].decode("utf-8", "replace"), key)
    for length in range(len(key or "") - 1, _HARMLESS, -1):
        if key and text.endswith(key[:length]):
            return text[:-length] + MASK
    return text


def read_event(
    read: Callable[[bytes], T | None], key: str | None, data: bytes, _: Exception
) -> T | None:
    """An event's data, read with a tolerance that its type does not have: what a decoder asks for
    when it cannot go on.

    Raises:
        EventDecodeError: there is no event in it.
    """
    try:
        return read(data)
    except _json.DECODE_ERRORS as error:
        text = data.decode("utf-8", "surrogateescape")
        masked = mask(text, key).encode("utf-8", "surrogateescape")
        shown = masked[:200].decode("utf-8", "replace")
        raise errors.EventDecodeError(
            f"an event is broken: {error}; it begins: {shown!r}", data=masked
        ) from error


def stream_error(
    data: Any, *, run_id: str | None, request: str, key: str | None = None
) -> errors.DynamiqError:
    """The exception for an error that came as a stream's event in place of a workflow's own.

    It has the class that the same error has over HTTP, where its code tells.
    """
    data = _masked(data, key)
    envelope = envelope_of(data)
    status = _STATUS_BY_CODE.get(envelope.code or "")
    kind = error_class(status, envelope.code) if status else errors.RunFailedError
    what = " ".join(filter(None, (envelope.code, envelope.message))) or "an error without a text"
    return kind(
        f"{request}: the stream reported {what}",
        status=status,
        code=envelope.code,
        details=envelope.details,
        body=msgspec.json.encode(data).decode()[:MAX_ERROR_BODY],
        run_id=run_id,
    )


def content_type(headers: Mapping[str, str]) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def type_error(
    request: str, wanted: str, status: int, headers: Mapping[str, str], body: bytes, key: str | None
) -> errors.ContentTypeError:
    """The exception for a 2xx of another content type, such as a login page."""
    got = content_type(headers) or "no content type"
    text = beginning(body, key)
    return errors.ContentTypeError(
        f"{request} was answered {status} with {got} instead of {wanted}; it begins: "
        f"{' '.join(text.split())[:200]!r}",
        status=status,
        request_id=request_id(headers),
        body=text,
    )


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
