"""Apps with typed parameters: what they are given, and what a wrong input is told."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ForwardRef,
    Generic,
    NotRequired,
    TypedDict,
    TypeVar,
)
from unittest.mock import AsyncMock

import aiohttp
import pydantic
import pytest
from msgspec import Meta, Struct, field

from dynamiq_async import AsyncApp, errors
from dynamiq_async.emulator import Emulator, NotAnAppError
from dynamiq_async.emulator import RunContext as Context
from dynamiq_async.emulator.app import signatures
from dynamiq_async.emulator.app.input_types import InputType, MisfitError
from dynamiq_async.emulator.app.signatures import Signature

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from decimal import Decimal as OnlyForTypes

    from dynamiq_async.emulator import RunContext

T = TypeVar("T")
BLANK = "cannot be blank"


class Tone(Enum):
    KIND = "kind"
    BRIEF = "brief"


class Person(Struct):
    name: str
    age: Annotated[int, Meta(ge=0)] = 0


class Question(Struct):
    question: str
    limit: int = 5
    tone: Tone = Tone.KIND
    people: list[Person] = []
    top_p: float | None = field(default=None, name="topP")


@dataclass
class AsDataclass:
    question: str
    limit: int = 5

    def __post_init__(self) -> None:
        if self.limit < 0:
            raise ValueError("nobody wants that")


class AsTypedDict(TypedDict):
    question: str
    limit: NotRequired[int]


class AsModel(pydantic.BaseModel):
    question: str
    limit: int = pydantic.Field(5, ge=0)
    people: list[AsModel] = []


class Boxed(Struct, Generic[T]):
    question: T


class Strict(Struct, forbid_unknown_fields=True):
    question: str


class Pair(Struct, array_like=True):
    question: str


class Ask(Struct, tag=True):
    question: str


class Tell(Struct, tag=True):
    answer: str


async def whole(input: Question, run: RunContext) -> Any:
    assert isinstance(input, Question)
    await run.text(input.question)
    return {"said": input.question, "limit": input.limit, "run": run.id}


async def with_dataclass(input: AsDataclass, run: RunContext) -> Any:
    return {"said": input.question, "limit": input.limit}


async def with_typed_dict(input: AsTypedDict, run: RunContext) -> Any:
    return {"said": input["question"], "limit": input.get("limit", 5)}


async def with_model(input: AsModel, run: RunContext) -> Any:
    return {"said": input.question, "limit": input.limit}


async def with_generic(input: Boxed[str], run: RunContext) -> Any:
    return {"said": input.question, "limit": 5}


async def with_fields(question: str, run: RunContext, limit: int = 5) -> Any:
    assert run.app == "app"
    return {"said": question, "limit": limit}


async def without_run(question: str, /, *, limit: Annotated[int, Meta(ge=0)] = 5) -> Any:
    return {"said": question, "limit": limit}


async def positional(question: str, limit: int = 5, /) -> Any:
    return {"said": question, "limit": limit}


class OwnContext(Context):
    """One of the user's own."""


async def maybe_a_run(question: str, context: RunContext | None = None, limit: int = 5) -> Any:
    assert context is not None
    return {"said": question, "limit": limit}


async def by_subclass(context: OwnContext, *, question: str, limit: int = 5) -> Any:
    return {"said": question, "limit": limit}


async def with_more(question: str, run: RunContext, **more: int) -> Any:
    return {"said": question, "limit": more.get("limit", 5)}


def not_async(input: Question) -> Any:
    return {"said": input.question, "limit": input.limit}


class Support:
    async def __call__(self, question: str, run: RunContext) -> Any:
        return {"said": question, "limit": 5}

    async def method(self, input: Question, run: RunContext) -> Any:
        return {"said": input.question, "limit": 5}


def extra(n: int, input: Question, run: RunContext) -> Any:
    return {"said": input.question, "limit": n}


def wrapped(app: Callable[..., Any]) -> Any:
    @functools.wraps(app)
    async def call(*given: Any, **named: Any) -> Any:
        return await app(*given, **named)

    return call


TYPED = [
    *(whole, with_dataclass, with_typed_dict, with_model, with_generic, with_fields, without_run),
    *(
        maybe_a_run,
        by_subclass,
        positional,
        with_more,
        not_async,
        Support(),
        Support().method,
        functools.partial(extra, 5),
    ),
    *(wrapped(whole), wrapped(with_fields)),
]


def name_of(app: Any) -> str:
    return getattr(app, "__name__", type(app).__name__)


@pytest.mark.parametrize("app", TYPED, ids=name_of)
async def test_an_app_gets_its_input_as_its_signature_has_it(connect: Any, app: Any) -> None:
    async with Emulator("echo", apps={"app": app}) as emulator:
        client = await connect(emulator)
        for path in ("/app", "/app/v1/runs"):
            response = await client.post(path, {"input": {"question": "hi", "stray": [1]}})
            if app is with_more:  # which takes all that are numbers
                assert response.error["details"] == {"input.stray": "must be an integer"}
                response = await client.post(path, {"input": {"question": "hi", "limit": 5}})
            body = response.json
            output = body["data"]["output"] if "data" in body else body
            assert (output["said"], output["limit"]) == ("hi", 5)
        assert emulator.executions[0].input["question"] == "hi"


@pytest.mark.parametrize("app", TYPED, ids=name_of)
async def test_a_wrong_input_is_told_before_the_app_runs(connect: Any, app: Any) -> None:
    async with Emulator("echo", apps={"app": app}) as emulator:
        client = await connect(emulator)
        for path in ("/app", "/app/v1/runs"):
            for input, complaint in (
                ({"limit": 1}, BLANK),
                ({"question": None}, BLANK),
                ({"question": 7}, "string"),
            ):
                response = await client.post(path, {"input": input})
                assert (response.status, response.error["code"]) == (400, "bad_request")
                [(name, said)] = response.error["details"].items()
                assert name == "input.question"
                assert complaint in said
        assert emulator.executions.total == 0
        assert not emulator.runs


PEOPLE = {"question": 1, "limit": "x", "people": [{"name": "Ann"}, {"age": -1}], "topP": None}


@pytest.mark.parametrize(
    ("app", "input", "details"),
    [
        (
            whole,
            {**PEOPLE, "tone": "rude", "topP": "1"},
            {
                "input.question": "must be a string",
                "input.limit": "must be an integer",
                "input.tone": "must be a valid value",
                "input.people[1].name": BLANK,
                "input.people[1].age": "must be an integer >= 0",
                "input.topP": "must be a number or null",
            },
        ),
        (
            whole,
            {"question": "", "people": [{"name": "Ann", "age": -1}]},
            {"input.people[0].age": "must be an integer >= 0"},
        ),
        (whole, {"question": "", "people": {}}, {"input.people": "must be an array"}),
        (with_dataclass, {"question": "", "limit": -1}, {"input": "nobody wants that"}),
        (with_generic, {"question": 7}, {"input.question": "must be a string"}),
        (
            with_model,
            {"people": [{}, {"question": "", "limit": -1}], "limit": None},
            {
                "input.question": BLANK,
                "input.limit": BLANK,
                "input.people[0].question": BLANK,
                "input.people[1].limit": "input should be greater than or equal to 0",
            },
        ),
        (
            with_fields,
            {"limit": 1.5},
            {"input.question": BLANK, "input.limit": "must be an integer"},
        ),
        (without_run, {"question": "", "limit": -1}, {"input.limit": "must be an integer >= 0"}),
    ],
)
async def test_every_wrong_field_is_told(
    connect: Any, app: Any, input: Any, details: dict[str, str]
) -> None:
    async with Emulator(app) as emulator:
        response = await (await connect(emulator)).post("/", {"input": input})
        assert response.status == 400
        assert response.error["details"] == details


async def test_other_complaints_come_with_it(connect: Any) -> None:
    async with Emulator(whole) as emulator:
        client = await connect(emulator)
        for path, fields in (("/", {"stream": "x"}), ("/v1/runs", {"session_id": "x"})):
            response = await client.post(path, {"input": {}, **fields})
            assert set(response.error["details"]) == {"input.question", *fields}
            for missing in ({}, {"input": None}, {"input": "text"}):
                response = await client.post(path, {**missing, **fields})
                assert set(response.error["details"]) == {"input", *fields}


async def test_in_a_form_and_for_callbacks_too(connect: Any) -> None:
    async with Emulator(whole) as emulator:
        client = await connect(emulator)
        for path in ("/", "/v1/runs"):
            wrong = await client.form(path, ('name="input"', b'{"question": 1}'))
            assert wrong.error["details"] == {"input.question": "must be a string"}
            right = await client.form(path, ('name="input"', b'{"question": "hi"}'))
            assert right.status == 200
        body = {"input": {"question": 1}, "execution_mode": "async"}
        assert (await client.post("/", body)).status == 400
        assert emulator.executions.total == 2


async def test_on_the_websocket_too() -> None:
    async with (
        Emulator(whole) as emulator,
        aiohttp.ClientSession() as session,
        session.ws_connect(
            emulator.url, headers={"Authorization": f"Bearer {emulator.access_key}"}
        ) as socket,
    ):
        for data in ({"question": 1}, {"stream": True, "input": {"question": 1}}):
            await socket.send_json({"entity_id": None, "data": data})
            error = (await socket.receive_json())["error"]
            assert error["details"] == {"input.question": "must be a string"}
        await socket.send_json({"entity_id": None, "data": {"question": "hi"}})
        text = await socket.receive_json()
        assert text["data"]["choices"][0]["delta"]["content"] == "hi"
        assert emulator.executions.total == 1


async def test_our_client_shows_the_details() -> None:
    async with (
        Emulator(whole) as emulator,
        AsyncApp(emulator.url, access_key=emulator.access_key) as app,
    ):
        with pytest.raises(errors.BadRequestError) as caught:
            await app.invoke({})
        assert caught.value.details == {"input.question": BLANK}
        assert (await app.invoke(Question("hi", limit=2)))["limit"] == 2


# --- what is taken as it is ---------------------------------------------------------------------


async def untyped(input, run):  # type: ignore[no-untyped-def]
    return {"got": input, "by": run.app}


async def by_other_names(given: Mapping[str, Any], context) -> Any:  # type: ignore[no-untyped-def]
    return {"got": given, "by": context.app}


async def with_more_of_its_own(input: dict, run: Any, more: int = 3) -> Any:  # type: ignore[type-arg]
    return {"got": input, "by": run.app}


async def by_type(run: Any, context: Context) -> Any:
    return {"got": {"run": run}, "by": context.app}


async def whatever(*given: Any) -> Any:
    return {"got": given[0], "by": given[1].app}


async def by_name(input: object, *, run: Any) -> Any:
    return {"got": input, "by": run.app}


async def quoted(input: "Mapping[str, Any]", run: "Context") -> Any:  # noqa: UP037
    return {"got": input, "by": run.app}


@pytest.mark.parametrize(
    "app",
    [
        *(untyped, by_other_names, with_more_of_its_own, whatever, by_name, quoted),
        lambda given, context: {"got": given, "by": context.app},
    ],
)
async def test_an_untyped_input_comes_as_it_is(connect: Any, app: Any) -> None:
    input = {"question": 1, "run": "x", "more": "x"}
    async with Emulator("echo", apps={"app": app}) as emulator:
        body = (await (await connect(emulator)).post("/app", {"input": input})).json
        assert body == {"got": input, "by": "app"}


async def test_the_run_is_known_by_its_type_first(connect: Any) -> None:
    async with Emulator("echo", apps={"app": by_type}) as emulator:
        client = await connect(emulator)
        assert (await client.post("/app", {"input": {"a": 1}})).json == {
            "got": {"run": {"a": 1}},
            "by": "app",
        }


async def test_what_tells_no_parameters_gets_both(connect: Any) -> None:
    class Odd:
        __signature__ = "none"

        def __call__(self, input: Any, run: Any) -> Any:
            return [input, run.app]

    apps: dict[str, Any] = {"odd": Odd(), "mock": AsyncMock(return_value={"n": 1})}
    async with Emulator("echo", apps=apps) as emulator:
        client = await connect(emulator)
        assert (await client.post("/odd")).json == {"output": [{}, "odd"]}
        assert (await client.post("/mock")).json == {"n": 1}


@pytest.mark.parametrize("kind", [Context, Context | None, ForwardRef("emulator.RunContext")])
async def test_types_that_are_no_texts_are_read_too(connect: Any, kind: Any) -> None:
    async def app(question: str, context: Any) -> Any:
        return {"said": question, "by": context.app}

    app.__annotations__ |= {"question": str, "context": kind}
    async with Emulator(app) as emulator:
        body = (await (await connect(emulator)).post("/", {"input": {"question": "q"}})).json
        assert body == {"said": "q", "by": "app"}


async def test_an_app_may_take_nothing(connect: Any) -> None:
    async def hello() -> str:
        return "hello"

    async def who(run: Context) -> str:
        return run.app

    async with Emulator(hello, apps={"who": who}) as emulator:
        client = await connect(emulator)
        assert (await client.post()).json == {"output": "hello"}
        assert (await client.post("/who", {"input": {"run": 1}})).json == {"output": "who"}


async def test_one_of_several_inputs(connect: Any) -> None:
    async def app(input: Ask | Tell, run: Context) -> Any:
        return type(input).__name__

    app.__annotations__["input"] = Ask | Tell
    async with Emulator(app) as emulator:
        client = await connect(emulator)
        asked = await client.post("/", {"input": {"type": "Ask", "question": "?"}})
        assert asked.json == {"output": "Ask"}
        wrong = await client.post("/", {"input": {"type": "Sing"}})
        assert wrong.error["details"] == {"input.type": "invalid value 'Sing'"}


def strict(input: Strict, run: RunContext) -> Any:
    return {}


def nested(
    people: list[AsModel],
    note: dict[str, int],
    rest: list[object] = [],  # noqa: B006
    by: dict[str, AsModel] = {},  # noqa: B006
    one: AsModel | None = None,
) -> Any:
    return {"people": [person.question for person in people], "rest": rest}


async def test_stray_fields_and_models_within(connect: Any) -> None:
    async with Emulator(strict, apps={"nested": nested}) as emulator:
        client = await connect(emulator)
        stray = await client.post("/", {"input": {"question": "", "stray": 1}})
        assert stray.error["details"] == {"input.stray": "is not a field"}
        input = {"people": [{}], "note": {"a": "b"}, "by": {"a": {}}, "one": {}}
        wrong = await client.post("/nested", {"input": input})
        assert wrong.error["details"] == {
            "input.people[0].question": BLANK,
            "input.note.a": "must be an integer",
            "input.by.a.question": BLANK,
            "input.one.question": BLANK,
        }
        right = await client.post(
            "/nested", {"input": {"people": [{"question": "q"}], "note": {}, "rest": [1, {}]}}
        )
        assert right.json == {"people": ["q"], "rest": [1, {}]}


class Checked(Struct):
    items: list[int]

    def __post_init__(self) -> None:
        raise KeyError(self.items[0])


class Fails(pydantic.BaseModel):
    @pydantic.model_validator(mode="before")
    @classmethod
    def fail(cls, given: Any) -> Any:
        raise KeyError("of its own")


def optional(person: Person | None = None, asked: Question | int | None = None) -> Any:
    return {}


def checked(input: Checked, run: RunContext) -> Any: ...


def fails(input: Fails, run: RunContext) -> Any: ...


async def test_every_wrong_field_of_what_may_be_left_out_is_told(connect: Any) -> None:
    async with Emulator(optional) as emulator:
        client = await connect(emulator)
        wrong = await client.post("/", {"input": {"person": {"age": "a"}, "asked": "b"}})
        assert wrong.error["details"] == {
            "input.person.name": BLANK,
            "input.person.age": "must be an integer",
            "input.asked": "must be an integer or an object or null",
        }


@pytest.mark.parametrize("app", [checked, fails])
async def test_an_error_of_the_types_own_code_is_the_apps_failure(connect: Any, app: Any) -> None:
    async with Emulator(app) as emulator:
        failed = await (await connect(emulator)).post("/", {"input": {"items": [1]}})
        assert failed.status == 200
        assert failed.json["status"] == "failure"
        assert emulator.executions[0].failed_nodes["node-1"] in ("1", "'of its own'")


def test_signatures_are_read_once_and_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Signature.of(whole) is Signature.of(whole)
    monkeypatch.setattr("dynamiq_async.emulator.app.signatures._MOST_KNOWN", 2)
    apps = [functools.partial(whole) for _ in range(5)]
    assert [Signature.of(app).app for app in apps] == apps
    assert len(signatures._KNOWN) <= 2


def test_a_misfit_that_nobody_looked_for_is_an_error() -> None:
    with pytest.raises(MisfitError, match="Expected `int`"):
        InputType.of(int).convert("x")


# --- what cannot be an App ----------------------------------------------------------------------


async def unknown(input: OnlyForTypes, run: RunContext) -> Any: ...


async def not_known_either(input: Sequence[str] | Missing, run: RunContext) -> Any:  # type: ignore[name-defined]  # noqa: F821
    ...


async def not_json(question: str, client: AsyncApp) -> Any: ...


async def not_json_within(question: dict[str, list[AsyncApp]]) -> Any: ...


async def ambiguous(input: Person | Question, run: RunContext) -> Any: ...


async def two_runs(run: RunContext, other: Context) -> Any: ...


async def yields(input: Question, run: RunContext) -> Any:
    yield input


def yields_too(input: Question, run: RunContext) -> Any:
    yield input


class Yields:
    async def __call__(self, input: Any, run: Any) -> Any:
        yield input


@pytest.mark.parametrize(
    ("app", "said"),
    [
        (42, "42 is not a function"),
        (None, "None is not a function"),
        (Question, "is not a function"),
        (
            unknown,
            r"unknown cannot be an App: the type of input is not known.*OnlyForTypes.*import",
        ),
        (not_known_either, "'Missing' is not defined"),
        (not_json, "not_json cannot be an App: client can be no input: no JSON becomes a AsyncApp"),
        (not_json_within, "question can be no input: no JSON becomes a AsyncApp"),
        (ambiguous, "input can be no input: If a type union"),
        (two_runs, "both run and other take the run"),
        (yields, "yields cannot be an App: it yields; an App returns its output"),
        (yields_too, "it yields"),
        (Yields(), "Yields cannot be an App: it yields"),
    ],
)
def test_what_cannot_be_an_app_is_refused_when_the_emulator_is_made(app: Any, said: str) -> None:
    with pytest.raises(NotAnAppError, match=said):
        Emulator(app)
    with pytest.raises(NotAnAppError, match=said):
        Emulator(apps={"mine": app})


async def test_what_is_no_object_is_a_field_of_it(connect: Any) -> None:
    def pair(input: Pair, run: Context) -> Any:
        return {"got": input.question}

    pair.__annotations__["input"] = Pair
    async with Emulator(pair) as emulator:
        client = await connect(emulator)
        assert (await client.post("/", {"input": {"input": ["q"]}})).json == {"got": "q"}
