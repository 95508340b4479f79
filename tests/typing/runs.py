"""How runs and files look to a type checker. Never run: `mypy --strict` reads it.

Each `type: ignore` is an error that users are meant to get; mypy complains if it is none.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_type
from uuid import UUID

import msgspec

from dynamiq_async import (
    AsyncApp,
    File,
    Page,
    Question,
    QuestionEvent,
    Run,
    RunEvent,
    RunQuestion,
    RunStream,
    Timeout,
    ToolCall,
    Upload,
    Usage,
)
from dynamiq_async._http.paging import PageIterator, Pages
from dynamiq_async.events.run_events import RunState
from dynamiq_async.runs import RunHandle
from dynamiq_async.streaming.event_stream import Batches
from dynamiq_async.streaming.output_stream import TextStream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Answer(msgspec.Struct):
    answer: str


async def pieces() -> AsyncIterator[bytes]:
    yield b""


async def create(app: AsyncApp) -> None:
    assert_type(await app.runs.create({"question": "?"}), Run)
    assert_type(await app.runs.create({}, background=True), Run)
    assert_type(await app.runs.create({}, output_type=Answer), Answer)
    assert_type(await app.runs.create({}, output_type=list[int], dedupe=True), list[int])
    await app.runs.create({}, files=Path("a.pdf"), file_ids=["f"], user_id="u", timeout=5)
    await app.runs.create({}, session_id=UUID(int=0), max_retries=0, retry=True)
    await app.runs.create({}, session_id=5)  # type: ignore[call-overload]
    await app.runs.create({}, colour="red")  # type: ignore[call-overload]  # ty takes it


async def look(app: AsyncApp) -> None:
    assert_type(await app.runs.get("r"), Run)
    assert_type(await app.runs.wait("r"), Run)
    assert_type(await app.runs.wait("r", timeout=5, output_type=Answer), Answer)
    assert_type(await app.runs.wait("r", timeout=None, on_question=at_once), Run)
    assert_type(await app.runs.cancel("r"), None)
    await app.runs.wait("r", timeout="5")  # type: ignore[call-overload]


async def lists(app: AsyncApp) -> None:
    runs = app.runs.list(status=["failed", "canceled"], sort="-started_at", prefetch=True)
    assert_type(runs, Pages[Run])
    assert_type(await runs, Page[Run])
    assert_type(aiter(runs), PageIterator[Run])
    async for run in runs:
        assert_type(run, Run)
    async with runs as entered:
        assert_type(entered, PageIterator[Run])
    app.runs.list(status="awaiting_input", session_id=UUID(int=0), page=2, page_size=5)
    app.runs.list(status=5)  # type: ignore[arg-type]
    page = await app.runs.events("r", page_size=5)
    assert_type(page, Page[RunEvent])
    for event in page:
        assert_type(event, RunEvent)
        assert_type(event.raw, bytes)
    assert_type(page.data, list[RunEvent])
    assert_type(page.has_next, bool)
    assert_type(page.pagination.total_count, int | None)
    async for event in app.runs.events("r"):
        assert_type(event, RunEvent)


async def streams(app: AsyncApp) -> None:
    stream = app.runs.stream({}, dedupe=True, resume=False, timeout=Timeout(idle=5.0))
    assert_type(stream, RunStream[Any])
    async for event in stream:
        assert_type(event, RunEvent)
        if isinstance(event, QuestionEvent):
            assert_type(event.question, RunQuestion)
            await event.answer("so")
            await event.approve({"to": "ann"}, feedback="fine")
            await event.reject("no")
    async with app.runs.follow("r", after_sequence=12, max_resumes=3) as entered:
        assert_type(entered, RunStream[Any])
        assert_type(await entered.output(), Any)
        assert_type(await entered.output(output_type=Answer), Answer)
        assert_type(await entered.output(node="n"), Any)
        assert_type(await entered.output(node="n", output_type=Answer), Answer)
        assert_type(await entered.run(), Run)
        assert_type(entered.text(entity_id="n"), TextStream)
        assert_type(entered.raise_for_failure(), None)
        assert_type(entered.usage, Usage | None)
        assert_type(entered.batches(), Batches[RunEvent])
        assert_type(entered.run_id, str | None)
        assert_type(entered.sequence, int | None)
        assert_type(entered.final, RunEvent | None)
        assert_type(entered.reconnects, int)
        assert_type([(gap.first, gap.last) for gap in entered.gaps], list[tuple[int, int]])
    assert_type(await app.runs.stream({}, output_type=Answer, dedupe=True).output(), Answer)
    typed = app.runs.follow("r", output_type=Answer, after_sequence=5)
    assert_type(typed, RunStream[Answer])
    assert_type(await typed.output(), Answer)
    app.runs.follow("r", after_sequence="12")  # type: ignore[call-overload]


def at_once(question: RunQuestion) -> str:
    assert_type(question.prompt, str)
    assert_type(question.params, dict[str, Any])
    assert_type(question.kind, str)
    return question.run_id


async def later(question: RunQuestion) -> bool | None:
    plain: Question = question
    assert_type(plain.editable_params, list[str])
    return True if await question.is_open() else None


def wrong(question: RunQuestion) -> int:
    return 5


async def people(app: AsyncApp, run: Run) -> None:
    app.runs.stream({}, on_question=at_once)
    app.runs.stream({}, on_question=later)
    app.runs.stream({}, on_question=lambda question: False)
    app.runs.stream({}, on_question=wrong)  # type: ignore[arg-type]
    for request in run.questions:
        assert_type(request, Question)
        assert_type(await app.runs.answer("r", request, "so"), None)
        await app.runs.approve("r", request.id, params={"to": "ann"}, feedback="fine")
        await app.runs.reject("r", request, feedback="no")
    async for event in app.runs.follow("r"):
        if isinstance(event, QuestionEvent):
            await app.runs.answer("r", event.question, "so")
    await app.runs.answer("r", run, "so")  # type: ignore[arg-type]


async def handles(app: AsyncApp) -> None:
    run = app.runs.handle("r")
    assert_type(run, RunHandle)
    assert_type(run.id, str)
    assert_type(await run.get(), Run)
    assert_type(await run.wait(), Run)
    assert_type(await run.wait(output_type=Answer, timeout=5), Answer)
    assert_type(run.follow(on_question=later), RunStream[Any])
    assert_type(run.follow(output_type=Answer, max_resumes=3), RunStream[Answer])
    assert_type(run.events(), Pages[RunEvent])
    assert_type(await run.cancel(), None)
    assert_type(await run.answer("q", "so"), None)
    assert_type(await run.approve("q"), None)
    assert_type(await run.reject("q"), None)


def data(run: Run, event: RunEvent) -> None:
    assert_type(run.unwrap(), Any)
    assert_type(run.unwrap(Answer), Answer)
    assert_type(run.is_terminal, bool)
    assert_type(event.text, str)
    assert_type(event.reasoning, str)
    assert_type(event.tool_call, ToolCall | None)
    assert_type(event.state, RunState | None)
    assert_type(event.error, str | None)
    assert_type(event.is_final, bool)
    assert_type(event.question, Question | None)
    run.status = "completed"  # type: ignore[misc]


async def files(app: AsyncApp) -> None:
    def told(sent: int, size: int | None) -> None: ...

    for content in (Path("a"), "a", b"", bytearray(), memoryview(b""), pieces(), Upload(b"")):
        assert_type(await app.files.upload(content), File)
    with Path("a").open("rb") as file:  # noqa: ASYNC230 - never run
        await app.files.upload(file, name="a", mime_type="text/plain", progress=told, timeout=5)
    await app.files.upload(5)  # type: ignore[arg-type]
    await app.files.upload(b"", progress=5)  # type: ignore[arg-type]
