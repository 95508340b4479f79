"""What griffe does not know of this package's docstrings.

An extension of griffe, which mkdocstrings reads the package with; `zensical.toml` names it. It
shows the fields of Structs and the types of options that a TypedDict unpacks, and gives each of
several names that share their words ("min, max: the bounds.") a row of its own.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import griffe

if TYPE_CHECKING:
    from collections.abc import Iterator

PLAIN_DATA = {"msgspec.Struct", "typing.NamedTuple"}
"""The bases whose subclasses have their annotated names as fields."""


class HouseExtension(griffe.Extension):
    """Completes docstrings, once the whole package is known."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Complete every class and function of the package."""
        for found in walk(pkg):
            if found.docstring is not None:
                for section in found.docstring.parsed:
                    part_names(section, found)
            if isinstance(found, griffe.Class):
                show_fields(found)
            if isinstance(found, griffe.Class | griffe.Function):
                show_options(found)


def walk(item: griffe.Object | griffe.Alias) -> Iterator[griffe.Object]:
    """`item` and what it defines, without what it imports."""
    if isinstance(item, griffe.Alias):
        return
    yield item
    for member in list(item.members.values()):
        yield from walk(member)


def part_names(section: griffe.DocstringSection, of: griffe.Object) -> None:
    """A row for each of the names that share their words."""
    if isinstance(section, griffe.DocstringSectionRaises):
        section.value = [each for row in section.value for each in part_errors(row)]
    elif isinstance(section, griffe.DocstringSectionParameters | griffe.DocstringSectionAttributes):
        section.value = [each for row in section.value for each in part_row(row, of)]


def part_errors(row: griffe.DocstringRaise) -> Iterator[griffe.DocstringRaise]:
    """A row for each class of errors."""
    if isinstance(row.annotation, griffe.ExprTuple):
        for error in row.annotation.elements:
            yield griffe.DocstringRaise(annotation=error, description=row.description)
    else:
        yield row


def part_row(row: Any, of: griffe.Object) -> Iterator[Any]:
    """A row for each name. Griffe takes the second name of attributes for the first one's type."""
    names = f"{row.name} {row.annotation or ''}" if row.name.endswith(",") else row.name
    if "," not in names:
        yield row
        return
    for name in names.replace(" ", "").split(","):
        annotation = value = None
        if isinstance(of, griffe.Function) and name in of.parameters:
            annotation, value = of.parameters[name].annotation, of.parameters[name].default
        elif isinstance(of, griffe.Class) and isinstance(row, griffe.DocstringAttribute):
            member = of.all_members.get(name)
            annotation = getattr(member, "annotation", None)
        elif isinstance(of, griffe.Class) and name in of.parameters:
            annotation, value = of.parameters[name].annotation, of.parameters[name].default
        yield type(row)(name=name, description=row.description, annotation=annotation, value=value)


def show_fields(cls: griffe.Class) -> None:
    """List all public fields of plain data, those too that its docstring has no words for."""
    if not is_plain_data(cls):
        return
    fields = {
        name: member
        for name, member in cls.members.items()
        if isinstance(member, griffe.Attribute)
        and member.annotation is not None
        and "property" not in member.labels
        and not str(member.annotation).startswith("ClassVar")
        and not name.startswith("_")
    }
    if cls.docstring is None or not fields:
        return
    section = section_of(cls.docstring, griffe.DocstringSectionAttributes)
    for each in section.value:
        if each.name in fields:
            each.description += default_of(fields[each.name])
    told = {each.name: each for each in section.value}
    missing = [
        griffe.DocstringAttribute(name=name, annotation=field.annotation, description="")
        for name, field in fields.items()
        if name not in told and field.docstring is None
    ]
    order = list(fields)
    rows = [*section.value, *missing]
    rows.sort(key=lambda each: order.index(each.name) if each.name in order else len(order))
    section.value = rows


def default_of(field: griffe.Attribute) -> str:
    """What is said of a field's default, where that is a number: an absent one says enough."""
    default = str(field.value or "")
    return f" By default `{default}`." if re.fullmatch(r"[\d._]+|True|False", default) else ""


def is_plain_data(cls: griffe.Class) -> bool:
    """Whether its annotated names are its fields."""
    if "dataclass" in cls.labels:
        return True
    bases = {getattr(base, "canonical_path", str(base)) for base in cls.bases}
    if bases & PLAIN_DATA:
        return True
    try:
        return any(is_plain_data(base) for base in cls.resolved_bases)
    except griffe.AliasResolutionError:
        return False


def show_options(item: griffe.Class | griffe.Function) -> None:
    """The types of the options that a signature takes as `**options: Unpack[…]`."""
    sections = item.docstring.parsed if item.docstring else []
    known = options_of(item)
    for section in sections:
        if isinstance(section, griffe.DocstringSectionParameters):
            for each in section.value:
                if each.annotation is None:
                    each.annotation = known.get(each.name)


def options_of(item: griffe.Class | griffe.Function) -> dict[str, Any]:
    """The arguments that a function or a class takes, those that it unpacks too: their types."""
    function = item.all_members.get("__init__") if isinstance(item, griffe.Class) else item
    if not isinstance(function, griffe.Function):
        return {}
    known: dict[str, Any] = {}
    for each in (function, *(function.overloads or ())):
        known |= {one.name: one.annotation for one in each.parameters if one.annotation}
        known |= dict(unpacked(each))
    return known


def unpacked(function: griffe.Function) -> Iterator[tuple[str, Any]]:
    """The names and types of the TypedDict that a function's last parameter unpacks."""
    for parameter in function.parameters:
        annotation = parameter.annotation
        if (
            parameter.kind is griffe.ParameterKind.var_keyword
            and isinstance(annotation, griffe.ExprSubscript)
            and annotation.canonical_path == "typing.Unpack"
        ):
            options = function.modules_collection[annotation.slice.canonical_path]
            for each in (options, *options.mro()):
                for name, member in each.attributes.items():
                    yield name, member.annotation


def section_of(docstring: griffe.Docstring, kind: type[Any]) -> Any:
    """The section of that kind, which is added where there is none."""
    for section in docstring.parsed:
        if isinstance(section, kind):
            return section
    section = kind([])
    docstring.parsed.append(section)
    return section
