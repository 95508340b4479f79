"""What a browser is told of an error, and what not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from dynamiq_async import Upload, errors
from dynamiq_async.relay import error_reply
from dynamiq_async.relay.problems import problem_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .conftest import Emulate

SECRET = "dynamiq_acc_secret at http://10.1.2.3/ node llm-1"

CASES: list[tuple[BaseException, int, str]] = [
    (errors.InvalidArgumentError(SECRET, argument="Last-Event-ID"), 400, "invalid_position"),
    (errors.InvalidArgumentError(SECRET, argument="after_sequence"), 400, "invalid_position"),
    (errors.InvalidArgumentError(SECRET, argument="page"), 400, "bad_request"),
    (errors.InvalidArgumentError(SECRET, argument="session_id"), 400, "bad_request"),
    (errors.InvalidArgumentError(SECRET, argument="content"), 413, "bad_request"),
    (errors.InvalidArgumentError(SECRET, argument="map"), 500, "internal_error"),
    (KeyError(SECRET), 500, "internal_error"),
    (errors.StreamError(SECRET), 500, "internal_error"),
    (errors.BadRequestError(SECRET, status=400, details={"input": SECRET}), 400, "bad_request"),
    (errors.PayloadTooLargeError(SECRET, status=413), 413, "bad_request"),
    (errors.UnprocessableEntityError(SECRET, status=422), 422, "bad_request"),
    (errors.UnsupportedMediaTypeError(SECRET, status=415), 502, "upstream_error"),
    (errors.NotFoundError(SECRET, status=404), 502, "upstream_error"),
    (errors.NotFoundError(SECRET, status=404, run_id="r"), 404, "not_found"),
    (errors.NotFoundError(SECRET, status=404, url="http://h/v1/runs/r"), 404, "not_found"),
    (errors.GoneError(SECRET, status=410, run_id="r"), 410, "not_found"),
    (errors.ConflictError(SECRET, status=409), 409, "conflict"),
    (errors.RateLimitError(SECRET, status=429, retry_after=1.2), 429, "rate_limited"),
    (errors.AuthenticationError(SECRET, status=401), 502, "upstream_error"),
    (errors.PermissionDeniedError(SECRET, status=403), 502, "upstream_error"),
    (errors.RedirectError(SECRET, status=302), 502, "upstream_error"),
    (errors.QuotaExceededError(SECRET, status=403), 503, "unavailable"),
    (errors.PaymentRequiredError(SECRET, status=402), 503, "unavailable"),
    (errors.InternalServerError(SECRET, status=500), 502, "upstream_error"),
    (errors.InternalServerError(SECRET, status=503, retry_after=9), 503, "unavailable"),
    (errors.AmbiguousStatusError(SECRET, status=504), 502, "upstream_error"),
    (errors.APITimeoutError(SECRET), 504, "timeout"),
    (errors.ConnectTimeoutError(SECRET), 504, "timeout"),
    (errors.AmbiguousTimeoutError(SECRET), 504, "timeout"),
    (errors.PoolTimeoutError(SECRET), 503, "unavailable"),
    (errors.ConnectError(SECRET), 502, "upstream_error"),
    (errors.StreamInterruptedError(SECRET), 502, "interrupted"),
    (errors.StreamClosedError(SECRET), 503, "unavailable"),
    (errors.ClientClosedError(SECRET), 503, "unavailable"),
    (errors.ContentTypeError(SECRET), 502, "upstream_error"),
    (errors.EventDecodeError(SECRET), 502, "upstream_error"),
    (errors.RunFailedError(SECRET), 502, "run_failed"),
    (errors.RunCanceledError(SECRET), 502, "run_canceled"),
]


@pytest.mark.parametrize(("error", "status", "code"), CASES, ids=lambda value: str(value)[:20])
def test_errors_have_a_status_a_code_and_nothing_of_themselves(
    error: Any, status: int, code: str
) -> None:
    problem = problem_of(error)
    assert (problem.status, problem.code) == (status, code)
    told = problem.json("r-1:2").decode()
    assert not any(word in told for word in SECRET.split() if len(word) > 4)
    assert problem.headers(len(told))["Content-Length"] == str(len(told))
    reply = error_reply(error)
    assert (reply.status, reply.body) == (status, problem.json())
    assert reply.headers["Content-Length"] == str(len(reply.body))
    assert problem.internal is (status == 500)


def test_retry_after_is_whole_seconds() -> None:
    problem = problem_of(errors.RateLimitError("", status=429, retry_after=1.2))
    assert problem.headers(0)["Retry-After"] == "2"
    assert b'"retry_after":1.2' in problem.json()
    assert "Retry-After" not in problem_of(errors.RateLimitError("", status=429)).headers(0)


def test_every_error_of_the_package_has_its_line() -> None:
    """What is new falls among the upstream's errors, and never says more than that."""
    kinds, known = [errors.DynamiqError], []
    while kinds:
        kind = kinds.pop()
        known.append(kind)
        kinds += kind.__subclasses__()
    for kind in known:
        problem = problem_of(kind(SECRET))
        assert 400 <= problem.status <= 504
        assert SECRET not in problem.message


@pytest.mark.parametrize("sized", [True, False])
@pytest.mark.parametrize("way", ["invoke", "create", "upload"])
async def test_an_upload_over_the_limit_is_413(
    way: str, sized: bool, emulate: Emulate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the service refuses it or the client, before or while it is sent."""
    monkeypatch.setattr("dynamiq_async.files.MAX_FILE_BYTES", 50_000)
    app, _ = await emulate("echo", max_file_bytes=50_000)

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"x" * 100_000

    file = Upload(b"x" * 4_000_000 if sized else pieces(), name="large.bin")
    with pytest.raises(errors.DynamiqError) as caught:
        if way == "invoke":
            await app.invoke({}, files=file)
        elif way == "create":
            await app.runs.create({}, files=file)
        else:
            await app.files.upload(file)
    assert error_reply(caught.value).status == 413


@pytest.mark.parametrize("id", [".", ".."])
async def test_an_id_that_leads_elsewhere_is_400_and_not_sent(emulate: Emulate, id: str) -> None:
    app, emulator = await emulate("echo")
    runs = app.runs

    async def follow() -> None:
        async for _ in runs.follow(id):
            pytest.fail("there is no such run")

    async def events() -> None:
        await runs.events(id)

    for ask in (
        follow,
        events,
        lambda: runs.get(id),
        lambda: runs.wait(id),
        lambda: runs.cancel(id),
        lambda: runs.answer(id, "q-1", "x"),
        lambda: runs.handle(id).get(),
        lambda: app.requirements.disconnect(id, "ann"),
    ):
        with pytest.raises(errors.InvalidArgumentError) as caught:
            await ask()
        assert caught.value.argument in ("run_id", "requirement_id")
        if caught.value.argument == "run_id":
            assert error_reply(caught.value).status == 400
    assert not emulator.requests


@pytest.mark.parametrize(
    ("error", "level"),
    [
        (errors.AuthenticationError("refused", status=401), "WARNING"),
        (errors.PermissionDeniedError("refused", status=403), "WARNING"),
        (errors.ConnectError("gone"), "INFO"),
        (errors.BadRequestError("the browser's own", status=400), None),
        (errors.StreamError("the backend's own"), None),
    ],
)
def test_the_log_has_what_is_not_the_browsers_mistake(
    error: errors.DynamiqError, level: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "dynamiq_async")
    error_reply(error)
    assert [(record.levelname, str(error) in record.message) for record in caplog.records] == (
        [] if level is None else [(level, True)]
    )
