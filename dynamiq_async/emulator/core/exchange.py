"""One request and the way to respond to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .json import encode

if TYPE_CHECKING:
    from .request_record import RequestRecord
    from .wire import Wire

S = TypeVar("S")
"""The type of the service's state."""


@dataclass(eq=False, slots=True)
class Exchange(Generic[S]):
    """A request to a service, and the wire for its response.

    Attributes:
        state: what the service keeps between requests.
        url: the URL of the emulator, as the client knows it. Links are built from it.
        wire: sends the response; set once the request's body is read.
        headers: headers to add to a JSON response.
    """

    state: S
    record: RequestRecord
    url: str
    wire: Wire = field(init=False)
    headers: dict[str, str] = field(default_factory=dict)

    async def respond(self, status: int, value: Any) -> None:
        """Send a JSON value."""
        headers = {"Content-Type": "application/json", **self.headers}
        await self.wire.respond(status, headers, encode(value))
