"""Replays a tape: a server that responds to recorded requests as recorded, piece by piece.

A request matches by method, path, query and body. Its headers may differ, so it needs no key. If
the same request was recorded several times, each repetition gets the next exchange. After the last
one, a request that only reads (GET, HEAD, OPTIONS) gets the last exchange again; any other request
is an error. So is a request that is not on the tape: it gets a 404 whose message names the nearest
recorded request, and the message is added to `unknown`.

If the client left during the recording, the response stops where the recording stops, and stays
open.
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

_REPEATED = ("GET", "HEAD", "OPTIONS")  # they only read
_BY_ITSELF = (PING, PONG)  # each connection sends its own
_MESSAGES = (WSMsgType.TEXT, WSMsgType.BINARY)
_MOST_NOTES = 10_000
_POLICY = 1008  # the close code for a message that is not allowed
_LONGEST_REASON = 123  # bytes (RFC 6455, 5.5)


class Player(TapeServer):
    """Plays a tape.

    ```python
    async with Player("tape.jsonl") as player:
        async with AsyncApp(player.url, access_key=player.access_key) as app: ...
    ```

    Args:
        tape: the file. It is read at once.
        speed: how much faster than the recording to play; `math.inf`: without waiting.
        ignore: names of fields in bodies and queries whose values may differ from the tape, in
            addition to the masked ones: for example ids that each run generates.
        host, port, allow_hosts, allow_origins: where to listen, and who may call, as for the
            emulator (see `Serving`).

    Attributes:
        header: the first line of the tape.
        exchanges: the other lines, in the order of their requests.
        unknown: the message for each request that was not on the tape.

    Raises `TapeError` if the file is not a tape, `OSError` if there is no file, ValueError for a
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
        """A key for clients that need one. The player itself requires none."""
        return TAPE_KEY

    def rewind(self) -> None:
        """Start again: each request gets its first exchange next."""
        self._played.clear()
        self._secrets = Secrets()

    async def respond(
        self, request: web.BaseRequest, record: RequestRecord, body: Buffer, writer: ResponseWriter
    ) -> None:
        """Respond as on the tape."""
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
        """Note that a request or message was not on the tape."""
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
        """Wait until the tape's time `at`, in seconds since the request began."""
        now = asyncio.get_running_loop().time()
        # Sleep even for 0 seconds, so that a reader in this loop gets each piece separately.
        await asyncio.sleep(max(began + at / self.speed - now, 0.0))

    async def end(self, writer: ResponseWriter, taken: Exchange, began: float) -> None:
        """End a response as it ended in the recording."""
        end = taken.end
        if end.how == "left":
            await pause(math.inf)
        await self.wait(began, end.at)
        await writer.end("cut" if end.how == "error" else end.how, end.missing)


class _PlayedSocket:
    """A WebSocket of a tape. Its messages keep their recorded order."""

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
        """Wait for a message of the client. Close the socket unless it is the one on the tape."""
        said = await socket.receive()
        loop = asyncio.get_running_loop()
        # The next pieces follow the message with the same delay as in the recording.
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
    """The headers of a response, with the length of its pieces, which may be masked or edited."""
    response, end = cast("Response", taken.response), taken.end
    headers = list(response.headers)
    if response.framing != "length" or end.how not in ("whole", "cut", "reset"):
        return headers
    length = sum(len(piece.content.data) for piece in taken.pieces) + end.missing
    others = [pair for pair in headers if pair[0].lower() != "content-length"]
    return [*others, ("Content-Length", str(length))]
