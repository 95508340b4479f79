"""A result keeps all that was noted while its input was worked on."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from dynamiq_async.batch.models import Draft
from dynamiq_async.events import Usage


def test_a_finished_draft_loses_nothing() -> None:
    noted: dict[str, Any] = {
        "key": "k",
        "index": 7,
        "started_at": datetime(2026, 11, 28, tzinfo=UTC),
        "input": {"n": 1},
        "attempts": 2,
        "run_id": "r",
        "seconds": 0.5,
        "from_journal": True,
        "found": True,
        "usage": Usage(total_tokens=3),
    }
    draft = Draft(**noted, output="out")
    assert noted.keys() | {"output", "error"} == set(draft.__struct_fields__)
    success = draft.finished()
    assert {name: getattr(success, name) for name in noted} == noted
    assert success.unwrap() == "out"
    draft.error = ValueError("no")
    failure = draft.finished()
    assert {name: getattr(failure, name) for name in noted} == noted
    assert failure.error is draft.error
