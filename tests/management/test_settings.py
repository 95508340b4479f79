"""The URL, the token and the project: arguments, environment, the vendor's own files."""

from __future__ import annotations

import json
import os
import pickle
import traceback
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from dynamiq_async import AsyncManagement, Timeout, errors
from dynamiq_async._credentials import revealed
from dynamiq_async.emulator import DEFAULT_PROJECT, Emulator
from dynamiq_async.management.client import DEFAULT_URL
from dynamiq_async.management.settings import is_configured

from .conftest import KEY, TOKEN


def write(folder: Path, name: str, content: Any) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def shown(error: BaseException) -> str:
    """Everything that can be seen of an exception and of all that hangs on it."""
    chain = [error, error.__cause__, error.__context__]
    texts = [repr(vars(one)) + repr(one.args) for one in chain if one is not None]
    return "\n".join([*texts, *traceback.format_exception(error), repr(pickle.dumps(error))])


def test_an_argument_comes_first(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYNAMIQ_API_BASE_URL", "env.example")
    monkeypatch.setenv("DYNAMIQ_API_TOKEN", "env-token")
    monkeypatch.setenv("DYNAMIQ_PROJECT_ID", "env-project")
    project = UUID(DEFAULT_PROJECT)
    client = AsyncManagement("https://arg.example/x/", token="arg-token", project_id=project)
    assert client.url == "https://arg.example/x"
    assert revealed(client._api.sender.key or "") == "arg-token"
    assert client.project_id == DEFAULT_PROJECT


@pytest.mark.parametrize(
    ("variables", "url", "token"),
    [
        ({"DYNAMIQ_API_BASE_URL": "a.io", "DYNAMIQ_API_TOKEN": "t-1"}, "https://a.io", "t-1"),
        ({"DYNAMIQ_API_HOST": "https://b.io/", "DYNAMIQ_API_KEY": "t-2"}, "https://b.io", "t-2"),
        (
            {
                "DYNAMIQ_API_BASE_URL": "https://a.io",
                "DYNAMIQ_API_HOST": "b.io",
                "DYNAMIQ_API_TOKEN": "t-1",
                "DYNAMIQ_API_KEY": "t-2",
            },
            "https://a.io",
            "t-1",
        ),
        (
            {"DYNAMIQ_API_BASE_URL": "", "DYNAMIQ_API_HOST": "b.io", "DYNAMIQ_API_TOKEN": ""},
            "https://b.io",
            "stored",
        ),
        ({}, "https://stored.io", "stored"),
    ],
)
def test_the_environment_wins_over_the_files(
    variables: dict[str, str],
    url: str,
    token: str,
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write(config, "credentials.json", {"api_key": "stored", "api_host": "stored.io", "new": 1})
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    client = AsyncManagement()
    assert (client.url, revealed(client._api.sender.key or "")) == (url, token)
    assert is_configured()


def test_the_project_and_organisation(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = AsyncManagement(token=TOKEN)
    assert (client.url, client.project_id, client.org_id) == (DEFAULT_URL, None, None)
    write(config, "config.json", {"org_id": "o-1", "project_id": "p-1"})
    assert (client.project_id, client.org_id) == ("p-1", "o-1")
    monkeypatch.setenv("DYNAMIQ_PROJECT_ID", "p-2")
    monkeypatch.setenv("DYNAMIQ_ORG_ID", "o-2")
    assert (client.project_id, client.org_id) == ("p-2", "o-2")


@pytest.mark.parametrize("home", [None, ""])
def test_without_xdg_config_home_it_is_dot_config(
    home: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    if home is None:
        monkeypatch.delenv("XDG_CONFIG_HOME")
    else:
        monkeypatch.setenv("XDG_CONFIG_HOME", home)
    folder = tmp_path / ".config" / "dynamiq"
    folder.mkdir(parents=True)
    write(folder, "credentials.json", {"api_key": "at-home"})
    assert revealed(AsyncManagement()._api.sender.key or "") == "at-home"


def test_without_a_token_it_says_how_to_give_one(config: Path) -> None:
    assert not is_configured()
    with pytest.raises(errors.InvalidArgumentError, match="DYNAMIQ_API_TOKEN") as caught:
        AsyncManagement()
    assert caught.value.argument == "token"
    with pytest.raises(errors.InvalidArgumentError, match="no token"):
        AsyncManagement(token="")
    config.rmdir()
    config.touch()  # a file where the folder should be is no folder with a file in it
    assert not is_configured()


BROKEN = {
    "not JSON": b'{"api_key": "' + TOKEN.encode(),
    "not UTF-8": b'{"api_key": "' + TOKEN.encode() + b'\xff"}',
    "a list": [TOKEN],
    "a number": {"api_key": 5, "other": TOKEN},
    "an object": {"api_key": {"value": TOKEN}},
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_named_and_not_shown(content: Any, config: Path) -> None:
    path = write(config, "credentials.json", content)
    with pytest.raises(errors.InvalidArgumentError) as caught:
        AsyncManagement("api.example")
    assert str(path) in caught.value.message
    assert "DYNAMIQ_API_TOKEN" in caught.value.message
    assert caught.value.argument == "token"
    assert TOKEN not in shown(caught.value)


def test_a_file_that_cannot_be_read_is_named(config: Path) -> None:
    path = config / "credentials.json"
    path.mkdir()
    with pytest.raises(errors.InvalidArgumentError, match=r"credentials\.json cannot be used"):
        AsyncManagement()


def test_a_broken_file_does_no_harm_where_it_is_not_needed(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(config, "credentials.json", b"{")
    write(config, "config.json", b"{")
    monkeypatch.setenv("DYNAMIQ_API_HOST", "api.example")
    monkeypatch.setenv("DYNAMIQ_API_KEY", TOKEN)
    client = AsyncManagement()
    with pytest.raises(errors.InvalidArgumentError, match=r"config\.json"):
        client.apps.list()
    client.apps.list(project_id="p-1")
    # The file could hold another host, to which the token belongs.
    monkeypatch.delenv("DYNAMIQ_API_HOST")
    with pytest.raises(errors.InvalidArgumentError, match=r"credentials\.json"):
        AsyncManagement()


def test_a_token_does_not_go_over_plain_http(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYNAMIQ_API_TOKEN", TOKEN)
    monkeypatch.setenv("DYNAMIQ_API_HOST", "http://api.example")
    with pytest.raises(errors.InvalidArgumentError, match="plain http") as caught:
        AsyncManagement()
    assert caught.value.argument == "base_url"
    assert AsyncManagement(allow_http=True).url == "http://api.example"
    assert AsyncManagement("http://127.0.0.1:8787").url == "http://127.0.0.1:8787"


@pytest.mark.parametrize("bad", ["", "ftp://x.io", "u:p@x.io", "x.io?y", 5])
def test_a_base_url_that_is_none(bad: Any) -> None:
    with pytest.raises(errors.InvalidArgumentError) as caught:
        AsyncManagement(bad, token=TOKEN)
    assert caught.value.argument == "base_url"


@pytest.mark.parametrize("bad", [f"{TOKEN}\n", f'"{TOKEN}ü"', 5])
def test_a_wrong_token_is_not_repeated(bad: Any) -> None:
    with pytest.raises(errors.InvalidArgumentError) as caught:
        AsyncManagement(token=bad)
    assert caught.value.argument == "token"
    assert TOKEN not in shown(caught.value)


def test_an_empty_project_is_none() -> None:
    with pytest.raises(errors.InvalidArgumentError) as caught:
        AsyncManagement(token=TOKEN, project_id="")
    assert caught.value.argument == "project_id"


def test_a_response_is_not_waited_for_as_long_as_a_run() -> None:
    client = AsyncManagement(token=TOKEN)
    assert client._api.options.timeout == Timeout(first_byte=30, idle=30)
    assert AsyncManagement(token=TOKEN, timeout=None)._api.options.timeout.first_byte is None
    assert AsyncManagement(token=TOKEN, timeout=90)._api.options.timeout.total == 90
    client = pickle.loads(pickle.dumps(client))
    assert client._api.options.timeout.first_byte == 30


# --- pickles and views ---------------------------------------------------------------------------


def test_a_client_pickles_without_its_token(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = AsyncManagement(
        "http://api.example/x",
        token=TOKEN,
        project_id="p-1",
        timeout=5,
        max_retries=7,
        headers={"X-A": "1", "Authorization": f"Bearer {TOKEN}"},
        trust_env=True,
        allow_http=True,
    )
    assert TOKEN not in f"{client!r}{client.apps!r}{client.open('x')!r}"
    pickled = pickle.dumps(client.with_options(max_retries=3))
    assert TOKEN.encode() not in pickled
    without = pickle.loads(pickled)
    assert (without.url, without._api.sender.key) == ("http://api.example/x", None)
    assert without.project_id == "p-1"
    assert without._api.options.policy.max_retries == 3
    assert without._api.headers == {"X-A": "1"}
    assert without._api.options.timeout.total == 5
    assert without._settings == client._settings
    assert without._settings["trust_env"]
    assert without._settings["allow_http"]
    write(config, "credentials.json", b"{")
    assert pickle.loads(pickled)._api.sender.key is None  # requests fail without it, not unpickling
    monkeypatch.setenv("DYNAMIQ_API_TOKEN", "another")
    assert revealed(pickle.loads(pickled)._api.sender.key) == "another"
    public = pickle.dumps(AsyncManagement("api.example", token=False))
    assert pickle.loads(public)._api.sender.key is None


async def test_a_client_without_a_token_says_so_when_it_is_refused(emulator: Emulator) -> None:
    async with AsyncManagement(emulator.management_url, token=False) as client:
        with pytest.raises(errors.AuthenticationError) as caught:
            await client.apps.get("a-1")
    assert "no token was sent: set DYNAMIQ_API_TOKEN or pass token" in caught.value.message
    assert "Authorization" not in emulator.requests[0].headers


async def test_everything_from_the_files(emulator: Emulator, config: Path) -> None:
    """Whoever has the vendor's command line set up needs nothing more."""
    host = {"api_key": TOKEN, "api_host": emulator.management_url}
    write(config, "credentials.json", host)
    write(config, "config.json", {"project_id": DEFAULT_PROJECT, "org_id": "o-1"})
    os.environ["DYNAMIQ_ACCESS_KEY"] = KEY
    try:
        async with AsyncManagement() as management, management.open("echo") as app:
            assert await app.invoke({"a": 1})
    finally:
        del os.environ["DYNAMIQ_ACCESS_KEY"]
    assert [seen.headers["Authorization"] for seen in emulator.requests] == [
        f"Bearer {TOKEN}",
        f"Bearer {KEY}",
    ]
