"""Where `serve` has its App from: the built-in ones, your own function, or a workflow of the
vendor's library."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dynamiq_async.cli import output
from dynamiq_async.errors import InvalidArgumentError, MissingExtraError

if TYPE_CHECKING:
    from dynamiq_async.emulator import App
    from dynamiq_async.emulator.library import WorkflowApp

_LIBRARY = "dynamiq"
_YAML = (".yaml", ".yml")


def find_app(name: str) -> str | App | WorkflowApp:
    """The name of a built-in App, a function of the user's own, or a workflow of the library's.

    Args:
        name: a built-in App's name; `module:attribute`, where the attribute is an App, a workflow,
            or a function without arguments that makes a workflow; or a YAML file, behind which
            `:id` may choose one of its workflows.

    Raises:
        InvalidArgumentError: there is no such App.
        MissingExtraError: it needs the vendor's library, which is not installed.
    """
    from dynamiq_async.emulator import BUILTIN

    file, _, workflow_id = (
        name.rpartition(":") if Path(name).suffix not in _YAML else (name, "", "")
    )
    if Path(file).suffix in _YAML:
        return _from_yaml(Path(file), workflow_id or None)
    if ":" in name:
        return _own(name)
    if name not in BUILTIN:
        known = ", ".join(BUILTIN)
        raise InvalidArgumentError(
            f"no built-in App {name!r}: there are {known}; your own is module:function or "
            "module:workflow, or the YAML file of a workflow",
            argument="app",
        )
    return name


def is_workflow_app(app: object) -> bool:
    """Whether an App is a workflow of the library's."""
    from dynamiq_async.emulator.library import WorkflowApp

    return isinstance(app, WorkflowApp)


def _from_yaml(file: Path, workflow_id: str | None) -> WorkflowApp:
    from dynamiq_async.emulator.library import LibraryMissingError, from_yaml

    _tell_to_wait()
    try:
        app = from_yaml(file, workflow_id)
    except LibraryMissingError as error:
        raise MissingExtraError(str(error)) from error
    except Exception as error:  # whatever the library says of the file
        raise InvalidArgumentError(f"{file} cannot be loaded: {error}", argument="app") from error
    return _said_what_it_gives(app)


def _own(name: str) -> App | WorkflowApp:
    from dynamiq_async.emulator.library import INSTALL, WorkflowApp, is_workflow

    module_name, _, path = name.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        if importlib.util.find_spec(_LIBRARY) is not None:
            _tell_to_wait()  # the module may import it
        found: Any = importlib.import_module(module_name)
        for attribute in path.split("."):
            found = getattr(found, attribute)
    except (ImportError, AttributeError, ValueError) as error:
        if getattr(error, "name", None) == _LIBRARY and isinstance(error, ModuleNotFoundError):
            raise MissingExtraError(f"{name}: {INSTALL}") from error
        raise InvalidArgumentError(f"{name} cannot be loaded: {error}", argument="app") from error
    if is_workflow(found) or _makes_one(found):
        return _said_what_it_gives(WorkflowApp(found, name=path))
    if not callable(found):
        said = f"{name} is not a function, nor a workflow"
        raise InvalidArgumentError(said, argument="app")
    app: App = found
    return app


def _said_what_it_gives(app: WorkflowApp) -> WorkflowApp:
    """The App, after a word of warning where its callers get nothing."""
    if not app.has_output:
        output.remark(
            "the workflow has no Output node: callers and runs get {}, as the vendor's checker "
            "says; only a stream's end has what its nodes gave"
        )
    return app


def _makes_one(found: Any) -> bool:
    """Whether it is a function that makes a workflow: an App takes an input and a run."""
    if not callable(found) or inspect.iscoroutinefunction(found):
        return False
    try:
        inspect.signature(found).bind()
    except (TypeError, ValueError):
        return False
    return True


def _tell_to_wait() -> None:
    output.remark("loading; the vendor's library takes some seconds")
