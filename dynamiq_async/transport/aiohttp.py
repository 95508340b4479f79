"""The transport on aiohttp: the only module that knows its client.

Foreign exceptions are translated to ours here, once, and are not chained: aiohttp's exceptions
carry the request's headers, and with them the access key. This module is imported with the first
request, because importing aiohttp costs more than everything else together.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import ssl
import zlib
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
from yarl import URL

from dynamiq_async import errors
from dynamiq_async.transport import _aiohttp_private as private
from dynamiq_async.transport._aiohttp_body import RequestBody
from dynamiq_async.transport._aiohttp_connections import (
    MAX_LINE,
    OwnConnector,
    own_socket,
    own_timeout,
)
from dynamiq_async.transport._aiohttp_errors import translated
from dynamiq_async.transport._aiohttp_expect import expecting
from dynamiq_async.transport._aiohttp_response import AiohttpConnection, AiohttpResponse
from dynamiq_async.transport._decoding import ACCEPTED
from dynamiq_async.transport.proxies import proxy_for, proxy_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from dynamiq_async.transport._aiohttp_response import ContentResponse
    from dynamiq_async.transport.base import Request

_MAX_TIMEOUTS = 64  # the most that are cached

# These override the session's. Proxies and sign-on services send cookies and policies of many KiB.
_AS_IT_COMES: dict[str, Any] = {
    "auto_decompress": False,
    "max_line_size": MAX_LINE,
    "max_field_size": MAX_LINE,
}
# Of aiohttp 3.14. The tests cover one version in a run.
if "max_headers" in inspect.signature(aiohttp.ClientSession).parameters:  # pragma: no branch
    _AS_IT_COMES["max_headers"] = 512


class AiohttpTransport:
    """One aiohttp session per running event loop and process, or the caller's own session.

    Args:
        session: used as it is and never closed; None for sessions of our own.
        verify: a file of CA certificates or an `SSLContext`; None for the system's certificates, in
            the one context that aiohttp shares.
        proxy: the URL of an HTTP proxy.
        trust_env: take the proxy from the environment, as the module `proxies` describes.
        key: masked wherever a server repeats it, in a header or in data that is not HTTP.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession | None,
        verify: ssl.SSLContext | str | os.PathLike[str] | None,
        proxy: str | None,
        trust_env: bool,
        *,
        key: str | None,
    ) -> None:
        self._key = key
        self._given = session
        self._verify = verify
        self._proxy = proxy_of(proxy, "proxy") if proxy is not None else None
        self._trust_env = trust_env
        self._context: ssl.SSLContext | None = None
        self._sessions: dict[asyncio.AbstractEventLoop, _Session] = {}
        self._pid = os.getpid()
        self._timeouts: dict[float | None, aiohttp.ClientTimeout] = {}
        self._ssl_context()  # now, because the client may make its transport in a thread
        _cheapen_reads()

    async def send(self, request: Request, *, connect_timeout: float | None) -> ContentResponse:
        """Send a request by the session of the running loop. See `Transport.send`."""
        session = self._given or self._running() or await self._session()
        proxy = proxy_for(request.url, self._proxy, trust_env=self._trust_env)
        request.sent = request.body is None  # without a body, nothing shows when it is sent
        options = _AS_IT_COMES
        if "Expect" in request.headers:
            options = options | {"middlewares": expecting(session, request)}
        try:
            raw = await session.request(
                request.method,
                _parsed(request.url),
                data=RequestBody(request) if request.body is not None else None,
                headers={"Accept-Encoding": ACCEPTED, **request.headers},
                allow_redirects=False,
                raise_for_status=False,
                proxy=proxy and proxy.url,
                timeout=self._timeout(connect_timeout),
                **options,
            )
            response = AiohttpResponse(raw, request, self._key)
        except (aiohttp.ClientError, OSError, ValueError, RuntimeError, zlib.error) as error:
            failure = translated(
                error, str(request), ca=self._ca_name(), key=self._key, proxy=proxy
            )
        else:
            return response
        try:
            raise failure
        finally:
            del failure  # which holds this frame

    async def upgrade(self, request: Request, *, connect_timeout: float | None) -> ContentResponse:
        """Send a request for another protocol. See `Upgrades.upgrade`."""
        response = await self.send(request, connect_timeout=connect_timeout)
        if response.status == 101 and isinstance(response, AiohttpResponse):
            return AiohttpConnection(response)
        return response

    async def aclose(self) -> None:
        """Close the sessions of all loops."""
        running = asyncio.get_running_loop()
        for loop, session in self._take_sessions():
            if loop is running:
                await session.aclose()
            else:
                session.abandon()

    def abandon(self) -> bool:
        """Close open sessions, from a finaliser. Returns whether there were any."""
        sessions = [session for _, session in self._take_sessions() if not session.client.closed]
        for session in sessions:
            session.abandon()
        return bool(sessions)

    def _take_sessions(self) -> list[tuple[asyncio.AbstractEventLoop, _Session]]:
        self._leave_to_parent()
        sessions = list(self._sessions.items())
        self._sessions.clear()
        return sessions

    def _leave_to_parent(self) -> None:
        if self._pid != os.getpid():
            for inherited in self._sessions.values():
                inherited.leave_to_parent()
            self._sessions.clear()
            self._pid = os.getpid()

    def _running(self) -> aiohttp.ClientSession | None:
        """The session of the running loop, if there is one; nearly every request finds it here."""
        session = self._sessions.get(asyncio.get_running_loop())
        if session is None or session.client.closed or self._pid != os.getpid():
            return None
        return session.client

    async def _session(self) -> aiohttp.ClientSession:
        """A new session, because `_running` found none."""
        self._leave_to_parent()
        for other in [other for other in self._sessions if other.is_closed()]:
            self._sessions.pop(other).abandon()
        loop = asyncio.get_running_loop()
        session = self._sessions[loop] = _Session(self._new_session(), loop)
        await session.bind()
        return session.client

    def _new_session(self) -> aiohttp.ClientSession:
        session = aiohttp.ClientSession(
            connector=self._new_connector(
                limit=0,  # the client's limiter limits, so that its wait has a limit of its own
                ssl=self._ssl_context() or True,
                socket_factory=own_socket,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        private.send_once(session)
        return session

    def _new_connector(self, **options: Any) -> OwnConnector:
        return OwnConnector(**options)

    def _ssl_context(self) -> ssl.SSLContext | None:
        if self._context is None and self._verify is not None:
            if isinstance(self._verify, ssl.SSLContext):
                self._context = self._verify
            else:
                self._context = _context_from(os.fspath(self._verify))
        return self._context

    def _ca_name(self) -> str:
        if self._given is not None:
            return "the given session's CA certificates"
        if self._verify is None:
            paths = ssl.get_default_verify_paths()
            return f"the system's CA certificates ({paths.cafile or paths.capath})"
        if isinstance(self._verify, ssl.SSLContext):
            return "the given SSLContext's CA certificates"
        return f"the CA certificates in {os.fspath(self._verify)}"

    def _timeout(self, connect: float | None) -> aiohttp.ClientTimeout:
        timeout = self._timeouts.get(connect)
        if timeout is None:
            if len(self._timeouts) >= _MAX_TIMEOUTS:  # a limit may be computed for each call
                self._timeouts.clear()
            timeout = own_timeout(connect) if self._given is None else _given_timeout(connect)
            self._timeouts[connect] = timeout
        return timeout


def _given_timeout(connect: float | None) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, connect=connect, sock_connect=None, sock_read=None)


def _cheapen_reads() -> None:
    """Free one large block, once.

    asyncio reads into a new buffer of 256 KB each time, and glibc has the system map and unmap
    each block of that size (10 µs for a read) until one at least as large was freed; see
    M_MMAP_THRESHOLD in mallopt(3). Elsewhere this does nothing.
    """
    bytes(1024 * 1024)


def _context_from(path: str) -> ssl.SSLContext:
    try:
        if Path(path).is_dir():
            return ssl.create_default_context(capath=path)
        return ssl.create_default_context(cafile=path)
    except (OSError, ssl.SSLError) as error:
        raise errors.InvalidArgumentError(
            f"verify: {path} cannot be used as CA certificates: {error}", argument="verify"
        ) from error


class _Session:
    """An aiohttp session of our own, and the ways to end it."""

    def __init__(self, client: aiohttp.ClientSession, loop: asyncio.AbstractEventLoop) -> None:
        self.client = client
        self._loop = loop
        self._guard = self._end_with_loop()

    async def _end_with_loop(self) -> AsyncGenerator[None, None]:
        # `asyncio.run` closes open async generators at its end. This one then closes the
        # connections while the loop still runs: afterwards they could only warn.
        try:
            yield
        finally:
            await self.client.close()

    async def bind(self) -> None:
        await anext(self._guard)

    async def aclose(self) -> None:
        await self._guard.aclose()

    def abandon(self) -> None:
        """Close without awaiting, from any thread; neither session nor connector warns."""
        if self._loop.is_closed() or self._loop is asyncio._get_running_loop():
            self._close()
        else:
            self._loop.call_soon_threadsafe(self._close)

    def _close(self) -> None:
        connector = self.client.connector
        self.client.detach()
        if connector is not None:
            private.close_now(connector)
        with suppress(StopIteration):
            self._guard.aclose().send(None)  # it has nothing left to await

    def leave_to_parent(self) -> None:
        """Forget an inherited session. The sockets and their selector belong to the parent: if this
        process closed any, the parent would get no more events of its connections."""
        if self.client.connector is not None:
            private.forget(self.client.connector)
        self.client.detach()
        _LEFT_TO_PARENT.append(self)


_LEFT_TO_PARENT: list[_Session] = []  # kept for ever: collecting them would close them


@lru_cache(maxsize=256)
def _parsed(url: str) -> URL:
    """`url`, which is in its wire form already."""
    return URL(url, encoded=True)
