"""The fields of the records of the logger `dynamiq_async`, for formatters that write them."""

from __future__ import annotations

from typing import Any

from dynamiq_async.errors import DynamiqError


def extra(
    error: BaseException | None = None,
    *,
    run_id: str | None = None,
    sequence: int | None = None,
    attempt: int | None = None,
    status: int | None = None,
) -> dict[str, Any]:
    """The `extra=` of a log record: the run, the position in its stream, the number of the attempt
    and the HTTP status; None for unknown. Values not given are taken from an `error` of ours."""
    if isinstance(error, DynamiqError):
        run_id = error.run_id if run_id is None else run_id
        sequence = error.sequence if sequence is None else sequence
        attempt = error.attempts if attempt is None else attempt
        status = error.status if status is None else status
    return {"run_id": run_id, "sequence": sequence, "attempt": attempt, "status": status}
