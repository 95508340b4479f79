"""Building requests: everything that can be wrong with an argument is found here, before a byte
is sent."""

from __future__ import annotations

import ipaddress
import json
import re
import socket
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import SplitResult, quote, urlencode, urlsplit

import msgspec
from msgspec import Raw

from dynamiq_async._secret import Secret
from dynamiq_async.errors import InvalidArgumentError
from dynamiq_async.models import Callback
from dynamiq_async.uploads import Progress, Upload, as_uploads

JSON_TYPE = "application/json"
SSE_TYPE = "text/event-stream"
MAX_CALLBACKS = 5  # documented by the vendor
_CONTROL = re.compile(r"[\x00-\x20\x7f]")
_HOST = re.compile(r"[0-9A-Za-z._~-]+")
_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_HEADER_BREAK = re.compile(r"[\r\n\x00]")


class Multipart:
    """A `multipart/form-data` body: text fields, then files.

    `max_file_bytes` bounds each file; `progress` is told how far each is.
    """

    __slots__ = ("fields", "files", "max_file_bytes", "progress")

    def __init__(
        self,
        fields: Sequence[tuple[str, str]],
        files: Sequence[tuple[str, Upload]],
        *,
        max_file_bytes: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.fields = fields
        self.files = files
        self.max_file_bytes = max_file_bytes
        self.progress = progress

    @property
    def replayable(self) -> bool:
        return all(upload.replayable for _, upload in self.files)


class Request:
    """One request, ready to be sent any number of times unless its body cannot be rewound.

    `idempotent` says whether sending it twice does what sending it once does, `taken` whether the
    server may have taken it so far. `headers` hold the access key, so they are in no repr.
    """

    __slots__ = ("body", "headers", "idempotent", "method", "taken", "urgent", "url")

    def __init__(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | Multipart | None = None,
        *,
        idempotent: bool,
        urgent: bool = False,
    ) -> None:
        self.method = method
        self.url = url
        self.headers = headers
        self.body = body
        self.idempotent = idempotent
        self.urgent = urgent
        self.taken = False

    @property
    def replayable(self) -> bool:
        return not isinstance(self.body, Multipart) or self.body.replayable

    def __repr__(self) -> str:
        return f"<Request {self}>"

    def __str__(self) -> str:
        return f"{self.method} {self.url.partition('?')[0]}"


# --- where to --------------------------------------------------------------------------------


def parse_base_url(value: str, *, allow_http: bool, argument: str) -> str:
    """`value`, a host or URL, as a URL without a slash at its end.

    `https` is assumed. Plain `http` would send the access key in the clear, so it needs either
    a loopback host or `allow_http`. A path is kept, for reverse proxies.
    """
    text = value.strip() if isinstance(value, str) else ""
    if not text:
        raise InvalidArgumentError(f"{argument} must be a host or URL", argument=argument)
    if _CONTROL.search(text) or any(character.isspace() for character in text):
        raise InvalidArgumentError(f"{argument} may not hold white space", argument=argument)
    parts = _split(text if "://" in text else f"https://{text}", argument)
    if parts.scheme not in ("https", "http"):
        raise InvalidArgumentError(
            f"{argument} must be an https URL, not {parts.scheme}", argument=argument
        )
    if parts.username is not None or parts.password is not None:
        raise InvalidArgumentError(
            f"{argument} may not hold a user name or password", argument=argument
        )
    if parts.query or parts.fragment:
        raise InvalidArgumentError(f"{argument} may not have a query or #", argument=argument)
    if parts.scheme == "http" and not allow_http and not is_loopback(parts.hostname or ""):
        raise InvalidArgumentError(
            f"{argument} is plain http, which would show the key to the network; "
            "use https, or pass allow_http=True if you know that network",
            argument=argument,
        )
    path = _quoted(parts.path.rstrip("/"), argument)
    return f"{parts.scheme}://{_authority(parts, argument)}{path}"


def _authority(parts: SplitResult, argument: str) -> str:
    """Host and port as they go over the wire."""
    host = parts.hostname or ""
    if ":" in host:
        host = f"[{host}]"
    else:
        try:
            host = host if host.isascii() else host.encode("idna").decode()
        except UnicodeError:
            host = ""
        if not _HOST.fullmatch(host):
            raise InvalidArgumentError(
                f"{argument} is not a URL: {parts.hostname!r} cannot be a host", argument=argument
            )
    return host if parts.port is None else f"{host}:{parts.port}"


def _quoted(path: str, argument: str) -> str:
    try:
        return quote(path, safe="/%:@!$&'()*+,;=~")
    except UnicodeError as error:
        raise InvalidArgumentError(f"{argument} is not a URL: {error}", argument=argument) from None


def _split(text: str, argument: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        if parts.port == 0 or not parts.hostname:
            raise ValueError("it has no usable host and port")
    except ValueError as error:
        raise InvalidArgumentError(f"{argument} is not a URL: {error}", argument=argument) from None
    return parts


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine by name or address."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def join(base_url: str, *segments: str, query: Mapping[str, Any] | None = None) -> str:
    """`base_url` with path segments, each quoted, and a query whose lists repeat their name."""
    if "." in segments or ".." in segments:  # quoting does not keep these from being resolved
        raise InvalidArgumentError(f"{'/'.join(segments)!r} cannot be a path", argument="path")
    pairs = [
        (name, _query_text(item))
        for name, value in (query or {}).items()
        for item in (value if isinstance(value, list | tuple | set | frozenset) else (value,))
        if item is not None
    ]
    try:
        url = f"{base_url}/{'/'.join(quote(segment, safe='') for segment in segments)}"
        return f"{url}?{urlencode(pairs)}" if pairs else url
    except UnicodeEncodeError as error:
        raise InvalidArgumentError(f"it cannot stand in a URL: {error}", argument="url") from error


def _query_text(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


# --- who ---------------------------------------------------------------------------------------


def check_key(key: str, argument: str) -> Secret:
    """The key as a Secret. The message of a refusal never holds it."""
    if not isinstance(key, str) or not key:
        raise InvalidArgumentError(f"{argument} must be a non-empty string", argument=argument)
    if _CONTROL.search(key) or not key.isascii():
        raise InvalidArgumentError(
            f"{argument} holds white space, control or non-ASCII characters; "
            "was it copied with a line break or quotes?",
            argument=argument,
        )
    return Secret(key)


def check_headers(headers: Mapping[str, str] | None, argument: str) -> dict[str, str]:
    for name, value in (headers or {}).items():
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            raise InvalidArgumentError(
                f"{argument}: {name!r} is not a header name", argument=argument
            )
        if not isinstance(value, str) or _HEADER_BREAK.search(value):
            raise InvalidArgumentError(
                f"{argument}: the value of {name} must be a string on one line", argument=argument
            )
    return dict(headers or {})


# --- what --------------------------------------------------------------------------------------


def _to_builtin(value: Any) -> Any:
    """What msgspec does not know by itself: pydantic models, and mappings other than dict."""
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        return dump(mode="json", by_alias=True)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} cannot be encoded as JSON")


_encoder = msgspec.json.Encoder(enc_hook=_to_builtin)


def encode(value: Any, argument: str) -> bytes:
    """`value` as JSON; what cannot be is an InvalidArgumentError that names `argument`."""
    try:
        return _encoder.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        raise InvalidArgumentError(
            f"{argument} cannot be encoded as JSON: {error}", argument=argument
        ) from error


def encode_object(value: Any, argument: str) -> bytes:
    """The same for what must come out as a JSON object."""
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
    """Raise InvalidArgumentError for a NaN or infinity, which msgspec writes as null: what runs
    would not be what was given."""
    try:
        json.dumps(msgspec.to_builtins(value, enc_hook=_to_builtin), allow_nan=False)
    except ValueError as error:
        raise InvalidArgumentError(
            f"{argument} holds a number that JSON has no name for (NaN or infinity)",
            argument=argument,
        ) from error


def root_body(
    input: Any,
    *,
    files: Any = None,
    extra_body: Mapping[str, Any] | None = None,
    **fields: Any,
) -> bytes | Multipart:
    """The body of `POST /`: JSON, or multipart when there are files.

    The parts of the multipart form are those that the vendor's chat widget sends: `input` as a
    JSON string, plain text for the other fields, and `files`, repeated.
    """
    encoded = encode_object(input, "input")
    if not isinstance(extra_body, Mapping | None):
        raise InvalidArgumentError("extra_body must be a mapping", argument="extra_body")
    known = {k: v for k, v in fields.items() if v is not None}
    uploads = as_uploads(files)
    if not (known or extra_body or uploads):
        return b'{"input":%b}' % encoded  # what most calls are, without encoding it once more
    body = {"input": Raw(encoded)} | known | dict(extra_body or {})
    if not uploads:
        return encode(body, "extra_body")
    texts = [(name, _form_text(value, name)) for name, value in body.items()]
    return Multipart(texts, [("files", upload) for upload in uploads])


def _form_text(value: Any, argument: str) -> str:
    """A string as it is, be it a UUID's or a date's; anything else as JSON."""
    encoded = encode(value, argument)
    return msgspec.json.decode(encoded, type=str) if encoded[:1] == b'"' else encoded.decode()


def callback_objects(callbacks: Sequence[Callback], *, app_url: str) -> list[dict[str, Any]] | None:
    """Callbacks as the vendor documents them, checked as far as a client can; None for none."""
    if not isinstance(callbacks, Sequence) or not all(isinstance(c, Callback) for c in callbacks):
        raise InvalidArgumentError("callbacks must be a list of Callback", argument="callbacks")
    if len(callbacks) > MAX_CALLBACKS:
        raise InvalidArgumentError(
            f"an App takes at most {MAX_CALLBACKS} callbacks, not {len(callbacks)}",
            argument="callbacks",
        )
    if not callbacks:
        return None
    on_loopback = is_loopback(urlsplit(app_url).hostname or "")
    return [_callback_object(callback, on_loopback=on_loopback) for callback in callbacks]


def _callback_object(callback: Callback, *, on_loopback: bool) -> dict[str, Any]:
    if not isinstance(callback.url, str) or _CONTROL.search(callback.url):
        raise InvalidArgumentError(
            f"a callback's URL must be a string without white space: {callback.url!r}",
            argument="callbacks",
        )
    parts = _split(callback.url, "callbacks")
    host = parts.hostname or ""
    if parts.scheme not in ("https", "http"):
        raise InvalidArgumentError(
            f"a callback's URL must be https: {callback.url}", argument="callbacks"
        )
    if parts.username is not None or parts.password is not None:
        raise InvalidArgumentError(
            "a callback's URL may not hold a user name or password; use its token",
            argument="callbacks",
        )
    local = _is_private(host)
    if (local or parts.scheme == "http") and not (on_loopback and is_loopback(host)):
        raise InvalidArgumentError(
            f"a callback's URL must be https at a public address: {callback.url} "
            "(loopback works only for an App that is itself on loopback)",
            argument="callbacks",
        )
    body: dict[str, Any] = {"url": callback.url}
    if callback.token is not None:
        body["auth"] = {"type": "bearer", "token": check_key(callback.token, "callbacks").reveal()}
    if callback.metadata is not None:
        body["metadata"] = Raw(encode_object(callback.metadata, "callbacks"))
    return body


def _is_private(host: str) -> bool:
    name = host.removesuffix(".")
    if is_loopback(name):
        return True
    try:
        return not ipaddress.ip_address(name).is_global
    except ValueError:
        pass  # a name, or an address in one of the forms that only the resolver takes
    try:
        return not ipaddress.ip_address(socket.inet_aton(name)).is_global
    except (OSError, ValueError):
        return False
