"""What all tests share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import settings

from dynamiq_async import StreamEvent

if TYPE_CHECKING:
    from collections.abc import Callable

# On people's machines hypothesis looks at new cases in each run; what decides over a change looks
# at the same ones each time.
settings.register_profile(
    "suite", deadline=None, database=None, max_examples=250, derandomize="CI" in os.environ
)
settings.load_profile("suite")

CAPTURES = Path(__file__).parent / "data" / "captures"


@pytest.fixture(scope="session")
def capture() -> Callable[[str], list[StreamEvent]]:
    """The events of a recorded stream, by the beginning of its name, such as `05`."""

    def load(prefix: str) -> list[StreamEvent]:
        (path,) = CAPTURES.glob(f"{prefix}_*.jsonl")
        decode = msgspec.json.Decoder(StreamEvent).decode
        return [decode(line) for line in path.read_bytes().splitlines()]

    return load
