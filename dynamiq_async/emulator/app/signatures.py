"""How an App is called: what its parameters take from the input, and what is wrong with an input.

| the function | its arguments |
|---|---|
| `async def app(input, run)`, `(input: dict[str, Any], run)` | the input as it came |
| `(input: Question, run)` | the input as a `Struct`, dataclass, TypedDict or pydantic model |
| `(question: str, limit: int = 5)`, with `run` or without | each field by its name |
| `(question: str, **more)` | the other fields, too |

The run is passed to the parameter of type `RunContext`, or else to the one called `run`. The vendor
documents that a bad request gets a 400 with a complaint for each field. We guess that it checks the
types of the input's fields, and we guess the words of the complaints.
"""

from __future__ import annotations

import collections.abc
import functools
import inspect
import sys
import typing
from typing import TYPE_CHECKING, Any

from .input_types import ANYTHING, InputType

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .run_context import RunContext

_RUN_CONTEXT = f"{__package__}.run_context", "RunContext"
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_NAMES = {**vars(collections.abc), **vars(typing)}
"""Names for annotations of inputs, in case a module imports them for type checkers only."""


class NotAnAppError(TypeError):
    """The object cannot be an App; the message says why."""


class Signature:
    """How one App is called.

    Raises:
        NotAnAppError: its parameters cannot take an input.
    """

    @classmethod
    def of(cls, app: Callable[..., Any]) -> Signature:
        """The signature of `app`. It is read once, because that takes longer than a call.

        Raises NotAnAppError.
        """
        known = _KNOWN.get(id(app))
        if known is None or known.app is not app:
            if len(_KNOWN) >= _MOST_KNOWN:
                _KNOWN.clear()
            known = _KNOWN[id(app)] = cls(app)
        return known

    def __init__(self, app: Callable[..., Any]) -> None:
        self.app = app
        self._name = getattr(app, "__name__", type(app).__name__)
        self._whole: InputType | None = ANYTHING
        self._fields: dict[str, InputType] = {}
        self._required: set[str] = set()
        self._more: InputType | None = None
        self._positional: list[inspect.Parameter] = []
        self._run: str | None = None
        self._input = ""
        self._as_ever = True  # called with the input and the run, whatever the parameters' names
        if not callable(app) or inspect.isclass(app):
            raise NotAnAppError(f"{app!r} is not a function")
        if _is_generator(app):
            raise self._refused("it yields; an App returns its output, and streams by `run.text`")
        try:
            found = _signature(app)
        except (TypeError, ValueError):
            return  # a function in C, for example
        if all(p.kind is not inspect.Parameter.VAR_POSITIONAL for p in found):
            self._read(found)

    def _read(self, found: list[inspect.Parameter]) -> None:
        types = {p.name: self._type_of(p) for p in found}
        self._run = self._find_run(found, types)
        rest = [p for p in found if p.name != self._run and p.kind is not p.VAR_KEYWORD]
        self._as_ever = False
        self._positional = [p for p in found if p.kind is p.POSITIONAL_ONLY]
        if (whole := _whole(rest, types)) is not None:
            self._input, self._whole = whole.name, types[whole.name]
            return
        self._whole = None
        self._fields = {p.name: types[p.name] for p in rest}
        self._required = {p.name for p in rest if p.default is p.empty}
        self._more = next((types[p.name] for p in found if p.kind is p.VAR_KEYWORD), None)

    def _find_run(
        self, found: list[inspect.Parameter], types: Mapping[str, InputType]
    ) -> str | None:
        """The parameter that takes the run: by its type, by its name, or as the second of two."""
        named = [p.name for p in found if _is_run(p, self.app)]
        if len(named) > 1:
            raise self._refused(f"both {' and '.join(named)} take the run")
        if named:
            return named[0]
        if types.get("run") is ANYTHING:
            return "run"
        if len(found) == 2 and all(p.kind in _POSITIONAL for p in found):
            first, second = (types[p.name] for p in found)
            unset = found[1].default is inspect.Parameter.empty
            return found[1].name if first.is_object and second is ANYTHING and unset else None
        return None

    def _type_of(self, parameter: inspect.Parameter) -> InputType:
        annotation = parameter.annotation
        if annotation is parameter.empty or _is_run(parameter, self.app):
            return ANYTHING
        try:
            return InputType.of(_resolved(annotation, self.app))
        except NameError as error:
            raise self._refused(
                f"the type of {parameter.name} is not known when it runs: {error}; import it "
                "outside of `if TYPE_CHECKING`, in the module"
            ) from error
        except TypeError as error:
            raise self._refused(f"{parameter.name} can be no input: {error}") from error

    def _refused(self, why: str) -> NotAnAppError:
        return NotAnAppError(f"{self._name} cannot be an App: {why}")

    def complaints(self, input: Mapping[str, Any]) -> dict[str, str]:
        """What is wrong with an input, by the paths of the fields."""
        if self._whole is not None:
            return self._whole.complaints(input, "input")
        missing = sorted(self._required - input.keys())
        found = {f"input.{name}": "cannot be blank" for name in missing}
        for name, kind in self._given(input).items():
            found |= kind.complaints(input[name], f"input.{name}")
        return found

    def _given(self, input: Mapping[str, Any]) -> dict[str, InputType]:
        """The types of the input's fields, for those that parameters take."""
        kinds = {name: self._fields.get(name, self._more) for name in input if name != self._run}
        return {name: kind for name, kind in kinds.items() if kind is not None}

    def call(self, input: dict[str, Any], run: RunContext) -> Any:
        """Call the App. `complaints` checks the input before.

        Raises `MisfitError` for an input that does not fit.
        """
        if self._as_ever:
            return self.app(input, run)
        given: dict[str, Any] = {} if self._run is None else {self._run: run}
        if self._whole is not None:
            given[self._input] = self._whole.convert(input)
        else:
            given |= {n: kind.convert(input[n]) for n, kind in self._given(input).items()}
        first = [given.pop(p.name, p.default) for p in self._positional]
        return self.app(*first, **given)


_KNOWN: dict[int, Signature] = {}
_MOST_KNOWN = 1000


def check_app(app: Callable[..., Any]) -> None:
    """Raises NotAnAppError for an object that cannot be an App."""
    Signature.of(app)


def _whole(
    rest: list[inspect.Parameter], types: Mapping[str, InputType]
) -> inspect.Parameter | None:
    """The parameter that takes the input as a whole, if one does: the only one, or the first one if
    it is named `input` and the others have defaults."""
    positional = [p for p in rest if p.kind in _POSITIONAL]
    if not positional or len(positional) != len(rest) or not types[rest[0].name].is_object:
        return None
    others = [p for p in rest[1:] if p.default is p.empty]
    return rest[0] if len(rest) == 1 or (rest[0].name == "input" and not others) else None


def _signature(app: Callable[..., Any]) -> list[inspect.Parameter]:
    """The parameters of an App, with their annotations as far as they can be resolved."""
    if sys.version_info >= (3, 14):  # pragma: no cover - annotations are read when asked for
        from annotationlib import Format

        found = inspect.signature(app, annotation_format=Format.FORWARDREF)
    else:
        found = inspect.signature(app)
    return list(found.parameters.values())


def _is_generator(app: Callable[..., Any]) -> bool:
    return any(
        inspect.isasyncgenfunction(f) or inspect.isgeneratorfunction(f)
        for f in (app, getattr(app, "__call__", None))  # noqa: B004 - of a callable object
    )


def _is_run(parameter: inspect.Parameter, app: Callable[..., Any]) -> bool:
    """Whether a parameter has the type `RunContext`, or a union with it, even if only type checkers
    know the name."""
    annotation = parameter.annotation
    if isinstance(annotation, typing.ForwardRef):
        annotation = annotation.__forward_arg__
    if isinstance(annotation, str):
        names = [name.strip(" '\"").rpartition(".")[2] for name in annotation.split("|")]
        known = _globals(app)
        return "RunContext" in names or any(_is_context(known.get(name)) for name in names)
    return any(map(_is_context, (annotation, *typing.get_args(annotation))))


def _is_context(kind: Any) -> bool:
    mro = kind.__mro__ if isinstance(kind, type) else ()
    return any((c.__module__, c.__qualname__) == _RUN_CONTEXT for c in mro)


def _resolved(annotation: Any, app: Callable[..., Any]) -> Any:
    """The type of an annotation, which may be a string. Raises NameError for an unknown name."""

    def annotated() -> None: ...

    annotated.__annotations__ = {"it": annotation}
    names = {**_NAMES, **_globals(app)}
    return typing.get_type_hints(annotated, globalns=names, include_extras=True)["it"]


def _globals(app: Callable[..., Any]) -> Mapping[str, Any]:
    """The global names of the module that defines a function."""
    function: Any = inspect.unwrap(app)
    while isinstance(function, functools.partial):
        function = inspect.unwrap(function.func)
    function = getattr(function, "__func__", function)
    if not hasattr(function, "__globals__"):
        function = getattr(type(function).__call__, "__func__", type(function).__call__)
    return getattr(function, "__globals__", {})
