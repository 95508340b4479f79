"""Follows a run: shows its events, asks its questions, and keeps the position to resume after."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from dynamiq_async.cli import asking, live, output, problems
from dynamiq_async.errors import DynamiqError
from dynamiq_async.events.run_events import DELTAS, RUN_STARTED, RunEvent
from dynamiq_async.runs.questions import QuestionEvent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from dynamiq_async.app import AsyncApp
    from dynamiq_async.events import Question
    from dynamiq_async.runs.models import Run
    from dynamiq_async.runs.questions import RunQuestion
    from dynamiq_async.runs.resumption import Gap
    from dynamiq_async.runs.stream import RunStream


class View(Protocol):
    """Something that shows the events of a run."""

    def show(self, event: RunEvent) -> None:
        """An event has arrived."""

    def end(self) -> None:
        """No more events come, or none for some time."""


class JSONLines(live.JSONLines):
    """Each event's JSON, on a line of its own."""

    def show(self, event: msgspec.Struct) -> None:
        """Write an event as a line. A question is written as the plain event that arrived."""
        if isinstance(event, QuestionEvent):
            event = RunEvent(**{n: getattr(event, n) for n in RunEvent.__struct_fields__})
        super().show(event)


class PlainText:
    """The answer's text and nothing else."""

    def __init__(self) -> None:
        self._text = live.TextOutput()

    def show(self, event: RunEvent) -> None:
        """Write an event's text."""
        if text := event.text:
            self._text.write(text)

    def end(self) -> None:
        """End the line."""
        self._text.end_line()


class RunView:
    """Shows the events of a run to a person at a terminal."""

    def __init__(self, console: Console) -> None:
        self._live = live.LiveView(console)

    def show(self, event: RunEvent) -> None:
        """Show an event."""
        if self._live.speech(event, ""):
            return
        if question := event.question:
            self._live.question(question.prompt, *asking.describe(question))
        elif event.is_final:
            self._finish(event)
        elif event.type == RUN_STARTED and event.state is not None:
            self._live.remark(f"run {event.state.id} started")
        elif event.type not in DELTAS:  # which say nothing when they are empty
            data = bytes(event.raw_data).decode("utf-8", "replace")
            self._live.remark(f"{event.type} {data}")

    def end(self) -> None:
        """Show the events that were held back."""
        self._live.end()

    def _finish(self, event: RunEvent) -> None:
        if event.error is not None:
            self._live.failures(event)
        elif event.nodes:
            self._live.results(event)
        elif event.state is not None and event.state.output:
            self._live.output(event.state.output)


class Follower:
    """Shows the stream of a run to its end.

    Args:
        view: what shows the events.
        asks: ask the person at the terminal the run's questions. Otherwise, print the command that
            answers them.
        after: the sequence number to begin after.
    """

    def __init__(self, view: View, *, asks: bool, after: int | None = None) -> None:
        self._view = view
        self._asks = asks
        self._run_id: str | None = None
        self._position = after
        self._reconnects = 0
        self._gaps = 0

    async def show(self, app: AsyncApp, stream: RunStream[Any]) -> None:
        """Show the stream's events to its end.

        Raises:
            RunFailedError, RunCanceledError: the run failed or was canceled.
        """
        self._run_id = stream.run_id
        try:
            with output.waiting_for(app.url):
                await stream.open()
            async with stream:
                async for event in stream:
                    self._report_connection(stream)
                    self._view.show(event)
                    await output.drain()
                    self._run_id, self._position = stream.run_id, event.sequence
                    if isinstance(event, QuestionEvent):
                        await self._handle_question(app, event.question)
        finally:
            self._view.end()
        self._report_connection(stream)
        if stream.final is None:
            run = await stream.run()
            output.remark(f"the run is over: {run.status}")
            run.unwrap()
        else:
            stream.raise_for_failure()

    @contextlib.contextmanager
    def detaching(self) -> Iterator[None]:
        """When Ctrl-C ends the body, print the command that resumes following. The run goes on."""
        try:
            yield
        except KeyboardInterrupt:
            if self._run_id is not None:
                output.remark(f"detached; {problems.following(self._run_id, self._position)}")
            raise

    def _report_connection(self, stream: RunStream[Any]) -> None:
        """Print the reconnects and gaps of the stream since the last report."""
        if stream.reconnects > self._reconnects:
            self._reconnects = stream.reconnects
            self._remark(f"the connection broke and was made anew (so far {self._reconnects} x)")
        for gap in stream.gaps[self._gaps :]:
            self._remark(_describe_gap(gap))
        self._gaps = len(stream.gaps)

    def _remark(self, text: str) -> None:
        self._view.end()
        output.remark(text)

    async def _handle_question(self, app: AsyncApp, question: RunQuestion) -> None:
        """Ask a question if it is open. A run followed from its start may have answered ones."""
        self._view.end()
        try:
            run = app.runs.handle(question.run_id)
            if not _is_open(question, await run.get()):
                return
            if self._asks:
                await asking.ask(run, question)
            else:
                command = output.command("runs", "answer", run.id)
                output.remark(f"the run waits for an answer: {command}")
        except DynamiqError as error:  # the run and its stream go on
            problems.report(error)


def _is_open(asked: Question, run: Run) -> bool:
    # Not by the id alone, which two questions can share.
    return any((open.id, open.prompt) == (asked.id, asked.prompt) for open in run.questions)


def _describe_gap(gap: Gap) -> str:
    which = f"event {gap.first}" if gap.first == gap.last else f"events {gap.first} to {gap.last}"
    if gap.confirmed:
        return f"{which} left out: the service has nothing under that number"
    return f"{which} did not come, and the service could not be asked for what it holds there"
