"""`Journal`: the journal as a batch in an event loop sees it.

The database lives in one thread. One group of calls is with the thread at a time, and whatever is
asked for meanwhile is the next group: the busier the batch, the larger the groups, and both sides
are woken once for each.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import sqlite3
import threading
import weakref
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from dynamiq_async.batch.journal import _database, _failures
from dynamiq_async.batch.journal._database import DONE, FAILED, UNKNOWN
from dynamiq_async.batch.journal._reader import JournalReader
from dynamiq_async.batch.journal._store import Claim, Group, Store
from dynamiq_async.errors import AmbiguousOutcomeError, InvalidArgumentError, JournalError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Coroutine


Outcome = list[Any] | JournalError

TURNS = 8
"""Turns of the event loop that a group may take to gather."""


class Journal:
    """What became of each input of a batch, written while it runs. Made by `open`.

    Of one event loop. Use it as `async with await Journal.open(...) as journal:`, or call `aclose`
    when done.
    """

    def __init__(self, thread: _Thread, facts: _database.Facts) -> None:
        self.path = thread.path
        self.facts = facts
        self._loop = asyncio.get_running_loop()
        self._thread = thread
        self._waiting: Group = []
        self._busy = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._failure: JournalError | None = None
        self._closed = False
        # Whatever happens to this object, the thread ends, and with it the lock.
        self._end = weakref.finalize(self, thread.groups.put, None)

    @classmethod
    async def open(
        cls,
        path: str | os.PathLike[str],
        *,
        mode: str,
        app_url: str,
        retry_failed: bool = False,
    ) -> Journal:
        """Open the journal at `path`; a new one where there is no file, or an empty one.

        Args:
            mode: how the batch calls the App, such as "invoke" or "run".
            app_url: of the App. A journal is for one mode and one App.
            retry_failed: begin what failed again, rather than to report it.

        Raises:
            JournalError: the file is no journal, damaged, for another mode or App, or being
                written by another process. It is left as it is.
        """
        thread = _Thread(Path(path), mode=mode, app_url=app_url, retry_failed=retry_failed)
        thread.start()
        try:
            await thread.opened.wait()
        except BaseException:
            thread.groups.put(None)
            raise
        if isinstance(thread.facts, JournalError):
            raise thread.facts
        return cls(thread, thread.facts)

    @staticmethod
    def read(path: str | os.PathLike[str]) -> JournalReader:
        """Look into the journal at `path`, also while a batch writes it.

        Raises:
            JournalError: there is none, or it is damaged.
        """
        return JournalReader(path)

    async def __aenter__(self) -> Journal:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def begin(self, key: str, digest: bytes) -> Coroutine[Any, Any, Claim]:
        """Begin the next attempt at a key. Committed when it returns.

        When it is cancelled, no attempt was begun.

        Args:
            key: of the input, which no other input of the batch has.
            digest: of the input, by which a changed one is noticed.

        Raises:
            JournalError: the key was given to another input (`key` is set), or nothing can be
                written any more.
            InvalidArgumentError: the key cannot be written as UTF-8.
        """
        if not key.isascii():
            _check_key(key)
        return self._claimed(Store.begin, key, digest)

    def again(self, key: str) -> Coroutine[Any, Any, Claim]:
        """Begin the next attempt at a key whose claim was "unknown". Committed when it returns.

        When it is cancelled, no attempt was begun.

        Raises:
            JournalError: as for `begin`.
        """
        return self._claimed(Store.again, key)

    def withdraw(self, key: str) -> None:
        """Nothing was sent for the attempt that was begun last: go back to what was before it.
        Written with what is next."""
        self._tell(Store.withdraw, key)

    def note_run(self, key: str, attempt: int, run_id: str) -> None:
        """The attempt is this run. Written with what is next."""
        self._tell(Store.note_run, key, attempt, run_id)

    def finish(
        self,
        key: str,
        attempt: int,
        *,
        output: bytes | None = None,
        error: BaseException | None = None,
        run_id: str | None = None,
        attempts: int = 1,
        seconds: float = 0.0,
    ) -> asyncio.Future[None]:
        """An attempt is over. Committed when this is done; also written when it is cancelled.

        Args:
            output: JSON.
            error: what went wrong, in place of an output. After an AmbiguousOutcomeError the key
                is "unknown", not "failed".
            run_id: of its run.
            attempts: how many requests it took.
            seconds: how long it took.

        Raises:
            JournalError: nothing can be written any more.
        """
        state, described = DONE, None
        if error is not None:
            state = UNKNOWN if isinstance(error, AmbiguousOutcomeError) else FAILED
            described = _failures.encode(error)
        return self._ask(
            Store.finish, key, attempt, state, output, described, run_id, attempts, seconds
        )

    async def aclose(self) -> None:
        """Write what is still to be written, and let others write. May be called twice.

        Raises:
            JournalError: something could not be written, and nobody was told so far.
        """
        self._closed = True
        try:
            await self._idle.wait()
        finally:
            self._end()
        await self._thread.ended.wait()
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    # --- between the event loop and the thread ---------------------------------------------------

    async def _claimed(self, act: Callable[..., Claim], *arguments: Any) -> Claim:
        asked = self._ask(act, *arguments)
        try:
            claim: Claim = await asked
        except asyncio.CancelledError:
            # The answer may have come in the same turn, and nobody knows of the attempt.
            if not (asked.cancelled() or asked.exception() or self._closed):
                self._take_back(asked.result())
            raise
        return claim

    def _take_back(self, claim: Claim) -> None:
        if claim.state in ("new", "retry"):
            self._tell(Store.withdraw, claim.key)

    def _ask(self, act: Callable[..., Any], *arguments: Any) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()
        self._add(act, arguments, future)
        return future

    def _tell(self, act: Callable[..., Any], *arguments: Any) -> None:
        self._add(act, arguments, None)

    def _add(
        self,
        act: Callable[..., Any],
        arguments: tuple[Any, ...],
        future: asyncio.Future[Any] | None,
    ) -> None:
        if self._closed:
            raise self._closed_error()
        self._waiting.append((act, arguments, future))
        if not self._busy:
            self._busy = True
            self._idle.clear()
            self._loop.call_soon(self._gather, 0, TURNS)

    def _gather(self, before: int, turns: int) -> None:
        """Hand over, but not yet while each turn of the loop brings more: a group costs much the
        same whatever its size. An idle loop turns at once, so that nobody waits in vain."""
        count = len(self._waiting)
        if count > before and turns:
            self._loop.call_soon(self._gather, count, turns - 1)
        else:
            self._hand_over()

    def _hand_over(self) -> None:
        # Nothing is begun for somebody who has left.
        group = [
            call
            for call in self._waiting
            if not (call[2] and call[2].cancelled()) or call[0] is Store.finish
        ]
        self._waiting = []
        if not group:
            self._busy = False
            self._idle.set()
        elif self._end.alive:
            self._thread.groups.put((group, weakref.WeakMethod(self._settle)))
        else:  # closing was cancelled, so the thread has not waited for this
            self._settle(group, self._closed_error())

    def _settle(self, group: Group, outcome: Outcome) -> None:
        """The thread has carried out a group, or could not."""
        failure = outcome if isinstance(outcome, JournalError) else None
        results = outcome if isinstance(outcome, list) else [outcome] * len(group)
        told = False
        for (_, _, future), result in zip(group, results, strict=True):
            if future is None:
                continue
            if future.done():
                if isinstance(result, Claim) and result.state in ("new", "retry"):
                    self._waiting.append((Store.withdraw, (result.key,), None))
            elif isinstance(result, JournalError):
                told = True
                # Each has its own, because raising an error adds to it.
                future.set_exception(copy.copy(result))
            else:
                future.set_result(result)
        if failure is not None and not told:
            self._failure = failure
        # Those who were waiting run first, and their next calls are part of the next group.
        self._loop.call_soon(self._gather, 0, TURNS)

    def _closed_error(self) -> JournalError:
        return JournalError(f"the journal {self.path} is closed")


class _Thread(threading.Thread):
    """Where the database lives, from its opening to its end.

    Attributes:
        groups: what is to be done; None: nothing more, close the journal.
        opened, ended: set in the event loop.
        facts: when it is opened, what the journal is for, or why it could not be.
    """

    def __init__(self, path: Path, **purpose: Any) -> None:
        # Nothing that is committed is lost when the interpreter leaves it behind.
        super().__init__(name=f"journal {path.name}", daemon=True)
        self.path = path
        self.groups: SimpleQueue[tuple[Group, Callable[[], Any]] | None] = SimpleQueue()
        self.opened = asyncio.Event()
        self.ended = asyncio.Event()
        self.facts: _database.Facts | JournalError = JournalError()
        self._loop = asyncio.get_running_loop()
        self._purpose = purpose

    def run(self) -> None:
        try:
            self._serve()
        finally:
            self._tell(self.ended.set)

    def _serve(self) -> None:
        retry_failed = self._purpose.pop("retry_failed")
        try:
            opened = _database.open_for_writing(self.path, **self._purpose)
        except (JournalError, sqlite3.Error, OSError) as error:
            self.facts = _database.complaint(self.path, error)
            self._tell(self.opened.set)
            return
        self.facts = opened.facts
        with contextlib.closing(Store(opened, retry_failed=retry_failed)) as store:
            self._tell(self.opened.set)
            failure: JournalError | None = None
            while (work := self.groups.get()) is not None:
                group, settle = work
                outcome: Outcome = failure or self._apply(store, group)
                if isinstance(outcome, JournalError):
                    failure = outcome
                if not self._tell(_pass_on, settle, group, outcome):
                    break
                del work, group, settle, outcome  # and with them outputs, until the next group

    def _apply(self, store: Store, group: Group) -> Outcome:
        try:
            return store.apply(group)
        except Exception as error:  # noqa: BLE001 - whoever waits is told
            return _database.complaint(self.path, error)

    def _tell(self, function: Callable[..., Any], *arguments: Any) -> bool:
        """Have the event loop call the function; whether there still is one."""
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            return False
        return True


def _pass_on(settle: Callable[[], Any], group: Group, outcome: Outcome) -> None:
    method = settle()
    if method is not None:  # else nobody is left who could wait
        method(group, outcome)


def _check_key(key: str) -> None:
    try:
        key.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgumentError(
            f"the key {key!r} cannot be written to a journal: {error.reason}", argument="key"
        ) from error
