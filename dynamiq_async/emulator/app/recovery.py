"""What becomes of an emulator's state when it is started again with its database.

Runs that were over, files and the history are there as before. A run that was at work goes on: its
App is run again, with what it has said before left out (see `replay`), and with the answers that it
was given. A call that was bound to a connection, at the root or on a WebSocket, is over as when its
client had left, and so is one that was to be answered by callbacks.
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
    """A run that was at work, with what its App got and what the history has of it."""

    run: Run
    files: list[InputFile]
    execution: Execution | None


def restore(state: AppState, path: Path) -> Callable[[], None]:
    """Open the database, and take the state from it.

    Returns what has the runs go on that were at work. Raises `DatabaseError` where the file cannot
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
    """Take the executions. Returns those of the runs that were at work, by their ids."""
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
    """Run the Apps of the runs that were at work, but for those that are not served any more."""
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
