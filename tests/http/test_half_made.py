"""What a constructor that failed left behind can be shown: crash reports print every `self`."""

from __future__ import annotations

from typing import Any

import pytest

from dynamiq_async import AsyncApp, Upload
from dynamiq_async.errors import InvalidArgumentError
from dynamiq_async.flowy import AsyncFlowy
from dynamiq_async.management import AsyncManagement
from dynamiq_async.websocket import AppSocket


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (AsyncApp, {"host_or_url": "http://127.0.0.1:9", "access_key": "a b"}),
        (AsyncManagement, {"base_url": "ftp://x"}),
        (AsyncFlowy, {"base_url": "http://127.0.0.1:9", "api_key": "k", "proxy": 5}),
        (Upload, {"content": object()}),
        (Upload, {"content": b"", "mime_type": "\0"}),
    ],
)
def test_what_a_failed_constructor_left_has_a_repr(kind: Any, arguments: dict[str, Any]) -> None:
    made: list[Any] = []

    class Kept(kind):  # type: ignore[misc]
        __slots__ = ()

        def __new__(cls, *_: Any, **__: Any) -> Any:
            made.append(super().__new__(cls))
            return made[0]

    with pytest.raises(InvalidArgumentError):
        Kept(**arguments)
    assert repr(made[0]).startswith(("Kept(", "Upload("))


def test_a_socket_that_was_never_made_has_a_repr() -> None:
    assert "not made" in repr(AppSocket.__new__(AppSocket))
