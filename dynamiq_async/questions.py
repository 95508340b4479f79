"""People in the loop: a run's questions, and their answers.

The Structs of a question are passive; what is here knows the run it belongs to and can answer.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self

import msgspec

from dynamiq_async.errors import InvalidArgumentError
from dynamiq_async.runs_models import InputRequest, RunEvent

if TYPE_CHECKING:
    from dynamiq_async._run_service import RunService

Verdict = str | bool | None
"""What a handler may return: text to answer with, True or False to approve or reject, or None when
it answered by itself or leaves the question open."""

OnQuestion = Callable[["Question"], Verdict | Awaitable[Verdict]]


class Question:
    """A question that a run asks a person, and that can be answered.

    Attributes:
        run_id: the run that asks.
        request: the question as it came.
    """

    __slots__ = ("_service", "request", "run_id")

    def __init__(self, service: RunService, run_id: str, request: InputRequest) -> None:
        self._service = service
        self.run_id = run_id
        self.request = request

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

    async def answer(self, feedback: str) -> None:
        """Answer with a text. Raises what `RunHandle.answer` raises."""
        await self._service.answer(self.run_id, self.request, feedback)

    async def approve(
        self, params: Mapping[str, Any] | None = None, *, feedback: str | None = None
    ) -> None:
        """Approve, with some of the parameters changed. Raises what `RunHandle.approve` raises."""
        await self._service.approve(self.run_id, self.request, params, feedback)

    async def reject(self, feedback: str | None = None) -> None:
        """Reject. Raises what `RunHandle.reject` raises."""
        await self._service.reject(self.run_id, self.request, feedback)

    def __repr__(self) -> str:
        return f"<Question of run {self.run_id}: {self.prompt!r}>"


class QuestionEvent(RunEvent, frozen=True, kw_only=True):
    """The event of a question, which can be answered here. `asked` is the question itself."""

    asked: Question

    @classmethod
    def of(cls, event: RunEvent, question: Question) -> Self:
        fields = {name: getattr(event, name) for name in RunEvent.__struct_fields__}
        return cls(**fields, asked=question)

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


async def ask(handler: OnQuestion, question: Question) -> None:
    """Put a question to the caller's handler, and send on what it returns."""
    verdict = handler(question)
    if inspect.isawaitable(verdict):
        verdict = await verdict
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

    Two questions may carry the same id, so they are counted: as many as stand in the list beyond
    those that were there before are new.
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
