"""The parameters of a tool, made from the type of an App's input.

The service publishes no schema of an App's input, so the caller gives a type. Its fields become the
parameters of a function, and a model's arguments are checked against the type before anything is
sent.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import NODEFAULT

from dynamiq_async import _json
from dynamiq_async.errors import InvalidArgumentError
from dynamiq_async.tools.types import (
    Field,
    fields_of,
    is_model,
    is_typed_dict,
    sent,
    typed_dict,
)


class Inputs:
    """The fields of an App's input.

    Args:
        kind: a TypedDict, msgspec Struct, dataclass, pydantic model, or a mapping of names to
            types.

    Raises:
        InvalidArgumentError: `kind` is none of these, or a field cannot be a parameter.
    """

    def __init__(self, kind: Any) -> None:
        if isinstance(kind, Mapping):
            kind = typed_dict("Input", kind)
        found = fields_of(kind)
        if found is None:
            raise InvalidArgumentError(
                "input must be a TypedDict, a msgspec Struct, a dataclass, a pydantic model or "
                f"a mapping of names to types, not {kind!r}",
                argument="input",
            )
        _json.check_type(kind, "input")
        self.kind = kind
        self.fields: list[Field] = sorted(found, key=lambda field: field.default is not NODEFAULT)
        self._by_name = {field.name: field for field in found}

    def parameters(self) -> list[inspect.Parameter]:
        """The parameters, with the required ones first.

        Raises:
            InvalidArgumentError: a field's name cannot be a parameter's.
        """
        try:
            return [_parameter(field) for field in self.fields]
        except ValueError as error:
            raise InvalidArgumentError(
                f"input has a field that cannot be a parameter: {error}", argument="input"
            ) from None

    def value(self, given: Mapping[str, Any]) -> Any:
        """The input to send for the arguments of a call, by the names of parameters.

        Raises:
            InvalidArgumentError: the arguments do not fit the type.
        """
        fields = {
            field.wire: sent(item)
            for name, item in given.items()
            if (field := self._by_name[name]) and not (item is None and field.left_out)
        }
        return self.checked(fields)

    def checked(self, fields: Mapping[str, Any]) -> Any:
        """The input to send for fields by their names in JSON.

        Raises:
            InvalidArgumentError: the fields do not fit the type.
        """
        try:
            value = _json.decode(_json.encode(fields, "input"), self.kind)
        except _json.DECODE_ERRORS as error:
            raise InvalidArgumentError(
                f"the input does not fit: {error}", argument="input"
            ) from error
        # TypedDicts drop unknown fields, and none is unknown here.
        return fields if is_typed_dict(self.kind) else value

    def schema(self) -> dict[str, Any]:
        """The JSON Schema of the input, which is an object."""
        if is_model(self.kind):
            found: dict[str, Any] = self.kind.model_json_schema()
            return found
        schema = msgspec.json.schema(self.kind)
        name = schema.pop("$ref", "").rpartition("/")[2]
        others = schema.get("$defs", {})
        top = others.pop(name, {})
        return {**top, **({"$defs": others} if others else {})}


def inputs_of(kind: Any) -> Inputs:
    """The fields of an input type. Raises what `Inputs` raises."""
    return kind if isinstance(kind, Inputs) else Inputs(kind)


def _parameter(field: Field) -> inspect.Parameter:
    return inspect.Parameter(
        field.name,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        default=inspect.Parameter.empty if field.default is NODEFAULT else field.default,
        annotation=field.annotation,
    )


def docstring(description: str, fields: list[Field]) -> str:
    """A docstring in Google's style, from which frameworks read descriptions."""
    told = [f"    {f.name}: {' '.join(f.description.split())}" for f in fields if f.description]
    return "\n".join([description.strip(), *(["", "Args:", *told] if told else [])])
