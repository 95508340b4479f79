"""The status, code and sentence that a browser receives for an error.

None of them comes from the error itself, because an error may name hosts, keys, nodes and inputs
that must not leave the backend. The error itself goes to the logger `dynamiq_async`.

| error in the backend | response to the browser |
|---|---|
| a `Last-Event-ID` that cannot be used, such as one behind the run's end | 400 `invalid_position` |
| 400, 413, 422: the input was refused | the same, `bad_request` |
| 404, 410 for a run | the same, `not_found` |
| an argument that pages pass on: an id, a page, a status, an answer's changes | 400 `bad_request` |
| an upload that is too large | 413 `bad_request` |
| a request that a chat's routes refuse | 400, 404, 409, 413, 415, with what is wrong with it |
| 409 | 409 `conflict` |
| 429 | 429 `rate_limited`, with `Retry-After` |
| 402, the monthly quota, 503, no free connection, a client that is closed | 503 `unavailable` |
| a time limit | 504 `timeout` |
| a stream that broke | 502 `interrupted` |
| a run that failed or was canceled | 502 `run_failed`, `run_canceled` |
| any other (the key was refused, no such App, 5xx, HTML, no connection) | 502 `upstream_error` |
| the backend's own error, a wrong argument, a stream with two readers | 500 `internal_error` |
"""

from __future__ import annotations

import logging
import math
from typing import Literal, NamedTuple

import msgspec

from dynamiq_async import errors
from dynamiq_async._telemetry import extra

log: logging.Logger = logging.getLogger("dynamiq_async")

POSITION_HEADER = "Last-Event-ID"

EndKind = Literal["completed", "failed", "canceled"]
"""How a run ended, according to its stream."""


class RefusedRequestError(errors.DynamiqError):
    """A request of a browser that cannot be used. Its `status` and `code` are for the response.

    Attributes:
        shown: what is wrong with the request. The browser sees this text.
    """

    shown = ""


def refused(shown: str, *, status: int = 400, code: str = "bad_request") -> RefusedRequestError:
    """The error for a refused request. The browser sees the sentence unchanged."""
    error = RefusedRequestError(shown, status=status, code=code)
    error.shown = shown
    return error


class Problem(NamedTuple):
    """The public description of an error.

    Attributes:
        status: the HTTP status, for a response that has not begun.
        code: for programs.
        message: for people.
        retry_after: seconds that the upstream asked to wait.
        lasting: whether a browser that reconnects would get the same error again.
    """

    status: int
    code: str
    message: str
    retry_after: float | None = None
    lasting: bool = False

    @property
    def internal(self) -> bool:
        """Whether it is the backend's own fault, so that its developers must see it."""
        return self.status == 500

    def headers(self, length: int) -> dict[str, str]:
        """The headers of a response whose body is this problem in `length` bytes."""
        headers = {
            "Content-Type": "application/json",
            "Content-Length": str(length),
            "Cache-Control": "no-store",
        }
        if self.retry_after is not None:
            headers["Retry-After"] = str(math.ceil(self.retry_after))
        return headers

    def json(self, last_event_id: str | None = None) -> bytes:
        """`{"error": {"code", "message", …}}`; `last_event_id` is the position to resume after."""
        error: dict[str, object] = {"code": self.code, "message": self.message}
        if self.retry_after is not None:
            error["retry_after"] = self.retry_after
        if last_event_id is not None:
            error["last_event_id"] = last_event_id
        return msgspec.json.encode({"error": error})


_INTERNAL = Problem(500, "internal_error", "Something went wrong here.", lasting=True)
_POSITION = Problem(
    400, "invalid_position", f"The {POSITION_HEADER} header cannot be used here.", lasting=True
)
_UPSTREAM = Problem(502, "upstream_error", "The service behind this one did not answer properly.")
_NO_SUCH_RUN = "There is no such run."
_REFUSED = "The input was not accepted."

# The arguments of calls whose values usually come from a browser.
_BROWSERS_ARGUMENTS = frozenset(
    {"run_id", "session_id", "page", "page_size", "status", "params", "edits", "user_id", "text"}
)

ENDS: dict[EndKind, Problem] = {
    "failed": Problem(502, "run_failed", "The run failed."),
    "canceled": Problem(502, "run_canceled", "The run was canceled."),
}
"""The problem of a run that did not complete, by how it ended."""

# The first class that matches decides. The stream itself requests an undecodable event again, so
# the browser need not retry.
_PROBLEMS: tuple[tuple[type[errors.DynamiqError], Problem], ...] = (
    (errors.RunFailedError, ENDS["failed"]),
    (errors.RunCanceledError, ENDS["canceled"]),
    (errors.SSEError, _UPSTREAM._replace(lasting=True)),
    (errors.PoolTimeoutError, Problem(503, "unavailable", "Too much is going on; try again.")),
    (errors.APITimeoutError, Problem(504, "timeout", "No answer came in time.")),
    (
        errors.StreamInterruptedError,
        Problem(502, "interrupted", "The connection broke before the end."),
    ),
    (errors.RateLimitError, Problem(429, "rate_limited", "Too many requests; try again later.")),
    (errors.BadRequestError, Problem(400, "bad_request", _REFUSED)),
    (errors.PayloadTooLargeError, Problem(413, "bad_request", "The input is too large.")),
    (errors.UnprocessableEntityError, Problem(422, "bad_request", _REFUSED)),
    (errors.ConflictError, Problem(409, "conflict", "This cannot be done now.")),
    *(
        (kind, Problem(503, "unavailable", "The service is not available now."))
        for kind in (
            errors.PaymentRequiredError,
            errors.QuotaExceededError,
            errors.ClientClosedError,
            errors.StreamClosedError,
        )
    ),
)


def end_kind(error: Exception) -> EndKind | None:
    """How the run ended, if `error` says so; None for an error before the end."""
    if isinstance(error, errors.RunFailedError):
        return "failed"
    return "canceled" if isinstance(error, errors.RunCanceledError) else None


def problem_of(error: BaseException) -> Problem:
    """The public description of `error`."""
    # A plain StreamError, not a subclass, is raised for programming mistakes only.
    if not isinstance(error, errors.DynamiqError) or type(error) is errors.StreamError:
        return _INTERNAL
    if isinstance(error, RefusedRequestError):
        found = Problem(400, "bad_request", error.shown or _REFUSED, lasting=True)
        return found._replace(status=error.status or 400, code=error.code or found.code)
    if isinstance(error, errors.InvalidArgumentError):
        return _argument_problem(error.argument)
    found = next((problem for kind, problem in _PROBLEMS if isinstance(error, kind)), _UPSTREAM)
    if isinstance(error, errors.NotFoundError | errors.GoneError) and _about_a_run(error):
        found = Problem(404 if error.status == 404 else 410, "not_found", _NO_SUCH_RUN)
    elif error.status == 503 and found is _UPSTREAM:
        found = Problem(503, "unavailable", "The service is not available now.")
    if error.retry_after is not None and found.status in (429, 503):
        found = found._replace(retry_after=error.retry_after)
    return found


def _argument_problem(argument: str | None) -> Problem:
    if argument in (POSITION_HEADER, "after_sequence"):
        return _POSITION
    if argument in _BROWSERS_ARGUMENTS:
        return Problem(400, "bad_request", _REFUSED, lasting=True)
    if argument == "content":  # from `files.upload`, for a file above its limit
        return Problem(413, "bad_request", "The file is too large.", lasting=True)
    return _INTERNAL


class ErrorReply(NamedTuple):
    """A response about an error, safe to show to anybody.

    Attributes:
        status: the HTTP status; 500 if it is the backend's own mistake.
        headers: all that the response needs.
        body: JSON, `{"error": {"code", "message", "retry_after"?}}`.
    """

    status: int
    headers: dict[str, str]
    body: bytes


def error_reply(error: BaseException) -> ErrorReply:
    """The response that tells a browser about `error`. It names no host, no key and no input.

    Use it in the `DynamiqError` handler of a framework that has no adapter here. The adapters send
    the same responses. It accepts any exception: one that is not from this package becomes a 500.
    """
    problem = problem_of(error)
    body = problem.json()
    if isinstance(error, errors.DynamiqError) and problem.status > 500:
        # A refused key needs a person. Other errors may be gone by the next request.
        key = isinstance(error, errors.AuthenticationError | errors.PermissionDeniedError)
        level = logging.WARNING if key else logging.INFO
        log.log(level, "a browser was told %d: %s", problem.status, error, extra=extra(error))
    return ErrorReply(problem.status, problem.headers(len(body)), body)


def _about_a_run(error: errors.DynamiqError) -> bool:
    """Whether the error is about a run. If not, a 404 means that there is no such App, which is not
    the browser's mistake."""
    return error.run_id is not None or "/v1/runs/" in (error.url or "")
