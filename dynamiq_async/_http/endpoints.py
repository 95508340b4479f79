"""Endpoints that have no method of their own: one call, and a list that comes in pages.

`Client.request` and `Client.pages` use this module, for every client.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import msgspec
from msgspec import Raw

from dynamiq_async import _json
from dynamiq_async._http.paging import Page, Pages, page_body_of
from dynamiq_async._http.request_options import RequestOptions
from dynamiq_async._http.response import decode_apart, read_with
from dynamiq_async.errors import InvalidArgumentError
from dynamiq_async.options import check_id, check_mapping

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from dynamiq_async._http.api import Api
    from dynamiq_async._http.request import Request

T = TypeVar("T")

Segment = str | UUID | int
"""A part of a path between two slashes."""

_METHOD = r"[A-Z]+(-[A-Z]+)*"


async def call(
    api: Api,
    method: str,
    segments: tuple[Segment, ...],
    *,
    query: Mapping[str, Any] | None,
    body: Any,
    output_type: Any,
    retry: bool | None,
) -> Any:
    """The decoded body of a response. See `Client.request`."""
    _json.check_type(output_type)
    request = request_of(api, method, segments, query=query, body=body, retry=retry)
    response = await api.sender.fetch(request, api.options)
    if not response.body:  # the response to a HEAD, or a 204
        response = msgspec.structs.replace(response, body=b"null")
    return await decode_apart(str(request), response, output_type, key=api.sender.key)


def request_of(
    api: Api,
    method: str,
    segments: tuple[Segment, ...],
    *,
    query: Mapping[str, Any] | None,
    body: Any,
    retry: bool | None,
    stream: bool = False,
) -> Request:
    """A request to an endpoint, ready to be sent. `stream` asks for an event stream.

    Raises:
        InvalidArgumentError: an argument cannot be used.
    """
    return api.request(
        _check_method(method),
        *_path(segments),
        query=check_mapping(query, "query"),
        body=None if body is None else _json.encode_value(body, "body"),
        given=RequestOptions(retry=retry),
        stream=stream,
    )


def listed(
    api: Api, segments: tuple[Segment, ...], *, query: Mapping[str, Any] | None, item_type: Any
) -> Pages[Any]:
    """A list that comes in pages. See `Client.pages`."""
    _json.check_type(item_type, "item_type")
    path, asked = _path(segments), dict(check_mapping(query, "query"))
    first = _first_page(asked.pop("page", None))

    async def fetch(number: int) -> Page[Any]:
        request = api.request("GET", *path, query={**asked, "page": number})
        found: Raw = await api.fetch(request, api.options, Raw)
        key = api.sender.key
        body = read_with(page_body_of, found, f"the answer to {request} is no list", key=key)
        wrong = f"an item of the answer to {request} does not fit {_json.type_name(item_type)}"
        decode = partial(_json.decode, type=item_type)
        return body.page([read_with(decode, raw, wrong, key=key) for raw in body.data or []])

    return Pages(fetch, page=first, identity=identity_of)


def identity_of(item: Any) -> Hashable:
    """The key by which an item of a list is recognised: its id, else its whole JSON."""
    id = item.get("id") if isinstance(item, dict) else getattr(item, "id", None)
    if isinstance(id, str | int | UUID) and id != "":
        return id
    told = _json.kept(item)
    return _json.encode(item, "item") if told is None else bytes(told)


def _check_method(method: object) -> str:
    if not isinstance(method, str) or not re.fullmatch(_METHOD, method.upper()):
        raise InvalidArgumentError(
            f"method must be a method of HTTP, such as 'GET', not {method!r}", argument="method"
        )
    return method.upper()


def _path(segments: tuple[Segment, ...]) -> tuple[str, ...]:
    """The checked segments of a path. An empty segment is refused: most likely an id is missing,
    and the path without it belongs to another endpoint."""
    if not segments:
        return ("",)
    return tuple(
        str(each) if type(each) is int else check_id(each, "segments") for each in segments
    )


def _first_page(given: Any) -> int:
    if given is None:
        return 1
    if not str(given).isdecimal() or int(given) < 1:
        raise InvalidArgumentError(
            f"query: page must be an integer of at least 1, not {given!r}", argument="query"
        )
    return int(given)
