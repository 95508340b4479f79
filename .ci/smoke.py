"""What a user of the built wheel does first, without any extra installed."""

import asyncio
import subprocess
import sys
from importlib import import_module, metadata, resources
from pathlib import Path

import dynamiq_async
from dynamiq_async import AsyncApp, errors
from dynamiq_async.emulator import Emulator
from dynamiq_async.emulator.library import LibraryMissingError, check_installed
from dynamiq_async.integrations.mcp import make_server
from dynamiq_async.integrations.ray import shared_rate

PROGRAM = str(Path(sys.executable).with_name("dynamiq-async"))


async def main() -> None:
    async with (
        Emulator("agent") as emulator,
        AsyncApp(emulator.url, access_key=emulator.access_key) as app,
    ):
        pieces = [piece async for piece in app.stream({"input": "hello"}).text()]
        assert "".join(pieces).startswith("Done"), pieces
        assert (await app.runs.create({"input": "hello"})).status == "completed"
        async with app.map([{"input": "hello"}]) as results:
            assert [result.ok async for result in results] == [True]


async def arrow() -> None:
    async with AsyncApp("app.example", access_key=False) as app, app.map([]) as results:
        await results.to_arrow()


async def websocket() -> None:
    async with AsyncApp("app.example", access_key=False) as app:
        app.connect()


async def ray() -> None:
    shared_rate("rate", 5)


async def mcp() -> None:
    make_server([])


async def dynamiq() -> None:
    check_installed()


async def starlette() -> None:
    import_module("dynamiq_async.relay.starlette")


def told(command: list[str]) -> str:
    """What the command line says on its way to exit code 2, in one line."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done
    return done.stderr


def missing(extra: str) -> str:
    """What is said of an extra where it is needed."""
    if extra == "cli":
        said = {told([PROGRAM, "demo"]), told([sys.executable, "-m", "dynamiq_async", "--help"])}
        (one,) = said
        return one
    try:
        asyncio.run(globals()[extra]())
    except (errors.MissingExtraError, LibraryMissingError) as error:
        return str(error)
    raise AssertionError(f"{extra} is installed")


assert dynamiq_async.__version__ == metadata.version("dynamiq-async")
assert resources.files("dynamiq_async").joinpath("py.typed").is_file()
assert resources.files("dynamiq_async.emulator.ui").joinpath("page.html").is_file()
asyncio.run(main())
commands = {extra: extra for extra in metadata.metadata("dynamiq-async").get_all("Provides-Extra")}
commands["dynamiq"] = "cli,dynamiq"
for extra, command in commands.items():
    assert f"pip install 'dynamiq-async[{command}]'" in missing(extra), missing(extra)
assert "pip install starlette" in missing("starlette"), missing("starlette")
print("the wheel works")
