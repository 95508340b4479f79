"""The handler that turns each input into a `MapResult`, by a mode. `journaled_handler` adds
a journal."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

from dynamiq_async import errors
from dynamiq_async._tasks import cancel_requests
from dynamiq_async.batch.engine import HaltError
from dynamiq_async.batch.models import Draft

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from dynamiq_async._http.sender import Sender
    from dynamiq_async.batch.inputs import Item
    from dynamiq_async.batch.models import MapResult
    from dynamiq_async.batch.modes import Mode
    from dynamiq_async.batch.tally import Tally

OnError = Literal["return", "raise"]
Unknown = Literal["raise", "retry", "skip"]


class MapHandler:
    """Handles items without a journal."""

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


def begun(item: Item, *, include_input: bool) -> Draft:
    """The draft of an item's result, which has neither an output nor an error yet."""
    return Draft(
        key=item.key,
        index=item.index,
        started_at=datetime.now(UTC),
        input=item.input if include_input else None,
    )


def keep(error: Exception, result: Draft) -> None:
    """Make `error` the result's error, with the attempts and run id that it has."""
    # The worker's own frame would keep the whole batch alive, and does not help to find the cause.
    error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
    result.error = error
    if isinstance(error, errors.DynamiqError):
        result.attempts = error.attempts if error.attempts is not None else result.attempts
        result.run_id = error.run_id or result.run_id


def check_open(sender: Sender, error: Exception) -> None:
    """End the batch if its client was closed. It is not known whether the service took the calls
    under way, so none of them counts as failed."""
    if sender.closed and isinstance(error, errors.ClientClosedError):
        raise HaltError(error, at_once=True) from error


def unless_ended(cancelled: asyncio.CancelledError) -> errors.AmbiguousOutcomeError:
    """The error of an item whose call was cancelled by something other than the batch, which goes
    on. The batch's own cancellation is raised again."""
    if cancel_requests():
        raise cancelled
    error = errors.AmbiguousOutcomeError(
        "the call was cancelled, and not by this batch; nobody knows what became of it"
    )
    error.__cause__ = cancelled
    return error
