"""Fault rules that can be switched while the emulator runs.

`GET /_emulator/faults` lists them. `POST` adds one, in the form of a file's entry. `PATCH
/_emulator/faults/3` with `{"enabled": false}` switches one off; `true` switches it on, and restarts
its count. `DELETE` removes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..core.refusals import RefusalError
from . import views
from .access import json_object

if TYPE_CHECKING:
    from ..core.fault_rules import FaultRule, FaultRules
    from .inspector import InspectorExchange


def shown(rules: FaultRules) -> dict[str, Any]:
    """The rules, with the seed."""
    return {"seed": rules.seed, "faults": [rule.public() for rule in rules]}


async def list_faults(exchange: InspectorExchange) -> None:
    """`GET /_emulator/faults`."""
    await views.respond(exchange, 200, shown(exchange.state.rules))


async def add(exchange: InspectorExchange) -> None:
    """`POST /_emulator/faults`."""
    try:
        rule = exchange.state.rules.add_entry(json_object(exchange))
    except ValueError as error:
        raise RefusalError(400, "bad_request", str(error)) from error
    await views.respond(exchange, 201, rule.public())


async def change(exchange: InspectorExchange, number: str) -> None:
    """`PATCH /_emulator/faults/{number}`."""
    rule, given = _find(exchange, number), json_object(exchange)
    if list(given) != ["enabled"] or not isinstance(given["enabled"], bool):
        raise RefusalError(400, "bad_request", 'the body must be {"enabled": true} or false')
    rule.enabled = given["enabled"]
    await views.respond(exchange, 200, rule.public())


async def remove(exchange: InspectorExchange, number: str) -> None:
    """`DELETE /_emulator/faults/{number}`."""
    exchange.state.rules.remove(_find(exchange, number).number)
    await views.respond(exchange, 200, {"message": "ok"})


def _find(exchange: InspectorExchange, number: str) -> FaultRule:
    try:
        return exchange.state.rules[int(number)]
    except KeyError:
        raise RefusalError(404, "not_found", "there is no such fault") from None
