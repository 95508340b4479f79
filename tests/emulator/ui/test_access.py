"""Who may look and act, and which web pages may not."""

from __future__ import annotations

from typing import Any

import pytest

from dynamiq_async.emulator import Emulator, Fault
from dynamiq_async.emulator.core.refusals import RefusalError
from dynamiq_async.emulator.ui import access
from tests.emulator.core.test_fault_rules import request

SHOP = "https://shop.example"
FAULT = {"status": 503}
CALLS: list[tuple[str, str, Any]] = [
    ("GET", "/_emulator/events", None),
    ("GET", "/_emulator/requests/1", None),
    ("POST", "/_emulator/runs/1/answers", {"request_id": "1"}),
    ("POST", "/_emulator/runs/1/cancel", {}),
    ("GET", "/_emulator/faults", None),
    ("POST", "/_emulator/faults", FAULT),
    ("PATCH", "/_emulator/faults/1", {"enabled": False}),
    ("DELETE", "/_emulator/faults/1", None),
]
each_call = pytest.mark.parametrize(("method", "path", "body"), CALLS)


def untouched(emulator: Emulator) -> bool:
    [rule] = emulator.faults
    return rule.enabled


@pytest.fixture
async def emulator() -> Any:
    async with Emulator("echo") as running:
        running.faults.add(Fault(status=500), route="/nowhere")
        yield running


@each_call
@pytest.mark.parametrize(
    "origin",
    [SHOP, "null", "http://localhost:3000", "http://127.0.0.1", "https://127.0.0.1:{port}", ""],
)
async def test_pages_of_other_origins_are_refused(
    emulator: Emulator, connect: Any, origin: str, method: str, path: str, body: Any
) -> None:
    """Though the Apps may be called from anywhere, and pages of this machine always may."""
    client = await connect(emulator)
    origin = origin.format(port=emulator.port)
    assert (await client.post(Origin=origin or SHOP)).status == 200
    refused = await client.call(method, path, body, Origin=origin)
    assert (refused.status, refused.error["code"]) == (403, "forbidden")
    assert "access-control-allow-origin" not in refused.headers
    asks = {"Access-Control-Request-Method": method, "Origin": origin}
    preflight = await client.call("OPTIONS", path, key=None, **asks)
    assert preflight.status == 403
    assert not {name for name in preflight.headers if name.startswith("access-control")}
    assert untouched(emulator)


@each_call
@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_what_a_browser_says_of_another_site_is_refused(
    emulator: Emulator, connect: Any, site: str, method: str, path: str, body: Any
) -> None:
    client = await connect(emulator)
    refused = await client.call(method, path, body, Sec_Fetch_Site=site)
    assert refused.status == 403
    assert untouched(emulator)


@each_call
@pytest.mark.parametrize("name", ["evil.example", "127.0.0.1.evil.example", " ", "10.0.0.1"])
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
async def test_other_names_are_not_served(
    connect: Any, host: str, name: str, method: str, path: str, body: Any
) -> None:
    """So that no site gets at it by having a name of its own point here, wherever it listens."""
    async with Emulator("echo", host=host, inspector=True) as emulator:
        emulator.faults.add(Fault(status=500), route="/nowhere")
        client = await connect(emulator)
        assert (await client.call(method, path, body, host=name)).status == 421
        assert untouched(emulator)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
async def test_what_changes_something_is_json(emulator: Emulator, connect: Any, kind: str) -> None:
    """A page can send other kinds elsewhere without asking."""
    client = await connect(emulator)
    for method, path in (("POST", "/_emulator/faults"), ("PATCH", "/_emulator/faults/1")):
        refused = await client.call(method, path, b'{"enabled": false}', content_type=kind)
        assert refused.status == 415
        refused = await client.call(method, path, b"[]", content_type="application/json")
        assert refused.status == 400
        refused = await client.call(method, path, b"{", content_type="application/json")
        assert refused.status == 400
    assert untouched(emulator)


@pytest.mark.parametrize("header", ["Forwarded", "X-Forwarded-For", "Via"])
async def test_what_a_proxy_forwards_is_not_this_machines(
    emulator: Emulator, connect: Any, header: str
) -> None:
    client = await connect(emulator)
    for path in ("/_ui", "/_emulator/faults", "/_emulator/requests/1"):
        assert (await client.get(path, **{header: "x"})).status == 403


@pytest.mark.parametrize(
    ("peer", "here"),
    [("127.0.0.1", True), ("::1", True), ("::ffff:127.0.0.1", True), ("10.0.0.7", False)],
)
def test_this_machine_is_known_by_its_addresses(peer: str, here: bool) -> None:
    record = request()
    record.peer = peer
    assert access.is_here(record) is here


async def test_the_own_page_and_programs_may(emulator: Emulator, connect: Any) -> None:
    client = await connect(emulator)
    for headers in (
        {},
        {"Origin": emulator.url, "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
    ):
        listed = await client.get("/_emulator/faults", key=None, **headers)
        assert listed.status == 200
        assert listed.headers["cache-control"] == "no-store"
    for name in ("localhost", "llm.localhost"):
        elsewhere = f"{name}:{emulator.port}"
        own = await client.get("/_emulator/faults", host=elsewhere, Origin=f"http://{elsewhere}")
        assert own.status == 200


async def test_nothing_of_it_is_in_the_logs_or_meets_faults(
    emulator: Emulator, connect: Any
) -> None:
    client = await connect(emulator)
    emulator.script(Fault(status=418))
    emulator.faults.add(Fault(status=502))
    for method, path, body in CALLS[1:]:
        assert (await client.call(method, path, body)).status not in (418, 502)
    assert (await client.get("/_ui")).status == 200
    assert not emulator.requests
    assert emulator.pending_faults == 1
    assert (await client.post()).status == 418


# --- where there is one -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "inspector", "on"),
    [
        ("127.0.0.1", None, True),
        ("127.0.0.1", True, True),
        ("127.0.0.1", False, False),
        ("0.0.0.0", None, False),
        ("0.0.0.0", True, True),
        ("0.0.0.0", False, False),
    ],
)
async def test_it_is_where_only_this_machine_can_reach_it_or_it_is_asked_for(
    connect: Any, host: str, inspector: bool | None, on: bool
) -> None:
    async with Emulator("echo", host=host, inspector=inspector) as emulator:
        assert emulator.inspector_url == (f"{emulator.url}/_ui" if on else None)
        client = await connect(emulator)
        assert (await client.get("/_ui", key=None)).status == (200 if on else 404)
        assert (await client.post("/_emulator/runs/1/cancel", {})).status == 404
        assert (await client.get("/_emulator/requests/1")).status == 404
        assert (await client.get("/_emulator/faults")).status == 200
        looked = await connect(emulator)
        await looked.send("GET", "/_emulator/events")
        assert (await looked.head()).status == (200 if on else 404)


def test_others_look_where_it_was_asked_for_and_switch_no_faults() -> None:
    class Exchange:
        """As much of one as is looked at."""

        url = "http://emulator.test"

        def __init__(self, wanted: bool | None, endpoint: str) -> None:
            emulator = Emulator(allow_hosts=["emulator.test"], inspector=wanted)
            self.record = request(endpoint=endpoint)
            self.record.headers = CIMultiDictProxy(CIMultiDict({"Host": "emulator.test"}))
            self.record.peer = "10.0.0.7"
            self.state = emulator._ui

    from multidict import CIMultiDict, CIMultiDictProxy

    asked: Any = Exchange(True, "/runs/1/cancel")
    access.may_act(asked)
    for wanted, endpoint in ((None, "/events"), (True, "/faults"), (True, "/faults/1")):
        other: Any = Exchange(wanted, endpoint)
        with pytest.raises(RefusalError) as refused:
            access.may_act(other)
        assert refused.value.status == 403


async def test_no_app_is_called_like_it(connect: Any) -> None:
    async with Emulator("echo", apps={"_mine": "llm"}) as emulator:
        client = await connect(emulator)
        assert (await client.get("/_ui")).headers["content-type"] == "text/html; charset=utf-8"
        assert (await client.post("/_mine")).status == 200
        assert (await client.get("/_ui/x")).status == 404
        assert (await client.post("/_ui", {})).status == 405
    with pytest.raises(ValueError, match="'_ui' cannot be the name of an App"):
        Emulator("echo", apps={"_ui": "llm"})
