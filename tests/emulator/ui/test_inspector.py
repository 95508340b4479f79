"""The inspector in a real browser: runs as they happen, answers, cancellation, faults.

Whatever comes from outside is text there."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from dynamiq_async import AsyncApp, DynamiqError
from dynamiq_async.emulator import Emulator, Fault, RunContext

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from selenium.webdriver import Chrome

PATIENCE = 20.0
EVIL = "<img src=x onerror=\"document.title='owned'\">"
LONG = "unbroken" * 60


class Page:
    """What a person sees and does. The browser is driven from a thread, since it is waited for."""

    def __init__(self, chrome: Chrome) -> None:
        self._chrome = chrome

    async def script(self, text: str, *arguments: Any) -> Any:
        return await asyncio.to_thread(self._chrome.execute_script, text, *arguments)

    async def open(self, emulator: Emulator, place: str = "") -> None:
        url = f"{emulator.inspector_url}#/{place}"
        await asyncio.to_thread(self._chrome.get, "about:blank")
        await asyncio.to_thread(self._chrome.get, url)
        await self.until("#link", "Live")

    async def leave_and_come_back(self) -> None:
        await asyncio.to_thread(self._chrome.get, "about:blank")
        await asyncio.to_thread(self._chrome.back)

    async def text(self, css: str) -> str:
        found: str = await self.script(
            "return document.querySelector(arguments[0])?.innerText ?? ''", css
        )
        return found

    async def until(self, css: str, expected: str) -> None:
        """Wait until the first such element has this text in it."""
        seen = ""
        try:
            async with asyncio.timeout(PATIENCE):
                while expected not in (seen := await self.text(css)):
                    await asyncio.sleep(0.02)
        except TimeoutError:
            pytest.fail(f"{css} says {seen!r}, not {expected!r}")

    async def count(self, css: str) -> int:
        found: int = await self.script("return document.querySelectorAll(arguments[0]).length", css)
        return found

    async def until_count(self, css: str, expected: int) -> None:
        async with asyncio.timeout(PATIENCE):
            while await self.count(css) != expected:
                await asyncio.sleep(0.02)

    async def _on(self, css: str, act: Callable[[Any], Any]) -> None:
        def do() -> None:
            act(self._chrome.find_element("css selector", css))

        await asyncio.to_thread(do)

    async def click(self, css: str) -> None:
        await self._on(css, lambda element: element.click())

    async def write(self, css: str, text: str) -> None:
        def replace(element: Any) -> None:
            element.clear()
            element.send_keys(text)

        await self._on(css, replace)

    async def press(self, *keys: str) -> None:
        await asyncio.to_thread(lambda: self._chrome.switch_to.active_element.send_keys(*keys))

    async def show_at(self, width: int, scheme: str) -> None:
        def set_up() -> None:
            size = {"width": width, "height": 740, "deviceScaleFactor": 1, "mobile": False}
            self._chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            features = [{"name": "prefers-color-scheme", "value": scheme}]
            self._chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

        await asyncio.to_thread(set_up)

    async def stays_text(self) -> None:
        assert await self.count("img, iframe, object, b") == 0
        assert "owned" not in await self.script("return document.title")


@pytest.fixture
def page(chromium: Chrome) -> Iterator[Page]:
    yield Page(chromium)
    chromium.get("about:blank")
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


class Steps:
    """An App that says a word for each step that it is let."""

    def __init__(self) -> None:
        self.allowed = asyncio.Semaphore(0)

    async def __call__(self, input: dict[str, Any], run: RunContext) -> Any:
        for number in range(3):
            await self.allowed.acquire()
            await run.text(f"word {number} ")
        return "said it all"


async def refund(input: dict[str, Any], run: RunContext) -> Any:
    """Wants a refund approved, and asks what to write."""
    params = {"to": "ann@example.com", "amount": 12.5, "order": EVIL}
    answer = await run.approve(f"Refund? {EVIL}", params, editable=("to", "amount"))
    parts = [
        {"question_id": "q1", "question": "Which?", "options": [{"label": "Q1"}, {"label": EVIL}]}
    ]
    said = await run.ask("What to write?", questions=parts)
    return [answer.approved, answer.params, answer.feedback, said, getattr(said, "answers", None)]


async def hostile(input: dict[str, Any], run: RunContext) -> Any:
    await run.text(EVIL)
    await run.emit({EVIL: EVIL, "long": LONG}, event=EVIL)
    await run.event(EVIL, {"delta": EVIL})
    await run.send(EVIL.encode(), event="raw")
    raise ValueError(EVIL)


@pytest.fixture
async def served() -> AsyncIterator[tuple[Emulator, AsyncApp]]:
    async with (
        Emulator(refund, apps={"hostile": hostile, "refund": refund}) as emulator,
        AsyncApp(emulator.url, access_key=emulator.access_key) as app,
    ):
        yield emulator, app


async def test_a_run_is_shown_as_it_happens(page: Page) -> None:
    steps = Steps()
    async with (
        Emulator("echo", apps={"steps": steps}) as emulator,
        AsyncApp(emulator.url_for("steps"), access_key=emulator.access_key) as app,
    ):
        await page.open(emulator)
        await page.until("#runs .empty", "No runs yet")
        run = await app.runs.create({"question": "Where?"}, background=True)
        await page.until("#run-list", "started")
        await page.click("#run-list a")
        await page.until("#run", "Where?")
        await page.until_count(".timeline li", 1)
        for number in range(2):
            steps.allowed.release()
            await page.until(f".timeline li:nth-child({number + 2})", f"word {number}")
        assert await page.count(".timeline li") == 3
        steps.allowed.release()
        await page.until("#run .chip", "completed")
        await page.until(".timeline li:last-child", "run.completed")
        await page.until("#run-list .soft", "5 events")
        await page.until("#run", "said it all")
        await page.click(".timeline li:nth-child(2) summary")
        await page.until(".timeline li:nth-child(2) pre", '"type": "agent.response.delta"')
        assert run.id in await page.text("#run")
        await page.click("#to-requests")
        await page.until("#request-list", "POST /steps/v1/runs")
        await page.click("#request-list a")
        await page.until("#request", '"background": true')
        await page.click("#request details:has(dl) summary")
        await page.until("#request dl:has(dd)", "Request id")
        assert str(emulator.access_key) not in await page.text("#request")
        assert "***" in await page.text("#request")
        await page.click("#to-apps")
        await page.until("#apps", emulator.url_for("steps"))


async def test_questions_are_answered(served: tuple[Emulator, AsyncApp], page: Page) -> None:
    emulator, app = served
    run = await app.runs.create({}, background=True)
    await page.open(emulator, f"runs/{run.id}")
    await page.until(".question .prompt", f"Refund? {EVIL}")
    await page.until("#run-list", "awaiting input")
    assert await page.script("return document.title") == "(1) Dynamiq emulator"
    assert await page.count(".question input, .question textarea") == 3  # order cannot be edited
    await page.write("[name=param-amount]", "12,5")
    await page.click(".question button.main")
    await page.until(".question .wrong", "amount is not JSON")
    await page.write("[name=param-amount]", "13")
    await page.write("[name=param-to]", "bob@example.com")
    await page.write("[name=remark]", "soon")
    await page.click(".question button.main")
    await page.until(".question .answer", "approved: soon")
    await page.until(".question:nth-child(2) .prompt", "What to write?")
    await page.click(".question:nth-child(2) label.check:nth-of-type(2) input")
    await page.write("[name=answer]", EVIL)
    await page.click(".question:nth-child(2) button.main")
    await page.until("#run .chip", "completed")
    params = {"to": "bob@example.com", "amount": 13, "order": EVIL}
    answers = [{"question_id": "q1", "selected": [EVIL], "custom_text": None}]
    done = await app.runs.get(run.id)
    assert done.output == {"output": [True, params, "soon", EVIL, answers]}
    await page.stays_text()


async def test_a_question_of_an_invocation_is_rejected(
    served: tuple[Emulator, AsyncApp], page: Page
) -> None:
    emulator, app = served
    await page.open(emulator)
    answer = asyncio.create_task(app.invoke({}))
    await page.until("#run-list", "awaiting input")
    await page.click("#run-list a")
    await page.until(".question", "Reject")
    await page.click(".question button.danger")
    await page.until(".question .answer", "rejected")
    await page.write("[name=answer]", "Sorry.")
    await page.click(".question:nth-child(2) button.main")
    output = (await answer)["output"]
    assert (output[0], output[3]) == (False, "Sorry.")
    await page.until("#run .chip", "success")


async def test_a_run_and_an_invocation_are_canceled(
    served: tuple[Emulator, AsyncApp], page: Page
) -> None:
    emulator, app = served
    run = await app.runs.create({}, background=True)
    await page.open(emulator, f"runs/{run.id}")
    await page.until("#run", "Cancel")
    await page.click("#run .bar > button.danger")
    await page.until("#run .chip", "canceled")
    await page.until(".question .answer", "It was not answered.")
    assert (await app.runs.get(run.id)).status == "canceled"
    async with app.stream({}) as stream:
        await page.until("#run-list a", "awaiting input")
        await page.click("#run-list a")
        await page.until("#run dl", "root endpoint")
        await page.click("#run .bar > button.danger")
        events = [event async for event in stream]
    assert events[-1].is_final
    assert emulator.executions[-1].status == "canceled"
    await page.until("#run .chip", "canceled")
    assert await page.script("return document.querySelector('#run .bar > button').hidden")


async def test_faults_are_switched(served: tuple[Emulator, AsyncApp], page: Page) -> None:
    emulator, app = served
    emulator.faults.add(Fault(status=418, body=EVIL), name=EVIL, route="GET /v1/*")
    await page.open(emulator, "faults")
    await page.until("#fault-list", EVIL)
    switch = "#fault-list [role=switch]"
    await page.until(switch, "On")
    await page.script(f"document.querySelector('{switch}').focus()")
    await page.press(" ")
    await page.until(switch, "Off")
    assert not emulator.faults[1].enabled
    assert [run async for run in app.runs.list()] == []
    await page.press(" ")
    await page.until(switch, "On")
    with pytest.raises(Exception, match="418"):
        await app.runs.list()
    await page.until("#fault-list .soft", "1 of 1 matching request.")

    await page.write("[name=fault]", '{"stauts": 503}')
    await page.click("#faults form button")
    await page.until("#faults form .wrong", "did you mean status?")
    await page.write("[name=fault]", "{")
    await page.click("#faults form button")
    await page.until("#faults form .wrong", "This is not JSON.")
    await page.write("[name=fault]", '{"status": 503, "every": 2, "name": "second"}')
    await page.click("#faults form button")
    await page.until("#fault-list li:nth-child(2)", "second")
    assert emulator.faults[2].every == 2
    await page.until("#to-faults", "2/2")
    await page.click("#fault-list li button.danger")
    await page.until_count("#fault-list li", 1)
    assert [rule.number for rule in emulator.faults] == [2]
    await page.stays_text()


async def test_what_comes_from_outside_is_text(page: Page) -> None:
    async def app(input: dict[str, Any], run: RunContext) -> Any:
        return await hostile(input, run)

    app.__name__ = app.__doc__ = EVIL
    apps: dict[str, Any] = {"x": hostile, "refund": refund}
    async with Emulator(app, apps=apps) as emulator:
        emulator.faults.add(Fault(status=503, headers={"x": "y"}), name=EVIL, nth=99)
        async with AsyncApp(emulator.url, access_key=emulator.access_key) as client:
            run = await client.runs.create({EVIL: EVIL, "long": LONG}, user_id=EVIL)
            with pytest.raises(DynamiqError):
                await client.invoke({"q": EVIL}, extra_headers={"X-Evil": EVIL})
        for place in (f"runs/{run.id}", f"runs/{emulator.executions[-1].id}"):
            await page.open(emulator, place)
            await page.until("#run pre", EVIL.replace('"', '\\"'))
            await page.stays_text()
        await page.open(emulator, f"runs/{run.id}")
        await page.until_count(".timeline li", 6)
        await page.script(
            "for (const each of document.querySelectorAll('details')) each.open = true"
        )
        await page.until(".timeline li:nth-child(5) pre", EVIL)
        await page.until("#run dl", EVIL)
        await page.stays_text()
        newest = emulator.requests[-1].request_id
        await page.open(emulator, f"requests/{newest}")
        await page.until("#request", "Headers")
        await page.script(
            "for (const each of document.querySelectorAll('details')) each.open = true"
        )
        await page.until("#request", EVIL)
        await page.stays_text()
        for place, css in (("apps", "#apps"), ("faults", "#fault-list")):
            await page.open(emulator, place)
            await page.until(css, EVIL)
            await page.stays_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_it_fits_a_small_screen_in_light_and_dark(page: Page, scheme: str) -> None:
    await page.show_at(360, scheme)
    apps: dict[str, Any] = {LONG: hostile, "refund": refund}
    async with Emulator(hostile, apps=apps) as emulator:
        emulator.faults.add(Fault(status=503, body=LONG), name=LONG, nth=99)
        async with (
            AsyncApp(emulator.url, access_key=emulator.access_key) as app,
            AsyncApp(emulator.url_for("refund"), access_key=emulator.access_key) as asking,
            AsyncApp(emulator.url_for(LONG), access_key=emulator.access_key) as long,
        ):
            failed = await app.runs.create({"long": LONG}, user_id=LONG)
            await long.runs.create({})
            asked = await asking.runs.create({}, background=True)
        newest = emulator.requests[-2].request_id
        places = (
            ("runs", "#run-list"),
            (f"runs/{failed.id}", ".timeline li:nth-child(3)"),
            (f"runs/{asked.id}", ".question"),
            ("requests", "#request-list"),
            (f"requests/{newest}", "#request"),
            ("faults", "#fault-list"),
            ("apps", "#apps li:nth-child(2)"),
        )
        for place, css in places:
            await page.open(emulator, place)
            await page.until(css, "")
            await page.until_count(f"{css}:not(:empty)", 1)
            wide = await page.script("return [document.documentElement.scrollWidth, innerWidth]")
            assert wide[0] <= wide[1] == 360, place
        await page.open(emulator, f"runs/{failed.id}")
        await page.until("#run", "All runs")
        await page.click("#run .back")
        await page.until("#run-list a", "refund")
        read = "return getComputedStyle(document.body).backgroundColor"
        channels = [int(part) for part in (await page.script(read))[4:-1].split(",")]
        assert (sum(channels) < 150) == (scheme == "dark")


async def test_it_can_be_used_by_keyboard(served: tuple[Emulator, AsyncApp], page: Page) -> None:
    from selenium.webdriver.common.keys import Keys

    emulator, app = served
    for _ in range(3):
        await app.runs.create({}, background=True)
    ids = list(emulator.runs)[::-1]
    await page.open(emulator)
    await page.until_count("#run-list a", 3)

    async def focused() -> Any:
        return await page.script("return document.activeElement.getAttribute('href')")

    for expected in ("#/runs", "#/requests", "#/faults", "#/apps", f"#/runs/{ids[0]}"):
        await page.press(Keys.TAB)
        assert await focused() == expected
    for key, index in (
        (Keys.ARROW_DOWN, 1),
        (Keys.END, 2),
        (Keys.ARROW_DOWN, 2),
        (Keys.ARROW_UP, 1),
        (Keys.HOME, 0),
        (Keys.ARROW_UP, 0),
        (Keys.ARROW_DOWN, 1),
    ):
        await page.press(key)
        assert await focused() == f"#/runs/{ids[index]}"
    style = "return getComputedStyle(document.activeElement).outlineStyle"
    assert await page.script(style) == "solid"
    await app.runs.create({}, background=True)
    await page.until_count("#run-list a", 4)
    assert await focused() == f"#/runs/{ids[1]}"  # what has focus keeps it
    await page.press(Keys.ENTER)
    await page.until("#run", ids[1])
    assert await page.count("#run-list [aria-current]") == 1
    await page.press(Keys.TAB, Keys.TAB)
    await page.script("document.querySelector('[name=remark]').focus()")
    await page.press("by hand", Keys.ENTER)
    await page.until(".question .answer", "approved: by hand")


async def test_it_comes_back_when_the_emulator_does(page: Page) -> None:
    async with Emulator("echo") as emulator:
        await page.open(emulator)
        await emulator.aclose()
        await page.until("#link", "Connection lost")
        await emulator.start()
        await page.until("#link", "Live")
        async with AsyncApp(emulator.url, access_key=emulator.access_key) as app:
            await app.invoke({})
        await page.until("#run-list", "success")
        await page.leave_and_come_back()
        await page.until("#link", "Live")
        await page.until("#run-list", "success")
