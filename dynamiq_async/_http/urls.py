"""Where requests go: base URLs, paths and queries, and which hosts are this machine."""

from __future__ import annotations

import enum
import ipaddress
import re
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, quote, urlencode, urlsplit

from dynamiq_async.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Mapping

CONTROL = re.compile(r"[\x00-\x20\x7f]")
_HOST = re.compile(r"[0-9A-Za-z._~-]+")


def parse_base_url(value: str, *, allow_http: bool, argument: str) -> str:
    """`value`, a host or URL, as a URL without a slash at its end.

    `https` is assumed. Plain `http` would send the access key in the clear, so it needs either
    a loopback host or `allow_http`. A path is kept, for reverse proxies.

    Raises:
        InvalidArgumentError: it cannot be used; the error names `argument`.
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


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine by name or address."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def join_url(base_url: str, *segments: str, query: Mapping[str, Any] | None = None) -> str:
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


def is_private(host: str) -> bool:
    """Whether `host` is this machine, or an address that is not public. Names are not resolved."""
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


_LOOPBACK_NAMES = frozenset(
    {"localhost", "localhost4", "localhost6", "ip6-localhost", "ip6-loopback"}
)
_PRIVATE_SUFFIXES = (".internal", ".local", ".lan", ".home.arpa", ".localdomain")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class Reach(enum.IntEnum):
    """How far away a host is. What is less than another is nearer to the outside."""

    PUBLIC = 0
    PRIVATE = 1
    LOOPBACK = 2


def reach_of(host: str) -> Reach:
    """How near a host may be, by its name or address in any form that resolvers take. Names are
    not resolved."""
    name = host.lower().removesuffix(".")
    last = name.removesuffix(".localdomain").rpartition(".")[2]
    if last in _LOOPBACK_NAMES:
        return Reach.LOOPBACK
    address = _address(name)
    if address is None:
        inside = "." not in name or name.endswith(_PRIVATE_SUFFIXES) or last.isdecimal()
        return Reach.PRIVATE if inside else Reach.PUBLIC
    if address.is_loopback or address.is_unspecified:  # 0.0.0.0 leads here as well
        return Reach.LOOPBACK
    public = address.is_global and not address.is_multicast
    return Reach.PUBLIC if public else Reach.PRIVATE


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that `name` is. Of an IPv4 address within an IPv6 one, the former counts, since
    that is where the packets go."""
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        try:
            return ipaddress.IPv4Address(socket.inet_aton(name))  # 127.1, 0x7f.1, 2130706433
        except (OSError, ValueError):
            return None
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64 or 1 < int(address) < 2**32:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour or address
