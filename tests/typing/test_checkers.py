"""What users' type checkers see: each takes what users are promised, and refuses the rest.

A line that mypy is told to ignore is one that every checker has to refuse; `# ty takes it` behind
it says that one does not, and `# pyright refuses it` that one refuses what mypy takes. Nothing else
may be refused. Their settings are in this folder. `.ci/types` runs them, where they are.
"""

from __future__ import annotations

import inspect
import json
import os
import pydoc
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
MODULES = sorted(path for path in HERE.glob("*.py") if not path.name.startswith(("_", "test_")))

Line = tuple[str, int]


def found(command: str) -> str:
    """The path of a checker, which has to be there where that is demanded."""
    beside = Path(sys.executable).with_name(command)
    path = str(beside) if beside.exists() else shutil.which(command)
    if path is None:
        assert os.environ.get("DYNAMIQ_TEST_CHECKERS") != "required", f"{command} is missing"
        pytest.skip(f"{command} is not installed")
    return path


def reported(*command: str) -> Any:
    # Not every command of pyright takes the interpreter as an argument.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    environment = {**os.environ, "PATH": path, "VIRTUAL_ENV": sys.prefix}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment
    )
    try:
        return json.loads(done.stdout)
    except json.JSONDecodeError:
        pytest.fail(f"{' '.join(command)}: {done.stdout}{done.stderr}")


def of_pyright() -> Iterator[tuple[Line, str]]:
    for error in reported(found("pyright"), "-p", str(HERE), "--outputjson")["generalDiagnostics"]:
        line = error["range"]["start"]["line"] + 1
        yield (Path(error["file"]).name, line), error["message"]


def of_ty() -> Iterator[tuple[Line, str]]:
    settings = ("--config-file", str(HERE / "ty.toml"), "--python", sys.prefix)
    command = (found("ty"), "check", *settings, "--output-format", "gitlab", *map(str, MODULES))
    for error in reported(*command):
        place = error["location"]
        yield (Path(place["path"]).name, place["positions"]["begin"]["line"]), error["description"]


def of_pyrefly() -> Iterator[tuple[Line, str]]:
    settings = ("-c", str(HERE / "pyrefly.toml"), "--python-interpreter-path", sys.executable)
    for error in reported(found("pyrefly"), "check", *settings, "--output-format", "json")[
        "errors"
    ]:
        yield (Path(error["path"]).name, error["line"]), error["description"]


CHECKERS = {"pyright": of_pyright, "ty": of_ty, "pyrefly": of_pyrefly}


def refused_by(checker: str, name: str, text: str) -> set[Line]:
    """The lines of a module that a checker has to refuse."""
    lines: set[Line] = set()
    for number, line in enumerate(text.splitlines(), 1):
        told = set(re.findall(rf"(?:#|,) {checker} (takes|refuses) it", line))
        by_mypy = "# type: ignore[" in line
        assert told <= {"takes" if by_mypy else "refuses"}, f"{name}:{number}: it does so anyway"
        if by_mypy != bool(told):
            lines.add((name, number))
    return lines


def test_what_a_line_says_is_understood() -> None:
    text = (
        'f(1)\nf("")  # type: ignore[arg-type]\nf(2)  # pyright refuses it\n'
        "f(b=1)  # type: ignore[call-arg] # ty takes it, pyrefly takes it"
    )
    lines = {c: {n for _, n in refused_by(c, "m.py", text)} for c in CHECKERS}
    assert lines == {"pyright": {2, 3, 4}, "ty": {2}, "pyrefly": {2}}
    with pytest.raises(AssertionError, match=r"m\.py:1: it does so anyway"):
        refused_by("ty", "m.py", "f(1)  # ty takes it")


def test_mypy_sees_the_types_that_users_are_promised() -> None:
    modules = [str(module.relative_to(ROOT)) for module in MODULES]
    command = [sys.executable, "-m", "mypy", "--strict", *modules]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("checker", "errors_of"), CHECKERS.items(), ids=CHECKERS)
def test_other_checkers_see_them_too(
    checker: str, errors_of: Callable[[], Iterator[tuple[Line, str]]]
) -> None:
    errors = dict(errors_of())
    wanted: set[Line] = set()
    for module in MODULES:
        wanted |= refused_by(checker, module.name, module.read_text())
    wrong = {f"{name}:{line}: {errors[name, line]}" for name, line in errors.keys() - wanted}
    taken = {f"{name}:{line}: taken" for name, line in wanted - errors.keys()}
    if wrong | taken:
        pytest.fail("\n".join(sorted(wrong | taken)), pytrace=False)


def test_every_public_name_has_a_known_type_and_a_docstring() -> None:
    command = ("--verifytypes", "dynamiq_async", "--ignoreexternal", "--outputjson")
    found_out = reported(found("pyright"), *command)["typeCompleteness"]
    symbols = found_out["symbols"]
    assert len(symbols) > 4000  # they were looked at
    assert not [s["name"] for s in symbols if not s["isTypeKnown"] or s["isTypeAmbiguous"]]
    assert found_out["completenessScore"] == 1
    bare = [
        s["name"] for s in symbols if any("docstring" in d["message"] for d in s["diagnostics"])
    ]
    # A method that overrides another has that one's docstring.
    assert not [name for name in bare if not inspect.getdoc(pydoc.locate(name))]
