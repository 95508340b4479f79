"""`progress=`: a bar where somebody looks, lines in the log elsewhere, or a function's own."""

from __future__ import annotations

import asyncio
import io
import logging
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from dynamiq_async import AsyncApp, errors
from dynamiq_async.batch import BatchProgress, displays
from dynamiq_async.events import Usage

if TYPE_CHECKING:
    from .conftest import Serve


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


async def same(app: AsyncApp, input: Any) -> Any:
    return input


def terminal_at_stderr(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Not as a fixture: pytest sets stderr between the setup of a test and the test."""
    stderr = Terminal()
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    return stderr


def without(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    real = displays._is_installed
    monkeypatch.setattr(displays, "_is_installed", lambda name: name not in names and real(name))


async def test_a_function_is_called_on_the_way_and_at_the_end(app: AsyncApp) -> None:
    seen: list[BatchProgress] = []
    await app.batch(range(7), call=same, progress=seen.append)
    assert seen[0].done == 0
    assert (seen[-1].done, seen[-1].in_flight, seen[-1].total) == (7, 0, 7)


async def test_a_function_is_called_again_and_again(
    app: AsyncApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(displays.CallDisplay, "seconds", 0.0)
    seen: list[int] = []

    async def until_seen(app: AsyncApp, input: int) -> None:
        while max(seen, default=-1) < input:
            await asyncio.sleep(0)

    await app.batch(
        range(3), call=until_seen, concurrency=1, progress=lambda p: seen.append(p.done)
    )
    assert set(seen) == {0, 1, 2, 3}


async def test_what_the_function_raises_ends_the_batch(app: AsyncApp) -> None:
    def broken(figures: BatchProgress) -> None:
        raise ValueError("no such widget")

    with pytest.raises(ValueError, match="no such widget"):
        await app.batch(range(3), call=same, progress=broken)


async def test_a_batch_that_is_closed_shows_its_last_figures(app: AsyncApp) -> None:
    seen: list[BatchProgress] = []

    async def hangs(app: AsyncApp, input: Any) -> Any:
        await asyncio.get_running_loop().create_future()

    results = app.map(range(3), call=hangs, progress=seen.append)
    async with results:
        while results.progress.in_flight < 3:
            await asyncio.sleep(0)
    assert (seen[-1].started, seen[-1].done, seen[-1].in_flight) == (3, 0, 0)


@pytest.mark.parametrize("given", [1, "yes", None])
async def test_progress_is_a_switch_or_a_function(app: AsyncApp, given: Any) -> None:
    with pytest.raises(errors.InvalidArgumentError) as caught:
        app.map([], progress=given)
    assert caught.value.argument == "progress"


@pytest.mark.parametrize("missing", [(), ("rich",)], ids=["rich", "tqdm"])
async def test_at_a_terminal_there_is_a_bar(
    app: AsyncApp, monkeypatch: pytest.MonkeyPatch, missing: tuple[str, ...]
) -> None:
    terminal = terminal_at_stderr(monkeypatch)
    without(monkeypatch, *missing)
    await app.batch(iter(range(7)), call=same, progress=True, total=7)
    shown = terminal.getvalue()
    assert "7 of 7 done" in shown
    assert "\r" in shown
    assert ("\x1b[" in shown) is not bool(missing)


async def test_a_total_that_is_not_known_has_a_bar_too(
    app: AsyncApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = terminal_at_stderr(monkeypatch)
    for missing in ((), ("rich",)):
        without(monkeypatch, *missing)
        await app.batch(iter(range(7)), call=same, progress=True)
        assert "7 done" in terminal.getvalue()
        terminal.truncate(0)


async def test_without_a_terminal_and_without_bars_there_are_lines_in_the_log(
    app: AsyncApp,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.INFO, "dynamiq_async")
    monkeypatch.setattr(displays.LogDisplay, "seconds", 0.0)
    await app.batch(range(40), call=same, progress=True, concurrency=1)
    assert caplog.messages[-1] == "batch: 40 of 40 done"
    assert capsys.readouterr() == ("", "")
    for stderr in (Terminal(), None):
        monkeypatch.setattr(sys, "stderr", stderr)
        without(monkeypatch, "rich", "tqdm")
        caplog.clear()
        await app.batch(range(3), call=same, progress=True)
        assert caplog.messages[-1] == "batch: 3 of 3 done"


def test_a_line_is_logged_for_each_update_but_the_first(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "dynamiq_async")
    display = displays.LogDisplay()
    for done in (0, 3):
        display.update(BatchProgress(done=done, total=7))
    assert caplog.messages == ["batch: 3 of 7 done, 0 of 0 under way"]


@pytest.mark.parametrize(
    ("missing", "kind"),
    [
        ((), displays.RichDisplay),
        (("rich",), displays.TqdmDisplay),
        (("ipywidgets",), displays.TqdmDisplay),
        (("ipywidgets", "tqdm"), displays.LogDisplay),
    ],
)
def test_a_notebook_has_a_bar_that_it_can_draw(
    monkeypatch: pytest.MonkeyPatch, missing: tuple[str, ...], kind: type
) -> None:
    """Its stderr is no terminal, and without widgets rich and tqdm's own bar only complain."""
    monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
    monkeypatch.setattr(displays, "_is_installed", lambda name: name not in missing)
    assert type(displays.display_of(True)) is kind


def test_widgets_are_drawn_where_the_notebook_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    class Bar:
        def __init__(self, **given: Any) -> None:
            made.append(given)

        def set_description_str(self, text: str) -> None:
            made.append(text)

        def close(self) -> None:
            made.append("closed")

    notebook = ModuleType("tqdm.notebook")
    notebook.tqdm = Bar  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tqdm.notebook", notebook)
    display = displays.TqdmDisplay(widgets=True)
    display.close(BatchProgress(done=2, total=2))
    assert made[0]["total"] == 2
    assert made[1:] == ["2 of 2 done", "closed"]


def test_a_line_says_why_it_waits_and_what_was_consumed() -> None:
    figures = BatchProgress(
        done=3,
        found=2,
        cooldown=12.2,
        offline=7.0,
        usage=Usage(total_tokens=12345, cost=1.5),
    )
    assert displays.line(figures) == (
        "3 done, 2 found, 12,345 tokens, $1.50, 0 of 0 under way, asked to slow down for 12 s, "
        "cannot connect for 7 s"
    )
    assert displays.line(BatchProgress(usage=Usage())) == "0 done, 0 of 0 under way"


def test_a_line_that_is_too_long_keeps_how_far_it_is_why_it_waits_and_the_time_left() -> None:
    figures = BatchProgress(
        done=9_000,
        total=20_000,
        skipped=4_000,
        failed=12,
        limit=64,
        in_flight=64,
        rate=99.5,
        eta=3_725.0,
        cooldown=5.0,
        usage=Usage(total_tokens=7),
    )
    whole = displays.line(figures)
    assert displays.line(figures, room=len(whole)) == whole
    shorter = displays.line(figures, room=len(whole) - 1)
    assert shorter == whole.replace(", 7 tokens", "")
    shortest = "9,000 of 20,000 done, 12 failed, asked to slow down for 5 s, 1:02:05 left"
    assert displays.line(figures, room=len(shortest)) == displays.line(figures, room=0) == shortest


async def test_results_and_progress_tell_what_was_consumed(serve: Serve) -> None:
    async def app(input: dict[str, Any], run: Any) -> Any:
        for _ in range(2):
            usage = {"prompt_tokens": input["n"], "completion_tokens": 1, "cost": 0.5}
            await run.event("custom.usage", {"usage": usage})
        if input["n"] == 2:
            raise ValueError("no")
        return input

    served = await serve(app)
    results = served.app.map([{"n": n} for n in (1, 2, 3)], mode="run", ordered=True)
    found = [r.usage async for r in results]
    assert [usage and usage.prompt_tokens for usage in found] == [2, 4, 6]
    total = Usage(prompt_tokens=12, completion_tokens=6, total_tokens=18, cost=3.0)
    assert results.progress.usage == total
    streams = served.app.stream_many([{"n": 1}, {"n": 3}], mode="run")
    items = [item.result async for item in streams if item.result is not None]
    assert sorted(r.usage.prompt_tokens or 0 for r in items if r.usage) == [2, 6]
    assert served.app.map([]).progress.usage is None
