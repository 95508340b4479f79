"""Links to Flowy's outputs, on another host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core import signed_links
from ..core.refusals import RefusalError
from .apps import FlowyContent

if TYPE_CHECKING:
    from ..core.exchange import Exchange
    from .jobs import FlowyJob
    from .state import Flowy


def link_of(exchange: Exchange[Flowy], job: FlowyJob, node: str, what: FlowyContent) -> str:
    """The link to an output in the response for its run or generation. Each response has a new
    link, unless `Flowy.renews_links` is false."""
    fresh = sign(exchange, job.id, node, what)
    return fresh if exchange.state.renews_links else job.links.setdefault(node, fresh)


def sign(exchange: Exchange[Flowy], job_id: str, node: str, what: FlowyContent) -> str:
    """A link to an output that works for `Flowy.link_seconds`."""
    expires = exchange.state.clock() + exchange.state.link_seconds
    return signed_links.sign(exchange.url, "flowy-files", job_id, node, what.name, expires=expires)


def authorize(exchange: Exchange[Flowy]) -> None:
    """Refuse (400) a request with a key, and (403) a link that is forged or has expired."""
    signed_links.check(exchange.record, exchange.state.clock())


async def download(exchange: Exchange[Flowy], job_id: str, node: str) -> None:
    """`GET` an output."""
    job = exchange.state.job(job_id)
    what = job.outputs.get(node) if job is not None else None
    if not isinstance(what, FlowyContent):
        raise RefusalError(404, "NoSuchKey", "The specified key does not exist")
    await signed_links.respond_content(exchange, what.content, what.media_type)
