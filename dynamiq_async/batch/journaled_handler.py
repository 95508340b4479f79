"""The handler for a batch with a journal: inputs that are done are not called again."""

from __future__ import annotations

from datetime import UTC, datetime
from time import perf_counter
from typing import TYPE_CHECKING, Any

from dynamiq_async import errors
from dynamiq_async.batch.engine import HaltError
from dynamiq_async.batch.fingerprint import digest, digest_options
from dynamiq_async.batch.map_handler import MapHandler, OnError, Unknown, check_open, keep

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from dynamiq_async._http.sender import Sender
    from dynamiq_async.batch.inputs import Item
    from dynamiq_async.batch.journal import Claim, Journal
    from dynamiq_async.batch.models import Draft
    from dynamiq_async.batch.modes import Mode
    from dynamiq_async.batch.tally import Tally


class JournaledHandler(MapHandler):
    """Handles items with a journal: an item that is done is not called again, and no result is
    returned before the journal has committed it."""

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
            if error.key is None:  # of the whole journal: a batch must not go on without it
                raise HaltError(error, at_once=True) from error
            raise

    def _attempt(
        self, result: Draft, prepared: Any, claim: Claim, started: float
    ) -> Awaitable[bool]:
        working = self._mode.work(result, prepared, _Attempt(self._journal, claim))
        return self._noted(result, claim, started, working)

    async def _settle(self, result: Draft, prepared: Any, claim: Claim, started: float) -> None:
        """Handle an item whose earlier attempt was begun, but has no recorded end."""
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
        """Record the outcome of `working`; False when it has none."""
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
    """An attempt that was claimed in the journal."""

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


def _unknown_outcome(claim: Claim) -> errors.AmbiguousOutcomeError:
    error, key = claim.error, claim.record.key
    why = f" ({error.message})" if error is not None else ""
    return errors.AmbiguousOutcomeError(
        f"the call for key {key!r} was begun in an earlier start of this job, and nobody "
        f"knows what became of it{why}. Choose: unknown='retry' calls again, unknown='skip' leaves "
        "it out",
    )
