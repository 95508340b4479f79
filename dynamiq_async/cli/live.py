"""Shows a stream as it arrives: for people, as plain text, or as JSON lines.

Every view has two methods: `show(event)`, and `end()` after the last event. `LiveView` shows root
streams. The view of a run calls its other methods (`speech`, `question`, …) itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from dynamiq_async.cli import output

if TYPE_CHECKING:
    from msgspec import Struct
    from rich.console import Console

    from dynamiq_async.events import Event, StreamEvent, ToolCall

MAX_SILENCE = 8
"""A silent speaker loses its turn after this many events of other speakers."""

_RESULT_CHARACTERS = 400
_REMARK_CHARACTERS = 80
_NO_ANSWER = (
    "(a stream of the root endpoint cannot be answered over HTTP: the App waits until its own "
    "time limit; Ctrl-C leaves)"
)


class View(Protocol):
    """Something that shows the events of a root stream."""

    def show(self, event: StreamEvent) -> None:
        """An event has arrived."""

    def end(self) -> None:
        """No more events come, or none for some time."""


class JSONLines:
    """Each event's JSON, on a line of its own."""

    def show(self, event: Struct) -> None:
        """Write an event as a line."""
        output.write(output.json_line(event))

    def end(self) -> None:
        """Do nothing: every line is whole."""


class PlainText:
    """Only the text for the reader. Questions of nodes go to stderr."""

    def __init__(self) -> None:
        self._floor = Floor()
        self._speaker: str | None = None
        self._text = TextOutput()

    def show(self, event: StreamEvent) -> None:
        """Write an event's text; a question goes to standard error."""
        question = event.question
        if asked := question.prompt if question is not None else event.notice:
            output.console(stderr=True).print(f"? {output.visible(asked)}")
        self._write(self._floor.take(event))

    def end(self) -> None:
        """Write the text that was held back, and end the line."""
        self._write(self._floor.rest())
        self._text.end_line()

    def _write(self, events: list[StreamEvent]) -> None:
        for event in events:
            if text := event.text:
                if event.entity_id != self._speaker:
                    self._text.end_line()
                    self._speaker = event.entity_id
                self._text.write(text)


class TextOutput:
    """Writes text to standard output, piece by piece, and knows whether its last line has ended."""

    def __init__(self) -> None:
        self._open = False

    def write(self, text: str) -> None:
        """Write a piece that is not empty."""
        output.write(text.encode("utf-8", "replace"))
        self._open = not text.endswith("\n")

    def end_line(self) -> None:
        """End the last line, if it is open."""
        if self._open:
            output.write(b"\n")
            self._open = False


class Floor:
    """Puts the interleaved events of parallel nodes in a readable order, one speaker at a time.

    The first node to speak has the floor, and its events are passed on as they come. Events of
    other nodes are held back until it has finished, or until `MAX_SILENCE` of them came without one
    of its own.
    """

    def __init__(self) -> None:
        self._speaker: str | None = None
        self._held: dict[str | None, list[StreamEvent]] = {}
        self._silence = 0

    def take(self, event: StreamEvent) -> list[StreamEvent]:
        """The events that can be shown after `event` has arrived."""
        if event.is_final or event.question is not None or event.notice:
            return [*self.rest(), event]
        if not speaks(event) and not event.finish_reason:
            return []
        if self._speaker is None:
            self._speaker = event.entity_id
        if event.entity_id == self._speaker:
            self._silence = 0
            return [event, *self._pass_on()] if event.finish_reason else [event]
        self._held.setdefault(event.entity_id, []).append(event)
        self._silence += 1
        return self._pass_on() if self._silence >= MAX_SILENCE else []

    def rest(self) -> list[StreamEvent]:
        """The events that are still held back."""
        held, self._held = self._held, {}
        self._speaker = None
        return [event for events in held.values() for event in events]

    def _pass_on(self) -> list[StreamEvent]:
        """Give the floor to the speaker that waited longest. Repeat while that one has finished."""
        passed: list[StreamEvent] = []
        self._speaker, self._silence = None, 0
        while self._speaker is None and self._held:
            speaker = next(iter(self._held))
            events = self._held.pop(speaker)
            passed += events
            if not any(event.finish_reason for event in events):
                self._speaker = speaker
        return passed


def speaks(event: StreamEvent) -> bool:
    """Whether the event has content for a person."""
    return bool(event.text or event.reasoning or event.thought or event.tool_call)


class LiveView:
    """Shows the events to a person at a terminal: dimmed reasoning, tool calls, the answer."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._plain = console.options.ascii_only
        self._floor = Floor()
        self._speaker: str | None = None
        self._kind = ""
        self._open = False
        self._thoughts: set[str] = set()  # those whose thought was shown piece by piece
        self._calls: set[str] = set()
        self.has_text: bool = False

    # --- a root stream -----------------------------------------------------------------------

    def show(self, event: StreamEvent) -> None:
        """Show an event, once it is its agent's turn."""
        for ready in self._floor.take(event):
            self._show(ready)

    def end(self) -> None:
        """Show the events that were held back, and end the line."""
        for event in self._floor.rest():
            self._show(event)
        self._break_line()

    def _show(self, event: StreamEvent) -> None:
        if event.is_final:
            self.results(event)
        elif question := event.question:
            self.question(question.prompt, _NO_ANSWER)
        elif notice := event.notice:
            self.question(notice)
        else:
            speaker = _name(event)
            if thought := event.thought:
                if speaker not in self._thoughts:
                    self._reasoning(thought, speaker)
                self._thoughts.discard(speaker)
            self.speech(event, speaker)

    # --- what is shown ---------------------------------------------------------------------------

    def speech(self, event: Event, speaker: str) -> bool:
        """Show text, reasoning or a tool call. Return False if the event has none of these."""
        if text := event.text:
            self._enter("text", speaker)
            self.has_text = True
            self._write(text)
        elif thought := event.reasoning:
            self._reasoning(thought, speaker)
        elif call := event.tool_call:
            self._call(call, speaker)
        else:
            return False
        return True

    def _reasoning(self, piece: str, speaker: str) -> None:
        self._enter("reasoning", speaker)
        self._thoughts.add(speaker)
        self._write(piece, "dim italic")

    def _call(self, call: ToolCall, speaker: str) -> None:
        """Show a step of a tool call. Its name and input are shown once."""
        if call.status == "input":
            return
        self._enter("tool", speaker)
        if not call.id or call.id not in self._calls:
            arrow = ">" if self._plain else "▸"
            self._line(f"{arrow} {call.name or 'a tool'} {shortened(call.input)}".rstrip(), "cyan")
        self._calls.add(call.id)
        if call.status in ("completed", "failed"):
            failed = call.status == "failed"
            marks = ("ok", "failed") if self._plain else ("✓", "✗")
            self._line(f"{marks[failed]} {shortened(call.output)}", "red" if failed else "green")

    def question(self, prompt: str, *notes: str) -> None:
        """Show a question or a notice for a person, followed by the lines `notes`."""
        self._kind = "question"
        self._line(f"? {prompt}", "bold yellow")
        for note in notes:
            self._line(f"  {note}", "dim")

    def remark(self, text: str) -> None:
        """Show a remark on one line."""
        self._kind = "remark"
        self._line(shortened(text, _REMARK_CHARACTERS), "dim")

    def failures(self, event: Event) -> None:
        """Show which of the workflow's nodes failed."""
        for node, result in event.node_failures.items():
            self._line(f"{'x' if self._plain else '✗'} {node}: {result.error_message}", "red")

    def results(self, event: Event) -> None:
        """Show the nodes' failures, and their output unless it was shown as text."""
        self.failures(event)
        if nodes := event.nodes:
            self.output({node: result.output for node, result in nodes.items()})

    def output(self, value: Any) -> None:
        """Show the workflow's output, unless it was shown as text."""
        self._break_line()
        if not self.has_text:
            output.print_json(value)

    # --- lines -------------------------------------------------------------------------------

    def _enter(self, kind: str, speaker: str) -> None:
        """Begin a new block, unless this continues the last one."""
        if (kind, speaker) == (self._kind, self._speaker):
            return
        self._break_line()
        if kind == "text" and self._kind:
            self._write("\n")
        if speaker and speaker != self._speaker:
            self._line(speaker, "bold dim")
        self._kind, self._speaker = kind, speaker

    def _line(self, text: str, style: str) -> None:
        self._break_line()
        self._write(text + "\n", style)

    def _break_line(self) -> None:
        if self._open:
            self._write("\n")

    def _write(self, text: str, style: str | None = None) -> None:
        self._console.out(output.visible(text), style=style, end="", highlight=False)
        self._open = not text.endswith("\n")


def _name(event: StreamEvent) -> str:
    name = event.source.name if event.source is not None else None
    return name or event.entity_id or ""


def shortened(value: Any, length: int = _RESULT_CHARACTERS) -> str:
    """`value` on one line, cut where it would fill the screen."""
    text = value if isinstance(value, str) else _compact(value)
    text = " ".join(text.split())
    return text if len(text) <= length else f"{text[:length]}…"


def _compact(value: Any) -> str:
    return "" if value is None else msgspec.json.encode(value).decode()
