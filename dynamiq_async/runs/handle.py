"""One run: look at it, wait for it, follow it, act on it."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, Unpack, overload

from dynamiq_async import errors
from dynamiq_async._http.paging import Page, Pages
from dynamiq_async._http.request_options import UNSET, Extras, TimeoutLike
from dynamiq_async._json import check_type
from dynamiq_async.options import check_count, check_seconds
from dynamiq_async.runs.questions import Ledger, OnQuestion, Question, ask
from dynamiq_async.runs.requests import EVENT_PAGE_SIZE, RunService, check_id, may_pass
from dynamiq_async.runs.stream import RunStream

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dynamiq_async._http.request_options import CallOptions
    from dynamiq_async.events.run_events import InputRequest, RunEvent
    from dynamiq_async.runs.models import Run

T = TypeVar("T")

DEFAULT_WAIT = 3600.0
"""Seconds. A run whose server was killed can stay `started` for ever, so a wait has a limit."""

POLL_SECONDS = (0.5, 5.0)
"""The first and the longest pause between two looks at a run."""

MAX_LOST_POLLS = 5
"""How many looks in a row may fail before a wait gives up."""


class WaitOptions(TypedDict, total=False):
    """The arguments of `wait` that have no part in its type."""

    timeout: float | None
    on_question: OnQuestion | None


class RunHandle:
    """One run of an App, from `app.runs.handle(run_id)`.

    Attributes:
        id: the run's id.
    """

    __slots__ = ("_service", "id")

    def __init__(self, service: RunService, run_id: str) -> None:
        self._service = service
        self.id = check_id(run_id)

    def __repr__(self) -> str:
        return f"RunHandle({self.id!r})"

    async def get(self, *, timeout: TimeoutLike = UNSET, max_retries: int | None = None) -> Run:
        """The run as it is now, with the questions that wait for an answer.

        Raises:
            NotFoundError: this App has no such run.
        """
        return await self._service.get(self.id, self._options(timeout, max_retries))

    @overload
    async def wait(self, **options: Unpack[WaitOptions]) -> Run: ...
    @overload
    async def wait(self, *, output_type: type[T], **options: Unpack[WaitOptions]) -> T: ...
    async def wait(
        self,
        *,
        timeout: float | None = DEFAULT_WAIT,
        on_question: OnQuestion | None = None,
        output_type: Any = None,
    ) -> Any:
        """Wait for a run to be over, however it ends, by looking at it now and then.

        Args:
            timeout: seconds; None for no limit.
            on_question: as for `Runs.stream`.
            output_type: return the output, as this type, instead of the run.

        Raises:
            APITimeoutError: the run was not over in time; the message names open questions.
            RunFailedError, RunCanceledError: with `output_type`, the run ended so.
        """
        check_type(output_type)
        check_seconds(timeout, "timeout")
        seen: list[Run] = []
        limit = asyncio.timeout(timeout)
        try:
            async with limit:
                run = await self._until_over(seen, on_question)
        except TimeoutError as error:
            if isinstance(error, errors.DynamiqError) or not limit.expired():
                raise  # a request's, or the handler's own
            late = _not_over(self.id, seen, timeout)
        else:
            return run if output_type is None else run.unwrap(output_type)
        raise late

    async def _until_over(self, seen: list[Run], on_question: OnQuestion | None) -> Run:
        """Look until the run is over. `seen` holds the latest look."""
        ledger, pause, lost = Ledger(), POLL_SECONDS[0], 0
        while True:
            try:
                seen[:] = [run := await self._service.get(self.id, self._service.options)]
                lost = 0
            except errors.DynamiqError as error:
                lost += 1
                if lost > MAX_LOST_POLLS or not may_pass(error):
                    raise
            else:
                if run.is_terminal:
                    return run
                if on_question is not None:
                    for request in ledger.new(run.questions):
                        question = Question(self._service, self.id, request)
                        await ask(on_question, question)
                        if question.answered:
                            ledger.answered(request)
                        pause = POLL_SECONDS[0]
            await asyncio.sleep(pause)
            pause = min(pause * (1.4 + random.random() * 0.2), POLL_SECONDS[1])  # noqa: S311

    def follow(
        self,
        *,
        after_sequence: int | None = None,
        on_question: OnQuestion | None = None,
        resume: bool = True,
        max_resumes: int = 5,
        timeout: TimeoutLike = UNSET,
        max_retries: int | None = None,
    ) -> RunStream:
        """Follow the events of a run that was started before, whether it is over or not.

        Args:
            after_sequence: go on behind this event, as `RunStream.sequence` told it; None or 0
                for all of them.

        The other arguments are those of `Runs.stream`.
        """
        if after_sequence is not None:
            check_count(after_sequence, "after_sequence", least=0)
        return RunStream(
            self._service,
            self._options(timeout, max_retries),
            run_id=self.id,
            after_sequence=after_sequence or None,
            resume=resume,
            max_resumes=check_count(max_resumes, "max_resumes", least=0),
            on_question=on_question,
        )

    def events(
        self,
        *,
        page: int = 1,
        page_size: int | None = None,
        prefetch: bool = False,
        timeout: TimeoutLike = UNSET,
        max_retries: int | None = None,
    ) -> Pages[RunEvent]:
        """The run's stored events, in the order of their sequence: await it for a page, iterate it
        for all. The arguments are those of `Runs.list`."""
        size = EVENT_PAGE_SIZE if page_size is None else check_count(page_size, "page_size")
        options = self._options(timeout, max_retries)

        async def fetch(number: int) -> Page[RunEvent]:
            return await self._service.event_page(self.id, number, options, size=size)

        return Pages(
            fetch,
            page=check_count(page, "page"),
            identity=lambda event: event.sequence,
            prefetch=prefetch,
        )

    async def cancel(self) -> None:
        """Cancel the run. Does nothing when it is over. Not held back by a cooldown."""
        await self._service.cancel(self.id)

    async def answer(
        self,
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
        await self._service.answer(self.id, request, feedback, extra_body)

    async def approve(
        self,
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
        await self._service.approve(self.id, request, params, feedback, extra_body)

    async def reject(
        self,
        request: InputRequest | str,
        *,
        feedback: str | None = None,
        extra_body: Mapping[str, Any] | None = None,
    ) -> None:
        """Reject what the run asks for. Raises what `approve` raises."""
        await self._service.reject(self.id, request, feedback, extra_body)

    def _options(self, timeout: TimeoutLike, max_retries: int | None) -> CallOptions:
        return self._service.client._call_options(Extras(timeout, max_retries))


def _not_over(run_id: str, seen: list[Run], timeout: float | None) -> errors.APITimeoutError:
    status = seen[0].status if seen else "unknown"
    message = f"run {run_id} was not over within {timeout} s; its status is {status}"
    if seen and seen[0].questions:
        prompts = "; ".join(repr(request.prompt) for request in seen[0].questions)
        message += f", and it waits for answers to: {prompts}"
    return errors.APITimeoutError(message, limit="total", seconds=timeout, run_id=run_id)
