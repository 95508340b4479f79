"""Where a browser goes on, and what it may not choose."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from multidict import CIMultiDict

from dynamiq_async import RunEvent, errors
from dynamiq_async.relay import Position, error_reply, relay, resume, resume_position
from dynamiq_async.sse import SSEDecoder

if TYPE_CHECKING:
    from dynamiq_async.relay import Headers

    from .conftest import Emulate


async def count(input: dict[str, Any], run: Any) -> Any:
    for number in range(5):
        await run.text(f"{number} ")


@pytest.mark.parametrize("name", ["Last-Event-ID", "last-event-id", "LAST-EVENT-ID"])
def test_the_header_is_read_whatever_its_case(name: str) -> None:
    for headers in ({name: " r-1:12 "}, CIMultiDict({name: "r-1:12"})):
        assert resume_position(headers) == Position("r-1", 12, finished=False)
    assert resume_position({name: "r-1:12:end"}) == Position("r-1", 12, finished=True)


def test_without_the_header_there_is_no_position() -> None:
    assert resume_position({}) is None
    assert resume_position({"Last-Event-ID": " "}) is None


@pytest.mark.parametrize(
    "garbage",
    ["12", "r-1", "r-1:", ":12", "r-1:-1", "r-1:1.5", "r-1:1:2", "r 1:1", "../x:1", "r:1\n",
     "é:1", "r-1:٣", "r:" + "9" * 19, "r" * 201 + ":1", "-"],
)  # fmt: skip
def test_garbage_is_an_error_that_names_the_header(garbage: str) -> None:
    headers = {"Last-Event-ID": garbage.replace("\n", "\r\n x")}
    with pytest.raises(errors.InvalidArgumentError) as caught:
        resume_position(headers)
    assert caught.value.argument == "Last-Event-ID"


async def test_a_foreign_run_is_refused(emulate: Emulate) -> None:
    app, emulator = await emulate()
    with pytest.raises(errors.InvalidArgumentError) as caught:
        resume(app.runs, "r-1", {"Last-Event-ID": "r-2:1"})
    assert caught.value.argument == "Last-Event-ID"
    assert not emulator.requests


async def test_each_place_leads_to_the_rest_and_to_nothing_twice(emulate: Emulate) -> None:
    app, emulator = await emulate(count)
    run = await app.runs.create({}, background=True)
    await emulator.wait_for_executions(1)

    async def ids(headers: dict[str, str]) -> list[str]:
        async with relay(resume(app.runs, run.id, headers, max_resumes=1)) as body:
            return [e.id for e in SSEDecoder().feed(b"".join([piece async for piece in body]))]

    everything = await ids({})
    assert len(everything) == 8
    for index, place in enumerate(everything[:-1]):
        assert await ids({"Last-Event-ID": place}) == everything[index + 1 :]


async def test_a_browser_that_has_it_all_is_told_to_come_no_more(emulate: Emulate) -> None:
    app, emulator = await emulate()
    for stream, place in (
        (app.runs.follow("r-1"), "r-1:9:end"),
        (app.stream({}), "-"),
        (app.runs.stream({}), "r-1:3"),  # it would start another run
        (app.runs.stream({}), "-"),
    ):
        body = relay(stream, on_leave="detach")
        await body.open(last_event_id=place)
        assert body.status == 204
        for _ in range(2):
            assert [piece async for piece in body] == []
        assert body.media_type == ""
        await body.aclose()
    assert not emulator.requests


async def test_any_other_place_is_the_streams_own_business(emulate: Emulate) -> None:
    app, _ = await emulate()
    for place in ("my-own-id", "r-2:9:end"):
        body = relay(app.stream({}))
        await body.open(last_event_id=place)
        assert body.status == 200
        await body.aclose()
    run = await app.runs.create({})
    body = relay(app.runs.follow(run.id))
    await body.open(last_event_id="r-2:9:end")
    assert body.status == 200
    await body.aclose()


async def test_a_place_before_the_first_event_is_the_beginning(emulate: Emulate) -> None:
    app, _ = await emulate(count)
    run = await app.runs.create({})
    async with relay(app.runs.follow(run.id), retry=None) as body:
        assert await anext(body) == f"id: {run.id}:0\n\n".encode()
    stream = resume(app.runs, run.id, {"Last-Event-ID": f"{run.id}:0"})
    assert (await anext(stream)).sequence == 1
    await stream.aclose()


async def test_the_browsers_place_goes_before_the_backends(emulate: Emulate) -> None:
    app, _ = await emulate(count)
    run = await app.runs.create({})
    for headers, first in (({}, 3), ({"Last-Event-ID": f"{run.id}:3"}, 4)):
        stream = resume(app.runs, run.id, headers, after_sequence=2)
        assert (await anext(stream)).sequence == first
        await stream.aclose()


async def test_what_is_dropped_by_map_moves_the_place_only_at_the_end(emulate: Emulate) -> None:
    app, _ = await emulate(count)
    run = await app.runs.create({})

    def odd(event: RunEvent) -> str | None:
        return event.text if event.sequence % 2 else None

    async with relay(app.runs.follow(run.id), map=odd) as body:
        events = SSEDecoder().feed(b"".join([piece async for piece in body]))
    assert [event.id for event in events] == [f"{run.id}:{n}" for n in ("3", "5", "7:end")]


async def test_positions_are_told_only_for_ids_that_come_back_as_they_were(
    emulate: Emulate,
) -> None:
    app, _ = await emulate()
    async with asyncio.timeout(5), relay(app.runs.follow("r 1/é"), retry=None) as body:
        assert body.status == 404


class ItemsOnly:
    """Headers that are no `Mapping`, as Werkzeug's are."""

    def items(self) -> list[tuple[str, str]]:
        return [("host", "x"), ("Last-Event-Id", " r-1:7 ")]


@pytest.mark.parametrize(
    "headers",
    [ItemsOnly(), [(b"host", b"x"), (b"last-event-id", b"r-1:7")], {"LAST-EVENT-ID": "r-1:7"}],
)
async def test_headers_of_any_framework_are_taken(headers: Headers) -> None:
    assert resume_position(headers) == Position("r-1", 7)


@pytest.mark.parametrize("run_id", [".", ".."])
async def test_a_run_id_that_would_be_another_path_is_the_browsers_mistake(
    run_id: str, emulate: Emulate
) -> None:
    app, emulator = await emulate()
    with pytest.raises(errors.InvalidArgumentError) as caught:
        resume(app.runs, run_id, {})
    assert error_reply(caught.value).status == 400
    assert not emulator.requests


@pytest.mark.parametrize("after", [9, 1000, 10**17])
async def test_a_position_behind_the_end_is_told_at_once(emulate: Emulate, after: int) -> None:
    """One look at the run decides. The browser is not told to come back for the same again."""
    app, emulator = await emulate(count)
    run = await app.runs.create({}, background=True)
    await emulator.wait_for_executions(1)
    emulator.reset()
    stream = resume(app.runs, run.id, {"Last-Event-ID": f"{run.id}:{after}"})
    async with relay(stream) as body:
        pieces = b"".join([piece async for piece in body])
    (event,) = SSEDecoder().feed(pieces)
    assert event.event == "error"
    assert b"invalid_position" in pieces
    assert b"last_event_id" not in pieces
    assert len(emulator.requests) <= 6
    error = body.error
    assert isinstance(error, errors.InvalidArgumentError)
    assert (error.argument, error_reply(error).status) == ("after_sequence", 400)
