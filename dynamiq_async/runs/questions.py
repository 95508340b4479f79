"""People in the loop: a run's questions, and their answers.

The Structs of a question are passive; what is here knows the run it belongs to and can answer.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self

import msgspec

from dynamiq_async import _json
from dynamiq_async.errors import BadRequestError, ConflictError, InvalidArgumentError
from dynamiq_async.events.run_events import InputRequest, RunEvent

if TYPE_CHECKING:
    from dynamiq_async.runs.requests import RunRequests

P = ParamSpec("P")

Verdict = str | bool | None
"""What a handler may return: text to answer with, True or False to approve or reject, or None when
it answered by itself or leaves the question open."""

OnQuestion = Callable[["Question"], Verdict | Awaitable[Verdict]]


class Answering:
    """Sends what people answer to the questions of runs."""

    def __init__(self, requests: RunRequests) -> None:
        self._requests = requests

    async def answer(
        self,
        run_id: str,
        request: InputRequest | str,
        feedback: str,
        *,
        extra_body: Mapping[str, Any] | None = None,
    ) -> None:
        """Answer a question with a text. Not held back by a cooldown.

        Args:
            request: the question, or its id.
            extra_body: laid over the body that is sent, for what is not foreseen.

        Raises:
            InvalidArgumentError: the question is an approval.
            BadRequestError, ConflictError: the run is not waiting for this.
        """
        _check_kind(request, approval=False)
        body = _input_body(request, {"feedback": feedback}, "human_feedback")
        await self._requests.send_input(run_id, body, extra_body)

    async def approve(
        self,
        run_id: str,
        request: InputRequest | str,
        *,
        params: Mapping[str, Any] | None = None,
        feedback: str | None = None,
        extra_body: Mapping[str, Any] | None = None,
    ) -> None:
        """Approve what the run asks for. Not held back by a cooldown.

        Args:
            request: the question, or its id.
            params: parameters to change; only those in the question's `editable_params`, which
                are looked up where only the id is given.
            feedback: a remark to go with it.
            extra_body: laid over the body that is sent, which is our guess: the vendor documents
                only that of a text.

        Raises:
            InvalidArgumentError: a parameter cannot be edited, or the question is no approval.
            BadRequestError, ConflictError: the run is not waiting for this.
        """
        if params and isinstance(request, str):
            request = await self._requests.named(run_id, request)
        _check_kind(request, approval=True)
        if params is not None and not isinstance(request, str):
            check_editable(params, request.editable_params)
        verdict = {"approved": True, "params": params, "feedback": feedback}
        body = _input_body(request, verdict, "approval_request")
        await self._requests.send_input(run_id, body, extra_body)

    async def reject(
        self,
        run_id: str,
        request: InputRequest | str,
        *,
        feedback: str | None = None,
        extra_body: Mapping[str, Any] | None = None,
    ) -> None:
        """Reject what the run asks for. Raises what `approve` raises."""
        _check_kind(request, approval=True)
        verdict = {"approved": False, "feedback": feedback}
        body = _input_body(request, verdict, "approval_request")
        await self._requests.send_input(run_id, body, extra_body)


class Question:
    """A question that a run asks a person, and that can be answered.

    Attributes:
        run_id: the run that asks.
        request: the question as it came.
        answered: whether it was answered through this object.
    """

    __slots__ = ("_requests", "answered", "request", "run_id")

    def __init__(self, requests: RunRequests, run_id: str, request: InputRequest) -> None:
        self._requests = requests
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
        requests = self._requests
        listed = await requests.still_open(self.run_id, self.request, requests.api.options, None)
        return listed is not None

    async def answer(self, feedback: str) -> None:
        """Answer with a text. Raises what `Runs.answer` raises."""
        await Answering(self._requests).answer(self.run_id, self.request, feedback)
        self.answered = True

    async def approve(
        self, params: Mapping[str, Any] | None = None, *, feedback: str | None = None
    ) -> None:
        """Approve, with some of the parameters changed. Raises what `Runs.approve` raises."""
        await Answering(self._requests).approve(
            self.run_id, self.request, params=params, feedback=feedback
        )
        self.answered = True

    async def reject(self, feedback: str | None = None) -> None:
        """Reject. Raises what `Runs.approve` raises."""
        await Answering(self._requests).reject(self.run_id, self.request, feedback=feedback)
        self.answered = True

    def __repr__(self) -> str:
        return f"<Question of run {self.run_id}: {self.prompt!r}>"


def _asked(
    method: Callable[Concatenate[Question, P], Awaitable[None]],
) -> Callable[Concatenate[QuestionEvent, P], Awaitable[None]]:
    """A method of a question, as one of its event."""

    @wraps(method)
    async def call(event: QuestionEvent, /, *args: P.args, **kwargs: P.kwargs) -> None:
        await method(event.asked, *args, **kwargs)

    return call


class QuestionEvent(RunEvent, frozen=True, kw_only=True, dict=True):
    """The event of a question, which can be answered here.

    As JSON and as a pickle it is the plain event.
    """

    @classmethod
    def of(cls, event: RunEvent, question: Question) -> Self:
        asking = cls(**_fields(event))
        vars(asking)["_question"] = question  # no field: it knows a client, and is no data
        _json.keep(asking, event.raw)
        return asking

    @property
    def asked(self) -> Question:
        """The question itself."""
        question: Question = vars(self)["_question"]
        return question

    answer = _asked(Question.answer)
    approve = _asked(Question.approve)
    reject = _asked(Question.reject)

    def __reduce__(self) -> tuple[Any, ...]:
        return _plain_event, (_fields(self),)


def _fields(event: RunEvent) -> dict[str, Any]:
    return {name: getattr(event, name) for name in RunEvent.__struct_fields__}


def _plain_event(fields: dict[str, Any]) -> RunEvent:
    return RunEvent(**fields)


def _input_body(request: InputRequest | str, answer: dict[str, Any], kind: str) -> dict[str, Any]:
    """The body of `POST /v1/runs/{id}/input`. For an approval it is our guess."""
    request_id = request if isinstance(request, str) else request.id
    known = {name: value for name, value in answer.items() if value is not None}
    return {"type": kind, "data": {"request_id": request_id, **known}}


def check_editable(params: Mapping[str, Any], editable: Sequence[str] | None) -> None:
    """Raise InvalidArgumentError if `params` has keys that a question does not let be edited."""
    if wrong := sorted(set(params) - set(editable or ())):
        raise InvalidArgumentError(
            f"params: {', '.join(wrong)} cannot be edited; "
            + (f"only {', '.join(editable)} can" if editable else "nothing can be"),
            argument="params",
        )


def _check_kind(request: InputRequest | str, *, approval: bool) -> None:
    """Raise InvalidArgumentError if an approval is answered with text, or a question approved."""
    opposite = "human_feedback" if approval else "approval_request"
    if isinstance(request, str) or request.type != opposite:
        return  # the list of types is open
    advice = "answer it with answer()" if approval else "use approve() or reject()"
    raise InvalidArgumentError(f"this is a {request.type}: {advice}", argument="request")


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
