"""`management.traces`: the traces of an App's calls: their inputs, outcomes and costs.

If the callback of a submitted call was lost, its trace still has the result.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, overload

from msgspec import Raw, Struct, structs

from dynamiq_async import _json
from dynamiq_async._failures import Failure, failure_of
from dynamiq_async._http.request_options import CallOptions
from dynamiq_async.errors import InvalidArgumentError, ResponseDecodeError, RunError
from dynamiq_async.events import Usage
from dynamiq_async.events.vocabulary import usage_of
from dynamiq_async.management.lists import (
    ListOptions,
    app_path,
    fetch_one,
    pages_of,
    reader,
)
from dynamiq_async.options import check_id
from dynamiq_async.submission import Accepted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from dynamiq_async._http.api import Api
    from dynamiq_async._http.paging import Pages
    from dynamiq_async.management.models import App

T = TypeVar("T")

_ENDED = frozenset({"succeeded", "failed", "canceled", "skipped"})


class Trace(_json.KeepsRaw, Struct, frozen=True, kw_only=True):
    """The trace of one call of an App.

    Attributes:
        source_id: the id of the traced object.
        started_at, ended_at: RFC 3339 texts.
        status: not documented. The library's tracing has `succeeded`, `failed`, `canceled` and
            `skipped`.
        input, output: the call's input and output.
        error: why it failed (our guess: the library's tracing has it).
        usage: the tokens and their cost in US dollars, if the service uses the library's names for
            them (our guess). `raw` has everything that came.
    """

    id: str | None = None
    source_id: str | None = None
    started_at: str | None = None
    ended_at: str | None = None
    status: str | None = None
    input: Any = None
    output: Any = None
    error: Any = None
    usage: Usage | None = None

    @property
    def is_over(self) -> bool:
        """Whether the call has ended, with any outcome."""
        return self.ended_at is not None or self.status in _ENDED

    @property
    def failure(self) -> Failure | None:
        """How the call failed or was canceled; None if it did not."""
        return failure_of(self.output, status=self.status or "", error=self.error)

    @overload
    def unwrap(self) -> Any: ...
    @overload
    def unwrap(self, output_type: type[T]) -> T: ...
    @overload
    def unwrap(self, output_type: Any) -> Any: ...
    def unwrap(self, output_type: Any = Any) -> Any:
        """The output of a call that succeeded, as `output_type`.

        Raises:
            RunFailedError, RunCanceledError: the call failed or was canceled.
            RunError: it is not over.
            ResponseDecodeError: the output does not fit `output_type`.
        """
        if (failure := self.failure) is not None:
            raise failure.error(f"the call of trace {self.id}")
        if not self.is_over:
            raise RunError(f"the call of trace {self.id} is not over, it is {self.status}")
        try:
            return _json.convert(self.output, output_type)
        except _json.DECODE_ERRORS as error:
            raise ResponseDecodeError(
                f"the output of trace {self.id} does not fit {_json.type_name(output_type)}: "
                f"{error}"
            ) from error


class _Usage(Struct):
    usage: Any = None


_read_fields = reader(Trace)


def trace_of(data: Raw) -> Trace:
    """A trace as it came, without fields of an unexpected type.

    Raises one of `_json.DECODE_ERRORS` if it is not an object.
    """
    trace = _read_fields(data)
    usage = _total(_json.decode(data, _Usage).usage)
    trace = structs.replace(trace, usage=usage)
    _json.keep(trace, bytes(data))
    return trace


def _total(told: Any) -> Usage | None:
    """The usage that came, or the sum of several."""
    if not isinstance(told, list):
        return usage_of(told)
    parts = [usage for usage in map(usage_of, told) if usage is not None]
    return sum(parts[1:], parts[0]) if parts else None


class Traces:
    """The traces of Apps, as `management.traces`."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def list(
        self,
        app: App | str | UUID,
        *,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        status: str | Sequence[str] | None = None,
        **options: Unpack[ListOptions],
    ) -> Pages[Trace]:
        """An App's traces. Await the result for one page, or iterate it for all.

        Args:
            app: the App or its id.
            since, until: only calls that started at or after `since`, and at or before `until`: an
                RFC 3339 text, or a datetime with a time zone.
            status: one status, or several (our guess: the service accepts several).
            options: the arguments that all lists share; see `ListOptions`.

        Raises:
            InvalidArgumentError: an argument cannot be used. Awaiting and iterating raise what
                `AsyncApp.invoke` raises, such as NotFoundError.
        """
        query = {
            "started_at:gte": _time(since, "since"),
            "started_at:lte": _time(until, "until"),
            "status": [status] if isinstance(status, str) else status,
        }
        return pages_of(self._api, (*app_path(app), "traces"), trace_of, "trace", query, **options)

    async def get(
        self,
        app: App | str | UUID,
        trace: str | UUID | Accepted,
        **options: Unpack[CallOptions],
    ) -> Trace:
        """One trace, with its usage.

            accepted = await app.submit({"question": "…"}, callbacks=[…])
            ...
            answer = (await management.traces.get(app_id, accepted)).unwrap()

        Args:
            app: the App or its id.
            trace: its id, or what `AsyncApp.submit` returned, or the id in that. It is second-hand
                that a submitted call and its trace have the same id: a third party's client relies
                on it.
            options: `timeout` and `max_retries`, instead of the client's.

        Raises:
            InvalidArgumentError: an id is empty.
            NotFoundError: the App has no such trace, or not yet.

        And what else `AsyncApp.invoke` raises.
        """
        id = check_id(trace.id if isinstance(trace, Accepted) else trace, "trace")
        return await fetch_one(
            self._api, (*app_path(app), "traces", id), trace_of, "trace", **options
        )


def _time(given: datetime | str | None, argument: str) -> str | None:
    """A time in the form of the query."""
    if given is None:
        return None
    try:
        when = datetime.fromisoformat(given) if isinstance(given, str) else given
    except ValueError:
        when = None
    if not isinstance(when, datetime) or when.tzinfo is None:
        raise InvalidArgumentError(
            f"{argument} must be an RFC 3339 text or a datetime, with a time zone, not {given!r}",
            argument=argument,
        )
    if isinstance(given, str):
        return given
    return when.astimezone(UTC).isoformat().replace("+00:00", "Z")
