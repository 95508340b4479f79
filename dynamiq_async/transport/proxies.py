"""Chooses the proxy of a request: the one given, or that of the environment.

The environment is read as curl and Python's own urllib read it: `HTTPS_PROXY` or `HTTP_PROXY` by
the URL's scheme, else `ALL_PROXY`; names in lower case win; `NO_PROXY` lists hosts without a proxy.
`HTTP_PROXY` in capitals is not read in a CGI script, where a client can set it (CVE-2016-1000110).
"""

from __future__ import annotations

import ipaddress
import os
import re
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

from dynamiq_async import errors

_PORTS = {"http": 80, "https": 443}
_SCHEME = r"([A-Za-z][A-Za-z0-9+.-]*)://"
_PORT = r"(.*):(\d+)"


class Proxy(NamedTuple):
    """A proxy, and where it was named.

    Attributes:
        url: its URL, which may hold a password.
        source: `proxy` for the argument, or the environment's variable.
    """

    url: str
    source: str

    def __str__(self) -> str:
        """Its name in errors: its address, without the user and the password."""
        return f"the proxy {urlsplit(self.url).netloc.rpartition('@')[2]} (from {self.source})"

    def __repr__(self) -> str:
        return f"<Proxy {self}>"


def proxy_for(url: str, given: Proxy | None, *, trust_env: bool) -> Proxy | None:
    """The proxy for a request to `url`; None if it needs none.

    Args:
        given: the client's own, which wins.
        trust_env: take the proxy from the environment.

    Raises:
        InvalidArgumentError: the environment's proxy cannot be used; the message names the
            variable.
    """
    if given is not None or not trust_env:
        return given
    return _of_environment(urlsplit(url))


def proxy_of(value: str, source: str, *, argument: str = "proxy") -> Proxy:
    """The proxy that `value` names. `http` is assumed where it has no scheme.

    Raises:
        InvalidArgumentError: `value` is not an address, or names SOCKS or another protocol. The
            message begins with `source` and does not show the value, which may hold a password.
    """
    url = value.strip()
    found = re.match(_SCHEME, url)
    scheme = found[1].lower() if found else "http"
    if scheme.startswith("socks"):
        raise errors.InvalidArgumentError(
            f"{source}: SOCKS proxies ({scheme}://) are not supported; use an http proxy, such as "
            "http://proxy.example:3128",
            argument=argument,
        )
    proxy = Proxy(url if found else f"http://{url}", source)
    if scheme not in _PORTS or not _has_address(proxy.url):
        raise errors.InvalidArgumentError(
            f"{source}: the proxy must be an http URL, such as http://proxy.example:3128",
            argument=argument,
        )
    return proxy


def _has_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _of_environment(url: SplitResult) -> Proxy | None:
    # Imported here, because the import takes longer than the rest of a client's constructor.
    from urllib.request import getproxies, proxy_bypass

    known = getproxies()  # on Windows and macOS the system's settings, where no variable is set
    kind = url.scheme if known.get(url.scheme) else "all"
    if not known.get(kind):
        return None
    names = (f"{kind}_proxy", f"{kind}_proxy".upper())
    name = next((name for name in names if os.environ.get(name)), None)
    if name is None:
        direct = bool(proxy_bypass(url.netloc.rpartition("@")[2]))
    else:
        direct = goes_directly(url, known.get("no", ""))
    if direct:
        return None
    return proxy_of(known[kind], name or "the system's settings", argument="trust_env")


def goes_directly(url: SplitResult, no_proxy: str) -> bool:
    """Whether `no_proxy` names the host of `url`.

    Its entries are separated by commas or blanks. An entry is `*` for every host; a name, which
    also stands for the names below it, whether or not it begins with `.` or `*.`; an address, IPv6
    with or without brackets; or a network such as `10.0.0.0/8`. A name or an address may end with
    `:port`.
    """
    host = (url.hostname or "").removesuffix(".")
    port = url.port or _PORTS.get(url.scheme)
    address = _address(host)
    return any(
        _names(entry, host, address, port) for entry in re.split(r"[\s,]+", no_proxy.lower())
    )


def _names(entry: str, host: str, address: _Address | None, port: int | None) -> bool:
    if entry == "*":
        return True
    if "/" in entry:
        network = _network(entry)
        return address is not None and network is not None and address in network
    if _address(entry) is None and (found := re.fullmatch(_PORT, entry)):
        entry = found[1]
        if int(found[2]) != port:
            return False
    if address is not None:
        return _address(entry) == address
    name = entry.removeprefix("*").lstrip(".").removesuffix(".")
    return bool(name) and (host == name or host.endswith(f".{name}"))


_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _address(host: str) -> _Address | None:
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _network(entry: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    address, _, length = entry.partition("/")
    try:
        return ipaddress.ip_network(f"{address.strip('[]')}/{length}", strict=False)
    except ValueError:
        return None
