"""What a type checker sees of runs, seen by one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_mypy_sees_the_types_that_users_are_promised() -> None:
    command = [sys.executable, "-m", "mypy", "--strict", "tests/typing/runs.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
