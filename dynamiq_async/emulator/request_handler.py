"""Handles a request from its head to the end of its response: record, admission and faults."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from .core.body_limits import max_body_bytes
from .core.browsers import allow, browser_headers, is_preflight
from .core.faults import NO_FAULT
from .core.ids import new_hex
from .core.refusals import RefusalError
from .core.request_bodies import body_that_came, parse_into, read_body
from .core.request_record import RequestRecord
from .core.responding import respond
from .core.service import Admission
from .core.wire import Wire
from .routes import destination

if TYPE_CHECKING:
    from aiohttp import web

    from .app.names import AppNames
    from .app.state import AppState
    from .core.callers import Callers
    from .core.fault_rules import FaultRules
    from .core.fault_script import Script
    from .core.listener import Listener
    from .core.log import Log
    from .routes import Services


class RequestHandler:
    """Handles the requests of an emulator.

    Attributes:
        listener: the server that receives the requests.
        script, rules: where their faults come from; the script takes precedence.
    """

    listener: Listener
    script: Script
    rules: FaultRules

    def __init__(
        self,
        services: Services,
        apps: AppState,
        names: AppNames,
        callers: Callers,
        requests: Log[RequestRecord],
    ) -> None:
        self._services = services
        self._apps = apps
        self._names = names
        self._callers = callers
        self._requests = requests

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Respond to a request, and keep a record of it."""
        handler = cast("asyncio.Task[Any]", asyncio.current_task())
        self.listener.handlers.add(handler)
        record = self._record(request)
        admission = self._admit(record)
        try:
            refused = await self._read(request, record, admission.refused)
            wire = Wire(request, record, self._apps.flush)
            await respond(record, wire, admission, refused)
            return wire.response
        except BaseException:
            record.disconnected = request.transport is None and self.listener.running
            raise
        finally:
            self.listener.handlers.discard(handler)
            record.finish()
            self._apps.changes.notify()

    def _record(self, request: web.BaseRequest) -> RequestRecord:
        path, host = request.rel_url.raw_path, request.headers.get("Host")
        to = destination(host, path, self._services, self._names)
        record = RequestRecord(
            connection=self.listener.connections.heard(request.protocol),
            method=request.method,
            path=path,
            query=request.rel_url.query,
            headers=request.headers,
            app=self._names.shown(to.app),
            service=to.service,
            prefix=to.app,
            endpoint=to.endpoint,
            peer=request.remote or "",
            request_id=new_hex(),
        )
        record.browser_headers = browser_headers(record, self._callers.origins)
        return record

    def _admit(self, record: RequestRecord) -> Admission:
        """Admit or refuse a request by its head."""
        refused = self._callers.refused(record)
        if refused is None and is_preflight(record):
            return Admission(None, lambda wire, _: allow(wire, record.headers))
        host = self._names.without_app(record.headers.get("Host"))
        url = self.listener.url if host is None else f"{self.listener.scheme}://{host}"
        return self._services[record.service].admit(record, url, refused)

    async def _read(
        self, request: web.BaseRequest, record: RequestRecord, refused: RefusalError | None
    ) -> RefusalError | None:
        """Read the body. It is not parsed if the request was refused by its head."""
        folder, limit = self._apps.folder, max_body_bytes(self._apps.settings.max_file_bytes)
        try:
            body = body_that_came(request, limit)
            if body is None:
                async with asyncio.timeout(self.listener.read_timeout):
                    body = await read_body(request, folder, limit, keep=refused is None)
            if refused is None:
                parse_into(record, body)
            # The browser itself sends a preflight, before the request that it is about.
            if not (record.internal or is_preflight(record)):
                ruled = self.rules.take(record)
                record.fault = self.script.take(record) or ruled or NO_FAULT
            return refused
        except RefusalError as too_large:
            return refused or too_large
        except TimeoutError:
            return RefusalError(408, "request_timeout", "the body did not come in time")
        finally:
            if not record.internal:
                self._requests.add(record)
                self._apps.changes.notify()
