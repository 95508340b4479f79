"""`management.sessions`: the conversations of an App, and their messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from msgspec import Struct

from dynamiq_async import _json
from dynamiq_async.management.lists import ListOptions, app_path, pages_of, reader
from dynamiq_async.options import check_id

if TYPE_CHECKING:
    from uuid import UUID

    from dynamiq_async._http.api import Api
    from dynamiq_async._http.paging import Pages
    from dynamiq_async.management.models import App


class Session(_json.KeepsRaw, Struct, frozen=True, kw_only=True):
    """A conversation with an App. Its fields are not documented: all except `id` are our guess, and
    `raw` has everything that came. Times are RFC 3339 texts."""

    id: str | None = None
    user_id: str | None = None
    created_at: str | None = None
    updated_at: str | None = None


class SessionMessage(_json.KeepsRaw, Struct, frozen=True, kw_only=True):
    """One call of a conversation (documented by the vendor).

    Attributes:
        input, output: the message, and the App's answer.
        created_at: an RFC 3339 text.
        trace_id: the id of the call's trace, for `management.traces.get`.
    """

    id: str | None = None
    input: Any = None
    output: Any = None
    created_at: str | None = None
    trace_id: str | None = None


_read_session = reader(Session)
_read_message = reader(SessionMessage)


class Sessions:
    """The conversations of Apps, as `management.sessions`."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def list(self, app: App | str | UUID, **options: Unpack[ListOptions]) -> Pages[Session]:
        """An App's conversations. Await the result for one page, or iterate it for all.

        Args:
            app: the App or its id.
            options: the arguments that all lists share; see `ListOptions`.

        Raises:
            InvalidArgumentError: an argument cannot be used. Awaiting and iterating raise what
                `AsyncApp.invoke` raises, such as NotFoundError.
        """
        path = (*app_path(app), "sessions")
        return pages_of(self._api, path, _read_session, "session", **options)

    def messages(
        self, app: App | str | UUID, session_id: str | UUID, **options: Unpack[ListOptions]
    ) -> Pages[SessionMessage]:
        """The messages of a conversation. Await the result for one page, or iterate it for all.

        Args:
            app: the App or its id.
            session_id: the id of the conversation, as passed to calls.
            options: as for `list`.

        Raises what `list` raises.
        """
        path = (*app_path(app), "sessions", check_id(session_id, "session_id"), "messages")
        return pages_of(self._api, path, _read_message, "message", **options)
