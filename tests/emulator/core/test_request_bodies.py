"""Request bodies are read whole, in whatever form they come."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from typing import Any

import pytest

from dynamiq_async.emulator import Emulator, RunContext


async def test_odd_forms_are_read_as_far_as_they_go(connect: Any) -> None:
    async with Emulator("echo") as emulator:
        client = await connect(emulator)
        kind = "multipart/form-data; boundary=B"
        named = b'Content-Disposition: form-data; name="input"\r\n\r\n'
        for body in (
            b"preamble\r\n--B\r\n" + named + b'{"a": 1}\r\n--B--\r\nepilogue',
            b"--B\r\n" + named + b'{"a": 1}\r\n--B\r\nno blank line\r\n--B--',
            b"--B\r\n" + named + b'{"a": 1}\r\n--B\r\n' + named + b"not the end",
        ):
            response = await client.post("/", body, content_type=kind)
            assert response.json == {"a": 1}
        client.writer.write(
            b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n"
            b"Authorization: Bearer dynamiq_acc_emulator\r\n"
            b"Content-Type: multipart/form-data; boundary=\xff\r\n\r\nxx"
        )
        assert (await client.read()).status == 400
        headless = await client.post("/", b"--B\r\n\r\nx\r\n--B--", content_type=kind)
        assert headless.status == 400
        assert emulator.requests[-1].form[0].content == b"x"


async def test_a_body_over_a_mebibyte_is_read_whole(connect: Any) -> None:
    async def app(input: dict[str, Any], run: RunContext) -> Any:
        return [len(input.get("text", "")), *(len(file.read()) for file in run.files)]

    size = 2_500_000
    async with Emulator(app) as emulator:
        client = await connect(emulator)
        response = await client.post("/", {"input": {"text": "x" * size}})
        assert response.json["output"] == [size]
        form = await client.form(
            "/", ('name="input"', b"{}"), ('name="files"; filename="f"', b"\r\n" * size)
        )
        assert form.json["output"] == [0, 2 * size]
        assert emulator.requests[0].size > size > len(emulator.requests[0].body) == 2**20
        assert emulator.requests[1].form[1].size == 2 * size


async def test_expect_100_continue_is_responded_to(connect: Any) -> None:
    async with Emulator("echo", access_key=None) as emulator:
        client = await connect(emulator)
        client.writer.write(
            b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 12\r\nExpect: 100-continue\r\n\r\n"
        )
        assert (await client.head()).status == 100
        client.writer.write(b'{"input":{}}')
        assert (await client.read()).status == 200


async def test_without_the_key_a_body_is_neither_kept_nor_parsed(connect: Any) -> None:
    body = b'{"input": {"text": "' + b"x" * 2_000_000 + b'"}}'
    async with Emulator("echo") as emulator:
        client = await connect(emulator)
        for path in ("/", "/v1/runs", "/nowhere", "/~management/v1/apps", "/~flowy/apps"):
            refused = await client.post(path, body, key="wrong", content_type="application/json")
            assert refused.status == 401
            record = emulator.requests[-1]
            assert (record.body, record.size, record.json) == (b"", 0, None)
        assert (await client.post()).status == 200
        assert emulator.connections == 1


async def test_a_body_that_does_not_come_is_refused_in_time(connect: Any) -> None:
    async with Emulator("echo", read_timeout=0.05) as emulator:
        client = await connect(emulator)
        await client.send("POST", "/", content_length="100", content_type="application/json")
        client.writer.write(b'{"input"')
        refused = await client.read()
        assert (refused.status, refused.error["code"]) == (408, "request_timeout")
        assert refused.headers["connection"] == "close"
        assert not emulator.executions
        await emulator.wait_until(lambda: not emulator.open_connections)


@pytest.mark.parametrize("head", [b"", b"POST / HTT", b"POST / HTTP/1.1\r\nHost: loc"])
async def test_a_head_that_does_not_come_is_given_up_in_time(connect: Any, head: bytes) -> None:
    async with Emulator("echo", read_timeout=0.05, keepalive_timeout=0) as emulator:
        client = await connect(emulator)
        client.writer.write(head)
        with contextlib.suppress(ConnectionResetError):
            assert await client.reader.read() == b""
        await emulator.wait_until(lambda: not emulator.open_connections)
        assert not emulator.requests


async def test_time_limits_can_be_left_out(connect: Any) -> None:
    async with Emulator("echo", read_timeout=None) as emulator:
        assert (await (await connect(emulator)).post()).status == 200


async def test_a_body_over_the_limit_is_refused_before_it_is_read(connect: Any) -> None:
    async with Emulator(max_file_bytes=0) as emulator:
        client = await connect(emulator)
        await client.send("POST", "/v1/files", b"x" * 2_000_000, content_type="application/json")
        assert (await client.head()).status == 413


@pytest.mark.parametrize("leaves", [False, True])
async def test_a_body_that_is_not_read_to_its_end_leaves_no_file_open(
    connect: Any, monkeypatch: pytest.MonkeyPatch, leaves: bool
) -> None:
    files: list[Any] = []
    make = tempfile.TemporaryFile

    def noted(**more: Any) -> Any:
        files.append(make(**more))
        return files[-1]

    monkeypatch.setattr(tempfile, "TemporaryFile", noted)
    async with Emulator(access_key=None, max_file_bytes=2**20) as emulator:
        client = await connect(emulator)
        head = b"POST /v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3000000\r\n\r\n"
        client.writer.write(head + bytes(1_500_000))
        if leaves:
            await emulator.wait_until(lambda: emulator.open_connections)
            while not files:
                await asyncio.sleep(0.001)
            client.abort()
        else:
            client.writer.write(bytes(1_500_000))
            assert (await client.head()).status == 413
        await emulator.wait_until(lambda: emulator.requests and emulator.requests[0].finished)
        [file] = files
        assert file.closed
