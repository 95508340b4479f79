"""How a tool looks to a type checker. Never run."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypedDict, assert_type

if TYPE_CHECKING:
    from dynamiq_async import AsyncApp, RunEvent


class Question(TypedDict):
    question: str


def tools(app: AsyncApp, follow: Callable[[RunEvent], None]) -> None:
    plain = app.tool("bot", "Asks.", input=Question)
    assert_type(plain, Callable[..., Coroutine[Any, Any, str]])
    typed = app.tool("bot", "Asks.", input=Question, output=Question, mode="run", on_event=follow)
    assert_type(typed, Callable[..., Coroutine[Any, Any, Question]])
    union = app.tool("bot", "Asks.", input={"question": str}, output=int | str, timeout=3)
    either: Callable[..., Coroutine[Any, Any, int | str]] = union
    del either
    app.tool("bot", "Asks.", input=Question, mode="batch")  # type: ignore[call-overload]
