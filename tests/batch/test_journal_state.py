"""What a journal says of a key: the rules alone, without a store, a loop or a clock."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from dynamiq_async import errors
from dynamiq_async.batch.journal import Record
from dynamiq_async.batch.journal.state import Claim, JournalState

JOB = "5a1f8a2e-6d0c-4a53-9f0e-0d6f0f6c1a55"
DIGEST = b"d" * 16
EARLIER, NOW = 1, 2  # openings


def state(**options: Any) -> JournalState:
    return JournalState(JOB, NOW, **options)


def earlier(key: str = "a", what: Any = "running", **known: Any) -> Record:
    return Record(key, DIGEST, 1, EARLIER, what, 5.0, **known)


def claimed(keys: JournalState, held: Record | None, key: str = "a") -> Claim | Record:
    return keys.claim(keys.begin(key, DIGEST, 10.0), held, 11.0)


def test_a_key_that_the_store_did_not_have_is_new() -> None:
    keys = state()
    begun = keys.begin("a", DIGEST, 10.0)
    assert begun == Record("a", DIGEST, 1, NOW, "running", 10.0)
    assert keys.claim(begun, None, 11.0) == Claim("new", begun, JOB)


def test_a_record_that_a_store_sent_twice_and_found_is_new() -> None:
    keys = state()
    begun = keys.begin("a", DIGEST, 10.0)
    assert keys.claim(begun, structs.replace(begun), 11.0) == Claim("new", begun, JOB)


@pytest.mark.parametrize("retry_failed", [False, True])
def test_what_is_done_stays_done(retry_failed: bool) -> None:
    held = earlier(what="done", output=b"1")
    claim = claimed(state(retry_failed=retry_failed), held)
    assert claim == Claim("done", held, JOB)
    assert isinstance(claim, Claim)
    assert (claim.error, claim.to_be_made) == (None, False)


def test_what_failed_is_told_with_its_error() -> None:
    held = earlier(what="failed", error=b'{"type":"NotFoundError","message":"gone","status":404}')
    claim = claimed(state(), held)
    assert claim == Claim("failed", held, JOB)
    assert isinstance(claim, Claim)
    assert isinstance(claim.error, errors.NotFoundError)
    assert claim.error.status == 404


def test_what_failed_is_begun_again_if_that_is_wanted() -> None:
    keys = state(retry_failed=True)
    held = earlier(what="failed", error=b"{}", run_id="run-1")
    again = claimed(keys, held)
    assert again == Record("a", DIGEST, 2, NOW, "running", 11.0)
    assert isinstance(again, Record)
    claim = keys.claim(again, None, 12.0)
    assert claim == Claim("retry", again, JOB)
    assert isinstance(claim, Claim)
    assert claim.to_be_made
    assert keys.withdraw("a") == held


@pytest.mark.parametrize("what", ["running", "unknown"])
@pytest.mark.parametrize("retry_failed", [False, True])
def test_what_an_earlier_start_left_open_is_unknown(what: str, retry_failed: bool) -> None:
    keys = state(retry_failed=retry_failed)
    held = earlier(what=what, run_id="run-1")
    claim = claimed(keys, held)
    assert claim == Claim("unknown", held, JOB)
    assert isinstance(claim, Claim)
    assert not claim.to_be_made
    ended = keys.end("a", 1, 20.0, b"1", None, None, 0, 3.0)
    assert ended == Record("a", DIGEST, 1, NOW, "done", 5.0, "run-1", 0, 3.0, 20.0, b"1")


def test_what_is_unknown_can_be_begun_again_and_withdrawn() -> None:
    keys = state()
    held = earlier(what="unknown", error=b"{}")
    claimed(keys, held)
    again = keys.again("a", 12.0)
    assert again == Record("a", DIGEST, 2, NOW, "running", 12.0)
    assert keys.claim(again, None, 13.0) == Claim("retry", again, JOB)
    assert keys.withdraw("a") == held
    with pytest.raises(errors.JournalError, match="is not under way"):
        keys.withdraw("a")


def test_withdrawing_a_first_attempt_leaves_nothing() -> None:
    keys = state()
    claimed(keys, None)
    assert keys.withdraw("a") is None
    begun = Record("a", DIGEST, 1, NOW, "running", 10.0)
    assert claimed(keys, None) == Claim("new", begun, JOB)  # as if it had never been


def test_an_attempt_that_another_batch_was_quicker_to_begin_is_unknown() -> None:
    keys = state(retry_failed=True)
    again = claimed(keys, earlier(what="failed", error=b"{}"))
    assert isinstance(again, Record)
    theirs = structs.replace(again, opening=7)
    assert keys.claim(again, theirs, 12.0) == Claim("unknown", theirs, JOB)
    assert keys.withdraw("a") is None  # nothing of theirs is gone back to


@pytest.mark.parametrize("what", ["running", "ending", "known to the store"])
@pytest.mark.parametrize(
    ("digest", "says"), [(DIGEST, "given to two inputs"), (b"e" * 16, "with another input")]
)
def test_a_key_is_for_one_input(what: str, digest: bytes, says: str) -> None:
    keys = state()
    begun = keys.begin("a", DIGEST, 10.0)
    ended = None if what == "running" else keys.end("a", 1, 12.0)
    with pytest.raises(errors.JournalError, match=says) as caught:
        if what == "known to the store":
            keys.ended(["a"])
            keys.claim(keys.begin("a", digest, 13.0), ended, 14.0)
        else:
            keys.begin("a", digest, 13.0)
    assert caught.value.key == "a"
    if what == "running":
        assert keys.claim(begun, None, 15.0) == Claim("new", begun, JOB)  # it is not harmed


def test_a_changed_input_is_noticed_in_a_later_start_and_frees_the_key() -> None:
    keys = state()
    with pytest.raises(errors.JournalError, match="with another input"):
        keys.claim(keys.begin("a", b"e" * 16, 10.0), earlier(what="done"), 11.0)
    assert claimed(keys, earlier(what="done")) == Claim("done", earlier(what="done"), JOB)


def test_what_is_done_already_may_be_asked_for_twice() -> None:
    keys = state()
    for _ in range(2):
        assert claimed(keys, earlier(what="done")) == Claim("done", earlier(what="done"), JOB)


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (None, "done"),
        (ValueError("no"), "failed"),
        (errors.RateLimitError("slow down"), "failed"),
        (errors.AmbiguousOutcomeError("lost"), "unknown"),
        (errors.AmbiguousTimeoutError("late"), "unknown"),
    ],
)
def test_an_error_is_a_failure_unless_nobody_knows_the_outcome(
    error: Exception | None, what: str
) -> None:
    keys = state()
    claimed(keys, None)
    ended = keys.end("a", 1, 12.0, None, error, "run-1", 2, 0.5)
    assert (ended.state, ended.run_id, ended.attempts, ended.seconds) == (what, "run-1", 2, 0.5)
    assert (ended.finished_at, ended.started_at) == (12.0, 10.0)
    kept = Claim("failed", ended, JOB).error
    assert type(kept).__name__ == {"ValueError": "DynamiqError"}.get(
        type(error).__name__, type(error).__name__
    )


def test_a_run_is_noted_for_the_attempt_under_way_alone() -> None:
    keys = state()
    claimed(keys, None)
    assert keys.note_run("a", 7, "run-7") is None
    noted = keys.note_run("a", 1, "run-1")
    assert noted == Record("a", DIGEST, 1, NOW, "running", 10.0, run_id="run-1")
    assert keys.end("a", 1, 12.0).run_id == "run-1"
    for _ in range(2):
        assert keys.note_run("a", 1, "run-2") is None
        keys.ended(["a"])
    assert keys.note_run("b", 1, "run-3") is None


def test_a_run_can_be_noted_for_an_unknown_attempt() -> None:
    keys = state()
    held = earlier(what="unknown", run_id="run-1", error=b"{}")
    claimed(keys, held)
    noted = keys.note_run("a", 1, "run-2")
    assert noted == structs.replace(held, run_id="run-2", opening=NOW)
    keys.again("a", 12.0)
    assert keys.withdraw("a") == noted


def test_an_end_without_a_beginning_is_an_error() -> None:
    keys = state()
    claimed(keys, None)
    for key, attempt in (("a", 2), ("b", 1)):
        with pytest.raises(errors.JournalError, match="is not under way") as caught:
            keys.end(key, attempt, 12.0)
        assert caught.value.key == key
    keys.end("a", 1, 12.0)
    with pytest.raises(errors.JournalError, match="is not under way"):
        keys.end("a", 1, 13.0)
    with pytest.raises(errors.JournalError, match="is not under way"):
        keys.again("a", 13.0)


def test_a_key_that_is_no_text_is_refused() -> None:
    with pytest.raises(errors.InvalidArgumentError) as caught:
        state().begin("\ud83d", DIGEST, 10.0)
    assert caught.value.argument == "key"
    assert state().begin("ü\0", DIGEST, 10.0).key == "ü\0"


def test_each_attempt_has_a_session_of_its_own_in_each_journal() -> None:
    first, second = earlier(), structs.replace(earlier(), attempt=2)
    jobs = (JOB, JOB.replace("5", "6"))
    sessions = {Claim("unknown", r, job).session_id for r in (first, second) for job in jobs}
    assert len(sessions) == 4
    assert Claim("unknown", first, JOB).session_id in sessions  # whenever it is asked for


def test_only_what_is_under_way_is_remembered() -> None:
    keys = state(retry_failed=True)
    claimed(keys, None)
    claimed(keys, earlier("b", "done"), "b")
    claimed(keys, earlier("c", "failed", error=b"{}"), "c")
    for key, attempt in (("a", 1), ("c", 2)):
        keys.end(key, attempt, 12.0)
        keys.ended([key])
    assert [known for known in vars(keys).values() if isinstance(known, dict)] == [{}, {}, {}]
