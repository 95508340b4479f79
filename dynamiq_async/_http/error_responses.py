"""Error responses, and errors in streams, as exceptions."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from dynamiq_async import _json, errors
from dynamiq_async._credentials import (
    ACCESS_KEY,
    MASK,
    Credential,
    is_personal,
    mask,
    revealed,
)
from dynamiq_async._failures import sentence

if TYPE_CHECKING:
    from collections.abc import Mapping


T = TypeVar("T")


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

# For an error that arrives within a stream, and so without a status of its own. The vendor
# documents `subscription_limit_reached`, and `bad_request`, `unauthorized` and `not_found`, which
# are names of statuses. That other codes are names of statuses too is our guess, and so are the
# codes that follow.
_STATUS_BY_CODE = {
    "subscription_limit_reached": 403,
    "permission_denied": 403,
    "payload_too_large": 413,
    "validation_error": 422,
    "rate_limited": 429,
    "rate_limit_exceeded": 429,
    "internal_error": 500,
}

_TITLE = r"(?i)<title[^<>]*>([^<]*)"
_STRING = rb'"(?:[^"\\]|\\.)*"'

_HARMLESS_LENGTH = 12  # the first characters of a key, `dynamiq_acc_`, give nothing away


class Envelope(msgspec.Struct, frozen=True):
    """The error in a response's body. Dynamiq sends an object under `error`, Flowy a string."""

    message: str = ""
    code: str | None = None
    details: dict[str, Any] | None = None


def read_envelope(body: bytes) -> Envelope:
    """The error in `body`. If it is a page of HTML, such as a proxy's, its title is the message."""
    try:
        value = _json.decode(body)
    except _json.DECODE_ERRORS:
        text = body.decode("utf-8", "replace")
        title = re.search(_TITLE, text)
        return Envelope(message=" ".join((title[1] if title else text).split())[:200])
    return envelope_of(value)


def envelope_of(value: Any) -> Envelope:
    """The error in a decoded body; an empty one where the body has none."""
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
    """The id by which the operators of the service can find the request."""
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
    """The exception for a response outside 2xx. It masks `key` where the body repeats it."""
    envelope = masked(read_envelope(body[:MAX_ERROR_BODY]), key)
    report = ": " + ": ".join(filter(None, (envelope.code, envelope.message)))
    if envelope.details:
        report += f" ({', '.join(f'{k}: {v}' for k, v in envelope.details.items())})"
    message = f"{request} was answered {status}{report if len(report) > 2 else ''}"
    own = credential.advice(request, status) if credential.advice is not None else ""
    message += f"; {own}" if own else _advice(status, envelope.code, headers, key, credential)
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
    name, variable = credential.name, credential.variable
    if 300 <= status < 400:
        location = headers.get("location", "an unnamed place")
        return (
            f"; redirects (here to {location}) are not followed, since they would carry the "
            f"{name} elsewhere: use the final address"
        )
    if status == 401:
        if key is None:
            return f"; no {name} was sent: set {variable} or pass {credential.argument}"
        return f"; check the {name}"
    if status == 403 and code != "subscription_limit_reached":
        if not credential.personal and key is not None and is_personal(key):
            return (
                "; the key looks like a Personal Access Token, which an App does not take: "
                "use an Access Key (dynamiq_acc_…)"
            )
        return f"; the {name} may be for another project or organisation"
    return ""


def masked(value: T, key: str | None) -> T:
    """A JSON value with `key` masked in every string."""
    return msgspec.json.decode(masked_json(msgspec.json.encode(value), key), type=type(value))


def masked_json(data: _json.Buffer, key: str | None) -> bytes:
    """A JSON text with `key` masked in every string, and all else as it is."""

    def within(match: re.Match[bytes]) -> bytes:
        return msgspec.json.encode(mask(msgspec.json.decode(match[0]), key))

    return re.sub(_STRING, within, _json.repair(data))


def beginning(body: bytes, key: str | None) -> str:
    """The part of a body that an error keeps. `key` is masked, even if it is cut off at the end."""
    text = mask(body[:MAX_ERROR_BODY].decode("utf-8", "replace"), key)
    whole = revealed(key or "")
    for length in range(len(whole) - 1, _HARMLESS_LENGTH, -1):
        if text.endswith(whole[:length]):
            return text[:-length] + MASK
    return text


def stream_error(
    data: Any, *, run_id: str | None, request: str, key: str | None = None
) -> errors.DynamiqError:
    """The exception for an error that came as an event of a stream.

    If its code is known, the exception has the class that the same error has over HTTP.
    """
    data = masked(data, key)
    envelope = envelope_of(data)
    status = _status_of((envelope.code or "").lower()) or _status_in(data)
    kind = error_class(status, envelope.code) if status else errors.RunFailedError
    detail = data.get("detail") if isinstance(data, dict) else None
    message = envelope.message or sentence(data) or (str(detail) if detail else "")
    what = " ".join(filter(None, (envelope.code, message))) or "an error without a text"
    return kind(
        f"{request}: the stream reported {what}",
        status=status,
        code=envelope.code,
        details=envelope.details,
        body=msgspec.json.encode(data).decode()[:MAX_ERROR_BODY],
        run_id=run_id,
    )


def _status_of(code: str) -> int | None:
    from http import HTTPStatus  # few programs meet such an error

    if code in _STATUS_BY_CODE:
        return _STATUS_BY_CODE[code]
    status = HTTPStatus.__members__.get(code.upper())
    return None if status is None or status < 400 else int(status)


def _status_in(data: Any) -> int | None:
    """The HTTP status that an error in a stream names, if it does."""
    error = data.get("error") if isinstance(data, dict) else None
    for place in (error, data):
        for name in ("status_code", "status"):
            status = place.get(name) if isinstance(place, dict) else None
            if isinstance(status, int) and 400 <= status < 600:
                return status
    return None


def content_type(headers: Mapping[str, str]) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def type_error(
    request: str, wanted: str, status: int, headers: Mapping[str, str], body: bytes, key: str | None
) -> errors.ContentTypeError:
    """The exception for a 2xx response of another content type, such as a login page."""
    actual = content_type(headers) or "no content type"
    text = beginning(body, key)
    return errors.ContentTypeError(
        f"{request} was answered {status} with {actual} instead of {wanted}; it begins: "
        f"{' '.join(text.split())[:200]!r}",
        status=status,
        request_id=request_id(headers),
        body=text,
    )
