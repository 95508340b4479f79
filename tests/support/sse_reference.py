"""A slow and obvious decoder of event streams, to hold the fast one against.

Written along the WHATWG HTML standard, section 9.2.6: decode the whole text, cut it into lines,
and interpret them one by one. It knows no chunks, so it is asked about every prefix of a stream
instead. It shares no code and no idea with `dynamiq_async.sse`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple

BOM = b"\xef\xbb\xbf"
LINE_END = re.compile("\r\n|\r|\n")


class Event(NamedTuple):
    event: str
    data: str
    id: str
    retry: int | None


@dataclass
class Reference:
    """What a stream has brought when exactly `stream` has arrived."""

    stream: bytes
    events: list[Event] = field(default_factory=list)
    last_event_id: str = ""
    retry: int | None = None
    pending: bool = False

    def __post_init__(self) -> None:
        self.data_buffer = ""
        self.event_type_buffer = ""
        self.last_event_id_buffer = ""
        self.block_retry: int | None = None
        self.fields_held = False
        text = self.stream.decode("utf-8", "replace").removeprefix("\ufeff")
        *lines, unfinished = LINE_END.split(text)
        for line in lines:
            self.interpret(line)
        self.pending = self.fields_held or (unfinished != "" and unfinished[0] != ":")

    def interpret(self, line: str) -> None:
        if line == "":
            self.dispatch()
        elif line.startswith(":"):
            pass
        elif ":" in line:
            name, value = line.split(":", 1)
            self.process(name, value.removeprefix(" "))
        else:
            self.process(line, "")

    def process(self, name: str, value: str) -> None:
        if name == "event":
            self.event_type_buffer = value
        elif name == "data":
            self.data_buffer += value + "\n"
        elif name == "id":
            if "\0" not in value:
                self.last_event_id_buffer = value
        elif name == "retry" and re.fullmatch("[0-9]+", value):
            self.retry = self.block_retry = int(value)
        if name in ("event", "data", "id", "retry"):
            self.fields_held = True

    def dispatch(self) -> None:
        self.last_event_id = self.last_event_id_buffer
        if self.data_buffer != "":
            self.events.append(
                Event(
                    self.event_type_buffer or "message",
                    self.data_buffer.removesuffix("\n"),
                    self.last_event_id,
                    self.block_retry,
                )
            )
        self.data_buffer = ""
        self.event_type_buffer = ""
        self.block_retry = None
        self.fields_held = False


def overflow(stream: bytes, limit: int) -> int | None:
    """The position of the byte with which an event becomes too large, or None if none does.

    Goes byte by byte: at each, what the block holds is its finished fields of known
    names and whatever there is of the next line.
    """
    if BOM.startswith(stream):
        return None  # nothing is known of these bytes yet
    held = 0
    line = b""
    start = len(BOM) if stream.startswith(BOM) else 0
    for position in range(start, len(stream)):
        byte = stream[position : position + 1]
        if byte == b"\n" and position > start and stream[position - 1 : position] == b"\r":
            continue
        line += byte
        if line in (b"\r", b"\n"):
            held = 0
            line = b""
            continue
        if held + len(line) > limit:
            return position
        if byte in (b"\r", b"\n"):
            if line[:-1].split(b":")[0] in (b"data", b"event", b"id", b"retry"):
                held += len(line)
            line = b""
    return None
