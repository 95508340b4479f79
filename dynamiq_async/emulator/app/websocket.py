"""The WebSocket of an App: `GET /` with an upgrade. It runs what the root endpoint runs.

The messages are our guess, modelled on the example servers of the vendor's library. The first
message, `{"entity_id": …, "data": …}`, starts a run; `data` is what `POST /` takes, or only the
input. The library writes all fields, so a first message may have a `wf_run_id` that belongs to no
run. Events are sent as JSON text. An answer has the `wf_run_id`, `entity_id` and `event` of its
question; messages that the library would not accept as an answer are ignored. Another first message
starts the next run on the same socket. A bad message gets an error envelope.

The part of a `Fault` before the response applies to the handshake. Its position counts the events
and bytes of the whole socket, including frames.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aiohttp import WSMsgType, web

from ... import _json
from ..core.event_stream import event_faults
from ..core.feed import Feed, FeedEvent, Reader
from ..core.fields import Fields
from ..core.json import encode
from ..core.refusals import RefusalError
from ..core.response_headers import add_common_headers
from ..core.wire import Nowhere
from .invocations import STREAM_WINDOW, Invocation, new_execution, run

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .execution import Execution
    from .state import AppExchange

_TEXT = 0x81  # a whole text message in one frame
_MAX_MESSAGE = 16 * 1024 * 1024


async def serve(exchange: AppExchange) -> None:
    """`GET /`. Raises `RefusalError` (405) if the request does not ask for a WebSocket."""
    wire = exchange.wire
    socket = web.WebSocketResponse(autoclose=False, max_msg_size=_MAX_MESSAGE)
    if not socket.can_prepare(wire.request).ok:
        raise RefusalError(405, "method_not_allowed", "GET is possible here only as a WebSocket")
    if isinstance(wire, Nowhere):
        return  # nothing runs before the first message, which never comes
    add_common_headers(socket.headers, exchange.record)
    await socket.prepare(wire.request)
    await wire.upgraded()
    conversation = _Conversation(exchange)
    listener = exchange.state.tasks.spawn(conversation.listen(socket))
    try:
        await conversation.run_all()
        await socket.close()
    finally:
        listener.cancel()


class _Conversation:
    """The messages on one socket."""

    def __init__(self, exchange: AppExchange) -> None:
        self._exchange = exchange
        self._starts: asyncio.Queue[Any] = asyncio.Queue()
        self._execution: Execution | None = None
        self._ids: set[str] = set()
        self._feed: Feed | None = None

    async def listen(self, socket: web.WebSocketResponse) -> None:
        """Receive messages until the client leaves."""
        while (received := await socket.receive()).type in (WSMsgType.TEXT, WSMsgType.BINARY):
            try:
                message = _json.decode(_bytes(received.data))
            except _json.DECODE_ERRORS as error:
                message = RefusalError(400, "bad_request", f"malformed JSON: {error}")
            if self._starts_a_run(message):
                self._starts.put_nowait(message)
            else:
                self._answer(message)
        self._starts.put_nowait(None)
        if self._feed is not None:
            self._exchange.record.disconnected = True
            self._feed.close()

    def _starts_a_run(self, message: Any) -> bool:
        """Whether a message starts a run. A message with a `wf_run_id` does so only if nothing runs
        and the id is not that of a run on this socket; else it is an answer, even if too late."""
        run_id = message.get("wf_run_id") if isinstance(message, Mapping) else None
        running = self._execution is not None and self._execution.status == "running"
        return not isinstance(run_id, str) or not (running or run_id in self._ids)

    async def run_all(self) -> None:
        """Run the App for one first message after another until the client leaves."""
        while (message := await self._starts.get()) is not None:
            try:
                if isinstance(message, RefusalError):
                    raise message
                invocation = _first_message(self._exchange, message)
                self._exchange.state.charge()
            except RefusalError as refusal:
                await self._send(encode(refusal.envelope()))
            else:
                await self._run(invocation)

    async def _run(self, invocation: Invocation) -> None:
        """Run the App and send its messages. When the client leaves, the App is canceled."""
        exchange = self._exchange
        feed = self._feed = Feed(window=STREAM_WINDOW)
        reader = Reader(feed)
        execution = self._execution = new_execution(exchange, invocation)
        self._ids.add(execution.id)
        task = exchange.state.tasks.spawn(run(exchange, invocation, execution, feed))
        faults = event_faults(exchange.record.fault)
        try:
            while not reader.at_end:
                events = await reader.batch()
                await self._send_all(faults.put(events) if faults else events)
            await self._send_all(faults.rest() if faults else ())
        finally:
            self._execution = self._feed = None
            reader.close()
            task.cancel()

    async def _send_all(self, events: Iterable[FeedEvent]) -> None:
        for event in events:
            await self._send(event.data)

    async def _send(self, message: bytes) -> None:
        await self._exchange.wire.write_event(text_frame(message))
        self._exchange.wire.flush()

    def _answer(self, message: Mapping[str, Any]) -> None:
        """Answer the oldest open question that fits the message. Like the library, ignore messages
        that fit none."""
        execution = self._execution
        if execution is None:
            return
        said_to = (message.get("entity_id"), message.get("event") or "streaming")
        for question in execution.questions:
            asked = question.message or {"wf_run_id": execution.id}
            self._ids.add(asked["wf_run_id"])
            if (
                question.open
                and (question.entity_id, question.event) == said_to
                and message.get("wf_run_id") in (execution.id, asked["wf_run_id"])
                and question.take(message.get("data"))
            ):
                return


def text_frame(message: bytes) -> bytes:
    """A whole text message as one frame. A server's frames are not masked (RFC 6455)."""
    length = len(message)
    if length < 126:
        return bytes((_TEXT, length)) + message
    if length < 1 << 16:
        return bytes((_TEXT, 126)) + length.to_bytes(2) + message
    return bytes((_TEXT, 127)) + length.to_bytes(8) + message


def _bytes(data: str | bytes) -> bytes:
    return data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data


def _first_message(exchange: AppExchange, message: Any) -> Invocation:
    """The invocation of a first message. Raises `RefusalError` with a complaint per bad field."""
    data = message.get("data") if isinstance(message, Mapping) else None
    if not isinstance(data, dict):
        raise RefusalError(400, "bad_request", "the first message must be an object with data")
    # The two forms cannot be told apart for an input that has an object called `input` itself.
    request = data if isinstance(data.get("input"), dict) or "stream" in data else {"input": data}
    fields = Fields(request, [], multipart=False)
    invocation = Invocation.of(exchange, fields)
    fields.check()
    return invocation
