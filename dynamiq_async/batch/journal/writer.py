"""`Journal`: the front of a store, to which a batch writes.

The store gets one group of calls at a time. Calls that come meanwhile form the next group: the
busier the batch, the larger the groups.
"""

from __future__ import annotations

import asyncio
import copy
import os
import secrets
import time
from typing import TYPE_CHECKING, Any, overload
from uuid import uuid4

from dynamiq_async.batch.journal.reader import JournalReader, JournalReaders
from dynamiq_async.batch.journal.sqlite import SQLiteJournal
from dynamiq_async.batch.journal.state import Claim, JournalState
from dynamiq_async.batch.journal.store import Header, JournalStore, Record
from dynamiq_async.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from uuid import UUID

TURNS = 8
"""Turns of the event loop that a group may take to gather."""

NEW_SECONDS = 1.0
"""A journal that is no older than this was made by this start."""


class _Group:
    """One group of calls to a store, in this order. A key is begun or ended, not both."""

    def __init__(self) -> None:
        self.withdrawn: dict[str, Record | None] = {}
        self.begun: dict[str, tuple[Record, asyncio.Future[Claim]]] = {}
        self.ended: dict[str, tuple[Record, asyncio.Future[None] | None]] = {}

    def __len__(self) -> int:
        return len(self.withdrawn) + len(self.begun) + len(self.ended)

    def drop_cancelled(self) -> list[str]:
        """Remove the begins whose callers were cancelled; return their keys."""
        dropped = [key for key, (_, future) in self.begun.items() if future.cancelled()]
        for key in dropped:
            del self.begun[key]
        return dropped

    async def commit(self, store: JournalStore) -> Sequence[Record]:
        """Write the group to the store; return the records that the store had already."""
        if self.withdrawn:
            await store.withdraw(self.withdrawn)
        begun = [record for record, _ in self.begun.values()]
        ended = [record for record, _ in self.ended.values()]
        if not ended:
            return await store.begin(begun) if begun else ()
        if not begun:
            await store.end(ended)
            return ()
        ending = asyncio.ensure_future(store.end(ended))
        try:
            held = await store.begin(begun)
            await ending
        except BaseException:
            ending.cancel()
            await asyncio.gather(ending, return_exceptions=True)
            raise
        return held

    def fail(self, failure: JournalError) -> bool:
        """Raise `failure` in all waiting callers; returns whether there was one."""
        told = False
        for _, future in (*self.begun.values(), *self.ended.values()):
            if future is not None and not future.done():
                told = True
                future.set_exception(_own(failure))
        return told


class Journal:
    """The outcome of each input of a batch, written while the batch runs. Made by `open`.

    It belongs to one event loop. Use it as `async with await Journal.open(...) as journal:`, or
    call `aclose` when done.

    Attributes:
        is_new: whether nothing used the journal before: then it does not know earlier attempts.
    """

    def __init__(self, store: JournalStore, state: JournalState, *, is_new: bool = False) -> None:
        self.is_new = is_new
        self._store = store
        self._state = state
        self._loop = asyncio.get_running_loop()
        self._waiting = _Group()
        self._writing: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._failure: JournalError | None = None  # after which nothing is written
        self._untold: JournalError | None = None

    @classmethod
    async def open(
        cls,
        store: JournalStore | str | os.PathLike[str],
        *,
        mode: str,
        app_url: str,
        retry_failed: bool = False,
        job: UUID | None = None,
    ) -> Journal:
        """Open the journal that `store` keeps, or the file at this path; or begin a new one.

        Args:
            mode: how the batch calls the App, such as "invoke" or "run".
            app_url: of the App. A journal is for one mode and one App.
            retry_failed: begin failed keys again, rather than report their errors.
            job: the UUID of the job that the journal is for, if it has one.

        Raises:
            JournalError: the file is not a journal, or the journal is damaged, in use, or for
                another mode or App. It is left unchanged.
        """
        if isinstance(store, str | os.PathLike):
            store = SQLiteJournal(store)
        new = Header(job=str(job or uuid4()), mode=mode, app_url=app_url, created_at=time.time())
        try:
            header = await store.load(new)
            same_job = job is None or header.job == str(job)
            fits = (header.mode, header.app_url) == (mode, app_url) and same_job
            if not fits:
                await store.close()
        except JournalError:
            raise
        except Exception as error:
            raise _complaint(store, error) from error
        if not fits and not same_job and header.mode == mode:
            raise JournalError(f"the journal {store} is for another job; use one journal for each")
        if not fits:
            raise JournalError(
                f"the journal {store} is for mode {header.mode!r} at {header.app_url}, not for "
                f"mode {mode!r} at {app_url}; use another journal for that"
            )
        opening = secrets.randbits(53)  # as large an integer as every JSON reader keeps
        state = JournalState(header.job, opening, retry_failed=retry_failed)
        # A store may keep the time less precisely. A new journal taken for an old one would skip a
        # search for earlier attempts; the reverse mistake is safe, it only searches once more.
        is_new = header.created_at > new.created_at - NEW_SECONDS
        return cls(store, state, is_new=is_new)

    @overload
    @staticmethod
    def read(path: str | os.PathLike[str]) -> JournalReader: ...
    @overload
    @staticmethod
    def read(
        path: str | os.PathLike[str], *more: str | os.PathLike[str]
    ) -> JournalReader | JournalReaders: ...
    @staticmethod
    def read(
        path: str | os.PathLike[str], *more: str | os.PathLike[str]
    ) -> JournalReader | JournalReaders:
        """Read the journal in the file at `path`, even while a batch writes it.

        Args:
            more: the paths of further journals, such as those of other shards. All of them are
                listed, counted and exported together.

        Raises:
            JournalError: there is no journal, or it is damaged.
        """
        return JournalReaders([path, *more]) if more else JournalReader(path)

    async def __aenter__(self) -> Journal:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def begin(self, key: str, digest: bytes) -> Coroutine[Any, Any, Claim]:
        """Begin the next attempt at a key. It is committed when this returns.

        If this is cancelled, no attempt was begun.

        Args:
            key: the input's, which no other input of the batch may have.
            digest: the input's, by which a changed input is noticed.

        Raises:
            JournalError: the key was given to another input (`key` is set), or nothing can be
                written any more.
            InvalidArgumentError: the key cannot be written as UTF-8.
        """
        return self._claimed(self._state.begin, key, digest)

    def again(self, key: str) -> Coroutine[Any, Any, Claim]:
        """Begin the next attempt at a key whose claim was "unknown". It is committed when this
        returns.

        If this is cancelled, no attempt was begun.

        Raises:
            JournalError: as for `begin`.
        """
        return self._claimed(self._state.again, key)

    def withdraw(self, key: str) -> None:
        """Undo the latest attempt, for which nothing was sent. This is written with the next
        group."""
        if self._failure is None:
            self._check_writable()
            self._withdraw(key)
            self._write()

    def note_run(self, key: str, attempt: int, run_id: str) -> None:
        """Record the id of the attempt's run. This is written with the next group."""
        record = self._state.note_run(key, attempt, run_id)
        if record is not None and self._failure is None:
            self._check_writable()
            self._waiting.ended[key] = record, None
            self._write()

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
        """Record the end of an attempt. It is committed when the future is done, and is written
        even if the future is cancelled.

        Args:
            output: JSON.
            error: the error, if there is no output. After an AmbiguousOutcomeError the key is
                "unknown", not "failed".
            run_id: of its run.
            attempts: how many requests it took.
            seconds: how long it took.

        Raises:
            JournalError: the attempt is not under way (`key` is set), or nothing can be written
                any more.
        """
        future: asyncio.Future[None] = self._loop.create_future()
        try:
            self._check_writable()
            record = self._state.end(
                key, attempt, time.time(), output, error, run_id, attempts, seconds
            )
        except JournalError as refused:
            future.set_exception(refused)
        else:
            self._waiting.ended[key] = record, future
            self._write()
        return future

    async def aclose(self) -> None:
        """Write what remains, and release the journal for others. May be called twice.

        Raises:
            JournalError: something could not be written, and no caller has got this error yet.
        """
        if self._closing is None:
            self._closing = self._loop.create_task(self._close())
        try:
            await asyncio.wait([self._closing])
        except asyncio.CancelledError:
            self._waiting.fail(self._closed_error())
            self._waiting = _Group()
            raise
        untold, self._untold = self._untold, None
        if untold is not None:
            raise untold

    # --- between the batch and the store ---------------------------------------------------------

    async def _claimed(self, begin: Callable[..., Record], *arguments: Any) -> Claim:
        self._check_writable()
        record = begin(*arguments, time.time())
        future: asyncio.Future[Claim] = self._loop.create_future()
        self._waiting.begun[record.key] = record, future
        self._write()
        try:
            return await future
        except asyncio.CancelledError:
            # The claim may have come in the same turn; then its attempt must be withdrawn.
            if not (future.cancelled() or future.exception() or self._closing):
                self._take_back(future.result())
            raise

    def _take_back(self, claim: Claim) -> None:
        if claim.to_be_made:
            self._withdraw(claim.record.key)
            self._write()

    def _withdraw(self, key: str) -> None:
        self._waiting.withdrawn[key] = self._state.withdraw(key)
        self._waiting.ended.pop(key, None)

    def _write(self) -> None:
        if self._writing is None:
            self._writing = self._loop.create_task(self._write_all())

    async def _write_all(self) -> None:
        """Write waiting calls to the store, group by group, until none waits."""
        try:
            while await self._gather():
                group, self._waiting = self._waiting, _Group()
                try:
                    for key in group.drop_cancelled():
                        self._state.withdraw(key)
                    self._settle(group, await group.commit(self._store))
                except BaseException as error:
                    self._fail(group, error)
                    if not isinstance(error, Exception):
                        raise
        finally:
            self._writing = None

    async def _gather(self) -> int:
        """Wait while each turn of the loop brings more calls: a group costs much the same whatever
        its size. An idle loop turns at once, so the wait costs nothing there."""
        for _ in range(TURNS):
            before = len(self._waiting)
            await asyncio.sleep(0)
            if len(self._waiting) == before:
                break
        return len(self._waiting)

    def _settle(self, group: _Group, held: Sequence[Record]) -> None:
        """Tell the callers of a group that the store has it. `held` are records that the store had
        already for some of the keys."""
        now = time.time()
        holding = {record.key: record for record in held}
        for key, (record, claimed) in group.begun.items():
            try:
                claim = self._state.claim(record, holding.get(key), now)
            except JournalError as error:
                if not claimed.done():
                    claimed.set_exception(error)
                continue
            if isinstance(claim, Record):
                self._waiting.begun[key] = claim, claimed
            elif not claimed.done():
                claimed.set_result(claim)
            else:
                self._take_back(claim)
        self._state.ended(group.ended)
        for _, ended in group.ended.values():
            if ended is not None and not ended.done():
                ended.set_result(None)

    def _fail(self, group: _Group, error: BaseException) -> None:
        """Raise the error in all callers. After this, nothing more is written."""
        self._failure = _complaint(self._store, error)
        waiting, self._waiting = self._waiting, _Group()
        told = [some.fail(self._failure) for some in (group, waiting)]
        if not any(told):
            self._untold = self._failure

    async def _close(self) -> None:
        try:
            if self._writing is not None:
                await asyncio.wait([self._writing])
        finally:
            try:
                await self._store.close()
            except Exception as error:  # noqa: BLE001 - `aclose` raises it
                self._untold = self._untold or _complaint(self._store, error)

    def _check_writable(self) -> None:
        if self._closing is not None:
            raise self._closed_error()
        if self._failure is not None:
            raise _own(self._failure)

    def _closed_error(self) -> JournalError:
        return JournalError(f"the journal {self._store} is closed")


def _own(failure: JournalError) -> JournalError:
    """A copy for each caller, because raising an error changes it."""
    own = copy.copy(failure)
    own.__cause__ = failure.__cause__
    return own


def _complaint(store: JournalStore, error: BaseException) -> JournalError:
    """An error of the store, as a JournalError."""
    if isinstance(error, JournalError):
        return error
    wrong = JournalError(f"the journal {store} cannot be used ({error!r})")
    wrong.__cause__ = error
    return wrong
