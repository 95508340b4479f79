"""Following a run: its events are shown, its questions asked, and the position is never lost."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from msgspec import structs

from dynamiq_async.cli import asking, live, output, problems
from dynamiq_async.errors import DynamiqError
from dynamiq_async.events import NodeResult
from dynamiq_async.questions import QuestionEvent
from dynamiq_async.runs_models import RUN_STARTED, RunEvent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from dynamiq_async._cursor import Gap
    from dynamiq_async.app import AsyncApp
    from dynamiq_async.questions import Question
    from dynamiq_async.run_stream import RunStream
    from dynamiq_async.runs_models import Run

_SILENT = frozenset({"agent.reasoning.delta", "agent.response.delta"})  # when they are empty


class View(Protocol):
    """Something that shows the events of a run."""

    def show(self, event: RunEvent) -> None:
        """An event has arrived."""

    def end(self) -> None:
        """No more comes, or not for a while."""


class JSONLines(live.JSONLines):
    """Each event's JSON, on a line of its own."""

    def show(self, event: msgspec.Struct) -> None:
        if isinstance(event, QuestionEvent):
            event = RunEvent(**{n: getattr(event, n) for n in RunEvent.__struct_fields__})
        super().show(event)


class RunView:
    """What happens in a run, for a person at a terminal."""

    def __init__(self, console: Console) -> None:
        self._live = live.LiveView(console)

    def show(self, event: RunEvent) -> None:
        if text := event.text:
            self._live.text(text, "")
        elif thought := event.reasoning:
            self._live.reasoning(thought, "")
        elif call := event.tool_call:
            name = call.tool.name if call.tool is not None else None
            self._live.call(name or "a tool", call.input, call.id, "")
            self._live.outcome(call.result_data, "")
        elif request := event.question:
            self._live.question(request.prompt or "", *asking.describe(request))
        elif event.is_terminal:
            self._finish(event)
        elif event.type == RUN_STARTED and event.state is not None:
            self._live.remark(f"run {event.state.id} started")
        elif event.type not in _SILENT:
            data = bytes(event.raw_data).decode("utf-8", "replace")
            self._live.remark(f"{event.type} {data}")

    def end(self) -> None:
        self._live.end()

    def _finish(self, event: RunEvent) -> None:
        output_ = event.state.output if event.state is not None else None
        nodes = _nodes(output_)
        if event.type != "run.completed":
            nodes = {name: node for name, node in nodes.items() if node.status == "failure"}
            self._live.failures(nodes)
        elif nodes:
            self._live.results(nodes)
        elif output_:
            self._live.output(output_)


def _nodes(output_: Any) -> dict[str, NodeResult]:
    """A run's output as the results of its nodes, if that is what it is."""
    try:
        return msgspec.convert(output_, dict[str, NodeResult])
    except msgspec.ValidationError:
        return {}
