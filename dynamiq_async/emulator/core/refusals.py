"""Refusals: what is wrong with a request, for an error response as the service sends it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class RefusalError(Exception):
    """A request is refused. The service makes the body of the error response from this.

    Args:
        status: the status of the response.
        code, message, details: the fields of the error envelope; `details` maps a field of the
            request to its complaint.
    """

    def __init__(
        self, status: int, code: str, message: str, details: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.details = details

    def envelope(self) -> dict[str, Any]:
        """The error envelope, as the vendor documents it."""
        error: dict[str, Any] = {"code": self.code, "message": str(self)}
        if self.details:
            error["details"] = dict(self.details)
        return {"error": error}


def bad_fields(details: Mapping[str, str]) -> RefusalError:
    """400 with a complaint for each field."""
    listed = "; ".join(f"{name}: {complaint}" for name, complaint in details.items())
    return RefusalError(400, "bad_request", listed, details)
