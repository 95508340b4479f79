"""Requests as the sender sees them: what goes over the wire, and what may be done with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dynamiq_async import transport
from dynamiq_async._http.multipart import Multipart
from dynamiq_async.errors import DynamiqError, InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Mapping


class Request(transport.Request):
    """One request, ready to be sent any number of times unless its body cannot be rewound.

    Args:
        idempotent: whether sending it twice does what sending it once does.
        urgent: no limit of requests and no cooldown holds it back.

    Attributes:
        taken: whether the server may have taken it so far.
        upgrades: whether it asks to go on in another protocol.
    """

    __slots__ = ("idempotent", "taken", "urgent")
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
        super().__init__(method, url, headers, body)
        self.idempotent = idempotent
        self.urgent = urgent
        self.taken = False

    def begin(self) -> None:
        """Another attempt begins."""
        self.sent = True

    @property
    def replayable(self) -> bool:
        return not isinstance(self.body, Multipart) or self.body.replayable

    def source_failure(self) -> Exception | None:
        """What the source of the body raised, if that is what went wrong. What is no failure to
        read comes from the caller's own code, and is the caller's."""
        failure = self.body.failure if isinstance(self.body, Multipart) else None
        if not isinstance(failure, OSError) or isinstance(failure, DynamiqError):
            return failure
        said = InvalidArgumentError(
            f"{self}: a file could not be read: {type(failure).__name__}: {failure}",
            argument="files",
        )
        said.__cause__ = failure
        return said
