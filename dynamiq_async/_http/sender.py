"""The one loop that sends, retries and raises. Every HTTP request goes through it.

Its promises: a request that may not run twice is sent again only when it was certainly not taken;
one deadline covers all attempts and the waits between them; every wait can be cancelled; and the
result is a 2xx response or an exception of this package.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import TYPE_CHECKING

from dynamiq_async import errors
from dynamiq_async._credentials import ACCESS_KEY, Credential
from dynamiq_async._http.error_responses import MAX_ERROR_BODY, beginning, request_id, status_error
from dynamiq_async._http.limiter import now
from dynamiq_async._http.response import BufferedResponse
from dynamiq_async._http.retry import RetryPolicy, parse_retry_after, server_time
from dynamiq_async._http.slots import lack_of, slot_of
from dynamiq_async._http.status import (
    Outcome,
    as_ambiguous,
    asks_to_slow_down,
    is_success,
    lacks_files,
    meaning_of,
)
from dynamiq_async._http.timers import TaskLimits, Timer, deadline_in
from dynamiq_async._tasks import in_thread, patient_timeout
from dynamiq_async._telemetry import Telemetry, extra
from dynamiq_async.options import NO_TIMEOUT, Timeout

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dynamiq_async._credentials import Secret
    from dynamiq_async._http.limiter import Limiter
    from dynamiq_async._http.rates import Quota
    from dynamiq_async._http.request import Request
    from dynamiq_async._http.request_options import SendOptions
    from dynamiq_async.transport import Response
    from dynamiq_async.transport.choice import ClientResponse, ClientTransport


log = logging.getLogger("dynamiq_async")

ERROR_BODY_SECONDS = 5.0
"""How long to wait for an error's body. The status is known, and the body must not delay it."""


class OpenResponse:
    """A 2xx response whose body is not read yet, and the client's slot that it occupies."""

    __slots__ = ("_limiter", "attempts", "response", "status")

    def __init__(self, response: ClientResponse, limiter: Limiter) -> None:
        self.response: ClientResponse = response
        self.status: int = response.status
        self.attempts: int = 1
        self._limiter: Limiter | None = limiter

    def close(self) -> None:
        """Release the connection and the slot. May be called twice, and by a finaliser."""
        limiter, self._limiter = self._limiter, None
        if limiter is not None:
            self.response.close()
            limiter.release()


class Sender:
    """Sends the requests of one client.

    Args:
        connect: makes the transport, when the first request is sent.
        limiter: the client-wide limit and cooldown.
        secret: the key, so that it can be masked where a server repeats it.
        credential: the kind of key, for messages.
        max_response_bytes: the largest response accepted, in bytes.
        is_slow: whether `connect` takes more than a moment, so that it has to run in a thread.
        telemetry: reports to OpenTelemetry; None: nothing is reported.
    """

    def __init__(
        self,
        connect: Callable[[], ClientTransport],
        limiter: Limiter,
        *,
        secret: Secret | None,
        credential: Credential = ACCESS_KEY,
        max_response_bytes: int,
        is_slow: Callable[[], bool] = lambda: False,
        telemetry: Telemetry | None = None,
    ) -> None:
        self._connect = connect
        self._is_slow = is_slow
        self._transport: ClientTransport | None = None
        self._lock = threading.Lock()
        self.limiter = limiter
        self.key: str | None = secret
        self.max_response_bytes = max_response_bytes
        self.credential = credential
        self.telemetry: Telemetry = telemetry or Telemetry()
        self.closed: bool = False
        self.before_close: set[Callable[[], Awaitable[None]]] = set()
        self._timer: Timer | None = None

    def timer(self) -> Timer:
        """The timer that keeps the time limits on the running loop."""
        loop = asyncio.get_running_loop()
        timer = self._timer
        if timer is None or timer.loop is not loop:
            timer = self._timer = Timer(loop)
        return timer

    def closed_error(self, what: str) -> errors.ClientClosedError:
        """The error for a connection that broke because the client was closed."""
        return errors.ClientClosedError(f"{what}: the client was closed meanwhile")

    def _get_transport(self) -> ClientTransport:
        if self.closed:
            raise errors.ClientClosedError("the client is closed; make a new one")
        if self._transport is None:
            with self._lock:  # threads that send their first requests at once share a transport
                if self._transport is None:
                    self._transport = self._connect()
        return self._transport

    async def prepare(self) -> None:
        """Make the transport, in a thread where that would block the loop."""
        if self._transport is None and not self.closed and self._is_slow():
            await in_thread(self._get_transport)

    async def _prepare_for(self, request: Request) -> None:
        """Make the transport for `request`; meanwhile the request counts as not sent."""
        request.sent = False
        await self.prepare()
        request.sent = True

    async def aclose(self) -> None:
        """Await the functions in `before_close`, then close the connections. Every later request
        raises ClientClosedError."""
        try:
            await asyncio.gather(*(last_call() for last_call in self.before_close))
        finally:
            self.closed = True
            if self._transport is not None:
                await self._transport.aclose()

    def abandon(self) -> bool:
        """Close from a finaliser. Returns whether there was anything to close."""
        return self._transport is not None and self._transport.abandon()

    async def fetch(
        self, request: Request, options: SendOptions, *, deadline: float | None = None
    ) -> BufferedResponse:
        """Send and read the whole response."""
        with request.held(), self.telemetry.requesting(request) as call:
            if options.outage is None:
                buffered = await self._retrying(request, options, deadline, whole=True)
            else:
                buffered = await self._outlasting(request, options, deadline, whole=True)
            if call is not None:
                call.answered(buffered.status, buffered.attempts)
        assert isinstance(buffered, BufferedResponse)  # noqa: S101 - tells the type checker what `whole` means
        return buffered

    async def open(
        self, request: Request, options: SendOptions, *, deadline: float | None = None
    ) -> OpenResponse:
        """Send and return with the headers. The caller reads and closes the body."""
        with request.held(), self.telemetry.requesting(request) as call:
            opened = await self._outlasting(request, options, deadline, whole=False)
            if call is not None:
                call.answered(opened.status, opened.attempts)
        assert isinstance(opened, OpenResponse)  # noqa: S101 - the same
        return opened

    async def _outlasting(
        self, request: Request, options: SendOptions, deadline: float | None, *, whole: bool
    ) -> BufferedResponse | OpenResponse:
        """Send. If the options have an outage, wait for the end of one as long as it allows."""
        outage = options.outage
        if outage is None or request.urgent or not options.policy.patient:
            return await self._retrying(request, options, deadline, whole=whole)
        unsent: errors.ConnectError | None = None
        tried = 0
        try:
            while True:
                if outage.down or unsent:
                    deadline = _later(deadline, await outage.wait(str(request), unsent))
                try:
                    result = await self._retrying(request, options, deadline, whole=whole)
                except errors.ConnectError as error:
                    tried += error.attempts or 0
                    unsent = error.add(attempts=tried)
                except errors.DynamiqError:
                    outage.connected()
                    raise
                else:
                    outage.connected()
                    result.attempts += tried
                    return result
        finally:
            del unsent  # which holds this frame

    # The streams of a batch are among its calls, since its concurrency limits them.
    async def _retrying(
        self, request: Request, options: SendOptions, deadline: float | None, *, whole: bool
    ) -> BufferedResponse | OpenResponse:
        timeout, policy = options.timeout, options.policy
        deadline = deadline_in(timeout.total) if deadline is None else deadline
        retries, spared, short_for = 0, 0, 0.0  # the last in seconds, for a file descriptor
        limiter = self.limiter if whole or options.queued else self.limiter.streams
        while True:
            if request.urgent:
                limiter.acquire_urgently()
            elif not limiter.try_acquire():
                deadline = await self._enter(limiter, request, options, deadline)
            request.taken = True
            try:
                result = await self._attempt(limiter, request, timeout, deadline, whole=whole)
            except errors.DynamiqError as error:
                failure = error
                request.taken = meaning_of(error).outcome is not Outcome.NOT_TAKEN
            else:
                result.attempts = retries + spared + 1
                return result
            failure = self._told_of(failure, request, attempts=retries + spared + 1)
            delay = policy.delay(
                failure,
                retries=retries,
                spared=spared,
                idempotent=request.idempotent,
                replayable=request.replayable,
            )
            self._note_throttling(failure, delay, policy)
            short = lacks_files(failure)
            if short:
                delay = _until_files(options, short_for)
                short_for += delay or 0.0
            spare = short or (policy.patient and asks_to_slow_down(failure))
            free = spare and options.queued
            if delay is None or not (free or _fits(delay, deadline)):
                try:
                    raise as_ambiguous(failure, request)
                finally:
                    del failure  # which holds this frame
            _note_retry(request, failure, delay)
            began = now()
            await asyncio.sleep(delay)
            if free:
                deadline = _later(deadline, now() - began)
            spared += spare
            retries += not spare

    def _told_of(
        self, failure: errors.DynamiqError, request: Request, *, attempts: int
    ) -> errors.DynamiqError:
        """`failure` with the facts of its request."""
        if self.closed and isinstance(failure, errors.APIConnectionError):
            failure = self.closed_error(str(request))
        failure.attempts = attempts
        failure.method, failure.url = request.method, request.url.partition("?")[0]
        return failure

    def _note_throttling(
        self, failure: errors.DynamiqError, delay: float | None, policy: RetryPolicy
    ) -> None:
        """Begin the cooldown of all the client's calls if the server asked to slow down.

        Other calls wait no longer than `max_retry_after`: if the server asks to wait for days,
        only the call that it refused fails.
        """
        if not asks_to_slow_down(failure):
            return
        asked, longest = failure.retry_after or 0.0, policy.max_wait
        if asked > longest:
            log.warning(
                "%s %s: the server asks to wait %.0f s, more than max_retry_after allows; this "
                "call fails, and the client goes on in %.0f s",
                failure.method,
                failure.url,
                asked,
                longest,
                extra=extra(failure),
            )
        own = min(policy.backoff(0) if delay is None else delay, policy.cap)
        seconds = min(max(asked, own), longest)
        self.limiter.note_refusal(failure.method, seconds)
        self.telemetry.cooled_down(seconds)

    async def _attempt(
        self,
        limiter: Limiter,
        request: Request,
        timeout: Timeout,
        deadline: float | None,
        *,
        whole: bool,
    ) -> BufferedResponse | OpenResponse:
        """Send once, in a slot of `limiter` that the caller acquired. It is released here."""
        request.begin()
        limits = TaskLimits(timeout, deadline, self.timer())
        started = time.perf_counter()
        response: ClientResponse | None = None
        kept = False
        try:
            with limits.starting("first_byte"):
                if self._transport is None:
                    await self._prepare_for(request)
                transport = self._get_transport()
                send = transport.upgrade if request.upgrades else transport.send
                response = await send(request, connect_timeout=timeout.connect)
                if log.isEnabledFor(logging.DEBUG):
                    _trace(request, response, started)
                success = is_success(request, response.status)
                if self.limiter.quota is not None:
                    _observe(self.limiter.quota, response, success=success)
                if not success:
                    raise await self.refusal(request, response, limits)
                self.limiter.succeeded()
                if whole:
                    return await self.read_body(request, response, limits)
                opened = OpenResponse(response, limiter)
            kept = True
            return opened
        except Exception as error:
            failure = request.source_failure() if response is None else None
            if failure is None:
                if not isinstance(error, TimeoutError) or isinstance(error, errors.DynamiqError):
                    raise
                failure = _expired(request, limits)
        finally:
            if not kept:  # pragma: no branch - a kept response was returned, without an error
                if response is not None:
                    response.close()
                limiter.release()
        # Not within the `except`: the caught error holds frames of the transport, and in them the
        # request's headers.
        try:
            raise failure from failure.__cause__
        finally:
            del failure

    async def _enter(
        self, limiter: Limiter, request: Request, options: SendOptions, deadline: float | None
    ) -> float | None:
        """Wait for the cooldown and for a slot, each with its own limit. If a rate or quota delays
        requests, slots are not the reason to wait, and only the whole call's limit runs.

        Returns the call's deadline, which this wait has moved for a queued call.
        """
        began, until, timeout = now(), deadline, options.timeout
        if options.queued:
            until, timeout = None, NO_TIMEOUT
        while True:
            await self._wait_cooldown(request, options.policy, until)
            if request.over_limit and limiter.try_acquire(over_limit=True):
                return deadline
            limits = TaskLimits(timeout, until, self.timer())
            try:
                with limits.starting("total" if limiter.metered else "pool"):
                    if await slot_of(limiter, request, options):
                        return _later(deadline, now() - began) if options.queued else deadline
            except TimeoutError:
                break
        lacking, advice = lack_of(limiter)
        raise errors.PoolTimeoutError(
            f"{request} was not sent: {lacking} within {limits.seconds} s; {advice} or lower the "
            "concurrency",
            limit=limits.limit,
            seconds=limits.seconds,
        )

    async def _wait_cooldown(
        self, request: Request, policy: RetryPolicy, deadline: float | None
    ) -> None:
        while cooldown := self.limiter.cooldown:  # other calls may lengthen it meanwhile
            pause = policy.lengthen(cooldown)
            if cooldown > policy.max_wait or not _fits(pause, deadline):
                raise errors.RateLimitError(
                    f"{request} was not sent: the server asked this client to slow down, for "
                    f"another {cooldown:.0f} s",
                    status=429,
                    retry_after=cooldown,
                )
            await asyncio.sleep(pause)

    async def read_body(
        self, request: Request, response: ClientResponse, limits: TaskLimits
    ) -> BufferedResponse:
        """Read the whole response. Raises APIResponseError when it is too large."""
        body = response.arrived()
        if body is None:
            body = await self._read_pieces(request, response, limits)
        elif len(body) > self.max_response_bytes:
            raise self._too_large(request, response, body)
        return BufferedResponse(response.status, response.headers, body)

    async def _read_pieces(self, request: Request, response: Response, limits: TaskLimits) -> bytes:
        pieces: list[bytes] = []
        size = 0
        limits.run("idle")
        while piece := await response.read():
            limits.run("idle")
            size += len(piece)
            if size > self.max_response_bytes:
                raise self._too_large(request, response, (pieces or [piece])[0])
            pieces.append(piece)
        return b"".join(pieces)

    def _too_large(
        self, request: Request, response: Response, start: bytes
    ) -> errors.ResponseTooLargeError:
        return errors.ResponseTooLargeError(
            f"the answer to {request} is larger than max_response_bytes "
            f"({self.max_response_bytes})",
            status=response.status,
            request_id=request_id(response.headers),
            body=beginning(start, self.key),
        )

    async def refusal(
        self, request: Request, response: Response, limits: TaskLimits
    ) -> errors.APIStatusError:
        """The error for a response that is not a success, with the text of its body."""
        limits.run("total")  # the status has arrived; the body has a limit of its own
        return status_error(
            str(request),
            response.status,
            response.headers,
            await read_beginning(response),
            key=self.key,
            credential=self.credential,
            retry_after=parse_retry_after(response.headers),
        )


async def read_beginning(response: Response) -> bytes:
    """The part of a body that an error keeps, as far as it arrives in `ERROR_BODY_SECONDS`."""
    pieces: list[bytes] = []
    size = 0
    try:
        async with patient_timeout(ERROR_BODY_SECONDS):
            while size < MAX_ERROR_BODY and (piece := await response.read()):
                pieces.append(piece)
                size += len(piece)
    except (TimeoutError, errors.APIConnectionError):
        facts = extra(status=response.status)
        log.debug("the body of an error was cut off after %d bytes", size, extra=facts)
    return b"".join(pieces)


def _until_files(options: SendOptions, waited: float) -> float | None:
    """Seconds until the next try to open a connection. This wait counts as one for a slot; None
    when `Timeout.pool` leaves no time for it."""
    delay = options.policy.backoff(0)
    limit = None if options.queued else options.timeout.pool
    return None if limit is not None and waited + delay > limit else delay


def _later(deadline: float | None, seconds: float) -> float | None:
    return None if deadline is None else deadline + seconds


def _fits(seconds: float, deadline: float | None) -> bool:
    return deadline is None or asyncio.get_running_loop().time() + seconds < deadline


def _note_retry(request: Request, failure: errors.DynamiqError, delay: float) -> None:
    name = type(failure).__name__
    log.debug("%s: %s; retrying in %.2f s", request, name, delay, extra=extra(failure))


def _trace(request: Request, response: Response, started: float) -> None:
    log.debug(
        "%s: %d after %.0f ms, request id %s",
        request,
        response.status,
        (time.perf_counter() - started) * 1000,
        request_id(response.headers),
        extra=extra(status=response.status),
    )


def _observe(quota: Quota, response: ClientResponse, *, success: bool) -> None:
    headers = response.headers
    quota.observe(headers, now(), server_time=server_time(headers), success=success)


def _expired(request: Request, limits: TaskLimits) -> errors.APITimeoutError:
    said = f"the {limits.limit} limit of {limits.seconds} s passed"
    if request.sent:
        kind, when = errors.APITimeoutError, "before the answer was whole"
    else:
        kind, when = errors.ConnectTimeoutError, "before the request was sent"
    return kind(f"{request}: {said} {when}", limit=limits.limit, seconds=limits.seconds)
