"""`JournalStore`: where the journal of a batch keeps its records.

A store keeps records and decides nothing: what they mean is said in `state`. `SQLiteJournal` and
`MemoryJournal` are stores; one for Postgres, Redis or another service is a class of your own with
the five methods of `JournalStore`. It is handed in as `app.map(inputs, journal=MyStore())`.
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
        mode: "invoke", "run" or what else the batch calls it.
        app_url: the URL of the App.
        created_at: Unix time.
    """

    job: str
    mode: str
    app_url: str
    created_at: float


class Record(Struct, frozen=True, gc=False):
    """What a journal holds of one key: its latest attempt.

    msgspec encodes and decodes it, and so does whatever takes its fields one by one.

    Attributes:
        key: of the input. Any text that UTF-8 can hold, of any length, NUL included.
        digest: 16 bytes by which a changed input is noticed, and 8 for each option that the call
            sets, such as `user_id`.
        attempt: the number of the attempt, from 1.
        opening: a random number of up to 53 bits, the same for all records that were written
            between one `load` and its `close`.
        state: "running" until the attempt is over; then "done", "failed", or "unknown" when
            nobody knows what became of its request.
        started_at: Unix time.
        run_id: of the attempt's run, as far as it is known.
        attempts: how many requests the attempt took; None while it is running.
        seconds: how long it took; None while it is running.
        finished_at: Unix time; None while it is running.
        output: what came out, as JSON. These are the server's bytes: they may be large, and are
            not always valid UTF-8, so a column for them is one of bytes.
        error: what went wrong, as JSON.
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

    Each method gets a group of records: those of all calls of the batch that came together while
    the group before was being written. A group has a key once at most, and as many records as the
    batch has calls under way at most. One transaction or pipeline for each group is what makes a
    store fast.

    What a method was told is durable when it returns: it outlasts the death of this process, and
    whatever else the store promises to survive. The batch sends a request only after its `begin`
    has returned, and hands a result out only after its `end` has.

    `begin` and `end` may be under way at the same time, once each and about different keys. No
    other two calls overlap. All of them come from one event loop.

    A method that cannot do its work raises, JournalError with a message for people, or any other
    exception, which becomes the cause of a JournalError. That ends the batch. The store is not
    called again then but for `close`, and it does not matter whether the group was written as a
    whole, in part or not at all. The same holds for a call that is cancelled: when the program
    ends, or because a call beside it failed. A store that can be cut off from its service needs a
    timeout of its own: without one the batch waits.

    One batch at a time may use a journal. To another one, what the first has under way looks as if
    its process had died. A store that can tell refuses the second `load`.

    `str(store)` names the journal in messages.
    """

    async def load(self, header: Header) -> Header:
        """Open the journal, before anything else is asked, and return its header.

        A journal that has a header keeps it, and returns that one. One that has none, because it
        is new, takes `header` for its own. After `close` the same store may be loaded again, in
        another event loop perhaps, and has all that it had.

        Raises:
            JournalError: the journal cannot be used, or another batch uses it. `close` is not
                called after a `load` that raised or was cancelled.
        """
        ...

    async def begin(self, records: Sequence[Record]) -> Sequence[Record]:
        """Take in each record unless the journal has one of its key already; return those it has.

        A record with a higher `attempt` replaces the one that the journal has, as a whole. One
        whose `attempt` is not higher changes nothing, and the journal's own is returned, in any
        order. Whether there is one, and the writing, are one atomic step for each key.

        A store that had to send a group twice, because the answer was lost, may find its own
        records: one that equals what it was given counts as begun, returned or not.
        """
        ...

    async def end(self, records: Sequence[Record]) -> None:
        """Put each record in place of the one that the journal has of its key.

        Most are of attempts that are over. One that is still "running" now knows its `run_id`.
        """
        ...

    async def withdraw(self, before: Mapping[str, Record | None]) -> None:
        """Undo the latest `begin` of these keys, for which nothing was sent.

        Args:
            before: for each key the record to put in place of the one that the journal has, or
                None to remove that.
        """
        ...

    async def close(self) -> None:
        """Let go of the journal, so that others can use it. Nothing is under way, and only `load`
        is called after it."""
        ...
