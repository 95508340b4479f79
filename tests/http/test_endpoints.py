"""`request` and `pages`: endpoints that have no method, called like those that have one."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID

import msgspec
import pydantic
import pytest
import pytest_asyncio

from dynamiq_async import AsyncApp, AsyncFlowy, AsyncManagement, Page, errors
from dynamiq_async._http.paging import Pages, page_body_of
from tests.support.network import KEY
from tests.support.wire import head, make_response, script

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from dynamiq_async._http.client import Client
    from tests.support.network import MakeApp, Serve
    from tests.support.wire import Peer, Wire

ID = UUID("00000000-0000-4000-8000-000000000001")
NO_CONTENT = head(204)


class Thing(msgspec.Struct):
    id: int
    name: str = ""


class Model(pydantic.BaseModel):
    id: int


class Clients(NamedTuple):
    """A client of each kind, each with its base URL under a path of its own."""

    app: AsyncApp
    management: AsyncManagement
    flowy: AsyncFlowy


@pytest_asyncio.fixture
async def clients_of(serve: Serve) -> AsyncIterator[Callable[[str], Clients]]:
    made: list[Client] = []

    def make(url: str) -> Clients:
        clients = Clients(
            AsyncApp(f"{url}/app", access_key=KEY),
            AsyncManagement(f"{url}/management", token=KEY),
            AsyncFlowy(KEY, f"{url}/flowy"),
        )
        made.extend(clients)
        return clients

    yield make
    for client in made:
        await client.aclose()


def targets(wire: Wire) -> list[str]:
    return [seen.target for seen in wire.requests]


def asked_pages(wire: Wire) -> list[str]:
    return [dict(parse_qsl(urlsplit(seen.target).query))["page"] for seen in wire.requests]


def listing(items: list[Any], **pagination: Any) -> bytes:
    return make_response({"data": items, "pagination": pagination})


# --- request: what is sent -------------------------------------------------------------------


@pytest.mark.parametrize("place", range(3))
async def test_every_client_calls_any_endpoint_with_its_key(
    place: int, serve: Serve, clients_of: Callable[[str], Clients]
) -> None:
    wire = await serve(script(make_response({"data": [1], "more": None})))
    client = clients_of(wire.url)[place]
    found = await client.request("get", "v1", "apps", ID, 5, query={"a": [1, True], "b": None})
    assert found == {"data": [1], "more": None}
    (seen,) = wire.requests
    name = Clients._fields[place]
    assert (seen.method, seen.target) == ("GET", f"/{name}/v1/apps/{ID}/5?a=1&a=true")
    assert seen.headers["authorization"] == f"Bearer {KEY}"
    assert seen.body == b""


async def test_each_part_of_the_path_is_escaped_on_its_own(serve: Serve, app_for: MakeApp) -> None:
    wire = await serve(script(make_response(None)))
    app = app_for(wire)
    await app.request("GET", "v1/x", "ä b", "?q=#", "%2e%2e", "a:b", "…")
    assert targets(wire) == ["/v1%2Fx/%C3%A4%20b/%3Fq%3D%23/%252e%252e/a%3Ab/%E2%80%A6"]
    await app.request("GET", query={"started_at:gte": "2026-01-01T00:00:00+01:00"})
    assert targets(wire)[1] == "/?started_at%3Agte=2026-01-01T00%3A00%3A00%2B01%3A00"


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        ({"b": ID, "c": None}, b'{"b":"00000000-0000-4000-8000-000000000001","c":null}'),
        ([], b"[]"),
        (0, b"0"),
        (False, b"false"),
        ("", b'""'),
        (Thing(1), b'{"id":1,"name":""}'),
        (Model(id=1), b'{"id":1}'),
        (msgspec.Raw(b'{"a": 1}'), b'{"a": 1}'),
    ],
)
async def test_any_json_value_can_be_the_body(
    body: Any, sent: bytes, serve: Serve, app_for: MakeApp
) -> None:
    wire = await serve(script(make_response({})))
    await app_for(wire).request("PATCH", "v1", "x", body=body)
    (seen,) = wire.requests
    assert (seen.method, seen.body, seen.headers["content-type"]) == (
        "PATCH",
        sent,
        "application/json",
    )


async def test_the_options_of_a_view_are_those_of_its_requests(
    serve: Serve, app_for: MakeApp
) -> None:
    async def handle(peer: Peer) -> None:
        if peer.request.target == "/slow":
            await peer.gone()
        else:
            await peer.send(make_response({}))

    wire = await serve(handle)
    view = app_for(wire).with_options(timeout=0.05, headers={"X-Mine": "1"})
    await view.request("GET", "quick")
    assert wire.requests[0].headers["x-mine"] == "1"
    with pytest.raises(errors.APITimeoutError):
        await view.request("GET", "slow")
    with pytest.raises(errors.AmbiguousTimeoutError):
        await view.request("POST", "slow")


@pytest.mark.parametrize(
    ("arguments", "options", "argument"),
    [
        (("GET", ""), {}, "segments"),
        (("GET", "v1", "", "x"), {}, "segments"),
        (("GET", None), {}, "segments"),
        (("GET", True), {}, "segments"),
        (("GET", 1.5), {}, "segments"),
        (("GET", b"x"), {}, "segments"),
        (("GET", ".."), {}, "segments"),
        (("GET", "v1", "."), {}, "segments"),
        (("",), {}, "method"),
        (("GET /x",), {}, "method"),
        (("GET\r\nX: y",), {}, "method"),
        ((None,), {}, "method"),
        ((5,), {}, "method"),
        (("GET",), {"query": "a=1"}, "query"),
        (("GET",), {"query": {"a": object()}}, "query"),
        (("POST",), {"body": object()}, "body"),
        (("POST",), {"body": {"a": [1, math.nan]}}, "body"),
        (("POST",), {"body": math.inf}, "body"),
        (("POST",), {"body": b"{}"}, "body"),
        (("POST",), {"body": bytearray(b"{}")}, "body"),
        (("GET",), {"output_type": object}, "output_type"),
    ],
)
async def test_what_cannot_be_used_sends_nothing(
    arguments: Any, options: Any, argument: str, serve: Serve, app_for: MakeApp
) -> None:
    wire = await serve(script(make_response({})))
    with pytest.raises(errors.InvalidArgumentError) as caught:
        await app_for(wire).request(*arguments, **options)
    assert caught.value.argument == argument
    assert not wire.requests


# --- request: what comes back ----------------------------------------------------------------


async def test_the_body_is_decoded_as_it_is_or_as_a_type(serve: Serve, app_for: MakeApp) -> None:
    wire = await serve(script(make_response({"id": 1, "name": "x", "new": []})))
    app = app_for(wire)
    assert await app.request("GET", "x") == {"id": 1, "name": "x", "new": []}
    assert await app.request("GET", "x", output_type=Thing) == Thing(1, "x")
    assert await app.request("GET", "x", output_type=Model) == Model(id=1)
    with pytest.raises(errors.ResponseDecodeError, match="does not fit list"):
        await app.request("GET", "x", output_type=list[int])


@pytest.mark.parametrize("response", [NO_CONTENT, make_response(b""), make_response(b"", 202)])
async def test_an_empty_body_is_none(response: bytes, serve: Serve, app_for: MakeApp) -> None:
    wire = await serve(script(response))
    app = app_for(wire)
    assert await app.request("DELETE", "x") is None
    assert await app.request("DELETE", "x", output_type=Thing | None) is None
    with pytest.raises(errors.ResponseDecodeError, match="does not fit Thing"):
        await app.request("DELETE", "x", output_type=Thing)


async def test_a_failed_workflow_in_the_body_is_a_body(serve: Serve, app_for: MakeApp) -> None:
    failed = {"status": "failure", "input": {}, "output": None, "error": {"message": "boom"}}
    wire = await serve(script(make_response(failed)))
    assert await app_for(wire).request("POST", body={"input": {}}) == failed


async def test_errors_are_those_of_every_call(serve: Serve, app_for: MakeApp) -> None:
    envelope = {"error": {"code": "bad_request", "message": KEY, "details": {"a": "is odd"}}}
    wire = await serve(
        script(
            make_response(envelope, 400),
            make_response({}, 302, "Location: https://elsewhere.example/"),
            make_response(b"<html>", kind="text/html"),
        )
    )
    app = app_for(wire)
    with pytest.raises(errors.BadRequestError) as caught:
        await app.request("POST", "v1", "x", body={})
    assert (caught.value.code, caught.value.details) == ("bad_request", {"a": "is odd"})
    assert KEY not in str(vars(caught.value))
    with pytest.raises(errors.RedirectError):
        await app.request("GET", "x")
    with pytest.raises(errors.ContentTypeError):
        await app.request("GET", "x")


# --- request: repetition ---------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
async def test_what_does_no_more_twice_is_repeated(
    method: str, serve: Serve, app_for: MakeApp, no_backoff: list[float]
) -> None:
    wire = await serve(script(make_response({}, 502), make_response({}, 503), make_response(7)))
    assert await app_for(wire).request(method, "x") == 7
    assert len(wire.requests) == 3


async def test_a_head_is_repeated_and_has_no_body(
    serve: Serve, app_for: MakeApp, no_backoff: list[float]
) -> None:
    wire = await serve(script(head(502, "Content-Length: 0"), head(200, "Content-Length: 9")))
    assert await app_for(wire).request("HEAD", "x") is None
    assert len(wire.requests) == 2


@pytest.mark.parametrize("method", ["POST", "PATCH", "post"])
async def test_what_may_run_twice_is_not_repeated_unless_the_caller_says_so(
    method: str, serve: Serve, app_for: MakeApp, no_backoff: list[float]
) -> None:
    wire = await serve(script(make_response({}, 502)))
    app = app_for(wire)
    with pytest.raises(errors.AmbiguousStatusError):
        await app.request(method, "x", body={})
    assert len(wire.requests) == 1
    with pytest.raises(errors.InternalServerError):
        await app.request(method, "x", body={}, retry=True)
    assert len(wire.requests) == 1 + 3
    with pytest.raises(errors.InternalServerError):
        await app.request("GET", "x", retry=False)
    assert len(wire.requests) == 1 + 3 + 1


async def test_what_was_certainly_not_taken_is_sent_again(
    serve: Serve, app_for: MakeApp, no_backoff: list[float]
) -> None:
    wire = await serve(script(make_response({}, 429), make_response({"a": 1})))
    assert await app_for(wire).request("POST", "x", body={}) == {"a": 1}
    assert len(wire.requests) == 2


# --- pages -----------------------------------------------------------------------------------


@pytest.mark.parametrize("place", range(3))
async def test_every_client_has_the_pager_of_runs(
    place: int, serve: Serve, clients_of: Callable[[str], Clients]
) -> None:
    count = {"page_size": 2, "page_count": 2, "total_count": 3}
    first = listing([{"id": 1}, {"id": 2}], page=1, **count)
    second = listing([{"id": 2}, {"id": 3}], page=2, **count)  # a newer one came in meanwhile
    wire = await serve(script(first, second, first))
    client = clients_of(wire.url)[place]
    pages = client.pages("v1", ID, "things", query={"status": ["a", "b"]}, item_type=Thing)
    assert isinstance(pages, Pages)
    assert [thing.id async for thing in pages] == [1, 2, 3]
    name = Clients._fields[place]
    assert targets(wire) == [
        f"/{name}/v1/{ID}/things?status=a&status=b&page={number}" for number in (1, 2)
    ]
    page = await pages
    assert isinstance(page, Page)
    assert (page.data, page.has_next) == ([Thing(1), Thing(2)], True)
    assert page.pagination.total_count == 3


async def test_the_first_page_can_be_named(serve: Serve, app_for: MakeApp) -> None:
    wire = await serve(script(*(listing([{"id": n}], page_count=8) for n in (1, 2))))
    asked = {"page": "7", "page_size": 1}
    assert [i["id"] async for i in app_for(wire).pages("x", query=asked)] == [1, 2]
    assert asked_pages(wire) == ["7", "8"]
    assert asked == {"page": "7", "page_size": 1}


@pytest.mark.parametrize(
    "body",
    [{"data": [{"id": 1}]}, {"data": [{"id": 1}], "pagination": None}, [{"id": 1}]],
)
async def test_a_list_without_pagination_is_whole(
    body: Any, serve: Serve, app_for: MakeApp
) -> None:
    wire = await serve(script(make_response(body)))
    app = app_for(wire)
    assert [item async for item in app.pages("x")] == [{"id": 1}]
    assert asked_pages(wire) == ["1"]
    assert not (await app.pages("x", query={"page": 2})).has_next


@pytest.mark.parametrize("body", [{}, {"data": None}, {"data": []}, []])
async def test_an_empty_list(body: Any, serve: Serve, app_for: MakeApp) -> None:
    wire = await serve(script(make_response(body)))
    assert [item async for item in app_for(wire).pages("x")] == []
    assert len(wire.requests) == 1


async def test_pages_as_flowy_writes_them(serve: Serve, app_for: MakeApp) -> None:
    def page(number: int) -> bytes:
        told = {"total": 2, "page": number, "pageSize": 1, "totalPages": 2}
        return make_response({"data": {"assets": [{"id": number}], **told, "new": {}}})

    wire = await serve(script(page(1), page(2), page(1)))
    app = app_for(wire)
    assert [item["id"] async for item in app.pages("assets")] == [1, 2]
    told = (await app.pages("assets")).pagination
    assert (told.page, told.page_size, told.page_count, told.total_count) == (1, 1, 2, 2)


def test_of_a_page_in_flowys_form_the_position_may_be_anywhere_or_missing() -> None:
    def pagination(**more: Any) -> Any:
        text = json.dumps({"data": {"x": [1]}, **more}).encode()
        return page_body_of(msgspec.Raw(text)).page([1]).pagination

    assert pagination().page_count == 1
    assert pagination(pagination={"page": 1, "page_count": 4}).page_count == 4


async def test_items_without_an_id_are_recognised_by_all_of_it(
    serve: Serve, app_for: MakeApp
) -> None:
    odd: Any = {"id": [2], "a": 2}
    first = listing([{"a": 1}, odd, "x", {"id": ""}], page_count=2)
    wire = await serve(script(first, listing([odd, "x", "y", {}, {"id": "", "a": 1}])))
    pages = app_for(wire).pages("x", query={"page": 1})
    async with pages as items:
        found = [await anext(items) for _ in range(7)]
    assert found == [{"a": 1}, odd, "x", {"id": ""}, "y", {}, {"id": "", "a": 1}]


async def test_a_list_can_be_entered_and_left(serve: Serve, app_for: MakeApp) -> None:
    wire = await serve(script(listing([{"id": 1}], page_count=2)))
    async with app_for(wire).pages("x") as items:
        assert await anext(items) == {"id": 1}
    with pytest.raises(errors.StreamClosedError):
        await anext(items)
    assert len(wire.requests) == 1


@pytest.mark.parametrize(
    "body", [5, "x", {"data": 5}, {"data": {}}, {"data": {"a": [], "b": []}}, {"data": "x"}]
)
async def test_what_is_no_list_is_an_error(body: Any, serve: Serve, app_for: MakeApp) -> None:
    wire = await serve(script(make_response(body)))
    with pytest.raises(errors.ResponseDecodeError, match="is no list"):
        await app_for(wire).pages("x")


async def test_an_item_of_another_type_is_an_error(serve: Serve, app_for: MakeApp) -> None:
    wire = await serve(script(listing([{"id": "one"}])))
    with pytest.raises(errors.ResponseDecodeError, match="does not fit Thing"):
        await app_for(wire).pages("x", item_type=Thing)


@pytest.mark.parametrize(
    ("segments", "options", "argument"),
    [
        (("",), {}, "segments"),
        (("x",), {"query": {"page": 0}}, "query"),
        (("x",), {"query": {"page": "next"}}, "query"),
        (("x",), {"query": [1]}, "query"),
        (("x",), {"item_type": object}, "item_type"),
    ],
)
async def test_wrong_arguments_of_a_list(
    segments: Any, options: Any, argument: str, serve: Serve, app_for: MakeApp
) -> None:
    with pytest.raises(errors.InvalidArgumentError) as caught:
        app_for("http://127.0.0.1:9").pages(*segments, **options)
    assert caught.value.argument == argument


async def test_a_page_that_fails_is_fetched_again(
    serve: Serve, app_for: MakeApp, no_backoff: list[float]
) -> None:
    wire = await serve(script(make_response({}, 503), listing([{"id": 1}], page_count=1)))
    assert [item async for item in app_for(wire).pages("x")] == [{"id": 1}]
    assert asked_pages(wire) == ["1", "1"]


@pytest.mark.parametrize(
    ("response", "kind"),
    [
        (make_response(b"<html>", kind="text/html"), errors.ContentTypeError),
        (make_response(b'{"data": [1}'), errors.ResponseDecodeError),
        (make_response(b""), errors.ResponseDecodeError),
        (make_response({}, 403), errors.PermissionDeniedError),
        (make_response({}, 302, "Location: https://elsewhere.example/"), errors.RedirectError),
    ],
)
async def test_a_page_that_cannot_be_read_is_an_error(
    response: bytes, kind: type[Exception], serve: Serve, app_for: MakeApp
) -> None:
    wire = await serve(script(response))
    with pytest.raises(kind):
        await app_for(wire).pages("x")
    assert len(wire.requests) == 1
