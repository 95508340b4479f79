"""The Apps that `serve` can serve: built-in ones, your own functions, or workflows of the vendor's
library."""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from dynamiq_async.cli import output
from dynamiq_async.errors import InvalidArgumentError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dynamiq_async.emulator import App, Emulator, Project
    from dynamiq_async.emulator.library import WorkflowApp

_LIBRARY = "dynamiq"
_YAML = (".yaml", ".yml")


class FoundApps(NamedTuple):
    """The Apps to serve.

    Attributes:
        root: the App at the root. `source` is the text that named it.
        named: the other Apps, by their names.
        sources: the texts that named those.
    """

    root: str | App | WorkflowApp
    source: str
    named: dict[str, str | App | WorkflowApp]
    sources: dict[str, str]

    @property
    def has_workflow(self) -> bool:
        """Whether one of the Apps is a workflow of the vendor's library."""
        return any(map(is_workflow_app, (self.root, *self.named.values())))


_NAMED = re.compile(r"([\w.-]+)=(.+)", re.DOTALL)


def find_apps(asked: Sequence[str], default: str) -> FoundApps:
    """The App at the root (`default` if none is given) and the named Apps.

    Args:
        asked: for each App, a text as for `find_app`. All but one need a name before it, as in
            `support=module:function`.

    Raises:
        InvalidArgumentError: there is no such App, two Apps are at the root or have the same name,
            or a name is not valid.
        MissingExtraError: as for `find_app`.
    """
    sources: dict[str, str] = {}
    for given in asked:
        match = _NAMED.fullmatch(given)
        name, source = match.groups() if match else ("", given)
        if name in sources:
            called = f"are called {name!r}" if name else "are at the root"
            raise InvalidArgumentError(
                f"both {sources[name]} and {source} {called}; name them apart, as in "
                "support=module:function",
                argument="app",
            )
        sources[name] = source
    root = sources.pop("", default)
    named = {name: find_app(source) for name, source in sources.items()}
    return FoundApps(find_app(root), root, named, sources)


def made(found: FoundApps, **options: Any) -> Emulator:
    """An emulator of these Apps. Raises InvalidArgumentError if names or projects are wrong."""
    from dynamiq_async.emulator import Emulator
    from dynamiq_async.emulator.app.projects import ProjectError

    try:
        return Emulator(found.root, apps=found.named, **options)
    except ValueError as error:
        argument = "project" if isinstance(error, ProjectError) else "app"
        raise InvalidArgumentError(str(error), argument=argument) from error


def find_projects(asked: Sequence[str]) -> list[Project]:
    """The projects in texts like `Finance=billing,ledger`.

    Raises InvalidArgumentError for any other text.
    """
    from dynamiq_async.emulator import Project

    found: dict[str, list[str]] = {}
    for given in asked:
        name, _, apps = given.partition("=")
        if not (name and apps):
            raise InvalidArgumentError(
                f"{given!r} is no project with its Apps, like Finance=billing,ledger",
                argument="project",
            )
        found.setdefault(name, []).extend(app.strip() for app in apps.split(","))
    return [Project(name=name, apps=apps) for name, apps in found.items()]


def find_app(name: str) -> str | App | WorkflowApp:
    """The name of a built-in App, a function of the user's own, or a workflow of the library's.

    Args:
        name: a built-in App's name; `module:attribute`, where the attribute is an App, a workflow,
            or a function without arguments that makes a workflow; or a YAML file, after which
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
    """Whether an App is a workflow of the vendor's library."""
    from dynamiq_async.emulator.library import WorkflowApp

    return isinstance(app, WorkflowApp)


def _from_yaml(file: Path, workflow_id: str | None) -> WorkflowApp:
    from dynamiq_async.emulator.library import LibraryMissingError, from_yaml

    _tell_to_wait()
    try:
        app = from_yaml(file, workflow_id)
    except LibraryMissingError as error:
        raise MissingExtraError(str(error)) from error
    except Exception as error:  # the library's own error about the file
        raise InvalidArgumentError(f"{file} cannot be loaded: {error}", argument="app") from error
    return _said_what_it_gives(app)


def _own(name: str) -> App | WorkflowApp:
    from dynamiq_async.emulator import NotAnAppError, check_app
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
    try:
        check_app(found)
    except NotAnAppError as error:
        raise InvalidArgumentError(str(error), argument="app") from error
    app: App = found
    return app


def _said_what_it_gives(app: WorkflowApp) -> WorkflowApp:
    """The App. Prints a warning if its callers get no output."""
    if not app.has_output:
        output.remark(
            "the workflow has no Output node: callers and runs get {}, as the vendor's checker "
            "says; only a stream's end has what its nodes gave"
        )
    return app


def _makes_one(found: Any) -> bool:
    """Whether it is a function that makes a workflow. An App has parameters instead: input and
    run."""
    if not callable(found) or inspect.iscoroutinefunction(found):
        return False
    try:
        inspect.signature(found).bind()
    except (TypeError, ValueError):
        return False
    return True


def _tell_to_wait() -> None:
    output.remark("loading; the vendor's library takes some seconds")
