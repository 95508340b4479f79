"""The command that answers a run's question: `runs answer`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Group, Parameter
from cyclopts.validators import mutually_exclusive

from dynamiq_async.cli import asking, inputs, output
from dynamiq_async.cli.options import DEFAULT_CONNECTION, Connection, RunId
from dynamiq_async.errors import InvalidArgumentError, QuestionError

if TYPE_CHECKING:
    from dynamiq_async.events import Question
    from dynamiq_async.runs.models import Run

ANSWER = Group("Answer", sort_key=10)
_VERDICT = Group("Verdict", show=False, validator=mutually_exclusive)


def answer(
    run_id: RunId,
    text: Annotated[
        str | None, Parameter(help="The answer; with --approve or --reject, a remark.")
    ] = None,
    /,
    *,
    approve: Annotated[
        bool, Parameter(group=(ANSWER, _VERDICT), help="Approve what the run asks for.")
    ] = False,
    reject: Annotated[bool, Parameter(group=(ANSWER, _VERDICT), help="Reject it.")] = False,
    params: Annotated[
        str | None,
        Parameter(
            group=ANSWER,
            help="With --approve, the parameters to change: a JSON object, `@FILE` or `-`. The "
            "question says which of them can be.",
        ),
    ] = None,
    question: Annotated[
        str | None,
        Parameter(
            group=ANSWER, help="The question's id, if several are open. `runs get` shows them."
        ),
    ] = None,
    connection: Connection = DEFAULT_CONNECTION,
) -> None:
    """Answer a run's question. On a terminal, the command asks you if you give no answer.

    ```
    dynamiq-async runs answer RUN_ID
    dynamiq-async runs answer RUN_ID 'A friendly tone'
    dynamiq-async runs answer RUN_ID --approve --params '{"to": "x"}'
    dynamiq-async runs answer RUN_ID --reject 'Not this customer'
    ```
    """
    edited = _read_params(params, approve=approve)
    asks = text is None and not approve and not reject
    if asks and not output.is_interactive():
        raise InvalidArgumentError("there is no answer: give a text, --approve or --reject")

    async def send() -> None:
        async with connection.open() as app:
            run = app.runs.handle(run_id)
            asked = _choose(await run.get(), question)
            if asks:
                for each in asked:
                    await asking.show_and_ask(run, each)
                return
            only = _only(asked, run.id)
            _check_kind(only, verdict=approve or reject)
            if approve:
                await run.approve(only, params=edited, feedback=text)
            elif reject:
                await run.reject(only, feedback=text)
            else:
                await run.answer(only, text or "")

    asyncio.run(send())


def _read_params(given: str | None, *, approve: bool) -> dict[str, Any] | None:
    if given is None:
        return None
    if not approve:
        raise InvalidArgumentError("--params goes with --approve", argument="params")
    value = inputs.read_json(given, "params")
    if not isinstance(value, dict):
        raise InvalidArgumentError("--params is not a JSON object", argument="params")
    return value


def _choose(run: Run, wanted: str | None) -> list[Question]:
    """The run's open questions, or those with the id `wanted`.

    Raises:
        QuestionError: there are none.
    """
    found = [question for question in run.questions if wanted in (None, question.id)]
    if not found:
        what = "asks nothing" if wanted is None else f"asks nothing with the id {wanted}"
        raise QuestionError(f"the run {what}; it is {run.status}", run_id=run.id)
    return found


def _only(asked: list[Question], run_id: str) -> Question:
    """The question to answer. Of two with the same id, which the service confuses, the first.

    Raises:
        QuestionError: it is not clear which one is meant.
    """
    if len({question.id for question in asked}) > 1:
        ids = ", ".join(f"{question.id} ({question.prompt})" for question in asked)
        raise QuestionError(
            f"the run asks several questions; name one with --question: {ids}", run_id=run_id
        )
    return asked[0]


def _check_kind(question: Question, *, verdict: bool) -> None:
    """Raise QuestionError if an approval is answered with text alone, or a question approved."""
    if question.kind == "approval" and not verdict:
        raise QuestionError(f"{question.prompt!r} wants --approve or --reject, not a text alone")
    if verdict and question.kind != "approval":
        raise QuestionError(f"{question.prompt!r} wants a text, not --approve or --reject")
