"""The response to a request: the service's own, or the one that the request's fault sends."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from .faults import NO_FAULT
from .wire import DroppedError, Nowhere, pause

if TYPE_CHECKING:
    from .refusals import RefusalError
    from .request_record import RequestRecord
    from .service import Admission
    from .wire import Wire


async def respond(
    record: RequestRecord, wire: Wire, admission: Admission, refused: RefusalError | None
) -> None:
    """Respond to a request on `wire`, as its fault says."""
    if record.fault is NO_FAULT:
        await admission.respond(wire, refused)
        return
    with contextlib.suppress(DroppedError):  # the fault has closed the connection
        await pause(record.fault.delay)
        if record.fault.replaces_response:
            await _respond_instead(record, wire, admission, refused)
        else:
            await admission.respond(wire, refused)


async def _respond_instead(
    record: RequestRecord, wire: Wire, admission: Admission, refused: RefusalError | None
) -> None:
    """Send the fault's response in place of the service's."""
    fault = record.fault
    if fault.executes:
        # A timeout of 0 expires at the first wait, which is for the end of the run.
        limit = 0 if fault.executes == "begins" else None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit):
                await admission.respond(Nowhere(wire.request, record), refused)
    if fault.drop and not fault.positioned:
        await wire.drop(fault.drop)
    status, kind, body = fault.response()
    await wire.start(status, {"Content-Type": kind}, length=len(body))
    await wire.write(body)
    await wire.finish()
