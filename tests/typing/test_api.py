"""What a type checker sees, seen by one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.parametrize("module", ["api", "batch", "flowy", "management", "runs"])
def test_mypy_sees_the_types_that_users_are_promised(module: str) -> None:
    command = [sys.executable, "-m", "mypy", "--strict", f"tests/typing/{module}.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=HERE.parents[1])
    assert done.returncode == 0, done.stdout + done.stderr
