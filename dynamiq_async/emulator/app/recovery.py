"""Restores an emulator's state when it starts again with its database.

Finished runs, files and the history are there as before. An unfinished run resumes: its App runs
again, with the answers that it got before, and the events that it repeats are left out (see
`replay`). A call that needed its connection, at the root or on a WebSocket, is canceled, as if its
client had left. So is a call whose result was to go to callbacks.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from .execution import canceled_message
from .replay import Replay
from .runs_api import context_of, execute_run
from .storage import Storage

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from .execution import Execution
    from .input_files import InputFile
    from .runs import Run
    from .state import AppState


class _Stopped(NamedTuple):
    """An unfinished run, with the files that its App got and its execution in the history."""

    run: Run
    files: list[InputFile]
    execution: Execution | None


def restore(state: AppState, path: Path) -> Callable[[], None]:
    """Open the database, and load the state from it.

    Returns a function that resumes the unfinished runs. Raises `DatabaseError` if the file cannot
    be used.
    """
    storage = Storage(path)
    try:
        stopped = _take(state, storage)
    except BaseException:
        storage.close()
        raise
    state.storage = storage
    return partial(_go_on, state, storage, stopped)


def _take(state: AppState, storage: Storage) -> list[_Stopped]:
    files = {file.id: file for file in storage.files()}
    state.files = {id: file for id, file in files.items() if file.app_id}
    state.runs.clear()
    state.sessions.clear()
    at_work: dict[str, tuple[Run, list[str]]] = {}
    for run, ids in storage.runs(state.settings.event_window):
        state.add_run(run)
        if not run.terminal:
            at_work[run.id] = run, ids
    known = _history(state, storage, at_work)
    return [
        _Stopped(run, [files[id] for id in ids], known.get(run.id)) for run, ids in at_work.values()
    ]


def _history(state: AppState, storage: Storage, at_work: Collection[str]) -> dict[str, Execution]:
    """Load the executions. Returns those of unfinished runs, by their ids."""
    found: dict[str, Execution] = {}
    state.history.clear()
    for execution in storage.executions(state.history.limit):
        state.history.add(execution)
        if execution.id in at_work:
            found[execution.id] = execution
        elif execution.status == "running":
            execution.end("canceled", None, canceled_message(execution.app))
            storage.end_execution(execution)
    return found


def _go_on(state: AppState, storage: Storage, stopped: list[_Stopped]) -> None:
    """Resume the unfinished runs, except those whose App is not served any more."""
    apps = {deployment.id: deployment.app for deployment in state.deployments.values()}
    for run, files, execution in stopped:
        if app := apps.get(run.app_id):
            context = context_of(state, run, files)
            if events := storage.events(run.id):
                run.replay = Replay(events, partial(setattr, context, "pace", context.pace))
                context.pace = 0.0
            if execution is not None:
                execution.questions = run.questions
            work = execute_run(state, app, run, context, execution)
            run.task = state.tasks.spawn(work)
