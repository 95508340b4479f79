"""`JournalStore`: where the journal of a batch keeps its records.

A store keeps records and decides nothing: the module `state` has the rules. `SQLiteJournal` and
`MemoryJournal` are stores. A store for Postgres, Redis or another service is a class of your own
with the five methods of `JournalStore`, used as `app.map(inputs, journal=MyStore())`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, Protocol, runtime_checkable

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

RecordState = Literal["running", "done", "failed", "unknown"]

RUNNING: Final = "running"
DONE: Final = "done"
FAILED: Final = "failed"
UNKNOWN: Final = "unknown"


class Header(Struct, frozen=True, kw_only=True):
    """What a journal is for. It never changes.

    Attributes:
        job: a UUID of the journal's own, from which the sessions of its runs are derived.
        mode: "invoke", "run" or another name for what the batch does.
        app_url: the URL of the App.
        created_at: Unix time.
    """

    job: str
    mode: str
    app_url: str
    created_at: float


class Record(Struct, frozen=True, gc=False):
    """The latest attempt at one key.

    A store can encode it with msgspec, or write its fields one by one.

    Attributes:
        key: of the input. Any text that UTF-8 can hold, of any length, NUL included.
        digest: 16 bytes by which a changed input is noticed, and 8 for each option that the call
            sets, such as `user_id`.
        attempt: the number of the attempt, from 1.
        opening: a random number of up to 53 bits, the same for all records that were written
            between one `load` and its `close`.
        state: "running" until the attempt is over; then "done", "failed", or "unknown" when the
            outcome of its request is not known.
        started_at: Unix time.
        run_id: of the attempt's run, if it is known.
        attempts: how many requests the attempt took; None while it is running.
        seconds: how long it took; None while it is running.
        finished_at: Unix time; None while it is running.
        output: the App's output, as JSON. These are the server's bytes: they may be large, and are
            not always valid UTF-8, so a database column for them must hold bytes.
        error: the error, as JSON.
    """

    key: str
    digest: bytes
    attempt: int
    opening: int
    state: RecordState
    started_at: float
    run_id: str | None = None
    attempts: int | None = None
    seconds: float | None = None
    finished_at: float | None = None
    output: bytes | None = None
    error: bytes | None = None


@runtime_checkable
class JournalStore(Protocol):
    """Keeps the header and the records of one journal, one record for each key.

    Each method gets a group of records: those of all calls of the batch that gathered while the
    previous group was being written. A group has each key at most once, and at most as many records
    as the batch has calls under way. A store is fast if it uses one transaction or pipeline for
    each group.

    The records must be durable when a method returns: they outlast the death of this process, and
    whatever else the store promises to survive. The batch sends a request only after its `begin`
    has returned, and returns a result only after its `end` has.

    One `begin` and one `end` may run at the same time, for different keys. No other two calls
    overlap. All of them come from one event loop.

    A method that fails raises JournalError with a message for people, or any other exception, which
    becomes the cause of a JournalError. That ends the batch. After it only `close` is called, and
    it does not matter whether the group was written as a whole, in part or not at all. The same
    holds for a call that is cancelled, because the program ends or because the other call failed.
    A store that can lose its connection to a service needs a timeout of its own: without one the
    batch waits.

    Only one batch at a time may use a journal. A second batch would take the calls that the first
    has under way for those of a dead process. A store that can detect this refuses the second
    `load`.

    `str(store)` names the journal in messages.
    """

    async def load(self, header: Header) -> Header:
        """Open the journal and return its header. This is called before any other method.

        A journal that has a header keeps and returns it. A new journal stores `header` and returns
        that. After `close` the same store may be loaded again, perhaps in another event loop, and
        must have all its records.

        Raises:
            JournalError: the journal cannot be used, or another batch uses it. `close` is not
                called after a `load` that raised or was cancelled.
        """
        ...

    async def begin(self, records: Sequence[Record]) -> Sequence[Record]:
        """Write each record unless the journal has one for its key already; return those it has.

        A record with a higher `attempt` replaces the journal's record as a whole. A record whose
        `attempt` is not higher changes nothing, and the journal's record is returned, in any order.
        For each key, checking and writing must be one atomic step.

        A store that had to send a group twice, because the response was lost, may find its own
        records. A record that equals the given one counts as begun, whether it is returned or not.
        """
        ...

    async def end(self, records: Sequence[Record]) -> None:
        """Replace the journal's record for each key.

        Most records are of attempts that are over. One that is still "running" has got its
        `run_id`.
        """
        ...

    async def withdraw(self, before: Mapping[str, Record | None]) -> None:
        """Undo the latest `begin` of these keys, for which nothing was sent.

        Args:
            before: for each key the record that replaces the journal's record, or None to remove
                the journal's record.
        """
        ...

    async def close(self) -> None:
        """Release the journal, so that others can use it. No other call is running, and only `load`
        is called afterwards."""
        ...
