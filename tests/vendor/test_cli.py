"""The vendor's command line, unmodified, by the settings that `serve` prints."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.limits import HANG_SECONDS

from .conftest import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .conftest import Served

USER = "ann"


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving("llm") as running:
        yield running


class Command:
    def __init__(self, settings: dict[str, str], folder: Path) -> None:
        self._environment = os.environ | settings | {"XDG_CONFIG_HOME": str(folder)}

    def __call__(self, *arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            [str(Path(sys.executable).with_name("dynamiq")), *arguments],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=HANG_SECONDS,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments))


@pytest.fixture
def dynamiq(served: Served, tmp_path: Path) -> Command:
    return Command(served.settings, tmp_path)


def an_app(dynamiq: Command, name: str = "echo") -> dict[str, Any]:
    [found] = [app for app in dynamiq.json("app", "list", "--all")["data"] if app["name"] == name]
    return dict(found)


def test_it_tells_who_one_is(dynamiq: Command) -> None:
    report = dynamiq.json("whoami", "--json")
    assert report["ok"], report
    assert report["problems"] == []
    assert report["token"]["accepted"]
    assert report["user"]["email"]
    assert report["project"]["accessible"]
    assert report["org"]["accessible"]


def test_a_wrong_token_is_told(served: Served, tmp_path: Path) -> None:
    wrong = Command(served.settings | {"DYNAMIQ_API_TOKEN": "dyn_pat_wrong"}, tmp_path)
    assert "REJECTED" in wrong("whoami", code=1)


def test_organisations_and_projects_are_listed_and_chosen(served: Served, dynamiq: Command) -> None:
    settings = served.settings
    assert settings["DYNAMIQ_ORG_ID"] in dynamiq("org", "list")
    assert settings["DYNAMIQ_PROJECT_ID"] in dynamiq("project", "list")
    assert "set to" in dynamiq("org", "set", "--id", settings["DYNAMIQ_ORG_ID"])
    assert "set to" in dynamiq("project", "set", "--id", settings["DYNAMIQ_PROJECT_ID"])


def test_apps_are_listed_shown_and_invoked(dynamiq: Command) -> None:
    app = an_app(dynamiq)
    assert dynamiq.json("app", "get", app["id"])["data"]["hostname"] == app["hostname"]
    assert dynamiq.json("app", "invoke", app["id"], '{"input": "hi"}') == {"input": "hi"}
    assert dynamiq.json("app", "invoke", app["id"], '{"input": {"a": 1}}') == {"a": 1}
    agent = an_app(dynamiq, "agent")
    assert "pro tier" in dynamiq.json("app", "invoke", agent["id"], "{}")["output"]
    assert "404" in _error(dynamiq, "app", "invoke", "nobody", "{}")


def _error(dynamiq: Command, *arguments: str) -> str:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("dynamiq")), *arguments],
        env=dynamiq._environment,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )
    assert done.returncode == 1
    return done.stderr


def test_what_end_users_have_to_connect(dynamiq: Command) -> None:
    id = an_app(dynamiq)["id"]
    assert "data" in dynamiq.json("app", "requirements", id)
    assert "unsatisfied" in dynamiq.json("app", "requirements-status", id, USER)
    link = dynamiq.json("app", "connect-token", id, USER)
    assert link["url"].startswith("http://127.0.0.1")
