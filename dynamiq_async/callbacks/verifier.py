"""Decides whether a request is a genuine callback. Sans-IO: headers and a body in, a result out.

`CallbackRefusedError` is the only exception for the content of a request. It has the HTTP status,
and a reply to send, which never contains a token.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NoReturn

import msgspec
from msgspec import Raw, Struct

from dynamiq_async import _json
from dynamiq_async._credentials import Secret, check_key, hidden, revealed
from dynamiq_async._http.headers import JSON_TYPE
from dynamiq_async._words import counted
from dynamiq_async.errors import DynamiqError, InvalidArgumentError
from dynamiq_async.options import check_count

from .results import CallbackResult

Headers = Mapping[str, str] | Iterable[tuple[str | bytes, str | bytes]]
"""A request's headers: a mapping or pairs, with names in any case."""

Tokens = str | Iterable[str] | Literal[False]
"""The tokens that senders may use. False: anybody may send."""

DEFAULT_MAX_BODY_BYTES = 16 * 1024 * 1024
MAX_ID_LENGTH = 256
"""The most characters of an id, so that a bound on the number of ids also bounds their bytes."""

_JSON_TYPES = re.compile(r"[a-z0-9.+-]+/(?:[a-z0-9.+-]+\+)?json")


class CallbackReply(Struct, frozen=True):
    """A response to send: an HTTP status, headers, and a JSON body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @classmethod
    def of(
        cls, status: int, content: Mapping[str, Any], headers: Mapping[str, str]
    ) -> CallbackReply:
        """A response with this content as JSON."""
        return cls(status, {"Content-Type": JSON_TYPE, **headers}, msgspec.json.encode(content))


class CallbackRefusedError(DynamiqError):
    """A request was refused. `reply` is the response to send.

    `status` is 400 (`details` says which field is wrong), 401, 405, 413 or 415. Or it is 503, with
    `retry_after`, if the callback may be sent again later. `code` is for programs.
    """

    def __init__(
        self, message: str = "", *, headers: Mapping[str, str] | None = None, **known: Any
    ) -> None:
        super().__init__(message, **known)
        self.headers: dict[str, str] = dict(headers or {})

    @property
    def reply(self) -> CallbackReply:
        """The response, in the form of the vendor's own errors."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.details:
            error["details"] = self.details
        headers = dict(self.headers)
        if self.retry_after is not None:
            headers["Retry-After"] = f"{self.retry_after:.0f}"
        return CallbackReply.of(self.status or 400, {"error": error}, headers)


class CallbackVerifier:
    """Decides whether a request is a genuine callback.

    ```python
    verifier = CallbackVerifier(tokens=["new token", "old token"])
    try:
        result = verifier.verify(request.headers, request.body)
    except CallbackRefusedError as refused:
        return refused.reply
    ```

    It does not detect repeated callbacks. `CallbackReceiver` does.

    Args:
        tokens: the tokens that callbacks may carry. Pass several while one replaces another. False
            accepts callbacks from anybody.
        max_body_bytes: the most bytes of a body.

    Raises:
        InvalidArgumentError: there is no token, or a token is not valid in a header.
    """

    def __init__(self, *, tokens: Tokens, max_body_bytes: int = DEFAULT_MAX_BODY_BYTES) -> None:
        tokens = hidden_tokens(tokens)
        self._digests = None if tokens is False else list(map(_digest, _check_tokens(tokens)))
        self.max_body_bytes: int = check_count(max_body_bytes, "max_body_bytes")

    def verify(self, headers: Headers, body: bytes, *, method: str = "POST") -> CallbackResult:
        """The result in a whole request.

        Raises:
            CallbackRefusedError: it is not a genuine callback. The error has the reply to send.
        """
        self.check_head(headers, method=method)
        self.check_size(len(body))
        return parse_result(body)

    def check_head(self, headers: Headers, *, method: str = "POST") -> None:
        """Check everything that can be checked before the body is read.

        Raises:
            CallbackRefusedError: 405, 401, 415 or 413, in this order.
        """
        if method != "POST":
            raise CallbackRefusedError(
                "callbacks come by POST",
                status=405,
                code="method_not_allowed",
                headers={"Allow": "POST"},
            )
        fields = _HeaderValues(headers)
        self._check_token(fields["authorization"])
        # The vendor does not say that a content type is sent.
        if not all(map(_is_json, fields["content-type"])):
            _unsupported(f"the content type must be {JSON_TYPE}")
        if not all(value.lower() in ("", "identity") for value in fields["content-encoding"]):
            _unsupported("the body must not be compressed")
        for value in fields["content-length"]:
            self.check_size(_content_length(value))

    def check_size(self, size: int) -> None:
        """Check the size of a body, or of the part that has arrived.

        Raises:
            CallbackRefusedError: 413; it is larger than `max_body_bytes`.
        """
        if size > self.max_body_bytes:
            raise CallbackRefusedError(
                f"the body may have at most {counted(self.max_body_bytes, 'byte')}",
                status=413,
                code="payload_too_large",
            )

    def _check_token(self, authorization: list[str]) -> None:
        if self._digests is None:
            return
        scheme, _, token = authorization[0].partition(" ") if authorization else ("", "", "")
        if scheme.lower() != "bearer" or len(authorization) > 1:
            _unauthorized("a bearer token is needed", challenge="Bearer")
        given = _digest(token.strip())
        # Compare all tokens, so that the time does not reveal which one matches.
        if not sum(hmac.compare_digest(given, known) for known in self._digests):
            _unauthorized("the bearer token is not known", challenge='Bearer error="invalid_token"')


def parse_result(body: bytes) -> CallbackResult:
    """The result in a callback's body.

    Raises:
        CallbackRefusedError: 400; it is not a JSON object, or has no id or status.
    """
    try:
        fields = _json.decode_with(_decode, body)
    except _json.DECODE_ERRORS as error:
        raise _bad_request("the body must be a JSON object") from error
    id = _field(fields, "id", str)
    status = _field(fields, "status", str)
    complaints = {}
    if not id or len(id) > MAX_ID_LENGTH:
        complaints["id"] = f"must be a string of 1 to {MAX_ID_LENGTH} characters"
    if not status:
        complaints["status"] = "must be a string that is not empty"
    if not id or not status or complaints:
        raise _bad_request("the body is not that of a callback", complaints)
    return CallbackResult(
        id=id,
        status=status,
        timestamp=_field(fields, "timestamp", str),
        raw_output=fields.get("output", Raw(b"null")),
        error=_field(fields, "error", Any),
        metadata=_field(fields, "metadata", dict),
    )


_decode = msgspec.json.Decoder(dict[str, Raw]).decode


def _field(fields: dict[str, Raw], name: str, type: Any) -> Any:
    """The field, or None if it is missing or of another type."""
    if name not in fields:
        return None
    try:
        return _json.decode(fields[name], type)
    except _json.DECODE_ERRORS:
        return None


class _HeaderValues:
    """Header values by names in lower case. A name that comes twice has two values."""

    def __init__(self, headers: Headers) -> None:
        pairs = headers.items() if isinstance(headers, Mapping) else headers
        self._values: dict[str, list[str]] = {}
        for name, value in pairs:
            self._values.setdefault(_text(name).lower(), []).append(_text(value).strip())

    def __getitem__(self, name: str) -> list[str]:
        return self._values.get(name, [])


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")


def _digest(token: str) -> bytes:
    """The hash to compare in place of a token. All hashes have the same length."""
    return hashlib.sha256(revealed(token).encode("utf-8", "surrogatepass")).digest()


def hidden_tokens(tokens: Any) -> Any:
    """The tokens as Secrets, so that no frame of a traceback has them in plain text."""
    if isinstance(tokens, Iterable) and not isinstance(tokens, str):
        return list(map(hidden, tokens))
    return hidden(tokens)


def _check_tokens(tokens: object) -> list[Secret]:
    several = [tokens] if isinstance(tokens, str) else tokens
    if not isinstance(several, Iterable):
        raise InvalidArgumentError(
            "tokens must be one or several strings, or False to take callbacks from anybody",
            argument="tokens",
        )
    checked = [check_key(token, "tokens") for token in several]
    if not checked:
        raise InvalidArgumentError(
            "there is no token; pass tokens=False to take callbacks from anybody",
            argument="tokens",
        )
    return checked


def _is_json(content_type: str) -> bool:
    return _JSON_TYPES.fullmatch(content_type.partition(";")[0].strip().lower()) is not None


def _content_length(value: str) -> int:
    """A Content-Length; 0 if it is not a number, since the body is counted as it comes anyway."""
    digits = value.lstrip("0")[:20]  # more digits than any limit has
    return int(digits) if digits.isascii() and digits.isdigit() else 0


def _bad_request(message: str, details: dict[str, str] | None = None) -> CallbackRefusedError:
    return CallbackRefusedError(message, status=400, code="bad_request", details=details)


def _unauthorized(message: str, *, challenge: str) -> NoReturn:
    headers = {"WWW-Authenticate": challenge}
    raise CallbackRefusedError(message, status=401, code="unauthorized", headers=headers)


def _unsupported(message: str) -> NoReturn:
    raise CallbackRefusedError(message, status=415, code="unsupported_media_type")
