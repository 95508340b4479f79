"""What all tests share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from dynamiq_async import StreamEvent

if TYPE_CHECKING:
    from collections.abc import Callable

CAPTURES = Path(__file__).parent / "data" / "captures"


@pytest.fixture(scope="session")
def capture() -> Callable[[str], list[StreamEvent]]:
    """The events of a recorded stream, by the beginning of its name, such as `05`."""

    def load(prefix: str) -> list[StreamEvent]:
        (path,) = CAPTURES.glob(f"{prefix}_*.jsonl")
        decode = msgspec.json.Decoder(StreamEvent).decode
        return [decode(line) for line in path.read_bytes().splitlines()]

    return load
