"""Which proxy a request goes through: the one given, or that of the environment."""

from __future__ import annotations

from functools import lru_cache
from urllib.request import getproxies, proxy_bypass

from yarl import URL

from dynamiq_async import errors


def proxy_for(url: str, given: str | None, *, trust_env: bool) -> str | None:
    """The URL of the proxy for a request to `url`; None for none.

    Args:
        given: the client's own, which wins.
        trust_env: take it from `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`.

    Raises:
        InvalidArgumentError: it is not an http URL.
    """
    proxy = given
    if proxy is None and trust_env:
        parts = parsed(url)
        if not proxy_bypass(parts.authority):
            proxy = getproxies().get(parts.scheme)
    if proxy is not None and not _is_http(proxy):
        raise errors.InvalidArgumentError(
            "the proxy must be an http URL, such as http://proxy.example:3128",
            argument="proxy",
        )
    return proxy


@lru_cache(maxsize=256)
def parsed(url: str) -> URL:
    """`url`, which is in its wire form already."""
    return URL(url, encoded=True)


def _is_http(url: str) -> bool:
    try:
        parts = URL(url)
    except (ValueError, TypeError):
        return False
    return parts.scheme in ("http", "https") and bool(parts.host)
