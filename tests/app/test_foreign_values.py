"""Inputs, queries and headers may hold what other libraries have for numbers, texts and times."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from types import ModuleType
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec
import numpy as np
import pydantic
import pytest
from msgspec import Raw

from dynamiq_async import Timeout, errors
from tests.support.wire import make_response, script

if TYPE_CHECKING:
    from tests.support.network import MakeApp, Serve


class Markup(str):
    def __str__(self) -> str:
        return "another text"

    __slots__ = ()


class Count(int):
    def __int__(self) -> int:
        return 7


class Share(float):
    pass


class Moment(datetime):
    pass


class Day(date):
    pass


class Span(timedelta):
    pass


class Amount(Decimal):
    pass


class Blob(bytes):
    pass


class Status(str, Enum):  # noqa: UP042 - as many programs still have it
    FAILED = "failed"


class Level(IntEnum):
    HIGH = 3


def of_pandas(kind: type, name: str) -> Any:
    return type(name, (kind,), {"__module__": "pandas.api.typing"})


VALUES = [
    (Markup("<b>"), "<b>"),
    (Count(5), 5),
    (Share(1.5), 1.5),
    (Moment(2024, 1, 2, 3, 4, 5, 6, UTC), "2024-01-02T03:04:05.000006Z"),
    (Day(2024, 1, 2), "2024-01-02"),
    (Span(1), "P1D"),
    (Amount("0.1000"), "0.1000"),
    (Blob(b"a"), "YQ=="),
    (Decimal("0.1000"), "0.1000"),
    (date(2024, 1, 2), "2024-01-02"),
    (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (Status.FAILED, "failed"),
    (Level.HIGH, 3),
    (np.float64(1.5), 1.5),
    (np.float32(0.5), 0.5),
    (np.longdouble(1.5), 1.5),
    (np.int64(7), 7),
    (np.uint8(7), 7),
    (np.bool_(1), True),
    (np.str_("text"), "text"),
    (np.datetime64("2024-01-02T03:04:05.000006001"), "2024-01-02T03:04:05.000006"),
    (np.timedelta64(1, "D"), "P1D"),
    (np.array([1, 2]), [1, 2]),
    (np.float64("nan"), None),
    (np.float32("nan"), None),
    (np.datetime64("NaT", "s"), None),
    (of_pandas(object, "NAType")(), None),
    (of_pandas(datetime, "NaTType")(2024, 1, 1), None),
    (of_pandas(datetime, "Timestamp")(2024, 1, 2), "2024-01-02T00:00:00"),
]


@pytest.mark.parametrize(("value", "written"), VALUES, ids=lambda value: type(value).__name__)
async def test_a_value_is_sent_as_the_builtin_that_it_stands_for(
    value: Any, written: Any, serve: Serve, app_for: MakeApp
) -> None:
    wire = await serve(script(make_response({})))
    await app_for(wire).invoke({"rows": [{"score": value}], "other": value})
    assert wire.requests[0].json()["input"] == {"rows": [{"score": written}], "other": written}


async def test_keys_may_be_such_values_too(serve: Serve, app_for: MakeApp) -> None:
    wire = await serve(script(make_response({})))
    await app_for(wire).invoke({np.str_("a"): {np.int64(1): 2, Status.FAILED: 3}})
    assert wire.requests[0].json()["input"] == {"a": {"1": 2, "failed": 3}}


@dataclasses.dataclass
class Data:
    score: Any


class Structure(msgspec.Struct):
    score: Any


class Model(pydantic.BaseModel):
    score: Any


UNSENDABLE = [
    ({"a": 1, "score": math.nan}, "input.score"),
    ({"rows": [{"score": 1.0}, {"score": -math.inf}]}, r"input.rows\[1\].score"),
    ({"score": (None, {"x": math.nan})}, r"input.score\[1\].x"),
    (Data(math.nan), "input.score"),
    (Structure([math.inf]), r"input.score\[0\]"),
    (Model(score=[math.nan]), r"input.score\[0\]"),
    ({"score": np.float64("inf")}, "input.score"),
    ({"score": np.float32("-inf")}, "input.score"),
    ({"score": Share("nan")}, "input.score"),
    ({"rows": [{"score": object()}]}, r"input.rows\[0\].score"),
    ({"score": np.complex128(1)}, "input.score"),
    ({"score": type}, "input.score"),
    ({"raw": Raw(b"1"), "none": None, "score": math.nan}, "input.score"),
]


@pytest.mark.parametrize(("value", "where"), UNSENDABLE)
async def test_what_json_has_no_name_for_is_refused_by_the_name_of_its_field(
    value: Any, where: str, app_for: MakeApp
) -> None:
    app = app_for("http://127.0.0.1:9")
    for call in (app.invoke(value), app.submit(value), app.runs.create(value)):
        with pytest.raises(errors.InvalidArgumentError, match=rf"^{where} ") as caught:
            await call
        assert caught.value.argument == "input"


async def test_raw_json_beside_a_null_is_sent(serve: Serve, app_for: MakeApp) -> None:
    wire = await serve(script(make_response({})))
    await app_for(wire).invoke({"raw": Raw(b'{"a": 1}'), "none": None})
    assert wire.requests[0].json()["input"] == {"raw": {"a": 1}, "none": None}


# --- rows of frames --------------------------------------------------------------------------


async def test_the_nan_of_a_frames_row_is_a_missing_value(serve: Serve, app_for: MakeApp) -> None:
    wire = await serve(script(make_response({})))
    await app_for(wire).invoke(
        {"id": np.int64(1), "score": math.nan, "when": np.datetime64("NaT", "s")}
    )
    assert wire.requests[0].json()["input"] == {"id": 1, "score": None, "when": None}


async def test_a_row_as_a_series_is_an_object(serve: Serve, app_for: MakeApp) -> None:
    series = of_pandas(object, "Series")()
    type(series).dtype = np.dtype(object)
    type(series).to_dict = lambda _: {"id": 1, "score": math.nan, "text": "a"}
    wire = await serve(script(make_response({})))
    await app_for(wire).invoke(series)
    assert wire.requests[0].json()["input"] == {"id": 1, "score": None, "text": "a"}


@pytest.mark.parametrize("mode", ["invoke", "run"])
async def test_in_a_batch_of_a_program_that_uses_pandas_a_row_has_nan_for_what_is_missing(
    mode: Any, serve: Serve, app_for: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"id": 1, "score": math.nan}  # as `df.to_dict("records")` has it
    wire = await serve(script(make_response(None, 400)))
    app = app_for(wire)
    monkeypatch.delitem(sys.modules, "pandas", raising=False)
    [refused] = await app.batch([row], mode=mode)
    assert isinstance(refused.error, errors.InvalidArgumentError)
    assert wire.requests == []
    monkeypatch.setitem(sys.modules, "pandas", ModuleType("pandas"))
    [_, nested] = await app.batch([row, {"rows": [row]}], mode=mode)
    assert isinstance(nested.error, errors.InvalidArgumentError)
    [request] = wire.requests
    assert request.json()["input"] == {"id": 1, "score": None}


async def test_the_records_of_a_frame_are_sent(serve: Serve, app_for: MakeApp) -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(
        {
            "id": [1, 2],
            "text": ["a", None],
            "score": [1.5, math.nan],
            "when": pd.to_datetime(["2024-01-02T03:04:05.000006001", None]),
            "count": pd.array([1, None], dtype="Int64"),
            "took": pd.to_timedelta([1, None], unit="s"),
        }
    )
    wire = await serve(script(make_response({})))
    app = app_for(wire)
    await app.batch(frame.to_dict("records"), concurrency=1)
    for _, row in frame.iterrows():
        await app.invoke(row)
    sent = [json.loads(request.body)["input"] for request in wire.requests]
    assert sent[0]["when"] == "2024-01-02T03:04:05.000006"
    assert list(sent[1].values()) == [2, *[None] * 5]
    assert sent[2:] == sent[:2]


# --- queries, headers and ids ----------------------------------------------------------------


async def test_queries_headers_and_ids_have_the_value_of_an_enum(
    serve: Serve, app_for: MakeApp
) -> None:
    class Name(StrEnum):
        TEAM = "x-team"

    wire = await serve(script(make_response({"data": []})))
    app = app_for(wire, headers={"X-Status": Status.FAILED})
    await app.runs.list(status=[Status.FAILED])
    await app.invoke(
        {},
        extra_query={"n": np.int64(1), "s": np.str_("a"), "d": date(2024, 1, 2), "e": Level.HIGH},
        extra_headers={Name.TEAM: Markup("blue")},
    )
    first, second = wire.requests
    assert first.target.startswith("/v1/runs?status=failed&")
    assert second.target.endswith("?n=1&s=a&d=2024-01-02&e=3")
    assert first.headers["x-status"] == "failed"
    assert second.headers["x-team"] == "blue"
    with pytest.raises(errors.ResponseDecodeError):
        await app.runs.get(Status.FAILED)
    assert wire.requests[2].target.endswith("/runs/failed")


# --- arguments of a wrong kind ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("verify", True),
        ("verify", False),
        ("verify", 5),
        ("proxy", 3128),
        ("proxy", b"http://proxy.example"),
        ("session", object()),
        ("session", "session"),
        ("headers", [("X-A", "1")]),
        ("headers", "X-A: 1"),
        ("headers", ()),
    ],
)
def test_an_option_of_a_wrong_kind_is_refused_at_once(
    argument: str, value: Any, app_for: MakeApp
) -> None:
    with pytest.raises(errors.InvalidArgumentError, match=rf"^{argument} must be") as caught:
        app_for("http://127.0.0.1:9", **{argument: value})
    assert caught.value.argument == argument


@pytest.mark.parametrize("argument", ["extra_headers", "extra_query", "extra_body"])
@pytest.mark.parametrize("value", [[("a", "1")], "a=1", ["ab"], (), 5])
async def test_what_is_added_to_a_request_is_a_mapping(
    argument: str, value: Any, app_for: MakeApp
) -> None:
    app = app_for("http://127.0.0.1:9")
    for call in (
        app.invoke({}, **{argument: value}),
        app.runs.create({}, **{argument: value}),
        app.submit({}, **{argument: value}),
    ):
        with pytest.raises(errors.InvalidArgumentError, match=rf"^{argument} must be") as caught:
            await call
        assert caught.value.argument == argument
    with pytest.raises(errors.InvalidArgumentError, match=rf"^{argument} must be"):
        app.stream({}, **{argument: value})


async def test_limits_of_connecting_are_not_kept_for_ever(serve: Serve, app_for: MakeApp) -> None:
    app = app_for(await serve(script(make_response({}))), transport="session")
    for count in range(200):
        await app.invoke({}, timeout=Timeout(connect=10 + count / 1000))
    transport: Any = app._api.sender._transport
    assert len(transport._timeouts) <= 64
