"""Writes `llms.txt` and `llms-full.txt` into the built site: the documentation for language models.

    python .ci/site/llms.py build/site

`llms.txt` lists the pages with a sentence each (https://llmstxt.org). `llms-full.txt` has all of
them as Markdown, with the signatures and docstrings where a page of the reference names something.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import griffe
from griffe_house import HouseExtension

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
DIRECTIVE = re.compile(r"^::: (\S+)\n(?:    .*\n|\n(?=    ))*", re.MULTILINE)
LINK = re.compile(r"\[((?:[^\[\]]|\[[^\]]*\])*)\](?:\([^)]*\)|\[[^\]]*\])?")
COMMENT = re.compile(r"^<!--.*?-->\n?", re.MULTILINE | re.DOTALL)


class Entry(NamedTuple):
    """A page of the navigation, below the titles of its sections."""

    sections: tuple[str, ...]
    title: str
    file: str

    @property
    def address(self) -> str:
        """Where the page is, from the site's root."""
        path = re.sub(r"(^|/)index$", "", self.file.removesuffix(".md"))
        return f"{path or '.'}/"

    def text(self) -> str:
        """The page's source, without its comments."""
        return COMMENT.sub("", (DOCS / self.file).read_text("utf-8"))

    def summary(self) -> str:
        """The first sentence of the page, of its first paragraph that is one."""
        for block in self.text().split("\n\n"):
            if re.match(r"[A-Za-z`*\[]", block):
                words = LINK.sub(r"\1", " ".join(block.split()))
                return re.split(r"(?<=\.)\s", words)[0].rstrip(":")
        return ""


def entries(navigation: list[Any], sections: tuple[str, ...] = ()) -> Iterator[Entry]:
    """The pages, in their order."""
    for each in navigation:
        for title, target in each.items():
            if isinstance(target, str):
                yield Entry(sections, title, target)
            else:
                yield from entries(target, (*sections, title))


def index(project: dict[str, Any], pages: list[Entry]) -> str:
    """`llms.txt`."""
    lines = [f"# {project['site_name']}", "", f"> {project['site_description']}"]
    section = None
    for page in pages:
        if page.sections[:1] != section:
            section = page.sections[:1]
            lines += ["", f"## {(*section, 'Start')[0]}", ""]
        summary = page.summary()
        lines.append(f"- [{page.title}]({page.address}){': ' + summary if summary else ''}")
    lines += ["", "## Everything", "", "- [All pages as one text](llms-full.txt)", ""]
    return "\n".join(lines)


def full(pages: list[Entry], package: griffe.Object) -> str:
    """`llms-full.txt`."""

    def reference(found: re.Match[str]) -> str:
        return described(package.modules_collection[found.group(1)], found.group(1))

    texts = (DIRECTIVE.sub(reference, page.text() + "\n") for page in pages)
    parts = (
        f"<!-- page: {page.address} -->\n\n{text.strip()}\n"
        for page, text in zip(pages, texts, strict=True)
    )
    return "\n".join(parts)


def described(item: griffe.Object | griffe.Alias, name: str, level: str = "##") -> str:
    """A name with its signature, its docstring and, of a class, its public members."""
    lines = [f"{level[:6]} `{name}`", ""]
    if item.is_attribute and item.value is not None and "property" not in item.labels:
        lines += ["```python", f"{item.name} = {item.value}", "```", ""]
    if signature := signature_of(item):
        lines += ["```python", signature, "```", ""]
    if item.docstring is not None:
        lines += [item.docstring.value, ""]
    for member in members_of(item):
        lines.append(described(member, f"{item.name}.{member.name}", level + "#"))
    return "\n".join(lines)


def members_of(item: griffe.Object | griffe.Alias) -> list[griffe.Object | griffe.Alias]:
    """The public members of a class, and those that it has of others; errors say only their own."""
    if not item.is_class:
        return []
    members = item.members if item.name.endswith("Error") else item.all_members
    return [
        each
        for each in members.values()
        if not each.name.startswith("_")
        and each.canonical_path.startswith("dynamiq_async.")
        and each.docstring is not None
    ]


def signature_of(item: griffe.Object | griffe.Alias) -> str:
    """How a function or a class is called, or what type a property has."""
    if item.is_function:
        word = "async def " if "async" in item.labels else "def "
        return "\n".join(f"{word}{each.signature()}" for each in item.overloads or [item])
    if item.is_class and (made := item.all_members.get("__init__")) is not None:
        return str(made.signature(return_type=False, name=item.name)) if made.is_function else ""
    if item.is_attribute and "property" in item.labels:
        return f"{item.name}: {item.annotation}"
    return ""


def main(site: Path) -> int:
    """Write both files."""
    with (ROOT / "zensical.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    pages = list(entries(project["nav"]))
    package = griffe.load(
        "dynamiq_async",
        search_paths=[ROOT],
        docstring_parser="google",
        docstring_options={"warn_unknown_params": False, "warn_missing_types": False},
        extensions=griffe.load_extensions(HouseExtension),
    )
    (site / "llms.txt").write_text(index(project, pages), "utf-8")
    (site / "llms-full.txt").write_text(full(pages, package), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
