"""Replays: a server that responds as a tape says, piece by piece, to the requests that it knows.

A request is known by its method, path, query and body; its headers may be others, so that it needs
no key. The same request again gets the next of its exchanges. Behind the last one a request that
only looks (GET, HEAD, OPTIONS) gets that again; anything else is an error. So is a request that the
tape does not know: it gets a 404 whose message names the nearest one that it does, and `unknown`
has that message.

A response that its reader had left goes as far as it was recorded, and then stays open.
"""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import TYPE_CHECKING, Unpack, cast

from aiohttp import WSMsgType

from ..core.masks import Mask, Secrets
from ..core.wire import pause
from .matching import Asked, difference, explain
from .models import Content, Request, read_tape
from .server import TAPE_KEY, Serving, TapeServer, request_of, respond_json
from .sockets import CLOSE, PING, PONG, accept, frame, payload

if TYPE_CHECKING:
    from collections.abc import Collection

    from aiohttp import web

    from ..core.multipart import Buffer
    from ..core.request_record import RequestRecord
    from .models import Exchange, Header, Piece, Response
    from .writer import ResponseWriter

_REPEATED = ("GET", "HEAD", "OPTIONS")  # they only look
_BY_ITSELF = (PING, PONG)  # each connection has its own of these
_MESSAGES = (WSMsgType.TEXT, WSMsgType.BINARY)
_MOST_NOTES = 10_000
_POLICY = 1008  # the code of a close: what was said may not be
_LONGEST_REASON = 123  # bytes (RFC 6455, 5.5)


class Player(TapeServer):
    """Plays a tape.

    ```python
    async with Player("tape.jsonl") as player:
        async with AsyncApp(player.url, access_key=player.access_key) as app: ...
    ```

    Args:
        tape: the file. It is read at once.
        speed: how much faster than it was recorded; `math.inf`: without waiting.
        ignore: names of fields, in bodies and queries, whose values may be others than on the tape,
            beside those that are masked on it: ids that each run makes up, say.
        host, port, allow_hosts, allow_origins: where to listen, and who may call: as for the
            emulator (see `Serving`).

    Attributes:
        header: the first line of the tape.
        exchanges: the others, in the order of their requests.
        unknown: what was said of each request that the tape did not know.

    Raises `TapeError` for a file that is no tape, `OSError` where there is none, ValueError for a
    speed that is not above 0.
    """

    def __init__(
        self,
        tape: str | Path,
        *,
        speed: float = math.inf,
        ignore: Collection[str] = (),
        **serving: Unpack[Serving],
    ) -> None:
        super().__init__(**serving)
        if not speed > 0:
            raise ValueError("speed is a number above 0")
        self.path: Path = Path(tape)
        self.header: Header
        self.exchanges: list[Exchange]
        self.header, self.exchanges = read_tape(self.path)
        self.unknown: list[str] = []
        self.speed = speed
        self._secrets = Secrets()
        self._names = {*self.header.masked, *ignore}
        on_tape = Secrets()
        self._taped = [
            (taken, Asked.of(taken.request, Mask(self._names, on_tape))) for taken in self.exchanges
        ]
        self._by_request: dict[Asked, list[Exchange]] = {}
        for taken, asked in self._taped:
            self._by_request.setdefault(asked, []).append(taken)
        self._played: dict[Asked, int] = {}

    def __str__(self) -> str:
        return f"Replaying {self.path}"

    @property
    def access_key(self) -> str:
        """Something to give to clients that want a key. The tape asks for none."""
        return TAPE_KEY

    def rewind(self) -> None:
        """Begin again: each request gets its first exchange next."""
        self._played.clear()
        self._secrets = Secrets()

    async def respond(
        self, request: web.BaseRequest, record: RequestRecord, body: Buffer, writer: ResponseWriter
    ) -> None:
        """Respond as the tape says."""
        mask = Mask(self._names, self._secrets)
        asked = Asked.of(request_of(record, request, body, mask), mask)
        taken = self._next(asked)
        if taken is None:
            message = self._why_not(asked)
            self.note(message)
            envelope = {"error": {"code": "not_on_tape", "message": message}}
            await respond_json(request, writer, 404, envelope)
            return
        began = asyncio.get_running_loop().time()
        if taken.response is not None and taken.response.framing == "socket":
            await _PlayedSocket(self, request, writer, taken, began).play(mask)
            return
        if taken.response is not None:
            await self.wait(began, taken.response.at)
            writer.start(taken.response.status, _headers(taken), taken.response.framing)
        for piece in taken.pieces:
            await self.wait(began, piece.at)
            await writer.write(piece.content.data)
        await self.end(writer, taken, began)

    def note(self, message: str) -> None:
        """Note that the tape did not know something."""
        if len(self.unknown) < _MOST_NOTES:
            self.unknown.append(message)

    def _next(self, asked: Asked) -> Exchange | None:
        exchanges = self._by_request.get(asked, [])
        played = self._played.get(asked, 0)
        if played >= len(exchanges) and asked.method in _REPEATED:
            played = len(exchanges) - 1
        if not 0 <= played < len(exchanges):
            return None
        self._played[asked] = played + 1
        return exchanges[played]

    def _why_not(self, asked: Asked) -> str:
        exchanges = self._by_request.get(asked)
        if not exchanges:
            return explain(asked, self._taped)
        times = len(exchanges)
        return (
            f"the tape has {asked.method} {asked.path} as it was asked for {times} "
            f"time{'s' * (times > 1)}, and all of it was played"
        )

    async def wait(self, began: float, at: float) -> None:
        """Wait until it is so many seconds of the tape behind the request."""
        now = asyncio.get_running_loop().time()
        # Also where nothing is waited for, a reader in this loop sees each piece by itself.
        await asyncio.sleep(max(began + at / self.speed - now, 0.0))

    async def end(self, writer: ResponseWriter, taken: Exchange, began: float) -> None:
        """End a response as it ended."""
        end = taken.end
        if end.how == "left":
            await pause(math.inf)
        await self.wait(began, end.at)
        await writer.end("cut" if end.how == "error" else end.how, end.missing)


class _PlayedSocket:
    """A WebSocket of a tape, whose messages come in the order in which they came."""

    def __init__(
        self,
        player: Player,
        request: web.BaseRequest,
        writer: ResponseWriter,
        taken: Exchange,
        began: float,
    ) -> None:
        self._player = player
        self._request = request
        self._writer = writer
        self._taken = taken
        self._began = began

    async def play(self, mask: Mask) -> None:
        """Send what the App sent, and wait for what the client sent."""
        socket = await accept(self._request, _headers(self._taken), autoping=True)
        self._writer.upgraded()
        for piece in self._taken.pieces:
            if piece.client:
                if piece.op in _BY_ITSELF:
                    continue
                if not await self._expect(socket, piece, mask):
                    return
            elif piece.op != PONG:
                await self._player.wait(self._began, piece.at)
                data = piece.content.data
                await self._writer.write(data if piece.op is None else frame(piece.op, data))
        if self._taken.end.how == "left":
            while (await socket.receive()).type in _MESSAGES:
                continue
            await self._close(1000, b"")
            return
        await self._player.end(self._writer, self._taken, self._began)

    async def _expect(self, socket: web.WebSocketResponse, piece: Piece, mask: Mask) -> bool:
        """Wait for a message of the client. Closes the socket unless it is the one on the tape."""
        said = await socket.receive()
        loop = asyncio.get_running_loop()
        # What follows takes as long behind the message as it took then.
        self._began = loop.time() - piece.at / self._player.speed
        if said.type not in _MESSAGES:
            if piece.op == CLOSE:
                return True
            await self._close(1000, b"")
            return False
        asked, taped = (
            Asked.of(Request(method="", path="", body=Content.of(message)), mask)
            for message in (payload(said), piece.content.data)
        )
        if asked == taped:
            return True
        refused = f"the tape does not know this message of a WebSocket: {difference(asked, taped)}"
        self._player.note(refused)
        await self._close(_POLICY, refused.encode())
        return False

    async def _close(self, code: int, reason: bytes) -> None:
        text = reason[:_LONGEST_REASON].decode("utf-8", "ignore").encode()
        await self._writer.write(frame(CLOSE, code.to_bytes(2) + text))


def _headers(taken: Exchange) -> list[tuple[str, str]]:
    """The headers of a response, with the length that its pieces have now: masked, or edited."""
    response, end = cast("Response", taken.response), taken.end
    headers = list(response.headers)
    if response.framing != "length" or end.how not in ("whole", "cut", "reset"):
        return headers
    length = sum(len(piece.content.data) for piece in taken.pieces) + end.missing
    others = [pair for pair in headers if pair[0].lower() != "content-length"]
    return [*others, ("Content-Length", str(length))]
