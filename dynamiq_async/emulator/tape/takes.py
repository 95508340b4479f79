"""One exchange while it is recorded, and its form on the tape: masked, and of limited size."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from .models import Content, Ending, Exchange, Piece, Response
from .sockets import is_control, is_final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..core.masks import Mask
    from .models import End, Request
    from .responses import Framing

MAX_RECORDED = 64 * 1024 * 1024
"""The most bytes of a response that are recorded. Bytes beyond it are only passed on."""

_COST = 100  # bytes of memory that a piece takes beside its data


class _Kept(NamedTuple):
    at: float
    data: bytes
    op: int | None
    client: bool


class Take:
    """Collects one exchange while it is recorded.

    Attributes:
        response: the head of the response, once it has come.
        end: how the exchange ended, once it has.
    """

    def __init__(self, number: int, request: Request, mask: Mask) -> None:
        self.response: Response | None = None
        self.end: Ending | None = None
        self._number = number
        self._request = request
        self._mask = mask
        self._began = asyncio.get_running_loop().time()
        self._pieces: list[_Kept] = []
        self._room = MAX_RECORDED
        self._unkept: str | None = None

    def add(self, at: float, data: bytes, op: int | None = None, *, client: bool = False) -> None:
        """Keep a piece that came at this time of the loop, while there is room."""
        self._room -= len(data) + _COST
        if self._room < 0:
            self.leave_out(f"a tape keeps {MAX_RECORDED} bytes of a response, and this had more")
        if self._unkept is None:
            self._pieces.append(_Kept(self._since(at), data, op, client))

    def leave_out(self, why: str) -> None:
        """Record no further pieces."""
        self._unkept = self._unkept or why

    def responded(
        self, at: float, status: int, headers: tuple[tuple[str, str], ...], framing: Framing
    ) -> None:
        """Note the head of the response."""
        self.response = Response(
            at=self._since(at), status=status, headers=headers, framing=framing
        )

    def finish(self, how: End, missing: int = 0, message: str | None = None) -> None:
        """Note how it ended."""
        self.end = self._ending(how, missing, message)

    def exchange(self, *, stopped: bool) -> Exchange:
        """The exchange for the tape. If it has no end, the client left or, if `stopped`, the
        recording was stopped."""
        end = self.end or self._ending("left", 0, "the recording was stopped" if stopped else None)
        if (head := self.response) is not None:
            self._mask.learn(head.headers)
            head.headers = self._mask.headers(head.headers)
        socket = head is not None and head.framing == "socket"
        data = self._masked_frames() if socket else self._masked_body()
        return Exchange(
            number=self._number,
            request=self._request,
            response=head,
            pieces=tuple(
                Piece(at=kept.at, content=Content.of(masked), op=kept.op, client=kept.client)
                for kept, masked in zip(self._pieces, data, strict=True)
            ),
            end=end,
        )

    def _ending(self, how: End, missing: int, message: str | None) -> Ending:
        if self._unkept is not None:
            how, message = "error", self._unkept
        now = self._since(asyncio.get_running_loop().time())
        return Ending(at=now, how=how, missing=missing, message=message)

    def _since(self, at: float) -> float:
        return round(max(at - self._began, 0.0), 6)

    def _masked_body(self) -> list[bytes]:
        return self._mask.pieces([kept.data for kept in self._pieces])

    def _masked_frames(self) -> list[bytes]:
        """The masked frames. The client's are masked first, because the App may repeat secrets."""
        masked = [kept.data for kept in self._pieces]
        for place, kept in enumerate(self._pieces):
            if kept.client:
                masked[place] = self._mask.request(kept.data)
        for places in self._messages():
            found = self._mask.pieces([self._pieces[place].data for place in places])
            for place, data in zip(places, found, strict=True):
                masked[place] = data
        return masked

    def _messages(self) -> Iterator[list[int]]:
        """The pieces of each message of the App. Other frames may come between those of one."""
        open_message: list[int] = []
        for place, kept in enumerate(self._pieces):
            if kept.client:
                continue
            if kept.op is not None and is_control(kept.op):
                yield [place]
                continue
            open_message.append(place)
            if kept.op is not None and is_final(kept.op):
                yield open_message
                open_message = []
        yield open_message
