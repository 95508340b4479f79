"""The stream of a run: every event once, in order, to the run's end, whatever the network does.

The connection is only a means. When it breaks, the stream attaches again behind the last event it
handed out; the cursor drops what comes twice; a hole is looked up among the stored events; and
when a break hides that the run is over, its state says so. What it cannot make good is an error
that names the run and the position. The request that created the run is never sent again.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar, overload

from dynamiq_async import _json, errors
from dynamiq_async._cursor import Cursor, Gap, Hole
from dynamiq_async._feed import Feed, IdleWatch, event_stream_info
from dynamiq_async._retry import Outcome, outcome
from dynamiq_async._run_service import RunService, single_attempt
from dynamiq_async._stream import EventStream
from dynamiq_async.questions import OnQuestion, Question, QuestionEvent, ask
from dynamiq_async.runs_models import (
    QUESTION_EVENTS,
    RUN_STARTED,
    TERMINAL_EVENTS,
    Run,
    RunEvent,
    run_event,
)
from dynamiq_async.sse import SSEDecoder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dynamiq_async._calls import CallOptions
    from dynamiq_async._request import Request
    from dynamiq_async.models import ResponseInfo

T = TypeVar("T")

ENDLESS = 2**63

IDLE_SECONDS = 60.0
"""The service sends a heartbeat after 15 s of silence (documented), so this is a dead peer."""

# The types that mean something to the stream itself; all others are only handed on.
_NOTED = QUESTION_EVENTS | TERMINAL_EVENTS | {RUN_STARTED}

MAX_RETRY_HINT = 30.0
"""Seconds; a server's `retry:` beyond it is not waited for."""


class RunStream(EventStream[RunEvent]):
    """The events of a run, from `Runs.stream` and `Runs.follow`.

    Iteration ends behind the run's terminal event. Questions come as `QuestionEvent`, which can be
    answered.

    Attributes:
        run_id: the run's id, once it is known.
        sequence: of the last event handed out: what `follow(after_sequence=…)` goes on behind.
        final: the terminal event, once it has been read.
        reconnects: how often the connection was made anew.
        gaps: sequence numbers that were passed over because there is nothing behind them.
        response: status, headers and request id of the latest connection.
    """

    def __init__(
        self,
        service: RunService,
        options: CallOptions,
        *,
        create: Request | None = None,
        run_id: str | None = None,
        after_sequence: int | None = None,
        session_id: str | None = None,
        resume: bool = True,
        max_resumes: int = 5,
        on_question: OnQuestion | None = None,
    ) -> None:
        super().__init__(str(create) if create is not None else f"run {run_id}")
        self._service = service
        self._options = options
        self._create = create
        self._session_id = session_id
        self._resume = resume
        self._max_resumes = max_resumes
        self._on_question = on_question
        self._cursor = Cursor(after_sequence)
        self._rest: Sequence[RunEvent] = ()
        self._hole: Hole | None = None
        self._failures = 0
        self._retry_hint = 0.0
        self._deadline: float | None = None
        self._over: Run | None = None
        self.run_id = run_id
        self.sequence = after_sequence
        self.final: RunEvent | None = None
        self.reconnects = 0
        self.response: ResponseInfo | None = None

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
        """Read to the end, and get the run from the service.

        Raises:
            What iterating and `Runs.get` raise.
        """
        await self._read_to_end()
        return self._over or await self._service.get(self._id(), self._options, self._deadline)

    @overload
    async def output(self) -> Any: ...
    @overload
    async def output(self, *, output_type: type[T]) -> T: ...
    async def output(self, *, output_type: Any = Any) -> Any:
        """Read to the end and return the run's output, as `output_type`.

        Raises:
            RunFailedError, RunCanceledError: the run ended so.
            ResponseDecodeError: the output does not fit `output_type`.
        """
        await self._read_to_end()
        state = self.final.state if self.final is not None else None
        if self.final is None or self.final.type != "run.completed" or state is None:
            return (await self.run()).unwrap(output_type)
        return Run(id=self._id(), status="completed", output=state.output).unwrap(output_type)

    async def _read_to_end(self) -> None:
        while self.final is None or not self.closed:
            if await self._take() is None:
                return

    def _id(self) -> str:
        if self.run_id is None:
            raise errors.StreamError(f"{self._label}: the run has not told its id yet")
        return self.run_id

    # Connections.

    async def _open(self) -> None:
        total = self._options.timeout.total
        if total is not None:
            self._deadline = asyncio.get_running_loop().time() + total
        if self._create is None:
            await self._attach(self._options)
            return
        try:
            await self._connect(self._create, self._options)
        except errors.AmbiguousOutcomeError as error:
            lost = error
        else:
            return
        await self._find_created(lost)

    async def _find_created(self, lost: errors.DynamiqError) -> None:
        """The answer to the create was lost: find the run by the session made for it."""
        session = self._session_id
        run = session and await self._service.find(session, self._options, self._deadline)
        if not run:
            raise lost
        self.run_id = run.id
        await self._attach(self._options)
        self.reconnects += 1

    async def _attach(self, options: CallOptions) -> None:
        request = self._service.stream_request(self._id(), self._cursor.sequence)
        await self._connect(request, options)
        self._cursor.attached()

    async def _connect(self, request: Request, options: CallOptions) -> None:
        lease = await self._service.caller.open(request, options, deadline=self._deadline)
        idle, total = options.timeout.idle, options.timeout.total
        try:
            self.response = await event_stream_info(lease, self._label, self._service.caller.key)
            watch = IdleWatch(
                lease.response,
                self._label,
                idle=min(idle, IDLE_SECONDS) if idle is not None else None,
                total=total,
                deadline=self._deadline,
            )
        except BaseException:
            lease.close()
            raise
        decoder = SSEDecoder(
            RunEvent, max_event_bytes=self._service.max_event_bytes, recover=_fit_or_raise
        )
        self._feed = Feed(lease, decoder, watch)

    # Events.

    @property
    def _complete(self) -> bool:
        return self.final is not None or self._ended

    async def _next(self) -> list[RunEvent] | None:
        while self.final is None:
            if self._hole is not None:
                hole, self._hole = self._hole, None
                events = await self._filled(hole)
                self._rest = hole.rest
            else:
                batch = self._rest or await self._receive()
                if batch is None:
                    return None
                self._rest = ()
                events, self._hole = self._cursor.take(batch)
            if events:
                self._failures = 0
                return await self._hand_out(events)
        return None

    async def _hand_out(self, events: list[RunEvent]) -> list[RunEvent]:
        handed: list[RunEvent] = []
        for event in events:
            if event.type not in _NOTED:
                handed.append(event)
                continue
            if event.type == RUN_STARTED and self.run_id is None and event.state is not None:
                self.run_id = event.state.id  # our guess, from the vendor's sample events
            request = event.question
            if request is None:
                handed.append(event)
            else:
                question = Question(self._service, self._id(), request)
                handed.append(QuestionEvent.of(event, question))
                await self._ask(question)
            if event.is_terminal:
                self.final = event
                break
        return handed

    async def _ask(self, question: Question) -> None:
        if self._on_question is None:
            return None
        try:
            async with asyncio.timeout_at(self._deadline):
                return await ask(self._on_question, question)
        except errors.DynamiqError:
            raise
        except TimeoutError:
            if self._deadline is None or asyncio.get_running_loop().time() < self._deadline:
                raise  # the handler's own
        raise self._explained(
            errors.APITimeoutError(
                f"{self._label}: the total limit of {self._options.timeout.total} s passed while "
                f"an answer was awaited to: {question.prompt!r}",
                limit="total",
                seconds=self._options.timeout.total,
            )
        )

    async def _filled(self, hole: Hole) -> list[RunEvent]:
        """The stored events of a hole. That nobody can tell what it held is an error only after
        a break; within one connection the service itself promises that nothing is missing."""
        stored: list[RunEvent] = []

        async def look_up() -> None:
            found = self._service.stored(self._id(), hole, self._options, self._deadline)
            stored.extend(await found)

        try:
            await self._in_task(look_up())
        except (errors.StreamClosedError, errors.ClientClosedError):
            raise
        except errors.DynamiqError as error:
            if hole.after_break or _limit(error) == "total":
                raise self._explained(error) from error.__cause__
            self._cursor.pass_over(hole)
            return []
        return self._cursor.fill(hole, stored)

    async def _receive(self) -> Sequence[RunEvent] | None:
        """What comes next, over as many connections as it takes; None when the run turns out to
        be over and has nothing further to say."""
        while self._over is None:
            try:
                batch = await self._feed.batch() if self._feed is not None else None
            except errors.DynamiqError as error:
                broken = error
            else:
                if batch is not None:
                    return batch
                broken = errors.StreamInterruptedError(
                    f"{self._label}: the stream ended without the run's terminal event"
                )
            self._drop_connection()
            if not self._can_resume(broken):
                raise self._explained(broken) from broken.__cause__
            await self._in_task(self._resume_after(broken))
        # Once, what was missed of a run that is over; then nothing.
        return self._rest or None

    def _drop_connection(self) -> None:
        feed, self._feed = self._feed, None
        if feed is not None:
            if feed.decoder.retry is not None:
                self._retry_hint = min(feed.decoder.retry / 1000, MAX_RETRY_HINT)
            feed.close()

    def _can_resume(self, broken: errors.DynamiqError) -> bool:
        if not self._resume or _limit(broken) == "total":
            return False
        if isinstance(broken, errors.EventDecodeError):
            return self._failures == 0  # bytes may be garbled on the way, but not twice
        if isinstance(broken, errors.APIStatusError):
            return outcome(broken) is not Outcome.FINAL
        return isinstance(broken, errors.APIConnectionError | errors.APITimeoutError)

    async def _resume_after(self, broken: errors.DynamiqError) -> None:
        """Attach again, or find out that the run is over and get what was missed of it."""
        if self.run_id is None:
            await self._find_created(self._never_named(broken))
            return
        options = single_attempt(self._options)
        while True:
            if self._failures and await self._find_over(options):
                return
            if self._failures >= self._max_resumes:
                raise self._explained(broken) from broken.__cause__
            await self._pause(broken)
            self._failures += 1
            try:
                await self._attach(options)
            except errors.DynamiqError as error:
                if not self._can_resume(error):
                    raise self._explained(error) from error.__cause__
                broken = error
            else:
                self.reconnects += 1
                return

    async def _pause(self, broken: errors.DynamiqError) -> None:
        policy = self._options.policy
        delay = policy.backoff(self._failures - 1) if self._failures else 0.0
        delay = max(delay, self._retry_hint)
        if broken.retry_after is not None:
            delay = max(delay, min(broken.retry_after, policy.max_wait))
        if self._deadline is not None:
            delay = min(delay, self._deadline - asyncio.get_running_loop().time())
        await asyncio.sleep(max(delay, 0.0))

    async def _find_over(self, options: CallOptions) -> bool:
        """Whether the run is over although its stream does not say so. Then what was missed comes
        from the stored events."""
        try:
            run = await self._service.get(self._id(), options, self._deadline)
            if not run.is_terminal:
                return False
            rest = Hole((self._cursor.sequence or 0) + 1, ENDLESS, True, ())
            self._rest = await self._service.stored(run.id, rest, options, self._deadline)
        except errors.DynamiqError as error:
            if not self._can_resume(error):
                raise self._explained(error) from error.__cause__
            return False
        self._over = run
        return True

    def _never_named(self, broken: errors.DynamiqError) -> errors.DynamiqError:
        return errors.AmbiguousConnectionError(
            f"{self._label}: the run was created, and the stream broke before it told its id: "
            f"{broken.message}. With dedupe=True it could have been found again",
            request_id=self.response.request_id if self.response is not None else None,
        )

    def _explained(self, error: errors.DynamiqError) -> errors.DynamiqError:
        """`error` with what this stream knows; a broken connection as what it means here."""
        if self.run_id is None and self._create is not None:
            return self._never_named(error) if outcome(error) is Outcome.UNKNOWN else error
        if type(error) in (errors.APIConnectionError, errors.StreamInterruptedError):
            after = self._cursor.sequence
            error = errors.StreamInterruptedError(
                f"{error.message}. Go on with runs.follow({self.run_id!r}"
                f"{f', after_sequence={after}' if after else ''})"
            )
        error.run_id = self.run_id
        error.sequence = self._cursor.sequence
        if error.request_id is None and self.response is not None:
            error.request_id = self.response.request_id
        return error


def _limit(error: errors.DynamiqError) -> str | None:
    return error.limit if isinstance(error, errors.APITimeoutError) else None


def _fit_or_raise(data: bytes, _: Exception) -> RunEvent | None:
    try:
        return run_event(data)
    except _json.DECODE_ERRORS as error:
        shown = data[:200].decode("utf-8", "replace")
        raise errors.EventDecodeError(
            f"an event of a run is broken: {error}; it begins: {shown!r}", data=data
        ) from error
