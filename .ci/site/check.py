"""Looks at the built site, and fails for what a strict build lets pass.

    python .ci/site/check.py build/site

- a page that the navigation does not have, or one of the navigation that is not there;
- a link, an image or an anchor within the site that leads nowhere, and anything that a page loads
  from another host;
- a docstring that was not rendered: `Args:` as a word of the text, `:::` left over;
- a public method without a docstring, and a documented argument that the signature does not have.
"""

from __future__ import annotations

import re
import sys
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urljoin, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "dynamiq_async"
ROOT = Path(__file__).parent.parent.parent
HOST = "https://site.invalid/"

LOADED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}
CODE = {"code", "pre", "script", "style", "svg", "template"}
SECTION = re.compile(
    r"^\s*(Args|Arguments|Parameters|Raises|Returns|Yields|Attributes|Examples?|Note)"
    r"(, [^:\n]*)?:\s*(\S|$)",
    re.MULTILINE,
)


class Link(NamedTuple):
    """Where an element leads, and whether the browser loads it by itself."""

    url: str
    is_loaded: bool


class Page(HTMLParser):
    """What is looked at of one page: its links, its anchors and its text without code."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.links: list[Link] = []
        self.anchors: set[str] = set()
        self.text = ""
        self._within: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element's links, and that its content is within it."""
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag in LOADED and (url := given.get(LOADED[tag])) and given.get("rel") != "canonical":
            is_loaded = tag != "link" or given.get("rel") not in {"next", "prev", "alternate"}
            self.links.append(Link(url, is_loaded))
        elif tag == "a" and "href" in given:
            self.links.append(Link(given["href"], False))
        if tag in CODE or "doc-section-title" in given.get("class", ""):
            self._within.append(tag)
        if tag in {"p", "div", "li", "td", "dd", "dt", "tr", "h1", "h2", "h3", "h4"}:
            self.text += "\n"

    def handle_endtag(self, tag: str) -> None:
        """Note that what comes next is no longer within it."""
        if self._within and self._within[-1] == tag:
            self._within.pop()

    def handle_data(self, data: str) -> None:
        """Note text that is no code, and not the title of a rendered section."""
        if not self._within:
            self.text += data


def problems_of_page(page: Page) -> Iterator[str]:
    """What was not rendered, and what comes from elsewhere."""
    for found in SECTION.finditer(page.text):
        yield f"a section that is not rendered: {found.group().strip()!r}"
    if ":::" in page.text:
        yield "a directive that is not rendered: ':::'"
    for link in page.links:
        if link.is_loaded and urlsplit(link.url).netloc:
            yield f"loaded from another host: {link.url}"


def problems_of_links(site: Path, pages: dict[str, Page]) -> Iterator[str]:
    """Links and anchors within the site that lead nowhere. `pages` by their address in the site."""
    for address, page in pages.items():
        for link in page.links:
            parts = urlsplit(urljoin(HOST + address, link.url))
            if not parts.geturl().startswith(HOST):
                continue
            path = unquote(parts.path).removeprefix("/")
            target = path + "index.html" if not path or path.endswith("/") else path
            if not (site / target).is_file():
                yield f"{address}: leads nowhere: {link.url}"
            elif target in pages and parts.fragment:
                anchor = unquote(parts.fragment)
                if anchor not in pages[target].anchors and anchor != "__comments":
                    yield f"{address}: no such anchor: {link.url}"


def pages_of_navigation(entries: list[Any]) -> Iterator[tuple[str, str]]:
    """The title and file of each page, in their order."""
    for entry in entries:
        for title, target in entry.items():
            if isinstance(target, str):
                yield title, target
            else:
                yield from pages_of_navigation(target)


def problems_of_navigation(entries: list[Any], docs: Path) -> Iterator[str]:
    """Pages that nobody finds, and those that are not there."""
    named = [target for _, target in pages_of_navigation(entries)]
    there = {path.relative_to(docs).as_posix() for path in docs.rglob("*.md")}
    for target in sorted({*named}):
        if named.count(target) > 1:
            yield f"{target}: twice in the navigation"
        if target not in there:
            yield f"{target}: in the navigation, and not there"
    for target in sorted(there - {*named}):
        yield f"{target}: not in the navigation of zensical.toml"


def problems_of_docstrings() -> Iterator[str]:
    """What a reader would miss in the documented classes and functions."""
    import griffe
    from griffe_house import HouseExtension, options_of

    package = griffe.load(
        "dynamiq_async",
        search_paths=[ROOT],
        docstring_parser="google",
        docstring_options={"warn_unknown_params": False, "warn_missing_types": False},
        extensions=griffe.load_extensions(HouseExtension),
    )
    for name in documented():
        item = package.modules_collection[name]
        members = item.all_members.values() if item.is_class else ()
        for each in (item, *(one for one in members if one.is_function)):
            is_public = not each.name.startswith("_")
            if not is_public or not each.canonical_path.startswith(f"{NAME}."):
                continue
            if each.docstring is None and not each.is_attribute:
                if not is_told_of_above(each, item):
                    yield f"{each.path}: has no docstring"
                continue
            known = options_of(each) if each.is_class or each.is_function else {}
            for section in each.docstring.parsed if each.docstring and known else ():
                if section.kind is griffe.DocstringSectionKind.parameters:
                    yield from (
                        f"{each.path}: takes no {row.name!r}"
                        for row in section.value
                        if row.name not in known
                    )


def is_told_of_above(method: Any, cls: Any) -> bool:
    """Whether a class that `cls` is derived from says what the method does."""
    above = (base.members.get(method.name) for base in cls.mro())
    return any(each is not None and each.docstring is not None for each in above)


def documented() -> list[str]:
    """The names that the pages of the reference have."""
    pages = sorted((ROOT / "docs" / "reference").glob("*.md"))
    return [
        name
        for page in pages
        for name in re.findall(r"^::: (\S+)$", page.read_text("utf-8"), re.MULTILINE)
    ]


def main(site: Path) -> int:
    """Print what is wrong. The number of those is the exit code's reason."""
    files = sorted(site.rglob("*.html"))
    pages = {path.relative_to(site).as_posix(): Page(path.read_text("utf-8")) for path in files}
    pages.pop("404.html", None)  # its links are for any address
    with (ROOT / "zensical.toml").open("rb") as file:
        navigation = tomllib.load(file)["project"]["nav"]
    problems = [
        *(
            f"{address}: {each}"
            for address, page in pages.items()
            for each in problems_of_page(page)
        ),
        *problems_of_links(site, pages),
        *problems_of_navigation(navigation, ROOT / "docs"),
        *problems_of_docstrings(),
    ]
    print(f"{len(pages)} pages, {len(problems)} problems", *problems, sep="\n")
    return 1 if problems or not pages else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
