"""The stream of a run: every event once, in order, to the run's end, across broken connections.

When a connection breaks, the stream connects again after the last event it handed out. The cursor
drops repeated events; missing ones are looked up among the stored events. If connecting again
fails, the run's state tells whether the run is over. If the stream cannot go on, it raises an error
that names the run and the position. The request that created the run is never sent again.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from msgspec import Raw, structs

from dynamiq_async import _json, errors
from dynamiq_async._failures import Failure
from dynamiq_async._http.error_responses import masked_json
from dynamiq_async._http.status import may_have_run, may_pass
from dynamiq_async._http.timers import deadline_in
from dynamiq_async._telemetry import extra
from dynamiq_async._words import counted
from dynamiq_async.events.run_events import (
    DELTAS,
    QUESTION_EVENTS,
    RunEvent,
)
from dynamiq_async.options import DEFAULT_TIMEOUT, OnLeave, Timeout
from dynamiq_async.runs.leaving import CancelableStream, log
from dynamiq_async.runs.models import Run, ended
from dynamiq_async.runs.questions import OnQuestion, QuestionEvent, RunQuestion, ask
from dynamiq_async.runs.resumption import Cursor, Gap, Hole
from dynamiq_async.runs.stream_errors import never_named, to_go_on
from dynamiq_async.streaming.event_reader import EventReader, OnBadEvent, open_events
from dynamiq_async.streaming.output_stream import T_co

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dynamiq_async._http.request import Request
    from dynamiq_async._http.request_options import SendOptions
    from dynamiq_async._http.response import ResponseInfo
    from dynamiq_async._telemetry import Call
    from dynamiq_async.runs.requests import RunRequests

IDLE_SECONDS = 60.0
"""The service sends a heartbeat after 15 s of silence (documented by the vendor), so a silence of
this many seconds means a dead connection."""

MAX_RETRY_HINT = 30.0
"""Seconds; a longer `retry:` from the server is reduced to this."""


class RunStream(CancelableStream[T_co]):
    """The events of a run, from `Runs.stream` and `Runs.follow`.

    Iteration ends after the run's terminal event. A question is a `QuestionEvent`, which can be
    answered.

    Attributes:
        run_id: the run's id, once it is known.
        sequence: that of the last event handed out, for `follow(after_sequence=…)`.
        final: the terminal event, once it has been read.
        reconnects: how often the stream connected again.
        gaps: sequence numbers that were skipped because no event was found for them.
        response: status, headers and request id of the latest connection.
    """

    final: RunEvent | None
    _reader: EventReader[RunEvent] | None = None

    def __init__(
        self,
        requests: RunRequests,
        options: SendOptions,
        *,
        create: Request | None = None,
        run_id: str | None = None,
        after_sequence: int | None = None,
        session_id: str | None = None,
        resume: bool = True,
        max_resumes: int = 5,
        on_question: OnQuestion | None = None,
        on_leave: OnLeave = "detach",
        on_bad_event: OnBadEvent = "raise",
        output_type: Any = Any,
    ) -> None:
        requests.decoder(on_bad_event)  # checks it
        label = str(create) if create is not None else f"run {run_id}"
        super().__init__(requests, label, output_type)
        self._options = options
        self._create = create
        self._session_id = session_id
        self._resume = resume
        self._max_resumes = max_resumes
        self._on_question = on_question
        self._on_bad_event = on_bad_event
        self._cursor = Cursor(after_sequence)
        self._rest: Sequence[RunEvent] = ()  # received, not yet given to the cursor
        self._pending: list[RunEvent] = []  # passed by the cursor, not yet handed out
        self._hole: Hole | None = None
        self._failures = 0
        self._retry_hint = 0.0
        self._deadline: float | None = None
        self._over = False
        self.run_id = run_id
        self._leave(on_leave, session_id)
        self.sequence = after_sequence
        self.reconnects: int = 0
        self.response: ResponseInfo | None = None

    @property
    def starts_run(self) -> bool:
        """Whether opening this stream creates its run, rather than attaching to one."""
        return self._create is not None

    @property
    def gaps(self) -> list[Gap]:
        return self._cursor.gaps

    async def __anext__(self) -> RunEvent:
        for event in self._ready:
            self.sequence = event.sequence
            return event
        event = await self._advance()
        self.sequence = event.sequence
        return event

    async def _take(self) -> list[RunEvent] | None:
        batch = await super()._take()
        if batch:
            self.sequence = batch[-1].sequence
        return batch

    async def run(self) -> Run:
        """Read the stream to its end, and get the run from the service.

        Raises what iterating and `Runs.get` raise.
        """
        await self._read_to_end()
        run = await self._requests.get(self._id(), self._options, self._deadline)
        if self.final is None or run.is_terminal:
            return run
        return ended(run, self.final)  # the service's state lags behind its events

    # What OutputStream requires.

    def _known(self) -> dict[str, Any]:
        request_id = self.response.request_id if self.response is not None else None
        return {"run_id": self.run_id, "sequence": self.sequence, "request_id": request_id}

    def _failed(self, final: RunEvent) -> errors.DynamiqError:
        final = structs.replace(final, raw_data=Raw(masked_json(final.raw_data, self._key)))
        run = None if self.run_id is None else ended(Run(id=self.run_id), final)
        failure = Failure(final.canceled, final.error or "")
        return failure.error(f"run {self.run_id}", self._key, run=run, **self._known())

    async def _raw_output(self) -> Raw:
        if self.final is None or self.final.state is None:
            return (await self.run()).unwrap(Raw)
        return _json.decode(self.final.raw_data, dict[str, Raw]).get("output", Raw(b"null"))

    def _nodes(self, output: Raw) -> dict[str, Any]:
        try:
            return super()._nodes(output)
        except errors.ResponseDecodeError as error:
            message = f"{error.message}; it is not the map of a workflow's nodes"
            raise error.retold(errors.OutputMissingError, message) from error.__cause__

    def _begin_call(self) -> Call | None:
        telemetry, run_id = self._requests.api.sender.telemetry, self.run_id
        if self._create is not None:
            return telemetry.begin_stream(self._create)
        request = self._requests.stream_request(self._id(), self._cursor.sequence)
        return telemetry.begin_stream(request, RESPONSE_ID=run_id, CURSOR=self.sequence)

    def _facts(self) -> dict[str, Any]:
        status = None if self.final is None else self.final.type.removeprefix("run.")
        at = {"SEQUENCE": self.sequence, "RECONNECTS": self.reconnects or None}
        return {**super()._facts(), **at, "RESPONSE_STATUS": status}

    # Connections.

    async def _open(self) -> None:
        self._deadline = deadline_in(self._options.timeout.total)
        if self._leaving is not None:
            self._leaving.begin()
        try:
            await self._open_first()
        except errors.DynamiqError as error:
            self._locate(error)
            raise

    async def _open_first(self) -> None:
        if self._create is None:
            await self._attach(self._options)
            return
        try:
            connecting = self._connect(self._create, self._options)
            if self._leaving is None:
                await connecting
            else:
                await self._leaving.opening(connecting, self._create)
        except errors.AmbiguousOutcomeError as error:
            lost = error
        else:
            return
        await self._find_created(lost)
        await self._attach(self._options)
        self.reconnects += 1

    async def _find_created(self, lost: errors.DynamiqError) -> None:
        """After the response to the create was lost: find the run by the session made for it."""
        session = self._session_id
        run = session and await self._requests.find(session, self._options, self._deadline)
        if not run:
            raise lost
        self._named(run.id)

    async def _attach(self, options: SendOptions) -> None:
        request = self._requests.stream_request(self._id(), self._cursor.sequence)
        await self._connect(request, options.with_timeout(_with_heartbeats(options.timeout)))
        self._cursor.attached()

    async def _connect(self, request: Request, options: SendOptions) -> None:
        idle = _with_heartbeats(options.timeout).idle
        options = options.with_timeout(structs.replace(options.timeout, idle=idle))
        self._reader, self.response = await open_events(
            self._requests.api.sender,
            request,
            options,
            self._requests.decoder(self._on_bad_event),
            label=self._label,
            deadline=self._deadline,
        )

    # Events.

    async def _next(self) -> list[RunEvent] | None:
        while self.final is None and not self._over:
            if self._pending:
                return await self._hand_out()
            try:
                await self._go_on()
            except errors.DynamiqError as error:
                broken = error
            else:
                continue
            if self._closed:
                raise self._closed_error()
            self._drop_connection()
            await self._in_task(self._told(self._resume_after(broken)))
        return None

    async def _go_on(self) -> None:
        """Take the next events: those of a hole, those already received, or the network's next."""
        if self._hole is not None:
            self._pending = await self._filled(self._hole)
            self._rest, self._hole = self._hole.rest, None
        else:
            batch = self._rest or await self._receive()
            self._rest = ()
            self._pending, self._hole = self._cursor.take(batch)
        if self._pending:
            self._failures = 0

    async def _receive(self) -> list[RunEvent]:
        batch = await self._reader.batch() if self._reader is not None else None
        if batch is None:
            raise errors.StreamInterruptedError(
                f"{self._label}: the stream ended without the run's terminal event"
            )
        if self.run_id is None:
            # Our guess, from the vendor's sample events: `run.…` events have the id in their data.
            states = (event.state for event in batch)
            if (run_id := next((s.id for s in states if s and s.id), None)) is not None:
                self._named(run_id)
        return batch

    async def _hand_out(self) -> list[RunEvent]:
        """The pending events, up to the run's end or to a question for the handler. The events
        before a question are handed out before the handler is called."""
        ready: list[RunEvent] = []
        for event in self._pending:
            if event.type in DELTAS:  # most of them by far
                ready.append(event)
                continue
            if event.type in QUESTION_EVENTS:
                if ready and self._on_question is not None:
                    break
                event = await self._asked(event)
            self._note_usage(event)
            ready.append(event)
            if event.is_final:
                self.final = event
                self._stay()
                break
        self._pending = self._pending[len(ready) :]
        return ready

    async def _asked(self, event: RunEvent) -> RunEvent:
        """`event` as a `QuestionEvent`, after the handler, if any, was called with its question."""
        asked = event.question
        if asked is None or (self.run_id is None and self._on_question is None):
            return event
        question = RunQuestion.of(asked, self._requests, self._id())
        if self._on_question is not None:
            await self._in_task(self._ask(self._on_question, question))
        return QuestionEvent.of(event, question)

    async def _ask(self, handler: OnQuestion, question: RunQuestion) -> None:
        limit = asyncio.timeout_at(self._deadline)
        try:
            async with limit:
                open_now = await self._open_now(question)
                if open_now is not None:
                    await ask(handler, open_now)
        except errors.DynamiqError as error:
            self._locate(error)
            raise
        except TimeoutError:
            if not limit.expired():
                raise  # the handler raised it
        else:
            return
        raise self._explained(
            errors.APITimeoutError(
                f"{self._label}: the total limit of {self._options.timeout.total} s passed while "
                f"an answer was awaited to: {question.prompt!r}",
                limit="total",
                seconds=self._options.timeout.total,
            )
        )

    async def _open_now(self, question: RunQuestion) -> RunQuestion | None:
        """The open question that an answer to `question` would reach, or None. Only on the first
        connection of a new run is `question` surely open; later it may be an old one."""
        if self._create is not None and not self.reconnects:
            return question
        service, run_id = self._requests, question.run_id
        try:
            listed = await service.still_open(run_id, question, self._options, self._deadline)
        except errors.DynamiqError as error:
            raise self._explained(error) from error.__cause__
        return RunQuestion.of(listed, service, run_id) if listed is not None else None

    async def _filled(self, hole: Hole) -> list[RunEvent]:
        """The stored events of a hole. Within one connection the service promises that no event is
        missing, so if the lookup is refused there, the hole is passed over."""
        if self.run_id is None:
            self._cursor.pass_over(hole)
            return []
        run_id, stored = self.run_id, list[RunEvent]()

        async def look_up() -> None:
            # Urgent: without it the request might wait for the slot that this stream holds.
            found = self._requests.stored(
                run_id, hole.first, hole.last, self._options, self._deadline, urgent=True
            )
            stored.extend(await found)

        try:
            await self._in_task(self._told(look_up()))
        except (errors.APIStatusError, errors.APIResponseError) as error:
            if hole.after_break or may_pass(error):
                error.add_note(f"Events {hole.first} to {hole.last} of run {run_id} are missing.")
                raise
            self._cursor.pass_over(hole)
            return []
        return self._cursor.fill(hole, stored)

    # Resumption.

    def _drop_connection(self) -> None:
        """Close the connection. Events not yet given to the cursor are dropped: they come again."""
        self._rest, self._hole = (), None
        feed, self._reader = self._reader, None
        if feed is not None:
            if feed.decoder.retry is not None:
                self._retry_hint = min(feed.decoder.retry / 1000, MAX_RETRY_HINT)
            feed.close()

    def _can_resume(self, broken: errors.DynamiqError) -> bool:
        if not self._resume:
            return False
        if isinstance(broken, errors.EventDecodeError):
            return self._failures == 0  # bytes may be corrupted in transit, but not twice
        if (broken.retry_after or 0.0) > self._options.policy.max_wait:
            return False
        return may_pass(broken)

    async def _resume_after(self, broken: errors.DynamiqError) -> None:
        """Connect again, or find out that the run is over and get its missed events."""
        options = self._options.with_policy(max_retries=0)
        while True:
            if not self._can_resume(broken):
                raise self._explained(broken) from broken.__cause__
            if self.run_id is None:
                await self._find_created(self._never_named(broken))
            if self._failures and await self._find_over(options):
                return
            if self._failures >= self._max_resumes:
                raise self._given_up(broken) from broken
            log.debug("%s: it broke off; connecting again", self._label, extra=self._fields(broken))
            await self._pause(broken)
            self._failures += 1
            try:
                await self._attach(options)
            except errors.DynamiqError as error:
                broken = error
            else:
                self.reconnects += 1
                return

    def _fields(self, broken: errors.DynamiqError) -> dict[str, Any]:
        attempt = self._failures + 1
        return extra(broken, run_id=self.run_id, sequence=self.sequence, attempt=attempt)

    async def _pause(self, broken: errors.DynamiqError) -> None:
        policy = self._options.policy
        delay = policy.backoff(self._failures - 1) if self._failures else 0.0
        if asked := max(self._retry_hint, broken.retry_after or 0.0):
            delay = max(delay, policy.lengthen(asked))
        if self._deadline is not None:
            delay = min(delay, self._deadline - asyncio.get_running_loop().time())
        await asyncio.sleep(max(delay, 0.0))

    async def _find_over(self, options: SendOptions) -> bool:
        """Whether the run is over although its stream does not say so. If it is, the missed events
        are taken from the stored ones."""
        try:
            run = await self._requests.get(self._id(), options, self._deadline)
            if not run.is_terminal:
                return False
            position = self._cursor.sequence or 0
            stored = await self._requests.remaining(run.id, position, options, self._deadline)
        except errors.DynamiqError as error:
            if may_pass(error):
                return False
            raise self._explained(error) from error.__cause__
        last = stored[-1] if stored else None
        if last is not None and last.is_final and last.sequence <= position:
            self._over = True
            self._stay()
        self._rest = [event for event in stored if event.sequence > position]
        self._cursor.attached()
        return self._over or bool(self._rest)

    # Errors.

    def _never_named(self, broken: errors.DynamiqError) -> errors.DynamiqError:
        request_id = self.response.request_id if self.response is not None else None
        return never_named(self._label, broken, request_id)

    def _given_up(self, broken: errors.DynamiqError) -> errors.DynamiqError:
        return self._explained(
            errors.StreamInterruptedError(
                f"{broken.message}; {counted(self._failures, 'attempt')} to attach again brought "
                "no new event",
                status=broken.status,
                request_id=broken.request_id,
            )
        )

    def _explained(self, error: errors.DynamiqError) -> errors.DynamiqError:
        """`error` with the run's id and position; a lost connection becomes the matching error."""
        if isinstance(error, errors.EventDecodeError):
            error = self._requests.reported(error, self._label) or error
        if self.run_id is None and self._create is not None:
            return self._never_named(error) if may_have_run(error) else error
        if type(error) in (errors.APIConnectionError, errors.StreamInterruptedError):
            error = to_go_on(error, self.run_id, self.sequence)
        self._locate(error)
        return error

    def _locate(self, error: errors.DynamiqError) -> None:
        """Set the run's id, the position and the request id on `error`."""
        error.run_id = error.run_id or self.run_id
        error.sequence = self.sequence
        if error.request_id is None and self.response is not None:
            error.request_id = self.response.request_id


def _with_heartbeats(timeout: Timeout) -> Timeout:
    """`timeout` for a stream of a run that exists: its headers come at once, and heartbeats follow.
    A limit that the caller set stays."""
    limits = {
        name: IDLE_SECONDS
        for name in ("first_byte", "idle")
        if getattr(timeout, name) == getattr(DEFAULT_TIMEOUT, name)
    }
    return structs.replace(timeout, **limits)
