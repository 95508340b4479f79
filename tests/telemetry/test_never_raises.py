"""Whatever OpenTelemetry does, a call goes on; and what the option cannot be is refused."""

from __future__ import annotations

import logging
import pickle
from typing import TYPE_CHECKING, Any

import pytest

from dynamiq_async import AsyncApp, errors
from dynamiq_async._telemetry import outside
from dynamiq_async._telemetry.names import operation_of
from tests.support.network import KEY
from tests.support.run_apps import numbers
from tests.support.spans import Recorded

if TYPE_CHECKING:
    from tests.runs.conftest import Serve


class Broken:
    """A provider, tracer, meter, span and instrument that raises wherever it is asked anything
    that is not named as working."""

    def __init__(self, *working: str) -> None:
        self._working = working

    def __getattr__(self, name: str) -> Any:
        if name in self._working:
            return lambda *_, **__: self
        raise RuntimeError(f"broken: {name}")


SPAN = ("get_tracer", "start_span", "get_span_context")
METER = (
    "get_meter",
    "create_histogram",
    "create_counter",
    "create_up_down_counter",
)


@pytest.mark.parametrize(
    "option",
    [
        {"tracer_provider": Broken()},
        {"tracer_provider": Broken("get_tracer")},
        {"tracer_provider": Broken(*SPAN)},
        {"meter_provider": Broken()},
        {"meter_provider": Broken(*METER)},
        {"meter_provider": Broken(*METER, "add")},
        {"tracer_provider": Broken(*SPAN, "set_attributes", "set_status"), "baggage": True},
    ],
)
async def test_a_call_goes_on(serve: Serve, option: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "dynamiq_async")
    served = await serve(numbers, client={"open_telemetry": option})
    await served.app.invoke({})
    async for _ in served.app.runs.stream({}):
        pass
    assert [result.ok for result in await served.app.batch([{}], mode="run")] == [True]
    with pytest.raises(errors.NotFoundError):
        await served.app.runs.get("none")
    assert "OpenTelemetry failed: RuntimeError" in caplog.messages


@pytest.mark.parametrize(
    ("option", "match"),
    [
        ("yes", "must be True, False or a mapping"),
        ({"bagage": True}, "has no 'bagage'; there are baggage"),
        ({"baggage": "yes"}, "has a baggage that is no bool"),
        ({"agent_name": 3}, "has a agent_name that is no str"),
    ],
)
def test_what_the_option_cannot_be(option: Any, match: str) -> None:
    with pytest.raises(errors.InvalidArgumentError, match=match) as caught:
        AsyncApp("bot.example", access_key=KEY, open_telemetry=option)
    assert caught.value.argument == "open_telemetry"


@pytest.mark.parametrize("value", ["false", "0", "No", " off "])
async def test_the_environment_switches_it_off(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("DYNAMIQ_OPEN_TELEMETRY", value)
    app = (await serve("echo")).app
    assert app._api.sender.telemetry._enabled is False
    monkeypatch.setenv("DYNAMIQ_OPEN_TELEMETRY", "true")
    assert (await serve("echo")).app._api.sender.telemetry._enabled is True


def test_a_pickle_keeps_what_is_not_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYNAMIQ_ACCESS_KEY", KEY)
    option: Any = {"baggage": True, "tracer_provider": Broken("get_tracer")}
    app = AsyncApp("bot.example", open_telemetry=option)
    again = pickle.loads(pickle.dumps(app))
    assert again._settings["open_telemetry"] == {"baggage": True}
    assert pickle.loads(pickle.dumps(AsyncApp("bot.example")))._settings["open_telemetry"] is None


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        ("POST", "/", "invoke_agent"),
        ("POST", "", "invoke_agent"),
        ("GET", "/v1/runs/a-b/stream", "fetch_response"),
        ("GET", "/apps", "dynamiq.flowy.apps.list"),
        ("DELETE", "/v1/runs", "dynamiq.request"),
    ],
)
def test_what_a_request_is_for(method: str, path: str, name: str) -> None:
    assert operation_of(method, path).name == name


async def test_a_body_that_is_none_of_ours_is_not_told(serve: Serve) -> None:
    recorded = Recorded()
    served = await serve("echo", client={"open_telemetry": recorded.options})
    with pytest.raises(errors.BadRequestError):
        await served.app.invoke({}, extra_body={"session_id": 3})
    await served.app.invoke({}, files=b"x")
    assert ["gen_ai.conversation.id" in (s.attributes or {}) for s in recorded.spans] == [False] * 2
    recorded.close()


async def test_a_socket_is_a_stream(serve: Serve) -> None:
    recorded = Recorded()
    served = await serve("llm", client={"open_telemetry": recorded.options})
    async with served.app.connect() as socket:
        async for _ in socket.run({}):
            pass
    assert recorded.span().name == "invoke_agent bot"
    recorded.close()


async def test_within_a_call_there_is_no_other(serve: Serve) -> None:
    recorded = Recorded()
    telemetry = (
        await serve("echo", client={"open_telemetry": recorded.options})
    ).app._api.sender.telemetry
    with telemetry.composed("outer"), telemetry.composed("inner") as inner:
        assert inner is None
    assert [span.name for span in recorded.spans] == ["outer"]
    recorded.close()


async def test_a_call_ends_once(serve: Serve) -> None:
    recorded = Recorded()
    telemetry = (
        await serve("echo", client={"open_telemetry": recorded.options})
    ).app._api.sender.telemetry
    call = telemetry.begin_stream(None)
    assert call is not None
    call.end()
    call.end(errors.DynamiqError("late"))
    assert recorded.span().status.is_ok
    with outside():
        assert not recorded.spans[1:]
    recorded.close()
