"""The tests on each Python that is here, and with the oldest versions of what we depend on.

    nox                            # all of it, without the slow tests
    nox -s tests-3.13 -- tests/sse # or some tests on one Python, slow ones too
    nox -s core lowest             # what depends on the interpreter, and on the libraries

A Python that is not here is skipped, with a line that says so. Nothing is downloaded but packages.
"""

from __future__ import annotations

import os
from pathlib import Path

import nox

PYTHONS = ["3.11", "3.12", "3.13", "3.14"]

# What depends on the interpreter: decoding, calls, streams, tasks and their ends.
CORE = (
    *("tests/sse", "tests/events", "tests/streaming", "tests/runs"),
    "tests/emulator/core",
)
# What depends on the versions of libraries: aiohttp's own parts that are used, msgspec's JSON, the
# frames of websockets and the command line.
LIBRARIES = (
    *("tests/transport/test_private.py", "tests/transport/test_transport.py"),
    *("tests/test_json.py", "tests/websocket/test_frames.py", "tests/cli/test_program.py"),
)
FAST = ("-q", "-n", "auto", "-m", "not slow", "--hypothesis-profile=fast")

nox.options.default_venv_backend = "uv"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False
nox.options.envdir = "build/nox"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["tests", "lowest"]

# pyenv's commands find only the versions that they are told of.
versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
if versions.is_dir():
    known = sorted(path.name for path in versions.glob("3.1[1-9].*"))
    os.environ.setdefault("PYENV_VERSION", ":".join(known))


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """All tests but the slow ones, or those that are given."""
    session.install("-e", ".[cli]", "--group", "test")
    session.run("pytest", *(session.posargs or FAST))


@nox.session(python=PYTHONS[1:])
def core(session: nox.Session) -> None:
    """The fast tests of what depends on the interpreter."""
    session.install("-e", ".", "--group", "core")
    session.run("pytest", *FAST, *(session.posargs or CORE))


@nox.session(python=PYTHONS[0])
def lowest(session: nox.Session) -> None:
    """What depends on libraries, with the oldest versions that pyproject.toml takes."""
    oldest = Path(session.create_tmp(), "oldest.txt")
    session.run_install(
        *("uv", "pip", "compile", "-q", "--no-deps", "--no-header", "--no-annotate"),
        *("--resolution", "lowest-direct", "--python-version", PYTHONS[0]),
        *("--extra", "cli", "--extra", "websocket", "-o", str(oldest), "pyproject.toml"),
        external=True,
    )
    session.log("with %s", ", ".join(oldest.read_text().split()))
    session.install("-e", ".[cli,websocket]", "--group", "core", "-c", str(oldest))
    session.run("pytest", *FAST, *(session.posargs or LIBRARIES))
