"""A chat's endpoints, for any framework: start or continue a run, resume it, stop it.

A chat is a session of the App. The service keeps the history of the session's runs, so nothing is
stored here. To resume, look up the session's newest run and relay it from its beginning.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, Protocol, TypeVar

from msgspec import structs

from dynamiq_async import errors
from dynamiq_async.options import check_count, check_seconds
from dynamiq_async.relay.chat import Chat, ChatAnswer, Start, session_for
from dynamiq_async.relay.chat_requests import MAX_ID, read_run_agent_input, read_ui_request
from dynamiq_async.relay.formats import AGUI, UIMessageStream
from dynamiq_async.relay.position import parse
from dynamiq_async.relay.problems import RefusedRequestError, refused
from dynamiq_async.runs.models import time_of

if TYPE_CHECKING:
    from dynamiq_async.events import Question
    from dynamiq_async.relay.formats import Format
    from dynamiq_async.relay.formats.ui_message_stream import SDKVersion
    from dynamiq_async.runs import Run, Runs, RunStream

Wire = Literal["ui-message-stream", "ag-ui"]
R = TypeVar("R")

MAX_BODY = 8 * 1024 * 1024
"""The most bytes of a request's body, including its files and the page's history."""


class Client(Protocol):
    """The part of an `AsyncApp` that chats use."""

    @property
    def runs(self) -> Runs: ...


class Relayed(NamedTuple):
    """A stream to relay, and its format."""

    stream: RunStream[Any]
    format: Format


class Chats(Generic[R]):
    """The endpoints of an App's chats. `R` is the framework's request.

    The arguments are those of the adapters' `chat_routes`.
    """

    def __init__(
        self,
        client: Client | Callable[[R], Client],
        *,
        input: Callable[[Chat], Any],
        owner: Callable[[R, str], Awaitable[str | None]],
        wire: Wire = "ui-message-stream",
        sdk_version: SDKVersion = 6,
        resume_within: float = 60.0,
        max_body: int = MAX_BODY,
    ) -> None:
        if wire not in ("ui-message-stream", "ag-ui"):
            raise errors.InvalidArgumentError(
                f"wire must be 'ui-message-stream' or 'ag-ui', not {wire!r}", argument="wire"
            )
        for name, function in (("input", input), ("owner", owner)):
            if not callable(function):
                raise errors.InvalidArgumentError(f"{name} must be a function", argument=name)
        UIMessageStream(sdk_version=sdk_version)  # this checks the version
        self._client = client
        self._input = input
        self._owner = owner
        self._wire = wire
        self._sdk_version = sdk_version
        if resume_within != 0:
            check_seconds(resume_within, "resume_within")
        self._resume_within = resume_within
        self._max_body = check_count(max_body, "max_body")

    @property
    def resume_path(self) -> str:
        """The last part of the path of a resume, after the chat's id."""
        return "stream" if self._wire == "ui-message-stream" else "connect"

    async def chat(self, request: R, content_type: str, body: AsyncIterable[bytes]) -> Relayed:
        """Start a run with the person's text, or go on with one whose question was answered.

        Args:
            content_type: the request's header.
            body: the request's pieces. At most `max_body` bytes are read.

        Raises:
            RefusedRequestError: the request cannot be used, or this is not the user's chat.

        And what `Runs.create`, `get`, `events` and `answer` raise.
        """
        read = read_ui_request if self._wire == "ui-message-stream" else read_run_agent_input
        _check_json(content_type)
        chat = read(await _whole(body, self._max_body))
        user = await self._user(request, chat.id)
        chat = structs.replace(chat, user=user)
        runs = self._runs(request)
        session = str(session_for(user, chat.id))
        if chat.answers:
            run_id, sequence = await _answer(runs, session, chat.answers)
            return Relayed(runs.follow(run_id), self._format(chat, sequence))
        start = self._input(chat)
        if inspect.isawaitable(start):
            start = await start
        if not isinstance(start, Start):
            start = Start(start)
        run = await runs.create(
            start.input, background=True, session_id=session, user_id=user, **start.options
        )
        return Relayed(runs.follow(run.id), self._format(chat))

    async def resume(self, request: R, chat_id: str, query: Mapping[str, str]) -> Relayed | None:
        """The newest run of a chat, from its beginning; None if there is nothing to resume.

        Args:
            query: `runId` and `protocolVersion` of an AG-UI page.

        Raises:
            RefusedRequestError: this is not the user's chat.

        And what `Runs.list` raises.
        """
        run = await self._newest(request, chat_id)
        if run is None or (run.is_terminal and not self._ended_just_now(run)):
            return None
        version = query.get("protocolVersion")
        page = Chat(id=chat_id, run_id=query.get("runId") or run.id, protocol_version=version)
        return Relayed(self._runs(request).follow(run.id), self._format(page))

    async def stop(self, request: R, chat_id: str) -> None:
        """Cancel the newest run of a chat, if it is not over.

        Raises:
            RefusedRequestError: this is not the user's chat.

        And what `Runs.list` and `cancel` raise.
        """
        run = await self._newest(request, chat_id)
        if run is not None and not run.is_terminal:
            await self._runs(request).cancel(run.id)

    def _runs(self, request: R) -> Runs:
        client = self._client(request) if callable(self._client) else self._client
        return client.runs

    async def _user(self, request: R, chat_id: str) -> str:
        user = await self._owner(request, chat_id)
        if not user:
            raise refused("There is no such chat.", status=404, code="not_found")
        return user

    async def _newest(self, request: R, chat_id: str) -> Run | None:
        if len(chat_id) > MAX_ID:
            raise refused("There is no such chat.", status=404, code="not_found")
        session = session_for(await self._user(request, chat_id), chat_id)
        page = await self._runs(request).list(session_id=session, page_size=1)
        return page.data[0] if page.data else None

    def _ended_just_now(self, run: Run) -> bool:
        ended = time_of(run.ended_at)
        if ended is None:
            return False
        return (datetime.now(UTC) - ended).total_seconds() <= self._resume_within

    def _format(self, chat: Chat, behind: int | None = None) -> Format:
        if self._wire == "ui-message-stream":
            return UIMessageStream(sdk_version=self._sdk_version, behind=behind)
        return AGUI(
            thread_id=chat.id,
            run_id=chat.run_id,
            protocol_version=chat.protocol_version,
            behind=behind,
        )


def _check_json(content_type: str) -> None:
    """Refuse requests that another site's form could send with this user's cookies."""
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise refused("The content type is not application/json.", status=415)


async def _whole(body: AsyncIterable[bytes], limit: int) -> bytes:
    whole = bytearray()
    async for piece in body:
        whole += piece
        if len(whole) > limit:
            raise refused(f"The body is larger than {limit} bytes.", status=413)
    return bytes(whole)


async def _answer(runs: Runs, session: str, answers: list[ChatAnswer]) -> tuple[str, int]:
    """Answer a question of the session's run. Returns the run and the question's position."""
    if len(answers) > 1:
        raise refused("One question is open at a time; there is more than one answer.")
    [answer] = answers
    position = parse(answer.question)
    if position is None or position.finished:
        raise _no_question()
    run = await _run_of(runs, position.run_id, session)
    question = await _open_question(runs, run, position.after_sequence)
    await _send(runs, run.id, question, answer)
    return run.id, position.after_sequence


async def _run_of(runs: Runs, run_id: str, session: str) -> Run:
    """The run, if it is of this session. Otherwise, raise as if there were no such run."""
    try:
        run = await runs.get(run_id)
    except errors.NotFoundError:
        raise _no_question() from None
    if run.session_id is None or run.session_id.lower() != session:
        raise _no_question()
    return run


async def _open_question(runs: Runs, run: Run, sequence: int) -> Question:
    """The question that the event at this position asked, if it waits for an answer.

    Two questions of a run may have the same id, and an answer goes to the one that is open. So this
    counts how many questions with that id came later. Otherwise an answer that is sent twice could
    approve a question that the person has not seen.
    """
    asked: Question | None = None
    later = 0
    async for event in runs.events(run.id):
        if event.sequence == sequence:
            asked = event.question
            if asked is None:
                break
        elif asked is not None and (other := event.question) is not None:
            later += other.id == asked.id
    if asked is None:
        raise _no_question()
    waiting = sum(question.id == asked.id for question in run.questions)
    if waiting <= later:
        raise refused(
            "The question does not wait for an answer any more.", status=409, code="conflict"
        )
    return asked


async def _send(runs: Runs, run_id: str, question: Question, answer: ChatAnswer) -> None:
    if question.kind == "approval":
        if answer.approved is None:
            raise refused("The question asks for an approval, not for a text.")
        if answer.approved:
            params = _edits(question, answer.params)
            await runs.approve(run_id, question, params=params, feedback=answer.text)
        else:
            await runs.reject(run_id, question, feedback=answer.text)
        return
    if answer.approved is not None or answer.text is None:
        raise refused("The question asks for a text, not for an approval.")
    await runs.answer(run_id, question, answer.text)


def _edits(question: Question, params: dict[str, Any] | None) -> dict[str, Any] | None:
    """The parameters that the person has changed. The page sends all parameters."""
    changed = {
        name: value
        for name, value in (params or {}).items()
        if name not in question.params or question.params[name] != value
    }
    if wrong := sorted(changed.keys() - set(question.editable_params)):
        raise refused(f"These parameters cannot be edited: {', '.join(wrong)}.")
    return changed or None


def _no_question() -> RefusedRequestError:
    return refused("There is no such question.", status=404, code="not_found")
