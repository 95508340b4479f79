"""Files: uploaded to an App and named by its runs, or sent along with a request."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from anyio.to_thread import run_sync

from ..core.request_bodies import Fields, RefusalError, bad_fields

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ..core.exchange import Exchange
    from ..core.request_bodies import Part


@dataclass(frozen=True, kw_only=True)
class InputFile:
    """A file as an App sees it. `read` returns all of it."""

    id: str
    app_id: str
    name: str
    size: int
    mime_type: str
    read: Callable[[], bytes] = field(repr=False)

    @classmethod
    def from_part(cls, part: Part) -> InputFile:
        """A file that came with a request."""
        return cls(
            id=str(uuid4()),
            app_id="",
            name=part.filename or part.name,
            size=part.size,
            mime_type=part.content_type,
            read=lambda: b"".join(part.pieces()),
        )

    def public(self) -> dict[str, Any]:
        """What the API shows of it."""
        return {"id": self.id, "name": self.name, "size": self.size, "mime_type": self.mime_type}


async def upload(exchange: Exchange) -> None:
    """`POST /v1/files`."""
    state = exchange.state
    part = next((part for part in Fields.of(exchange.record).files if part.name == "file"), None)
    if part is None:
        raise bad_fields({"file": "cannot be blank"})
    limit = state.settings.max_file_bytes
    if part.size > limit:
        raise RefusalError(413, "payload_too_large", f"the file is larger than {limit} bytes")
    id = str(uuid4())
    path = state.folder / id
    await run_sync(_store, part, path)
    file = InputFile(
        id=id,
        app_id=exchange.deployment.id,
        name=part.filename or "",
        size=part.size,
        mime_type=part.content_type,
        read=path.read_bytes,
    )
    state.files[id] = file
    await exchange.answer(200, {"data": file.public()})


def _store(part: Part, path: Path) -> None:
    with path.open("wb") as file:
        file.writelines(part.pieces())
