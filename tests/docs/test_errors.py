"""The page on errors has each class, and says of it what the code does."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from dynamiq_async import callbacks, emulator, errors, relay
from dynamiq_async._http.status import Outcome, meaning_of

PAGE = (Path(__file__).parents[2] / "docs" / "errors.md").read_text("utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if re.match(r"\| `\w+` \|", line)
]
RAN = {row[0].strip("`"): row[1] for row in ROWS}

# The classes that say what is known of the request. Those of responses have their status's meaning.
STATUSES: dict[type[errors.DynamiqError], int] = {
    errors.RateLimitError: 429,
    errors.BadRequestError: 400,
    errors.AuthenticationError: 401,
    errors.PermissionDeniedError: 403,
    errors.NotFoundError: 404,
    errors.AmbiguousStatusError: 504,
}


def public_errors() -> list[str]:
    rooms = (errors, callbacks, relay, emulator)
    return [
        name
        for room in rooms
        for name, value in vars(room).items()
        if isinstance(value, type)
        and issubclass(value, Exception)
        and not name.startswith("_")
        and (room is errors or name in getattr(room, "__all__", ()))
    ]


def test_each_class_has_one_row() -> None:
    assert Counter(row[0].strip("`") for row in ROWS) == Counter(public_errors())
    assert len(ROWS) > 45


def test_each_row_says_whether_it_may_have_run_what_happened_and_what_to_do() -> None:
    for row in ROWS:
        name, *told = row
        assert len(told) == 3, name
        assert all(told), name
        assert re.match(r"(No|Maybe|Yes|As|Of)\b", told[0]), name


@pytest.mark.parametrize(
    "kind", [errors.ConnectError, errors.ConnectTimeoutError, errors.PoolTimeoutError, *STATUSES]
)
def test_what_the_page_says_of_a_class_is_what_the_client_goes_by(
    kind: type[errors.DynamiqError],
) -> None:
    outcome = meaning_of(kind(status=STATUSES.get(kind))).outcome
    assert RAN[kind.__name__].startswith("Maybe" if outcome is Outcome.UNKNOWN else "No")


def test_an_ambiguous_outcome_is_told_as_one() -> None:
    ambiguous = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.AmbiguousOutcomeError)
    }
    assert len(ambiguous) == 4
    assert {RAN[name] for name in ambiguous} == {"Maybe"}
