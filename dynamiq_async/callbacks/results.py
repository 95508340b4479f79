"""The result in a callback, as plain data."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, overload

from msgspec import Raw, Struct, field

from dynamiq_async import _json
from dynamiq_async._failures import failure_in
from dynamiq_async.errors import ResponseDecodeError
from dynamiq_async.runs.models import Run

T = TypeVar("T")

_RUN_STATUS = {"succeeded": "completed"}  # the Runs API's word for it
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RFC3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}):([0-9]{2})"
    r"(?:\.([0-9]+))?(?:[Zz]|([+-][0-9]{2}:[0-9]{2}))"
)


class CallbackResult(Struct, frozen=True, kw_only=True):
    """How a submitted call ended (documented by the vendor, unless said otherwise).

    Unknown fields are left out. A field that is missing or of an unexpected type has its default.
    Only `id` and `status` are always there.

    Attributes:
        id: the id that `submit` returned.
        status: `succeeded` or `failed`. The list is open: any other status comes unchanged, and
            `unwrap` raises for it.
        timestamp: an RFC 3339 text, with nanoseconds. `time` and `time_ns` parse it.
        raw_output: `output` as the JSON that arrived; `null` if there was none.
        error: why it failed (our guess: not documented).
        metadata: the `metadata` of the callback, unchanged.
    """

    id: str
    status: str
    timestamp: str | None = None
    raw_output: Raw = field(name="output", default=Raw(b"null"))
    error: Any = None
    metadata: dict[str, Any] | None = None

    def __repr__(self) -> str:
        output = bytes(self.raw_output).decode("utf-8", "replace")
        shown = output if len(output) <= 200 else f"{output[:200]}…"
        return f"{type(self).__name__}(id={self.id!r}, status={self.status!r}, output={shown})"

    @property
    def output(self) -> Any:
        """The workflow's output, decoded on each access; None if there is none.

        Raises:
            ResponseDecodeError: it has a value that Python does not accept (such as a number of
                thousands of digits).
        """
        return self._decode_as(Any)

    @property
    def time(self) -> datetime | None:
        """`timestamp` in UTC, cut to microseconds; None if it is missing or not a time."""
        if (nanoseconds := self.time_ns) is None:
            return None
        try:
            return _EPOCH + timedelta(microseconds=nanoseconds // 1000)
        except OverflowError:
            return None  # at the edge of datetime's range, and beyond it in UTC

    @property
    def time_ns(self) -> int | None:
        """`timestamp` in nanoseconds since 1970, like `time.time_ns()`."""
        return None if self.timestamp is None else rfc3339_nanoseconds(self.timestamp)

    @overload
    def decode(self, output_type: type[T]) -> T: ...
    @overload
    def decode(self, output_type: Any) -> Any: ...
    def decode(self, output_type: Any) -> Any:
        """The output as `output_type`, whatever the status.

        Raises:
            InvalidArgumentError: JSON cannot be decoded to `output_type`.
            ResponseDecodeError: the output does not fit `output_type`.
        """
        _json.check_type(output_type)
        return self._decode_as(output_type)

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
            RunError: the status is unknown.
            InvalidArgumentError, ResponseDecodeError: as for `decode`.

        The first three have a `run`: a `Run` with all that is known.
        """
        run = self._run()
        if run.status != "completed" or run.output is not None:
            run.unwrap()  # raises
        return self.decode(output_type)

    def _run(self) -> Run:
        status = _RUN_STATUS.get(self.status, self.status)
        # A large output is decoded only if something may have failed.
        whole = status != "completed" or failure_in(self.raw_output) is not None
        output = self.output if whole else None
        return Run(
            id=self.id, status=status, ended_at=self.timestamp, output=output, error=self.error
        )

    def _decode_as(self, output_type: Any) -> Any:
        try:
            return _json.decode(self.raw_output, output_type)
        except _json.DECODE_ERRORS as error:
            name = getattr(output_type, "__name__", output_type)
            raise ResponseDecodeError(
                f"the output of run {self.id} does not fit {name}: {error}", run_id=self.id
            ) from error


def rfc3339_nanoseconds(text: str) -> int | None:
    """Nanoseconds since 1970; None if `text` is not an RFC 3339 time. Finer digits are cut off."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        return None
    day, minute, second, fraction, offset = match.groups()
    try:
        start = datetime.fromisoformat(f"{day}T{minute}{offset or '+00:00'}")
    except ValueError:
        return None
    if int(second) > 60:  # 60 is a leap second
        return None
    seconds = (start - _EPOCH) // timedelta(seconds=1) + int(second)
    return seconds * 1_000_000_000 + int((fraction or "")[:9].ljust(9, "0"))
