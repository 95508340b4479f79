"""A service: its endpoints, its authorization and its error responses."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Concatenate, Generic, NamedTuple, TypeVar

from .exchange import Exchange
from .refusals import RefusalError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .request_record import RequestRecord
    from .wire import Wire

S = TypeVar("S")

Handler = Callable[Concatenate[Exchange[S], ...], Awaitable[None]]
"""Responds to the requests of one endpoint. Further arguments are variable parts of the path."""

Route = tuple[str, re.Pattern[str], Handler[S]]
"""A method, a path whose groups are arguments of the handler, and the handler."""


class Admission(NamedTuple):
    """A service's decision about a request, made from its head.

    Attributes:
        refused: why the request is refused, if it is; its body is then ignored.
        respond: sends the response, or the error response of a refused request.
    """

    refused: RefusalError | None
    respond: Callable[[Wire, RefusalError | None], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Service(Generic[S]):
    """The endpoints of one host.

    Attributes:
        state: what the service keeps between requests.
        routes: the endpoints. The first matching route is used.
        authorize: raises `RefusalError` unless the request is allowed.
        refusal: makes the body of an error response.
    """

    state: S
    routes: Sequence[Route[S]]
    authorize: Callable[[Exchange[S]], None]
    refusal: Callable[[RefusalError], Any] = RefusalError.envelope

    def admit(self, record: RequestRecord, url: str, refused: RefusalError | None) -> Admission:
        """Authorize a request by its head, unless it is `refused` already.

        `url` is the URL of the emulator, as the client knows it.
        """
        exchange = Exchange(self.state, record, url)
        try:
            if refused is None:
                self.authorize(exchange)
        except RefusalError as error:
            refused = error
        return Admission(refused, partial(self._respond, exchange))

    async def _respond(
        self, exchange: Exchange[S], wire: Wire, refused: RefusalError | None
    ) -> None:
        exchange.wire = wire
        try:
            if refused is not None:
                raise refused
            handler, arguments = self._route(exchange.record)
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
