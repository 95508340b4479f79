"""One input after another, in a mode, with or without a journal: each becomes a `MapResult`."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

from dynamiq_async import errors
from dynamiq_async._tasks import cancel_requests
from dynamiq_async.batch.engine import HaltError
from dynamiq_async.batch.fingerprint import digest, digest_options
from dynamiq_async.batch.models import Draft

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from dynamiq_async._http.sender import Sender
    from dynamiq_async.batch.inputs import Item
    from dynamiq_async.batch.journal import Claim, Journal
    from dynamiq_async.batch.models import MapResult
    from dynamiq_async.batch.modes import Mode
    from dynamiq_async.batch.tally import Tally

OnError = Literal["return", "raise"]
Unknown = Literal["raise", "retry", "skip"]


class MapJob:
    """Items without a journal."""

    def __init__(
        self,
        mode: Mode,
        tally: Tally,
        sender: Sender,
        *,
        on_error: OnError,
        include_input: bool,
    ) -> None:
        self._mode = mode
        self._sender = sender
        self._tally = tally
        self._raises = on_error == "raise"
        self._include_input = include_input

    async def open(self) -> None:
        """Nothing is needed."""

    async def aclose(self) -> None:
        """Nothing is left."""

    async def __call__(self, item: Item) -> MapResult[Any]:
        draft = begun(item, include_input=self._include_input)
        started = perf_counter()
        try:
            if item.error is not None:
                raise item.error
            await self._work(draft, item, started)
        except HaltError:
            raise
        except asyncio.CancelledError as error:
            keep(unless_ended(error), draft)
        except Exception as error:  # noqa: BLE001 - the item's result
            check_open(self._sender, error)
            keep(error, draft)
        ended = perf_counter()
        if not draft.from_journal:
            draft.seconds = ended - started
        result = draft.finished()
        self._tally.count(result, ended)
        if self._raises and result.error is not None:
            result.error.add_note(f"This is the error of input {item.index}, key {item.key!r}.")
            raise result.error
        return result

    def _work(self, result: Draft, item: Item, started: float) -> Awaitable[object]:
        mode = self._mode
        return mode.work(result, mode.prepare(item.input), None)


class JournaledJob(MapJob):
    """Items with a journal: what is done is not done again, and no result is handed out before it
    is committed."""

    def __init__(
        self,
        mode: Mode,
        tally: Tally,
        sender: Sender,
        opening: Callable[[], Awaitable[Journal]],
        options: Mapping[str, Any],
        *,
        on_error: OnError,
        include_input: bool,
        unknown: Unknown,
    ) -> None:
        super().__init__(mode, tally, sender, on_error=on_error, include_input=include_input)
        self._opening = opening
        self._options = digest_options(options)
        self._unknown = unknown
        self._opened: Journal | None = None

    async def open(self) -> None:
        self._opened = await self._opening()

    async def aclose(self) -> None:
        if self._opened is not None:
            await self._opened.aclose()

    @property
    def _journal(self) -> Journal:
        assert self._opened is not None  # noqa: S101 - opened before the first item
        return self._opened

    async def _work(self, result: Draft, item: Item, started: float) -> None:
        prepared = self._mode.prepare(item.input)
        try:
            claim = await self._journal.begin(str(item.key), digest(item.input) + self._options)
            if claim.state in ("done", "failed"):
                self._recall(result, claim)
            elif claim.state == "unknown":
                await self._settle(result, prepared, claim, started)
            else:
                await self._attempt(result, prepared, claim, started)
        except errors.JournalError as error:
            if error.key is None:  # it is about no item: without its journal a batch must not go on
                raise HaltError(error, at_once=True) from error
            raise

    def _attempt(
        self, result: Draft, prepared: Any, claim: Claim, started: float
    ) -> Awaitable[bool]:
        working = self._mode.work(result, prepared, _Attempt(self._journal, claim))
        return self._noted(result, claim, started, working)

    async def _settle(self, result: Draft, prepared: Any, claim: Claim, started: float) -> None:
        """An earlier attempt was begun, and its end was not noted."""
        if self._mode.traceable:
            recovering = self._mode.recover(result, prepared, claim.session_id, claim.record.run_id)
            if await self._noted(result, claim, started, recovering):
                return
        elif self._unknown != "retry":
            error = _unknown_outcome(claim)
            if self._unknown == "raise":
                raise HaltError(error)
            raise error
        again = await self._journal.again(claim.record.key)
        await self._attempt(result, prepared, again, started)

    async def _noted(
        self,
        result: Draft,
        claim: Claim,
        started: float,
        working: Awaitable[bytes | None],
    ) -> bool:
        """Note what comes of it; False when nothing does."""
        output: bytes | None = None
        failure: Exception | None = None
        try:
            output = await working
        except HaltError:
            raise
        except Exception as error:  # noqa: BLE001 - the item's result
            check_open(self._sender, error)
            keep(error, result)
            if self._mode.single and self._tally.rules.spares(error):
                self._journal.withdraw(claim.record.key)
                return True
            failure = error
        if output is None and failure is None:
            return False
        await self._journal.finish(
            claim.record.key,
            claim.record.attempt,
            output=output,
            error=failure,
            run_id=result.run_id,
            attempts=result.attempts or 0,
            seconds=perf_counter() - started,
        )
        return True

    def _recall(self, result: Draft, claim: Claim) -> None:
        record = claim.record
        result.from_journal = True
        result.run_id = record.run_id
        result.attempts = record.attempts or None
        result.seconds = record.seconds or 0.0
        result.started_at = datetime.fromtimestamp(record.started_at, UTC)
        result.error = claim.error
        if result.error is None:
            result.output = self._mode.recall(record.output or b"null")


class _Attempt:
    """One attempt, as the journal has claimed it."""

    __slots__ = ("_claim", "_journal")

    def __init__(self, journal: Journal, claim: Claim) -> None:
        self._journal = journal
        self._claim = claim

    @property
    def session_id(self) -> str:
        return self._claim.session_id

    @property
    def fresh(self) -> bool:
        return self._claim.state == "new" and not self._journal.is_new

    def note_run(self, run_id: str) -> None:
        record = self._claim.record
        self._journal.note_run(record.key, record.attempt, run_id)

    def withdraw(self) -> None:
        self._journal.withdraw(self._claim.record.key)


def begun(item: Item, *, include_input: bool) -> Draft:
    """The result of an item, of which nothing is known yet."""
    return Draft(
        key=item.key,
        index=item.index,
        started_at=datetime.now(UTC),
        input=item.input if include_input else None,
    )


def keep(error: Exception, result: Draft) -> None:
    """Make `error` the result, with what it tells."""
    # The worker's own frame would keep the whole batch alive, and tells nothing.
    error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
    result.error = error
    if isinstance(error, errors.DynamiqError):
        result.attempts = error.attempts if error.attempts is not None else result.attempts
        result.run_id = error.run_id or result.run_id


def check_open(sender: Sender, error: Exception) -> None:
    """Begin nothing more with a client that was closed. Whether the service took up what was under
    way is not known, so none of it counts as failed."""
    if sender.closed and isinstance(error, errors.ClientClosedError):
        raise HaltError(error, at_once=True) from error


def unless_ended(cancelled: asyncio.CancelledError) -> errors.AmbiguousOutcomeError:
    """The error of an item whose call was cancelled by another than the batch, which holds up
    nobody. The batch's own cancellation is raised on."""
    if cancel_requests():
        raise cancelled
    error = errors.AmbiguousOutcomeError(
        "the call was cancelled, and not by this batch; nobody knows what became of it"
    )
    error.__cause__ = cancelled
    return error


def _unknown_outcome(claim: Claim) -> errors.AmbiguousOutcomeError:
    error, key = claim.error, claim.record.key
    why = f" ({error.message})" if error is not None else ""
    return errors.AmbiguousOutcomeError(
        f"the call for key {key!r} was begun in an earlier start of this job, and nobody "
        f"knows what became of it{why}. Choose: unknown='retry' calls again, unknown='skip' leaves "
        "it out",
    )
