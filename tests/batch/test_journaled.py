"""A batch with a journal: what is done is not done again, and what nobody knows is not guessed."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dynamiq_async import AsyncApp, errors
from dynamiq_async.batch.journal import Journal
from dynamiq_async.emulator import FOREVER, Fault, WorkflowFailedError
from tests.support.journals import KINDS, Given, Kept, LinesJournal

if TYPE_CHECKING:
    from dynamiq_async.emulator import Emulator

    from .conftest import Serve

MODES = ("invoke", "run")


async def numbered(input: dict[str, Any], run: Any) -> Any:
    if input["n"] == 3:
        raise WorkflowFailedError("three")
    return {"n": input["n"]}


@pytest.fixture(params=KINDS)
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Kept:
    return Kept(request.param, tmp_path)


@pytest.fixture
def journal(kept: Kept) -> Given:
    return kept.argument()


INPUTS = [{"n": n, "id": f"k{n}"} for n in range(8)]


def ran(emulator: Any) -> Counter[int]:
    return Counter(execution.input["n"] for execution in emulator.executions)


@pytest.mark.parametrize("mode", MODES)
async def test_what_is_done_is_not_done_again(serve: Serve, journal: Given, mode: Any) -> None:
    app, emulator = await serve(numbered)
    options: dict[str, Any] = {"mode": mode, "journal": journal, "key": "id", "concurrency": 3}
    first = await app.batch(INPUTS[:5], **options)
    batch = app.map(INPUTS, ordered=True, **options)
    again = [r async for r in batch]
    assert [r.from_journal for r in again] == [True] * 5 + [False] * 3
    assert batch.progress.skipped == 5
    for before, now in zip(first, again, strict=False):
        assert (before.key, before.output, before.run_id) == (now.key, now.output, now.run_id)
        assert type(before.error) is type(now.error)
        assert before.attempts == now.attempts
        assert now.seconds > 0
        assert abs((before.started_at - now.started_at).total_seconds()) < 5
    assert set(ran(emulator).values()) == {1}
    assert len(ran(emulator)) == 8


async def test_what_failed_is_called_again_only_if_asked(serve: Serve, journal: Given) -> None:
    app, emulator = await serve(numbered)
    options: dict[str, Any] = {"mode": "run", "journal": journal}
    await app.batch(INPUTS, **options)
    [failed] = [r for r in await app.batch(INPUTS, **options) if not r.ok]
    assert isinstance(failed.error, errors.RunFailedError)
    assert failed.from_journal
    assert ran(emulator)[3] == 1
    [failed] = [r for r in await app.batch(INPUTS, retry_failed=True, **options) if not r.ok]
    assert not failed.from_journal
    assert ran(emulator)[3] == 2
    assert ran(emulator)[4] == 1


async def test_another_input_under_the_same_key_is_that_items_error(
    serve: Serve, journal: Given
) -> None:
    app, emulator = await serve(numbered)
    await app.batch([{"a": 1, "n": 2}], journal=journal)
    [same] = await app.batch([{"n": 2, "a": 1}], journal=journal)
    assert same.from_journal  # the order of fields is no difference
    results = await app.batch([{"n": 5}, {"n": 6}], journal=journal)
    assert isinstance(results[0].error, errors.JournalError)
    assert results[1].ok
    assert ran(emulator) == {2: 1, 6: 1}


@pytest.mark.parametrize("mode", ["invoke", "run"])
@pytest.mark.parametrize(
    ("first", "second", "named"),
    [
        ({"user_id": "alice"}, {"user_id": "bob"}, "another user_id"),
        ({}, {"user_id": "bob"}, "another user_id"),
        ({"extra_body": {"a": 1}}, {"extra_body": {"a": 2}}, "another extra_body"),
        ({"extra_query": {"a": 1}}, {}, "another extra_query"),
        (
            {"extra_headers": {"x-tenant": "1"}, "user_id": "a"},
            {"extra_headers": {"x-tenant": "2"}, "user_id": "b"},
            "another user_id and extra_headers",
        ),
        ({"last_node_output": True}, {"last_node_output": False}, "another last_node_output"),
    ],
)
async def test_other_options_are_that_items_error_and_named(
    serve: Serve, journal: Given, mode: Any, first: Any, second: Any, named: str
) -> None:
    if mode == "run" and "last_node_output" in first:
        pytest.skip("runs do not have it")
    app, emulator = await serve(numbered)
    inputs = [{"n": n} for n in range(3)]
    options: dict[str, Any] = {"mode": mode, "journal": journal}
    assert all(r.ok for r in await app.batch(inputs, **options, **first))
    for result in await app.batch(inputs, **options, **second):
        assert isinstance(result.error, errors.JournalError)
        assert named in result.error.message
    again = await app.batch(inputs, **options, **first)
    assert all(r.from_journal for r in again)
    assert len(emulator.executions) == 3


async def test_a_key_that_comes_twice_is_noticed_however_far_apart(
    app: AsyncApp, journal: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dynamiq_async.batch import inputs as inputs_module

    monkeypatch.setattr(inputs_module, "REMEMBERED_KEYS", 1)

    async def call(_: AsyncApp, key: str) -> str:
        return key

    results = await app.batch(list("abcdefga"), call=call, key=str, journal=journal)
    assert [r.ok for r in results] == [True] * 7 + [False]
    assert "'a'" in str(results[7].error)


async def test_an_input_that_cannot_be_encoded_is_never_begun(
    app: AsyncApp, journal: Given
) -> None:
    async def call(_: AsyncApp, input: Any) -> str:
        return "done"

    results = await app.batch([object(), 1], call=call, journal=journal)
    assert isinstance(results[0].error, errors.InvalidArgumentError)
    assert results[1].unwrap() == "done"


async def test_an_output_that_cannot_be_encoded_is_an_error(app: AsyncApp, journal: Given) -> None:
    async def call(_: AsyncApp, input: Any) -> object:
        return object()

    [result] = await app.batch([1], call=call, journal=journal)
    assert isinstance(result.error, errors.InvalidArgumentError)


@pytest.mark.parametrize("kind", KINDS)
async def test_an_output_of_the_wrong_type_is_kept_all_the_same(
    serve: Serve, kind: str, tmp_path: Path
) -> None:
    app, emulator = await serve(numbered)
    for mode in MODES:
        journal = Kept(kind, tmp_path, mode).argument()
        options: dict[str, Any] = {"mode": mode, "journal": journal}
        for _ in range(2):
            [result] = await app.batch([{"n": 1}], output_type=list[int], **options)
            assert isinstance(result.error, errors.ResponseDecodeError)
        [fit] = await app.batch([{"n": 1}], output_type=dict[str, Any], **options)
        assert fit.from_journal
        assert "n" in str(fit.unwrap())
    assert ran(emulator) == {1: 2}  # once for each mode


async def interrupted(
    app: AsyncApp,
    emulator: Emulator,
    journal: Given,
    inputs: list[Any],
    requests: int = 1,
    **options: Any,
) -> None:
    """Leave a batch while its calls are under way, with so many requests for each."""
    seen = emulator.requests.total
    async with app.map(inputs, journal=journal, **options) as results:
        await emulator.wait_for_requests(seen + requests * len(inputs))
        await emulator.wait_until(lambda: len(emulator.executions) == len(inputs))
        assert results.progress.in_flight == len(inputs)


async def hangs_once(input: dict[str, Any], run: Any) -> Any:
    if input["n"] == 1 and not SEEN:
        SEEN.append(run)
        await asyncio.get_running_loop().create_future()
    return {"n": input["n"]}


SEEN: list[Any] = []


@pytest.fixture(autouse=True)
def _nothing_seen() -> None:
    SEEN.clear()


async def test_unknown_raise_begins_nothing_more_and_says_what_to_choose(
    serve: Serve, journal: Given
) -> None:
    app, emulator = await serve(hangs_once)
    await interrupted(app, emulator, journal, [{"n": 1}])
    results = app.map([{"n": 1}, *INPUTS[2:]], journal=journal, concurrency=1)
    with pytest.raises(errors.AmbiguousOutcomeError, match=r"key '0'.*unknown='retry'"):
        await anext(results)
    assert ran(emulator) == {1: 1}


async def test_unknown_raise_hands_out_what_is_under_way(serve: Serve, journal: Given) -> None:
    app, emulator = await serve(hangs_once)
    await interrupted(app, emulator, journal, [{"n": 1}], key="n")
    inputs = [{"n": 2}, {"n": 1}, {"n": 4}, {"n": 5}, {"n": 6}]
    seen = []
    with pytest.raises(errors.AmbiguousOutcomeError):
        results = app.map(inputs, journal=journal, key="n", concurrency=3, ordered=True)
        while True:
            seen.append((await anext(results)).unwrap()["n"])
    assert seen[0] == 2
    assert set(ran(emulator).values()) == {1}  # nothing was cut off


async def test_unknown_skip_leaves_it_out(serve: Serve, journal: Given) -> None:
    app, emulator = await serve(hangs_once)
    await interrupted(app, emulator, journal, [{"n": 1}])
    for _ in range(2):
        results = await app.batch([{"n": 1}, {"n": 2}], journal=journal, unknown="skip")
        assert isinstance(results[0].error, errors.AmbiguousOutcomeError)
        assert results[1].ok
    assert ran(emulator) == {1: 1, 2: 1}


async def test_unknown_retry_calls_again(serve: Serve, journal: Given) -> None:
    app, emulator = await serve(hangs_once)
    await interrupted(app, emulator, journal, [{"n": 1}])
    [result] = await app.batch([{"n": 1}], journal=journal, unknown="retry")
    assert result.ok
    assert ran(emulator) == {1: 2}


async def test_an_ambiguous_outcome_is_unknown_at_the_next_start(
    serve: Serve, journal: Given
) -> None:
    app, emulator = await serve(numbered)
    emulator.script(Fault(drop="reset", executes=True))
    [lost] = await app.batch([{"n": 1}], journal=journal)
    assert isinstance(lost.error, errors.AmbiguousConnectionError)
    [skipped] = await app.batch([{"n": 1}], journal=journal, unknown="skip", retry_failed=True)
    assert "nobody knows" in str(skipped.error)
    assert lost.error.message in str(skipped.error)


@pytest.mark.parametrize("answered", [True, False])
async def test_a_run_under_way_is_found_again_and_followed(
    serve: Serve, journal: Given, answered: bool
) -> None:
    app, emulator = await serve(hangs_once)
    if not answered:
        emulator.script(Fault(at_byte=3, stall=FOREVER), match="POST /v1/runs")
    await interrupted(app, emulator, journal, [{"n": 1}], 1 + answered, mode="run")
    [run] = emulator.runs.values()
    await app.runs.cancel(run.id)
    [result] = await app.batch([{"n": 1}], journal=journal, mode="run")
    assert isinstance(result.error, errors.RunCanceledError)
    assert result.run_id == run.id
    assert len(emulator.runs) == 1
    [result] = await app.batch([{"n": 1}], journal=journal, mode="run")
    assert result.from_journal


async def test_a_run_that_never_was_is_created_with_a_session_of_its_own(
    serve: Serve, journal: Given
) -> None:
    app, emulator = await serve(numbered)
    emulator.script(Fault(drop="reset"), match="POST /v1/runs")
    options: dict[str, Any] = {"mode": "run", "journal": journal, "settle": 0.05}
    [lost] = await app.batch([{"n": 1}], **options)
    assert isinstance(lost.error, errors.AmbiguousOutcomeError)
    [result] = await app.batch([{"n": 1}], **options)
    assert result.ok
    asked = [r.json["session_id"] for r in emulator.requests if r.method == "POST"]
    assert len(set(asked)) == 2
    assert len(emulator.runs) == 1


async def test_a_run_that_cannot_be_looked_for_is_not_created_anew(
    serve: Serve, journal: Given
) -> None:
    app, emulator = await serve(numbered)
    emulator.script(Fault(drop="reset", executes=True), match="POST /v1/runs")
    emulator.script(Fault(status=404), match="GET /v1/runs", times=2)
    options: dict[str, Any] = {"mode": "run", "journal": journal, "settle": 0.05}
    for _ in range(2):
        [lost] = await app.batch([{"n": 1}], **options)
        assert isinstance(lost.error, errors.AmbiguousOutcomeError)
    [result] = await app.batch([{"n": 1}], **options)
    assert result.ok
    assert ran(emulator) == {1: 1}


async def test_with_grace_the_journal_is_complete(app: AsyncApp, journal: Given) -> None:
    calls = 0

    async def call(_: AsyncApp, n: int) -> int:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0.02)
        return n

    async with app.map(range(5), call=call, journal=journal, grace=10) as results:
        while results.progress.in_flight < 5:
            await asyncio.sleep(0.001)
        while calls < 5:
            await asyncio.sleep(0.001)
    again = await app.batch(range(5), call=call, journal=journal)
    assert all(r.from_journal for r in again)
    assert calls == 5


async def test_a_batch_is_stopped_and_started_again_until_it_is_done(
    serve: Serve, kept: Kept
) -> None:
    """Each start has a store of its own, as in a process of its own."""
    app, emulator = await serve(numbered)
    options: dict[str, Any] = {"key": "id", "concurrency": 2, "unknown": "skip"}
    seen: Counter[str | int] = Counter()
    for _ in range(len(INPUTS)):
        async with app.map(INPUTS, journal=kept.argument(), **options) as stopped:
            async for result in stopped:
                seen[result.key] += not result.from_journal
                if not result.from_journal:
                    break
    results = await app.batch(INPUTS, journal=kept.argument(), **options)
    unknown = [r for r in results if isinstance(r.error, errors.AmbiguousOutcomeError)]
    assert all(r.from_journal for r in results if r not in unknown)
    assert max(ran(emulator).values()) == 1  # whatever was under way when it was stopped
    assert set(kept.states()) == {item["id"] for item in INPUTS}
    assert len(unknown) < len(INPUTS)
    assert max(seen.values()) == 1


async def test_a_store_of_ones_own_outlasts_a_process_that_dies(
    app: AsyncApp, tmp_path: Path
) -> None:
    code = (
        "import asyncio, os, sys\n"
        "from pathlib import Path\n"
        "from dynamiq_async import AsyncApp\n"
        "from tests.support.journals import LinesJournal\n"
        "async def call(_, n):\n"
        "    if n == 5:\n"
        "        os._exit(9)\n"
        "    return n\n"
        "async def main():\n"
        "    async with AsyncApp('http://127.0.0.1:9', access_key='k') as app:\n"
        "        journal = LinesJournal(Path(sys.argv[1]))\n"
        "        await app.batch(range(8), call=call, journal=journal, concurrency=1)\n"
        "asyncio.run(main())\n"
    )
    died = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code, tmp_path / "job.lines"), cwd=Path(__file__).parents[2]
    )
    assert await died.wait() == 9
    called = []

    async def call(_: AsyncApp, n: int) -> int:
        called.append(n)
        return n

    journal = LinesJournal(tmp_path / "job.lines")
    results = await app.batch(range(8), call=call, journal=journal, unknown="skip")
    assert [r.from_journal for r in results] == [True] * 5 + [False] * 3
    assert isinstance(results[5].error, errors.AmbiguousOutcomeError)
    assert [r.output for r in results if r.ok] == [0, 1, 2, 3, 4, 6, 7]
    assert called == [6, 7]


async def test_a_journal_that_cannot_be_used_raises(app: AsyncApp, tmp_path: Path) -> None:
    with pytest.raises(errors.JournalError):
        await app.batch([1], call=unused, journal=tmp_path)
    with pytest.raises(errors.JournalError):  # for good
        await anext(app.map([1], call=unused, journal=tmp_path / "no folder" / "job.db"))


async def unused(_: AsyncApp, input: Any) -> None:
    raise AssertionError


async def test_a_journal_that_breaks_down_ends_the_batch(
    app: AsyncApp, journal: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def finish(*_: Any, **__: Any) -> None:
        raise errors.JournalError("the disk is full")

    monkeypatch.setattr(Journal, "finish", finish)

    async def call(_: AsyncApp, n: int) -> int:
        return n

    with pytest.raises(errors.JournalError, match="disk is full"):
        await app.batch(range(100), call=call, journal=journal)


async def test_another_journals_error_is_the_items(app: AsyncApp, journal: Given) -> None:
    async def call(app: AsyncApp, n: int) -> Any:
        return [r.unwrap() for r in await app.batch([n], call=call, journal=journal)]

    results = await app.batch(range(3), call=call, journal=journal)
    assert all(isinstance(r.error, errors.JournalError) for r in results)


async def test_a_dropped_batch_lets_go_of_its_journal(app: AsyncApp, journal: Given) -> None:
    async def call(_: AsyncApp, n: int) -> int:
        return n

    async for _ in app.map(range(100), call=call, journal=journal, concurrency=2):
        break
    for _ in range(100):
        await asyncio.sleep(0.005)
        if len(asyncio.all_tasks()) == 1:
            break
    results = await app.batch(range(100), call=call, journal=journal, unknown="retry")
    assert all(r.ok for r in results)


async def test_what_was_under_way_when_the_client_was_closed_is_not_called_again(
    serve: Serve, journal: Given
) -> None:
    served = await serve(numbered)
    served.emulator.script(Fault(delay=60), match="POST /*", times=2)
    batch = asyncio.ensure_future(served.app.batch(INPUTS, journal=journal, concurrency=2))
    while len(served.emulator.requests) < 2:
        await asyncio.sleep(0.001)
    await served.app.aclose()
    with pytest.raises(errors.ClientClosedError):
        await batch
    async with AsyncApp(served.emulator.url, access_key=served.emulator.access_key) as app:
        results = await app.batch(INPUTS, journal=journal, retry_failed=True, unknown="skip")
    unknown = [r.index for r in results if isinstance(r.error, errors.AmbiguousOutcomeError)]
    assert unknown == [0, 1]
    assert len(served.emulator.requests) == len(INPUTS)


async def test_a_call_that_others_cancelled_is_of_unknown_outcome(
    app: AsyncApp, journal: Given
) -> None:
    async def cancelled(_: AsyncApp, input: Any) -> Any:
        raise asyncio.CancelledError

    for _ in range(2):
        [result] = await app.batch(INPUTS[:1], call=cancelled, journal=journal, unknown="skip")
        assert isinstance(result.error, errors.AmbiguousOutcomeError)


@pytest.mark.parametrize("mode", MODES)
async def test_what_only_waited_for_its_turn_is_not_of_unknown_outcome(
    serve: Serve, kept: Kept, journal: Given, mode: Any
) -> None:
    app, emulator = await serve(numbered)
    emulator.script(Fault(status=429, headers={"Retry-After": "50"}), times=None)
    async with app.map(INPUTS, mode=mode, journal=journal, concurrency=3) as batch:
        await emulator.wait_for_requests(1)
        await emulator.wait_until(lambda: all(seen.finished for seen in emulator.requests))
        while not app._api.sender.limiter.cooldown:
            await asyncio.sleep(0)
        await batch.aclose()
    assert kept.entries() == {}


async def test_what_was_sent_is_taken_for_begun(serve: Serve, kept: Kept, journal: Given) -> None:
    app, emulator = await serve(numbered)
    emulator.script(Fault(delay=FOREVER), times=None)
    async with app.map(INPUTS, journal=journal, concurrency=3) as batch:
        await emulator.wait_for_requests(3)
        await batch.aclose()
    assert list(kept.states().values()) == ["running"] * 3
