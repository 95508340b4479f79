"""A part of a job on one machine, for any engine: rows in, rows out, in the same order.

Engines may run a task twice: they restart a worker that dies, a worker that seems dead may run on
beside its successor, and they replay a retried generator by position. So a shard makes its calls as
the runs of a `job=`, of which one counts for each key. It yields its rows in the order of its
inputs.
"""

from __future__ import annotations

import asyncio
from copy import copy
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from dynamiq_async.app import AsyncApp
from dynamiq_async.batch.columns import as_json
from dynamiq_async.batch.frames import FrameRows, is_frame
from dynamiq_async.batch.models import error_facts
from dynamiq_async.errors import InvalidArgumentError
from dynamiq_async.options import rate_interval

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping

    from dynamiq_async.batch.models import Key, MapResult

COLUMNS = ("key", "ok", "output", "error", "run_id")
"""The columns of an output row. The output is JSON, the error a message; one of them is None."""

PORTION_SECONDS = 1.0
"""About how many seconds a portion of a shared rate covers, so that few calls wait for one."""

_ROUNDING = 1e-6  # in tokens, since sums of times are not exact

Row = dict[str, Any]


class Lease(NamedTuple):
    """A portion of a rate.

    Attributes:
        tokens: how many inputs may begin.
        wait: if there are no tokens, seconds until it makes sense to ask again.
    """

    tokens: int
    wait: float


class RateSource(Protocol):
    """The source of a shard's portions of a rate that it shares with others. It can be pickled."""

    async def lease(self) -> Lease:
        """Some of the available tokens."""


class TokenBucket:
    """A rate that is given out in portions. The tokens of a portion depend on the time since the
    last one, up to a limit.

    Args:
        rate: a number per second, or a text such as "60/m".
        seconds: the limit of a portion, as seconds of the rate.

    Raises:
        InvalidArgumentError: the rate is not valid.
    """

    def __init__(self, rate: float | str, *, seconds: float = PORTION_SECONDS) -> None:
        self._interval = rate_interval(rate, "rate")
        self._most = max(1.0, seconds / self._interval) if self._interval else 1.0
        self._tokens = 1.0
        self._at: float | None = None

    def lease(self, now: float) -> Lease:
        """Take a portion at this time, in seconds of a monotonic clock."""
        if self._at is not None:
            self._tokens = min(self._most, self._tokens + (now - self._at) / self._interval)
        self._at = now
        whole = int(self._tokens + _ROUNDING)
        self._tokens -= whole
        return Lease(whole, 0.0 if whole else (1.0 - self._tokens) * self._interval)


class _Keyed(dict[str, Any]):
    """The input that is sent for a row, and the whole row."""

    whole: Mapping[str, Any]


class AppShard:
    """A part of a job. It can be pickled. Each machine makes its own client.

    Args:
        app: the App's hostname or URL. The access key then comes from `DYNAMIQ_ACCESS_KEY` on the
            machine that makes the calls. Or a function that makes the client, and that all
            machines know. The key cannot be an argument, because engines store what they pickle.
        job: the name of the whole job; see `AsyncApp.map`.
        key: the field of a row that is its key.
        input: the fields of a row to send; None for all.
        rate: the source of portions of a rate that all workers share. It limits the inputs begun.
        options: other arguments of `AsyncApp.map`, such as `concurrency`, `settle` or `timeout`.

    Raises:
        InvalidArgumentError: an argument cannot be used.
    """

    def __init__(
        self,
        app: str | Callable[[], AsyncApp],
        *,
        job: str,
        key: str,
        input: Iterable[str] | None = None,
        rate: RateSource | None = None,
        **options: Any,
    ) -> None:
        if not (isinstance(app, str) or callable(app)):
            raise InvalidArgumentError(
                f"app must be a hostname, a URL or a function that makes a client, not {app!r}",
                argument="app",
            )
        self._app = app
        self._key = key
        self._fields = None if input is None else tuple(input)
        self._rate = rate
        self._options = {**options, "job": job, "ordered": True}
        self._client: AsyncApp | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_client": None, "_loop": None}

    async def __aenter__(self) -> AppShard:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the client, if one was made."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def run(self, rows: Any) -> AsyncGenerator[Row, None]:
        """The rows of the results, in the order of the input rows, as soon as they are ready.

        Args:
            rows: rows as mappings, or a frame.

        Raises what reading from `AsyncApp.map` raises. The failure of a single row is its `error`.
        """
        inputs = self._inputs(FrameRows(rows) if is_frame(rows) else rows)
        results = self._ready().map(inputs, key=self._key_of, **self._options)
        async with results:
            async for result in results:
                yield row_of(result)

    async def batch(self, rows: Any) -> list[Row]:
        """Like `run`, but return all rows in a list."""
        return [row async for row in self.run(rows)]

    def work(self, rows: Any) -> list[Row]:
        """Like `batch`, for engines whose workers are not async. Do not call it in an event
        loop."""

        async def work() -> list[Row]:
            async with copy(self) as own:  # of this thread alone
                return await own.batch(rows)

        return asyncio.run(work())

    def _ready(self) -> AsyncApp:
        """The client for this event loop."""
        loop = asyncio.get_running_loop()
        if self._client is None or self._loop is not loop:
            self._client = AsyncApp(self._app) if isinstance(self._app, str) else self._app()
            self._loop = loop
        return self._client

    def _key_of(self, sent: _Keyed) -> Key:
        try:
            key: Key = sent.whole[self._key]
        except KeyError:
            raise InvalidArgumentError(
                f"there is no {self._key!r} in a row to take its key from", argument="key"
            ) from None
        return key

    async def _inputs(self, rows: Iterable[Mapping[str, Any]]) -> AsyncIterator[_Keyed]:
        """The inputs to send for the rows. Each comes when the rate allows it to begin."""
        tokens = 0
        for row in rows:
            while self._rate is not None and tokens < 1:
                tokens, wait = await self._rate.lease()
                if not tokens:
                    await asyncio.sleep(wait)
            tokens -= 1
            names = row if self._fields is None else self._fields
            sent = _Keyed((name, row[name]) for name in names if name in row)
            sent.whole = row
            yield sent


def row_of(result: MapResult[Any]) -> Row:
    """A result as a row, of plain values."""
    output = as_json(result.output) if result.ok else None
    values = (result.key, result.ok, output, error_facts(result.error)[0], result.run_id)
    return dict(zip(COLUMNS, values, strict=True))


def rows_of_columns(batch: Any) -> list[Row]:
    """The rows of an engine's batch, which is a frame or a mapping of columns."""
    if is_frame(batch):
        return list(FrameRows(batch))
    columns = [each.tolist() if hasattr(each, "tolist") else each for each in batch.values()]
    return [dict(zip(batch, values, strict=True)) for values in zip(*columns, strict=True)]


def columns_of_rows(rows: Iterable[Row]) -> dict[str, list[Any]]:
    """The columns of output rows. Keys become texts, so that the column has one type."""
    found = [{**row, "key": str(row["key"])} for row in rows]
    return {name: [row[name] for row in found] for name in COLUMNS}
