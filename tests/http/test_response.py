"""Responses become values or exceptions that say what is known, and never the key."""

from __future__ import annotations

import asyncio
import json
import pickle
import traceback
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamiq_async import errors
from dynamiq_async._credentials import mask
from dynamiq_async._http import error_responses
from dynamiq_async._http.error_responses import (
    MAX_ERROR_BODY,
    beginning,
    content_type,
    error_class,
    read_envelope,
    request_id,
    status_error,
    stream_error,
)
from dynamiq_async._http.response import BufferedResponse, decode_body, decode_output
from tests.support.limits import HANG_SECONDS, time_limit

if TYPE_CHECKING:
    pass

KEY = "dynamiq_acc_s3cr3t-0123456789"
CAPTURES = Path(__file__).parents[1] / "data" / "captures"
REQUEST = "POST https://app.example/"


def error_of(status: int = 400, body: bytes = b"", **known: Any) -> errors.APIStatusError:
    headers = known.pop("headers", {})
    return status_error(REQUEST, status, headers, body, **({"key": KEY} | known))


def envelope(**fields: Any) -> bytes:
    return json.dumps({"error": fields}).encode()


def visible_text(error: BaseException) -> str:
    """All that a log, a debugger or a pickle could give away."""
    trace = "".join(traceback.format_exception(error))
    return f"{trace} {error!r} {vars(error)} {pickle.dumps(vars(error))!r}"


# --- statuses ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (301, errors.RedirectError),
        (304, errors.RedirectError),
        (307, errors.RedirectError),
        (400, errors.BadRequestError),
        (401, errors.AuthenticationError),
        (402, errors.PaymentRequiredError),
        (403, errors.PermissionDeniedError),
        (404, errors.NotFoundError),
        (405, errors.APIStatusError),
        (408, errors.APIStatusError),
        (409, errors.ConflictError),
        (410, errors.GoneError),
        (413, errors.PayloadTooLargeError),
        (415, errors.UnsupportedMediaTypeError),
        (418, errors.APIStatusError),
        (422, errors.UnprocessableEntityError),
        (429, errors.RateLimitError),
        (500, errors.InternalServerError),
        (502, errors.InternalServerError),
        (503, errors.InternalServerError),
        (504, errors.InternalServerError),
        (599, errors.InternalServerError),
    ],
)
def test_each_status_has_its_class(status: int, kind: type) -> None:
    error = error_of(status)
    assert type(error) is kind
    assert error.status == status
    assert error.message.startswith(f"{REQUEST} was answered {status}")


def test_a_used_up_quota_is_distinguished_from_a_wrong_key() -> None:
    error = error_of(403, envelope(code="subscription_limit_reached", message="used up"))
    assert type(error) is errors.QuotaExceededError
    assert "project" not in error.message
    elsewhere = error_of(400, envelope(code="subscription_limit_reached", message="x"))
    assert type(elsewhere) is errors.BadRequestError


@pytest.mark.parametrize("key", ["dyn_pat_abc", "uak_abc"])
def test_a_personal_token_at_an_app_is_explained(key: str) -> None:
    error = error_of(403, key=key)
    assert "Personal Access Token" in error.message
    assert key not in visible_text(error)
    assert "Personal Access Token" not in error_of(403).message
    assert "another project" in error_of(403, key=None).message


def test_a_missing_key_is_explained() -> None:
    assert "DYNAMIQ_ACCESS_KEY" in error_of(401, key=None).message
    assert "DYNAMIQ_ACCESS_KEY" not in error_of(401).message


def test_a_redirect_says_where_to_and_why_it_was_not_followed() -> None:
    error = error_of(308, headers={"location": "https://other.example/"})
    assert "https://other.example/" in error.message
    assert "not followed" in error.message
    assert "not followed" in error_of(302).message


def test_what_the_caller_knows_is_kept() -> None:
    error = error_of(429, retry_after=1.5, run_id="run-1")
    assert (error.retry_after, error.run_id) == (1.5, "run-1")


@pytest.mark.parametrize(
    "name",
    ["x-request-id", "request-id", "x-correlation-id", "x-amzn-requestid", "x-trace-id", "cf-ray"],
)
def test_the_requests_id_is_kept_whatever_it_is_called(name: str) -> None:
    error = error_of(500, headers={name: "req-1"})
    assert error.request_id == "req-1"
    assert "[request id req-1]" in error.message
    assert request_id({name: ""}) is None


def test_the_servers_own_request_id_comes_before_a_proxys() -> None:
    assert request_id({"cf-ray": "proxy", "x-request-id": "own"}) == "own"
    assert request_id({}) is None


# --- bodies --------------------------------------------------------------------------------------


def test_dynamiqs_envelope() -> None:
    body = envelope(code="bad_request", message="no", details={"input": "cannot be blank"})
    error = error_of(400, body)
    assert error.code == "bad_request"
    assert error.details == {"input": "cannot be blank"}
    assert error.body == body.decode()
    assert error.message.endswith("400: bad_request: no (input: cannot be blank)")


@pytest.mark.parametrize(
    ("body", "message", "code"),
    [
        (b'{"error": "daily cap"}', "daily cap", None),
        (b'"daily cap"', "daily cap", None),
        (b'{"code": "c", "message": "m"}', "m", "c"),
        (b'{"error": {"message": "m"}}', "m", None),
        (b'{"error": {"code": "c"}}', "", "c"),
        (b'{"error": {"code": 5, "message": ["m"], "details": "d"}}', "", None),
        (b'{"error": {"code": null, "message": null, "details": null}}', "", None),
        (b'{"error": null}', "", None),
        (b'{"error": 5}', "", None),
        (b'{"error": []}', "", None),
        (b"null", "", None),
        (b"[]", "", None),
        (b"{}", "", None),
        (b"5", "", None),
        (b"", "", None),
        (b"  \n ", "", None),
        (b"upstream connect error\n or  reset", "upstream connect error or reset", None),
        (b"<html><head><title>502 Bad\n Gateway</title></head>", "502 Bad Gateway", None),
        (b"<TITLE lang='en'> Oops </TITLE>", "Oops", None),
        (b"<html><body>no title</body></html>", "<html><body>no title</body></html>", None),
        (b"<title>never closed", "never closed", None),
        (b"<title></title>", "", None),
        (b'{"error": {"message": "caf\xe9"}}', "caf\ufffd", None),
        (rb'{"error": {"message": "\ud83d"}}', "\ufffd", None),
        (b"caf\xe9", "caf\ufffd", None),
        (b"\x00\x01", "\x00\x01", None),
        (b"x" * 500, "x" * 200, None),
        (b"<title>" + b"x" * 500, "x" * 200, None),
    ],
)
def test_errors_in_every_shape(body: bytes, message: str, code: str | None) -> None:
    read = read_envelope(body)
    assert (read.message, read.code, read.details) == (message, code, None)
    error = error_of(502, body)
    assert error.code == code
    assert error.message.startswith(f"{REQUEST} was answered 502")
    assert error.body == body.decode("utf-8", "replace")


@pytest.mark.parametrize(
    "body",
    [
        envelope(message="m", details={"x": "y" * 100_000}),
        b"x" * 1_000_000,
        b"<html>" + b"\xff" * 100_000,
        b"[" * 100_000,
        b'{"error": ' + b"[" * 8000 + b"]" * 8000 + b"}",
    ],
)
def test_a_huge_body_is_kept_to_its_beginning(body: bytes) -> None:
    error = error_of(500, body)
    assert error.body == body[:MAX_ERROR_BODY].decode("utf-8", "replace")
    assert len(error.message) < 1000


@pytest.mark.parametrize(
    "piece",
    [b" ", b"<title>", b"<title", b"<title> ", b"<title>x", b"bearer ", b"\\", b'"', b'"\\'],
)
@pytest.mark.parametrize("head", [b"", b"<title>", b'{"error": "', b"Bearer "])
def test_reading_an_error_takes_linear_time(
    head: bytes, piece: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of so large a body that, in quadratic time, it would be a matter of hours."""
    size = 64 * MAX_ERROR_BODY
    monkeypatch.setattr(error_responses, "MAX_ERROR_BODY", size)
    body = (head + piece * size)[:size]
    with time_limit(HANG_SECONDS):
        error_of(500, body)


@given(st.integers(300, 599), st.binary(max_size=200), st.dictionaries(st.text(), st.text()))
def test_no_response_raises_anything_else(
    status: int, body: bytes, headers: dict[str, str]
) -> None:
    assert isinstance(error_of(status, body, headers=headers), errors.APIStatusError)


# --- the key is masked ---------------------------------------------------------------------------


@pytest.mark.parametrize("key", [KEY, 'quo"te\\slash/9', "123456", "true", "n", "a+b/c=="])
@pytest.mark.parametrize(
    "make",
    [
        lambda key: envelope(message=f"bad key {key}!", code=key),
        lambda key: envelope(message="m", details={key: [{"got": f"Bearer {key}"}]}),
        lambda key: json.dumps({"error": f"Authorization: Bearer {key}"}).encode(),
        lambda key: json.dumps({"error": key}).replace("/", "\\/").encode(),
        lambda key: f"<title>bearer {key}</title>{key}".encode(),
        lambda key: b"x" * (MAX_ERROR_BODY - 20) + key.encode() + b"tail",
    ],
)
def test_the_key_is_masked_wherever_a_server_repeats_it(key: str, make: Any) -> None:
    error = error_of(400, make(key), key=key, headers={"location": f"https://x/?k={key}"})
    if len(key) > 5:  # shorter ones are parts of our own words
        assert key not in visible_text(error)
        assert json.dumps(key)[1:-1] not in str(error.body)
        assert key not in str(error.details)


def test_a_key_that_looks_like_json_breaks_none() -> None:
    details = {"a": True, "n": [1, "1"], "true": None}
    for key in ("true", "1", "null", '"', "\\", "{", ",", ":"):
        error = error_of(400, envelope(message="m", details=details), key=key)
        assert error.details is not None
        assert next(iter(error.details.values())) is True


def test_what_is_not_the_key_is_left_alone() -> None:
    body = envelope(message="Bearer tokens only", details={"a": ["b", {"c": 1, "d": None}]})
    error = error_of(400, body)
    assert error.details == {"a": ["b", {"c": 1, "d": None}]}
    assert json.loads(error.body or "")["error"]["details"] == error.details


@pytest.mark.parametrize("cut", range(1, len(KEY)))
def test_a_key_cut_off_at_the_end_of_a_body_does_not_show(cut: int) -> None:
    body = b"x" * (MAX_ERROR_BODY - cut) + KEY.encode()
    text = beginning(body, KEY)
    assert "dynamiq_acc_s" not in text
    assert text.startswith("x" * (MAX_ERROR_BODY - cut))


def test_masking_without_a_key_still_masks_bearer_tokens() -> None:
    assert mask('{"h": "Bearer abc.def=="}', None) == '{"h": "Bearer ***"}'
    assert mask("nothing here", None) == "nothing here"
    assert beginning(b"text", None) == "text"


@given(st.text(st.characters(codec="ascii", min_codepoint=33), min_size=6), st.text(), st.text())
def test_any_key_is_masked_in_any_text(key: str, before: str, after: str) -> None:
    masked = mask(f"{before}{key}{after}", key)
    assert key not in masked.replace("***", "\n")


# --- errors within a stream ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "kind", "status"),
    [
        ("bad_request", errors.BadRequestError, 400),
        ("unauthorized", errors.AuthenticationError, 401),
        ("forbidden", errors.PermissionDeniedError, 403),
        ("subscription_limit_reached", errors.QuotaExceededError, 403),
        ("not_found", errors.NotFoundError, 404),
        ("Payment_Required", errors.PaymentRequiredError, 402),
        ("permission_denied", errors.PermissionDeniedError, 403),
        ("conflict", errors.ConflictError, 409),
        ("gone", errors.GoneError, 410),
        ("payload_too_large", errors.PayloadTooLargeError, 413),
        ("request_entity_too_large", errors.PayloadTooLargeError, 413),
        ("unsupported_media_type", errors.UnsupportedMediaTypeError, 415),
        ("unprocessable_entity", errors.UnprocessableEntityError, 422),
        ("validation_error", errors.UnprocessableEntityError, 422),
        ("too_many_requests", errors.RateLimitError, 429),
        ("rate_limit_exceeded", errors.RateLimitError, 429),
        ("internal_server_error", errors.InternalServerError, 500),
        ("service_unavailable", errors.InternalServerError, 503),
        ("new_code", errors.RunFailedError, None),
        (None, errors.RunFailedError, None),
    ],
)
def test_an_error_in_a_stream_has_the_class_it_has_over_http(
    code: str | None, kind: type, status: int | None
) -> None:
    data = {"error": {"code": code, "message": "m", "details": {"a": "b"}}}
    error = stream_error(data, run_id="r", request=REQUEST)
    assert type(error) is kind
    assert (error.status, error.code, error.run_id) == (status, code, "r")
    assert error.details == {"a": "b"}
    assert json.loads(error.body or "") == data
    assert "m" in error.message


@pytest.mark.parametrize(
    ("data", "status"),
    [
        ({"error": {"message": "m", "status": 404}}, 404),
        ({"error": {"message": "m", "code": "new", "status_code": 429}}, 429),
        ({"detail": "m", "status_code": 503}, 503),
        ({"error": "m", "status": "404"}, None),
        ({"error": "m", "status": 200}, None),
        ({"message": "m", "status": True}, None),
    ],
)
def test_an_error_in_a_stream_may_name_its_status(data: Any, status: int | None) -> None:
    error = stream_error(data, run_id=None, request=REQUEST)
    assert error.status == status
    assert type(error) is (error_class(status, None) if status else errors.RunFailedError)


@pytest.mark.parametrize("data", ["boom", {"error": "boom"}, {"message": "boom"}])
def test_an_error_in_a_stream_in_other_shapes(data: Any) -> None:
    error = stream_error(data, run_id=None, request=REQUEST)
    assert type(error) is errors.RunFailedError
    assert error.message.endswith("the stream reported boom")


@pytest.mark.parametrize("data", [None, {}, [], 5, {"error": {}}, {"x": "y" * 100_000}, 2**70])
def test_an_error_in_a_stream_without_a_text(data: Any) -> None:
    error = stream_error(data, run_id=None, request=REQUEST)
    assert "an error without a text" in error.message
    assert len(error.body or "") <= MAX_ERROR_BODY


def test_an_error_in_a_stream_does_not_show_the_key() -> None:
    data = {"error": {"message": f"bad {KEY}", "details": {"k": KEY}}}
    error = stream_error(data, run_id=None, request=REQUEST, key=KEY)
    assert "s3cr3t" not in visible_text(error)


# --- the bodies of 2xx responses -----------------------------------------------------------------


class Output(msgspec.Struct):
    answer: str


def decode(body: bytes, type: Any = Any, content_type: str | None = "application/json") -> Any:
    headers = {"x-request-id": "req-1"}
    if content_type is not None:
        headers["content-type"] = content_type
    return decode_body(REQUEST, BufferedResponse(200, headers, body), type, key=KEY)


@pytest.mark.parametrize("value", [None, True, 5, 1.5, "text", [], {}, {"output": {"a": [1]}}])
@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "text/plain", None])
def test_any_json_value_is_a_response(value: Any, content_type: str | None) -> None:
    assert decode(json.dumps(value).encode(), content_type=content_type) == value


def test_a_response_as_a_type() -> None:
    assert decode(b'{"answer": "a", "new": 1}', Output) == Output("a")
    assert decode(b"[1, 2]", list[int]) == [1, 2]
    assert decode(rb'{"answer": "\ud83d"}', Output) == Output("\ufffd")
    assert decode(b'{"answer": "\xff"}', Output) == Output("\ufffd")


@pytest.mark.parametrize("body", [b'{"answer": 5}', b"{}", b"[]", b"null"])
def test_a_response_that_does_not_fit(body: bytes) -> None:
    with pytest.raises(errors.ResponseDecodeError, match="does not fit Output") as caught:
        decode(body, Output)
    assert caught.value.body == body.decode()
    assert (caught.value.status, caught.value.request_id) == (200, "req-1")
    with pytest.raises(errors.ResponseDecodeError, match="does not fit"):
        decode(body, int | list[str] if body != b"[]" else int)


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 100_000, b"\xff", b"<html>"])
def test_a_response_that_claims_to_be_json_and_is_not(body: bytes) -> None:
    for kind in ("application/json", "application/problem+json", "APPLICATION/JSON"):
        with pytest.raises(errors.ResponseDecodeError, match="is not JSON"):
            decode(body, content_type=kind)


@pytest.mark.parametrize("content_type", ["text/html; charset=utf-8", "text/plain", None])
def test_a_response_that_is_another_thing_such_as_a_login_page(content_type: str | None) -> None:
    with pytest.raises(errors.ContentTypeError) as caught:
        decode(b"<html>\n Please  log in", content_type=content_type)
    assert "'<html> Please log in'" in caught.value.message
    assert (content_type or "no content type").partition(";")[0] in caught.value.message
    assert caught.value.body == "<html>\n Please  log in"
    assert caught.value.request_id == "req-1"


@pytest.mark.parametrize("content_type", ["application/json", "text/html"])
def test_an_unusable_response_does_not_show_the_key(content_type: str) -> None:
    with pytest.raises(errors.APIResponseError) as caught:
        decode(f"{{Authorization: Bearer {KEY}}}".encode(), content_type=content_type)
    assert "s3cr3t" not in visible_text(caught.value)


def test_the_content_type_in_any_spelling() -> None:
    read = content_type
    assert read({"content-type": "Text/Event-Stream ; charset=utf-8"}) == "text/event-stream"
    assert read({}) == ""


@given(st.binary(max_size=100), st.sampled_from(["application/json", "text/html", None]))
def test_no_body_raises_anything_else(body: bytes, content_type: str | None) -> None:
    for kind in (Any, Output, list[int]):
        with suppress(errors.ContentTypeError, errors.ResponseDecodeError):
            decode(body, kind, content_type)


# --- results of a whole run ----------------------------------------------------------------------


def output(body: bytes, type: Any = Any, key: str | None = KEY) -> Any:
    headers = {"content-type": "application/json", "x-request-id": "req-1"}
    response = BufferedResponse(200, headers, body)
    response.attempts = 2
    return asyncio.run(decode_output(REQUEST, response, type, key=key))


RESULTS = {path.name.partition(".")[0]: path for path in sorted(CAPTURES.glob("*.result.json"))}
FAILED = {
    "06_node_error_raise": (errors.RunFailedError, "Flow execution failed due to node failures"),
    "06c_llm_http_500": (errors.RunFailedError, "Flow execution failed due to node failures"),
    "09_cancel_token": (errors.RunCanceledError, "was canceled during execution"),
}


@pytest.mark.parametrize("name", RESULTS)
def test_recorded_results(name: str) -> None:
    body = RESULTS[name].read_bytes()
    if name not in FAILED:
        assert output(body) == json.loads(body)
        return
    kind, message = FAILED[name]
    with pytest.raises(kind, match=message) as caught:
        output(body)
    assert caught.value.details == json.loads(body)["error"]
    assert (caught.value.status, caught.value.attempts, caught.value.request_id) == (
        200,
        2,
        "req-1",
    )
    assert caught.value.body == body.decode()


@pytest.mark.parametrize(
    "value",
    [
        {"status": "failure"},
        {"status": "failure", "error": "x"},
        {"status": "success", "input": 1, "output": "failure", "error": {}},
        {"output": {"status": "failure", "input": 1, "output": 2, "error": {}}},
        "failure",
        ["canceled"],
    ],
)
def test_only_the_librarys_own_failure_is_raised(value: Any) -> None:
    assert output(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ({"message": "boom", "type": "T"}, "boom"),
        ({"type": "T"}, "T"),
        ("boom", "boom"),
        (["boom"], "boom"),
        (None, "no reason given"),
        ({}, "no reason given"),
        ({"message": None}, "no reason given"),
    ],
)
def test_a_failed_result_says_why(error: Any, message: str) -> None:
    body = {"status": "failure", "input": None, "output": None, "error": error}
    with pytest.raises(errors.RunFailedError, match=message):
        output(json.dumps(body).encode(), Output)


def test_a_failed_result_does_not_show_the_key() -> None:
    error = {"message": f"401 for Bearer {KEY}", "failed_nodes": [KEY]}
    body = {"status": "failure", "input": {"key": KEY}, "output": None, "error": error}
    with pytest.raises(errors.RunFailedError) as caught:
        output(json.dumps(body).encode())
    assert "s3cr3t" not in visible_text(caught.value)
    assert caught.value.details == {"message": "401 for Bearer ***", "failed_nodes": ["***"]}


def test_the_words_of_a_failure_within_broken_json() -> None:
    with pytest.raises(errors.ResponseDecodeError):
        output(b'{"status": "failure"')
