"""The vendor's own software, which `.ci/vendor` installs: elsewhere nothing of it can run."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.browser import chromium
from tests.support.limits import HANG_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .model import Model

__all__ = ["chromium"]

collect_ignore_glob = [] if importlib.util.find_spec("dynamiq") else ["test_*.py"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The vendor's warnings are the vendor's. The tests of one workflow come behind one another,
    as a process with it takes long to start and much memory."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("default"))
    items.sort(key=lambda item: (str(item.path), _workflow_of(item)))


def _workflow_of(item: pytest.Item) -> str:
    callspec = getattr(item, "callspec", None)
    return str(callspec.params.get("name", "~")) if callspec is not None else "~"


@pytest.fixture(scope="session")
def model() -> Iterator[Model]:
    """The language model of the workflows."""
    from .model import Model

    with Model() as running:
        os.environ["MODEL_URL"] = running.url
        yield running


class Served:
    """`dynamiq-async serve`, as a person has it.

    Attributes:
        settings: the variables that it prints.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.settings: dict[str, str] = {}
        self.seen = ""
        assert process.stdout is not None
        for line in process.stdout:
            self.seen += line
            self.settings |= dict(re.findall(r"\b([A-Z_]+)=(\S+)", line))
            if line.startswith("Ctrl-C"):
                break
        assert "DYNAMIQ_APP_URL" in self.settings, self.seen
        self.url = self.settings["DYNAMIQ_APP_URL"]
        self.key = self.settings.get("DYNAMIQ_ACCESS_KEY")


@contextmanager
def serving(app: str, *arguments: str) -> Iterator[Served]:
    """Serve an App in a process of its own."""
    command = [sys.executable, "-m", "dynamiq_async", "serve", app, "--port", "0", "--pace", "0"]
    process = subprocess.Popen(
        [*command, "--quiet", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    try:
        yield Served(process)
    finally:
        process.terminate()  # in a job in the background, Ctrl-C would be ignored
        assert process.wait(HANG_SECONDS) == 0
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture(scope="module")
def serve(model: Model) -> Iterator[Callable[[str], Served]]:
    """Serves a workflow of `workflows`, until another is asked for."""
    running: dict[str, Served] = {}
    with ExitStack() as stack:

        def served(name: str) -> Served:
            if name not in running:
                stack.close()
                running.clear()
                running[name] = stack.enter_context(serving(f"tests.vendor.workflows:{name}"))
            return running[name]

        yield served
