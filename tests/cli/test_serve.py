"""`serve`: the emulator as a command, from its first line to Ctrl-C."""

from __future__ import annotations

import gc
import json
import os
import re
import signal
import socket
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from http.client import HTTPResponse
from pathlib import Path
from typing import Any, TextIO
from urllib.error import HTTPError

import pytest

from dynamiq_async.__main__ import main
from dynamiq_async.cli import app_sources
from dynamiq_async.emulator import DEFAULT_KEY

from .conftest import piped_stdout

Answer = tuple[int, bytes]


class Visitor:
    """Sees what the command prints, calls its Apps, and ends it."""

    def __init__(self, stdout: TextIO) -> None:
        self._stdout = stdout
        self.seen = ""
        self.until("Ctrl-C stops it.\n")
        self.url = re.search(r"http://\S+", self.seen)[0]  # type: ignore[index]

    def until(self, text: str) -> str:
        """The line that ends with `text`."""
        line = "-"
        while line and not line.endswith(text):
            line = self._stdout.readline()
            self.seen += line
        return line

    def post(
        self,
        path: str = "/",
        *,
        key: str | None = DEFAULT_KEY,
        origin: str | None = None,
        **fields: Any,
    ) -> Answer:
        body = json.dumps({"input": {"question": "Hi"}, **fields}).encode()
        headers = {"Content-Type": "application/json"}
        if origin is not None:
            headers["Origin"] = origin
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(self.url + path, body, headers)
        response: HTTPResponse
        with urllib.request.urlopen(request) as response:
            return response.status, response.read()

    def status(self, path: str, origin: str | None = None) -> int:
        try:
            return self.post(path, origin=origin)[0]
        except HTTPError as error:
            with error:
                return error.code


def serve(
    *arguments: str, visit: Callable[[Visitor], Any], stop: int = signal.SIGINT
) -> tuple[int, str, Any]:
    """Run the command in this thread, where signals arrive, and `visit` in another.

    Returns the exit code, what was printed, and what `visit` returned.
    """
    visited: Future[tuple[Visitor, Any]] = Future()

    def work() -> None:
        try:
            visitor = Visitor(stdout)
            visited.set_result((visitor, visit(visitor)))
        except BaseException as error:  # noqa: BLE001 - raised by the test
            visited.set_exception(error)
        finally:
            os.kill(os.getpid(), stop)

    with piped_stdout() as reader, os.fdopen(reader, encoding="utf-8") as stdout:
        thread = threading.Thread(target=work)
        thread.start()
        code = main(["serve", "--port", "0", *arguments])
        thread.join()
        sys.stdout.close()
        visitor, result = visited.result()
        return code, visitor.seen + stdout.read(), result


def test_it_says_where_it_is_and_what_to_try() -> None:
    code, seen, visited = serve(visit=lambda visitor: (visitor.url, visitor.post()))
    url, (status, body) = visited
    assert (code, status) == (0, 200)
    assert b"Hello from the emulator" in body
    assert DEFAULT_KEY in seen
    assert f"curl -N {url} " in seen
    assert f"DYNAMIQ_APP_URL={url} DYNAMIQ_ACCESS_KEY={DEFAULT_KEY}\n" in seen
    assert "/agent      reasons, uses a tool" in seen
    assert f"export DYNAMIQ_API_BASE_URL={url}/~management/ DYNAMIQ_API_TOKEN=" in seen
    assert f"export FLOWY_API={url}/~flowy FLOWY_KEY=" in seen
    assert seen.endswith("stopped\n")


def test_the_requests_are_shown() -> None:
    def visit(visitor: Visitor) -> tuple[str, str]:
        visitor.post("/echo", stream=True)
        one = visitor.until("event\n")
        visitor.post("/", stream=True)
        return one, visitor.until("events\n")

    _, _, (one, many) = serve("--pace", "0", visit=visit)
    assert re.fullmatch(r"\d\d:\d\d:\d\d  POST  /echo  200  1 event\n", one)
    assert re.fullmatch(r"\d\d:\d\d:\d\d  POST  /  200  10 events\n", many)


def test_a_client_that_left_is_shown() -> None:
    def visit(visitor: Visitor) -> str:
        address = visitor.url.removeprefix("http://").split(":")
        body = b'{"input": {}, "stream": true}'
        with socket.create_connection((address[0], int(address[1]))) as client:
            client.sendall(
                b"POST /approval HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
            )
            client.recv(1)
        return visitor.until("left\n")

    _, _, line = serve("--public", visit=visit)
    assert line.endswith("POST  /approval  200  1 event  the client left\n")


def test_quiet_shows_no_requests() -> None:
    _, seen, _ = serve("--quiet", visit=Visitor.post)
    assert seen.endswith("Ctrl-C stops it.\n\nstopped\n")


def test_public_takes_requests_without_a_key() -> None:
    _, seen, (status, _) = serve("--public", visit=lambda visitor: visitor.post(key=None))
    assert status == 200
    assert "Authorization" not in seen
    assert "--public\n" in seen


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module of the user's in the working folder."""
    (tmp_path / "my_apps.py").write_text(
        "async def shout(input, run):\n    return input['question'].upper()\nanswer = 42\n"
        "async def yields(input, run):\n    yield input\n"
        "async def whisper(question: str):\n    return question.lower()\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield "my_apps"
    sys.modules.pop("my_apps", None)


def test_an_app_of_ones_own(own_module: str) -> None:
    _, _, (_, body) = serve("--app", f"{own_module}:shout", visit=Visitor.post)
    assert json.loads(body) == {"output": "HI"}


def test_several_apps_of_ones_own(own_module: str) -> None:
    """One after another as arguments, each at its path and its hostname; keys by project."""

    def visit(visitor: Visitor) -> list[Any]:
        return [
            visitor.post()[1],
            visitor.post("/loud")[1],
            visitor.post("/Quiet_one", key="dynamiq_acc_back-office")[1],
            visitor.status("/Quiet_one"),
            visitor.post("/echo")[1],
        ]

    arguments = ("echo", f"loud={own_module}:shout", f"Quiet_one={own_module}:whisper")
    projects = ("--project", "Back office=Quiet_one")
    _, seen, found = serve(*arguments, f"echo={own_module}:shout", *projects, visit=visit)
    assert found == [
        b'{"question":"Hi"}',
        b'{"output":"HI"}',
        b'{"output":"hi"}',
        403,
        b'{"output":"HI"}',
    ]
    port = re.search(r"http://127.0.0.1:(\d+)", seen)[1]  # type: ignore[index]
    assert f"  /           the App echo\n  /loud       the App {own_module}:shout, also at" in seen
    assert f"also at http://loud.localhost:{port}\n" in seen
    assert (
        f"  /Quiet_one  the App {own_module}:whisper, with the key dynamiq_acc_back-office\n"
        in seen
    )
    assert seen.count("\n  /echo ") == 1


def test_beside_named_apps_the_root_has_the_default_one(own_module: str) -> None:
    arguments = ("--app", f"a={own_module}:shout", "--app", f"b={own_module}:whisper", "--public")
    _, seen, found = serve(
        *arguments, visit=lambda v: [v.post(path, key=None)[1] for path in ("/", "/a", "/b")]
    )
    assert b"Hello from the emulator" in found[0]
    assert found[1:] == [b'{"output":"HI"}', b'{"output":"hi"}']
    assert "the App llm\n" in seen


def test_faults_are_played_again_and_again() -> None:
    def visit(visitor: Visitor) -> list[int]:
        return [visitor.status(path) for path in ("/v1/runs", "/", "/", "/echo", "/")]

    faults = ("--fault", '{"status": 503}', "--fault", "{}", "--fault-match", "POST /")
    _, _, statuses = serve(*faults, visit=visit)
    assert statuses[1:] == [503, 200, 503, 200]
    assert statuses[0] != 503


def test_a_fault_can_put_bytes_into_a_stream() -> None:
    fault = '{"after_events": 1, "send": ": a comment\\n\\n"}'
    _, _, (_, body) = serve("--fault", fault, visit=lambda visitor: visitor.post(stream=True))
    assert b": a comment\n\n" in body


def test_a_file_of_faults_does_the_same_twice(tmp_path: Path) -> None:
    file = tmp_path / "faults.toml"
    file.write_text(
        'seed = 3\n[[fault]]\napp = "echo"\nprobability = 0.5\nstatus = 503\n'
        '[[fault]]\nroute = "POST /"\nnth = 2\nstatus = 502\n'
    )

    def visit(visitor: Visitor) -> list[int]:
        return [visitor.status(path) for path in ["/echo"] * 12 + ["/"]]

    once, twice = (serve("--faults", str(file), visit=visit)[2] for _ in range(2))
    assert once == twice
    assert {200, 503} <= set(once)
    assert once[-1] == 200
    first = ("--fault", '{"status": 418}', "--fault-match", "POST /")
    assert set(serve("--faults", str(file), *first, visit=visit)[2]) == {418}


@pytest.mark.parametrize("allowed", [(), ("--allow-host", "bot.test")])
def test_hosts_that_are_allowed(allowed: tuple[str, ...]) -> None:
    """Others are refused, so that no page of another site can call it by a name of its own."""

    def visit(visitor: Visitor) -> list[int]:
        address = visitor.url.removeprefix("http://").split(":")
        found = []
        for host in ("localhost", "bot.test", "evil.test"):
            with socket.create_connection((address[0], int(address[1]))) as client:
                client.sendall(
                    b"POST /echo HTTP/1.1\r\nHost: %b\r\nContent-Type: application/json\r\n"
                    b'Connection: close\r\nContent-Length: 12\r\n\r\n{"input":{}}' % host.encode()
                )
                found.append(int(client.makefile("rb").readline().split()[1]))
        return found

    _, _, statuses = serve("--public", *allowed, visit=visit)
    assert statuses == [200, 200 if allowed else 421, 421]


def test_sigterm_stops_it_too() -> None:
    code, seen, _ = serve(visit=Visitor.post, stop=signal.SIGTERM)
    assert (code, seen.splitlines()[-1]) == (0, "stopped")


# --- pages ---------------------------------------------------------------------------------------


def test_the_inspector_is_named_and_can_be_left_out() -> None:
    def visit(visitor: Visitor) -> int:
        try:
            with urllib.request.urlopen(f"{visitor.url}/_ui") as response:
                assert b"Dynamiq emulator" in response.read()
                return int(response.status)
        except HTTPError as error:
            with error:
                return error.code

    _, seen, status = serve(visit=visit)
    assert re.search(r"inspector   http://127\.0\.0\.1:\d+/_ui\n", seen)
    assert status == 200
    _, seen, status = serve("--no-inspector", visit=visit)
    assert (status, "/_ui" in seen) == (404, False)
    assert serve("--host", "0.0.0.0", visit=visit)[2] == 404
    assert serve("--host", "0.0.0.0", "--inspector", visit=visit)[2] == 200


def test_only_pages_of_this_machine_may_call_it_unless_others_are_allowed() -> None:
    def visit(visitor: Visitor) -> list[int]:
        return [visitor.status("/", origin) for origin in ORIGINS]

    assert serve(visit=visit)[2] == [200, 403, 403]
    assert serve("--allow-origin", "https://shop.example", visit=visit)[2] == [200, 200, 403]


ORIGINS = ["http://localhost:3000", "https://shop.example", "https://evil.example"]


# --- workflows of the vendor's library -----------------------------------------------------------

LIBRARY = """
class Node:
    def __init__(self, kind):
        self.type = kind


class Flow:
    def __init__(self, *kinds):
        self.nodes = [Node(kind) for kind in kinds]

    def clone(self):
        return self


class Workflow:
    name = "Asker"
    run_sync = None

    def __init__(self, *kinds):
        self.flow = Flow(*kinds)

    def model_copy(self, update):
        return self

    @classmethod
    def from_yaml_file(cls, path, wf_id, init_components):
        if wf_id == "nope":
            raise ValueError("no such workflow")
        return cls("dynamiq.nodes.llms.OpenAI", "dynamiq.nodes.utils.Output")
"""


@pytest.fixture
def library(own_module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Something that looks like the library, workflows of it, and the codes of `os._exit`."""
    (tmp_path / "dynamiq.py").write_text(LIBRARY)
    (tmp_path / "flows.py").write_text(
        "from dynamiq import Workflow\n"
        "workflow = Workflow('dynamiq.nodes.utils.Output')\n"
        "def make(): return workflow\n"
        "plain = Workflow('dynamiq.nodes.llms.OpenAI')\n"
        "def make_plain(): return plain\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("dynamiq", "flows"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    return codes


@pytest.mark.parametrize(
    "name", ["flows:workflow", "flows:make", "flow.yaml", "flow.yml:wf-1", "/else/where.yaml"]
)
def test_a_workflow_is_served_and_left_at_once(library: list[int], name: str) -> None:
    code, seen, _ = serve(name, visit=lambda visitor: visitor.url)
    assert (code, library) == (0, [0])
    assert f"the App {name}\n" in seen
    assert seen.endswith("stopped\n")


def test_the_library_is_said_to_take_its_time(
    library: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    serve("flows:workflow", visit=lambda visitor: visitor.url)
    assert "takes some seconds" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "warned"),
    [
        ("flows:workflow", False),
        ("flow.yaml", False),
        ("flows:plain", True),
        ("flows:make_plain", True),
    ],
)
def test_a_workflow_that_gives_its_callers_nothing_is_warned_of(
    library: list[int], name: str, warned: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, _ = serve(name, visit=lambda visitor: visitor.url)
    assert code == 0
    assert ("has no Output node" in capsys.readouterr().err) == warned


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("flow.yaml:nope", "flow.yaml cannot be loaded: no such workflow"),
        ("flows:nope", "has no attribute 'nope'"),
    ],
)
def test_a_workflow_that_is_not_there(
    library: list[int], name: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", name]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("name", ["flow.yaml", "flows:workflow"])
def test_without_the_library_it_says_what_to_install(
    library: list[int],
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "dynamiq", None)  # as if it were not there
    assert main(["serve", name]) == 1
    said = capsys.readouterr().err
    assert "dynamiq-async[cli,dynamiq]" in said
    assert "environment of its own" in said
    assert "Python 3.11" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--app", "nope"], "no built-in App 'nope': there are echo, llm"),
        (["--app", "nope:app"], "nope:app cannot be loaded: No module named 'nope'"),
        (["--app", "my_apps:nope"], "has no attribute 'nope'"),
        (["--app", ":nope"], "cannot be loaded"),
        (["--app", "my_apps:answer"], "my_apps:answer is not a function"),
        (["--app", "my_apps:yields"], "yields cannot be an App: it yields"),
        (["llm", "my_apps:shout"], "both llm and my_apps:shout are at the root; name them apart"),
        (["a=llm", "a=echo"], "both llm and echo are called 'a'"),
        (["a=nope"], "no built-in App 'nope'"),
        (["v1=llm"], "'v1' cannot be the name of an App"),
        (["--project", "Sales"], "'Sales' is no project with its Apps"),
        (["--project", "Sales=nope"], "there is no App 'nope' for a project"),
        (["--port", "99999"], "--port"),
        (["--pace", "-1"], "--pace"),
        (["--fault", "[]"], "is not a fault"),
        (["--fault", "{"], "--fault is not JSON"),
        (["--fault", '{"after_events": "3", "drop": "reset"}'], "after_events"),
        (["--fault", '{"after_events": 3}'], "nothing happens at the position"),
        (["--fault", '{"stauts": 503}'], "there is no 'stauts': did you mean status?"),
        (["--faults", "nowhere.toml"], "nowhere.toml"),
        (["--faults", "my_apps.py"], "my_apps.py: "),
    ],
)
def test_wrong_usage(
    own_module: str, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_a_port_in_use_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["serve", "--port", str(taken.getsockname()[1])]) == 1
    assert "address already in use" in capsys.readouterr().err
    gc.collect()


def test_an_app_may_be_any_callable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "callable_apps.py").write_text(
        "class Own:\n    async def __call__(self, input, run): return input\nown = Own()\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert callable(app_sources.find_app("callable_apps:own"))
