"""What a failed request means: whether it may have run, and whether it may be sent again."""

from __future__ import annotations

import enum

from dynamiq_async import errors

# Proxies say these of a server behind them: beside the standard's, Cloudflare's and two that are
# in wide use for a connection that timed out.
AMBIGUOUS_STATUS = frozenset({502, 503, 504, 520, 521, 522, 523, 524, 598, 599})
TRANSIENT_STATUS = frozenset({408, 500})


class Outcome(enum.Enum):
    """What is known of a request that did not succeed."""

    NOT_TAKEN = "it was never sent, or the server said that it did not take it"
    TRANSIENT = "the server said that it failed, in a way that may pass"
    UNKNOWN = "it was sent, and nobody knows what became of it"
    FINAL = "the server gave its answer"


def outcome(error: errors.DynamiqError) -> Outcome:
    """What `error` says about the request it came from.

    A 503 means that the request was refused only when it says when to come back; without that,
    as with 502 and 504, a proxy may be speaking of an App that is running all the same.
    """
    if isinstance(error, errors.ConnectError | errors.PoolTimeoutError):
        return Outcome.NOT_TAKEN
    if isinstance(error, errors.APIStatusError):
        status = error.status
        if status == 429 or (status == 503 and error.retry_after is not None):
            return Outcome.NOT_TAKEN
        if status in AMBIGUOUS_STATUS:
            return Outcome.UNKNOWN
        return Outcome.TRANSIENT if status in TRANSIENT_STATUS else Outcome.FINAL
    if isinstance(error, errors.APIConnectionError | errors.APITimeoutError):
        return Outcome.UNKNOWN
    return Outcome.FINAL


def may_repeat(error: errors.DynamiqError, *, idempotent: bool) -> bool:
    """Whether sending the request again runs nothing twice."""
    known = outcome(error)
    return known is Outcome.NOT_TAKEN or (idempotent and known is not Outcome.FINAL)


def throttled(error: errors.DynamiqError) -> bool:
    """Whether the server took nothing because it is asked too much."""
    return isinstance(error, errors.APIStatusError) and outcome(error) is Outcome.NOT_TAKEN
