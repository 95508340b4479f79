"""The Files API."""

from __future__ import annotations

from typing import Any

from dynamiq_async.emulator import Emulator, RunContext


async def test_files_belong_to_one_app_and_reach_its_runs(connect: Any) -> None:
    async def app(input: dict[str, Any], run: RunContext) -> Any:
        return [[file.name, file.size, file.read().decode()] for file in run.files]

    async with Emulator(app, max_file_bytes=100) as emulator:
        client = await connect(emulator)
        uploaded = await client.form("/v1/files", ('name="file"; filename="a.txt"', b"content"))
        assert uploaded.status == 200
        file = uploaded.json["data"]
        assert {**file, "id": ""} == {
            "id": "",
            "name": "a.txt",
            "size": 7,
            "mime_type": "text/plain",
        }
        run = await client.post("/v1/runs", {"input": {}, "file_ids": [file["id"]]})
        output = run.json["data"]["output"]
        assert output["output"] == [["a.txt", 7, "content"]]
        foreign = await client.post("/llm/v1/runs", {"input": {}, "file_ids": [file["id"]]})
        assert foreign.status == 400
        sent = await client.form(
            "/v1/runs", ('name="input"', b"{}"), ('name="files"; filename="b"', b"B")
        )
        assert sent.json["data"]["output"]["output"] == [["b", 1, "B"]]
        missing = await client.form("/v1/files", ('name="file"', b"not a file"))
        assert missing.error["details"] == {"file": "cannot be blank"}
        large = await client.form("/v1/files", ('name="file"; filename="c"', b"x" * 101))
        assert (large.status, large.error["code"]) == (413, "payload_too_large")
