"""A chat's endpoints: who may do what, what is started, resumed, answered and stopped."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from dynamiq_async import errors
from dynamiq_async.emulator import Fault
from dynamiq_async.relay import Chat, Start, relay, session_for
from dynamiq_async.relay.chat_routes import Chats
from dynamiq_async.runs.models import time_of
from tests.support.backends import Browser
from tests.support.chats import Backend, as_input
from tests.support.frontends import AGUIReader, UIReader, data_of

if TYPE_CHECKING:
    from .conftest import Emulate

each_framework = pytest.mark.parametrize("kind", ["starlette", "aiohttp"])


class Page:
    """One chat of one user."""

    def __init__(self, backend: Backend, *, user: str = "ann", chat: str = "chat-1") -> None:
        self.backend = backend
        self.user = user
        self.chat = chat
        self.parts: list[dict[str, Any]] = []

    async def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Browser:
        headers = {"X_User": self.user, "Content_Type": "application/json", **headers}
        return await Browser.ask(self.backend.port, path, method=method, body=body, **headers)

    async def post(self, *messages: Any, **more: Any) -> Browser:
        body = {"id": self.chat, "messages": list(messages), **more}
        return await self.ask("POST", "/api/chat", msgspec.json.encode(body))

    async def say(self, text: str) -> bytes:
        parts = [{"type": "text", "text": text}]
        browser = await self.post({"id": "u", "role": "user", "parts": parts})
        return await body_of(browser)

    def approval(self, question: str, approved: bool, **more: Any) -> dict[str, Any]:
        approval = {"id": question, "approved": approved, **more}
        part: dict[str, Any] = {"type": "dynamic-tool", "toolName": "ask_approval"}
        part |= {"toolCallId": question}
        part |= {"state": "approval-responded", "approval": approval}
        return {"id": "a", "role": "assistant", "parts": [{"type": "step-start"}, part]}

    def text_answer(self, question: str, output: Any) -> dict[str, Any]:
        part = {"type": "dynamic-tool", "toolName": "ask_person", "toolCallId": question}
        part |= {"state": "output-available", "output": output}
        return {"id": "a", "role": "assistant", "parts": [part]}

    async def resume(self) -> Browser:
        browser = await self.ask("GET", f"/api/chat/{self.chat}/stream")
        await browser.head()
        return browser

    async def stop(self) -> Browser:
        browser = await self.ask("POST", f"/api/chat/{self.chat}/stop")
        await browser.head()
        return browser


async def body_of(browser: Browser) -> bytes:
    body = await browser.body()
    assert browser.status == 200, body
    browser.leave()
    return body


async def refused(browser: Browser) -> tuple[int, str]:
    answer = await browser.piece()
    assert browser.status != 200, answer
    browser.leave()
    error = msgspec.json.decode(answer)["error"]
    return browser.status, error["message"]


def chunks_in(body: bytes) -> list[dict[str, Any]]:
    return [msgspec.json.decode(data) for data in data_of(body) if data != b"[DONE]"]


def question_in(body: bytes) -> str:
    [tool] = [c for c in chunks_in(body) if c.get("toolName", "").startswith("ask_")]
    return str(tool["toolCallId"])


def texts(body: bytes) -> str:
    return "".join(chunk.get("delta", "") for chunk in chunks_in(body))


# --- start, resume, stop -----------------------------------------------------------------------


@each_framework
async def test_a_chat_starts_a_run_and_resumes_it(kind: str) -> None:
    async with Backend(kind) as backend:
        page = Page(backend)
        assert (await page.resume()).status == 204
        body = await page.say("hi")
        assert UIReader().read(body).wholly
        [run] = backend.emulator.runs.values()
        assert run.session_id == str(session_for("ann", "chat-1"))
        assert run.user_id == "ann"
        assert run.input == {"text": "hi"}
        again = await page.resume()
        assert again.headers["x-vercel-ai-ui-message-stream"] == "v1"
        assert again.headers["content-type"].startswith("text/event-stream")
        assert await body_of(again) == body
        assert len(backend.emulator.runs) == 1


@each_framework
async def test_a_reload_in_the_middle_misses_nothing(kind: str) -> None:
    async with Backend(kind) as backend:
        page = Page(backend)
        parts = [{"type": "text", "text": "wait"}]
        browser = await page.post({"id": "u", "role": "user", "parts": parts})
        await browser.until(b"It is ")
        browser.leave()
        again = await page.resume()
        seen = await again.until(b"It is ")
        backend.leading.go.set()
        seen += await again.body()
        assert UIReader().read(seen).wholly
        assert texts(seen) == "I look it up.It is on its way."


async def test_what_ended_before_a_while_is_not_resumed() -> None:
    async with Backend(resume_within=30) as backend:
        page = Page(backend)
        await page.say("hi")
        [run] = backend.emulator.runs.values()
        run.ended_at = datetime.now(UTC) - timedelta(seconds=25)
        assert (await page.resume()).status == 200
        run.ended_at = datetime.now(UTC) - timedelta(seconds=35)
        assert (await page.resume()).status == 204
        run.ended_at = None
        assert (await page.resume()).status == 204


async def test_the_newest_run_is_resumed() -> None:
    async with Backend() as backend:
        page = Page(backend)
        await page.say("hi")
        second = await page.say("ask")
        assert question_in(second) == question_in(await body_of(await page.resume()))


@each_framework
async def test_a_page_stops_its_run(kind: str) -> None:
    async with Backend(kind) as backend:
        page = Page(backend)
        assert (await page.stop()).status == 204
        parts = [{"type": "text", "text": "wait"}]
        browser = await page.post({"id": "u", "role": "user", "parts": parts})
        seen = await browser.until(b"It is ")
        assert (await page.stop()).status == 204
        seen += await browser.body()
        assert UIReader().read(seen).chunks[-1]["type"] == "abort"
        [run] = backend.emulator.runs.values()
        assert run.status == "canceled"
        assert (await page.stop()).status == 204


@each_framework
async def test_a_page_stops_nothing_if_the_application_does_not_say_so(kind: str) -> None:
    async with Backend(kind, stop=False) as backend:
        assert (await Page(backend).stop()).status in (404, 405)


async def test_the_input_may_be_made_in_any_way() -> None:
    async def slowly(chat: Chat) -> Start:
        file = await backend.app.files.upload(b"x", name="a.txt")
        return Start({"text": f"{chat.user}: {chat.text}"}, {"file_ids": [file.id]})

    async with Backend(input=slowly) as backend:
        await Page(backend).say("hi")
        [run] = backend.emulator.runs.values()
        assert run.input == {"text": "ann: hi"}


# --- whose chat it is --------------------------------------------------------------------------


@each_framework
async def test_a_chat_of_nobody_is_not_there(kind: str) -> None:
    async with Backend(kind) as backend:
        page = Page(backend, user="")
        parts = [{"type": "text", "text": "hi"}]
        wanted = (404, "There is no such chat.")
        assert await refused(await page.post({"role": "user", "parts": parts})) == wanted
        assert (await page.resume()).status == 404
        assert (await page.stop()).status == 404
        assert not backend.emulator.runs
        page = Page(backend, chat="c" * 201)
        assert (await page.resume()).status == 404


async def test_another_user_with_the_same_chat_id_has_another_chat() -> None:
    async with Backend() as backend:
        await Page(backend).say("hi")
        assert (await Page(backend, user="bea").resume()).status == 204


# --- answers -----------------------------------------------------------------------------------


@each_framework
@pytest.mark.parametrize(("approved", "text"), [(True, "sent to ann"), (False, "sent not: no")])
async def test_an_approval_goes_on_with_the_run(kind: str, approved: bool, text: str) -> None:
    async with Backend(kind) as backend:
        page = Page(backend)
        first = await page.say("approve")
        question = question_in(first)
        browser = await page.post(page.approval(question, approved, reason="no"))
        second = await body_of(browser)
        reader = UIReader(6, UIReader().read(first).parts).read(second)
        assert reader.chunks[0]["messageId"] == UIReader().read(first).chunks[0]["messageId"]
        assert reader.parts[-1]["text"] == f"{text}, on its way."
        assert len(backend.emulator.runs) == 1
        replay = UIReader().read(await body_of(await page.resume()))
        assert replay.parts == reader.parts


async def test_a_text_goes_on_with_the_run() -> None:
    async with Backend() as backend:
        page = Page(backend)
        question = question_in(await page.say("ask"))
        assert question in (await body_of(await page.resume())).decode()
        second = await body_of(await page.post(page.text_answer(question, "Bea")))
        assert texts(second) == "for Bea, on its way."


async def test_several_questions_follow_each_other() -> None:
    async with Backend() as backend:
        page = Page(backend)
        first = await page.say("approve ask")
        second = await body_of(await page.post(page.approval(question_in(first), True)))
        question = question_in(second)
        third = await body_of(await page.post(page.text_answer(question, "Bea")))
        reader = UIReader(6, UIReader(6, UIReader().read(first).parts).read(second).parts)
        parts = reader.read(third).parts
        assert UIReader().read(await body_of(await page.resume())).parts == parts


async def test_an_answer_for_another_users_run_is_refused() -> None:
    async with Backend() as backend:
        question = question_in(await Page(backend).say("approve"))
        other = Page(backend, user="bea")
        wanted = (404, "There is no such question.")
        assert await refused(await other.post(other.approval(question, True))) == wanted
        chat = Page(backend, chat="chat-2")
        assert await refused(await chat.post(chat.approval(question, True))) == wanted
        [run] = backend.emulator.runs.values()
        assert run.open_questions


async def test_a_forged_answer_is_refused() -> None:
    async with Backend() as backend:
        page = Page(backend)
        question = question_in(await page.say("approve"))
        run_id = question.partition(":")[0]
        for forged in (f"{run_id}:1", f"{run_id}:999", "unknown:5", "x", f"{question}:end", ""):
            answer = page.approval(forged, True)
            assert (await refused(await page.post(answer)))[0] == 404
        wrong = page.text_answer(question, "yes")
        assert await refused(await page.post(wrong)) == (
            400,
            "The question asks for an approval, not for a text.",
        )
        both = page.approval(question, True)
        both["parts"].append(both["parts"][-1])
        assert (await refused(await page.post(both)))[0] == 400
        [run] = backend.emulator.runs.values()
        assert run.open_questions
        backend.emulator.runs[run_id].session_id = None
        assert (await refused(await page.post(page.approval(question, True))))[0] == 404


async def test_an_approval_of_what_wants_a_text_is_refused() -> None:
    async with Backend() as backend:
        page = Page(backend)
        question = question_in(await page.say("ask"))
        assert await refused(await page.post(page.approval(question, True))) == (
            400,
            "The question asks for a text, not for an approval.",
        )


async def test_the_same_answer_twice_is_given_once() -> None:
    async with Backend() as backend:
        page = Page(backend)
        question = question_in(await page.say("approve"))
        await body_of(await page.post(page.approval(question, True)))
        status, message = await refused(await page.post(page.approval(question, True)))
        assert status == 409
        assert "does not wait" in message


async def test_an_old_answer_does_not_reach_a_new_question_of_the_same_id() -> None:
    async def twice(input: dict[str, Any], run: Any) -> Any:
        for to in ("ann", "bea"):
            await run.approve(f"To {to}?", {"to": to}, request_id="send")
        return "done"

    async with Backend(app=twice) as backend:
        page = Page(backend)
        first = question_in(await page.say("hi"))
        second = question_in(await body_of(await page.post(page.approval(first, True))))
        assert first != second
        assert (await refused(await page.post(page.approval(first, True))))[0] == 409
        [run] = backend.emulator.runs.values()
        assert [question.prompt for question in run.open_questions] == ["To bea?"]
        await body_of(await page.post(page.approval(second, True)))


# --- what is refused ---------------------------------------------------------------------------


@each_framework
async def test_bodies_are_bounded_and_json(kind: str) -> None:
    async with Backend(kind, max_body=1000) as backend:
        page = Page(backend)
        browser = await page.ask("POST", "/api/chat", b"[" + b" " * 1000)
        assert await refused(browser) == (413, "The body is larger than 1000 bytes.")
        browser = await page.ask("POST", "/api/chat", b"[]")
        assert (await refused(browser))[0] == 400
        browser = await page.ask("POST", "/api/chat", b"{}", Content_Type="text/plain")
        assert await refused(browser) == (415, "The content type is not application/json.")
        assert not backend.emulator.runs


@each_framework
async def test_what_the_service_refuses_is_told_by_the_status(kind: str) -> None:
    async with Backend(kind) as backend:
        backend.emulator.script(Fault(status=429, headers={"Retry-After": "61.5"}))
        parts = [{"type": "text", "text": "hi"}]
        browser = await Page(backend).post({"role": "user", "parts": parts})
        assert (await refused(browser))[0] == 429
        assert browser.headers["retry-after"] == "62"


def test_arguments_are_checked() -> None:
    async def owner(request: Any, chat_id: str) -> str:
        return "ann"

    wrong: list[dict[str, Any]] = [
        {"wire": "sse"},
        {"input": None},
        {"owner": None},
        {"sdk_version": 4},
        {"resume_within": -1},
        {"max_body": 0},
    ]
    client: Any = None
    for options in wrong:
        known: dict[str, Any] = {"input": as_input, "owner": owner, **options}
        with pytest.raises(errors.InvalidArgumentError) as caught:
            Chats(client, **known)
        assert caught.value.argument in options
    Chats(client, input=as_input, owner=owner, resume_within=0)


def test_times_are_read() -> None:
    known = datetime(2026, 11, 29, 10, 0, tzinfo=UTC)
    nanoseconds = "2026-11-29T11:00:00.000000000+01:00"
    for text in ("2026-11-29T10:00:00Z", nanoseconds, "2026-11-29 10:00"):
        assert time_of(text) == known
    assert [time_of(text) for text in (None, "", "soon")] == [None] * 3


# --- AG-UI -------------------------------------------------------------------------------------


class Agent(Page):
    """One thread of one user."""

    async def run(self, content: str = "", **more: Any) -> Browser:
        messages = [{"id": "u", "role": "user", "content": content}]
        body = {"threadId": self.chat, "runId": "r-1", "messages": messages, **more}
        return await self.ask("POST", "/api/agent", msgspec.json.encode(body))

    async def connect(self, query: str = "") -> Browser:
        browser = await self.ask("GET", f"/api/agent/{self.chat}/connect{query}")
        await browser.head()
        return browser

    @staticmethod
    def answer(id: str, **payload: Any) -> list[dict[str, Any]]:
        return [{"interruptId": id, "status": "resolved", "payload": payload}]


def interrupt_in(body: bytes) -> str:
    [interrupt] = AGUIReader().read(body).events[-1]["outcome"]["interrupts"]
    return str(interrupt["id"])


@each_framework
async def test_an_agent_runs_is_interrupted_and_goes_on(kind: str) -> None:
    async with Backend(kind) as backend:
        page = Agent(backend)
        assert (await page.connect()).status == 204
        first = await body_of(await page.run("approve"))
        events = AGUIReader().read(first).events
        assert (events[0]["threadId"], events[0]["runId"]) == ("chat-1", "r-1")
        resume = page.answer(
            interrupt_in(first), approved=True, editedArgs={"to": "bob", "text": "hi"}
        )
        second = await body_of(await page.run(resume=resume))
        assert "sent to bob, on its way." in AGUIReader().read(second).texts.values()
        again = await body_of(await page.connect("?protocolVersion=1.0&runId=r-2"))
        read = AGUIReader(is_new=True).read(again)
        assert read.events[0]["runId"] == "r-2"
        assert read.wholly


async def test_only_what_is_editable_can_be_edited() -> None:
    async with Backend() as backend:
        page = Agent(backend)
        question = interrupt_in(await body_of(await page.run("approve")))
        for edited in ({"text": "bye"}, {"to": "ann", "new": 1}):
            resume = page.answer(question, approved=True, editedArgs=edited)
            status, message = await refused(await page.run(resume=resume))
            assert status == 400
            assert "cannot be edited" in message
        resume = page.answer(question, approved=True, editedArgs={"to": "ann"})
        second = await body_of(await page.run(resume=resume))
        assert "sent to ann, on its way." in AGUIReader().read(second).texts.values()


# --- relays of questions without the routes ----------------------------------------------------


async def whole(body: Any) -> bytes:
    async with body:
        return b"".join([piece async for piece in body])


async def test_a_question_ends_the_response_and_not_the_run(emulate: Emulate) -> None:
    app, emulator = await emulate("approval")
    body = relay(app.runs.stream({}), format="ui-message-stream", on_leave="cancel")
    seen = await whole(body)
    assert body.told
    [run] = emulator.runs.values()
    assert run.status == "started"
    again = await whole(relay(app.runs.follow(run.id), format="ui-message-stream"))
    assert question_in(again) == question_in(seen)
    await app.runs.approve(run.id, (await app.runs.get(run.id)).questions[0])
    await app.runs.wait(run.id)
    again = await whole(relay(app.runs.follow(run.id), format="ui-message-stream"))
    assert UIReader().read(again).chunks[-1]["finishReason"] == "stop"


async def test_a_question_of_a_canceled_run_is_not_asked_again(emulate: Emulate) -> None:
    app, _ = await emulate("approval")
    run = await app.runs.create({}, background=True)
    async for event in app.runs.follow(run.id):
        if event.question is not None:
            break
    await app.runs.cancel(run.id)
    again = await whole(relay(app.runs.follow(run.id), format="ui-message-stream"))
    assert UIReader().read(again).chunks[-1]["type"] == "abort"


async def test_a_handler_answers_before_a_page_is_asked(emulate: Emulate) -> None:
    app, _ = await emulate("approval")
    stream = app.runs.stream({}, on_question=lambda question: True)
    body = await whole(relay(stream, format="ui-message-stream"))
    assert UIReader().read(body).chunks[-1]["finishReason"] == "stop"


async def test_a_lost_upstream_is_an_error_part(emulate: Emulate) -> None:
    app, emulator = await emulate("llm")
    formats: list[Any] = ["ui-message-stream", "ag-ui"]
    for format in formats:
        run = await app.runs.create({"input": "hi"})
        emulator.script(Fault(after_events=3, drop="reset"))
        stream = app.runs.follow(run.id, resume=False)
        body = await whole(relay(stream, format=format))
        if format == "ag-ui":
            assert AGUIReader().read(body).events[-1]["code"] == "interrupted"
        else:
            assert UIReader().read(body).chunks[-1]["type"] == "error"


@pytest.mark.parametrize("way", ["root", "websocket", "run"])
async def test_every_stream_of_an_app_can_be_shown(emulate: Emulate, way: str) -> None:
    app, _ = await emulate("parallel")

    async def both(format: Any) -> bytes:
        if way == "websocket":
            async with app.connect() as socket:
                return await whole(relay(socket.run({"q": "go"}), format=format))
        stream = app.stream({"q": "go"}) if way == "root" else app.runs.stream({"q": "go"})
        return await whole(relay(stream, format=format))

    said = [
        "Hello from the emulator. You said: left go",
        "Hello from the emulator. You said: right go",
    ]
    parts = UIReader().read(await both("ui-message-stream")).parts[1:]
    told = list(AGUIReader().read(await both("ag-ui")).texts.values())
    if way == "run":  # whose events do not tell the node
        assert [sorted(part["text"]) for part in parts] == [sorted("".join(said))]
    else:
        assert [part["text"] for part in parts] == said
        assert told == said
