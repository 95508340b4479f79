"""Chooses a client's transport. No other module above aiohttp does."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, get_args

from dynamiq_async._telemetry import extra
from dynamiq_async.errors import InvalidArgumentError
from dynamiq_async.transport.base import Response, Transport
from dynamiq_async.transport.proxies import proxy_of

if TYPE_CHECKING:
    import ssl

    import aiohttp

    from dynamiq_async.transport.base import Request

Kind = Literal["session", "direct"]
TransportLike = Transport | Kind | None

DEFAULT: Kind = "direct"
"""The kind that None chooses, where it can be used."""

log: logging.Logger = logging.getLogger("dynamiq_async")


def _is(value: object, name: str) -> bool:
    """Whether `value` has a class of this name. Importing the class would take too long."""
    return any(base.__name__ == name for base in type(value).__mro__)


class ClientResponse(Response, Protocol):
    """A response as a client uses it."""

    def arrived(self) -> bytes | None:
        """The whole body, if it has arrived already, else None. It takes the place of `read`."""

    def fail(self, error: Exception) -> None:
        """Make a waiting `read`, and every later one, raise `error`. Of several errors, the first
        counts."""


class ClientTransport(Protocol):
    """A transport as a client uses it: the client's own, or a wrapper of the user's."""

    async def send(self, request: Request, *, connect_timeout: float | None) -> ClientResponse:
        """See `Transport.send`."""

    async def upgrade(self, request: Request, *, connect_timeout: float | None) -> ClientResponse:
        """Send a request for another protocol."""

    async def aclose(self) -> None:
        """See `Transport.aclose`."""

    def abandon(self) -> bool:
        """Close the same as `aclose`, but from a finaliser, without awaiting. Returns whether there
        was anything to close."""


class Network(NamedTuple):
    """The client's options for the network. `AsyncApp` describes them."""

    transport: TransportLike = None
    session: aiohttp.ClientSession | None = None
    verify: ssl.SSLContext | str | os.PathLike[str] | None = None
    proxy: str | None = None
    trust_env: bool = False

    @property
    def given(self) -> Transport | None:
        """The user's own transport, if there is one."""
        return None if isinstance(self.transport, str) else self.transport

    def is_slow_to_open(self) -> bool:
        """Whether `open` takes more than a moment: it imports aiohttp, or reads certificates."""
        if self.given is not None:
            return False
        return "dynamiq_async.transport.aiohttp" not in sys.modules or self.verify is not None

    def settings(self) -> dict[str, Any]:
        """The options that a pickle can hold: no session, and no transport of the user's."""
        transport = self.transport if self.given is None else None
        kept = self._replace(transport=transport)._asdict()
        del kept["session"]
        return kept

    def check(self) -> None:
        """Raises:
        InvalidArgumentError: the options do not go together; `argument` names one.
        """
        is_path = isinstance(self.verify, str | os.PathLike | None)
        if not is_path and not _is(self.verify, "SSLContext"):
            raise InvalidArgumentError(
                "verify must be a file or folder of CA certificates or an ssl.SSLContext, not "
                f"{self.verify!r}",
                argument="verify",
            )
        if not isinstance(self.proxy, str | None):
            raise InvalidArgumentError(
                f"proxy must be a URL as a string, not {type(self.proxy).__name__}",
                argument="proxy",
            )
        if self.proxy is not None:
            proxy_of(self.proxy, "proxy")
        settings = self.verify is not None or self.proxy is not None or self.trust_env
        if self.session is not None and settings:
            raise InvalidArgumentError(
                "verify, proxy and trust_env are settings of the session; set them there",
                argument="session",
            )
        self._check_transport()
        if self.given is not None and (settings or self.session is not None):
            raise InvalidArgumentError(
                "session, verify, proxy and trust_env are settings of the transport on aiohttp; "
                "set up yours as it needs",
                argument="transport",
            )
        if self.session is not None and not _is(self.session, "ClientSession"):
            raise InvalidArgumentError(
                f"session must be an aiohttp.ClientSession, not {type(self.session).__name__}",
                argument="session",
            )

    def _check_transport(self) -> None:
        known = self.transport in (None, *get_args(Kind))
        if not known and not isinstance(self.given, Transport):
            raise InvalidArgumentError(
                "transport must be 'session' or 'direct', or have send() and aclose(), not "
                f"{self.transport!r}",
                argument="transport",
            )
        if self.transport == "direct" and (self.session is not None or self.proxy is not None):
            raise InvalidArgumentError(
                "a session and a proxy need the transport 'session'", argument="transport"
            )

    def open(self, key: str | None) -> ClientTransport:
        """The transport. `key` is masked where a server repeats it."""
        if self.given is not None:
            from dynamiq_async.transport._user_transport import GivenTransport

            return GivenTransport(self.given, key)
        # Imported with the first request, because importing aiohttp costs more than all the rest.
        from dynamiq_async.transport._aiohttp_private import DIFFERENCE
        from dynamiq_async.transport.aiohttp import AiohttpTransport

        kind: type[AiohttpTransport] = AiohttpTransport
        if (self.transport or DEFAULT) == "direct" and self.session is None and not self.proxy:
            if DIFFERENCE:
                log.debug("calls go through aiohttp's session: %s", DIFFERENCE, extra=extra())
            else:
                from dynamiq_async.transport.direct import DirectTransport

                kind = DirectTransport
        return kind(self.session, self.verify, self.proxy, self.trust_env, key=key)
