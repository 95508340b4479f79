"""Runs, their events, files and pages, as plain data.

Every field beyond an id has a default, and every list of names is open: a field that the service
adds later or leaves out never makes the others unreadable. Shapes are documented by the vendor
unless a docstring says otherwise.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, TypeVar, overload

import msgspec
from msgspec import Raw, Struct, structs

from dynamiq_async import _json
from dynamiq_async._failures import Failure, failure_of
from dynamiq_async.errors import (
    ResponseDecodeError,
    RunError,
)
from dynamiq_async.events import Question, RunEvent
from dynamiq_async.events.run_events import InputRequest, RunState

T = TypeVar("T")

TERMINAL_STATUS = frozenset({"completed", "failed", "canceled"})


class Run(_json.KeepsRaw, Struct, frozen=True, kw_only=True):
    """A run as the service describes it. Times are RFC 3339 texts.

    Attributes:
        raw: the run as the JSON that arrived, which `unwrap` decodes its output from. Copies,
            pickles and changed runs do not have it.
        status: `created`, `started`, `paused`, `completed`, `failed` or `canceled`; when the
            service lists runs that wait for an answer, also `awaiting_input`.
        input_requests: the questions that wait for an answer, as the service writes them.
        error: the reason why the run failed (our guess: not documented).
    """

    id: str
    status: str = "created"
    app_id: str | None = None
    started_at: str | None = None
    ended_at: str | None = None
    input: Any = None
    output: Any = None
    error: Any = None
    user_id: str | None = None
    session_id: str | None = None
    input_requests: list[InputRequest] | None = None

    @property
    def is_terminal(self) -> bool:
        """Whether the run completed, failed or was canceled."""
        return self.status in TERMINAL_STATUS

    @property
    def failure(self) -> Failure | None:
        """How the run failed or was canceled; None if it did not."""
        return failure_of(self.output, status=self.status, error=self.error)

    @property
    def questions(self) -> list[Question]:
        """The questions that wait for an answer."""
        return [request.as_question() for request in self.input_requests or []]

    @overload
    def unwrap(self) -> Any: ...
    @overload
    def unwrap(self, output_type: type[T]) -> T: ...
    @overload
    def unwrap(self, output_type: Any) -> Any: ...
    def unwrap(self, output_type: Any = Any) -> Any:
        """The output of a completed run, as `output_type`.

        Raises:
            RunFailedError, RunCanceledError: the run failed or was canceled. The error's `run` is
                this run.
            RunError: the run is not over.
            ResponseDecodeError: the output does not fit `output_type`.
        """
        known: dict[str, Any] = {"run_id": self.id, "run": self}
        if (failure := self.failure) is not None:
            raise failure.error(f"run {self.id}", **known)
        if self.status != "completed":
            raise RunError(f"run {self.id} is not over, it is {self.status}", **known)
        told = _json.kept(self)
        try:
            if told is None:
                return _json.convert(self.output, output_type)
            return _json.decode(_json.decode(told, _RawOutput).output, output_type)
        except _json.DECODE_ERRORS as error:
            raise ResponseDecodeError(
                f"the output of run {self.id} does not fit {_json.type_name(output_type)}: {error}",
                run_id=self.id,
            ) from error


def ended(run: Run, final: RunEvent) -> Run:
    """`run` with the status, output and error of its terminal event."""
    state = final.state or RunState()
    status = final.type.removeprefix("run.")
    return structs.replace(run, status=status, output=state.output, error=state.error)


class _RawOutput(Struct):
    output: Raw = Raw(b"null")


def run_of(data: Raw) -> Run:
    """The run in `data`, without the fields whose type is not the expected one.

    Raises one of `_json.DECODE_ERRORS` when `data` is no JSON object with an id.
    """
    try:
        run = _json.decode_with(_decode_run, data)
    except msgspec.ValidationError:
        content = _json.decode(data, dict[str, Any])
        if not isinstance(content.get("id"), str):
            raise
        run = _fitting(content)
    _json.keep(run, bytes(data))
    return run


def time_of(text: str | None) -> datetime | None:
    """An RFC 3339 text as a time, such as a run's `started_at`; None if it is not one."""
    try:
        time = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


def _fitting(content: dict[str, Any]) -> Run:
    requests = content.pop("input_requests", None)
    asked = [r for r in requests if isinstance(r, dict)] if isinstance(requests, list) else []
    return structs.replace(
        _json.fitting(content, Run),
        input_requests=[
            _json.fitting(r, InputRequest) for r in asked if isinstance(r.get("id"), str)
        ],
    )


_decode_run = msgspec.json.Decoder(Run).decode
