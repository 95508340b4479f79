"""Waiting for a run to be over, by polling it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypedDict

from dynamiq_async import errors
from dynamiq_async._http.status import may_pass
from dynamiq_async.options import check_seconds
from dynamiq_async.runs.questions import Ledger, OnQuestion, RunQuestion, ask

if TYPE_CHECKING:
    from dynamiq_async.runs.models import Run
    from dynamiq_async.runs.requests import RunRequests

DEFAULT_WAIT = 3600.0
"""Seconds. A run whose server was killed can stay `started` for ever, so a wait has a limit."""

POLL_SECONDS = (0.5, 5.0)
"""The first and the longest pause between two polls, in seconds."""

MAX_LOST_POLLS = 5
"""How many polls in a row may fail before a wait gives up."""


class WaitOptions(TypedDict, total=False):
    """The arguments of `wait` that do not affect its return type."""

    timeout: float | None
    on_question: OnQuestion | None


async def wait_for(
    requests: RunRequests, run_id: str, timeout: float | None, on_question: OnQuestion | None
) -> Run:
    """The run, once it is over. `Runs.wait` describes the arguments and the errors."""
    check_seconds(timeout, "timeout")
    seen: list[Run] = []
    limit = asyncio.timeout(timeout)
    try:
        async with limit:
            return await _until_over(requests, run_id, seen, on_question)
    except TimeoutError as error:
        if isinstance(error, errors.DynamiqError) or not limit.expired():
            raise  # the timeout of a request, or one from the handler
    raise _not_over(run_id, seen, timeout)


async def _until_over(
    requests: RunRequests, run_id: str, seen: list[Run], on_question: OnQuestion | None
) -> Run:
    """Poll until the run is over. `seen` holds the run as last received."""
    import random  # few programs poll, and importing it takes a millisecond

    ledger, pause, lost = Ledger(), POLL_SECONDS[0], 0
    while True:
        try:
            seen[:] = [run := await requests.get(run_id, requests.api.options)]
            lost = 0
        except errors.DynamiqError as error:
            lost += 1
            if lost > MAX_LOST_POLLS or not may_pass(error):
                raise
        else:
            if run.is_terminal:
                return run
            if on_question is not None:
                for asked in ledger.new(run.questions):
                    question = RunQuestion.of(asked, requests, run_id)
                    await ask(on_question, question)
                    if question.answered:
                        ledger.answered(question)
                    pause = POLL_SECONDS[0]
        await asyncio.sleep(pause)
        pause = min(pause * (1.4 + random.random() * 0.2), POLL_SECONDS[1])  # noqa: S311


def _not_over(run_id: str, seen: list[Run], timeout: float | None) -> errors.APITimeoutError:
    status = seen[0].status if seen else "unknown"
    message = f"run {run_id} was not over within {timeout} s; its status is {status}"
    if seen and (asked := seen[0].questions):
        prompts = "; ".join(repr(question.prompt) for question in asked)
        message += f", and it waits for answers to: {prompts}"
    return errors.APITimeoutError(message, limit="total", seconds=timeout, run_id=run_id)
