"""Rules that stop a batch that can no longer succeed. They see each result, and say why to stop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dynamiq_async import errors
from dynamiq_async._http.status import asks_to_slow_down
from dynamiq_async.options import check_count

if TYPE_CHECKING:
    from dynamiq_async.batch.models import MapResult

CODELESS_REFUSALS = 5
"""This many 403 responses without a code stop a batch in which no call succeeded."""

LONG_WAITS = 3
"""This many waits over `max_retry_after` in a row, with no success between them, stop a batch."""

SHARE_FROM = 100
"""The share of failures is checked once this many inputs are finished."""


class StopRules:
    """Decides whether a batch goes on.

    Args:
        max_failures: how many inputs may fail; a float below 1 is a share of the finished inputs;
            None for any number.
        max_wait: the longest wait that the client accepts from a server, in seconds.

    Attributes:
        cause: the error that stops the batch; None while it may go on.
        why: the reason in words.

    Raises:
        InvalidArgumentError: `max_failures` is neither a count nor such a share.
    """

    def __init__(self, max_failures: float | None, max_wait: float) -> None:
        self._most = _checked(max_failures)
        self._is_share = isinstance(max_failures, float)
        self._max_wait = max_wait
        self.cause: Exception | None = None
        self.why: str = ""
        self._finished = self._failed = self._succeeded = 0
        self._refused = self._waits = 0

    def judge(self, result: MapResult[Any]) -> None:
        """Judge one more result, which did not come from a journal."""
        error = result.error
        self._finished += 1
        if error is None:
            self._succeeded += 1
            self._waits = 0
            return
        self._failed += 1
        if self.cause is None and (why := self._objection(error)):
            self.cause, self.why = error, why

    def spares(self, error: Exception) -> bool:
        """Whether the error says nothing about its input, and nothing was done for the input. Then
        a later start of the batch has to call the input again."""
        if isinstance(error, errors.AmbiguousOutcomeError):
            return False
        return (
            isinstance(error, errors.ConnectError)
            or _refuses_all(error)
            or _waits_too_long(error, self._max_wait)
        )

    def _objection(self, error: Exception) -> str | None:
        if isinstance(error, errors.ConnectError):
            return str(error)
        if isinstance(error, errors.RunError | errors.APIResponseError):
            # The service took the call: the workflow failed, or its output could not be read.
            self._succeeded += 1
            self._waits = 0
        elif _refuses_all(error):
            return str(error)
        elif _status(error) == 403:
            self._refused += 1
            if self._refused >= CODELESS_REFUSALS and not self._succeeded:
                return f"{self._refused} calls were refused, and none succeeded: {error}"
        elif _waits_too_long(error, self._max_wait):
            self._waits += 1
            if self._waits >= LONG_WAITS:
                return f"{self._waits} times in a row without a success, {error}"
        return self._too_many(error)

    def _too_many(self, error: Exception) -> str | None:
        most, failed, finished = self._most, self._failed, self._finished
        if most is None:
            return None
        if self._is_share:
            exceeded = finished >= SHARE_FROM and failed > most * finished
        else:
            exceeded = failed > most
        return (
            f"{failed} of {finished} failed, more than max_failures={most} allows; the last one: "
            f"{error}"
            if exceeded
            else None
        )


def _refuses_all(error: BaseException) -> bool:
    """Whether the service refused a call for a reason that holds for all of them: the key, its
    spend cap or credits, or what a code in its 403 names."""
    status = _status(error)
    return status in (401, 402) or (status == 403 and getattr(error, "code", None) is not None)


def _waits_too_long(error: BaseException, longest: float) -> bool:
    """Whether the server asks to wait longer than `longest` seconds."""
    return (
        isinstance(error, errors.DynamiqError)
        and asks_to_slow_down(error)
        and (error.retry_after or 0.0) > longest
    )


def _status(error: BaseException) -> int | None:
    """The HTTP status, also of an error because of which the end of a run was not seen."""
    if isinstance(error, errors.APIStatusError | errors.AmbiguousOutcomeError):
        return error.status
    return None


def _checked(most: object) -> float | None:
    if most is None:
        return None
    if isinstance(most, int):
        return check_count(most, "max_failures", least=0)
    if not isinstance(most, float) or not 0 <= most < 1:
        raise errors.InvalidArgumentError(
            f"max_failures must be a count, or a share below 1, not {most!r}",
            argument="max_failures",
        )
    return most
