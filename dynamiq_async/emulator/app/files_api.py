"""The Files API: uploads. Runs of the App may refer to an uploaded file by its id."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from anyio.to_thread import run_sync

from ..core.fields import Fields
from ..core.refusals import RefusalError, bad_fields
from .input_files import InputFile
from .state import deployment_of

if TYPE_CHECKING:
    from pathlib import Path

    from ..core.multipart import Part
    from .state import AppExchange


async def upload(exchange: AppExchange) -> None:
    """`POST /v1/files`."""
    state = exchange.state
    part = next((part for part in Fields.of(exchange.record).files if part.name == "file"), None)
    if part is None:
        raise bad_fields({"file": "cannot be blank"})
    limit = state.settings.max_file_bytes
    if part.size > limit:
        raise RefusalError(413, "payload_too_large", f"the file is larger than {limit} bytes")
    file = InputFile.from_part(part, app_id=deployment_of(exchange).id, name=part.filename or "")
    if state.storage is not None:
        file = await state.storage.add_file(file)
    else:
        path = state.folder / file.id
        await run_sync(_store, part, path)
        file = replace(file, read=path.read_bytes)
    state.files[file.id] = file
    await exchange.respond(200, {"data": file.public()})


def _store(part: Part, path: Path) -> None:
    with path.open("wb") as file:
        file.writelines(part.pieces())
