"""The questions that a run asks people, and their answers.

A `Question` is plain data. A `RunQuestion` knows the run that asks, and can be answered.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self

import msgspec
from msgspec import Struct
from msgspec.structs import astuple

from dynamiq_async import _json
from dynamiq_async._telemetry import outside
from dynamiq_async.errors import BadRequestError, ConflictError, InvalidArgumentError
from dynamiq_async.events import Question, RunEvent

if TYPE_CHECKING:
    from dynamiq_async.runs.requests import RunRequests

Verdict = str | bool | None
"""What a handler may return: text to answer with, True or False to approve or reject, or None when
the handler answered by itself or leaves the question open."""

OnQuestion = Callable[["RunQuestion"], Verdict | Awaitable[Verdict]]


class Answering:
    """Sends answers to the questions of runs."""

    def __init__(self, requests: RunRequests) -> None:
        self._requests = requests

    async def answer(
        self,
        run_id: str,
        request: Question | str,
        feedback: str,
        *,
        extra_body: Mapping[str, Any] | None = None,
    ) -> None:
        """Answer a question with a text. A cooldown does not delay the request.

        Args:
            request: the question, or its id.
            extra_body: fields that are added to the request's body, or replace those in it.

        Raises:
            InvalidArgumentError: the question is an approval.
            BadRequestError, ConflictError: the run is not waiting for this answer.
        """
        if isinstance(request, Question):
            request.check_kind("feedback", "request")
        body = _input_body(request, {"feedback": feedback}, "human_feedback")
        await self._requests.send_input(run_id, body, extra_body)

    async def approve(
        self,
        run_id: str,
        request: Question | str,
        *,
        params: Mapping[str, Any] | None = None,
        feedback: str | None = None,
        extra_body: Mapping[str, Any] | None = None,
    ) -> None:
        """Approve what the run asks for. A cooldown does not delay the request.

        Args:
            request: the question, or its id.
            params: parameters to change; only those in the question's `editable_params`. Where
                only the id is given, the question is looked up first.
            feedback: a remark that is sent with the approval.
            extra_body: fields that are added to the request's body, or replace those in it. The
                body is our guess: the vendor documents only the body of a text answer.

        Raises:
            InvalidArgumentError: a parameter cannot be edited, or the question is no approval.
            BadRequestError, ConflictError: the run is not waiting for this approval.
        """
        if params and isinstance(request, str):
            request = await self._requests.named(run_id, request)
        if isinstance(request, Question):
            request.check_kind("approval", "request")
            request.check_params(params or {})
        verdict = {"approved": True, "params": params, "feedback": feedback}
        body = _input_body(request, verdict, "approval_request")
        await self._requests.send_input(run_id, body, extra_body)

    async def reject(
        self,
        run_id: str,
        request: Question | str,
        *,
        feedback: str | None = None,
        extra_body: Mapping[str, Any] | None = None,
    ) -> None:
        """Reject what the run asks for. Raises what `approve` raises."""
        if isinstance(request, Question):
            request.check_kind("approval", "request")
        verdict = {"approved": False, "feedback": feedback}
        body = _input_body(request, verdict, "approval_request")
        await self._requests.send_input(run_id, body, extra_body)


class RunQuestion(Question, frozen=True, kw_only=True, dict=True):
    """A question of a run, with methods to answer it.

    It equals the plain `Question`, and is encoded as JSON and pickled as one.
    """

    @classmethod
    def of(cls, question: Question, requests: RunRequests, run_id: str) -> Self:
        """A question with methods to answer it. Streams and runs call this; users need not."""
        asked = cls(**_fields(question, Question))
        # Not fields, since they are not part of the data that is encoded.
        vars(asked).update(requests=requests, run_id=run_id, answered=False)
        return asked

    @property
    def run_id(self) -> str:
        """The id of the run that asks."""
        run_id: str = vars(self)["run_id"]
        return run_id

    @property
    def answered(self) -> bool:
        """Whether the question was answered through this object."""
        answered: bool = vars(self)["answered"]
        return answered

    @property
    def _requests(self) -> RunRequests:
        requests: RunRequests = vars(self)["requests"]
        return requests

    async def is_open(self) -> bool:
        """Ask the service whether a question with this id still waits for an answer."""
        requests = self._requests
        listed = await requests.still_open(self.run_id, self, requests.api.options, None)
        return listed is not None

    async def answer(self, feedback: str) -> None:
        """Answer with a text. Raises what `Runs.answer` raises."""
        await Answering(self._requests).answer(self.run_id, self, feedback)
        vars(self)["answered"] = True

    async def approve(
        self, params: Mapping[str, Any] | None = None, *, feedback: str | None = None
    ) -> None:
        """Approve, with some of the parameters changed. Raises what `Runs.approve` raises."""
        answering = Answering(self._requests)
        await answering.approve(self.run_id, self, params=params, feedback=feedback)
        vars(self)["answered"] = True

    async def reject(self, feedback: str | None = None) -> None:
        """Reject. Raises what `Runs.approve` raises."""
        await Answering(self._requests).reject(self.run_id, self, feedback=feedback)
        vars(self)["answered"] = True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Question) and astuple(self) == astuple(other)

    def __repr__(self) -> str:
        return f"<RunQuestion of run {self.run_id}: {self.prompt!r}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _plain, (Question, _fields(self, Question))


class QuestionEvent(RunEvent, frozen=True, kw_only=True, dict=True):
    """The event of a question, with methods to answer the question.

    It is encoded as JSON and pickled as a plain `RunEvent`.
    """

    @classmethod
    def of(cls, event: RunEvent, question: RunQuestion) -> Self:
        """An event with its question. Streams call this; users need not."""
        asking = cls(**_fields(event, RunEvent))
        vars(asking)["question"] = question  # not a field: it holds a client
        _json.keep_line(asking, _json.LINE, _json.kept(event) or event.raw)
        return asking

    @property
    def question(self) -> RunQuestion:
        """The question, with methods to answer it."""
        question: RunQuestion = vars(self)["question"]
        return question

    async def answer(self, feedback: str) -> None:
        """Answer with a text. Raises what `Runs.answer` raises."""
        await self.question.answer(feedback)

    async def approve(
        self, params: Mapping[str, Any] | None = None, *, feedback: str | None = None
    ) -> None:
        """Approve, with some of the parameters changed. Raises what `Runs.approve` raises."""
        await self.question.approve(params, feedback=feedback)

    async def reject(self, feedback: str | None = None) -> None:
        """Reject. Raises what `Runs.approve` raises."""
        await self.question.reject(feedback)

    def __reduce__(self) -> tuple[Any, ...]:
        return _plain, (RunEvent, _fields(self, RunEvent))


def _fields(value: Struct, kind: type[Struct]) -> dict[str, Any]:
    return {name: getattr(value, name) for name in kind.__struct_fields__}


def _plain(kind: type[Struct], fields: dict[str, Any]) -> Struct:
    return kind(**fields)


def _input_body(request: Question | str, answer: dict[str, Any], kind: str) -> dict[str, Any]:
    """The body of `POST /v1/runs/{id}/input`. That of an approval is our guess."""
    request_id = request if isinstance(request, str) else request.id
    known = {name: value for name, value in answer.items() if value is not None}
    return {"type": kind, "data": {"request_id": request_id, **known}}


async def ask(handler: OnQuestion, question: RunQuestion) -> None:
    """Call the caller's handler with a question, and send the answer that it returns.

    A handler may take long. If meanwhile the question was answered elsewhere or the run ended, the
    service refuses the answer; that is no error.
    """
    with outside():
        verdict = handler(question)
        if inspect.isawaitable(verdict):
            verdict = await verdict
    try:
        await _send(verdict, question)
    except (BadRequestError, ConflictError):
        if await question.is_open():
            raise


async def _send(verdict: Verdict, question: RunQuestion) -> None:
    if isinstance(verdict, bool):
        await (question.approve() if verdict else question.reject())
    elif isinstance(verdict, str):
        await question.answer(verdict)
    elif verdict is not None:
        raise InvalidArgumentError(
            "on_question must return text to answer with, True or False to approve or reject, or "
            f"None, not {type(verdict).__name__}",
            argument="on_question",
        )


class Ledger:
    """Finds the new questions by comparing successive lists of a run's open questions.

    Two questions may be equal in every field, so equal questions are counted. Questions beyond the
    count in the previous list are new; answering one lowers that count.
    """

    def __init__(self) -> None:
        self._known: Counter[bytes] = Counter()

    def new(self, questions: Iterable[Question]) -> list[Question]:
        """The questions in the present list that were not in the previous one."""
        fresh: list[Question] = []
        present: Counter[bytes] = Counter()
        for question in questions:
            identity = msgspec.json.encode(question)
            present[identity] += 1
            if present[identity] > self._known[identity]:
                fresh.append(question)
        self._known = present
        return fresh

    def answered(self, question: Question) -> None:
        """Note that `question` was answered: an equal one in the next list is a new question."""
        self._known[msgspec.json.encode(question)] -= 1
