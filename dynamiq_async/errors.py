"""The exceptions of this package; `dynamiq_async.callbacks` adds one, for requests it refuses.

All of them derive from `DynamiqError`, so catching that one class covers whatever a server or
a network does. Each error carries what is known when it is raised (status, code, request id,
a capped body, the run and the position in its stream); what is not known is None. The errors hold
plain data only, so they pickle and can cross process boundaries, and they never hold the access
key.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


E = TypeVar("E", bound="DynamiqError")


class DynamiqError(Exception):
    """The base of all errors of this package.

    Attributes:
        message: what happened and, where it helps, what to do.
        method, url: of the request, the URL without its query.
        status: the HTTP status, when a response arrived.
        code: the machine-readable code of the server's error envelope, such as `bad_request`.
        details: the envelope's `details`: a field's name to its complaint.
        request_id: the server's or proxy's id for the request (`x-request-id` and its relatives).
        body: the beginning of the response's body as text, at most 16 KiB.
        run_id: the run that the call was about.
        sequence: the sequence number of the last event that was handed out, from which to resume.
        attempts: how many times the request was sent or tried.
        retry_after: seconds that the server asked to wait.
    """

    def __init__(
        self,
        message: str = "",
        *,
        method: str | None = None,
        url: str | None = None,
        status: int | None = None,
        code: str | None = None,
        details: Mapping[str, Any] | None = None,
        request_id: str | None = None,
        body: str | None = None,
        run_id: str | None = None,
        sequence: int | None = None,
        attempts: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.method = method
        self.url = url
        self.status = status
        self.code = code
        self.details = details
        self.request_id = request_id
        self.body = body
        self.run_id = run_id
        self.sequence = sequence
        self.attempts = attempts
        self.retry_after = retry_after

    def add(self, **known: Any) -> Self:
        """Set attributes that became known later. A value of None changes nothing."""
        vars(self).update({name: value for name, value in known.items() if value is not None})
        return self

    def retold(self, kind: type[E], message: str, **known: Any) -> E:
        """The same failure as an error of another class, with its attributes and `known`.

        Attributes that the other class does not have are left out.
        """
        other = kind(message)
        kept = vars(self).keys() & vars(other).keys() - {"message"}
        vars(other).update({name: vars(self)[name] for name in kept})
        return other.add(**known)


def untraced(error: DynamiqError) -> DynamiqError:
    """The same error without its traceback: an object that keeps an error raised through one of its
    own frames would be in a reference cycle with it."""
    again = copy.copy(error)
    again.__cause__ = error.__cause__
    return again


class InvalidArgumentError(DynamiqError, ValueError):
    """An argument cannot be used. Raised before anything is sent; `argument` names it."""

    def __init__(self, message: str = "", *, argument: str | None = None) -> None:
        super().__init__(message)
        self.argument = argument


class ClientClosedError(DynamiqError):
    """The client was closed; make a new one."""


class MissingExtraError(DynamiqError, ImportError):
    """An optional dependency is not installed; the message tells how to get it."""


# --- the network -------------------------------------------------------------------------------


class APIConnectionError(DynamiqError):
    """The connection failed, or broke before the response was whole."""


class ConnectError(APIConnectionError):
    """No connection was made (name, port, TLS, proxy), so the request was never sent."""


class APITimeoutError(DynamiqError, TimeoutError):
    """A limit of `Timeout` passed.

    `limit` is its name (`connect`, `pool`, `first_byte`, `idle` or `total`) and `seconds` its
    length.
    """

    def __init__(
        self,
        message: str = "",
        *,
        limit: str | None = None,
        seconds: float | None = None,
        **known: Any,
    ) -> None:
        super().__init__(message, **known)
        self.limit = limit
        self.seconds = seconds


class ConnectTimeoutError(APITimeoutError, ConnectError):
    """No connection was made within `Timeout.connect`; the request was never sent."""


class PoolTimeoutError(APITimeoutError):
    """None of this client's connections came free within `Timeout.pool`; nothing was sent.

    The client is busier than `max_connections` allows, or for a stream `max_streams`: raise that
    limit, or lower the concurrency.
    """


class AmbiguousOutcomeError(DynamiqError):
    """A request that must not run twice was sent, and its outcome is not known.

    The request is not repeated. Look for its effect, or declare the call safe to repeat with
    `retry=True`.
    The concrete class says what went wrong and is also an `APIConnectionError`, an
    `APITimeoutError` or an `InternalServerError`.
    """


class AmbiguousConnectionError(AmbiguousOutcomeError, APIConnectionError):
    """The connection broke after the request was sent and before the response was whole."""


class AmbiguousTimeoutError(AmbiguousOutcomeError, APITimeoutError):
    """A time limit passed after the request was sent and before the response was whole."""


# --- responses outside 2xx ---------------------------------------------------------------------


class APIStatusError(DynamiqError):
    """The response has a status outside 2xx. `status` is always set."""


class RedirectError(APIStatusError):
    """3xx: redirects are not followed, because they would carry the access key elsewhere."""


class BadRequestError(APIStatusError):
    """400: malformed JSON, missing `input` or bad field values; see `details`."""


class AuthenticationError(APIStatusError):
    """401: the access key is missing or invalid."""


class PaymentRequiredError(APIStatusError):
    """402, from Flowy: the key's daily spend cap is used up until the next UTC day, or the
    workspace is out of credits. `flowy.credits()` returns its credits."""


class PermissionDeniedError(APIStatusError):
    """403: the token is of the wrong kind, or is for another project or organisation."""


class QuotaExceededError(PermissionDeniedError):
    """403 `subscription_limit_reached`: the organisation's monthly quota is used up."""


class NotFoundError(APIStatusError):
    """404: no App at this hostname (unknown, deleted, archived), or no such run."""


class ConflictError(APIStatusError):
    """409: the request does not fit the present state."""


class GoneError(APIStatusError):
    """410: the resource does not exist any more."""


class PayloadTooLargeError(APIStatusError):
    """413: the request's body is larger than the server takes."""


class UnsupportedMediaTypeError(APIStatusError):
    """415: the content type was neither JSON nor `multipart/form-data`."""


class UnprocessableEntityError(APIStatusError):
    """422: well-formed, and still not acceptable; see `details`."""


class RateLimitError(APIStatusError):
    """429: too many requests. `retry_after` is what the server asked for, in seconds."""


class InternalServerError(APIStatusError):
    """5xx: the server, or a proxy before it, failed."""


class AmbiguousStatusError(AmbiguousOutcomeError, InternalServerError):
    """502, 504, 524 or the like: a proxy gave up, and the App may have run all the same."""


# --- responses that cannot be used -------------------------------------------------------------


class APIResponseError(DynamiqError):
    """The response is a 2xx, but cannot be used."""


class ContentTypeError(APIResponseError):
    """The content type is not the one asked for; `body` has the beginning of the body."""


class ResponseDecodeError(APIResponseError):
    """The body is not JSON, or does not fit the `output_type` asked for."""


class ResponseTooLargeError(APIResponseError):
    """The body is larger than `max_response_bytes`."""


# --- streams -----------------------------------------------------------------------------------


class StreamError(DynamiqError):
    """A stream failed, or was used in a way that it does not support."""


class StreamInterruptedError(StreamError, APIConnectionError):
    """The stream broke off: events are missing. `sequence` tells where to resume."""


class IdleTimeoutError(StreamError, APITimeoutError):
    """Not a byte arrived for `Timeout.idle` seconds while a read was awaited."""


class StreamClosedError(StreamError):
    """The stream was closed, by this or another task, before or while it was read."""


class SSEError(StreamError):
    """The base of the errors that the SSE decoder raises.

    `events` are the events of the same call to `feed` that were complete before the error.
    """

    def __init__(self, message: str = "", *, events: Sequence[Any] = (), **known: Any) -> None:
        super().__init__(message, **known)
        self.events: list[Any] = list(events)


class EventDecodeError(SSEError):
    """An event's data is not the JSON expected. `data` holds it, as bytes, undecoded."""

    def __init__(self, message: str = "", *, data: bytes = b"", **known: Any) -> None:
        super().__init__(message, **known)
        self.data = data


class EventTooLargeError(SSEError):
    """An event grew over `max_event_bytes` (`limit`) before it was complete."""

    def __init__(self, message: str = "", *, limit: int | None = None, **known: Any) -> None:
        super().__init__(message, **known)
        self.limit = limit


class QuestionError(StreamError):
    """A workflow's question cannot be answered here, or cannot be answered in this way."""


# --- runs --------------------------------------------------------------------------------------


class RunError(DynamiqError):
    """A run did not produce the result asked for. `run` is the run, where it is known."""

    def __init__(self, message: str = "", *, run: Any = None, **known: Any) -> None:
        super().__init__(message, **known)
        self.run = run


class RunFailedError(RunError):
    """The run, or the node whose output was asked for, failed."""


class RunCanceledError(RunError):
    """The run was canceled."""


class OutputMissingError(RunError):
    """The output asked for does not exist: there is no final event, or no such node."""


class ToolError(DynamiqError):
    """A tool made by `AsyncApp.tool` has no result. The message is for a language model.

    The message contains no host, no node and no text from a server. The original error is its
    `__cause__`.

    Attributes:
        retry: what calling the tool again would do. "safe": nothing was run, so it may be called
            again. "unsafe": the App ran or may have run, so it might run twice. "useless": the call
            would fail again.
    """

    def __init__(
        self,
        message: str = "",
        *,
        retry: Literal["safe", "unsafe", "useless"] = "unsafe",
        **known: Any,
    ) -> None:
        super().__init__(message, **known)
        self.retry = retry


# --- batches -----------------------------------------------------------------------------------


class BatchStoppedError(DynamiqError):
    """A batch was stopped because it could not succeed. Its results so far were returned before.

    `cause` is the error that stopped it. `results` are the results so far, in the order of the
    inputs, from `AsyncApp.batch`; from `map` it is empty, because `map` has handed them out
    already. `done` is how many inputs have a result. `not_tried` is how many were never begun; it
    is None where the number of inputs is not known. Started again with the same journal, the batch
    continues from there. `table` holds the results so far, from `to_arrow`.
    """

    table: Any = None

    def __init__(
        self,
        message: str = "",
        *,
        cause: Exception | None = None,
        results: Sequence[Any] = (),
        done: int = 0,
        not_tried: int | None = None,
        **known: Any,
    ) -> None:
        super().__init__(message, **known)
        self.cause = cause
        self.results: list[Any] = list(results)
        self.done = done
        self.not_tried = not_tried


class JobConflictError(DynamiqError):
    """The job's key has a run (`run_id`) that was made with another input, so that run is no answer
    to this input. No other run counts for the key."""


class JournalError(DynamiqError):
    """A batch's journal cannot be used, or was used for something else.

    `key` is the key of the input concerned. None: the error concerns the whole journal, and nothing
    more can be written to it. Entries written before stay as they are.
    """

    def __init__(self, message: str = "", *, key: str | None = None, **known: Any) -> None:
        super().__init__(message, **known)
        self.key = key
