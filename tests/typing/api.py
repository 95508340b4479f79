"""How the public names look to a type checker. Never run: `mypy --strict` reads it.

Each `type: ignore` is an error that users are meant to get; mypy complains if it is none.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, assert_type
from uuid import UUID

import msgspec
from msgspec import Raw

from dynamiq_async import (
    Accepted,
    AppStream,
    AsyncApp,
    Callback,
    DynamiqError,
    Event,
    Page,
    RunEvent,
    SocketRun,
    StreamEvent,
    Timeout,
    ToolCall,
    Upload,
    Usage,
    errors,
)
from dynamiq_async import Question as Asked
from dynamiq_async._http.paging import Pages
from dynamiq_async._http.response import ResponseInfo
from dynamiq_async.events import NodeResult, ToolCallStatus
from dynamiq_async.events.app_events import Source
from dynamiq_async.sse import ServerSentEvent, SSEDecoder
from dynamiq_async.streaming.event_stream import Batches
from dynamiq_async.streaming.output_stream import TextStream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Question(msgspec.Struct):
    question: str


class Answer(msgspec.Struct):
    answer: str


@dataclass
class Order:
    id: int


async def pieces() -> AsyncIterator[bytes]:
    yield b""


def constructors() -> None:
    assert_type(AsyncApp("app.example"), AsyncApp)
    AsyncApp()
    AsyncApp("app.example", access_key=False, timeout=None)
    AsyncApp("app.example", access_key="key", timeout=30, max_retries=0, headers={"X": "y"})
    AsyncApp("app.example", timeout=Timeout(idle=30.0, total=None), verify=Path("ca.pem"))
    AsyncApp("app.example", verify=ssl.create_default_context(), proxy="http://proxy:3128")
    AsyncApp("app.example", access_key=True)  # type: ignore[arg-type]
    AsyncApp("app.example", "key")  # type: ignore[call-arg]
    AsyncApp("app.example", api_key="key")  # type: ignore[call-arg]  # ty takes it
    Timeout(10)  # type: ignore[call-arg]


async def life(app: AsyncApp) -> None:
    async with app as entered:
        assert_type(entered, AsyncApp)
    assert_type(app.with_options(timeout=5, max_retries=1, headers={"X": "y"}), AsyncApp)
    assert_type(app.url, str)
    assert_type(await app.aclose(), None)


async def invoke(app: AsyncApp) -> None:
    assert_type(await app.invoke({"question": "?"}), Any)
    assert_type(await app.invoke(Question("?")), Any)
    assert_type(await app.invoke(Order(1), user_id="u", timeout=5, retry=True), Any)
    assert_type(await app.invoke({}, output_type=Answer), Answer)
    assert_type(await app.invoke({}, output_type=Order, files=Path("a.pdf")), Order)
    assert_type(await app.invoke({}, output_type=dict[str, int]), dict[str, int])
    assert_type(await app.invoke({}, output_type=list[Answer], max_retries=0), list[Answer])
    assert_type(await app.invoke({}, output_type=str), str)
    # What is no class is taken, and typing has no way yet to say what comes of it.
    optional: Answer | None = await app.invoke({}, output_type=Answer | None)
    either: Answer | Order = await app.invoke({}, output_type=Answer | Order, max_retries=0)
    literal: Literal["a"] = await app.invoke({}, output_type=Literal["a"])
    positive: int = await app.invoke({}, output_type=Annotated[int, "positive"])
    stream: AppStream[Answer | None] = app.stream({}, output_type=Answer | None)
    del optional, either, literal, positive, stream
    await app.invoke({}, extra_body={"x": 1}, extra_headers={"X": "y"}, extra_query={"q": [1, 2]})
    await app.invoke({}, user_id=5)  # type: ignore[call-overload]
    await app.invoke({}, colour="red")  # type: ignore[call-overload]  # ty takes it
    await app.invoke()  # type: ignore[call-overload]


async def submit(app: AsyncApp) -> None:
    callback = Callback("https://x.example", token="t", metadata={"a": 1})
    accepted = await app.submit({"question": "?"}, callbacks=[callback])
    assert_type(accepted, Accepted)
    assert_type(accepted.id, str)
    await app.submit({}, callbacks=["https://x.example"])  # type: ignore[list-item]


async def stream(app: AsyncApp) -> None:
    events = app.stream({"question": "?"}, event="data", on_bad_event="pass")
    assert_type(events, AppStream[Any])
    async for event in events:
        assert_type(event, StreamEvent)
    async with app.stream({}) as entered:
        assert_type(entered, AppStream[Any])
        assert_type(entered.text(), TextStream)
        async for piece in entered.text(entity_id="node"):
            assert_type(piece, str)
        async for batch in entered.batches():
            assert_type(batch, list[StreamEvent])
        assert_type(entered.batches(), Batches[StreamEvent])
        assert_type(await entered.output(), Any)
        assert_type(await entered.output("node"), Any)
        assert_type(await entered.output("node", output_type=Answer), Answer)
        assert_type(await entered.output(output_type=dict[str, Answer]), dict[str, Answer])
        assert_type(entered.response, ResponseInfo | None)
        assert_type(entered.run_id, str | None)
        assert_type(entered.final, StreamEvent | None)
        assert_type(entered.closed, bool)
        assert_type(entered.usage, Usage | None)
    typed = app.stream({}, output_type=Answer, event="data")
    assert_type(typed, AppStream[Answer])
    assert_type(await typed.output(), Answer)
    assert_type(await typed.output("node"), Any)
    assert_type(await typed.output("node", output_type=str), str)
    async with typed as same:
        assert_type(same, AppStream[Answer])
    app.stream({}, on_bad_event="ignore")  # type: ignore[call-overload]


async def sockets(app: AsyncApp) -> None:
    async with app.connect() as socket:
        assert_type(socket.run({}), SocketRun[Any])
        run = socket.run({}, output_type=Answer, timeout=5)
        assert_type(run, SocketRun[Answer])
        assert_type(await run.output(), Answer)


def views(event: StreamEvent) -> None:
    assert_type(event.text, str)
    assert_type(event.data, Any)
    assert_type(event.raw_data, Raw)
    assert_type(event.raw, bytes)
    assert_type(event.source, Source | None)
    assert_type(event.entity_id, str | None)
    assert_type(event.reasoning, str)
    assert_type(event.thought, str)
    assert_type(event.tool_call, ToolCall | None)
    assert_type(event.usage, Usage | None)
    assert_type(event.finish_reason, str | None)
    assert_type(event.question, Asked | None)
    assert_type(event.notice, str)
    assert_type(event.is_final, bool)
    assert_type(event.canceled, bool)
    assert_type(event.error, str | None)
    assert_type(event.nodes, dict[str, NodeResult])
    event.event = "other"  # type: ignore[misc]


def on_both_wires(event: Event) -> None:
    assert_type(event.text, str)
    assert_type(event.reasoning, str)
    assert_type(event.tool_call, ToolCall | None)
    assert_type(event.question, Asked | None)
    assert_type(event.usage, Usage | None)
    assert_type(event.error, str | None)
    assert_type(event.is_final, bool)
    assert_type(event.entity_id, str | None)
    match event.tool_call:
        case ToolCall(status="failed", output=output):
            assert_type(output, Any)
        case ToolCall(status=status):
            assert_type(status, ToolCallStatus)
        case None:
            pass


async def either_kind_is_one(app: AsyncApp, one: StreamEvent, other: RunEvent) -> None:
    on_both_wires(one)
    on_both_wires(other)
    async for event in app.runs.follow("r"):
        on_both_wires(event)


def decoders() -> None:
    assert_type(SSEDecoder(), SSEDecoder[ServerSentEvent])
    assert_type(SSEDecoder().feed(b""), list[ServerSentEvent])
    assert_type(SSEDecoder(StreamEvent), SSEDecoder[StreamEvent])
    assert_type(SSEDecoder(StreamEvent).feed(memoryview(b"")), list[StreamEvent])
    assert_type(SSEDecoder(dict[str, int], max_event_bytes=5).feed(b""), list[dict[str, int]])


def uploads() -> None:
    for content in (Path("a"), "a", b"", bytearray(), memoryview(b""), pieces()):
        Upload(content, name="a.txt", mime_type="text/plain", size=5)
    with Path("a").open("rb") as file:
        Upload(file)
    with Path("a").open() as text:
        Upload(text)  # type: ignore[arg-type]
    assert_type(Upload(b"").size, int | None)
    assert_type(Upload(b"").replayable, bool)


def failures(error: DynamiqError) -> None:
    assert_type(error.status, int | None)
    assert_type(error.retry_after, float | None)
    try:
        raise error
    except errors.APITimeoutError as timeout:
        assert_type(timeout.limit, str | None)
    except errors.EventDecodeError as broken:
        assert_type(broken.data, bytes)
    except (errors.RateLimitError, errors.InternalServerError) as answer:
        assert_type(answer.request_id, str | None)


async def endpoints(app: AsyncApp, id: UUID) -> None:
    assert_type(await app.request("GET", "v1", "x", id, 5, query={"a": [1]}), Any)
    assert_type(await app.request("POST", "v1", body=[1], output_type=Answer, retry=True), Answer)
    either: list[Answer] | None = await app.request("GET", output_type=list[Answer] | None)
    del either
    assert_type(app.pages("v1", "x"), Pages[Any])
    assert_type(await app.pages("v1", "x", query={"page": 2}, item_type=Answer), Page[Answer])
    await app.request("GET", "v1", data=b"")  # type: ignore[call-overload]  # ty takes it
    await app.request("GET", None)  # type: ignore[call-overload]
