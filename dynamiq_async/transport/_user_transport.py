"""A wrapper of a user's transport, which guarantees what the client relies on: only errors of this
package are raised, and none shows the key. The user closes the transport."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, TypeVar, cast

from multidict import CIMultiDict

from dynamiq_async import errors
from dynamiq_async._credentials import mask
from dynamiq_async._telemetry import extra
from dynamiq_async.transport._headers import Headers, readable
from dynamiq_async.transport.base import Upgrades

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dynamiq_async.transport.base import Request, Response, Transport

T = TypeVar("T")

log = logging.getLogger("dynamiq_async")


class GivenTransport:
    """The user's transport. `key` is masked where a server repeats it."""

    def __init__(self, transport: Transport, key: str | None) -> None:
        self._transport = transport
        self._key = key

    async def send(self, request: Request, *, connect_timeout: float | None) -> GivenResponse:
        return await self._by(self._transport.send, request, connect_timeout)

    async def upgrade(self, request: Request, *, connect_timeout: float | None) -> GivenResponse:
        if not isinstance(self._transport, Upgrades):
            raise errors.InvalidArgumentError(
                f"{request}: a WebSocket needs upgrade(), which the client's transport, a "
                f"{type(self._transport).__name__}, does not have",
                argument="transport",
            )
        return await self._by(self._transport.upgrade, request, connect_timeout)

    async def aclose(self) -> None:
        """Do nothing: the user closes the transport."""

    def abandon(self) -> bool:
        return False

    async def _by(
        self,
        send: Callable[..., Awaitable[Response]],
        request: Request,
        connect_timeout: float | None,
    ) -> GivenResponse:
        async def sent() -> GivenResponse:
            raw = await send(request, connect_timeout=connect_timeout)
            return GivenResponse(raw, str(request), self._key)

        return await _translated(sent, str(request), self._key)


class GivenResponse:
    """A response of the user's transport, or the connection that it was upgraded to."""

    def __init__(self, raw: Any, label: str, key: str | None) -> None:
        self._raw = raw
        self._label = label
        self._key = key
        self.status: int = raw.status
        self.framed: bool = raw.framed
        self.headers = Headers(CIMultiDict(raw.headers.items()), key)
        self._task: asyncio.Task[object] | None = None  # the one that waits in `read`
        self._failure: Exception | None = None

    async def read(self) -> bytes:
        async def read() -> bytes:
            return bytes(await self._raw.read())

        self._task = task = cast("asyncio.Task[object]", asyncio.current_task())
        cancelling = task.cancelling()
        try:
            if self._failure is not None:
                raise self._failure
            return await _translated(read, self._label, self._key)
        except asyncio.CancelledError:
            # The task may also have been cancelled from outside, and then that counts.
            if self._failure is None or task.uncancel() > cancelling:
                raise
            raise self._failure from None
        finally:
            self._task = None

    def arrived(self) -> None:
        """None: only `read` shows whether the body has arrived."""

    def fail(self, error: Exception) -> None:
        if self._failure is None:
            self._failure = error
            if self._task is not None:
                self._task.cancel()

    def close(self) -> None:
        self._quietly(self._raw.close)

    @property
    def unsent(self) -> int:
        return int(self._raw.unsent)

    def write(self, data: bytes) -> None:
        self._quietly(self._raw.write, data)

    async def drain(self) -> None:
        await _translated(self._raw.drain, self._label, self._key)

    def _quietly(self, work: Callable[..., object], *arguments: Any) -> None:
        try:
            work(*arguments)
        except Exception as error:  # noqa: BLE001 - the caller could not do anything about it
            said = mask(str(error), self._key)
            kind = type(error).__name__
            log.debug(
                "%s: the transport raised %s: %s", self._label, kind, said, extra=extra(error)
            )


async def _translated(work: Callable[[], Awaitable[T]], label: str, key: str | None) -> T:
    """The result of `work`. Its exceptions become errors of ours, which are not chained: the
    originals may hold the request's headers."""
    try:
        return await work()
    except errors.DynamiqError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a transport raises is its failure
        said = mask(readable(" ".join(f"{type(error).__name__}: {error}".split())), key)
    raise errors.APIConnectionError(f"{label}: the transport raised {said}")
