"""People in the loop: a run's questions, and their answers.

The Structs of a question are passive; what is here knows the run it belongs to and can answer.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self

import msgspec

from dynamiq_async.errors import BadRequestError, ConflictError, InvalidArgumentError
from dynamiq_async.events.run_events import InputRequest, RunEvent

if TYPE_CHECKING:
    from dynamiq_async.runs.requests import RunService

Verdict = str | bool | None
"""What a handler may return: text to answer with, True or False to approve or reject, or None when
it answered by itself or leaves the question open."""

OnQuestion = Callable[["Question"], Verdict | Awaitable[Verdict]]


class Question:
    """A question that a run asks a person, and that can be answered.

    Attributes:
        run_id: the run that asks.
        request: the question as it came.
        answered: whether it was answered through this object.
    """

    __slots__ = ("_service", "answered", "request", "run_id")

    def __init__(self, service: RunService, run_id: str, request: InputRequest) -> None:
        self._service = service
        self.run_id = run_id
        self.request = request
        self.answered = False

    @property
    def prompt(self) -> str:
        return self.request.prompt or ""

    @property
    def params(self) -> dict[str, Any]:
        """What is to be approved."""
        return self.request.params or {}

    @property
    def is_approval(self) -> bool:
        """Whether it wants `approve` or `reject`, rather than `answer`."""
        return self.request.is_approval

    async def is_open(self) -> bool:
        """Ask the service whether a question with this id still waits for an answer."""
        service = self._service
        listed = await service.still_open(self.run_id, self.request, service.options, None)
        return listed is not None

    async def answer(self, feedback: str) -> None:
        """Answer with a text. Raises what `RunHandle.answer` raises."""
        await self._service.answer(self.run_id, self.request, feedback)
        self.answered = True

    async def approve(
        self, params: Mapping[str, Any] | None = None, *, feedback: str | None = None
    ) -> None:
        """Approve, with some of the parameters changed. Raises what `RunHandle.approve` raises."""
        await self._service.approve(self.run_id, self.request, params, feedback)
        self.answered = True

    async def reject(self, feedback: str | None = None) -> None:
        """Reject. Raises what `RunHandle.reject` raises."""
        await self._service.reject(self.run_id, self.request, feedback)
        self.answered = True

    def __repr__(self) -> str:
        return f"<Question of run {self.run_id}: {self.prompt!r}>"


class QuestionEvent(RunEvent, frozen=True, kw_only=True, dict=True):
    """The event of a question, which can be answered here.

    As JSON and as a pickle it is the plain event.
    """

    @classmethod
    def of(cls, event: RunEvent, question: Question) -> Self:
        asking = cls(**_fields(event))
        # No field: it knows a client, and is no data. Nor is what else an event may carry along.
        vars(asking).update(getattr(event, "__dict__", {}), _question=question)
        return asking

    @property
    def asked(self) -> Question:
        """The question itself."""
        question: Question = vars(self)["_question"]
        return question

    async def answer(self, feedback: str) -> None:
        """Answer with a text. Raises what `RunHandle.answer` raises."""
        await self.asked.answer(feedback)

    async def approve(
        self, params: Mapping[str, Any] | None = None, *, feedback: str | None = None
    ) -> None:
        """Approve, with some of the parameters changed. Raises what `RunHandle.approve` raises."""
        await self.asked.approve(params, feedback=feedback)

    async def reject(self, feedback: str | None = None) -> None:
        """Reject. Raises what `RunHandle.reject` raises."""
        await self.asked.reject(feedback)

    def __reduce__(self) -> tuple[Any, ...]:
        return _plain_event, (_fields(self),)


def _fields(event: RunEvent) -> dict[str, Any]:
    return {name: getattr(event, name) for name in RunEvent.__struct_fields__}


def _plain_event(fields: dict[str, Any]) -> RunEvent:
    return RunEvent(**fields)


async def ask(handler: OnQuestion, question: Question) -> None:
    """Put a question to the caller's handler, and send on what it returns.

    People take their time: if somebody else answered meanwhile, or the run ended, the answer that
    is refused for it is no error.
    """
    verdict = handler(question)
    if inspect.isawaitable(verdict):
        verdict = await verdict
    try:
        await _send(verdict, question)
    except (BadRequestError, ConflictError):
        if await question.is_open():
            raise


async def _send(verdict: Verdict, question: Question) -> None:
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
    """Which of a run's open questions are new, when all that can be had is a list of them.

    Two questions may carry the same id, and say the same, so they are counted: as many as stand in
    the list beyond those that were there before, and were not answered since, are new.
    """

    def __init__(self) -> None:
        self._known: Counter[bytes] = Counter()

    def new(self, requests: Iterable[InputRequest]) -> list[InputRequest]:
        """Those of the present list that were not in the one before."""
        fresh: list[InputRequest] = []
        present: Counter[bytes] = Counter()
        for request in requests:
            identity = msgspec.json.encode(request)
            present[identity] += 1
            if present[identity] > self._known[identity]:
                fresh.append(request)
        self._known = present
        return fresh

    def answered(self, request: InputRequest) -> None:
        """It is closed; if another like it stands in the list next time, that one is new."""
        self._known[msgspec.json.encode(request)] -= 1
