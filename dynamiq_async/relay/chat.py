"""The content of a page's request, from any frontend library: text, files, answers.

All of it comes from a browser, so do not trust it: the chat's id may be another user's, and the
history and a question's id may be made up. The readers limit sizes and check types.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes
from uuid import NAMESPACE_URL, UUID, uuid5

from msgspec import Struct

from dynamiq_async.errors import InvalidArgumentError
from dynamiq_async.relay.problems import refused

_SESSIONS = uuid5(NAMESPACE_URL, "https://docs.getdynamiq.ai/#chats")
_DATA_URL = re.compile(r"data:([^,;]*)((?:;[^,;]*)*),", re.IGNORECASE)


class ChatFile(Struct, frozen=True, kw_only=True):
    """A file that a page sent.

    Attributes:
        url: a `data:` URL with the content, or an address. The browser chooses the address, so
            fetching it would let the browser reach into your network.
        media_type: as the page sent it.
        filename: as the page sent it; `""` if it sent none.
    """

    url: str
    media_type: str = ""
    filename: str = ""

    @property
    def content(self) -> bytes | None:
        """The bytes of a `data:` URL; None for any other URL.

        Raises:
            RefusedRequestError: the URL is broken.
        """
        match = _DATA_URL.match(self.url)
        if match is None:
            if self.url[:5].lower() == "data:":
                raise refused("A file's data: URL is broken.")
            return None
        data = unquote_to_bytes(self.url[match.end() :])
        if not match[2].lower().endswith(";base64"):
            return data
        try:
            return base64.b64decode(data, validate=True)
        except binascii.Error:
            raise refused("A file's data: URL is broken.") from None


class ChatAnswer(Struct, frozen=True, kw_only=True):
    """A person's answer to a question of a run.

    Attributes:
        question: the question's id, `<run id>:<sequence>`. It is no secret, and the browser chose
            it: check that the run belongs to this user.
        approved: the answer to an approval; None if the question asked for a text.
        text: the text, or a remark on an approval; None if there is none.
        params: all parameters of an approval, as edited; None if the page sent none.
    """

    question: str
    approved: bool | None = None
    text: str | None = None
    params: dict[str, Any] | None = None


class Chat(Struct, frozen=True, kw_only=True):
    """A page's request.

    Attributes:
        id: the chat's id, which the browser chose.
        text: the person's newest text; `""` if there is none.
        files: the files of the newest message.
        answers: the answers to a run's questions. A request with answers starts no run.
        is_retry: whether the page asks for another answer to the same text.
        user: the user that the routes' `owner` returned; `""` before that.
        run_id: the id that the page gave its request (AG-UI only).
        protocol_version: the version of AG-UI that the page speaks; None before 1.0.
        extra: the other fields of the body, as they came.
    """

    id: str
    text: str = ""
    files: list[ChatFile] = []
    answers: list[ChatAnswer] = []
    is_retry: bool = False
    user: str = ""
    run_id: str | None = None
    protocol_version: str | None = None
    extra: dict[str, Any] = {}


class Start(NamedTuple):
    """How to start a run: the App's input, and options of `Runs.create` such as `file_ids`."""

    input: Any
    options: Mapping[str, Any] = MappingProxyType({})


def session_for(user: str, chat_id: str) -> UUID:
    """The session of a user's chat: a UUID that depends on both texts and nothing else.

    The browser chooses a chat's id. Because the session depends on the user too, nobody can reach
    another user's runs by choosing that user's chat id.

    Args:
        user: your backend's id of the user.
        chat_id: the chat's id.

    Raises:
        InvalidArgumentError: one of them is empty, or not a text.
    """
    for name, value in (("user", user), ("chat_id", chat_id)):
        if not isinstance(value, str) or not value:
            raise InvalidArgumentError(f"{name} must be a text that is not empty", argument=name)
    return uuid5(uuid5(_SESSIONS, _whole(user)), _whole(chat_id))


def _whole(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
