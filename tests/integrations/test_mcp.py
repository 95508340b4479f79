"""Apps as tools of an MCP server, called by the package's own client, in both generations of the
protocol."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any, TypedDict

import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp_types import ElicitResult, InputRequiredResult, TextContent

from dynamiq_async import errors
from dynamiq_async.emulator import Fault
from dynamiq_async.integrations.mcp import AppTool, make_server, tool_name
from tests.support.run_apps import waits

if TYPE_CHECKING:
    from tests.runs.conftest import Serve, Served


Mode = str
both = pytest.mark.parametrize("mode", ["auto", "legacy"])


class Topic(TypedDict, total=False):
    topic: str


def server_of(served: Served, *, secret: str = "", **options: Any) -> Any:
    options.setdefault("input", Topic)
    keys = [secret] if secret else []
    return make_server([AppTool(served.app, "bot", "Asks the bot.", **options)], keys=keys)


class Person:
    """Who is asked, and what they were asked."""

    def __init__(self, action: Any = "accept", **content: Any) -> None:
        self._result = ElicitResult(action=action, content=content or None)
        self.asked: list[Any] = []

    async def __call__(self, context: Any, params: Any) -> ElicitResult:
        self.asked.append(params)
        return self._result


def text(result: Any) -> str:
    (content,) = result.content
    assert isinstance(content, TextContent)
    return content.text


@both
async def test_a_tool_is_listed_and_called(serve: Serve, mode: Mode) -> None:
    served = await serve("echo")
    server = server_of(served, hints={"read_only_hint": True})
    async with Client(server, mode=mode) as client:
        (listed,) = (await client.list_tools()).tools
        assert (listed.name, listed.description) == ("bot", "Asks the bot.")
        assert listed.input_schema["properties"] == {"topic": {"type": "string"}}
        assert listed.annotations is not None
        assert (listed.annotations.open_world_hint, listed.annotations.read_only_hint) == (
            True,
        ) * 2
        result = await client.call_tool("bot", {"topic": "tea"})
    assert not result.is_error
    assert result.structured_content == {"topic": "tea"}
    assert '"topic":"tea"' in text(result)


@both
async def test_progress_tells_what_happens_and_nothing_of_the_content(
    serve: Serve, mode: Mode
) -> None:
    served = await serve("agent")
    told: list[tuple[float, str | None]] = []

    async def progress(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, message))

    async with Client(server_of(served), mode=mode) as client:
        await client.call_tool("bot", {"topic": "tea"}, progress_callback=progress)
    messages = [message for _, message in told]
    assert (messages[0], messages[-1]) == ("run.started", "run.completed")
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert "tea" not in str(told)


@both
async def test_a_question_is_asked_and_answered(serve: Serve, mode: Mode) -> None:
    served = await serve("feedback")
    person = Person(feedback="blue")
    async with Client(server_of(served), mode=mode, elicitation_callback=person) as client:
        result = await client.call_tool("bot", {"topic": "colour"})
    assert "blue" in text(result)
    (asked,) = person.asked
    assert asked.message == "colour"
    assert len(served.asked("/v1/runs")) == 1  # one run, although it may take two calls


@both
@pytest.mark.parametrize(
    ("person", "expected"),
    [
        (Person(approved=True, to="bob", feedback=None), "sent to bob"),
        (Person(approved=False, feedback="no"), "canceled by human with feedback no"),
        (Person("decline"), "canceled by human"),
    ],
    ids=["approved", "rejected", "declined"],
)
async def test_an_approval(serve: Serve, mode: Mode, person: Person, expected: str) -> None:
    served = await serve("approval")
    server = server_of(served, input=None, schema={"type": "object"})
    async with Client(server, mode=mode, elicitation_callback=person) as client:
        result = await client.call_tool("bot", {})
    (execution,) = served.emulator.executions
    assert expected in text(result) + str(execution.nodes)  # a node that was canceled gives nothing
    schema = person.asked[-1].requested_schema
    assert set(schema["properties"]) == {"approved", "to", "feedback"}
    assert "to: ann@example.com" in person.asked[-1].message


@both
async def test_a_question_that_is_not_answered_ends_the_call(serve: Serve, mode: Mode) -> None:
    served = await serve("feedback")
    person = Person("cancel")
    async with Client(server_of(served), mode=mode, elicitation_callback=person) as client:
        result = await client.call_tool("bot", {"topic": "colour"})
    assert result.is_error
    assert "nobody here to answer" in text(result)


@both
async def test_a_client_without_a_person_is_told(serve: Serve, mode: Mode) -> None:
    served = await serve("feedback")
    async with Client(server_of(served, on_leave="cancel"), mode=mode) as client:
        result = await client.call_tool("bot", {"topic": "colour"})
    assert result.is_error
    assert len(served.asked("/cancel")) == 1


async def asked(client: Client) -> InputRequiredResult:
    result = await client.session.call_tool("bot", {"topic": "x"}, allow_input_required=True)
    assert isinstance(result, InputRequiredResult)
    assert result.request_state is not None
    return result


async def test_state_that_is_forged_is_refused(serve: Serve) -> None:
    served = await serve("feedback")
    answers: Any = {"answer": ElicitResult(action="accept", content={"feedback": "blue"})}
    async with Client(server_of(served), elicitation_callback=Person()) as client:
        result = await asked(client)
        state = result.request_state or ""
        assert (await client.session.list_tools()).tools
        other = state[:-4] + ("AAAA" if not state.endswith("AAAA") else "BBBB")
        for forged, arguments in (
            (other, {"topic": "x"}),
            ('{"run":"r","sequence":1,"question":"q","approval":false}', {"topic": "x"}),
            (state, {"topic": "another"}),  # it is bound to the call that asked
        ):
            with pytest.raises(MCPError, match="Invalid or expired requestState"):
                await client.call_tool(
                    "bot", arguments, input_responses=answers, request_state=forged
                )
        assert not served.asked("/input")


async def test_the_same_answer_twice_does_no_harm_and_any_server_takes_it(serve: Serve) -> None:
    served = await serve("feedback")
    secret = "k" * 32
    answers: Any = {"answer": ElicitResult(action="accept", content={"feedback": "blue"})}
    async with Client(server_of(served, secret=secret), elicitation_callback=Person()) as client:
        state = (await asked(client)).request_state
    for _ in range(2):
        server = server_of(served, secret=secret)
        async with Client(server, elicitation_callback=Person()) as client:
            result = await client.call_tool(
                "bot", {"topic": "x"}, input_responses=answers, request_state=state
            )
        assert "blue" in text(result)
    assert len(served.asked("/v1/runs")) == 1


async def test_without_an_answer_the_question_is_asked_again(serve: Serve) -> None:
    served = await serve("feedback")
    async with Client(server_of(served), elicitation_callback=Person()) as client:
        first = await asked(client)
        again = await client.session.call_tool(
            "bot", {"topic": "x"}, request_state=first.request_state, allow_input_required=True
        )
        assert isinstance(again, InputRequiredResult)
        assert again.input_requests == first.input_requests


async def test_an_answer_that_is_refused_is_an_error(serve: Serve) -> None:
    served = await serve("approval")
    person = Person(approved=True, to="bob", text="not to be edited")
    async with Client(server_of(served), elicitation_callback=person) as client:
        result = await client.call_tool("bot", {"topic": "x"})
    assert result.is_error
    assert "text cannot be edited" in text(result)


async def test_an_answer_that_the_service_refuses_is_an_error(serve: Serve) -> None:
    served = await serve("feedback")
    served.emulator.script(Fault(status=400), match="POST /v1/runs/*/input")
    person = Person(feedback="blue")
    async with Client(server_of(served), elicitation_callback=person) as client:
        result = await client.call_tool("bot", {"topic": "x"})
    assert "did not accept the input" in text(result)


@both
async def test_errors_are_scrubbed(serve: Serve, mode: Mode) -> None:
    served = await serve("failing")
    async with Client(server_of(served), mode=mode) as client:
        result = await client.call_tool("bot", {"topic": "x"})
        assert result.is_error
        assert text(result).startswith("bot ran and failed. It did run")
        wrong = await client.call_tool("bot", {"topic": 3})
        assert "Expected `str`, got `int`" in text(wrong)
        none = await client.call_tool("none", {})
        assert none.is_error
    assert len(served.posts) == 1


@both
async def test_arguments_that_do_not_fit_the_schema_make_no_run(serve: Serve, mode: Mode) -> None:
    served = await serve("echo")
    schema = {
        "type": "object",
        "properties": {"question": {"type": "string"}, "more": {"$ref": "https://else.example/s"}},
        "required": ["question"],
    }
    async with Client(server_of(served, input=None, schema=schema), mode=mode) as client:
        wrong = [
            await client.call_tool("bot", arguments)
            for arguments in ({}, {"question": 7}, {"question": "a", "more": 1})
        ]
        assert not served.posts
        right = await client.call_tool("bot", {"question": "a", "else": 1})
    assert all(result.is_error for result in wrong)
    missing, number, elsewhere = map(text, wrong)
    assert "do not fit: $: 'question' is a required property" in missing
    assert "do not fit: question: 7 is not of type 'string'" in number
    assert "refers to https://else.example/s, which it does not hold" in elsewhere
    assert right.structured_content == {"question": "a", "else": 1}


async def test_who_runs_the_server_is_told_of_a_wrong_key(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    served = await serve("echo")
    served.emulator.script(Fault(status=401))
    async with Client(server_of(served)) as client:
        result = await client.call_tool("bot", {"topic": "x"})
    assert "401" not in text(result)
    [record] = [r for r in caplog.records if r.levelname == "WARNING"]
    assert record.getMessage().startswith("the tool bot: ")
    assert "401" in record.getMessage()


@pytest.mark.parametrize("on_leave", ["cancel", "detach"])
async def test_a_call_that_its_client_cancels(serve: Serve, on_leave: Any) -> None:
    served = await serve(waits)
    started = asyncio.Event()

    async def progress(progress: float, total: float | None, message: str | None) -> None:
        started.set()

    async with Client(server_of(served, on_leave=on_leave)) as client:
        call = asyncio.create_task(
            client.call_tool("bot", {"topic": "x"}, progress_callback=progress)
        )
        await asyncio.wait_for(started.wait(), 30)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    assert len(served.asked("/cancel")) == (on_leave == "cancel")


async def test_a_timeout(serve: Serve) -> None:
    served = await serve(waits)
    async with Client(server_of(served, timeout=0.3, on_leave="cancel")) as client:
        result = await client.call_tool("bot", {"topic": "x"})
    assert "did not answer in time" in text(result)
    assert len(served.asked("/cancel")) == 1


@pytest.mark.parametrize(("mode", "structured"), [("auto", ["a"]), ("legacy", {"output": ["a"]})])
async def test_an_output_that_is_no_object(serve: Serve, mode: Mode, structured: Any) -> None:
    served = await serve("echo")
    body = {"type": "run.completed", "sequence": 1, "data": {"id": "r", "output": ["a"]}}
    wire = b"data: %b\n\n" % json.dumps(body).encode()
    served.emulator.script(
        Fault(status=200, headers={"Content-Type": "text/event-stream"}, body=wire)
    )
    async with Client(server_of(served), mode=mode) as client:
        result = await client.call_tool("bot", {"topic": "x"})
    assert (text(result), result.structured_content) == ('["a"]', structured)


async def test_what_a_server_cannot_be_made_of(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = (await serve("echo")).app
    tool = AppTool(app, "bot", "Asks.")
    assert tool.schema == {"type": "object", "properties": {}}
    with pytest.raises(errors.InvalidArgumentError, match="two tools have the same name"):
        make_server([tool, tool])
    with pytest.raises(errors.InvalidArgumentError, match="32 bytes"):
        make_server([tool], keys=["short"])
    with pytest.raises(errors.InvalidArgumentError, match="give one of the two"):
        AppTool(app, "bot", "Asks.", input=Topic, schema={"type": "object"})
    with pytest.raises(errors.InvalidArgumentError, match="of an object"):
        AppTool(app, "bot", "Asks.", schema={"type": "string"})
    with pytest.raises(errors.InvalidArgumentError, match="no JSON Schema"):
        make_server([AppTool(app, "bot", "Asks.", schema={"type": "object", "required": 1})])
    monkeypatch.setitem(sys.modules, "mcp.server.lowlevel", None)
    with pytest.raises(errors.MissingExtraError, match=r"dynamiq-async\[mcp\]"):
        make_server([tool])


@pytest.mark.parametrize(
    ("app", "taken", "name"),
    [
        ("Support bot", (), "support_bot"),
        ("Support bot", ("support_bot", "support_bot_2"), "support_bot_3"),
        ("2 fast", (), "app_2_fast"),
        ("…", (), "app"),
    ],
)
def test_the_name_of_a_tool(app: str, taken: tuple[str, ...], name: str) -> None:
    assert tool_name(app, taken) == name
