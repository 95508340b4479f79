"""What a person can do in the inspector: look at a request, answer a question, cancel a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct

from ..core.fault_data import convert
from ..core.refusals import RefusalError, bad_fields
from . import shown_runs, views
from .access import json_object

if TYPE_CHECKING:
    from ..app.questions import Question
    from .inspector import InspectorExchange
    from .shown_runs import ShownRun


class _Answer(Struct, forbid_unknown_fields=True):
    """An answer. `approved`, `params` and `feedback` belong to an approval, the others do not."""

    request_id: str
    approved: bool | None = None
    params: dict[str, Any] | None = None
    feedback: str | None = None
    content: str | None = None
    answers: list[dict[str, Any]] | None = None


async def get_request(exchange: InspectorExchange, id: str) -> None:
    """`GET /_emulator/requests/{id}`."""
    for record in reversed(exchange.state.requests):
        if record.request_id == id:
            await views.respond(exchange, 200, views.whole_request(record))
            return
    raise RefusalError(404, "not_found", "there is no such request")


async def answer(exchange: InspectorExchange, id: str) -> None:
    """`POST /_emulator/runs/{id}/answers`. The JSON has `request_id` and either `approved`, with
    changed `params` and `feedback`, or `content`, with `answers` to the parts."""
    run = _find(exchange, id)
    try:
        given = convert(json_object(exchange), _Answer)
    except ValueError as error:
        raise RefusalError(400, "bad_request", str(error)) from error
    open = [question for question in run.open_questions if question.id == given.request_id]
    if not open:
        raise RefusalError(409, "conflict", "there is no such open question")
    _give(open[0], given)
    if (kept := exchange.state.apps.runs.get(id)) is not None:
        kept.keep(open[0])
    await _done(exchange)


async def cancel(exchange: InspectorExchange, id: str) -> None:
    """`POST /_emulator/runs/{id}/cancel`, with `{}`. An invocation ends as a canceled workflow, and
    its caller gets the response of one."""
    run = _find(exchange, id)
    json_object(exchange)
    run.cancel()
    await _done(exchange)


def _give(question: Question, given: _Answer) -> None:
    is_approval = question.kind == "approval_request"
    others = ("content", "answers") if is_approval else ("approved", "params", "feedback")
    wrong = {
        name: "is for a question of another kind"
        for name in others
        if getattr(given, name) is not None
    }
    if is_approval and given.approved is None:
        wrong["approved"] = "must be true or false"
    if wrong:
        raise bad_fields(wrong)
    if given.approved is None:
        question.reply(given.content or "", given.answers)
    else:
        question.decide(given.approved, given.params, given.feedback or None)


async def _done(exchange: InspectorExchange) -> None:
    exchange.state.apps.changes.notify()
    await views.respond(exchange, 200, {"message": "ok"})


def _find(exchange: InspectorExchange, id: str) -> ShownRun:
    run = shown_runs.find(exchange.state.apps, id)
    if run is None:
        raise RefusalError(404, "not_found", "there is no such run")
    return run
