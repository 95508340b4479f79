"""`CallbackInbox`: submit, and wait for what comes back."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import anyio
import pytest
import pytest_asyncio
import trustme

from dynamiq_async import AsyncApp, Callback, errors
from dynamiq_async.callbacks import CallbackInbox, CallbackResult
from dynamiq_async.callbacks import inbox as module
from dynamiq_async.callbacks.arrivals import Arrivals
from dynamiq_async.emulator import Emulator, RunContext, WorkflowFailedError
from tests.support.callback_senders import PATIENCE, Response, Sender, callback, post
from tests.support.log_records import fields

pytestmark = pytest.mark.usefixtures("quick_collections", "leaves_nothing")


def port_of(inbox: CallbackInbox) -> int:
    port = urlsplit(inbox.url).port
    assert port is not None
    return port


async def deliver(inbox: CallbackInbox, id: str = "run-1", **fields: Any) -> Response:
    """A callback as an App would post it."""
    return await post(port_of(inbox), callback(id, **fields), token=inbox.callback().token)


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


# --- end to end -----------------------------------------------------------------------------------


async def parcel(input: dict[str, Any], run: RunContext) -> dict[str, Any]:
    if "fail" in input:
        raise WorkflowFailedError(input["fail"])
    output = {"answer": input["question"]}
    return {"llm-1": {"status": "success", "input": input, "output": output}}


def answer(result: CallbackResult) -> Any:
    return result.unwrap()["answer"]


@pytest_asyncio.fixture
async def app() -> Any:
    async with (
        Emulator(parcel, allow_loopback_callbacks=True, callback_deliveries=3) as emulator,
        AsyncApp(emulator.url, access_key=emulator.access_key) as app,
    ):
        app.emulator = emulator  # type: ignore[attr-defined]
        yield app


async def test_a_submitted_call_comes_back(app: Any) -> None:
    async with CallbackInbox() as inbox:
        made = inbox.callback(metadata={"order": 7})
        accepted = await app.submit({"question": "where?"}, callbacks=[made])
        result = await inbox.result(accepted.id, timeout=PATIENCE)
        assert result.id == accepted.id
        assert answer(result) == "where?"
        assert result.metadata == {"order": 7}
        assert result.time_ns is not None
        await app.emulator.wait_until(lambda: len(app.emulator.deliveries) == 3)
    # The repetitions were acknowledged, and made nothing new.
    assert [delivery.status for delivery in app.emulator.deliveries] == [200, 200, 200]
    assert inbox._arrivals.count == 1


async def test_a_failed_call_comes_back_as_a_failure(app: Any) -> None:
    async with CallbackInbox() as inbox:
        accepted = await app.submit({"fail": "no such parcel"}, callbacks=[inbox.callback()])
        result = await inbox.result(accepted.id, timeout=PATIENCE)
        assert (result.status, result.output) == ("failed", None)
        with pytest.raises(errors.RunFailedError) as caught:
            result.unwrap()
        assert caught.value.run_id == accepted.id
        await app.emulator.wait_until(lambda: len(app.emulator.deliveries) == 3)


async def test_a_callback_that_comes_before_the_202_is_not_lost() -> None:
    async def hasty(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        (asked,) = json.loads(await reader.readexactly(length))["callbacks"]
        taken = await post(
            urlsplit(asked["url"]).port or 0, callback("hasty"), token=asked["auth"]["token"]
        )
        assert taken.status == 200
        body = b'{"id":"hasty","status":"accepted"}'
        writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\n")
        writer.write(b"Content-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body))
        writer.close()

    server = await asyncio.start_server(hasty, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with (
        server,
        AsyncApp(f"http://127.0.0.1:{port}", access_key="key") as app,
        CallbackInbox() as inbox,
    ):
        accepted = await app.submit({}, callbacks=[inbox.callback()])
        result = await inbox.result(accepted.id, timeout=PATIENCE)
        assert result.unwrap() == {"answer": 42}


async def test_many_calls_each_get_their_own(app: Any) -> None:
    async with CallbackInbox() as inbox:

        async def ask(n: int) -> Any:
            accepted = await app.submit({"question": n}, callbacks=[inbox.callback()])
            return answer(await inbox.result(accepted.id, timeout=PATIENCE))

        answers = await asyncio.gather(*(ask(n) for n in range(50)))
        assert answers == list(range(50))
        await app.emulator.wait_until(lambda: app.emulator.deliveries.total == 150)


async def test_it_serves_https() -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    async with (
        Emulator(parcel, allow_loopback_callbacks=True, callback_ssl=trust) as emulator,
        AsyncApp(emulator.url, access_key=emulator.access_key) as app,
        CallbackInbox(ssl_context=context) as inbox,
    ):
        assert inbox.url.startswith("https://127.0.0.1:")
        accepted = await app.submit({"question": 1}, callbacks=[inbox.callback()])
        assert answer(await inbox.result(accepted.id, timeout=PATIENCE)) == 1
        await emulator.wait_until(lambda: len(emulator.deliveries) == 1)


# --- where callbacks are sent to ------------------------------------------------------------------


async def test_a_callback_has_the_address_and_a_token_of_its_own() -> None:
    async with CallbackInbox() as inbox, CallbackInbox() as other:
        made = inbox.callback(metadata={"a": 1})
        assert made == Callback(inbox.url, made.token, {"a": 1})
        assert made.token
        assert len(made.token) >= 32
        assert made.token != other.callback().token
        assert inbox.url != other.url
        assert (await deliver(inbox)).status == 200
        port = port_of(inbox)
        assert (await post(port, callback(), token=other.callback().token)).status == 401
        assert (await post(port, callback(), token=None)).status == 401


@pytest.mark.parametrize("path", ["/", "/hook/of/mine?x=1", "//%2f/"])
async def test_any_path_brings_callbacks(path: str) -> None:
    async with CallbackInbox(token=False) as inbox:
        assert (await post(port_of(inbox), callback(), path)).status == 200
        assert (await inbox.result("run-1")).id == "run-1"


async def test_a_client_that_expects_100_continue_gets_it() -> None:
    async with CallbackInbox() as inbox, Sender(port_of(inbox)) as sender:
        body = json.dumps(callback()).encode()
        made = inbox.callback()
        await sender.head(token=made.token, content_length=len(body), expect="100-continue")
        assert (await sender.read_response(bodyless=True)).status == 100
        await sender.write(body)
        assert (await sender.read_response()).status == 200


async def test_what_strangers_send_is_no_error_of_the_program(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    async with CallbackInbox() as inbox:
        for odd in (b"\x16\x03\x01\x02\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"):
            async with Sender(port_of(inbox)) as sender:
                await sender.write(odd)
                assert (await sender.reader.readline()).split()[1] == b"400"
    errors = [record for record in caplog.records if record.name != "asyncio"]
    assert {(record.name, record.levelno) for record in errors} == {
        ("dynamiq_async", logging.DEBUG)
    }


async def test_the_address_may_be_another_from_outside() -> None:
    inbox = CallbackInbox(public_url="https://tunnel.example.com/hook?x=1", token="mine")
    assert inbox.callback() == Callback("https://tunnel.example.com/hook?x=1", "mine")


async def test_without_a_token_anybody_may_deliver() -> None:
    async with CallbackInbox(token=False) as inbox:
        assert inbox.callback().token is None
        port = port_of(inbox)
        assert (await post(port, callback(), token=None)).status == 200
        assert (await inbox.result("run-1")).id == "run-1"


async def test_it_listens_on_ipv6() -> None:
    async with CallbackInbox(host="::1") as inbox:
        assert inbox.url.startswith("http://[::1]:")


async def test_the_token_is_in_no_repr() -> None:
    inbox = CallbackInbox(token="a-secret-token")
    assert "a-secret-token" not in repr(vars(inbox)) + repr(inbox)
    assert "a-secret-token" not in repr(vars(inbox._receiver._verifier))


async def test_there_is_no_address_before_it_is_entered() -> None:
    inbox = CallbackInbox()
    with pytest.raises(errors.StreamClosedError, match="async with"):
        inbox.callback()


@pytest.mark.parametrize(
    ("arguments", "argument"),
    [
        ({"host": ""}, "host"),
        ({"host": None}, "host"),
        ({"port": -1}, "port"),
        ({"port": "80"}, "port"),
        ({"port": 70_000}, "port"),
        ({"public_url": "tunnel.example.com"}, "public_url"),
        ({"public_url": "ftp://tunnel.example.com"}, "public_url"),
        ({"public_url": "https://[half"}, "public_url"),
        ({"public_url": "https://"}, "public_url"),
        ({"public_url": 5}, "public_url"),
        ({"token": ""}, "token"),
        ({"token": "with space"}, "token"),
        ({"max_results": 0}, "max_results"),
        ({"max_body_bytes": 0}, "max_body_bytes"),
    ],
)
def test_arguments_that_cannot_be_used_are_refused(
    arguments: dict[str, Any], argument: str
) -> None:
    with pytest.raises(errors.InvalidArgumentError) as caught:
        CallbackInbox(**arguments)
    assert caught.value.argument == argument


# --- waiting --------------------------------------------------------------------------------------


async def test_several_tasks_may_wait_for_one_result_and_ask_again_later() -> None:
    async with CallbackInbox() as inbox:
        waiting = [asyncio.ensure_future(inbox.result("run-1")) for _ in range(5)]
        await turns()
        await deliver(inbox)
        results = await asyncio.gather(*waiting)
        assert {result.id for result in results} == {"run-1"}
        assert await inbox.result("run-1") == results[0]


async def test_cancelling_one_that_waits_harms_nobody() -> None:
    async with CallbackInbox() as inbox:
        gone, waiting = (asyncio.ensure_future(inbox.result("run-1")) for _ in range(2))
        await turns()
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        await deliver(inbox)
        assert (await waiting).id == "run-1"
        assert not inbox._arrivals._waiting


async def test_a_result_that_does_not_come_says_what_to_check() -> None:
    async with CallbackInbox(public_url="https://tunnel.example.com/") as inbox:
        with pytest.raises(errors.APITimeoutError) as caught:
            await inbox.result("run-1", timeout=0.01)
    error = caught.value
    assert (error.run_id, error.limit, error.seconds) == ("run-1", "total", 0.01)
    assert "run-1 did not come within 0.01 s" in str(error)
    assert "https://tunnel.example.com/" in str(error)
    assert "refused" not in str(error)
    assert not inbox._arrivals._waiting


async def test_it_says_what_came_instead() -> None:
    async with CallbackInbox(max_results=1) as inbox:
        port = port_of(inbox)
        assert (await post(port, callback(), token="wrong")).status == 401
        await deliver(inbox, "run-2")
        await deliver(inbox, "run-3")
        with pytest.raises(errors.APITimeoutError) as caught:
            await inbox.result("run-1", timeout=0.01)
    assert "requests refused: 1, the last with 401" in str(caught.value)
    assert "other runs came: 2, of them dropped: 1; raise max_results" in str(caught.value)
    assert f"port {port} of 127.0.0.1" in str(caught.value)


async def test_nobody_waits_at_one_that_was_not_entered() -> None:
    inbox = CallbackInbox(public_url="https://tunnel.example.com/")
    with pytest.raises(errors.StreamClosedError, match="async with"):
        await inbox.result("run-1")
    with pytest.raises(errors.StreamClosedError, match="async with"):
        aiter(inbox)


@pytest.mark.parametrize("timeout", [0, -1, "1", float("nan")])
async def test_a_time_limit_that_is_none_is_refused(timeout: Any) -> None:
    with pytest.raises(errors.InvalidArgumentError) as caught:
        await CallbackInbox().result("run-1", timeout=timeout)
    assert caught.value.argument == "timeout"


@pytest.mark.parametrize("id", ["", None, 5])
async def test_an_id_that_is_none_is_refused(id: Any) -> None:
    with pytest.raises(errors.InvalidArgumentError) as caught:
        await CallbackInbox().result(id)
    assert caught.value.argument == "id"


# --- iterating ------------------------------------------------------------------------------------


async def test_iterating_gives_what_came_and_then_what_comes() -> None:
    async with CallbackInbox() as inbox:
        await deliver(inbox, "run-1")
        await deliver(inbox, "run-1")
        await deliver(inbox, "run-2")
        assert (await inbox.result("run-2")).id == "run-2"
        seen: list[str] = []
        coming: asyncio.Future[Any] | None = None
        async for result in inbox:
            seen.append(result.id)
            if result.id == "run-2":
                coming = asyncio.ensure_future(deliver(inbox, "run-3"))
            if result.id == "run-3":
                break
        assert seen == ["run-1", "run-2", "run-3"]
        assert coming is not None
        await coming


async def test_each_iteration_has_a_position_of_its_own() -> None:
    async with CallbackInbox() as inbox:
        one, two = aiter(inbox), aiter(inbox)
        waiting = asyncio.ensure_future(anext(one))
        await turns()
        await deliver(inbox, "run-1")
        await deliver(inbox, "run-2")
        assert (await waiting).id == "run-1"
        assert [(await anext(two)).id, (await anext(two)).id] == ["run-1", "run-2"]
        assert (await anext(aiter(one))).id == "run-2"


async def test_cancelling_an_iteration_that_waits_loses_nothing() -> None:
    async with CallbackInbox() as inbox:
        arriving = aiter(inbox)
        waiting = asyncio.ensure_future(anext(arriving))
        await turns()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await deliver(inbox)
        assert (await anext(arriving)).id == "run-1"


# --- what is kept ---------------------------------------------------------------------------------


def result(id: str) -> CallbackResult:
    return CallbackResult(id=id, status="succeeded")


async def test_no_more_is_kept_than_max_results(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "dynamiq_async")
    async with CallbackInbox(max_results=2) as inbox:
        for n in range(5):
            await deliver(inbox, f"run-{n}")
            if n == 1:
                await inbox.result("run-1")
        assert [(await anext(a)).id for a in [aiter(inbox)] * 2] == ["run-3", "run-4"]
        with pytest.raises(errors.APITimeoutError):
            await inbox.result("run-0", timeout=0.01)
    assert [fields(record)["run_id"] for record in caplog.records] == ["run-0", "run-2"]
    dropped = [record.getMessage() for record in caplog.records]
    assert dropped == [
        f"dropped the result of {run}, which nobody asked for" for run in ("run run-0", "run run-2")
    ]
    arrivals = inbox._arrivals
    assert len(arrivals._kept) == len(arrivals._numbers) == 2
    assert not arrivals._unasked


async def test_who_waits_gets_a_result_that_is_dropped_in_the_same_moment() -> None:
    arrivals = Arrivals(1)
    waiting = [asyncio.ensure_future(arrivals.get(id)) for id in ("a", "b", "c")]
    arriving = asyncio.ensure_future(arrivals.after(0))
    await turns()
    for id in ("a", "b", "c"):
        arrivals.add(result(id))
    assert [(await each).id for each in waiting] == ["a", "b", "c"]
    assert (await arriving) == (3, result("c"))
    assert arrivals.dropped == 0


# --- closing --------------------------------------------------------------------------------------


async def test_closing_wakes_everybody() -> None:
    async with CallbackInbox() as inbox:
        waiting = asyncio.ensure_future(inbox.result("run-1"))
        arriving = asyncio.ensure_future(anext(aiter(inbox)))
        await turns()
        await asyncio.gather(inbox.aclose(), inbox.aclose())
        with pytest.raises(errors.StreamClosedError, match="run run-1 came") as caught:
            await waiting
        assert caught.value.run_id == "run-1"
        with pytest.raises(errors.StreamClosedError):
            await arriving


async def test_what_came_can_still_be_had_after_the_end() -> None:
    async with CallbackInbox() as inbox:
        await deliver(inbox)
    assert (await inbox.result("run-1")).id == "run-1"
    with pytest.raises(errors.StreamClosedError):
        await inbox.result("run-2")
    arriving = aiter(inbox)
    assert (await anext(arriving)).id == "run-1"
    with pytest.raises(errors.StreamClosedError):
        await anext(arriving)
    with pytest.raises(errors.StreamClosedError):
        inbox.callback()


async def test_one_that_was_never_entered_can_be_closed() -> None:
    inbox = CallbackInbox()
    await inbox.aclose()
    with pytest.raises(errors.StreamClosedError):
        await inbox.result("run-1")


async def test_it_is_entered_once() -> None:
    async with CallbackInbox() as inbox:
        with pytest.raises(errors.StreamClosedError, match="make a new one"):
            await inbox.__aenter__()
        assert (await deliver(inbox)).status == 200


async def test_a_port_that_is_taken_says_so_and_leaves_nothing() -> None:
    async with CallbackInbox() as inbox:
        port = port_of(inbox)
        with pytest.raises(OSError, match="address already in use"):
            await CallbackInbox(port=port).__aenter__()


async def test_the_port_is_free_again_after_the_end() -> None:
    async with CallbackInbox() as inbox:
        port = port_of(inbox)
        await deliver(inbox)
    async with CallbackInbox(port=port) as again:
        assert (await deliver(again)).status == 200


@pytest.mark.parametrize("head", ["none", "half", "whole", "refused", "kept alive"])
async def test_clients_in_the_middle_of_something_do_not_keep_it_open(
    head: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CLOSE_SECONDS", 0.05)
    async with CallbackInbox(max_body_bytes=100) as inbox:
        made = inbox.callback()
        async with Sender(port_of(inbox)) as sender:
            if head == "half":
                await sender.write(b"POST / HTTP/1.1\r\nHost:")
            elif head == "kept alive":
                body = b'{"id":"run-1","status":"failed"}'
                await sender.head(token=made.token, content_length=len(body))
                await sender.write(body)
                assert (await sender.read_response()).status == 200
            elif head == "refused":  # and aiohttp goes on reading what was announced
                await sender.head(token=made.token, content_length=101)
                assert (await sender.read_response()).status == 413
            elif head == "whole":
                await sender.head(token=made.token, content_length=50)
            await turns()
            async with asyncio.timeout(2):
                await inbox.aclose()
            async with asyncio.timeout(2):
                assert await sender.reader.read() == b""


async def test_a_client_that_left_while_it_was_sending_leaves_nothing() -> None:
    """aiohttp goes on waiting for what such a client had announced, for seconds."""
    async with CallbackInbox(max_body_bytes=100) as inbox:
        made = inbox.callback()
        async with Sender(port_of(inbox)) as sender:
            await sender.head(token=made.token, content_length=101)
            assert (await sender.read_response()).status == 413
        await turns()


async def test_one_connection_may_bring_many() -> None:
    async with CallbackInbox() as inbox:
        made = inbox.callback()
        async with Sender(port_of(inbox)) as sender:
            for n in range(3):
                body = json.dumps(callback(f"run-{n}")).encode()
                await sender.head(token=made.token, content_length=len(body))
                await sender.write(body)
                assert (await sender.read_response()).status == 200
        assert inbox._arrivals.count == 3


async def test_a_cancellation_while_it_closes_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "CLOSE_SECONDS", 0.05)
    before = asyncio.all_tasks()
    inbox = await CallbackInbox().__aenter__()
    made = inbox.callback()
    async with Sender(port_of(inbox)) as sender:
        await sender.head(token=made.token, content_length=50)
        closing = asyncio.ensure_future(inbox.aclose())
        await turns(2)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert asyncio.all_tasks() == before
        assert await sender.reader.read() == b""


async def test_each_who_closes_it_waits_until_it_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "CLOSE_SECONDS", 0.05)
    async with CallbackInbox() as inbox:
        made = inbox.callback()
        async with Sender(port_of(inbox)) as sender:
            await sender.head(token=made.token, content_length=50)
            before = asyncio.all_tasks()
            one, two, three = (asyncio.ensure_future(inbox.aclose()) for _ in range(3))
            await turns()
            one.cancel()
            await three
            assert two.done()
            assert asyncio.all_tasks() <= before | {one}
            with pytest.raises(asyncio.CancelledError):
                await one


async def test_a_cancellation_while_it_is_entered_leaves_nothing() -> None:
    async with CallbackInbox() as inbox:
        port = port_of(inbox)
    for after in range(1000):
        entering = asyncio.ensure_future(CallbackInbox(port=port).__aenter__())
        await turns(after)
        entering.cancel()
        await asyncio.wait([entering])
        if not entering.cancelled():
            await entering.result().aclose()
            break
    assert 2 <= after < 999
    async with CallbackInbox(port=port) as again:
        assert (await deliver(again)).status == 200


async def test_a_cancelled_scope_of_anyio_leaves_nothing_at_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its cancellation would come again at each await, also at those of the closing."""
    monkeypatch.setattr(module, "CLOSE_SECONDS", 0.05)
    before, task = asyncio.all_tasks(), asyncio.current_task()
    assert task is not None
    with anyio.CancelScope() as scope:
        try:
            async with CallbackInbox() as inbox:
                port = port_of(inbox)
                made = inbox.callback()
                async with Sender(port) as sender:
                    await sender.head(token=made.token, content_length=50)
                    await turns()
                    scope.cancel()
                    await asyncio.sleep(PATIENCE)
        finally:
            cancellations = task.cancelling()
            left = asyncio.all_tasks() - before
    assert not left
    assert cancellations <= 3
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


@pytest.mark.parametrize("turns_before", range(6))
async def test_a_cancelled_scope_of_anyio_leaves_nothing_at_its_beginning(
    turns_before: int,
) -> None:
    async with CallbackInbox() as inbox:
        port = port_of(inbox)

    async def cancel(scope: anyio.CancelScope) -> None:
        await turns(turns_before)
        scope.cancel()

    before = asyncio.all_tasks()
    with anyio.CancelScope() as scope:
        cancelling = asyncio.ensure_future(cancel(scope))
        async with CallbackInbox(port=port):
            await asyncio.sleep(PATIENCE)
    await cancelling
    assert asyncio.all_tasks() == before
    async with CallbackInbox(port=port):
        pass


async def test_a_second_cancellation_while_it_closes_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "CLOSE_SECONDS", 0.05)
    before = asyncio.all_tasks()
    inbox = await CallbackInbox().__aenter__()
    made = inbox.callback()
    async with Sender(port_of(inbox)) as sender:
        await sender.head(token=made.token, content_length=50)
        closing = asyncio.ensure_future(inbox.aclose())
        for _ in range(3):
            await turns(2)
            closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert asyncio.all_tasks() == before


async def test_an_exception_inside_goes_through() -> None:
    with pytest.raises(ZeroDivisionError):
        async with CallbackInbox():
            _ = 1 / 0


async def test_a_body_that_does_not_come_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dynamiq_async.callbacks.inbox.BODY_SECONDS", 0.05)
    async with CallbackInbox(token=False) as inbox, asyncio.timeout(30):
        port = urlsplit(inbox.url).port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
        assert (await reader.read()).startswith(b"HTTP/1.1 408 ")
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("head", [b"", b"POST / HTTP/1.1\r\nHost: x\r\n"])
async def test_a_head_that_does_not_come_is_not_waited_for(
    head: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dynamiq_async.callbacks._server.HEAD_SECONDS", 0.05)
    async with CallbackInbox(token=False) as inbox, asyncio.timeout(30):
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(inbox))
        writer.write(head)
        with suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()
        with suppress(ConnectionResetError):
            await writer.wait_closed()


async def test_the_limit_on_heads_is_not_one_on_what_follows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dynamiq_async.callbacks._server.HEAD_SECONDS", 0.3)
    async with CallbackInbox(token=False) as inbox, asyncio.timeout(30):
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(inbox))
        body = json.dumps(callback("run-1")).encode()
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n")
        writer.write(b"Content-Length: %d\r\n\r\n" % len(body))
        await asyncio.sleep(0.6)
        writer.write(body)
        assert (await reader.readline()).startswith(b"HTTP/1.1 20")
        writer.close()
        await writer.wait_closed()
