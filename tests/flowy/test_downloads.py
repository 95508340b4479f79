"""Outputs come whole or not at all, and the key goes nowhere."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from dynamiq_async import AsyncFlowy, FlowyOutput, downloads, errors
from dynamiq_async.emulator import Fault, FlowyApp, FlowyContent
from dynamiq_async.options import Timeout

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from dynamiq_async.transport import Request, Response

    from .conftest import Serve, Served

BIG = bytes(range(256)) * 4 * 4096  # 4 MiB


def serves(content: bytes, name: str = "poster.png", media_type: str = "image/png") -> FlowyApp:
    """An app that makes this."""
    what = FlowyContent(content=content, name=name, media_type=media_type)
    return FlowyApp(id="any", title="Any", make=lambda _: {"out-1": what})


async def output_of(flowy: Served, content: bytes = BIG, **what: str) -> FlowyOutput:
    flowy.service.apps["any"] = serves(content, **what)
    return (await flowy.client.run("any", check=False)).output()


def script(flowy: Served, *faults: Fault, times: int | None = 1) -> None:
    flowy.emulator.script(*faults, match=lambda seen: seen.service == "flowy-files", times=times)


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- destinations ---------------------------------------------------------------------------


async def test_an_output_is_saved_under_the_name_that_is_given(
    flowy: Served, tmp_path: Path
) -> None:
    output = await output_of(flowy)
    path = tmp_path / "made.png"
    path.write_bytes(b"old")
    assert await output.save(path) == path
    assert path.read_bytes() == BIG
    assert await output.save(str(path)) == path
    assert files_in(tmp_path) == ["made.png"]


async def test_in_a_folder_it_is_named_after_its_link(flowy: Served, tmp_path: Path) -> None:
    output = await output_of(flowy, b"x")
    saved = [await output.save(tmp_path) for _ in range(3)]
    assert [path.name for path in saved] == ["poster.png", "poster-2.png", "poster-3.png"]
    assert files_in(tmp_path) == sorted(path.name for path in saved)


async def test_an_output_is_read_into_memory(flowy: Served) -> None:
    assert await (await output_of(flowy)).read() == BIG
    assert await (await output_of(flowy, b"")).read() == b""


async def test_a_text_is_written_as_a_text(flowy: Served, tmp_path: Path) -> None:
    output = (await flowy.client.run("haiku", {"Topic": "ein Käfer"})).output()
    path = await output.save(tmp_path)
    assert path.name == "text-1.txt"
    assert path.read_text("utf-8") == output.text
    reported: list[Any] = []
    content = await output.read(progress=lambda *numbers: reported.append(numbers))
    assert content.decode() == output.text
    assert reported == [(len(content), len(content))]
    with pytest.raises(errors.ResponseTooLargeError):
        await output.save(tmp_path / "b.txt", max_bytes=3)
    assert not flowy.downloads
    assert files_in(tmp_path) == ["text-1.txt"]


async def test_the_file_has_the_permissions_of_any_new_file(flowy: Served, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.touch()
    saved = await (await output_of(flowy, b"x")).save(tmp_path / "made")
    assert saved.stat().st_mode == other.stat().st_mode


@pytest.mark.parametrize("path", ["no/such/folder/x.png", "new/", b"bytes", None, "\0"])
async def test_a_path_that_cannot_be_is_refused_before_anything_is_sent(
    flowy: Served, tmp_path: Path, path: Any
) -> None:
    output = await output_of(flowy, b"x")
    there = os.path.join(tmp_path, path) if isinstance(path, str) else path  # noqa: PTH118
    with pytest.raises(errors.InvalidArgumentError) as caught:
        await output.save(there)
    assert caught.value.argument == "path"
    assert not flowy.downloads


async def test_a_folder_that_cannot_be_written_to_is_found_before_anything_is_sent(
    flowy: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    output = await output_of(flowy, b"x")
    monkeypatch.setattr(downloads.files, "create", refuse)
    with pytest.raises(PermissionError):
        await output.save(tmp_path / "x.png")
    assert not flowy.downloads


async def test_a_full_disk_leaves_nothing(
    flowy: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: Any) -> None:
        raise OSError(28, "No space left on device")

    output = await output_of(flowy)
    monkeypatch.setattr(downloads.PartFile, "_flush", full)
    with pytest.raises(OSError, match="No space left"):
        await output.save(tmp_path / "x.png")
    assert files_in(tmp_path) == []


async def test_a_disk_that_is_full_in_the_end_leaves_no_empty_file_either(
    flowy: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: Any) -> None:
        raise OSError(28, "No space left on device")

    output = await output_of(flowy, b"x")
    monkeypatch.setattr(downloads.PartFile, "_flush", full)
    with pytest.raises(OSError, match="No space left"):
        await output.save(tmp_path)
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("text", ["", "A poster."])
async def test_a_text_beside_a_link_is_the_content_of_texts_only(flowy: Served, text: str) -> None:
    image = await output_of(flowy, b"x")
    outputs = [
        {"nodeId": "n", "kind": kind, "url": image.url, "text": text} for kind in ("image", "text")
    ]
    shown = {"runId": "r", "status": "completed", "outputs": outputs}
    flowy.emulator.script(Fault(body={"data": shown}), match="GET /runs/*")
    run = await flowy.client.runs.get("r")
    assert [await output.read() for output in run.outputs] == [b"x", text.encode()]


@pytest.mark.parametrize("wrong", [{"max_bytes": 0}, {"timeout": 0}, {"timeout": -1}])
async def test_limits_that_are_none_are_refused(
    flowy: Served, tmp_path: Path, wrong: dict[str, Any]
) -> None:
    output = await output_of(flowy, b"x")
    for call in (output.read(**wrong), output.save(tmp_path / "x", **wrong)):
        with pytest.raises(errors.InvalidArgumentError) as caught:
            await call
        assert caught.value.argument == next(iter(wrong))
    assert files_in(tmp_path) == []


@pytest.mark.parametrize(
    ("url", "media_type", "name"),
    [
        ("https://h/a/cat.png?sig=1", "image/png", "cat.png"),
        ("https://h/a/..%2F..%2Fetc%2Fpasswd", "", "passwd"),
        ("https://h/a/%2e%2e", "image/png", "node.png"),
        ("https://h/a/..%5C..%5Cx.png", "", "x.png"),
        ("https://h/.bashrc", "", "bashrc"),
        ("https://h/a%00b%0Ac:d*.png", "", "a_b_c_d_.png"),
        ("https://h/con.png", "", "_con.png"),
        ("https://h/CONIN$", "", "_CONIN$"),
        ("https://h/conout$.txt", "", "_conout$.txt"),
        ("https://h/clock$.a", "", "_clock$.a"),
        ("https://h/COM%C2%B9.png", "", "_COM\u00b9.png"),
        ("https://h/lpt%C2%B3", "", "_lpt\u00b3"),
        ("https://h/nul%20.png", "", "_nul .png"),
        ("https://h/-rf.png", "", "_-rf.png"),
        ("https://h/.-rf.png", "", "_-rf.png"),
        ("https://h/a%E2%80%AEgnp.exe", "", "a_gnp.exe"),
        ("https://h/a%E2%81%A6%E2%80%8F%E2%80%8B%EF%BB%BF.png", "", "a____.png"),
        ("https://h/a%E2%80%A8b%E2%80%A9c%C2%9B.png", "", "a_b_c_.png"),
        ("https://h/" + "x" * 400 + ".png", "", "x" * 146 + ".png"),
        ("https://h/" + "%C3%A4" * 200 + ".png", "", "ä" * 73 + ".png"),
        ("https://h/a." + "x" * 200, "", "a." + "x" * 148),
        ("https://h/", "video/mp4", "node.mp4"),
        ("https://h/file", "video/mp4", "file.mp4"),
        ("https://h/file", "no/such", "file"),
        ("https://h/a%E2%81%A6b%EF%BB%BF.png", "", "a_b_.png"),
        ("https://h/CONIN$.txt", "", "_CONIN$.txt"),
        ("https://h/com%C2%B9", "no/such", "_com¹"),
        ("https://h/nul%20.txt", "", "_nul .txt"),
    ],
)
def test_a_name_never_leads_out_of_its_folder(url: str, media_type: str, name: str) -> None:
    assert downloads.file_name(url, media_type, "node") == name


def test_there_is_a_name_where_nothing_gives_one() -> None:
    assert downloads.file_name("https://h/", "", "..") == "output"
    assert downloads.file_name("https://h/", "", "a/b\\c") == "a_b_c"


# --- what other hosts and logs get to see -----------------------------------------------------


async def test_neither_the_key_nor_any_header_goes_to_the_other_host(serve: Serve) -> None:
    flowy = await serve(headers={"X-Team": "secret", "Cookie": "session=1"})
    assert await (await output_of(flowy, b"x")).read() == b"x"
    (seen,) = flowy.downloads
    assert seen.headers["Host"].startswith("localhost:")
    assert set(seen.headers) == {"Host", "User-Agent", "Accept", "Accept-Encoding"}


async def test_not_even_where_the_link_leads_to_the_api(flowy: Served) -> None:
    shown = {
        "runId": "r",
        "status": "completed",
        "outputs": [{"nodeId": "n", "kind": "image", "url": f"{flowy.client.url}/apps"}],
    }
    flowy.emulator.script(Fault(body={"data": shown}), match="GET /runs/*")
    output = (await flowy.client.runs.get("r")).output()
    with pytest.raises(errors.AuthenticationError):
        await output.read()
    assert "Authorization" not in flowy.requests("GET", "/apps")[-1].headers


async def test_the_query_of_a_link_is_shown_nowhere(flowy: Served) -> None:
    output = await output_of(flowy, b"x")
    assert output.url is not None
    signature = output.url.partition("signature=")[2]
    assert signature
    assert signature not in repr(output)
    script(flowy, Fault(status=500), times=None)
    with pytest.raises(errors.InternalServerError) as caught:
        await output.read()
    assert signature not in f"{caught.value!r}{caught.value.url}{caught.value.__cause__!r}"


# --- redirects and addresses -----------------------------------------------------------------


async def test_redirects_are_followed(flowy: Served, tmp_path: Path) -> None:
    output = await output_of(flowy, b"x")
    assert output.url is not None
    script(flowy, Fault(status=302, headers={"Location": output.url}))
    assert await output.read() == b"x"
    path = output.url.partition("?")[2]
    script(flowy, Fault(status=307, headers={"Location": f"poster.png?{path}"}))
    assert (await output.save(tmp_path)).read_bytes() == b"x"


async def test_but_not_for_ever_and_not_to_anywhere(flowy: Served) -> None:
    output = await output_of(flowy, b"x")
    assert output.url is not None
    script(flowy, Fault(status=302, headers={"Location": output.url}), times=None)
    with pytest.raises(errors.RedirectError, match="more than 3 redirects"):
        await output.read()
    flowy.emulator.reset()
    script(flowy, Fault(status=302))
    with pytest.raises(errors.RedirectError, match="answered 302"):
        await output.read()
    for place in ("http://example.com/x", "file:///etc/passwd", "https://a:b@h/", "http://[x"):
        script(flowy, Fault(status=302, headers={"Location": place}))
        with pytest.raises(errors.APIResponseError, match="must be an https URL"):
            await output.read()


LOOPBACK_NAMES = [
    "127.0.0.1",
    "127.1",
    "0x7f.1",
    "2130706433",
    "017700000001",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "foo.localhost",
    "LOCALHOST.",
]
PRIVATE_NAMES = [
    "10.0.0.1",
    "169.254.169.254",
    "[fd00::1]",
    "[64:ff9b::10.0.0.1]",
    "db",
    "x.internal",
]


PUBLIC = "https://files.example.com/x"


class PublicHosts:
    """A transport to a public API with one run, whose output has `link`, and to a public host of
    files that redirects to `location`."""

    def __init__(self, link: str, location: str | None = None) -> None:
        output = {"nodeId": "n", "kind": "image", "url": link}
        shown = {"runId": "r", "status": "completed", "outputs": [output]}
        self._run = json.dumps({"data": shown}).encode()
        self._location = location
        self.files: list[str] = []

    async def send(self, request: Request, *, connect_timeout: float | None) -> Response:
        if request.url.startswith("https://api.example.com/"):
            return Whole(200, {"Content-Type": "application/json"}, self._run)
        self.files.append(request.url)
        if self._location is None:
            return Whole(200, {}, b"x")
        return Whole(302, {"Location": self._location}, b"")

    async def aclose(self) -> None: ...


class Whole:
    """A response whose body is at hand."""

    framed = True

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status, self.headers, self._body = status, headers, body

    async def read(self) -> bytes:
        body, self._body = self._body, b""
        return body

    def close(self) -> None: ...


async def read_from(transport: PublicHosts) -> bytes:
    async with AsyncFlowy("k", "https://api.example.com", transport=transport) as flowy:
        return await (await flowy.runs.get("r")).output().read()


@pytest.mark.parametrize("host", LOOPBACK_NAMES + PRIVATE_NAMES)
async def test_a_public_host_gives_no_link_to_this_machine_or_its_network(host: str) -> None:
    inner = f"https://{host}/admin?delete=all"
    for transport, asked in (
        (PublicHosts(inner), []),
        (PublicHosts(PUBLIC, inner), [PUBLIC]),
    ):
        with pytest.raises(errors.APIResponseError, match=r"not followed: it leads to (this|a p)"):
            await read_from(transport)
        assert transport.files == asked


@pytest.mark.parametrize(
    "link", ["https://files.example.com\\@127.0.0.1/x", "https:\\\\127.0.0.1/x", "https://a%40b/x"]
)
async def test_a_link_that_parsers_read_differently_is_not_followed(link: str) -> None:
    transport = PublicHosts(link)
    with pytest.raises(errors.APIResponseError, match="must be an https URL"):
        await read_from(transport)
    assert not transport.files


async def test_a_public_link_is_followed() -> None:
    assert await read_from(PublicHosts(PUBLIC)) == b"x"


@pytest.mark.parametrize("url", ["ftp://h/x", "http://example.com/x", "x", "https://h:99999/"])
async def test_a_link_that_is_not_https_is_not_followed(flowy: Served, url: str) -> None:
    output = await output_of(flowy, b"x")
    other = FlowyOutput(node_id="n", url=url)
    other.bind(output._get_loader())
    with pytest.raises(errors.APIResponseError, match="must be an https URL"):
        await other.read()


class Elsewhere:
    """A transport to an API and hosts that are not here: it knows what each responds."""

    def __init__(self, responses: dict[str, tuple[int, dict[str, str], bytes]]) -> None:
        self.responses = responses
        self.asked: list[str] = []

    async def send(self, request: Any, *, connect_timeout: float | None) -> Any:
        self.asked.append(request.url)
        return Answer(*self.responses[request.url])

    async def aclose(self) -> None:
        pass


class Answer:
    framed = True

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self._pieces = [body] if body else []

    async def read(self) -> bytes:
        return self._pieces.pop() if self._pieces else b""

    def close(self) -> None:
        self._pieces.clear()


HERE = (
    *("127.0.0.1", "127.1", "127.9.9.9", "0x7f.1", "0177.1", "2130706433", "0", "0.0.0.0"),
    *("localhost", "LOCALHOST", "foo.localhost", "localhost.", "127.0.0.1.", "ip6-localhost"),
    *("localhost.localdomain", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::127.0.0.1]"),
    *("[64:ff9b::7f00:1]", "[2002:7f00:1::]"),
)
PRIVATE = (
    *("10.0.0.1", "10.1", "192.168.1.1", "169.254.169.254", "0xa9fea9fe", "100.64.0.1"),
    *("224.0.0.1", "[fd00::1]", "[fe80::1]", "[64:ff9b::a00:1]", "metadata", "nas.local"),
    *("metadata.google.internal", "1.2.3.4.5", "999.999.999.999"),
)
API = "https://api.example"


async def link_elsewhere(
    url: str, api: str = API, location: str | None = None, *, refused: bool = False
) -> tuple[bytes, list[str]]:
    """What an output has whose link is `url`, from an API at `api`, and what was asked for; or the
    refusal of the link, or of the location that it redirects to, which must not be asked for."""
    told = {
        "runId": "r",
        "status": "completed",
        "outputs": [{"nodeId": "n", "kind": "image", "url": url}],
    }
    json = {"content-type": "application/json"}
    responses = {f"{api}/runs/r": (200, json, msgspec.json.encode({"data": told}))}
    responses[url] = (200, {}, b"x")
    if location is not None:
        responses |= {url: (302, {"location": location}, b""), location: (200, {}, b"moved")}
    there = Elsewhere(responses)
    async with AsyncFlowy("k", api, transport=there, allow_http=True) as client:
        output = (await client.runs.get("r")).output()
        if not refused:
            return await output.read(), there.asked
        with pytest.raises(errors.APIResponseError) as caught:
            await output.read()
    assert there.asked == [f"{api}/runs/r", *([] if location is None else [url])]
    return str(caught.value).encode(), there.asked


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("host", [*HERE, *PRIVATE])
async def test_what_is_public_leads_to_nothing_that_is_not(host: str, scheme: str) -> None:
    there = f"{scheme}://{host}/admin?delete=all"
    await link_elsewhere(there, refused=True)
    for api in (API, "http://127.0.0.1:1"):
        await link_elsewhere("https://files.example/x", api, there, refused=True)


@pytest.mark.parametrize("host", HERE)
async def test_what_is_private_does_not_lead_here(host: str) -> None:
    message, _ = await link_elsewhere(f"https://{host}/x", "http://10.0.0.1", refused=True)
    assert b"this machine" in message


@pytest.mark.parametrize(
    "link",
    [
        "https://files.example\\@127.0.0.1/x",
        "https://127.0.0.1\\@files.example/x",
        "https:\\\\127.0.0.1/x",
        "https://\\127.0.0.1/x",
        "https://loc%61lhost/x",
        "https://%31%32%37.0.0.1/x",
        "https://\uff11\uff12\uff17.0.0.1/x",
        "https://\u24dbocalhost/x",
        "https://127\u30020\u30020\u30021/x",
        "https://[fe80::1%25lo]/x",
        "https://127.0.0.1\t/x",
    ],
)
async def test_a_host_that_can_be_read_in_two_ways_is_not_asked(link: str) -> None:
    for api in (API, "http://127.0.0.1:1"):
        await link_elsewhere(link, api, refused=True)
    await link_elsewhere("https://files.example/x", location=link, refused=True)


@pytest.mark.parametrize(
    ("api", "link"),
    [
        (API, "https://files.example/x"),
        (API, "https://1.1.1.1/x"),
        (API, "https://[2606:4700::1111]/x"),
        (API, "https://localhost.example/x"),
        ("http://10.0.0.1", "https://192.168.1.1/x"),
        ("http://flowy", "https://storage/x"),
        ("http://127.0.0.1:1", "http://foo.localhost/x"),
        ("http://127.0.0.1:1", "https://10.0.0.1/x"),
    ],
)
async def test_a_link_leads_as_near_as_the_api_is(api: str, link: str) -> None:
    assert await link_elsewhere(link, api) == (b"x", [f"{api}/runs/r", link])
    moved, asked = await link_elsewhere(link, api, "https://files.example/y")
    assert (moved, asked[2:]) == (b"moved", ["https://files.example/y"])


async def test_an_output_without_content_says_so(flowy: Served) -> None:
    output = await output_of(flowy, b"x")
    other = FlowyOutput(node_id="n")
    other.bind(output._get_loader())
    with pytest.raises(errors.OutputMissingError, match="neither a text nor a link"):
        await other.read()


async def test_an_output_without_a_client_says_so(flowy: Served) -> None:
    output = pickle.loads(pickle.dumps(await output_of(flowy, b"x")))
    with pytest.raises(errors.OutputMissingError, match=r"flowy\.runs\.get"):
        await output.read()


# --- links that expire -----------------------------------------------------------------------


async def test_a_link_that_has_expired_is_exchanged_for_a_fresh_one(
    flowy: Served, tmp_path: Path
) -> None:
    output = await output_of(flowy, b"x")
    flowy.clock.time += 601
    assert (await output.save(tmp_path / "x.png")).read_bytes() == b"x"
    assert [seen.status for seen in flowy.downloads] == [403, 200]
    assert len(flowy.requests("GET", "/runs")) == 2


@pytest.mark.parametrize("status", [400, 403, 404, 410])
async def test_where_there_is_none_the_error_says_what_happened(
    flowy: Served, tmp_path: Path, status: int
) -> None:
    output = await output_of(flowy, b"x")
    script(flowy, Fault(status=status, body="<Error><Code>Expired</Code></Error>"))
    with pytest.raises(errors.APIStatusError, match="has expired or is refused") as caught:
        await output.save(tmp_path / "x.png")
    assert caught.value.status == status
    assert caught.value.run_id in flowy.service.runs
    assert "Expired" in str(caught.value)
    assert "key" not in str(caught.value)
    assert files_in(tmp_path) == []


async def test_the_same_when_the_run_cannot_be_asked(flowy: Served) -> None:
    output = await output_of(flowy, b"x")
    flowy.service.runs.clear()
    with pytest.raises(errors.NotFoundError, match="does not exist"):
        await output.read()


async def test_a_fresh_link_is_that_of_the_same_output(flowy: Served) -> None:
    made = {
        f"out-{n}": FlowyContent(content=b"%d" % n, kind="image" if n < 3 else "video")
        for n in (1, 2, 3)
    }
    flowy.service.apps["any"] = FlowyApp(id="any", title="Any", make=lambda _: made)
    run = await flowy.client.run("any", check=False)
    flowy.clock.time += 601
    assert [await output.read() for output in run.outputs] == [b"1", b"2", b"3"]
    (record,) = flowy.service.runs.values()
    record.outputs = dict(reversed(made.items()))
    flowy.clock.time += 601
    assert [await output.read() for output in run.outputs] == [b"1", b"2", b"3"]


# --- what may go wrong on the way ------------------------------------------------------------


async def test_a_download_that_breaks_is_begun_again(flowy: Served, tmp_path: Path) -> None:
    output = await output_of(flowy)
    script(flowy, Fault(at_byte=3 * 1024 * 1024, drop="reset"), Fault(status=503))
    assert (await output.save(tmp_path / "x.png")).read_bytes() == BIG
    assert len(flowy.downloads) == 3
    script(flowy, Fault(at_byte=1024, drop="close"))
    assert await output.read() == BIG


async def test_one_that_is_cut_short_leaves_nothing(serve: Serve, tmp_path: Path) -> None:
    flowy = await serve(max_retries=0)
    output = await output_of(flowy)
    script(flowy, Fault(at_byte=3 * 1024 * 1024, drop="close"))
    with pytest.raises(errors.APIConnectionError):
        await output.save(tmp_path / "x.png")
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("status", [201, 202, 204, 205, 206, 207, 226])
async def test_a_status_that_has_not_the_whole_content_leaves_nothing(
    flowy: Served, tmp_path: Path, status: int
) -> None:
    output = await output_of(flowy)
    headers = {"Content-Range": "bytes 0-3/4096"}
    script(flowy, Fault(status=status, headers=headers, body=b"" if status < 206 else b"part"))
    with pytest.raises(errors.APIResponseError, match="not the whole content") as caught:
        await output.save(tmp_path / "x.png")
    assert caught.value.status == status
    assert files_in(tmp_path) == []
    assert len(flowy.downloads) == 1


async def test_a_proxy_may_say_that_it_passed_the_content_on(flowy: Served) -> None:
    output = await output_of(flowy)
    script(flowy, Fault(status=203, body=b"whole"))
    assert await output.read() == b"whole"


async def test_there_is_a_limit_of_size(flowy: Served, tmp_path: Path) -> None:
    output = await output_of(flowy)
    for fault in (Fault(), Fault(framing="chunked")):
        script(flowy, fault)
        with pytest.raises(errors.ResponseTooLargeError, match=r"max_bytes \(1000\)"):
            await output.save(tmp_path / "x.png", max_bytes=1000)
    script(flowy, Fault(framing="chunked"))
    with pytest.raises(errors.ResponseTooLargeError):
        await output.read(max_bytes=len(BIG) - 1)
    assert await output.read(max_bytes=len(BIG)) == BIG
    assert files_in(tmp_path) == []


async def test_a_silent_host_is_given_up(serve: Serve, tmp_path: Path) -> None:
    flowy = await serve(timeout=Timeout(idle=0.05), max_retries=0)
    output = await output_of(flowy)
    script(flowy, Fault(at_byte=1024, stall=60))
    with pytest.raises(errors.APITimeoutError) as caught:
        await output.save(tmp_path / "x.png")
    assert caught.value.limit == "idle"
    assert files_in(tmp_path) == []


async def test_there_is_a_limit_of_time(flowy: Served, tmp_path: Path) -> None:
    output = await output_of(flowy)
    script(flowy, Fault(at_byte=1024, stall=60))
    with pytest.raises(errors.APITimeoutError) as caught:
        await output.save(tmp_path / "x.png", timeout=0.1)
    assert (caught.value.limit, caught.value.seconds) == ("total", 0.1)
    assert files_in(tmp_path) == []


async def test_a_host_that_is_busy_is_not_asked_for_ever(flowy: Served) -> None:
    output = await output_of(flowy, b"x")
    script(flowy, Fault(status=429, headers={"Retry-After": "0"}), times=None)
    with pytest.raises(errors.RateLimitError):
        await output.read()
    assert len(flowy.downloads) == 3


async def test_progress_is_told(flowy: Served, tmp_path: Path) -> None:
    output = await output_of(flowy)
    reported: list[tuple[int, int | None]] = []

    def progress(received: int, size: int | None) -> None:
        reported.append((received, size))

    await output.save(tmp_path / "x.png", progress=progress)
    assert reported[-1] == (len(BIG), len(BIG))
    assert reported == sorted(reported)
    script(flowy, Fault(framing="chunked"))
    reported.clear()
    await output.read(progress=progress)
    assert reported[-1:] == [(len(BIG), None)]


async def test_an_error_of_progress_is_raised(flowy: Served, tmp_path: Path) -> None:
    def fail(*_: Any) -> None:
        raise LookupError("mine")

    output = await output_of(flowy)
    with pytest.raises(LookupError, match="mine"):
        await output.save(tmp_path / "x.png", progress=fail)
    assert files_in(tmp_path) == []


async def test_only_so_many_are_under_way(serve: Serve) -> None:
    flowy = await serve(max_downloads=2)
    output = await output_of(flowy, b"x")
    most = 0

    def watch(*_: Any) -> None:
        nonlocal most
        most = max(most, flowy.client._shared.downloader.limiter.in_flight)

    await asyncio.gather(*[output.read(progress=watch) for _ in range(8)])
    assert most == 2


# --- leaving in the middle -------------------------------------------------------------------


@pytest.fixture(params=["named", "unnamed"])
async def stalled(
    flowy: Served, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[asyncio.Task[Path]]:
    """A download that stands still in the middle, with its part on disk: without a name where the
    system can do that, so that a process that is killed leaves nothing."""
    named = request.param == "named"
    if named:
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    elif not hasattr(os, "O_TMPFILE"):
        pytest.skip("every file of this system has a name")
    output = await output_of(flowy)
    script(flowy, Fault(at_byte=3 * 1024 * 1024, stall=60))
    task = asyncio.create_task(output.save(tmp_path / "x.png"))
    while not flowy.downloads or flowy.downloads[0].bytes_sent < 3 * 1024 * 1024:
        await asyncio.sleep(0.005)
    assert len(files_in(tmp_path)) == named
    yield task
    assert task.done()


async def test_who_leaves_in_the_middle_leaves_nothing(
    stalled: asyncio.Task[Path], tmp_path: Path, flowy: Served
) -> None:
    stalled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stalled
    assert files_in(tmp_path) == []
    await flowy.emulator.wait_until(lambda: flowy.downloads[0].finished)


@pytest.mark.parametrize("step", ["_create", "_truncate", "_flush", "check_destination"])
@pytest.mark.parametrize("cancels", [1, 3])
async def test_who_leaves_during_a_step_in_a_thread_leaves_nothing(
    flowy: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, cancels: int
) -> None:
    output = await output_of(flowy)
    where: Any = downloads.files if step == "check_destination" else downloads.PartFile
    inside, go_on = threading.Event(), threading.Event()
    original: Callable[..., Any] = getattr(where, step)

    def slow(*arguments: Any) -> Any:
        inside.set()
        go_on.wait(10)
        return original(*arguments)

    monkeypatch.setattr(where, step, slow)
    task = asyncio.create_task(output.save(tmp_path / "x.png"))
    await asyncio.to_thread(inside.wait, 10)
    for _ in range(cancels):
        task.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert files_in(tmp_path) == []


async def test_a_download_ends_with_its_client(
    stalled: asyncio.Task[Path], flowy: Served, tmp_path: Path
) -> None:
    await flowy.client.aclose()
    with pytest.raises(errors.ClientClosedError):
        await stalled
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("target", ["x.png", ""])
async def test_where_every_file_has_a_name_it_is_published_too(
    flowy: Served, tmp_path: Path, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    saved = await (await output_of(flowy, b"x")).save(tmp_path / target)
    assert saved.read_bytes() == b"x"
    assert files_in(tmp_path) == [saved.name]
