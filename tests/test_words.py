"""How messages say things."""

from __future__ import annotations

import re

import pytest

from dynamiq_async._words import counted
from tests.test_layout import MODULES

# A number in a message with a plural behind it, which is wrong for one: `counted` is for these.
# Limits that are no settings, and counts that are told from several on, are plurals always.
_PLURAL = re.compile(
    r"\{(?!counted|MAX_|limit|self\._refused|self\._waits)[^{}\"]*\} "
    r"(attempts|bytes|calls|connections|events|files|inputs|lines|requests|rows|runs|times)\b"
)


@pytest.mark.parametrize(
    ("number", "said"), [(0, "0 inputs"), (1, "1 input"), (2, "2 inputs"), (1200, "1200 inputs")]
)
def test_a_number_has_its_noun(number: int, said: str) -> None:
    assert counted(number, "input") == said
    assert counted(number, "input", grouped=True) == said.replace("1200", "1,200")


def test_no_message_says_one_things() -> None:
    wrong = {
        f"{name}: {found[0]}"
        for name, module in MODULES.items()
        for found in _PLURAL.finditer(module.text)
    }
    assert not wrong
