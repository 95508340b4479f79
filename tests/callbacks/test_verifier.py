"""`CallbackVerifier`: headers and a body in, a result or a refusal out, and nothing else."""

from __future__ import annotations

import gzip
import hmac
import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict
from starlette.datastructures import Headers as StarletteHeaders

from dynamiq_async.callbacks import (
    CallbackRefusedError,
    CallbackReply,
    CallbackResult,
    CallbackVerifier,
)
from dynamiq_async.errors import DynamiqError, InvalidArgumentError
from tests.support.callback_senders import callback

BODY = json.dumps(callback()).encode()
GOOD = {"Authorization": "Bearer new", "Content-Type": "application/json"}


@pytest.fixture
def verifier() -> CallbackVerifier:
    return CallbackVerifier(tokens=["new", "old"], max_body_bytes=1000)


def refusal(
    verifier: CallbackVerifier, headers: Any = GOOD, body: bytes = BODY, **more: Any
) -> CallbackRefusedError:
    with pytest.raises(CallbackRefusedError) as caught:
        verifier.verify(headers, body, **more)
    return caught.value


# --- who may send --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer new"},
        {"Authorization": "bearer old"},
        {"AUTHORIZATION": "  BEARER   new  "},
        [("authorization", "Bearer new")],
        [(b"authorization", b"Bearer old")],
        iter([(b"Authorization", "Bearer old")]),
        CIMultiDict({"Authorization": "Bearer new"}),
        StarletteHeaders({"Authorization": "Bearer new"}),
    ],
)
def test_any_of_the_tokens_opens_in_any_form_of_headers(
    verifier: CallbackVerifier, headers: Any
) -> None:
    assert verifier.verify(headers, BODY).id == "run-1"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": "new"},
        {"authorization": "Bearer"},
        {"authorization": "Basic new"},
        {"authorization": "Bearernew"},
        {"authorization": "Bearer wrong"},
        {"authorization": "Bearer ne"},
        {"authorization": "Bearer new old"},
        {"authorization": "Bearer NEW"},
        {"authorization": "Bearer n\u00e9w \U0001f600"},
        {"authorization": "Bearer \udcff\ud800"},
        [(b"authorization", b"Bearer \xff\x00\xfe")],
        [("authorization", "Bearer new"), ("authorization", "Bearer new")],
    ],
)
def test_nothing_else_opens_and_says_no_more_than_that(
    verifier: CallbackVerifier, headers: Any
) -> None:
    error = refusal(verifier, headers)
    assert (error.status, error.code) == (401, "unauthorized")
    assert error.reply.headers["WWW-Authenticate"].startswith("Bearer")
    for secret in ("new", "old"):
        assert secret not in error.reply.body.decode().split()
        assert secret not in repr(vars(error)).replace("known", "")


def test_every_token_is_compared_whichever_fits(
    verifier: CallbackVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return one == other

    monkeypatch.setattr(hmac, "compare_digest", compare)
    for token in ("new", "old", "", "x" * 500):
        compared.clear()
        if token in ("new", "old"):
            verifier.check_head({"authorization": f"Bearer {token}"})
        else:
            refusal(verifier, {"authorization": f"Bearer {token}"})
        assert compared == [(32, 32), (32, 32)]


def test_without_tokens_anybody_may_send() -> None:
    verifier = CallbackVerifier(tokens=False)
    assert verifier.verify({}, BODY).id == "run-1"
    assert verifier.verify({"authorization": "Bearer whatever"}, BODY).id == "run-1"


@pytest.mark.parametrize(
    "tokens", ["", [], [""], ["a", None], None, True, 5, ["with space"], ["n\u00e9"], ["a\nb"]]
)
def test_tokens_that_can_never_come_are_refused_at_once(tokens: Any) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        CallbackVerifier(tokens=tokens)
    assert caught.value.argument == "tokens"


@pytest.mark.parametrize("size", [0, -1, True, "1", None])
def test_a_limit_that_is_none_is_refused(size: Any) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        CallbackVerifier(tokens=False, max_body_bytes=size)
    assert caught.value.argument == "max_body_bytes"


# --- what may be sent ----------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "OPTIONS", "post", ""])
def test_only_post_is_taken(verifier: CallbackVerifier, method: str) -> None:
    error = refusal(verifier, method=method)
    assert (error.status, error.code) == (405, "method_not_allowed")
    assert error.reply.headers["Allow"] == "POST"


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "application/json; charset=utf-8",
        "Application/JSON ;charset=UTF-8",
        "application/cloudevents+json",
        "text/json",
    ],
)
def test_json_by_any_of_its_names_is_taken(verifier: CallbackVerifier, content_type: str) -> None:
    assert verifier.verify(GOOD | {"Content-Type": content_type}, BODY).id == "run-1"


def test_a_missing_content_type_is_taken_for_json(verifier: CallbackVerifier) -> None:
    assert verifier.verify({"Authorization": "Bearer new"}, BODY).id == "run-1"


@pytest.mark.parametrize(
    "content_type",
    ["", "text/plain", "application/x-www-form-urlencoded", "json", "application/jsonp", "\u00e9"],
)
def test_other_content_types_are_refused(verifier: CallbackVerifier, content_type: str) -> None:
    error = refusal(verifier, GOOD | {"Content-Type": content_type})
    assert (error.status, error.code) == (415, "unsupported_media_type")


def test_a_compressed_body_is_refused(verifier: CallbackVerifier) -> None:
    error = refusal(verifier, GOOD | {"Content-Encoding": "gzip"}, gzip.compress(BODY))
    assert error.status == 415
    assert verifier.verify(GOOD | {"Content-Encoding": "identity"}, BODY).id == "run-1"


def test_a_body_that_is_too_large_is_refused_by_what_its_headers_say(
    verifier: CallbackVerifier,
) -> None:
    for length in ("1001", "0001001", "9" * 6000):
        error = refusal(verifier, GOOD | {"Content-Length": length}, b"")
        assert (error.status, error.code) == (413, "payload_too_large")
        assert "1000 bytes" in str(error)
    for odd in ("", "-5", "many", "1_001", "\u0661\u0661\u0661\u0661", str(len(BODY)), "0" * 6000):
        assert verifier.verify(GOOD | {"Content-Length": odd}, BODY).id == "run-1"


def test_a_body_that_is_too_large_is_refused_by_its_size(verifier: CallbackVerifier) -> None:
    assert refusal(verifier, body=BODY + b" " * 1000).status == 413
    assert verifier.verify(GOOD, BODY.ljust(1000)).id == "run-1"


# --- bodies --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"null",
        b"[]",
        b'"text"',
        b"12",
        b'{"id": "r", "status": "succeeded"} trailing',
        b'{"id": "r", "status": "succeeded", "output": nul}',
        b'{"id": "r", "status": "succeeded", "output": ' + b"[" * 100_000,
        b"\xff\xfe",
        b"id=r&status=succeeded",
    ],
)
def test_a_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    error = refusal(CallbackVerifier(tokens=False), {}, body)
    assert (error.status, error.code) == (400, "bad_request")
    assert error.reply.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("value", [..., None, "", 7, ["r"], {"a": 1}, "x" * 257])
def test_a_body_without_a_usable_id_is_refused(value: Any) -> None:
    content = callback() | {"id": value}
    if value is ...:
        del content["id"]
    error = refusal(CallbackVerifier(tokens=False), {}, json.dumps(content).encode())
    assert error.status == 400
    assert error.details == {"id": "must be a string of 1 to 256 characters"}
    assert json.loads(error.reply.body)["error"]["details"] == error.details


@pytest.mark.parametrize("value", [..., None, "", 7, ["succeeded"], True])
def test_a_body_without_a_usable_status_is_refused(value: Any) -> None:
    content = callback() | {"status": value}
    if value is ...:
        del content["status"]
    error = refusal(CallbackVerifier(tokens=False), {}, json.dumps(content).encode())
    assert error.status == 400
    assert list(error.details or ()) == ["status"]


def test_all_complaints_come_at_once() -> None:
    error = refusal(CallbackVerifier(tokens=False), {}, b"{}")
    assert list(error.details or ()) == ["id", "status"]


def test_what_is_unknown_or_of_an_odd_type_does_not_lose_the_result() -> None:
    content = callback(
        metadata="text", timestamp=5, error={"deep": [1]}, new_field={"x": 1}, attempt=3
    )
    result = CallbackVerifier(tokens=False).verify({}, json.dumps(content).encode())
    assert (result.metadata, result.timestamp, result.error) == (None, None, {"deep": [1]})
    assert result.output == {"answer": 42}


def test_a_byte_order_mark_and_broken_utf8_are_forgiven() -> None:
    body = b'\xef\xbb\xbf{"id": "r\xff", "status": "failed"}'
    assert CallbackVerifier(tokens=False).verify({}, body) == CallbackResult(
        id="r\ufffd", status="failed"
    )


# --- refusals ------------------------------------------------------------------------------------


def test_a_refusal_is_one_of_our_errors_and_pickles(verifier: CallbackVerifier) -> None:
    error = refusal(verifier, {})
    assert isinstance(error, DynamiqError)
    again = pickle.loads(pickle.dumps(error))
    assert again.reply == error.reply
    assert again.reply == CallbackReply(
        401,
        {"Content-Type": "application/json", "WWW-Authenticate": "Bearer"},
        b'{"error":{"code":"unauthorized","message":"a bearer token is needed"}}',
    )


headers_strategy = st.lists(
    st.tuples(
        st.sampled_from(["authorization", "content-type", "content-length", "content-encoding"])
        | st.text()
        | st.binary(),
        st.sampled_from(["Bearer new", "application/json", "identity", "10"])
        | st.text(st.characters(codec=None))
        | st.binary(),
    ),
    max_size=6,
)


def outcome(verifier: CallbackVerifier, *request: Any, **more: Any) -> Any:
    try:
        return verifier.verify(*request, **more)
    except CallbackRefusedError as refused:
        return refused


@given(headers_strategy, st.binary() | st.just(BODY), st.sampled_from(["POST", "GET"]))
def test_whatever_comes_is_a_result_or_a_refusal(headers: Any, body: bytes, method: str) -> None:
    verifier = CallbackVerifier(tokens=["new", "old"], max_body_bytes=1000)
    came = outcome(verifier, headers, body, method=method)
    if isinstance(came, CallbackResult):
        assert came.id
    else:
        assert 400 <= came.status < 500
        assert json.loads(came.reply.body)["error"]["code"] == came.code
        assert all(f"{k}: {v}".isascii() for k, v in came.reply.headers.items())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "id": st.text(min_size=1) | json_values,
            "status": st.sampled_from(["succeeded", "failed"]) | json_values,
            "timestamp": json_values,
            "output": json_values,
            "metadata": json_values,
            "error": json_values,
            "other": json_values,
        },
    )
)
def test_any_json_object_is_a_result_or_a_refusal(content: dict[str, Any]) -> None:
    came = outcome(CallbackVerifier(tokens=False), {}, json.dumps(content).encode())
    if isinstance(came, CallbackResult):
        assert (came.id, came.status) == (content["id"], content["status"])
        assert came.output == content.get("output")
        metadata = content.get("metadata")
        assert came.metadata == (metadata if isinstance(metadata, dict) else None)
        _ = came.time, repr(came)
    else:
        assert came.status == 400
