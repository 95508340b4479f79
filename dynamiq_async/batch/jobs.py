"""The runs of a `job=`: one run that counts for each input, which any process can find again.

The session of an input's run is derived from the job's name and the input's key alone, so the
service is the journal: any process that takes up the job, on any machine and after any crash, finds
the run that was made for a key, and follows it. If two processes attempt a key at once, neither may
see the other's run in the list yet. Then two runs begin, and one counts: the first that was not
canceled, by start time and then id. A process that sees another run cancels it.

This relies on lists that show a run within the settling time, and on a `started_at` that does not
change: both are our guess. A key for idempotent creates at the service would make it certain.
"""

from __future__ import annotations

import asyncio
import logging
import re
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid5

import msgspec

from dynamiq_async import _json, errors
from dynamiq_async._http.status import may_pass
from dynamiq_async._json import encode_object
from dynamiq_async._telemetry import extra
from dynamiq_async.batch.modes import RunToEnd, unseen
from dynamiq_async.runs.models import time_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dynamiq_async.batch.models import Draft, Key
    from dynamiq_async.batch.modes import Attempt
    from dynamiq_async.runs.models import Run

NS: Final = UUID("8d4f6a2e-5f0b-5c1e-9a57-0e6f3b1c7d24")
"""The namespace of all jobs. The session of an input's run is `uuid5(uuid5(NS, job), str(key))`."""

LIST_LAG = 2.0
"""Seconds for which a list may lag behind, by default."""

_PAGE_SIZE = 100
_PAUSES = (0.05, 0.5)
_RETRY = r"\n[0-9]+\Z"
_LAST = datetime.max.replace(tzinfo=UTC)

log: logging.Logger = logging.getLogger("dynamiq_async")


def job_id(job: str) -> UUID:
    """The namespace of one job's sessions.

    Raises:
        InvalidArgumentError: `job` is not a non-empty string.
    """
    if not isinstance(job, str) or not job:
        raise errors.InvalidArgumentError(
            f"job must be a name, the same in every start of the job, not {job!r}", argument="job"
        )
    return _uuid5(NS, job, "job")


def job_session(job: str, key: Key, *, retry: int = 0) -> str:
    """The session of the run that a job makes for a key. Any process can find the run by it.

    Args:
        job: the job's name.
        key: the input's. 1 and "1" are the same.
        retry: 0 for the first run; n for the one that `retry_failed` made when n had failed.

    Raises:
        InvalidArgumentError: the job or the key cannot be used.
    """
    return _session(job_id(job), str(key), retry)


def _session(job: UUID, key: str, retry: int) -> str:
    return str(_uuid5(job, f"{key}\n{retry}" if retry else key, "key"))


def _uuid5(namespace: UUID, name: str, argument: str) -> UUID:
    try:
        return uuid5(namespace, name)
    except UnicodeEncodeError as error:
        raise errors.InvalidArgumentError(
            f"the {argument} {name!r} cannot be written as UTF-8", argument=argument
        ) from error


class JobRuns(RunToEnd):
    """A background run for each input: one that counts on any number of machines.

    If a run exists, it is followed, whatever its state; otherwise one is made. With `retry_failed`,
    a failed run gets a successor, with a session of its own.
    """

    name = "job"

    def __init__(self, *given: Any, job: UUID, retry_failed: bool, settle: float) -> None:
        super().__init__(*given, session_id=None, settle=settle, on_leave="detach")
        self._job = job
        self._retry_failed = retry_failed

    async def work(self, result: Draft, prepared: Any, attempt: Attempt | None) -> bytes | None:
        """Follow the run that counts for the key, or make it."""
        key = _checked_key(result.key)
        if attempt is not None and attempt.fresh:
            standing, session = None, _session(self._job, key, 0)
        else:
            with _withdrawn(attempt):
                standing, session = await self._standing(key, prepared)
        if standing is None:
            made = await self._create(prepared, session, attempt)
            if attempt is not None:
                attempt.note_run(made.id)
            standing = await self._settled(session, made, prepared)
            result.found = standing.id != made.id
        else:
            result.found = True
        if attempt is not None and result.found:
            attempt.note_run(standing.id)
        return await self._outcome(result, standing, session, prepared)

    async def recover(
        self, result: Draft, prepared: Any, session_id: str, run_id: str | None
    ) -> bytes | None:
        """Find the run by its session, which is derived from the job, and follow it."""
        key = _checked_key(result.key)
        loop = asyncio.get_running_loop()
        until, pause = loop.time() + self._settle, _PAUSES[0]
        while True:
            try:
                standing, session = await self._standing(key, prepared)
            except errors.JobConflictError:
                raise
            except errors.DynamiqError as error:
                raise unseen(
                    "it could not be found out whether a run was started", error
                ) from error
            if standing is not None:
                result.found = True
                return await self._outcome(result, standing, session, prepared)
            if loop.time() >= until:
                return None
            await asyncio.sleep(pause)
            pause = min(2 * pause, _PAUSES[1])

    # --- looking ---------------------------------------------------------------------------------

    async def _standing(self, key: str, prepared: Any) -> tuple[Run | None, str]:
        """The run that counts for a key, and its session; if there is none, the session of the run
        to make.

        If a run failed, its successors are looked up: the last one counts.
        """
        retry = 0
        latest: tuple[Run, str] | None = None
        while True:
            session = _session(self._job, key, retry)
            run = await self._chosen(await self._look(session), prepared)
            if run is None:
                return latest if latest and not self._retry_failed else (None, session)
            if run.failure is None:
                return run, session
            latest = run, session
            retry += 1

    async def _look(self, session: str) -> list[Run]:
        """The runs of a session, as the service lists them.

        Raises:
            APIResponseError: the list has runs of other sessions, so ours may be missing.
        """
        query = {"session_id": session, "page_size": _PAGE_SIZE}
        listed = list(await self._service.run_page(query, self._options))
        runs = [run for run in listed if run.session_id == session]
        if len(runs) < len(listed):
            raise errors.APIResponseError(
                "the service lists runs of other sessions when it is asked for those of one, so "
                "that a job cannot find its runs again"
            )
        return runs

    async def _chosen(self, runs: Iterable[Run], prepared: Any, made: str = "") -> Run | None:
        """The run that counts; the others are canceled. A run not made here has its input checked.

        Raises:
            JobConflictError: the run has another input.
        """
        known = list(runs)
        live = [run for run in known if run.status != "canceled"]
        chosen = min(live or known, key=_place, default=None)
        if chosen is None:
            return None
        for run in live:
            if run.id != chosen.id and not run.is_terminal:
                await self._cancel(run.id)
        if chosen.id != made:
            await self._check_input(chosen, prepared)
        return chosen

    async def _settled(self, session: str, made: Run, prepared: Any) -> Run:
        """The run that counts, after ours was made. The list is read until it has ours, because it
        then has all earlier runs too.

        Raises:
            AmbiguousOutcomeError: it could not be found out.
        """
        loop = asyncio.get_running_loop()
        until, pause = loop.time() + self._settle, _PAUSES[0]
        runs = {made.id: made}
        while True:
            over = loop.time() >= until
            try:
                listed = await self._look(session)
            except errors.DynamiqError as error:
                if over or not may_pass(error):
                    what = f"it could not be found out whether run {made.id} is the one that counts"
                    raise unseen(what, error, made.id) from error
                listed = []
            runs |= {run.id: run for run in listed}
            if over or any(run.id == made.id for run in listed):
                break
            await asyncio.sleep(min(pause, max(0.0, until - loop.time())))
            pause = min(2 * pause, _PAUSES[1])
        return await self._chosen(runs.values(), prepared, made.id) or made

    async def _check_input(self, run: Run, prepared: Any) -> None:
        if run.input is None:  # a list may leave it out
            run = await self._service.get(run.id, self._options)
        ours = _json.decode(encode_object(prepared, "input", row=True))
        if run.input is not None and not same_json(run.input, ours):
            raise errors.JobConflictError(
                f"run {run.id} was made for this key of the job with another input; give a changed "
                "input another key, or the job another name",
                run_id=run.id,
            )

    async def _cancel(self, run_id: str) -> None:
        try:
            await self._service.cancel(run_id)
        except errors.DynamiqError as error:
            # The run may have ended by now. Another run counts in any case.
            log.warning(
                "run %s is not the one that counts, and canceling it: %s",
                run_id,
                error,
                extra=extra(error, run_id=run_id),
            )

    # --- the outcome -----------------------------------------------------------------------------

    async def _outcome(self, result: Draft, run: Run, session: str, prepared: Any) -> bytes:
        """The output of the run that counts, even if that turns out to be another one."""
        while True:
            try:
                return await self._ending(result, run)
            except errors.RunCanceledError:
                other = await self._chosen(await self._look(session), prepared, run.id)
                if other is None or other.id == run.id:
                    raise
                run, result.found = other, True

    async def _ending(self, result: Draft, run: Run) -> bytes:
        """The output of a run. If the run has ended, the list has given the output already."""
        if run.failure is None and (run.status != "completed" or run.output is None):
            return await self._follow(result, run.id)
        result.run_id = run.id
        output: msgspec.Raw = run.unwrap(msgspec.Raw)
        self._decode(result, output, run.id)
        return bytes(output)


@contextmanager
def _withdrawn(attempt: Attempt | None) -> Iterator[None]:
    """Withdraw the attempt if the search is cancelled, because nothing was sent."""
    try:
        yield
    except asyncio.CancelledError:
        if attempt is not None:
            attempt.withdraw()
        raise


def _place(run: Run) -> tuple[datetime, str]:
    """The sort key of runs, which is the same for every process."""
    return time_of(run.started_at) or _LAST, run.id


def _checked_key(key: Key) -> str:
    text = str(key)
    if re.search(_RETRY, text):
        raise errors.InvalidArgumentError(
            f"the key {text!r} ends like that of a retry: with a line break and a number",
            argument="key",
        )
    return text


def same_json(one: Any, other: Any) -> bool:
    """Whether two values are the same JSON. 1 and 1.0 are the same; 1 and true are not."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(
            same_json(value, other[name]) for name, value in one.items()
        )
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_json, one, other))
    return bool(one == other)
