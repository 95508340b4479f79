"""Everything that can be wrong with an argument is found before a byte is sent."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import json
import traceback
import uuid
from collections import OrderedDict, UserDict
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamiq_async import AsyncApp, Callback
from dynamiq_async._credentials import check_key
from dynamiq_async._http.bodies import root_body
from dynamiq_async._http.headers import check_headers
from dynamiq_async._http.multipart import Multipart
from dynamiq_async._http.request import Request
from dynamiq_async._http.urls import join_url, parse_base_url
from dynamiq_async._json import encode
from dynamiq_async.errors import InvalidArgumentError
from dynamiq_async.management import AsyncManagement
from dynamiq_async.submission import callback_objects

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

KEY = "dynamiq_acc_s3cr3t-0123456789"
APP = "https://app.example"


def base_url(value: Any, *, allow_http: bool = False) -> str:
    return parse_base_url(value, allow_http=allow_http, argument="host_or_url")


def root(input: Any, **fields: Any) -> Any:
    """The JSON of a root request."""
    body = root_body(input, **fields)
    assert isinstance(body, bytes)
    return json.loads(body)


def form(input: Any, **fields: Any) -> Multipart:
    body = root_body(input, **fields)
    assert isinstance(body, Multipart)
    return body


# --- where to ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "url"),
    [
        ("app.example", "https://app.example"),
        ("uuid.apps.us-east-1.getdynamiq.ai", "https://uuid.apps.us-east-1.getdynamiq.ai"),
        ("https://app.example", "https://app.example"),
        ("https://app.example/", "https://app.example"),
        ("https://app.example//", "https://app.example"),
        ("  https://app.example\n", "https://app.example"),
        ("HTTPS://APP.Example", "https://app.example"),
        ("app.example:8443", "https://app.example:8443"),
        ("https://app.example:8443/", "https://app.example:8443"),
        ("https://app.example/Prefix/v2/", "https://app.example/Prefix/v2"),
        ("app.example/prefix", "https://app.example/prefix"),
        ("https://app.example?", "https://app.example"),
        ("https://app.example/#", "https://app.example"),
        ("https://[2001:DB8::1]:8443", "https://[2001:db8::1]:8443"),
        ("[::1]", "https://[::1]"),
        ("localhost:8000", "https://localhost:8000"),
        ("http://localhost:8000", "http://localhost:8000"),
        ("http://LOCALHOST", "http://localhost"),
        ("http://my.app.localhost/", "http://my.app.localhost"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://127.8.9.1", "http://127.8.9.1"),
        ("http://[::1]:8000", "http://[::1]:8000"),
    ],
)
def test_addresses_that_are_taken(value: str, url: str) -> None:
    assert base_url(value) == url


@pytest.mark.parametrize(
    "value",
    [
        None,
        5,
        b"app.example",
        "",
        "   ",
        "app .example",
        "https://app.example/a b",
        "app\nexample",
        "app\x00example",
        "https://app.example/\x7f",
        "https://app\texample",
        "https://user@app.example",
        "https://user:pass@app.example",
        "https://:pass@app.example",
        "https://@app.example",
        "user:pass@app.example",
        "https://app.example?a=1",
        "https://app.example/#top",
        "ftp://app.example",
        "ws://app.example",
        "wss://app.example",
        "file:///etc/passwd",
        "javascript://app.example",
        "https://",
        "https:///path",
        "//app.example",
        "://app.example",
        "mailto:ann@app.example",
        "https://app.example:0",
        "https://app.example:65536",
        "https://app.example:port",
        "https://app.example:80:80",
        "https://[::1",
        "https://[nonsense]",
    ],
)
def test_addresses_that_are_refused(value: Any) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        base_url(value, allow_http=True)
    assert caught.value.argument == "host_or_url"
    assert "pass" not in str(caught.value).replace("password", "")


@pytest.mark.parametrize(
    "host",
    [
        "app.example",
        "10.0.0.1",
        "192.168.1.1:8000",
        "0.0.0.0",
        "[2001:db8::1]",
        "localhost.example.com",
        "notlocalhost",
        "127.0.0.1.example.com",
        "128.0.0.1",
    ],
)
def test_a_key_does_not_go_over_plain_http_to_other_machines(host: str) -> None:
    with pytest.raises(InvalidArgumentError, match="allow_http"):
        base_url(f"http://{host}")
    assert base_url(f"http://{host}", allow_http=True) == f"http://{host}"


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_a_number_without_a_name_in_json_is_refused(number: float) -> None:
    with pytest.raises(InvalidArgumentError, match="NaN or infinity") as caught:
        root_body({"a": [{"b": number}]})
    assert caught.value.argument == "input"


def test_addresses_beyond_ascii_are_put_as_the_wire_wants_them() -> None:
    assert base_url("https://Bücher.example:8443/größe/a%20b/") == (
        "https://xn--bcher-kva.example:8443/gr%C3%B6%C3%9Fe/a%20b"
    )
    assert base_url("https://[::1]:81/x") == "https://[::1]:81/x"


@pytest.mark.parametrize(
    ("host", "asked_for"),
    [
        ("straße.example", "xn--strae-oqa.example"),  # strasse.example is another's
        ("βόλος.example", "xn--nxasmm1c.example"),
        ("bücher。example", "xn--bcher-kva.example"),
        ("app_1.example", "app_1.example"),
        ("xn--strae-oqa.example", "xn--strae-oqa.example"),
    ],
)
def test_a_name_is_asked_for_by_the_idna_of_2008(host: str, asked_for: str) -> None:
    assert AsyncApp(host, access_key=KEY).url == f"https://{asked_for}"
    assert AsyncManagement(f"https://{host}/x", token=KEY).url == f"https://{asked_for}/x"


@pytest.mark.parametrize("host", ["ü" * 64 + ".example", "☃.example", "-ü.example"])
def test_what_is_no_name_by_it_is_refused(host: str) -> None:
    with pytest.raises(InvalidArgumentError, match="cannot be a host"):
        AsyncApp(host, access_key=KEY)


@pytest.mark.parametrize("text", ["\u200a#", "https://app.example/\udc80", "https://\u2029x"])
def test_odd_addresses_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError):
        base_url(text)


@given(st.text(max_size=30))
def test_no_address_raises_anything_else(text: str) -> None:
    for value in (text, f"https://{text}", f"https://app.example{text}"):
        try:
            url = base_url(value)
        except InvalidArgumentError:
            continue
        assert url.startswith(("https://", "http://"))
        assert not url.endswith("/")
        assert base_url(url) == url


def test_paths_and_queries() -> None:
    join = join_url
    assert join(APP, "") == f"{APP}/"
    assert join(f"{APP}/prefix", "v1", "runs") == f"{APP}/prefix/v1/runs"
    assert join(APP, "v1", "runs", "a/b?c#d e") == f"{APP}/v1/runs/a%2Fb%3Fc%23d%20e"
    assert join(APP, "ü") == f"{APP}/%C3%BC"
    assert join(APP, "x", query={}) == f"{APP}/x"
    assert join(APP, "x", query={"a": None, "b": [], "c": [None]}) == f"{APP}/x"
    assert join(APP, "x", query={"s": ["a", "b"], "t": True, "f": False, "n": 1}) == (
        f"{APP}/x?s=a&s=b&t=true&f=false&n=1"
    )


@given(st.dictionaries(st.text(), st.text() | st.lists(st.text()), max_size=4), st.text())
def test_whatever_stands_in_a_url_arrives_as_it_was(query: dict[str, Any], segment: str) -> None:
    if segment in (".", ".."):
        return
    parts = urlsplit(join_url(APP, "v1", segment, query=query))
    assert parts.path.count("/") == 2
    assert parts.fragment == ""
    expected = [
        (name, item)
        for name, value in query.items()
        for item in (value if isinstance(value, list) else [value])
    ]
    assert parse_qsl(parts.query, keep_blank_values=True) == expected


@pytest.mark.parametrize("segment", [".", "..", "\ud83d"])
def test_what_no_path_can_hold_is_refused(segment: str) -> None:
    with pytest.raises(InvalidArgumentError):
        join_url(APP, "v1", "runs", segment, "cancel")


def test_what_no_query_can_hold_is_refused() -> None:
    with pytest.raises(InvalidArgumentError):
        join_url(APP, "", query={"a": "\ud83d"})


# --- who -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key", [KEY, "dyn_pat_x", "uak_x", "a", "!\"#$%&'()*+,-./:;<=>?@[]^_`{|}~"]
)
def test_any_printable_key_is_taken(key: str) -> None:
    assert check_key(key, "access_key").reveal() == key


@pytest.mark.parametrize(
    "key",
    [
        None,
        5,
        KEY.encode(),
        "",
        " ",
        f"{KEY}\n",
        f" {KEY}",
        f"{KEY} x",
        f"{KEY}\r\nX-Evil: 1",
        f"{KEY}\x00",
        f"{KEY}\x7f",
        f"{KEY}\u2019",
        f"\u200b{KEY}",
        f"{KEY}\ud83d",
    ],
)
def test_a_refused_key_is_not_in_the_refusal(key: Any) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        check_key(key, "access_key")
    assert caught.value.argument == "access_key"
    shown = "".join(traceback.format_exception(caught.value))
    assert "s3cr3t" not in shown + repr(vars(caught.value))


def test_headers_that_are_taken() -> None:
    headers = {"X-Tenant": "a b", "x_y.z~1": "", "X-Text": "tab\tand ümlaut"}
    checked = check_headers(headers, "headers")
    assert checked == headers
    assert checked is not headers
    assert check_headers(MappingProxyType(headers), "headers") == headers
    assert check_headers(None, "headers") == {}


@pytest.mark.parametrize(
    "headers",
    [
        {"": "x"},
        {"a b": "x"},
        {"a:b": "x"},
        {"a\n": "x"},
        {"ü": "x"},
        {5: "x"},
        {b"a": "x"},
        {"a": "x\r\nb: y"},
        {"a": "x\ny"},
        {"a": "x\x00"},
        {"a": 5},
        {"a": None},
        {"a": b"x"},
    ],
)
def test_headers_that_are_refused(headers: Any) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        check_headers(headers, "extra_headers")
    assert caught.value.argument == "extra_headers"


def test_a_refused_headers_value_is_not_shown() -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        check_headers({"X-Token": "s3cr3t\n"}, "headers")
    assert "s3cr3t" not in str(caught.value)


# --- input ---------------------------------------------------------------------------------------


class Colour(enum.Enum):
    RED = "red"


class Struct(msgspec.Struct, rename="camel"):
    customer_name: str = "Ann"
    inner: dict[str, int] = msgspec.field(default_factory=lambda: {"a": 1})


@dataclasses.dataclass
class Data:
    question: str = "why?"
    when: datetime.date = datetime.date(2026, 1, 2)


class Address(pydantic.BaseModel):
    zip_code: str = pydantic.Field(default="1", serialization_alias="zipCode")


class Model(pydantic.BaseModel):
    customer_name: str = pydantic.Field(default="Ann", serialization_alias="customerName")
    address: Address = Address()
    at: datetime.datetime = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)


MODEL = {"customerName": "Ann", "address": {"zipCode": "1"}, "at": "2026-01-02T00:00:00Z"}


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        ({}, {}),
        ({"a": None, "b": [1, 2.5, True, "x"]}, {"a": None, "b": [1, 2.5, True, "x"]}),
        (OrderedDict(a=1), {"a": 1}),
        (UserDict(a=1), {"a": 1}),
        (MappingProxyType({"a": 1}), {"a": 1}),
        (Struct(), {"customerName": "Ann", "inner": {"a": 1}}),
        (Data(), {"question": "why?", "when": "2026-01-02"}),
        (Model(), MODEL),
        ({"deep": [Model(), Struct(), Data(), MappingProxyType({"x": Colour.RED})]}, {
            "deep": [
                MODEL,
                {"customerName": "Ann", "inner": {"a": 1}},
                {"question": "why?", "when": "2026-01-02"},
                {"x": "red"},
            ]
        }),
        ({"n": None, "b": b"x", 1: [None]}, {"n": None, "b": "eA==", "1": [None]}),
        ({"u": uuid.UUID(int=1), "d": decimal.Decimal("1.5")}, {
            "u": "00000000-0000-0000-0000-000000000001", "d": "1.5"
        }),
        ({"b": b"\x00\xff"}, {"b": "AP8="}),
        ({1: "a"}, {"1": "a"}),
        ({"big": 2**70}, {"big": 2**70}),
        ({"text": "ü\u2028\U0001f600\x00"}, {"text": "ü\u2028\U0001f600\x00"}),
    ],
)  # fmt: skip
def test_inputs_of_every_kind(value: Any, encoded: Any) -> None:
    assert root(value) == {"input": encoded}
    assert dict(form(value, files=b"x").fields)["input"] == encode(value, "input").decode()


@pytest.mark.parametrize(
    "value", [None, "text", 5, 1.5, True, [], [("a", 1)], (), {1, 2}, b"{}", datetime.date.min]
)
def test_an_input_that_is_no_object_is_refused(value: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="must be a mapping") as caught:
        root_body(value)
    assert caught.value.argument == "input"


def cyclic() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["self"] = value
    return value


class Naughty(pydantic.BaseModel):
    @pydantic.model_serializer
    def fail(self) -> Any:
        raise ValueError("no")


@pytest.mark.parametrize(
    "value",
    [
        object(),
        {"a": object()},
        {"a": print},
        {"a": complex(1, 2)},
        {None: 1},
        {("a", "b"): 1},
        {"a": "\ud83d"},
        {"\ud83d": 1},
        cyclic(),
        Naughty(),
        Model,
    ],
)
def test_an_input_that_is_no_json_is_refused(value: Any) -> None:
    for files in (None, b"x"):
        with pytest.raises(InvalidArgumentError) as caught:
            root_body(value, files=files)
        assert caught.value.argument == "input"


# --- the root request ----------------------------------------------------------------------------


def test_the_fields_of_the_root_request() -> None:
    assert root(
        {"q": 1},
        user_id="u",
        session_id="s",
        stream=True,
        execution_mode="async",
        callbacks=[{"url": "https://x.example"}],
        last_node_output=False,
        error_on_node_failure=True,
    ) == {
        "input": {"q": 1},
        "user_id": "u",
        "session_id": "s",
        "stream": True,
        "execution_mode": "async",
        "callbacks": [{"url": "https://x.example"}],
        "last_node_output": False,
        "error_on_node_failure": True,
    }


def test_what_is_not_given_is_left_out() -> None:
    assert root({}, user_id=None, stream=None, callbacks=None) == {"input": {}}


def test_anything_not_foreseen_goes_into_extra_body() -> None:
    extra = {"chat_history": [{"role": "user"}], "user_id": "other", "nothing": None}
    assert root({"q": 1}, user_id="u", extra_body=extra) == {"input": {"q": 1}} | extra
    assert extra == {"chat_history": [{"role": "user"}], "user_id": "other", "nothing": None}
    assert root({"q": 1}, extra_body={"input": "mine"}) == {"input": "mine"}


@pytest.mark.parametrize("extra", [[1], "text", 5, [("a", 1)]])
def test_an_extra_body_that_is_no_mapping_is_refused(extra: Any) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        root_body({}, extra_body=extra)
    assert caught.value.argument == "extra_body"


def test_an_extra_body_that_is_no_json_is_refused() -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        root_body({}, extra_body={"x": object()})
    assert caught.value.argument == "extra_body"
    with pytest.raises(InvalidArgumentError) as caught:
        root_body({}, extra_body={"x": object()}, files=b"x")
    assert caught.value.argument == "x"


def test_a_form_is_what_the_vendors_widget_sends() -> None:
    body = form(
        {"question": "ü", "n": [1]},
        files=[b"a", ("b.txt", b"b")],
        stream=True,
        user_id="u",
        session_id="s",
        extra_body={"chat_history": [{"role": "user", "content": "hi"}]},
    )
    fields = dict(body.fields)
    assert len(fields) == len(body.fields)
    assert json.loads(fields.pop("input")) == {"question": "ü", "n": [1]}
    assert json.loads(fields.pop("chat_history")) == [{"role": "user", "content": "hi"}]
    assert fields == {"stream": "true", "user_id": "u", "session_id": "s"}
    assert [(part, upload.name) for part, upload in body.files] == [
        ("files", "file"),
        ("files", "b.txt"),
    ]


def test_the_other_fields_of_a_form_are_text() -> None:
    session = uuid.uuid4()
    fields = dict(
        form(
            {},
            files=b"x",
            stream=False,
            session_id=session,
            user_id='with "quotes" and \\',
            callbacks=callback_objects([Callback(f"{APP}/x")], app_url=APP),
            extra_body={"n": 5, "when": datetime.date(2026, 1, 2), "input": {"mine": 1}},
        ).fields
    )
    assert fields == {
        "input": '{"mine":1}',
        "stream": "false",
        "session_id": str(session),
        "user_id": 'with "quotes" and \\',
        "callbacks": '[{"url":"https://app.example/x"}]',
        "n": "5",
        "when": "2026-01-02",
    }


def test_text_that_no_form_can_hold_is_refused() -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        root_body({}, files=b"x", user_id="\ud83d")
    assert caught.value.argument == "user_id"


def test_no_files_means_json() -> None:
    assert root({}, files=None) == root({}, files=[]) == {"input": {}}


# --- a request -----------------------------------------------------------------------------------


async def pieces() -> AsyncIterator[bytes]:
    yield b""


def request(body: Any = None) -> Request:
    headers = {"Authorization": f"Bearer {KEY}"}
    url = f"{APP}/v1/runs?user_id=ann"
    return Request("POST", url, headers, body, idempotent=False)


def test_a_request_is_replayable_unless_its_body_cannot_be_rewound() -> None:
    assert request().replayable
    assert request(b"{}").replayable
    assert request(form({}, files=[b"a", b"b"])).replayable
    assert not request(form({}, files=[b"a", pieces()])).replayable


def test_a_request_shows_neither_key_nor_query() -> None:
    for shown in (repr(request()), str(request()), f"{request()}"):
        assert "s3cr3t" not in shown
        assert "ann" not in shown
        assert f"POST {APP}/v1/runs" in shown


def test_a_request_is_not_urgent_by_itself() -> None:
    assert not request().urgent
    assert Request("GET", APP, {}, idempotent=True, urgent=True).urgent


# --- callbacks -----------------------------------------------------------------------------------


def objects_of(*callbacks: Any, app_url: str = APP) -> Any:
    objects = callback_objects(callbacks, app_url=app_url)
    return objects and json.loads(encode(objects, "callbacks"))


@pytest.mark.parametrize(
    "url",
    [
        "https://user:secret@a.example/",
        "https://localhost./",
        "https://0x7f.1/",
        "https://2130706433/",
        "https://10.1/",
    ],
)
def test_a_callback_to_a_disguised_or_private_address_is_refused(url: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        objects_of(Callback(url))
    assert caught.value.argument == "callbacks"
    assert "secret" not in str(caught.value)


def test_callbacks_as_the_vendor_documents_them() -> None:
    assert objects_of(
        Callback("https://x.example/hook"),
        Callback("https://x.example:8443/h?a=1", token="t-1", metadata={"order": [1, None]}),
    ) == [
        {"url": "https://x.example/hook"},
        {
            "url": "https://x.example:8443/h?a=1",
            "auth": {"type": "bearer", "token": "t-1"},
            "metadata": {"order": [1, None]},
        },
    ]


def test_no_callbacks_are_left_out() -> None:
    assert objects_of() is None


def test_at_most_five_callbacks() -> None:
    assert len(objects_of(*[Callback("https://x.example")] * 5)) == 5
    with pytest.raises(InvalidArgumentError, match="at most 5"):
        objects_of(*[Callback("https://x.example")] * 6)


@pytest.mark.parametrize(
    "url",
    [
        "http://x.example",
        "ftp://x.example",
        "wss://x.example",
        "x.example",
        "",
        "https://",
        "https://localhost/hook",
        "https://app.localhost/hook",
        "https://127.0.0.1/hook",
        "https://[::1]/hook",
        "https://10.1.2.3/hook",
        "https://172.16.0.1/hook",
        "https://192.168.0.1/hook",
        "https://169.254.169.254/latest/meta-data",
        "https://0.0.0.0/",
        "https://\uff11\uff12\uff17.0.0.1/",
        "https://☃.example/",
        "https://[fe80::1]/",
        "https://[fd00::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://x.example:0/",
        "https://x.example:99999/",
        "https://x.example/a b",
        "https://x.example/\r\nX: y",
        None,
        5,
    ],
)
def test_callbacks_only_to_public_https(url: Any) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        objects_of(Callback(url))
    assert caught.value.argument == "callbacks"


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/h", "http://localhost/h", "https://[::1]/h", "https://x.example"]
)
def test_an_app_on_loopback_may_call_back_there(url: str) -> None:
    for app_url in ("http://127.0.0.1:8000", "http://localhost", "http://[::1]:1"):
        assert objects_of(Callback(url), app_url=app_url) == [{"url": url}]


@pytest.mark.parametrize("url", ["http://10.0.0.1/h", "https://10.0.0.1/h", "http://x.example"])
def test_an_app_on_loopback_may_call_back_nowhere_else_in_private(url: str) -> None:
    with pytest.raises(InvalidArgumentError):
        objects_of(Callback(url), app_url="http://127.0.0.1:8000")


@pytest.mark.parametrize("token", ["", "s3cr3t x", "s3cr3t\n", "s3cr3t\u2019", 5])
def test_a_refused_token_is_not_in_the_refusal(token: Any) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        objects_of(Callback("https://x.example", token=token))
    assert caught.value.argument == "callbacks"
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize("metadata", [[], "x", 5, {"a": object()}])
def test_metadata_is_an_object(metadata: Any) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        objects_of(Callback("https://x.example", metadata=metadata))
    assert caught.value.argument == "callbacks"


@pytest.mark.parametrize(
    "callbacks",
    ["https://x.example", ["https://x.example"], [{"url": "x"}], Callback("https://x.example"), 5],
)
def test_only_a_list_of_callbacks_is_one(callbacks: Any) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        callback_objects(callbacks, app_url=APP)
    assert caught.value.argument == "callbacks"
