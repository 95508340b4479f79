"""`JournalState`: the states of a journal's keys, and the rules by which they change.

It does no I/O: it gets the time and the store's records, and returns the records to write next.

A key that was begun is running until its attempt has ended: done, failed or unknown. A key that an
earlier start of the job left running or unknown has an unknown outcome: its attempt can still be
ended, or the key begun again. A failed key can be begun again. A done key stays done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal
from uuid import UUID, uuid5

from msgspec import Struct, structs

from dynamiq_async.batch.fingerprint import INPUT_DIGEST, OPTIONS, options_in
from dynamiq_async.batch.journal import error_codec
from dynamiq_async.batch.journal.store import (
    DONE,
    FAILED,
    RUNNING,
    UNKNOWN,
    Record,
    RecordState,
)
from dynamiq_async.errors import (
    AmbiguousOutcomeError,
    DynamiqError,
    InvalidArgumentError,
    JournalError,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

ClaimState = Literal["new", "retry", "done", "failed", "unknown"]


class Claim(Struct, frozen=True):
    """What `Journal.begin` returns for a key.

    Attributes:
        state: "new" or "retry": make this attempt now. "done" or "failed": the attempt was made,
            with this output or error. "unknown": the attempt was begun, and its end was not
            recorded.
        record: of the attempt.
        job: the UUID of the journal.
    """

    state: ClaimState
    record: Record
    job: str

    @property
    def to_be_made(self) -> bool:
        """Whether the attempt is to be made now."""
        return self.state in ("new", "retry")

    @property
    def session_id(self) -> str:
        """A session for this attempt alone. It is the same every time."""
        return session_of(self.job, self.record.key, self.record.attempt)

    @property
    def error(self) -> DynamiqError | None:
        """The error that was raised; in state "unknown", the reason why the outcome is unknown."""
        error = self.record.error
        return None if error is None else error_codec.decode(error)


def session_of(job: str, key: str, attempt: int) -> str:
    """The session of an attempt. By it, a run whose create response was lost is found again."""
    return str(uuid5(UUID(job), f"{attempt}:{key}"))


class JournalState:
    """The keys that one batch has begun and not ended, and the rules for all keys.

    The caller has to write each record that a method returns to the store, and the records of a key
    in the order in which they were returned.

    Args:
        job: the UUID of the journal.
        opening: the number that distinguishes this use of the journal from others.
        retry_failed: begin failed keys again.
    """

    def __init__(self, job: str, opening: int, *, retry_failed: bool = False) -> None:
        self._job = job
        self._opening = opening
        self._retry_failed = retry_failed
        self._running: dict[str, Record] = {}  # as many as are under way
        self._ending: dict[str, Record] = {}  # over, until the store has them
        self._before: dict[str, Record] = {}  # for keys begun again: what `withdraw` restores

    def begin(self, key: str, digest: bytes, now: float) -> Record:
        """The record of a first attempt. Pass it to the store's `begin`, then call `claim`.

        Raises:
            JournalError: the key belongs to another input of this batch, or to a changed input.
            InvalidArgumentError: the key cannot be written as UTF-8.
        """
        held = self._running.get(key) or self._ending.get(key)
        if held is not None:
            self._check_input(held, digest)
            raise _given_twice(key)
        if not key.isascii():
            _check_text(key)
        record = Record(key, digest, 1, self._opening, RUNNING, now)
        self._running[key] = record
        return record

    def claim(self, begun: Record, held: Record | None, now: float) -> Claim | Record:
        """Decide what to do about a key after the store's `begin`.

        Args:
            begun: the record that was passed to the store.
            held: the record that the store had already and therefore kept.

        Returns:
            The claim; or a record to pass to the store's `begin` before calling this again.

        Raises:
            JournalError: the key belongs to another input of this batch, or to a changed input.
        """
        if held is None or held == begun:
            return Claim("new" if begun.attempt == 1 else "retry", begun, self._job)
        del self._running[begun.key]
        self._before.pop(begun.key, None)
        self._check_input(held, begun.digest)
        if held.opening == self._opening:
            raise _given_twice(held.key)
        if held.state == DONE:
            return Claim("done", held, self._job)
        if held.state == FAILED and not self._retry_failed:
            return Claim("failed", held, self._job)
        self._running[held.key] = held
        if held.state == FAILED:
            return self.again(held.key, now)
        return Claim("unknown", held, self._job)

    def again(self, key: str, now: float) -> Record:
        """The record of the attempt after one of unknown outcome. Pass it to the store's `begin`,
        then call `claim`.

        Raises:
            JournalError: the key is not under way.
        """
        before = self._under_way(key)
        record = Record(key, before.digest, before.attempt + 1, self._opening, RUNNING, now)
        self._running[key], self._before[key] = record, before
        return record

    def withdraw(self, key: str) -> Record | None:
        """Undo the latest attempt, for which nothing was sent. Returns the record before it.

        Raises:
            JournalError: the key is not under way.
        """
        del self._running[self._under_way(key).key]
        return self._before.pop(key, None)

    def note_run(self, key: str, attempt: int, run_id: str) -> Record | None:
        """The record of the attempt with its run's id, for the store's `end`; None when the attempt
        is over."""
        record = self._running.get(key)
        if record is None or record.attempt != attempt:
            return None
        record = structs.replace(record, run_id=run_id, opening=self._opening)
        self._running[key] = record
        return record

    def end(
        self,
        key: str,
        attempt: int,
        now: float,
        output: bytes | None = None,
        error: BaseException | None = None,
        run_id: str | None = None,
        attempts: int = 1,
        seconds: float = 0.0,
    ) -> Record:
        """The record of an attempt that is over. Pass it to the store's `end`, then call `ended`.

        The arguments are those of `Journal.finish`.

        Raises:
            JournalError: the attempt is not under way.
        """
        record = self._under_way(key, attempt)
        state: RecordState = DONE
        described = None
        if error is not None:
            state = UNKNOWN if isinstance(error, AmbiguousOutcomeError) else FAILED
            described = error_codec.encode(error)
        record = Record(
            key,
            record.digest,
            attempt,
            self._opening,
            state,
            record.started_at,
            run_id or record.run_id,
            attempts,
            seconds,
            now,
            output,
            described,
        )
        del self._running[key]
        self._before.pop(key, None)
        self._ending[key] = record
        return record

    def ended(self, keys: Iterable[str]) -> None:
        """Note that the store has the records of these keys' attempts that are over."""
        for key in keys:
            self._ending.pop(key, None)

    def _under_way(self, key: str, attempt: int | None = None) -> Record:
        record = self._running.get(key)
        if record is None or attempt not in (None, record.attempt):
            raise JournalError(f"attempt {attempt} at key {key!r} is not under way", key=key)
        return record

    def _check_input(self, held: Record, digest: bytes) -> None:
        if held.digest == digest:
            return
        if held.digest[:INPUT_DIGEST] != digest[:INPUT_DIGEST]:
            raise JournalError(
                f"the journal knows key {held.key!r} with another input. A journal belongs to its "
                "inputs: use a new one for those that were changed. So that inputs can be added "
                "or left out later on, take keys from the inputs themselves (key=…): without, a "
                "key is an input's position",
                key=held.key,
            )
        before, now = options_in(held.digest), options_in(digest)
        names = " and ".join(name for name in OPTIONS if before.get(name) != now.get(name))
        raise JournalError(
            f"the journal knows key {held.key!r} with another {names}; use another journal for "
            "that, or the options that it was begun with",
            key=held.key,
        )


def _given_twice(key: str) -> JournalError:
    return JournalError(f"key {key!r} was given to two inputs of this batch", key=key)


def _check_text(key: str) -> None:
    try:
        key.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgumentError(
            f"the key {key!r} cannot be written to a journal: {error.reason}", argument="key"
        ) from error
