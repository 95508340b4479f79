"""The inputs of a run, read from the request that starts it.

The vendor documents two bodies: a map by node id, and an array of entries. Which of them the
service accepts is not known, so the emulator accepts both unless it is told to accept one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..core.refusals import RefusalError

if TYPE_CHECKING:
    from .apps import FlowyApp, Values

_FIELDS = ("asset_url", "asset_urls", "prompt", "prompts")
"""An entry has its values in one of these: the first two are for media, the others for texts."""


def read_inputs(body: Any, app: FlowyApp, taken: str) -> Values:
    """The inputs by node id: a text each, or a list of texts for a variable input.

    Args:
        taken: the accepted form: `both`, `map` or `array`.

    Raises `RefusalError` (400) for inputs that the app does not take.
    """
    given = body.get("inputs") if isinstance(body, Mapping) else None
    if isinstance(given, list):
        if taken == "map":
            raise _bad("inputs must be a map")
        found = _from_array(given, app)
    else:
        if isinstance(given, Mapping) and taken == "array":
            raise _bad("inputs must be an array")
        found = _from_map(given if isinstance(given, Mapping) else {}, app)
    for spec in app.inputs:
        _check(spec, found)
    return found


def _from_map(given: Mapping[str, Any], app: FlowyApp) -> dict[str, Any]:
    known = {spec["nodeId"] for spec in app.inputs}
    for node in given:
        if node not in known:
            raise _bad(f"Invalid input: {node}")
    return dict(given)


def _from_array(given: Sequence[Any], app: FlowyApp) -> dict[str, Any]:
    """Read an array. An entry has the `name` of its input, or the node id if there is no name."""
    known = {spec.get("name") or spec["nodeId"]: spec for spec in app.inputs}
    found: dict[str, Any] = {}
    for entry in given:
        name = entry.get("node_id") if isinstance(entry, Mapping) else None
        fields = [field for field in _FIELDS if isinstance(entry, Mapping) and field in entry]
        spec = known.get(name) if isinstance(name, str) else None
        if spec is None or len(fields) != 1:
            raise _bad(f"Invalid input: {name}")
        if fields[0].startswith("prompt") != (spec["kind"] == "text"):
            raise _bad(f"Invalid input: {name} takes no {fields[0]}")
        value, node = entry[fields[0]], spec["nodeId"]
        if node in found:
            value = [*_listed(found[node]), *_listed(value)]
        found[node] = value
    return found


def _check(spec: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    node, arity = spec["nodeId"], spec.get("arity")
    if node not in found:
        if spec["required"]:
            raise _bad(f"Missing input: {node}")
        return
    value = found[node]
    values = _listed(value)
    if not all(isinstance(one, str) for one in values):
        raise _bad(f"Invalid input: {node}")
    if arity is None:
        if isinstance(value, list):
            raise _bad(f"Invalid input: {node} takes one value")
    elif not arity["min"] <= len(values) <= arity["max"]:
        raise _bad(f"Invalid input: {node} takes {arity['min']} to {arity['max']} values")


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _bad(message: str) -> RefusalError:
    return RefusalError(400, "bad_request", message)
