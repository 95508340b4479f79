"""Flowy's API beside apps and their runs: generations, credits and assets.

The vendor documents the paths, and the fields of generations and credits. Of assets it documents
only the pages, and that a link is renewed there. The fields of assets are our guess, and so are the
query parameters `page` and `pageSize`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..core.fields import positive_number
from ..core.refusals import RefusalError
from .api import check_room, key_of, respond, time_text, times
from .jobs import FlowyGeneration
from .links import link_of, sign

if TYPE_CHECKING:
    from ..core.exchange import Exchange
    from .apps import FlowyContent
    from .jobs import FlowyJob
    from .state import Flowy

PAGE_SIZE = 20
MAX_PAGE_SIZE = 100


async def start_generation(exchange: Exchange[Flowy]) -> None:
    """`POST /generations`."""
    flowy, wanted = exchange.state, exchange.record.json
    wanted = wanted if isinstance(wanted, dict) else {}
    for name in ("type", "prompt"):
        if not isinstance(wanted.get(name), str) or not wanted[name]:
            raise RefusalError(400, "bad_request", f"Missing field: {name}")
    check_room(exchange)
    now = flowy.clock()
    made = FlowyGeneration(
        wanted=wanted,
        key=key_of(exchange),
        created_at=now,
        running_at=now,
        ends_at=now + flowy.generation_seconds,
        credits=flowy.run_credits,
    )
    flowy.generations[made.id] = made
    shown = {
        "generationId": made.id,
        "status": "processing",
        "estimatedCredits": made.credits,
    }
    await respond(exchange, 202, shown)


async def get_generation(exchange: Exchange[Flowy], generation_id: str) -> None:
    """`GET /generations/{id}`."""
    made = exchange.state.generations.get(generation_id)
    if made is None:
        raise RefusalError(404, "not_found", "Generation not found")
    now = exchange.state.clock()
    status = made.status(now)
    shown: dict[str, Any] = {
        "generationId": made.id,
        "status": "processing" if status == "running" else status,
        "outputs": [],
        **times(made, now),
    }
    if status == "failed":
        shown["error"] = made.error
    if status == "completed":
        shown["creditsCharged"] = made.cost(now)[0]
        shown["outputs"] = [
            {"kind": what.kind, "assetId": id, "url": link_of(exchange, made, node, what)}
            for id, (node, what) in made.assets().items()
        ]
    await respond(exchange, 200, shown)


async def get_credits(exchange: Exchange[Flowy]) -> None:
    """`GET /credits`."""
    credits, blocked = exchange.state.balance()
    shown = {
        "workspaceId": "workspace-1",
        "credits": credits,
        "blockedCredits": blocked,
        "available": credits - blocked,
    }
    await respond(exchange, 200, shown)


async def list_assets(exchange: Exchange[Flowy]) -> None:
    """`GET /assets`, newest first."""
    query = exchange.record.query
    page = positive_number(query, "page", default=1)
    size = min(positive_number(query, "pageSize", default=PAGE_SIZE), MAX_PAGE_SIZE)
    found = list(_assets(exchange.state).items())[::-1]
    shown = {
        "assets": [_asset(exchange, id, *one) for id, one in found[(page - 1) * size :][:size]],
        "total": len(found),
        "page": page,
        "pageSize": size,
        "totalPages": -(-len(found) // size),
    }
    await respond(exchange, 200, shown)


async def get_asset(exchange: Exchange[Flowy], asset_id: str) -> None:
    """`GET /assets/{id}`."""
    found = _assets(exchange.state).get(asset_id)
    if found is None:
        raise RefusalError(404, "not_found", "Asset not found")
    await respond(exchange, 200, _asset(exchange, asset_id, *found))


def _assets(flowy: Flowy) -> dict[str, tuple[FlowyJob, str, FlowyContent]]:
    """All assets made so far, oldest first."""
    now = flowy.clock()
    over = sorted((job for job in flowy.jobs() if job.ends_at <= now), key=lambda job: job.ends_at)
    return {id: (job, *one) for job in over for id, one in job.assets().items()}


def _asset(
    exchange: Exchange[Flowy], id: str, job: FlowyJob, node: str, what: FlowyContent
) -> dict[str, Any]:
    return {
        "assetId": id,
        "kind": what.kind,
        "name": what.name,
        "url": sign(exchange, job.id, node, what),
        "createdAt": time_text(job.ends_at),
    }
