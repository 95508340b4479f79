"""Stores the runs, files and history of Apps in the database, across restarts of the emulator."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from anyio.to_thread import run_sync
from msgspec import Struct

from ..core.clock import utc_now
from ..core.database import Database
from ..core.feed import Feed, FeedEvent
from ..core.json import encode
from .artifacts import Artifact
from .execution import Execution
from .execution import Status as ExecutionStatus
from .input_files import InputFile
from .questions import Approval, Feedback, Kind, Question
from .runs import Run, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

R = TypeVar("R", bound=Struct)

_SCHEMA = (
    "CREATE TABLE runs (number INTEGER PRIMARY KEY, id TEXT UNIQUE, given BLOB, state BLOB)",
    "CREATE TABLE events (run TEXT, sequence INTEGER, type TEXT, data BLOB, "
    "PRIMARY KEY (run, sequence)) WITHOUT ROWID",
    "CREATE TABLE questions (run TEXT, number INTEGER, asked BLOB, answer BLOB, "
    "PRIMARY KEY (run, number)) WITHOUT ROWID",
    "CREATE TABLE executions (number INTEGER PRIMARY KEY, id TEXT UNIQUE, given BLOB, ended BLOB)",
    "CREATE TABLE artifacts (execution TEXT, number INTEGER, about BLOB, content BLOB, "
    "PRIMARY KEY (execution, number))",
    "CREATE TABLE files (number INTEGER PRIMARY KEY, id TEXT UNIQUE, about BLOB)",
    "CREATE TABLE pieces (file TEXT, number INTEGER, content BLOB, PRIMARY KEY (file, number))",
)

# --- the JSON within the columns: every later field needs a default -------------------------------


class _Given(Struct, omit_defaults=True):
    """The arguments of a run or an execution."""

    app: str
    app_id: str
    input: dict[str, Any]
    started_at: datetime
    user_id: str | None = None
    session_id: str | None = None
    files: list[str] = []


class _State(Struct, omit_defaults=True):
    """The state of a run."""

    status: Status
    output: Any = None
    error: str | None = None
    ended_at: datetime | None = None


class _Ended(Struct, omit_defaults=True):
    """How an execution ended."""

    status: ExecutionStatus
    nodes: dict[str, Any] | None = None
    output: Any = None
    error: str | None = None
    ended_at: datetime | None = None
    usage: dict[str, int] = {}


class _Asked(Struct, omit_defaults=True):
    """A question."""

    id: str
    kind: Kind
    prompt: str = ""
    request_id: str | None = None
    params: dict[str, Any] | None = None
    editable: list[str] = []
    questions: list[dict[str, Any]] | None = None
    entity_id: str = ""
    event: str = ""
    pauses: bool = False


class _Answer(Struct, omit_defaults=True):
    """The answer to a question: a text and the answers to the parts, or a verdict."""

    approved: bool | None = None
    params: dict[str, Any] = {}
    feedback: str | None = None
    answers: list[dict[str, Any]] | None = None
    said: Any = None


class _About(Struct):
    """A file or an artifact without its content."""

    id: str
    name: str
    mime_type: str
    app_id: str = ""
    size: int = 0
    saved_at: datetime | None = None


# --------------------------------------------------------------------------------------------------


class Storage:
    """The database of an emulator's Apps. Files are written at once, everything else with the next
    `flush`.

    Raises `DatabaseError` if the file cannot be used; see `Database`.
    """

    def __init__(self, path: Path) -> None:
        self._database = Database(path, _SCHEMA)
        self.flush: Callable[[], None] = self._database.flush
        self.close: Callable[[], None] = self._database.close

    def add_run(self, run: Run, files: Sequence[InputFile]) -> None:
        """Add a run, with the files that its App gets."""
        given = encode(_given(run, [file.id for file in files]))
        put = self._database.put
        put("INSERT INTO runs (id, given, state) VALUES (?, ?, ?)", run.id, given, _state(run))

    def change_run(self, run: Run) -> None:
        """Keep the status of a run, with its output, error and end."""
        self._database.put("UPDATE runs SET state = ? WHERE id = ?", _state(run), run.id)

    def add_event(self, run: Run, event: FeedEvent) -> None:
        """Keep the newest event of a run."""
        self._database.put("INSERT INTO events VALUES (?, ?, ?, ?)", run.id, *event)

    def keep_question(self, run: Run, number: int) -> None:
        """Keep a question of a run, by its number in the run, and its answer if it has one."""
        question = run.questions[number]
        asked = encode(_asked(question))
        put = self._database.put
        put("REPLACE INTO questions VALUES (?, ?, ?, ?)", run.id, number, asked, _answer(question))

    def add_execution(self, execution: Execution) -> None:
        """Add an execution to the history."""
        given = encode(_given(execution, []))
        self._database.put(
            "INSERT OR IGNORE INTO executions (id, given) VALUES (?, ?)", execution.id, given
        )

    def end_execution(self, execution: Execution) -> None:
        """Keep how an execution ended, and the files that it made."""
        put, id = self._database.put, execution.id
        ended = msgspec.convert(execution, _Ended, from_attributes=True)
        put("UPDATE executions SET ended = ? WHERE id = ?", encode(ended), id)
        for number, made in enumerate(execution.artifacts):
            about = encode(msgspec.convert(made, _About, from_attributes=True))
            put("REPLACE INTO artifacts VALUES (?, ?, ?, ?)", id, number, about, made.content)

    async def add_file(self, file: InputFile) -> InputFile:
        """Store a file. Returns the same file, whose content is read from the database."""
        return await run_sync(self._add_file, file)

    def _add_file(self, file: InputFile) -> InputFile:
        write = self._database.write
        for number, piece in enumerate(file.pieces()):
            write("INSERT INTO pieces VALUES (?, ?, ?)", file.id, number, piece)
        about = encode(msgspec.convert(file, _About, from_attributes=True))
        write("INSERT INTO files (id, about) VALUES (?, ?)", file.id, about)
        return self._stored(file)

    def _stored(self, file: InputFile) -> InputFile:
        def pieces() -> Iterator[bytes]:
            number = 0
            select = "SELECT content FROM pieces WHERE file = ? AND number = ?"
            while found := self._database.rows(select, file.id, number):
                yield found[0][0]
                number += 1

        return replace(file, read=lambda: b"".join(pieces()), pieces=pieces)

    # --- what was stored ----------------------------------------------------------------------

    def files(self) -> Iterator[InputFile]:
        """The files, the oldest first. Removes the pieces of incomplete uploads."""
        self._database.write("DELETE FROM pieces WHERE file NOT IN (SELECT id FROM files)")
        for (about,) in self._database.rows("SELECT about FROM files ORDER BY number"):
            known = _read(about, _About)
            yield self._stored(
                InputFile(
                    id=known.id,
                    app_id=known.app_id,
                    name=known.name,
                    size=known.size,
                    mime_type=known.mime_type,
                    read=bytes,
                )
            )

    def runs(self, window: int | None) -> Iterator[tuple[Run, list[str]]]:
        """The runs, the oldest first, and the ids of their files. `window` is that of the feed."""
        found = self._database.rows("SELECT id, given, state FROM runs ORDER BY number")
        for id, given, state in found:
            known, now = _read(given, _Given), _read(state, _State)
            run = Run(
                id=id,
                app=known.app,
                app_id=known.app_id,
                input=known.input,
                user_id=known.user_id,
                session_id=known.session_id,
                feed=Feed.of(self.events(id), window),
                status=now.status,
                output=now.output,
                error=now.error,
                started_at=known.started_at,
                ended_at=now.ended_at,
                questions=self._questions(id),
                created=time.monotonic() - (utc_now() - known.started_at).total_seconds(),
                store=self,
            )
            if run.terminal:
                run.feed.close()
            yield run, known.files

    def events(self, run_id: str) -> list[FeedEvent]:
        """The events of a run."""
        select = "SELECT sequence, type, data FROM events WHERE run = ? ORDER BY sequence"
        return [FeedEvent(*row) for row in self._database.rows(select, run_id)]

    def _questions(self, run_id: str) -> list[Question]:
        select = "SELECT asked, answer FROM questions WHERE run = ? ORDER BY number"
        return [_question(*row) for row in self._database.rows(select, run_id)]

    def executions(self, limit: int) -> Iterator[Execution]:
        """The newest executions, the oldest of them first."""
        select = (
            "SELECT id, given, ended FROM (SELECT * FROM executions ORDER BY number DESC LIMIT ?) "
            "ORDER BY number"
        )
        for id, given, ended in self._database.rows(select, limit):
            known = _read(given, _Given)
            execution = Execution(
                id=id,
                app=known.app,
                app_id=known.app_id,
                input=known.input,
                user_id=known.user_id,
                session_id=known.session_id,
                started_at=known.started_at,
            )
            if ended is not None:
                end = _read(ended, _Ended)
                execution.end(end.status, end.nodes, end.error)
                execution.ended_at, execution.output = end.ended_at, end.output
                execution.usage = end.usage
                execution.artifacts = self._artifacts(id)
            yield execution

    def _artifacts(self, execution_id: str) -> list[Artifact]:
        select = "SELECT about, content FROM artifacts WHERE execution = ? ORDER BY number"
        return [
            Artifact(
                name=about.name,
                content=content,
                mime_type=about.mime_type,
                id=about.id,
                saved_at=about.saved_at or utc_now(),
            )
            for about, content in (
                (_read(row[0], _About), row[1]) for row in self._database.rows(select, execution_id)
            )
        ]


def _read(data: bytes, type: type[R]) -> R:
    return msgspec.json.decode(data, type=type)


def _given(of: Run | Execution, files: list[str]) -> _Given:
    return _Given(
        app=of.app,
        app_id=of.app_id,
        input=dict(of.input),
        started_at=of.started_at,
        user_id=of.user_id,
        session_id=of.session_id,
        files=files,
    )


def _state(run: Run) -> bytes:
    return encode(_State(run.status, run.output, run.error, run.ended_at))


def _asked(question: Question) -> _Asked:
    return _Asked(
        id=question.id,
        kind=question.kind,
        prompt=question.prompt,
        request_id=question.request_id,
        params=None if question.params is None else dict(question.params),
        editable=list(question.editable),
        questions=None if question.questions is None else [dict(q) for q in question.questions],
        entity_id=question.entity_id,
        event=question.event,
        pauses=question.pauses,
    )


def _answer(question: Question) -> bytes | None:
    answer = None if question.open else question.answer.result()
    if isinstance(answer, Approval):
        given = _Answer(answer.approved, dict(answer.params), answer.feedback)
    elif isinstance(answer, Feedback):
        given = _Answer(feedback=str(answer), answers=[dict(one) for one in answer.answers or ()])
    else:
        return None  # it is open, or the App has withdrawn it, and will do so again
    given.said = question.said
    return encode(given)


def _question(asked: bytes, answer: bytes | None) -> Question:
    known = _read(asked, _Asked)
    question = Question(
        id=known.id,
        kind=known.kind,
        prompt=known.prompt,
        request_id=known.request_id,
        params=known.params,
        editable=known.editable,
        questions=known.questions,
        entity_id=known.entity_id,
        event=known.event,
        pauses=known.pauses,
    )
    if answer is not None:
        given = _read(answer, _Answer)
        question.said = given.said
        if given.approved is None:
            question.answer.set_result(Feedback(given.feedback or "", given.answers or None))
        else:
            verdict = Approval(given.approved, given.params, given.feedback)
            question.answer.set_result(verdict)
    return question
