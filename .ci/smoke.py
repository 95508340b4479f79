"""What a user of the built wheel does first, without any extra installed."""

import asyncio
import subprocess
import sys
from importlib import metadata, resources

import dynamiq_async
from dynamiq_async import AsyncApp, errors
from dynamiq_async.emulator import Emulator


async def main() -> None:
    async with (
        Emulator("agent") as emulator,
        AsyncApp(emulator.url, access_key=emulator.access_key) as app,
    ):
        pieces = [piece async for piece in app.stream({"input": "hello"}).text()]
        assert "".join(pieces).startswith("Done"), pieces
        assert (await app.runs.create({"input": "hello"})).status == "completed"
        missing = ""
        try:
            app.connect()
        except errors.MissingExtraError as error:
            missing = error.message
        assert "dynamiq-async[websocket]" in missing, missing


assert dynamiq_async.__version__ == metadata.version("dynamiq-async")
assert resources.files("dynamiq_async").joinpath("py.typed").is_file()
assert resources.files("dynamiq_async.emulator.ui").joinpath("page.html").is_file()
asyncio.run(main())
bare = subprocess.run(
    [sys.executable, "-m", "dynamiq_async", "demo"], capture_output=True, text=True, check=False
)
assert bare.returncode == 2, bare
assert "dynamiq-async[cli]" in bare.stderr, bare
print("the wheel works")
