"""The WebSocket of an App: `GET /` with an upgrade. It runs what the root endpoint runs.

Its messages are our guess, after the example servers of the vendor's library: `{"entity_id": …,
"data": …}` starts a run, where `data` is what `POST /` takes or only the input; streaming events
come as JSON text; an answer carries the `wf_run_id`, `entity_id` and `event` of its question. Runs
follow one another on one socket. What is wrong with a message is said in an error envelope.

Of a `Fault`, what comes before the answer happens to the handshake, and its position is counted in
the events and bytes of the whole socket, frames included.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aiohttp import WSMsgType, web

from ... import _json
from ..core.exchange import Exchange, arranger
from ..core.feed import Feed, FeedEvent, Reader
from ..core.request_bodies import Fields, RefusalError
from ..core.wire import Nowhere
from .messages import encode
from .root_endpoint import WINDOW, Invocation, new_execution, run

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .execution import Execution

_TEXT = 0x81  # a whole text message in one frame
_MAX_MESSAGE = 16 * 1024 * 1024


async def serve(exchange: Exchange) -> None:
    """`GET /`. Raises `RefusalError` (405) when no WebSocket is asked for."""
    wire = exchange.wire
    socket = web.WebSocketResponse(autoclose=False, max_msg_size=_MAX_MESSAGE)
    if not socket.can_prepare(wire.request).ok:
        raise RefusalError(405, "method_not_allowed", "GET is possible here only as a WebSocket")
    if isinstance(wire, Nowhere):
        return  # nothing runs before the first message, which never comes
    socket.headers["x-request-id"] = exchange.record.request_id
    socket.headers.update(exchange.record.fault.headers)
    await socket.prepare(wire.request)
    await wire.upgraded()
    conversation = _Conversation(exchange)
    listener = exchange.state.spawn(conversation.listen(socket))
    try:
        await conversation.run_all()
        await socket.close()
    finally:
        listener.cancel()


class _Conversation:
    """What is said on one socket."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._starts: asyncio.Queue[Any] = asyncio.Queue()
        self._execution: Execution | None = None
        self._feed: Feed | None = None

    async def listen(self, socket: web.WebSocketResponse) -> None:
        """Take in what the client says until it leaves."""
        while (received := await socket.receive()).type in (WSMsgType.TEXT, WSMsgType.BINARY):
            try:
                message = _json.decode(_bytes(received.data))
            except _json.DECODE_ERRORS as error:
                message = RefusalError(400, "bad_request", f"malformed JSON: {error}")
            if isinstance(message, Mapping) and message.get("wf_run_id"):
                self._answer(message)
            else:
                self._starts.put_nowait(message)
        self._starts.put_nowait(None)
        if self._feed is not None:
            self._exchange.record.disconnected = True
            self._feed.close()

    async def run_all(self) -> None:
        """Run the App for one message after another until the client leaves."""
        while (message := await self._starts.get()) is not None:
            try:
                if isinstance(message, RefusalError):
                    raise message
                invocation = _invocation(message)
                self._exchange.state.charge()
            except RefusalError as refusal:
                await self._say(encode(refusal.envelope()))
            else:
                await self._run(invocation)

    async def _run(self, invocation: Invocation) -> None:
        """The App lives no longer than its socket."""
        exchange = self._exchange
        feed = self._feed = Feed(window=WINDOW)
        reader = Reader(feed)
        execution = self._execution = new_execution(exchange, invocation)
        task = exchange.state.spawn(run(exchange, invocation, execution, feed))
        arrange = arranger(exchange.record.fault)
        try:
            while not reader.at_end:
                events = await reader.batch()
                await self._show(arrange.put(events) if arrange else events)
            await self._show(arrange.rest() if arrange else ())
        finally:
            self._execution = self._feed = None
            reader.close()
            task.cancel()

    async def _show(self, events: Iterable[FeedEvent]) -> None:
        for event in events:
            await self._say(event.data)

    async def _say(self, message: bytes) -> None:
        await self._exchange.wire.write_event(text_frame(message))
        self._exchange.wire.flush()

    def _answer(self, message: Mapping[str, Any]) -> None:
        """Give the answer to the oldest open question that it fits; else it is passed over, as the
        library does."""
        execution = self._execution
        data = message.get("data")
        if execution is None or execution.id != message["wf_run_id"] or not isinstance(data, dict):
            return
        for question in execution.questions:
            asked_by = (question.entity_id, question.event)
            if not question.open or asked_by != (message.get("entity_id"), message.get("event")):
                continue
            if question.kind == "approval_request":
                feedback = data.get("feedback", "")
                if feedback is None:  # the library takes that for no answer
                    return
                approved = data.get("is_approved") is True
                question.decide(approved, data.get("data") or {}, feedback or None)
            elif isinstance(data.get("content"), str):
                question.reply(data["content"])
            return


def text_frame(message: bytes) -> bytes:
    """A server's frame: a whole text message, not masked (RFC 6455)."""
    length = len(message)
    if length < 126:
        return bytes((_TEXT, length)) + message
    if length < 1 << 16:
        return bytes((_TEXT, 126)) + length.to_bytes(2) + message
    return bytes((_TEXT, 127)) + length.to_bytes(8) + message


def _bytes(data: str | bytes) -> bytes:
    return data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data


def _invocation(message: Any) -> Invocation:
    """Raises `RefusalError` with a complaint for each bad field."""
    data = message.get("data") if isinstance(message, Mapping) else None
    if not isinstance(data, dict):
        raise RefusalError(400, "bad_request", "the first message must be an object with data")
    # The two forms cannot be told apart for an input that has an object called `input` itself.
    request = data if isinstance(data.get("input"), dict) or "stream" in data else {"input": data}
    fields = Fields(request, [], multipart=False)
    input = fields.require("input", dict)
    invocation = Invocation(
        input=input or {},
        user_id=fields.get("user_id", str),
        session_id=fields.get("session_id", str),
        stream=True,
        asynchronous=False,
        callbacks=[],
        last_node_output=fields.get("last_node_output", bool) or False,
        error_on_node_failure=fields.get("error_on_node_failure", bool) or False,
        chat_history=fields.json("chat_history"),
        files=[],
    )
    fields.check()
    return invocation
