"""A service: its endpoints, who may call them, and how it refuses."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Concatenate, Generic, TypeVar

from .exchange import Exchange
from .refusals import RefusalError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .request_record import RequestRecord
    from .wire import Wire

S = TypeVar("S")

Handler = Callable[Concatenate[Exchange[S], ...], Awaitable[None]]
"""Responds to the requests of one endpoint. Its other arguments are variable parts of the path."""

Route = tuple[str, re.Pattern[str], Handler[S]]
"""A method, a path whose groups are arguments of the handler, and the handler."""


@dataclass(frozen=True, kw_only=True)
class Service(Generic[S]):
    """What one host serves.

    Attributes:
        state: what the service keeps between requests.
        routes: the endpoints. The first route that matches counts.
        authorize: raises `RefusalError` unless the request is allowed.
        refusal: makes the body of a response that refuses.
    """

    state: S
    routes: Sequence[Route[S]]
    authorize: Callable[[Exchange[S]], None]
    refusal: Callable[[RefusalError], Any] = RefusalError.envelope

    async def respond(
        self, record: RequestRecord, wire: Wire, refused: RefusalError | None
    ) -> None:
        """Respond to a request, which may have been `refused` when its body was read."""
        exchange = Exchange(self.state, record, wire)
        try:
            if refused is not None:
                raise refused
            handler, arguments = self._route(record)
            self.authorize(exchange)
            await handler(exchange, *arguments)
        except RefusalError as error:
            await exchange.respond(error.status, self.refusal(error))

    def _route(self, record: RequestRecord) -> tuple[Handler[S], tuple[str, ...]]:
        """The handler for a request, and the variable parts of its path."""
        known = False
        for method, pattern, handler in self.routes:
            if match := pattern.fullmatch(record.endpoint):
                if method == record.method:
                    return handler, match.groups()
                known = True
        if known:
            raise RefusalError(405, "method_not_allowed", f"{record.method} is not possible here")
        raise RefusalError(404, "not_found", "there is nothing here")
