"""`Outage`: the calls of one batch wait here while its service cannot be reached.

A call without a connection has sent nothing, so waiting costs only time. Calls wait only after the
batch has had a connection: before that, a wrong address is more likely than a service that is down.
For the same reason, there is no wait after a failed name resolution or TLS handshake.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING

from dynamiq_async import errors
from dynamiq_async._http.limiter import now
from dynamiq_async._telemetry import extra

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger("dynamiq_async")

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 8.0


class Outage:
    """Whether the service of one batch can be reached.

    Args:
        patience: seconds that calls wait for a connection.

    Attributes:
        down: whether calls have to wait.
    """

    def __init__(self, patience: float) -> None:
        self.down: bool = False
        self._patience = patience
        self._reached = False
        self._began = self._next_try = 0.0
        self._pause = FIRST_PAUSE
        self._over = asyncio.Event()

    @property
    def seconds(self) -> float:
        """How long there has been no connection; 0 when there is one."""
        return now() - self._began if self.down else 0.0

    def connected(self) -> None:
        """Note that a connection was made, and let waiting calls go on."""
        self._reached = True
        if self.down:
            log.warning(
                "the service can be reached again, after %.0f s", self.seconds, extra=extra()
            )
            self.down = False
            self._over.set()

    async def wait(self, request: str, failure: errors.ConnectError | None) -> float:
        """Wait until the call may try again. Only one waiting call tries at a time.

        Args:
            request: the request's name in messages.
            failure: the call's error; None for a call that did not try yet.

        Returns:
            How long this waited, in seconds.

        Raises:
            ConnectError: the failure is one without a wait, or the patience is over.
        """
        if failure is not None:
            self._begin(failure)
        began = now()
        while self.down:
            time, until = now(), self._began + self._patience
            if time >= until:
                try:
                    raise failure or errors.ConnectError(
                        f"{request} was not sent: there was no connection for {self._patience:g} s"
                    )
                finally:
                    del failure  # which holds this frame
            if time >= self._next_try:
                self._next_try = time + self._pause
                self._pause = min(self._pause * 2, LONGEST_PAUSE)
                break
            with suppress(TimeoutError):
                async with asyncio.timeout(min(self._next_try, until) - time):
                    await self._over.wait()
        return now() - began

    def _begin(self, failure: errors.ConnectError) -> None:
        if self.down:
            return
        if not (self._reached and self._patience and _may_come_back(failure)):
            try:
                raise failure
            finally:
                del failure  # which holds this frame
        log.warning(
            "%s; the batch waits up to %.0f s for a connection, and tries with one call at a time",
            failure.message,
            self._patience,
            extra=extra(failure),
        )
        self.down, self._over = True, asyncio.Event()
        self._began, self._pause = now(), FIRST_PAUSE
        self._next_try = self._began + FIRST_PAUSE


def _may_come_back(error: BaseException) -> bool:
    return not any(isinstance(cause, ssl.SSLError | socket.gaierror) for cause in _causes(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
