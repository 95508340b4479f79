"""Faults are listed, added, switched and removed while the emulator runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dynamiq_async.emulator import Emulator, Fault

BUSY = {"route": "POST /", "nth": 2, "status": 503, "headers": {"Retry-After": "1"}}


async def test_a_fault_is_added_switched_and_removed(connect: Any) -> None:
    async with Emulator("echo") as emulator:
        client = await connect(emulator)
        added = await client.post("/_emulator/faults", BUSY, key=None)
        shown = {"number": 1, **BUSY, "enabled": True, "seen": 0, "met": 0}
        assert (added.status, added.json) == (201, shown)
        assert [(await client.post()).status for _ in range(3)] == [200, 503, 200]
        listed = await client.get("/_emulator/faults", key=None)
        assert listed.json == {"seed": 0, "faults": [{**shown, "seen": 3, "met": 1}]}

        off = await client.call("PATCH", "/_emulator/faults/1", {"enabled": False})
        assert (off.status, off.json["enabled"]) == (200, False)
        assert [(await client.post()).status for _ in range(3)] == [200, 200, 200]
        on = await client.call("PATCH", "/_emulator/faults/1", {"enabled": True})
        assert (on.status, on.json["seen"]) == (200, 0)
        assert [(await client.post()).status for _ in range(3)] == [200, 503, 200]

        assert (await client.call("DELETE", "/_emulator/faults/1")).status == 200
        assert not len(emulator.faults)
        again = await client.post("/_emulator/faults", BUSY)
        assert again.json["number"] == 2


async def test_faults_of_a_file_are_switched(connect: Any, tmp_path: Path) -> None:
    file = tmp_path / "faults.toml"
    file.write_text("seed = 4\n[[fault]]\nstatus = 503\nenabled = false\nbody = nan\n")
    async with Emulator("echo", faults=file) as emulator:
        client = await connect(emulator)
        assert (await client.post()).status == 200
        listed = (await client.get("/_emulator/faults")).json
        assert (listed["seed"], listed["faults"][0]["body"]) == (4, None)
        await client.call("PATCH", "/_emulator/faults/1", {"enabled": True})
        assert (await client.post()).status == 503
        await client.call("PATCH", "/_emulator/faults/1", {"enabled": False})
        assert (await client.post()).status == 200


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"stauts": 503}, "did you mean status?"),
        ({"status": 503, "nth": 0}, "nth: Expected `int` >= 1"),
        ({"status": 503, "app": "nope"}, "there is no App 'nope'"),
        ({"nth": 1}, "nothing goes wrong"),
        ({}, "nothing goes wrong"),
        ({"at_byte": 1}, "nothing happens at the position"),
    ],
)
async def test_a_wrong_fault_is_refused(connect: Any, body: Any, said: str) -> None:
    async with Emulator("echo") as emulator:
        refused = await (await connect(emulator)).post("/_emulator/faults", body)
        assert refused.status == 400
        assert said in refused.error["message"]
        assert not len(emulator.faults)


@pytest.mark.parametrize("body", [{}, {"enabled": 1}, {"enabled": True, "nth": 2}, {"on": True}])
async def test_a_fault_is_switched_and_not_edited(connect: Any, body: Any) -> None:
    async with Emulator("echo") as emulator:
        emulator.faults.add(Fault(status=503), enabled=False)
        client = await connect(emulator)
        assert (await client.call("PATCH", "/_emulator/faults/1", body)).status == 400
        assert not emulator.faults[1].enabled


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
@pytest.mark.parametrize("number", ["2", "0", "x", "99999999999"])
async def test_a_fault_that_is_not_there(connect: Any, method: str, number: str) -> None:
    async with Emulator("echo") as emulator:
        emulator.faults.add(Fault(status=503), route="/v1/runs")
        client = await connect(emulator)
        body = {"enabled": False} if method == "PATCH" else None
        assert (await client.call(method, f"/_emulator/faults/{number}", body)).status == 404
