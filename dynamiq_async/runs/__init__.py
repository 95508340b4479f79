"""An App's runs. Each has an id, events that can be followed, and questions for people.

The wire facts and their sources are in docs/contract.md.
"""

from dynamiq_async.runs.models import Run
from dynamiq_async.runs.questions import OnQuestion, QuestionEvent, RunQuestion
from dynamiq_async.runs.resumption import Gap
from dynamiq_async.runs.runs import RunHandle, Runs
from dynamiq_async.runs.stream import RunStream
from dynamiq_async.runs.waiting import DEFAULT_WAIT

__all__ = [
    "DEFAULT_WAIT",
    "Gap",
    "OnQuestion",
    "QuestionEvent",
    "Run",
    "RunHandle",
    "RunQuestion",
    "RunStream",
    "Runs",
]
