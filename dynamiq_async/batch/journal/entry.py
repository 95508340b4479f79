"""`Entry`: what a journal holds for one key, as readers of the journal see it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from dynamiq_async.batch.journal import error_codec

if TYPE_CHECKING:
    from dynamiq_async.errors import DynamiqError


class Entry(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a journal holds for one key.

    Attributes:
        state: "done", "failed", "running" (or running when its process died) or "unknown": the
            request was sent, and its outcome is not known.
        attempt: how often the input was begun.
        session_id: of the last attempt, where runs are made; in a job, of the key's first run.
        run_id: of its run.
        output: the App's output.
        error: the error, with the name of its class as `type`.
        attempts: how many requests the last attempt took; `seconds`: how long it took.
        started_at, finished_at: Unix time.
    """

    key: str
    state: str
    attempt: int
    session_id: str | None = None
    run_id: str | None = None
    output: msgspec.Raw | None = None
    error: msgspec.Raw | None = None
    attempts: int | None = None
    seconds: float | None = None
    started_at: float | None = None
    finished_at: float | None = None

    @property
    def failure(self) -> DynamiqError | None:
        """The error, as it was raised."""
        return None if self.error is None else error_codec.decode(bytes(self.error))
