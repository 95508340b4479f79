"""What the streams of the root endpoint hand out, and what they raise."""

from __future__ import annotations

import pickle
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from dynamiq_async import AsyncApp, Callback, errors
from dynamiq_async._http.request_options import UNSET
from tests.support.wire import CHUNKED, LAST_CHUNK, chunk, final, make_response, says, script, sse

if TYPE_CHECKING:
    from dynamiq_async import AppStream
    from tests.support.network import MakeApp, Serve

INPUT = {"question": "?"}
CAPTURE = files("dynamiq_async.emulator.app") / "data" / "agent.jsonl"


@pytest.fixture
def streaming(serve: Serve, app_for: MakeApp) -> Any:
    """Opens a stream of these events."""

    async def start(*events: Any, chunks: int = 1, **options: Any) -> AppStream:
        blocks = [sse(event) for event in events]
        size = -(-len(blocks) // chunks) or 1
        body = b"".join(chunk(b"".join(blocks[i : i + size])) for i in range(0, len(blocks), size))
        wire = await serve(
            script(
                CHUNKED.replace(b"\r\n\r\n", b"\r\nX-Request-Id: r-1\r\n\r\n") + body + LAST_CHUNK
            )
        )
        return app_for(wire).stream(INPUT, **options)

    return start


async def test_the_request(serve: Serve, app_for: MakeApp) -> None:
    wire = await serve(script(CHUNKED + LAST_CHUNK))
    stream = app_for(wire).stream(
        INPUT,
        user_id="u",
        session_id="s",
        last_node_output=True,
        error_on_node_failure=False,
        extra_body={"more": [1]},
    )
    assert wire.requests == []
    async with stream:
        pass
    (request,) = wire.requests
    assert (request.method, request.target) == ("POST", "/")
    assert request.headers["accept"] == "text/event-stream"
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["content-type"] == "application/json"
    assert request.json() == {
        "input": INPUT,
        "stream": True,
        "user_id": "u",
        "session_id": "s",
        "last_node_output": True,
        "error_on_node_failure": False,
        "more": [1],
    }


async def test_text_is_the_readers_only(streaming: Any) -> None:
    other = {**says("thought"), "data": {"choices": [{"delta": {"content": {"thought": "x"}}}]}}
    tool = says("no")
    tool["data"]["choices"][0]["delta"]["step"] = "tool"
    stream = await streaming(says("one "), other, says(""), tool, says("two"), final(), chunks=3)
    assert [piece async for piece in stream.text()] == ["one ", "two"]
    assert stream.run_id == "wf-1"
    assert stream.final is not None


async def test_text_of_one_node(streaming: Any) -> None:
    events = [says("a1", "a"), says("b1", "b"), says("a2", "a"), says("b2", "b"), final()]
    stream = await streaming(*events)
    assert [piece async for piece in stream.text(entity_id="b")] == ["b1", "b2"]
    stream = await streaming(*events)
    assert [piece async for piece in stream.text()] == ["a1", "b1", "a2", "b2"]


async def test_only_events_of_a_name_and_the_final_one(streaming: Any) -> None:
    events = [says("a", event="data"), says("b", event="streaming"), says("c"), final()]
    stream = await streaming(*events, event="data", chunks=4)
    assert [event.text for event in [event async for event in stream]] == ["a", "c", ""]
    assert stream.final is not None
    stream = await streaming(*events, event="nothing")
    assert [event.is_final async for event in stream] == [True]
    stream = await streaming(*events[:3], event="nothing", chunks=3)
    assert [event async for event in stream] == []
    with pytest.raises(errors.OutputMissingError):
        await stream.output()


async def test_batches_are_what_one_read_brought(streaming: Any) -> None:
    events = [says(str(n)) for n in range(10)] + [final()]
    stream = await streaming(*events)
    first = await anext(stream)
    assert first.text == "0"
    batches = [batch async for batch in stream.batches()]
    texts = [event.text for batch in batches for event in batch]
    assert texts == [str(n) for n in range(1, 10)] + [""]
    assert len(batches[0]) >= 1
    assert await anext(stream, None) is None


async def test_an_agents_stream(streaming: Any) -> None:
    """Deltas as an agent of the vendor's library sent them."""
    deltas = [msgspec.json.decode(line) for line in CAPTURE.read_bytes().splitlines()]
    events = [{**says(""), "data": {"choices": [{"delta": delta}]}} for delta in deltas]
    stream = await streaming(*events, final(), chunks=7)
    seen = [event async for event in stream]
    sent = [event.data["choices"][0]["delta"] for event in seen[:-1]]
    assert sent == deltas
    answer = "".join(delta["content"] for delta in deltas if delta["step"] == "answer")
    assert "".join(event.text for event in seen) == answer
    assert any(event.tool_call for event in seen)
    assert await stream.output("agent-1") == {"content": "hi"}


async def test_what_is_known_of_the_response(streaming: Any) -> None:
    stream = await streaming(says("x"), final())
    known: list[Any] = [stream.response, stream.run_id, stream.closed]
    assert known == [None, None, False]
    async with stream:
        response: Any = stream.response
        assert response.status == 200
        assert response.request_id == "r-1"
        assert response.headers["content-type"] == "text/event-stream"
        assert response.attempts == 1
    assert stream.closed


# --- output --------------------------------------------------------------------------------------


class Content(msgspec.Struct):
    content: str


NODES = {
    "good": {"status": "success", "input": {}, "output": {"content": "hi"}},
    "bad": {"status": "failure", "input": {}, "output": None, "error": {"message": "oops"}},
    "gone": {"status": "canceled", "input": {}, "output": None},
    "skipped": {"status": "skip", "input": {}, "output": None},
}


async def test_output(streaming: Any) -> None:
    stream = await streaming(says("x"), final(NODES))
    async with stream:
        assert await stream.output() == NODES
        assert await stream.output("good") == {"content": "hi"}
        assert await stream.output("good", output_type=Content) == Content("hi")
        assert await stream.output("skipped") is None
        assert set(await stream.output(output_type=dict[str, Any])) == set(NODES)
    assert await stream.output("good") == {"content": "hi"}  # known, so still there


async def test_output_behind_reading(streaming: Any) -> None:
    stream = await streaming(says("x"), final(NODES))
    async for _ in stream:
        pass
    assert await stream.output("good") == {"content": "hi"}
    stream = await streaming(says("x"), final(NODES))
    await anext(stream)
    assert await stream.output("good") == {"content": "hi"}


async def test_output_of_a_stream_that_was_closed(streaming: Any) -> None:
    stream = await streaming(says("x"), final(NODES), chunks=2)
    await stream.aclose()
    with pytest.raises(errors.StreamClosedError):
        await stream.output()


async def test_output_that_is_not_there(streaming: Any) -> None:
    stream = await streaming(says("x"))
    with pytest.raises(errors.OutputMissingError, match="final event") as caught:
        await stream.output()
    assert caught.value.request_id == "r-1"
    assert caught.value.run_id == "wf-1"
    stream = await streaming(final(NODES))
    with pytest.raises(errors.OutputMissingError, match=r"'nope'.*bad, gone, good, skipped"):
        await stream.output("nope")
    stream = await streaming(final({}))
    with pytest.raises(errors.OutputMissingError, match="it has none"):
        await stream.output("nope")


async def test_output_that_does_not_fit(streaming: Any) -> None:
    stream = await streaming(final(NODES))
    async with stream:
        with pytest.raises(errors.ResponseDecodeError, match="'good' does not fit int"):
            await stream.output("good", output_type=int)
        with pytest.raises(errors.ResponseDecodeError, match="does not fit list"):
            await stream.output(output_type=list[int])
    stream = await streaming(final([1, 2]))
    with pytest.raises(errors.ResponseDecodeError) as caught:
        await stream.output("good")
    assert caught.value.body == "[1,2]"


# --- failures ------------------------------------------------------------------------------------

FAILURES = {
    "failed": ({"error": "it broke"}, errors.RunFailedError, "it broke"),
    "failed, as an object": ({"error": {"message": "it broke"}}, errors.RunFailedError, "it broke"),
    "canceled": (
        {"canceled": True, "error": {"message": "by hand"}},
        errors.RunCanceledError,
        "by hand",
    ),
}


@pytest.mark.parametrize(("data", "kind", "why"), FAILURES.values(), ids=FAILURES)
async def test_a_failure_is_handed_out_and_raised_by_what_needs_the_result(
    data: Any, kind: type[errors.DynamiqError], why: str, streaming: Any
) -> None:
    stream = await streaming(says("one"), final(data))
    events = [event async for event in stream]
    assert [event.is_final for event in events] == [False, True]
    assert events[-1].error == why
    with pytest.raises(kind, match=why):
        stream.raise_for_failure()

    for use in ("text", "output", "node"):
        stream = await streaming(says("one"), final(data))
        pieces = []
        with pytest.raises(kind, match=why) as caught:
            if use == "text":
                async for piece in stream.text():
                    pieces.append(piece)  # noqa: PERF401 - the pieces before the error count
            else:
                await stream.output("good" if use == "node" else None)
        assert pieces == (["one"] if use == "text" else [])
        assert caught.value.run_id == "wf-1"
        assert caught.value.request_id == "r-1"
        assert caught.value.body == msgspec.json.encode(data).decode()
        again = pickle.loads(pickle.dumps(caught.value))
        assert vars(again) == vars(caught.value)


async def test_a_large_failure_is_capped(streaming: Any) -> None:
    stream = await streaming(final({"error": "x" * 100_000}))
    with pytest.raises(errors.RunFailedError) as caught:
        await stream.output()
    assert caught.value.body is not None
    assert len(caught.value.body) <= 16 * 1024


async def test_a_nodes_failure_is_raised_for_that_node_only(streaming: Any) -> None:
    stream = await streaming(final(NODES))
    async with stream:
        stream.raise_for_failure()
        assert [text async for text in stream.text()] == []
        with pytest.raises(errors.RunFailedError, match="'bad' ended in failure: oops"):
            await stream.output("bad")
        with pytest.raises(errors.RunCanceledError, match="'gone' ended in canceled"):
            await stream.output("gone")


async def test_nothing_is_raised_for_while_nothing_is_known(streaming: Any) -> None:
    stream = await streaming(says("x"))
    stream.raise_for_failure()


FRAMES = [
    ({"code": "unauthorized", "message": "m"}, errors.AuthenticationError, 401),
    (
        {"code": "bad_request", "message": "m", "details": {"input": "x"}},
        errors.BadRequestError,
        400,
    ),
    ({"code": "not_found", "message": "m"}, errors.NotFoundError, 404),
    ({"code": "subscription_limit_reached", "message": "m"}, errors.QuotaExceededError, 403),
    ({"code": "of its own", "message": "m"}, errors.RunFailedError, None),
    ("m", errors.RunFailedError, None),
]


SAID = {
    "detail": (b'{"detail": "it is down"}', "it is down"),
    "details": (b'{"detail": [{"msg": "it is down"}]}', "it is down"),
    "message": (b'{"message": "it is down"}', "it is down"),
    "error": (b'{"error": "it is down"}', "it is down"),
    "envelope": (b'{"error": {"code": "x", "message": "it is down"}}', "x it is down"),
    "unknown object": (b'{"reason": "it is down"}', "an error without a text"),
    "text in JSON": (b'"it is down"', "it is down"),
    "text": (b"it is down", "it is down"),
    "page": (b"<title>it is down</title>", "it is down"),
    "several lines": (b"it is\ndata: down", "it is\ndown"),
    "nothing": (b"", "an error without a text"),
    "null": (b"null", "an error without a text"),
    "no source": (b'{"source": null, "message": "it is down"}', "it is down"),
}


@pytest.mark.parametrize(("data", "said"), SAID.values(), ids=SAID)
@pytest.mark.parametrize("on_bad_event", ["raise", "pass"])
async def test_an_event_named_error_is_an_error_whatever_it_holds(
    data: bytes, said: str, on_bad_event: Any, serve: Serve, app_for: MakeApp
) -> None:
    block = b"event: error\ndata: %s\n\n" % data
    body = chunk(sse(says("one"))) + chunk(block) + chunk(sse(says("never")))
    app = app_for(await serve(script(CHUNKED + body + LAST_CHUNK)))
    stream = app.stream(INPUT, on_bad_event=on_bad_event)
    assert [event.text async for event in stream] == ["one", ""]
    pieces = []
    with pytest.raises(errors.RunFailedError) as caught:
        async for piece in app.stream(INPUT, on_bad_event=on_bad_event).text():
            pieces.append(piece)  # noqa: PERF401 - the pieces before the error count
    assert said in caught.value.message
    assert pieces == ["one"]


@pytest.mark.parametrize("name", [b"warning", b"errors", b"Error", b"info"])
async def test_an_event_named_otherwise_is_no_error(
    name: bytes, serve: Serve, app_for: MakeApp
) -> None:
    block = b'event: %s\ndata: {"message": "it is slow"}\n\n' % name
    body = chunk(block + sse(says("one"), final()))
    app = app_for(await serve(script(CHUNKED + body + LAST_CHUNK)))
    assert [piece async for piece in app.stream(INPUT).text()] == ["one"]


async def test_a_node_may_name_its_events_error(serve: Serve, app_for: MakeApp) -> None:
    one = {**says("one"), "event": "error"}
    without_data = {"source": {"type": "dynamiq.nodes.llms.OpenAI"}, "note": "x"}
    blocks = [b"event: error\n" + sse(event) for event in (one, without_data)]
    body = chunk(b"".join(blocks) + sse(final()))
    app = app_for(await serve(script(CHUNKED + body + LAST_CHUNK)))
    assert [piece async for piece in app.stream(INPUT).text()] == ["one"]


@pytest.mark.parametrize(("error", "kind", "status"), FRAMES)
@pytest.mark.parametrize("named", [False, True], ids=["bare", "as an event"])
async def test_an_error_in_place_of_an_event_has_its_http_class(
    error: Any, kind: type[errors.DynamiqError], status: int | None, named: bool, streaming: Any
) -> None:
    frame = {"event": "error", "data": {"error": error}} if named else {"error": error}
    stream = await streaming(says("one"), frame, says("never"))
    events = [event async for event in stream]
    assert [event.text for event in events] == ["one", ""]
    stream = await streaming(says("one"), frame)
    with pytest.raises(kind, match="m") as caught:
        await stream.output()
    assert type(caught.value) is kind
    assert caught.value.status == status
    assert caught.value.request_id == "r-1"
    if isinstance(error, dict):
        assert caught.value.code == error["code"]
        assert caught.value.details == error.get("details")


async def test_questions_cannot_be_answered_here(streaming: Any) -> None:
    question = says("")
    question["data"] = {"prompt": "Sure?", "action": "ask", "questions": None}
    stream = await streaming(question, final())
    event = await anext(stream)
    assert event.question.prompt == "Sure?"
    with pytest.raises(errors.QuestionError, match=r"app\.runs.*WebSocket"):
        await stream.answer(event, "yes")
    await stream.aclose()


# --- invoke and submit ---------------------------------------------------------------------------


class Answer(msgspec.Struct):
    answer: str


class Question(msgspec.Struct):
    question: str


async def test_invoke(serve: Serve, app_for: MakeApp) -> None:
    wire = await serve(script(make_response({"answer": "hi"})))
    app = app_for(wire)
    assert await app.invoke(Question("?"), output_type=Answer) == Answer("hi")
    assert await app.invoke(INPUT, user_id="u") == {"answer": "hi"}
    assert wire.requests[0].json() == {"input": {"question": "?"}}
    assert wire.requests[1].json() == {"input": INPUT, "user_id": "u"}
    with pytest.raises(errors.ResponseDecodeError):
        await app.invoke(INPUT, output_type=list[int])
    with pytest.raises(errors.InvalidArgumentError):
        await app.invoke([1])
    with pytest.raises(errors.InvalidArgumentError):
        await app.invoke({"x": object()})
    assert len(wire.requests) == 3


async def test_invoke_raises_a_failed_result(serve: Serve, app_for: MakeApp) -> None:
    result = {"status": "failure", "input": {}, "output": None, "error": {"message": "oops"}}
    wire = await serve(script(make_response(result)))
    with pytest.raises(errors.RunFailedError, match="oops") as caught:
        await app_for(wire).invoke(INPUT)
    assert caught.value.attempts == 1


async def test_submit(serve: Serve, app_for: MakeApp) -> None:
    wire = await serve(script(make_response({"id": "r-1", "status": "accepted"}, 202)))
    callback = Callback("https://hook.example/x", token="t", metadata={"a": 1})
    accepted = await app_for(wire).submit(INPUT, callbacks=[callback])
    assert (accepted.id, accepted.status) == ("r-1", "accepted")
    assert wire.requests[0].json() == {
        "input": INPUT,
        "execution_mode": "async",
        "callbacks": [
            {
                "url": "https://hook.example/x",
                "auth": {"type": "bearer", "token": "t"},
                "metadata": {"a": 1},
            }
        ],
    }
    with pytest.raises(errors.InvalidArgumentError):
        await app_for(wire).submit(INPUT, callbacks=[callback] * 6)


# --- where the address and the key come from -----------------------------------------------------


async def test_settings_of_the_environment(
    serve: Serve, app_for: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DYNAMIQ_APP_URL", raising=False)
    monkeypatch.delenv("DYNAMIQ_ACCESS_KEY", raising=False)
    with pytest.raises(errors.InvalidArgumentError, match="DYNAMIQ_APP_URL"):
        AsyncApp()
    with pytest.raises(errors.InvalidArgumentError, match="DYNAMIQ_ACCESS_KEY"):
        AsyncApp("x.example")
    wire = await serve(script(make_response({})))
    monkeypatch.setenv("DYNAMIQ_APP_URL", wire.url)
    monkeypatch.setenv("DYNAMIQ_ACCESS_KEY", "from-outside")
    async with AsyncApp() as app:
        await app.invoke(INPUT)
    assert wire.requests[0].headers["authorization"] == "Bearer from-outside"
    assert AsyncApp("x.example").url == "https://x.example"
    assert repr(UNSET) == "<not given>"


@pytest.mark.parametrize(
    "options",
    [
        {"max_retries": -1},
        {"max_retries": True},
        {"max_connections": 0},
        {"max_response_bytes": 0},
        {"max_event_bytes": 0},
        {"max_retry_after": 0},
        {"headers": {"a b": "x"}},
        {"headers": {"a": "x\r\ny"}},
    ],
)
def test_misspelt_settings(options: dict[str, Any]) -> None:
    with pytest.raises(errors.InvalidArgumentError) as caught:
        AsyncApp("x.example", access_key="k", **options)
    assert caught.value.argument in options
