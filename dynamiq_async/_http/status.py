"""What an unsuccessful request means: may it have run, and may it be sent again?

"The server did not take it" and "the server asks to slow down" are two facts. The first decides
whether one request is sent again. The second delays the whole client.
"""

from __future__ import annotations

import enum
import errno
from typing import TYPE_CHECKING, NamedTuple

from dynamiq_async import errors

if TYPE_CHECKING:
    from dynamiq_async._http.request import Request


class Outcome(enum.Enum):
    """What is known of a request that did not succeed."""

    NOT_TAKEN = "it was never sent, or the server said that it did not take it"
    TRANSIENT = "the server said that it failed, in a way that may pass"
    UNKNOWN = "it was sent, and its outcome is not known"
    FINAL = "the server gave its final response"


class Meaning(NamedTuple):
    """What is known of an unsuccessful request, and whether the server asked to slow down."""

    outcome: Outcome
    slow_down: bool = False


_TRANSIENT = Meaning(Outcome.TRANSIENT)
_UNKNOWN = Meaning(Outcome.UNKNOWN)
_FINAL = Meaning(Outcome.FINAL)
_NOT_TAKEN = Meaning(Outcome.NOT_TAKEN)
_THROTTLED = Meaning(Outcome.NOT_TAKEN, slow_down=True)

# Any other status is the server's final response.
MEANINGS: dict[int, Meaning] = {
    408: _TRANSIENT,
    429: _THROTTLED,
    500: _TRANSIENT,
    # Proxies send these about a server behind them. Besides the standard ones, these are
    # Cloudflare's, and two that are in wide use for a connection that timed out.
    **dict.fromkeys((502, 503, 504, 520, 521, 522, 523, 524, 598, 599), _UNKNOWN),
}

# With `Retry-After`. A 503 without it may be a proxy's, about an App that runs all the same.
MEANINGS_WITH_RETRY_AFTER: dict[int, Meaning] = {503: _THROTTLED}


def meaning_of(error: errors.DynamiqError) -> Meaning:
    """What `error` means for the request that it came from."""
    if isinstance(error, errors.ConnectError | errors.PoolTimeoutError):
        return _NOT_TAKEN
    if isinstance(error, errors.APIStatusError):
        status = error.status or 0
        if error.retry_after is not None and status in MEANINGS_WITH_RETRY_AFTER:
            return MEANINGS_WITH_RETRY_AFTER[status]
        return MEANINGS.get(status, _FINAL)
    if isinstance(error, errors.APIConnectionError | errors.APITimeoutError):
        return _UNKNOWN
    return _FINAL


def is_success(request: Request, status: int) -> bool:
    """Whether the status is 2xx, or the 101 that a request for another protocol asks for."""
    return 200 <= status < 300 or (status == 101 and request.upgrades)


def may_have_run(error: errors.DynamiqError) -> bool:
    """Whether the request may have run: it was sent, and its outcome is not known."""
    return meaning_of(error).outcome is Outcome.UNKNOWN


def may_repeat(error: errors.DynamiqError, *, idempotent: bool) -> bool:
    """Whether sending the request again runs nothing twice."""
    outcome = meaning_of(error).outcome
    return outcome is Outcome.NOT_TAKEN or (idempotent and outcome is not Outcome.FINAL)


def asks_to_slow_down(error: errors.DynamiqError) -> bool:
    """Whether the server refused because it gets too many requests."""
    return meaning_of(error).slow_down


def lacks_files(error: errors.DynamiqError) -> bool:
    """Whether no connection was made because this process, or system, has too many files open."""
    number = getattr(error.__cause__, "errno", None)
    return isinstance(error, errors.ConnectError) and number in (errno.EMFILE, errno.ENFILE)


def may_pass(error: errors.DynamiqError) -> bool:
    """Whether repeating a read may succeed: for polls and broken streams.

    It cannot after a final response, nor when the limit of the whole call has passed.
    """
    if isinstance(error, errors.APITimeoutError):
        return error.limit != "total"
    if isinstance(error, errors.APIStatusError):
        return (error.status or 0) >= 500 or meaning_of(error).outcome is not Outcome.FINAL
    # A 2xx of another content type, such as a page of HTML, comes from a proxy.
    return isinstance(error, errors.APIConnectionError | errors.ContentTypeError)


_AMBIGUOUS: tuple[tuple[type[errors.DynamiqError], type[errors.AmbiguousOutcomeError]], ...] = (
    (errors.APITimeoutError, errors.AmbiguousTimeoutError),
    (errors.APIStatusError, errors.AmbiguousStatusError),
    (errors.APIConnectionError, errors.AmbiguousConnectionError),
)


def as_ambiguous(failure: errors.DynamiqError, request: Request) -> errors.DynamiqError:
    """`failure`; if the request may have run, an error that says so instead."""
    if request.idempotent or not may_have_run(failure):
        return failure
    kind = next(to for base, to in _AMBIGUOUS if isinstance(failure, base))
    ambiguous = failure.retold(
        kind,
        f"{failure.message}. The App may have run all the same, so it was not sent again; "
        "look for its effect, or pass retry=True for calls that are safe to repeat",
    )
    ambiguous.__cause__ = failure
    return ambiguous
