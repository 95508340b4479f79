"""What a page of the documentation holds: its blocks of code, its links and its anchors.

A comment before a block says how it is treated; `app` at the top of a page holds for all of it:

    <!-- app: NAME -->        the App that it talks to: a built-in one (`llm` by itself, as of
                              `dynamiq-async serve`), or one of `tests.docs.apps`
    <!-- not run: why -->     it is compiled only
    <!-- file: NAME -->       it is a file, which the page's other blocks find in their folder
    <!-- from: PATH -->       it shows this file of the repository; `python -m tests.docs.pages`
                              writes anew what has changed there
"""

from __future__ import annotations

import re
import textwrap
import unicodedata
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[2]

_FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,}|~{3,}) *(?P<language>[\w-]*)(?P<rest>.*)$")
_COMMENT = re.compile(
    r"^ *<!-- *(?P<word>app|not run|file|from)\b(?P<colon>:?) *(?P<said>.*?) *-->$"
)
_HEADING = re.compile(r"^(#{1,6}) +(.+?)(?: +\{(?P<attributes>[^}]*)\})? *#* *$")
_LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
_TARGET = re.compile(r"^ {0,3}\[[^\]]+\]: +(\S+)", re.MULTILINE)
_HTML = re.compile(r"""<(?:a|img|source)\b[^>]*?\b(?:href|src|srcset)=["']([^"']+)["']""")
_ID = re.compile(r"""<[^>]*?\bid=["']([^"']+)["']""")


class PageError(ValueError):
    """A page says something about a block that is not understood."""


@dataclass(frozen=True)
class Block:
    """A block of code, and what the page says about it.

    Attributes:
        line: where it begins in its page.
        not_run: why it is not run, if it is not.
        file: the name of the file that it is.
        source: the file of the repository that it shows.
    """

    page: str
    line: int
    language: str
    text: str
    app: str
    not_run: str | None = None
    file: str | None = None
    source: str | None = None

    @property
    def name(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def is_program(self) -> bool:
        return "asyncio.run(" in self.text

    @property
    def is_tests(self) -> bool:
        return re.search(r"^(async )?def test_", self.text, re.MULTILINE) is not None

    @property
    def commands(self) -> list[str]:
        """What stands behind the prompt, with its continued lines, up to a pipe."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [line[2:].partition(" | ")[0] for line in lines if line.startswith("$ ")]


@dataclass
class Page:
    """A page in Markdown, by its path from the root of the repository."""

    path: str
    text: str
    blocks: list[Block] = field(init=False)
    prose: str = field(init=False)

    def __post_init__(self) -> None:
        self.blocks, self.prose = _split(self.path, self.text)

    @cached_property
    def files(self) -> dict[str, str]:
        """The files that it shows."""
        return {block.file: block.text for block in self.blocks if block.file}

    @cached_property
    def links(self) -> list[str]:
        """Where it links to, but for addresses of the web."""
        words = re.sub(r"(`+).*?\1", "", self.prose)
        found = [found for kind in (_LINK, _TARGET, _HTML) for found in kind.findall(words)]
        return [link for link in found if not re.match(r"[a-z]+:", link)]

    @cached_property
    def anchors(self) -> set[str]:
        """What may stand behind the `#` of a link to it, on the site and where code is hosted."""
        found = set(_ID.findall(self.prose))
        seen: dict[str, int] = {}
        for line in self.prose.splitlines():
            if not (heading := _HEADING.match(line)):
                continue
            found.update(re.findall(r"#([\w.-]+)", heading["attributes"] or ""))
            slug = slug_of(heading[2])
            count = seen[slug] = seen.get(slug, -1) + 1
            if not count:  # a second one of the same text is named differently by each
                found.add(slug)
        return found


def slug_of(heading: str) -> str:
    """The anchor of a heading. Where a site's and a code host's would differ, there is none."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").replace("*", "")
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    site = re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower())
    host = re.sub(r"[^\w\s-]", "", text).strip().lower().replace(" ", "-")
    return site if site == host else f"no anchor: {heading}"


def _split(path: str, text: str) -> tuple[list[Block], str]:
    """The blocks of a page, and its lines outside of them."""
    blocks: list[Block] = []
    prose: list[str] = []
    page_app, said = "llm", dict[str, str]()
    titled = False
    lines = iter(enumerate(text.splitlines(), 1))
    for number, line in lines:
        prose.append(line)
        if comment := _COMMENT.match(line):
            if not comment["colon"] or not comment["said"]:
                raise PageError(f"{path}:{number}: {line.strip()} says too little")
            said[comment["word"]] = comment["said"]
        elif opening := _FENCE.match(line):
            prose.pop()
            code = _body(lines, opening["fence"], f"{path}:{number}")
            blocks.append(
                Block(
                    path,
                    number,
                    opening["language"],
                    textwrap.dedent(code),
                    said.get("app", page_app),
                    said.get("not run"),
                    said.get("file"),
                    said.get("from"),
                )
            )
            said = {}
        elif line.strip():
            if said and (titled or said.keys() != {"app"}):
                raise PageError(f"{path}:{number}: {said} is not before a block of code")
            page_app, said = said.get("app", page_app), {}
            titled = titled or line.startswith("#")
    if said:
        raise PageError(f"{path}: {said} is not before a block of code")
    return blocks, "\n".join(prose)


def _body(lines: object, fence: str, where: str) -> str:
    found: list[str] = []
    for _, line in lines:  # type: ignore[attr-defined]
        bare = line.strip()
        if bare.startswith(fence) and not bare.strip(fence[0]):
            return "".join(f"{line}\n" for line in found)
        found.append(line)
    raise PageError(f"{where}: the block has no end")


def refreshed(page: Page) -> str:
    """The page's text with the files that it shows as they are now."""
    lines = page.text.splitlines(keepends=True)
    for block in reversed(page.blocks):
        if block.source:
            end = block.line + block.text.count("\n")
            lines[block.line : end] = [(ROOT / block.source).read_text("utf-8")]
    return "".join(lines)


def load(path: str) -> Page:
    return Page(path, (ROOT / path).read_text("utf-8"))


def all_pages() -> list[Page]:
    """The README, and every page under `docs/`."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [load(path.relative_to(ROOT).as_posix()) for path in found]


if __name__ == "__main__":
    for stale in all_pages():
        (ROOT / stale.path).write_text(refreshed(stale), "utf-8")
