"""Faults by rules: which requests meet them, the same ones each time, and what a file may say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from multidict import CIMultiDict, CIMultiDictProxy, MultiDict, MultiDictProxy

from dynamiq_async.emulator import (
    FOREVER,
    Emulator,
    Fault,
    FaultRule,
    FaultRules,
    RequestRecord,
    read_fault,
)
from dynamiq_async.emulator.core.fault_data import fault_data

BUSY = Fault(status=503)


def request(
    method: str = "POST", endpoint: str = "/", app: str = "echo", service: str = ""
) -> RequestRecord:
    return RequestRecord(
        connection=1,
        method=method,
        path=endpoint,
        query=MultiDictProxy(MultiDict()),
        headers=CIMultiDictProxy(CIMultiDict()),
        app=app,
        service=service,
        prefix="",
        endpoint=endpoint,
    )


def taken(rules: FaultRules, count: int, **more: str) -> list[int]:
    """Which of so many requests meet a fault, from 1."""
    return [number for number in range(1, count + 1) if rules.take(request(**more))]


def rules(*conditions: dict[str, Any], seed: int = 0) -> FaultRules:
    found = FaultRules(lambda: {"echo", "llm"})
    found.seed = seed
    for each in conditions:
        found.add(BUSY, **each)
    return found


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "faults.toml"


# --- which requests --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({}, [1, 2, 3, 4, 5, 6]),
        ({"nth": 3}, [3]),
        ({"nth": [1, 4]}, [1, 4]),
        ({"nth": (2,)}, [2]),
        ({"every": 2}, [2, 4, 6]),
        ({"times": 2}, [1, 2]),
        ({"every": 2, "times": 2}, [2, 4]),
        ({"nth": [2, 3, 5], "times": 2}, [2, 3]),
        ({"probability": 0}, []),
        ({"probability": 1}, [1, 2, 3, 4, 5, 6]),
        ({"enabled": False}, []),
    ],
)
def test_the_number_of_a_request_decides(conditions: dict[str, Any], expected: list[int]) -> None:
    found = rules(conditions)
    assert taken(found, 6) == expected
    [rule] = found
    assert (rule.seen, rule.met) == (6 if rule.enabled else 0, len(expected))


@pytest.mark.parametrize(
    ("conditions", "meant", "other"),
    [
        ({"route": "/v1/runs"}, {"method": "GET", "endpoint": "/v1/runs"}, {"endpoint": "/"}),
        ({"route": "POST /"}, {"app": "llm"}, {"method": "GET"}),
        ({"route": "post /"}, {}, {"method": "GET"}),
        ({"route": "*/stream"}, {"endpoint": "/v1/runs/1/stream"}, {"endpoint": "/v1/runs/1"}),
        ({"app": "llm"}, {"app": "llm"}, {"app": "echo"}),
        ({"app": "echo"}, {}, {"service": "management"}),
        ({"route": "/v1/apps"}, {"service": "management", "endpoint": "/v1/apps"}, {}),
    ],
)
def test_only_requests_that_match_count(
    conditions: dict[str, Any], meant: dict[str, str], other: dict[str, str]
) -> None:
    found = rules({**conditions, "nth": 2})
    seen = [found.take(request(**each)) for each in (other, meant, other, meant, other, meant)]
    assert seen == [None, None, None, BUSY, None, None]


def test_the_same_seed_decides_alike_whatever_happens_between() -> None:
    alone = taken(rules({"probability": 0.3}, seed=7), 200)
    assert 30 < len(alone) < 90
    assert taken(rules({"probability": 0.3}, seed=7), 200) == alone
    assert taken(rules({"probability": 0.3}, seed=8), 200) != alone
    first, second = rules({"probability": 0.3}, {"probability": 0.3}, seed=7)
    assert [first.decide(request()) for _ in range(99)] != [
        second.decide(request()) for _ in range(99)
    ]

    between = rules({"route": "/", "probability": 0.3}, {"route": "/v1/*", "every": 2}, seed=7)
    met = []
    for number in range(1, 201):
        for _ in range(number % 3):
            between.take(request(endpoint="/v1/files"))
        if between.take(request()):
            met.append(number)
    assert met == alone


def test_what_a_seed_decides_is_the_same_on_every_machine() -> None:
    assert taken(rules({"probability": 0.25}, seed=1), 24) == [7, 8, 11, 22, 23, 24]


def test_the_first_rule_counts_and_so_do_the_others() -> None:
    found = rules({"nth": 2}, {})
    other = found.add(Fault(status=500), every=2)
    faults = [found.take(request()) for _ in range(4)]
    assert faults == [BUSY] * 4
    assert [(rule.seen, rule.met) for rule in found] == [(4, 1), (4, 4), (4, 2)]
    found.remove(2)
    assert [found.take(request()) for _ in range(2)] == [None, other.fault]


def test_a_rule_that_is_switched_on_counts_anew() -> None:
    found = rules({"nth": 2}, {"probability": 0.5, "route": "/x"}, seed=4)
    drawn = taken(found, 30, endpoint="/x")
    rule = found[1]
    rule.enabled = True  # as it is
    assert rule.seen == 30
    rule.enabled = False
    assert taken(found, 2) == []
    assert rule.seen == 30
    rule.enabled = True
    assert taken(found, 3) == [2]
    found.restart()
    assert taken(found, 30, endpoint="/x")[1:] == drawn[1:]
    assert found[2].seen == 30


# --- as a file ---------------------------------------------------------------------------------


def test_a_file_says_all_that_a_fault_can_be(file: Path) -> None:
    file.write_text(
        """
        seed = 11
        [[fault]]
        name = "the third run"
        route = "POST /v1/runs"
        app = "llm"
        nth = 3
        times = 1
        status = 429
        headers = { Retry-After = "2" }
        body = { error = { code = "busy" } }
        executes = "begins"
        [[fault]]
        every = 2
        probability = 0.5
        enabled = false
        after_events = 2
        send = "\\u0000é"
        stall = inf
        drop = "truncate"
        [[fault]]
        at_byte = 0
        send = { hex = "ff 00" }
        delay = 1
        terminator = "missing"
        framing = "chunked"
        write_size = 3
        [[fault]]
        nth = [1, 2]
        skip = [1]
        duplicate = [2, 3]
        swap = [4]
        replay = 1
        ignore_after_sequence = true
        terminator = "forever"
        [[fault]]
        executes = true
        status = 500
        stall = 0
        body = "text"
        """,
        encoding="utf-8",
    )
    found = FaultRules(lambda: {"llm"})
    found.load(file)
    assert found.seed == 11
    assert [rule.number for rule in found] == [1, 2, 3, 4, 5]
    assert [rule.fault for rule in found] == [
        Fault(
            status=429,
            headers={"Retry-After": "2"},
            body={"error": {"code": "busy"}},
            executes="begins",
        ),
        Fault(after_events=2, send="\0é".encode(), stall=FOREVER, drop="truncate"),
        Fault(
            at_byte=0,
            send=b"\xff\0",
            delay=1.0,
            terminator="missing",
            framing="chunked",
            write_size=3,
        ),
        Fault(
            skip=[1],
            duplicate=[2, 3],
            swap=[4],
            replay=1,
            ignore_after_sequence=True,
            terminator=FOREVER,
        ),
        Fault(executes=True, status=500, body="text"),
    ]
    first, second = found[1], found[2]
    assert (first.name, first.route, first.app) == ("the third run", "POST /v1/runs", "llm")
    assert (first.nth, first.times, first.every, first.probability) == (3, 1, None, 1.0)
    assert (second.every, second.probability, second.enabled) == (2, 0.5, False)


def test_what_is_shown_of_a_rule_makes_the_same_rule(file: Path) -> None:
    test_a_file_says_all_that_a_fault_can_be(file)
    found, copies = FaultRules(lambda: {"llm"}), FaultRules(lambda: {"llm"})
    found.load(file)
    for rule in found:
        shown = rule.public()
        assert (shown.pop("number"), shown.pop("seen"), shown.pop("met")) == (rule.number, 0, 0)
        copy = copies.add_entry(shown)
        assert copy.fault == rule.fault
        assert copy.public() == rule.public()
    assert found[1].public() == {
        "number": 1,
        "name": "the third run",
        "route": "POST /v1/runs",
        "app": "llm",
        "nth": 3,
        "times": 1,
        "status": 429,
        "headers": {"Retry-After": "2"},
        "body": {"error": {"code": "busy"}},
        "executes": "begins",
        "enabled": True,
        "seen": 0,
        "met": 0,
    }
    assert fault_data(Fault(at_byte=1, send=b"\xff", stall=FOREVER)) == {
        "at_byte": 1,
        "send": {"hex": "ff"},
        "stall": "forever",
    }


@pytest.mark.parametrize("text", ["", "seed = 3", "fault = []"])
def test_a_file_may_hold_no_fault(file: Path, text: str) -> None:
    file.write_text(text)
    found = rules({})
    found.load(file)
    assert not len(found)


WRONG = [
    ("[[fault]", "Expected"),
    ("sead = 1", "there is no 'sead': did you mean seed?"),
    ('seed = "1"', "seed: Expected `int`, got `str`"),
    ("seed = true", "seed: Expected `int`"),
    ("[fault]\nstatus = 503", "each fault begins with [[fault]]"),
    ("fault = 3", "each fault begins with [[fault]]"),
    ("fault = [3]", "fault 1: this is no table"),
    ("[[fault]]\nstauts = 503", "fault 1: there is no 'stauts': did you mean status?"),
    ("[[fault]]\nstatus = 503\nzzzz = 1", "fault 1: there is no 'zzzz': did you mean after_events"),
    ("[[fault]]\nstatus = 503\n[[fault]]\nnth = 0", "fault 2: nth: Expected `int` >= 1"),
    ("[[fault]]\nstatus = 503\nnth = []", "fault 1: nth: Expected `array` of length >= 1"),
    ("[[fault]]\nstatus = 503\nnth = [0]", "fault 1: nth[0]: Expected `int` >= 1"),
    ("[[fault]]\nstatus = 503\nnth = true", "fault 1: nth: Expected"),
    ("[[fault]]\nstatus = 503\nevery = 0", "fault 1: every: Expected `int` >= 1"),
    ("[[fault]]\nstatus = 503\nevery = 2.5", "fault 1: every: Expected `int"),
    ("[[fault]]\nstatus = 503\nevery = 2\nnth = 1", "fault 1: give nth or every, not both"),
    ("[[fault]]\nstatus = 503\ntimes = -1", "fault 1: times: Expected `int` >= 1"),
    ("[[fault]]\nstatus = 503\nprobability = 1.1", "fault 1: probability: Expected `float` <= 1"),
    ("[[fault]]\nstatus = 503\nprobability = -1", "fault 1: probability: Expected `float` >= 0"),
    ("[[fault]]\nstatus = 503\nprobability = nan", "fault 1: probability: "),
    ('[[fault]]\nstatus = 503\nprobability = "x"', "fault 1: probability: Expected `float`"),
    ("[[fault]]\nstatus = 503\nroute = 'v1/runs'", "fault 1: route: a path, with or without"),
    ("[[fault]]\nstatus = 503\nroute = ''", "fault 1: route: a path"),
    ("[[fault]]\nstatus = 503\nroute = 'P0ST /'", "fault 1: route: a path"),
    ("[[fault]]\nstatus = 503\napp = 'ehco'", "fault 1: app: there is no App 'ehco'; there are"),
    ("[[fault]]\nstatus = 503\nenabled = 1", "fault 1: enabled: Expected `bool`"),
    ("[[fault]]\nnth = 3", "fault 1: nothing goes wrong"),
    ("[[fault]]\nstatus = 42", "fault 1: status is a number from 200 to 999"),
    ("[[fault]]\ndelay = -1", "fault 1: delay is a number, at least 0"),
    ("[[fault]]\ndelay = nan", "fault 1: delay is a number"),
    ("[[fault]]\nat_byte = -1\ndrop = 'close'", "fault 1: at_byte is a number, at least 0"),
    ("[[fault]]\nreplay = -1", "fault 1: replay is a number"),
    ("[[fault]]\nterminator = -1", "fault 1: terminator is a number"),
    ("[[fault]]\nterminator = 'later'", "fault 1: terminator: "),
    ("[[fault]]\ndrop = 'explode'", "fault 1: drop: Invalid enum value 'explode'"),
    ("[[fault]]\nat_byte = 0\nsend = 3", "fault 1: send: a text, or bytes"),
    ("[[fault]]\nat_byte = 0\nsend = {hex = 'zz'}", "fault 1: send: a text, or bytes"),
    ("[[fault]]\nat_byte = 0\nsend = {text = 'x'}", "fault 1: send: a text, or bytes"),
    ("[[fault]]\nsend = 'x'", "fault 1: send and stall need a position"),
    ("[[fault]]\nstatus = 503\nheaders = { Retry-After = 1 }", "fault 1: headers[...]: Expected"),
    ("[[fault]]\nskip = 1", "fault 1: skip: Expected `array`"),
]


@pytest.mark.parametrize(("text", "said"), WRONG)
def test_what_is_wrong_is_refused_with_its_place(file: Path, text: str, said: str) -> None:
    file.write_text(text)
    found = rules({"nth": 1}, seed=5)
    with pytest.raises(ValueError, match=r"^faults\.toml[:,] ") as refused:
        found.load(file)
    assert said in str(refused.value)
    assert (found.seed, [rule.nth for rule in found]) == (5, [1])


def test_a_file_that_is_not_there_or_is_no_text(file: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Emulator(faults=file)
    file.write_bytes(b"\xff")
    with pytest.raises(ValueError, match=r"^faults\.toml: "):
        Emulator(faults=file)


def test_arguments_are_checked_like_files() -> None:
    found = rules()
    with pytest.raises(ValueError, match="every: Expected `int` >= 1"):
        found.add(BUSY, every=0)
    with pytest.raises(ValueError, match="nothing goes wrong"):
        found.add(Fault())
    with pytest.raises(ValueError, match="did you mean"):
        read_fault({"dely": 1})
    assert not len(found)


# --- in the emulator -------------------------------------------------------------------------


@pytest.fixture
def seeded(file: Path) -> Path:
    file.write_text(
        "seed = 2\n[[fault]]\nroute = 'POST /'\nprobability = 0.4\nstatus = 503\n"
        "[[fault]]\napp = 'llm'\nafter_events = 2\nnth = 2\ndrop = 'close'\n"
        "[[fault]]\napp = 'other'\nstatus = 500\n[[fault]]\napp = 'support'\nstatus = 502\n"
    )
    return file


async def support(input: dict[str, Any], run: Any) -> Any:
    return "ok"


async def test_a_file_does_the_same_twice(seeded: Path, connect: Any) -> None:

    async def statuses(between: int) -> list[Any]:
        async with Emulator(
            "echo", apps={"other": support, "support": support}, faults=seeded
        ) as emulator:
            client = await connect(emulator)
            seen: list[Any] = []
            for _ in range(12):
                seen.append((await client.post()).status)
                for _ in range(between):
                    await client.get("/v1/runs")
            ends = []
            for _ in range(2):
                client = await connect(emulator)
                ends.append((await client.stream("/llm", host="localhost")).end)
            return seen + ends

    once = await statuses(0)
    assert await statuses(2) == once
    assert {200, 503} <= set(once)


async def test_a_script_goes_before_the_rules_which_count_all_the_same(connect: Any) -> None:
    async with Emulator("echo") as emulator:
        client = await connect(emulator)
        emulator.faults.add(BUSY, nth=[2, 3, 5], name="mine")
        emulator.script(Fault(), Fault(), Fault(status=418))
        seen = [(await client.post()).status for _ in range(6)]
        assert seen == [200, 200, 418, 200, 503, 200]
        assert emulator.faults[1].seen == 6
        assert emulator.requests[4].fault is BUSY
        emulator.clear_script()
        assert len(emulator.faults) == 1
        emulator.reset()
        assert [(await client.post()).status for _ in range(2)] == [200, 503]


async def test_apps_are_known_by_their_names(seeded: Path, connect: Any) -> None:
    async with Emulator(support, apps={"other": support}, faults=seeded) as emulator:
        emulator.faults.remove(1)
        client = await connect(emulator)
        called = [(await client.post(path)).status for path in ("/", "/other", "/echo")]
        assert called == [502, 500, 200]
        assert isinstance(emulator.faults[4], FaultRule)
