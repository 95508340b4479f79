"""The errors by which a run's stream ends before its run, with advice on how to continue."""

from __future__ import annotations

from dynamiq_async import errors


class ServiceError(errors.EventDecodeError):
    """The service sent an error in place of an event. `said` is its decoded data."""

    said: object = None


def never_named(
    label: str, broken: errors.DynamiqError, request_id: str | None
) -> errors.AmbiguousOutcomeError:
    """The error for a run that was created, but whose stream broke before it gave the run's id."""
    message = (
        f"{label}: the run was created, and the stream broke before it told its id: "
        f"{broken.message}. With dedupe=True it could have been found again"
    )
    if isinstance(broken, errors.APITimeoutError):
        return errors.AmbiguousTimeoutError(
            message, limit=broken.limit, seconds=broken.seconds, request_id=request_id
        )
    return errors.AmbiguousConnectionError(message, request_id=request_id)


def to_go_on(
    error: errors.DynamiqError, run_id: str | None, sequence: int | None
) -> errors.StreamInterruptedError:
    """A lost connection as the error that says how to follow the run again."""
    after = f", after_sequence={sequence}" if sequence else ""
    return errors.StreamInterruptedError(
        f"{error.message}. Go on with runs.follow({run_id!r}{after})",
        status=error.status,
        request_id=error.request_id,
    )
