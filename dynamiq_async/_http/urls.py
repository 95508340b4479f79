"""Where requests go: base URLs, paths and queries."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, quote, urlencode, urlsplit

from dynamiq_async._hosts import is_loopback
from dynamiq_async._json import text_of
from dynamiq_async.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Mapping

CONTROL = re.compile(r"[\x00-\x20\x7f]")
_HOST = re.compile(r"[0-9A-Za-z._~-]+")


def parse_base_url(value: str, *, allow_http: bool, argument: str) -> str:
    """`value`, a host or URL, as a URL without a slash at its end.

    `https` is assumed. Plain `http` would send the access key in clear text, so it needs either
    a loopback host or `allow_http`. A path is kept, for reverse proxies.

    Raises:
        InvalidArgumentError: `value` cannot be used; the error names `argument`.
    """
    text = value.strip() if isinstance(value, str) else ""
    if not text:
        raise InvalidArgumentError(f"{argument} must be a host or URL", argument=argument)
    if CONTROL.search(text) or any(character.isspace() for character in text):
        raise InvalidArgumentError(f"{argument} may not hold white space", argument=argument)
    parts = split_url(text if "://" in text else f"https://{text}", argument)
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
    path = _quote_path(parts.path.rstrip("/"), argument)
    return f"{parts.scheme}://{_authority(parts, argument)}{path}"


def _authority(parts: SplitResult, argument: str) -> str:
    """Host and port as they are sent."""
    host = parts.hostname or ""
    if ":" in host:
        host = f"[{host}]"
    else:
        host = ascii_host(host)
        if not _HOST.fullmatch(host):
            raise InvalidArgumentError(
                f"{argument} is not a URL: {parts.hostname!r} cannot be a host", argument=argument
            )
    return host if parts.port is None else f"{host}:{parts.port}"


def ascii_host(host: str) -> str:
    """`host` as DNS needs it, encoded by IDNA 2008 and UTS 46. IDNA 2003, which Python and other
    libraries use, maps some names to another owner's: it turns `straße` into `strasse`. An ASCII
    name stays as it is. `""` if `host` cannot be a name."""
    if host.isascii():
        return host
    import idna  # its tables are large, and few names need them

    try:
        return idna.encode(host, uts46=True).decode()
    except UnicodeError:
        return ""


def _quote_path(path: str, argument: str) -> str:
    try:
        return quote(path, safe="/%:@!$&'()*+,;=~")
    except UnicodeError as error:
        raise InvalidArgumentError(f"{argument} is not a URL: {error}", argument=argument) from None


def split_url(text: str, argument: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        if parts.port == 0 or not parts.hostname:
            raise ValueError("it has no usable host and port")
    except ValueError as error:
        raise InvalidArgumentError(f"{argument} is not a URL: {error}", argument=argument) from None
    return parts


def without_userinfo(url: str) -> str:
    """`url` without the user name and password that may be in it."""
    before, scheme, rest = url.rpartition("://")
    return f"{before}{scheme}{rest.rpartition('@')[2]}"


def join_url(base_url: str, *segments: str, query: Mapping[str, Any] | None = None) -> str:
    """`base_url` with path segments, each quoted, and a query in which a list repeats its name."""
    if "." in segments or ".." in segments:  # these are resolved even when quoted
        raise InvalidArgumentError(f"{'/'.join(segments)!r} cannot be a path", argument="path")
    pairs = [
        (name, text_of(item, "query"))
        for name, value in (query or {}).items()
        for item in (value if isinstance(value, list | tuple | set | frozenset) else (value,))
        if item is not None
    ]
    try:
        url = f"{base_url}/{'/'.join(quote(segment, safe='') for segment in segments)}"
        return f"{url}?{urlencode(pairs)}" if pairs else url
    except UnicodeEncodeError as error:
        raise InvalidArgumentError(f"it cannot stand in a URL: {error}", argument="url") from error
