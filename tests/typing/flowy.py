"""What type checkers see of Flowy."""

from __future__ import annotations

from typing import assert_type

from dynamiq_async import (
    AsyncFlowy,
    FlowyApp,
    FlowyAsset,
    FlowyCredits,
    FlowyGeneration,
    FlowyOutput,
    FlowyRun,
)
from dynamiq_async._http.paging import Page, Pages


async def flowy() -> None:
    async with AsyncFlowy("k", inputs_form="array") as client:
        assert_type(client.apps.list(), Pages[FlowyApp])
        run = await client.run("collage", {"photos": ["https://h/1.png"]}, inputs_form="map")
        assert_type(run, FlowyRun)
        assert_type(run.output("poster"), FlowyOutput)
        assert_type(run.output("poster").label, str | None)
        assert_type(await client.runs.start("collage", inputs_form="auto"), FlowyRun)
        client.run("collage", inputs_form="list")  # type: ignore[arg-type, unused-coroutine]
        assert_type(await client.credits(), FlowyCredits)
        assert_type(client.assets.list(page_size=9), Pages[FlowyAsset])
        assert_type(await client.assets.list(), Page[FlowyAsset])
        assert_type((await client.assets.get("a")).output, FlowyOutput)


async def generations(client: AsyncFlowy) -> None:
    made = await client.generations.run("image", "a cat", aspect_ratio="16:9", timeout=None)
    assert_type(made, FlowyGeneration)
    assert_type(made.unwrap(), list[FlowyOutput])
    assert_type(
        await client.generations.start("video", "rain", duration_seconds=8), FlowyGeneration
    )
    assert_type(await client.generations.get("g"), FlowyGeneration)
    assert_type(await client.generations.wait("g", timeout=9), FlowyGeneration)
    await client.generations.run("image", "a cat", size=3)  # type: ignore[call-arg]  # ty takes it
