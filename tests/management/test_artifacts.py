"""Artifacts of runs come whole or not at all, and the token goes nowhere."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from dynamiq_async import Artifact, AsyncApp, AsyncManagement, errors
from dynamiq_async.emulator import Emulator, Fault, RunContext

from .conftest import KEY, TOKEN

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from dynamiq_async import Run
    from dynamiq_async.emulator import RequestRecord

import pytest_asyncio

BIG = bytes(range(256)) * 4096  # 1 MiB
FILES = "artifact-files"


async def writes(input: dict[str, Any], run: RunContext) -> Any:
    """Saves the files that it is told of."""
    for name, size in input["files"]:
        run.save(name, BIG[:size])


@pytest_asyncio.fixture
async def emulator(leaves_nothing: None) -> AsyncIterator[Emulator]:
    async with Emulator(writes, access_key=KEY) as emulator:
        emulator.management.token = TOKEN
        yield emulator


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "made"
    made.mkdir()
    return made


async def run_of(emulator: Emulator, *files: tuple[str, int]) -> Run:
    async with AsyncApp(emulator.url, access_key=KEY) as app:
        return await app.runs.create({"files": files})


async def artifact_of(
    emulator: Emulator, management: AsyncManagement, name: str = "a.png", size: int = len(BIG)
) -> Artifact:
    run = await run_of(emulator, (name, size))
    (artifact,) = await management.artifacts.list(run.app_id or "", run.id)
    return artifact


def downloads(emulator: Emulator) -> list[RequestRecord]:
    return [seen for seen in emulator.requests if seen.service == FILES]


def listings(emulator: Emulator) -> int:
    return sum(seen.endpoint.endswith("/artifacts") for seen in emulator.requests)


def script(emulator: Emulator, *faults: Fault, times: int | None = 1) -> None:
    emulator.script(*faults, match=lambda seen: seen.service == FILES, times=times)


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_the_files_of_a_run_are_listed(
    emulator: Emulator, management: AsyncManagement
) -> None:
    run = await run_of(emulator, *((f"{n}.txt", n) for n in range(1, 6)))
    app = emulator.management.find("writes").id
    assert run.app_id == app
    listed = [one async for one in management.artifacts.list(app, run.id, page_size=2)]
    assert [one.name for one in listed] == [f"{n}.txt" for n in range(1, 6)]
    one = listed[0]
    assert (one.type, one.size, one.mime_type) == ("file", 1, "text/plain")
    assert one.saved_at is not None
    assert one.id is not None
    assert [await one.read() for one in listed] == [BIG[:n] for n in range(1, 6)]
    assert (await management.artifacts.list(await management.apps.get(app), run.id)).data
    with pytest.raises(errors.NotFoundError):
        await management.artifacts.list(app, "nope")


async def test_neither_the_token_nor_a_header_goes_to_the_links_host(
    emulator: Emulator, management: AsyncManagement
) -> None:
    view = management.with_options(headers={"X-Secret": "1", "Cookie": "a=b"})
    artifact = await artifact_of(emulator, view)
    assert await artifact.read() == BIG
    (seen,) = downloads(emulator)
    sent = {name.lower() for name in seen.headers}
    assert sent <= {"host", "user-agent", "accept", "accept-encoding"}
    assert TOKEN not in str(seen.headers)


async def test_no_repr_shows_what_opens_a_link(
    emulator: Emulator, management: AsyncManagement
) -> None:
    artifact = await artifact_of(emulator, management)
    assert artifact.download_url is not None
    assert artifact.name == "a.png"
    assert "signature=" in artifact.download_url
    for shown in (repr(artifact), str([artifact])):
        assert "signature" not in shown
        assert "a.png" in shown
    assert repr(Artifact()).endswith("download_url=None)")


async def test_an_artifact_is_saved_as_a_file_or_in_a_folder(
    emulator: Emulator, management: AsyncManagement, folder: Path
) -> None:
    artifact = await artifact_of(emulator, management, "report.png")
    received: list[Any] = []
    path = await artifact.save(folder / "mine", progress=lambda *it: received.append(it))
    assert path.read_bytes() == BIG
    assert received[-1] == (len(BIG), len(BIG))
    assert (await artifact.save(folder)).name == "report.png"
    assert (await artifact.save(folder)).name == "report-2.png"
    assert files_in(folder) == ["mine", "report-2.png", "report.png"]


@pytest.mark.parametrize(
    ("name", "saved"),
    [
        ("../../etc/passwd", "_.._etc_passwd"),
        ("a/b.txt", "a_b.txt"),
        ("nul", "_nul.bin"),
        ("-rf", "_-rf.bin"),
        ("a\x00\u202eb.txt", "a__b.txt"),
        ("x" * 300 + ".txt", "x" * 146 + ".txt"),
    ],
)
async def test_a_name_never_leads_out_of_the_folder(
    name: str, saved: str, emulator: Emulator, management: AsyncManagement, folder: Path
) -> None:
    artifact = await artifact_of(emulator, management, name, 3)
    assert await artifact.save(folder) == folder / saved
    assert files_in(folder) == [saved]


async def test_without_a_name_it_is_named_after_its_link_or_id(
    emulator: Emulator, management: AsyncManagement, folder: Path
) -> None:
    known = await artifact_of(emulator, management, "a.png", 3)
    link = known.download_url or ""
    listed = {"data": [{"id": "f-1", "download_url": link}]}
    emulator.script(Fault(status=200, body=listed), match="GET /v1/apps/*")
    (nameless,) = await management.artifacts.list("a", "r")
    assert (await nameless.save(folder)).name == "a.png"


async def test_a_link_that_has_expired_is_renewed_once(
    emulator: Emulator, management: AsyncManagement, folder: Path
) -> None:
    run = await run_of(emulator, ("a.png", 5), ("b.png", 6))
    listed = (await management.artifacts.list(run.app_id or "", run.id)).data
    emulator.management.clock = lambda: 9e9  # links of before have expired
    assert await listed[1].read(timeout=5) == BIG[:6]
    assert (len(downloads(emulator)), listings(emulator)) == (2, 2)
    assert (await listed[0].save(folder, timeout=5)).read_bytes() == BIG[:5]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
async def test_a_link_that_stays_refused_is_an_error(
    status: int, emulator: Emulator, management: AsyncManagement, folder: Path
) -> None:
    artifact = await artifact_of(emulator, management)
    emulator.management.clock = lambda: 9e8  # so that a fresh link is another one
    script(emulator, Fault(status=status, body="<Error/>"), times=2)
    with pytest.raises(errors.APIStatusError) as caught:
        await artifact.save(folder / "x")
    assert caught.value.status == status
    assert len(downloads(emulator)) == 2
    assert "signature=" not in str(caught.value)
    assert files_in(folder) == []


async def test_a_link_that_nobody_can_renew_is_an_error(
    emulator: Emulator, management: AsyncManagement
) -> None:
    artifact = await artifact_of(emulator, management)
    for answer in (
        Fault(status=403),
        Fault(status=200, body={"data": []}),
        Fault(status=200, body={"data": [{"id": "other", "download_url": "https://x"}]}),
        Fault(
            status=200, body={"data": [{"id": artifact.id, "download_url": artifact.download_url}]}
        ),
        Fault(status=200, body={"data": [{"id": artifact.id}]}),
    ):
        script(emulator, Fault(status=403))
        emulator.script(answer, match="GET /v1/apps/*")
        with pytest.raises(errors.PermissionDeniedError):
            await artifact.read()
    assert len(downloads(emulator)) == 5


async def test_a_download_that_breaks_off_begins_again(
    emulator: Emulator, management: AsyncManagement, folder: Path
) -> None:
    artifact = await artifact_of(emulator, management)
    script(emulator, Fault(status=503), Fault(at_byte=70_000, drop="reset"))
    assert (await artifact.save(folder)).read_bytes() == BIG
    assert (len(downloads(emulator)), listings(emulator)) == (3, 1)
    script(emulator, Fault(at_byte=70_000, drop="close"), times=None)
    with pytest.raises(errors.APIConnectionError):
        await artifact.save(folder)
    assert files_in(folder) == ["a.png"]


async def test_limits(emulator: Emulator, management: AsyncManagement, folder: Path) -> None:
    artifact = await artifact_of(emulator, management)
    with pytest.raises(errors.ResponseTooLargeError):
        await artifact.save(folder / "x", max_bytes=len(BIG) - 1)
    script(emulator, Fault(delay=60))
    with pytest.raises(errors.APITimeoutError):
        await artifact.read(timeout=0.05)
    before = emulator.requests.total
    for wrong in ({"max_bytes": 0}, {"timeout": 0}):
        for call in (artifact.save(folder / "x", **wrong), artifact.read(**wrong)):  # type: ignore[arg-type]
            with pytest.raises(errors.InvalidArgumentError) as caught:
                await call
            assert caught.value.argument in wrong
    with pytest.raises(errors.InvalidArgumentError):
        await artifact.save(folder / "no" / "such" / "folder")
    assert emulator.requests.total == before
    assert files_in(folder) == []


@pytest.mark.parametrize(
    "link", ["http://files.example/x", "https://u:p@files.example/x", "file:///etc/passwd", "x"]
)
async def test_a_link_that_cannot_be_followed_is_an_error(
    link: str, emulator: Emulator, management: AsyncManagement
) -> None:
    listed = {"data": [{"id": "f-1", "download_url": link}]}
    emulator.script(Fault(status=200, body=listed), match="GET /v1/apps/*")
    (artifact,) = await management.artifacts.list("a", "r")
    with pytest.raises(errors.APIResponseError, match="cannot be used"):
        await artifact.read()


async def test_one_that_has_no_link_or_no_client_says_so(
    emulator: Emulator, management: AsyncManagement, folder: Path
) -> None:
    emulator.script(Fault(status=200, body={"data": [{"id": "f-1"}]}), match="GET /v1/apps/*")
    (artifact,) = await management.artifacts.list("a", "r")
    with pytest.raises(errors.OutputMissingError, match="artifact f-1 has no link"):
        await artifact.save(folder)
    again = pickle.loads(pickle.dumps(artifact))
    assert again == artifact
    for one in (again, Artifact(id="f-1"), msgspec.json.decode(b"{}", type=Artifact)):
        with pytest.raises(errors.OutputMissingError, match=r"management\.artifacts\.list"):
            await one.read()
    assert files_in(folder) == []


async def test_closing_the_client_closes_its_downloads(emulator: Emulator) -> None:
    async with AsyncManagement(emulator.management_url, token=TOKEN, max_downloads=1) as management:
        artifact = await artifact_of(emulator, management)
        again = pickle.loads(pickle.dumps(management))
        assert again._settings["max_downloads"] == 1
        await again.aclose()
        view = management.with_options(max_retries=0)
        await view.aclose()
        assert await artifact.read() == BIG
    with pytest.raises(errors.ClientClosedError):
        await artifact.read()
    with pytest.raises(errors.InvalidArgumentError, match="max_downloads"):
        AsyncManagement("m.example", token=TOKEN, max_downloads=0)


async def test_raw_has_what_the_type_does_not_know(
    emulator: Emulator, management: AsyncManagement
) -> None:
    body = {"data": [{"id": "f-1", "size": "large", "new": 1}]}
    emulator.script(Fault(status=200, body=body), match="GET /v1/apps/*")
    (artifact,) = await management.artifacts.list("a", "r")
    assert artifact == Artifact(id="f-1")
    assert msgspec.json.decode(artifact.raw) == body["data"][0]
