"""Masks secrets on tapes and in the inspector: keys, cookies, signatures of links, and fields.

All values of a field get the same mask. So the mask reveals nothing, not even the length, and
another request of the same kind matches when a tape is replayed. The value of a masked request
field is also masked wherever this exchange or a later one repeats it in one piece. Streamed text is
masked event by event: a secret that is spread over several events is not found.
"""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qsl, urlencode

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

MASKED = b"***"
"""Replaces a text. A number is replaced by 0, true and false by false."""

_SECRET_HEADER = re.compile(
    "auth|cookie|token|secret|session|signature|passw|credential|jwt|(?:api|access|private|functions)[-_]?key"
    "|^sec-websocket-key$",
    re.IGNORECASE,
)
_OPEN_HEADERS = {"www-authenticate"}  # names the way to authenticate, and holds no secret
_SECRET_FIELDS = [
    "access_key",
    "access_token",
    "accessKey",
    "accessToken",
    "api_key",
    "apiKey",
    "authorization",
    "client_secret",
    "clientSecret",
    "passwd",
    "password",
    "private_key",
    "privateKey",
    "refresh_token",
    "refreshToken",
    "secret",
    "token",
]
SECRET_PARAMETERS = [
    *map(str.lower, _SECRET_FIELDS),
    "key",
    "sig",
    "signature",
    "x-amz-signature",
    "x-amz-security-token",
    "x-amz-credential",
    "x-goog-signature",
    "x-goog-credential",
]
_SCHEMES = {"bearer", "basic", "digest"}
_MOST_SECRETS = 200
_SHORTEST = 6  # a shorter value occurs in many texts by chance
_BOUNDARY = re.compile(r'boundary="?([^";,]+)"?')
_TAPE_BOUNDARY = "boundary-of-the-tape"

# In JSON within JSON strings, by depth, a quote is preceded by one, three, seven … backslashes.
_SPACE = rb"(?:\s|\\+[nrt])*"
_NAME = rb'(?<!\\)(?P<slashes>\\*)"(?:%b)(?P=slashes)"' + _SPACE + rb":" + _SPACE
_COLON = re.compile(_SPACE + rb":")
_QUOTE = re.compile(rb'(?<!\\)(?P<slashes>\\*)"|[\r\n]')
_TOKEN = re.compile(
    rb"(?P<skip>(?:[\s:,]|\\+[nrt]|(?<=[\r\n])data:)+)"
    rb'|(?P<quote>\\*")|(?P<number>-?(?:\d[\d.eE+-]*|Infinity)|NaN)|(?P<word>[A-Za-z]+)'
    rb"|(?P<open>[\[{])|(?P<close>[\]}])"
)
_LINK = re.compile(
    rb"(?:[?&]|(?<!\\)\\+u0026)(?:" + "|".join(SECRET_PARAMETERS).encode() + rb')=([^&"\\\s<>#]+)'
    rb'|://([^/@?#"\\\s<>]+)@',  # a user and a password
    re.IGNORECASE,
)
_NOTHING = re.compile(rb"(?!)")


class _Edit(NamedTuple):
    """The replacement of a range of bytes."""

    start: int
    end: int
    new: bytes


class Secrets:
    """The newest secret values, which are masked wherever they occur again."""

    def __init__(self) -> None:
        self._known: dict[bytes, None] = {}
        self._pattern: re.Pattern[bytes] | None = _NOTHING

    def add(self, value: bytes) -> None:
        """Note a value, unless it is so short that it occurs by chance."""
        if len(value) < _SHORTEST:
            return
        self._pattern = self._pattern if value in self._known else None
        self._known.pop(value, None)
        self._known[value] = None
        if len(self._known) > _MOST_SECRETS:
            del self._known[next(iter(self._known))]

    @property
    def pattern(self) -> re.Pattern[bytes]:
        """A pattern that matches any of them."""
        if self._pattern is None:
            longest_first = sorted(self._known, key=len, reverse=True)
            self._pattern = re.compile(b"|".join(map(re.escape, longest_first)))
        return self._pattern


class Mask:
    """Masks one exchange. Secrets that it finds in the request are also masked in the response.

    Args:
        names: names of JSON fields at any depth, including JSON within strings, and of form
            fields, query parameters and headers. Case does not matter.
        secrets: the secrets of earlier exchanges; those of this exchange are added.
    """

    def __init__(self, names: Collection[str], secrets: Secrets | None = None) -> None:
        self._given = set(names)
        self._names = {name.lower() for name in names}
        self._parameters = self._names | set(SECRET_PARAMETERS)
        self._secrets = Secrets() if secrets is None else secrets
        self._request_fields = _fields(self._given | set(_SECRET_FIELDS))
        # In a response, a token may be a piece of a model's text.
        self._fields = _fields(self._given | set(_SECRET_FIELDS) - {"token"})

    def learn(self, headers: Iterable[tuple[str, str]]) -> None:
        """Note the keys and cookies in these headers, so that they are masked elsewhere too."""
        for name, value in headers:
            lower = name.lower()
            if lower == "set-cookie":
                self._note(value.partition(";")[0].partition("=")[2])
            elif lower == "cookie":
                for part in value.split(";"):
                    self._note(part.partition("=")[2])
            elif self._is_secret(lower) and not lower.startswith("sec-websocket"):
                for part in value.split():
                    if part.lower() not in _SCHEMES:
                        self._note(part)

    def headers(self, pairs: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
        """These headers, masked."""
        return tuple(
            (str(name), MASKED.decode() if self._is_secret(name.lower()) else self._text(value))
            for name, value in pairs
        )

    def path(self, path: str) -> str:
        """A path with its query, masked."""
        path, mark, query = path.partition("?")
        return self._text(f"{path}{mark}{self._query(query)}")

    def request(self, data: bytes, content_type: str = "") -> bytes:
        """The masked body of a request. A multipart body gets a boundary that never changes."""
        if boundary := _BOUNDARY.search(content_type):
            delimiter = b"--" + _TAPE_BOUNDARY.encode()
            data = data.replace(b"--" + boundary[1].encode("utf-8", "surrogateescape"), delimiter)
            data = self._of_form(data, delimiter)
        elif content_type.lower().startswith("application/x-www-form-urlencoded"):
            data = self._query(data.decode("latin-1")).encode("latin-1", "replace")
        edits = list(_field_edits(data, self._request_fields))
        for start, end, new in edits:
            if new == MASKED:
                self._secrets.add(data[start:end])
        data, _ = _apply(data, edits, ())
        return self._hide(data)

    def content_type(self, value: str) -> str:
        """The content type of a request, with the boundary that its body has on the tape."""
        return _BOUNDARY.sub(f"boundary={_TAPE_BOUNDARY}", value)

    def pieces(self, data: Sequence[bytes]) -> list[bytes]:
        """The masked pieces of a response's body. A masked value that spans several is in the first
        of them."""
        whole, borders = b"".join(data), [0]
        for piece in data:
            borders.append(borders[-1] + len(piece))
        whole, borders = _apply(whole, self._secret_edits(whole), borders)
        whole, borders = _apply(whole, _link_edits(whole), borders)
        whole, borders = _apply(whole, _field_edits(whole, self._fields), borders)
        return [whole[start:end] for start, end in pairwise(borders)]

    def _is_secret(self, name: str) -> bool:
        return name in self._names or (
            _SECRET_HEADER.search(name) is not None and name not in _OPEN_HEADERS
        )

    def _note(self, value: str) -> None:
        self._secrets.add(value.strip(' "').encode("utf-8", "surrogateescape"))

    def _query(self, query: str) -> str:
        pairs = parse_qsl(query, keep_blank_values=True)
        if not any(name.lower() in self._parameters for name, _ in pairs):
            return query
        for name, value in pairs:
            if name.lower() in self._parameters:
                self._note(value)
        masked = MASKED.decode()
        return urlencode(
            [
                (name, masked if name.lower() in self._parameters else value)
                for name, value in pairs
            ],
            safe="*",
        )

    def _of_form(self, data: bytes, delimiter: bytes) -> bytes:
        """A form in which the parts with secret names are masked."""
        part = re.compile(
            rb'[; ]name="?(?:' + _any_of(self._given | set(_SECRET_FIELDS)) + rb')"?(?=[;\r])'
            rb"(?:[^\r\n]*\r\n){1,20}?\r\n",  # the other headers of the part
            re.IGNORECASE,
        )
        edits, start = [], 0
        while found := part.search(data, start):
            start = data.find(b"\r\n" + delimiter, found.end())
            start = len(data) if start < 0 else start
            self._secrets.add(data[found.end() : start])
            edits.append(_Edit(found.end(), start, MASKED))
        return _apply(data, edits, ())[0]

    def _text(self, text: str) -> str:
        data = self._hide(text.encode("utf-8", "surrogateescape"))
        return data.decode("utf-8", "surrogateescape")

    def _hide(self, data: bytes) -> bytes:
        """Mask the secrets that are known by now, and the signatures of links."""
        data, _ = _apply(data, self._secret_edits(data), ())
        return _apply(data, _link_edits(data), ())[0]

    def _secret_edits(self, data: bytes) -> Iterator[_Edit]:
        found = self._secrets.pattern.finditer(data)
        return (_Edit(*match.span(), MASKED) for match in found)


def _any_of(names: Collection[str]) -> bytes:
    """A pattern for these names, as UTF-8 and with JSON's escapes. It lists upper and lower case,
    because a pattern for bytes ignores case in ASCII only."""
    cased = {form for name in names for form in (name, name.lower(), name.upper())}
    plain = {re.escape(name.encode()) for name in cased}
    escaped = {re.escape(json.dumps(name)[1:-1].encode()) for name in cased}
    return b"|".join(sorted(plain | {name.replace(rb"\\u", rb"\\+u") for name in escaped}))


def _fields(names: Collection[str]) -> re.Pattern[bytes]:
    return re.compile(_NAME % _any_of(names), re.IGNORECASE) if names else _NOTHING


def _link_edits(data: bytes) -> Iterator[_Edit]:
    return (_Edit(*found.span(found.lastindex or 1), MASKED) for found in _LINK.finditer(data))


def _field_edits(data: bytes, fields: re.Pattern[bytes]) -> Iterator[_Edit]:
    """Edits that mask the values of these fields. Names within a value stay, and so does null."""
    start = 0
    while found := fields.search(data, start):
        start = found.end()
        slashes, depth = len(found["slashes"]), 0
        while token := _TOKEN.match(data, start):
            start, kind = token.end(), token.lastgroup
            if kind == "quote":
                if len(token[0]) - 1 != slashes:
                    break  # the end of the string that holds the JSON
                end, closed = _end_of_text(data, start, slashes)
                behind = end + closed * (slashes + 1)
                if not (depth and _COLON.match(data, behind)):
                    yield _Edit(start, end, MASKED)
                start = behind
                if not closed:
                    break
            elif kind in ("number", "word") and token[0] != b"null":
                yield _Edit(*token.span(), b"0" if kind == "number" else b"false")
            depth += (kind == "open") - (kind == "close")
            if depth <= 0 and kind != "skip":
                break


def _end_of_text(data: bytes, start: int, slashes: int) -> tuple[int, bool]:
    """Where a string ends, given the backslashes before its quotes, and whether a quote ends it."""
    while found := _QUOTE.search(data, start):
        run = found["slashes"]
        if run is None:
            return found.start(), False
        if len(run) < slashes:
            return found.start(), False
        if len(run) % (2 * slashes + 2) == slashes:
            return found.end() - slashes - 1, True
        start = found.end()
    return len(data), False


def _apply(data: bytes, edits: Iterable[_Edit], borders: Sequence[int]) -> tuple[bytes, list[int]]:
    """The edited data, and its borders' new positions. A border within an edit moves behind it."""
    parts: list[bytes] = []
    moved, start, shift = [], 0, 0
    ahead = iter(borders)
    border = next(ahead, None)
    for edit in edits:
        while border is not None and border <= edit.start:
            moved.append(border + shift)
            border = next(ahead, None)
        parts += (data[start : edit.start], edit.new)
        start = edit.end
        shift += len(edit.new) - (edit.end - edit.start)
        while border is not None and border < edit.end:
            moved.append(edit.end + shift)
            border = next(ahead, None)
    if not parts:
        return data, list(borders)
    moved += () if border is None else (border + shift, *(later + shift for later in ahead))
    return b"".join((*parts, data[start:])), moved
