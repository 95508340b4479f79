"""The vendor's command line, unmodified, by the settings that `serve` prints."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import aiohttp
import pytest

from dynamiq_async.emulator import DEFAULT_PROJECT, Emulator
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


# Imports the command line once, and runs each command in a process of its own from there.
DRIVER = """
import json, os, sys
from dynamiq.cli import main

for line in sys.stdin:
    arguments, *files = json.loads(line)
    child = os.fork()
    if not child:
        for number, file in enumerate(files, 1):
            os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        sys.argv = ["dynamiq", *arguments]
        sys.exit(main())
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


class Done(NamedTuple):
    code: int
    out: str
    err: str


class Command:
    """The program, with these settings."""

    def __init__(self, settings: dict[str, str], folder: Path) -> None:
        self._folder = folder
        self._environment = os.environ | settings | {"XDG_CONFIG_HOME": str(folder)}

    def __call__(self, *arguments: str, code: int = 0) -> str:
        return self._checked(*arguments, code=code).out

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments))

    def refused(self, *arguments: str) -> str:
        """What it says where it fails."""
        return self._checked(*arguments, code=1).err

    def _checked(self, *arguments: str, code: int) -> Done:
        done = self._run(*arguments)
        assert done.code == code, done.out + done.err
        return done

    def _run(self, *arguments: str) -> Done:
        done = subprocess.run(
            [str(Path(sys.executable).with_name("dynamiq")), *arguments],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=HANG_SECONDS,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)


class QuickCommand(Command):
    """The same for many commands: each would take some seconds for its imports alone."""

    def __enter__(self) -> Self:
        self._driver = subprocess.Popen(
            [sys.executable, "-c", DRIVER],
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._driver.communicate(timeout=HANG_SECONDS)

    def _run(self, *arguments: str) -> Done:
        files = [self._folder / name for name in ("out", "err")]
        stdin, stdout = self._driver.stdin, self._driver.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps([arguments, *map(str, files)]) + "\n")
        stdin.flush()
        code = stdout.readline()
        assert code, "the driver has crashed"
        return Done(int(code), *(file.read_text("utf-8") for file in files))


@pytest.fixture(scope="module")
def dynamiq(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    with QuickCommand(served.settings, tmp_path_factory.mktemp("settings")) as command:
        yield command


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
    assert "404" in dynamiq.refused("app", "invoke", "nobody", "{}")


def test_what_end_users_have_to_connect(dynamiq: Command) -> None:
    id = an_app(dynamiq)["id"]
    assert "data" in dynamiq.json("app", "requirements", id)
    assert "unsatisfied" in dynamiq.json("app", "requirements-status", id, USER)
    link = dynamiq.json("app", "connect-token", id, USER)
    assert link["url"].startswith("http://127.0.0.1")


async def test_an_end_users_account_is_disconnected(tmp_path: Path) -> None:
    async with Emulator("echo") as emulator:
        needed = emulator.requirements.add("Slack", app="echo")
        needed.users.add(USER)
        settings = {
            "DYNAMIQ_API_BASE_URL": f"{emulator.management_url}/",
            "DYNAMIQ_API_TOKEN": str(emulator.management.token),
            "DYNAMIQ_PROJECT_ID": DEFAULT_PROJECT,
            "DYNAMIQ_ACCESS_KEY": str(emulator.access_key),
        }
        dynamiq = Command(settings, tmp_path)
        id = emulator.management.find("echo").id
        await asyncio.to_thread(dynamiq, "app", "disconnect", id, needed.id, USER, "--yes")
        assert not needed.users
        said = await asyncio.to_thread(
            dynamiq.refused, "app", "disconnect", id, "nope", USER, "--yes"
        )
        assert "there is no such requirement" in said


# --- what changes something ----------------------------------------------------------------------


def test_an_app_is_deployed_again_and_deleted(dynamiq: Command) -> None:
    echo, llm = an_app(dynamiq)["workflow_id"], an_app(dynamiq, "llm")["workflow_id"]
    scaling = ("--type", "server_based", "--autoscaling", '{"min_replicas": 1}')
    deployed = dynamiq.json(
        *("app", "deploy", "--name", "My Bot", "--workflow", echo, "--access", "public"),
        *("--description", "mine", "--runtime", "r-1", *scaling),
    )["data"]
    id = deployed["id"]
    assert dynamiq.json("app", "invoke", id, '{"input": "hi"}') == {"input": "hi"}
    again = dynamiq.json("app", "redeploy", id, "--workflow", llm)["data"]
    assert (again["id"], again["hostname"]) == (id, deployed["hostname"])
    assert "output" in dynamiq.json("app", "invoke", id, '{"question": "hi"}')
    history = dynamiq.json("app", "deployments", id)["data"]
    assert [entry["workflow_id"] for entry in history] == [llm, echo]
    assert id in dynamiq("app", "list", "--workflow", llm)
    assert dynamiq("app", "delete", id, "--yes") == ""
    assert "404" in dynamiq.refused("app", "get", id)
    assert "no such workflow" in dynamiq.refused("app", "deploy", "--name", "x", "--workflow", id)


def test_a_workflow_is_created_saved_verified_and_released(
    dynamiq: Command, tmp_path: Path
) -> None:
    flow = tmp_path / "flow.json"
    flow.write_text(json.dumps(FLOW))
    id = dynamiq.json("workflow", "create", '{"name": "my-flow"}')["data"]["id"]
    assert "starter" in dynamiq.refused("workflow", "verify", id)
    dynamiq("workflow", "save", id, f"@{flow}")
    assert dynamiq.json("workflow", "verify", id)["node_count"] == 3
    assert dynamiq.json("workflow", "release", id)["data"]["version"] == "1"
    assert len(dynamiq.json("workflow", "versions", id)["data"]) == 1
    shown = dynamiq.json("workflow", "get", id)["data"]
    assert [node["id"] for node in shown["flow"]["nodes"]] == ["input", "shout", "output"]
    assert id in dynamiq("workflow", "list", "--all", "--compact")
    assert "not_emulated" in dynamiq.refused("app", "deploy", "--name", "x", "--workflow", id)


def test_what_the_emulator_has_not_is_told_as_such(dynamiq: Command) -> None:
    id = an_app(dynamiq)["id"]
    assert dynamiq.json("trigger", "list", id)["data"] == []
    for command in (
        ("trigger", "create-schedule", id, "--name", "daily", "--cron", "0 9 * * 1"),
        ("trigger", "run", id, "t-1"),
        ("workflow", "test", json.dumps(FLOW), "{}"),
        ("workflow", "node-types"),
        ("workflow", "requirements", id),
        ("integration", "list"),
        ("dataset", "get", "d-1"),
        ("memory", "get", "m-1"),
    ):
        said = dynamiq.refused(*command)
        assert "HTTP 501" in said, (command, said)
        assert "the emulator" in said


async def test_whatever_it_asks_for_is_known() -> None:
    """Each path in its source leads somewhere, if only to an error that says what is missing."""
    package = find_spec("dynamiq.cli")
    assert package is not None
    assert package.origin is not None
    sources = [path.read_text("utf-8") for path in Path(package.origin).parent.rglob("*.py")]
    asked = {
        re.sub(r"\{[^}]*\}", "x", path)
        for source in sources
        for path in re.findall(r"f?\"(?:\{[^}]*\})?(/v\d/[^\"?]*)", source)
    }
    assert len(asked) > 100
    async with Emulator("echo") as emulator, aiohttp.ClientSession() as client:
        hosts = {
            emulator.management_url: emulator.management.token,
            emulator.url: emulator.access_key,
        }
        for host, key in hosts.items():
            for path in sorted(asked):
                headers = {"Authorization": f"Bearer {key}"}
                async with client.get(host + path, headers=headers) as response:
                    if "there is nothing here" not in await response.text():
                        asked.discard(path)
    assert not asked


FLOW = {
    "id": "b1b9f3a2-0000-4000-8000-000000000001",
    "nodes": [
        {
            "id": "input",
            "name": "input",
            "type": "dynamiq.nodes.utils.Input",
            "schema": {"type": "object", "properties": {"input": {"type": "string"}}},
        },
        {
            "id": "shout",
            "name": "shout",
            "type": "dynamiq.nodes.tools.Python",
            "code": "def run(inputs):\n    return inputs['input'].upper()\n",
            "depends": [{"node": "input"}],
            "input_transformer": {"selector": {"input": "$.input.output.input"}},
        },
        {
            "id": "output",
            "name": "output",
            "type": "dynamiq.nodes.utils.Output",
            "depends": [{"node": "shout"}],
            "input_transformer": {"selector": {"output": "$.shout.output.content"}},
        },
    ],
}
