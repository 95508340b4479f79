"""A failed workflow is a failure whichever way it was run, and a failed node is none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from dynamiq_async import Run, StreamEvent, errors
from dynamiq_async._failures import failed_nodes, sentence
from dynamiq_async.callbacks import CallbackVerifier
from dynamiq_async.events import RunEvent
from tests.support.callback_senders import callback
from tests.support.network import _held_to_it, app_for, clock, no_backoff, serve
from tests.support.wire import CHUNKED, LAST_CHUNK, chunk, final, make_response, script, sse

if TYPE_CHECKING:
    from tests.support.network import MakeApp, Serve

__all__ = ["_held_to_it", "app_for", "clock", "no_backoff", "serve"]

OOPS = {"status": "failure", "input": {}, "output": None, "error": {"message": "oops"}}
FINE = {"status": "success", "input": {}, "output": {"content": "hi"}}
NODES = {"good": FINE, "bad": OOPS}

FAILED = {
    "bare": ({"status": "failure", "input": {}, "output": None}, "no reason given"),
    "null": ({"status": "failure", "input": {}, "output": {}, "error": None}, "no reason given"),
    "text": ({"status": "failure", "input": {}, "output": {}, "error": "oops"}, "oops"),
    "object": ({"status": "failure", "input": {}, "output": 1, "error": {"type": "T"}}, "T"),
    "more": ({**OOPS, "duration": 1}, "oops"),
    "of a node": ({"status": "failure", "input": {}, "output": NODES}, "oops"),
    "canceled": ({"status": "canceled", "input": None, "output": None}, "canceled"),
}
TOLERATED = {
    "nodes": NODES,
    "wrapped nodes": {"output": NODES},
    "no input": {"status": "failure", "output": 1},
    "another status": {"status": "failed", "input": 1, "output": 2},
    "an error of its own": {"error": "none of ours", "input": 1},
    "a list": [OOPS],
}

each_failure = pytest.mark.parametrize(("result", "why"), FAILED.values(), ids=FAILED)
each_success = pytest.mark.parametrize("result", TOLERATED.values(), ids=TOLERATED)


def kind_of(result: Any) -> type[errors.RunError]:
    canceled = result["status"] == "canceled"
    return errors.RunCanceledError if canceled else errors.RunFailedError


def streamed(data: Any) -> bytes:
    return CHUNKED + chunk(sse(final(data))) + LAST_CHUNK


@each_failure
async def test_a_failed_result_is_an_error_of_calls_and_batches(
    result: Any, why: str, serve: Serve, app_for: MakeApp
) -> None:
    app = app_for(await serve(script(make_response(result))))
    with pytest.raises(kind_of(result), match=why) as caught:
        await app.invoke({})
    assert caught.value.body == msgspec.json.encode(result).decode()
    assert await app.invoke({}, on_failure="return") == result
    (item,) = await app.batch([{}])
    assert type(item.error) is kind_of(result)


@each_success
async def test_what_is_tolerated_is_an_output(result: Any, serve: Serve, app_for: MakeApp) -> None:
    app = app_for(await serve(script(make_response(result))))
    assert await app.invoke({}) == result
    (item,) = await app.batch([{}])
    assert item.unwrap() == result
    assert Run(id="r", status="completed", output=result).unwrap() == result
    body = msgspec.json.encode(callback(status="succeeded", output=result))
    assert CallbackVerifier(tokens=False).verify({}, body).unwrap() == result


@each_failure
async def test_a_failed_result_is_an_error_of_a_stream(
    result: Any, why: str, serve: Serve, app_for: MakeApp
) -> None:
    app = app_for(await serve(script(streamed(result))))
    with pytest.raises(kind_of(result), match=why):
        await app.stream({}).output()
    with pytest.raises(kind_of(result), match=why):
        assert [text async for text in app.stream({}).text()] == []


@each_failure
def test_a_failed_result_is_an_error_of_runs_and_callbacks(result: Any, why: str) -> None:
    kind = kind_of(result)
    with pytest.raises(kind, match=why):
        Run(id="r", status="completed", output=result).unwrap(int)
    data = {"id": "r", "status": "completed", "output": result}
    line = msgspec.json.encode({"type": "run.completed", "sequence": 1, "data": data})
    event = msgspec.json.decode(line, type=RunEvent)
    assert (event.error is not None, event.canceled) == (True, kind is errors.RunCanceledError)
    for status in ("succeeded", "failed"):
        body = msgspec.json.encode(callback(status=status, output=result))
        told = CallbackVerifier(tokens=False).verify({}, body)
        with pytest.raises(kind if status == "succeeded" else errors.RunFailedError):
            told.unwrap()


@pytest.mark.parametrize(
    "output", [NODES, {"output": NODES}, {**OOPS, "error": None} | {"output": NODES}]
)
def test_a_failed_run_says_what_its_node_said(output: Any) -> None:
    with pytest.raises(errors.RunFailedError, match="run r failed: oops"):
        Run(id="r", status="failed", output=output).unwrap()
    data = {"id": "r", "status": "failed", "output": output}
    line = msgspec.json.encode({"type": "run.failed", "sequence": 1, "data": data})
    assert msgspec.json.decode(line, type=RunEvent).error == "oops"


def test_a_canceled_run_says_why_where_that_is_known() -> None:
    with pytest.raises(errors.RunCanceledError, match=r"run r was canceled$"):
        Run(id="r", status="canceled").unwrap()
    with pytest.raises(errors.RunCanceledError, match="run r was canceled: by hand"):
        Run(id="r", status="canceled", error={"message": "by hand"}).unwrap()


def test_a_node_may_be_called_error() -> None:
    line = msgspec.json.encode(final({"error": FINE, "bad": OOPS}))
    event = msgspec.json.decode(line, type=StreamEvent)
    assert event.error is None
    assert set(event.node_failures) == {"bad"}


async def test_what_becomes_of_a_failure_is_one_of_two(serve: Serve, app_for: MakeApp) -> None:
    app = app_for(await serve(script(make_response({}))))
    with pytest.raises(errors.InvalidArgumentError, match="'raise' or 'return'") as caught:
        await app.invoke({}, on_failure="ignore")  # type: ignore[call-overload]
    assert caught.value.argument == "on_failure"


@pytest.mark.parametrize(
    ("output", "failed"),
    [
        (NODES, {"bad"}),
        ({"output": NODES}, {"bad"}),
        ({"status": "success", "input": {}, "output": NODES}, {"bad"}),
        ({"output": OOPS, "other": FINE}, {"output"}),
        ({"good": FINE}, set()),
        ({"output": "failure"}, set()),
        ([OOPS], set()),
    ],
)
def test_the_nodes_that_failed(output: Any, failed: set[str]) -> None:
    assert set(failed_nodes(output)) == failed


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("why", "why"),
        ({"message": "why"}, "why"),
        ({"error": {"code": "c", "message": "why"}}, "why"),
        ({"error": None, "message": "why"}, "why"),
        ({"type": "T"}, "T"),
        ({"code": "c"}, ""),
        ({"error": ["why"]}, ""),
        (None, ""),
        (5, ""),
    ],
)
def test_a_reason_is_a_sentence(reason: Any, expected: str) -> None:
    assert sentence(reason) == expected


def test_a_reason_may_lie_deep() -> None:
    reason: Any = "why"
    for _ in range(10_000):
        reason = {"error": reason}
    assert sentence(reason) == "why"
