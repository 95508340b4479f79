"""What a constructor that failed left behind can be shown: crash reports print every `self`."""

from __future__ import annotations

from typing import Any

import pytest

from dynamiq_async import AsyncApp, Upload
from dynamiq_async.callbacks import CallbackInbox, CallbackReceiver, CallbackVerifier
from dynamiq_async.emulator import DEFAULT_PROJECT, Emulator
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


KEY = "dynamiq_acc_very-secret"
URL = "http://127.0.0.1:9"


@pytest.mark.parametrize("key", [KEY, f"{KEY}\n", f"{KEY}\u00e9"])
@pytest.mark.parametrize("wrong", [{}, {"timeout": -1}, {"proxy": 5}, {"max_retries": "2"}])
@pytest.mark.parametrize(
    ("kind", "key_argument", "arguments"),
    [
        (AsyncApp, "access_key", {"host_or_url": URL}),
        (AsyncApp, "access_key", {"host_or_url": "ftp://x"}),
        (AsyncApp, "access_key", {"host_or_url": URL, "final_event": "x"}),
        (AsyncManagement, "token", {"base_url": URL}),
        (AsyncManagement, "token", {"base_url": "ftp://x"}),
        (AsyncManagement, "token", {"base_url": URL, "project_id": ""}),
        (AsyncFlowy, "api_key", {"base_url": URL}),
        (AsyncFlowy, "api_key", {"base_url": URL, "max_runs": 0}),
        (AsyncFlowy, "api_key", {"base_url": URL, "max_downloads": 0}),
    ],
)
def test_no_frame_of_a_failed_constructor_holds_the_key(
    kind: Any, key_argument: str, arguments: dict[str, Any], wrong: dict[str, Any], key: str
) -> None:
    if key == KEY and arguments in ({"host_or_url": URL}, {"base_url": URL}) and not wrong:
        wrong = {"headers": 5}
    with pytest.raises(InvalidArgumentError) as caught:
        kind(**arguments, **wrong, **{key_argument: key})
    assert held_by_frames(caught.value) == []


def test_no_frame_holds_a_key_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYNAMIQ_ACCESS_KEY", f"{KEY}\n")
    with pytest.raises(InvalidArgumentError) as caught:
        AsyncApp(URL)
    assert held_by_frames(caught.value) == []


@pytest.mark.parametrize(
    "make",
    [
        lambda: CallbackInbox(token=KEY, port=-1),
        lambda: CallbackInbox(token=f"{KEY} ", max_results=1),
        lambda: CallbackVerifier(tokens=KEY, max_body_bytes=0),
        lambda: CallbackVerifier(tokens=[KEY, f"{KEY}\n"]),
        lambda: CallbackReceiver(tokens=(KEY,), on_result=None),  # type: ignore[arg-type]
        lambda: CallbackReceiver(tokens=[KEY], on_result=print, max_wait=-1),
    ],
)
def test_no_frame_of_a_failed_constructor_holds_a_callbacks_token(make: Any) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        make()
    assert held_by_frames(caught.value) == []


async def test_no_frame_holds_the_key_where_an_app_cannot_be_opened() -> None:
    async with Emulator("echo") as emulator:
        management = AsyncManagement(emulator.management_url, token=emulator.management.token)
        async with management:
            [app, *_] = [app async for app in management.apps.list(project_id=DEFAULT_PROJECT)]
            with pytest.raises(InvalidArgumentError) as caught:
                await management.open(app, access_key=KEY, timeout=-1)
    assert held_by_frames(caught.value) == []


def held_by_frames(error: BaseException) -> list[tuple[str, str]]:
    """The local variables, of all frames but the tests', whose value shows the key."""
    held = []
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if "tests" not in code.co_filename:
            shown = trace.tb_frame.f_locals.items()
            held += [(code.co_qualname, name) for name, value in shown if KEY in repr(value)]
        trace = trace.tb_next
    return held
