"""Requests as the sender sees them: what is sent, and whether it may be sent again."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

from dynamiq_async import transport
from dynamiq_async._http.multipart import Multipart
from dynamiq_async.errors import DynamiqError, InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager


_NOTHING_HELD = nullcontext()


class Request(transport.Request):
    """One request. It can be sent any number of times, unless its body cannot be rewound.

    Args:
        idempotent: whether sending it twice has the same effect as sending it once.
        urgent: it waits neither for a slot nor for the end of a cooldown.

    Attributes:
        over_limit: it does not wait for a slot, but for the end of a cooldown.
        taken: whether the server may have taken it by now.
        upgrades: whether it asks for another protocol, such as a WebSocket.
    """

    __slots__ = ("idempotent", "over_limit", "taken", "urgent")
    body: bytes | Multipart | None
    upgrades = False

    def __init__(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | Multipart | None = None,
        *,
        idempotent: bool,
        urgent: bool = False,
    ) -> None:
        # Not by `super()`, which would cost a twentieth of a call without its transport.
        self.method = method
        self.url = url
        self.headers = headers
        self.body = body
        self.sent: bool = True
        self.idempotent: bool = idempotent
        self.urgent: bool = urgent
        self.over_limit: bool = False
        self.taken: bool = False

    def begin(self) -> None:
        """Note that another attempt begins."""
        self.sent = True

    def held(self) -> AbstractContextManager[None]:
        """Enter this while the request is sent. Raises what `Multipart.held` raises."""
        return self.body.held() if isinstance(self.body, Multipart) else _NOTHING_HELD

    @property
    def replayable(self) -> bool:
        return not isinstance(self.body, Multipart) or self.body.replayable

    def source_failure(self) -> Exception | None:
        """The error that reading the body's content raised, if any. An OSError becomes an
        InvalidArgumentError. Any other error comes from the caller's own code and stays as it
        is."""
        failure = self.body.failure if isinstance(self.body, Multipart) else None
        if not isinstance(failure, OSError) or isinstance(failure, DynamiqError):
            return failure
        said = InvalidArgumentError(
            f"{self}: a file could not be read: {type(failure).__name__}: {failure}",
            argument="files",
        )
        said.__cause__ = failure
        return said
