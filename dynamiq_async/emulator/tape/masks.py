"""What is kept off a tape: keys, cookies, and the fields that its user names.

Of a response a masked value keeps its length, so that the borders of its pieces stay where they
were. Of a request all values of a field become the same, so that another one matches on replay. A
text that a workflow streams in pieces is looked at piece by piece.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

MASKED = "***"

_SECRET_HEADERS = {
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
    "x-api-key",
    "sec-websocket-key",
}
_SECRET_QUERY = {"access_key", "api_key", "key", "signature", "token"}
_SHORTEST = 6  # a shorter value is found in many texts by chance
_TOKEN = re.compile(
    rb'(?P<string>"(?:[^"\\\r\n]|\\[^\r\n])*(?:"|\\?\Z|(?=[\r\n])|\\(?=[\r\n])))'
    rb"|(?P<number>-?\d[\d.eE+-]*)|(?P<open>[\[{])|(?P<close>[\]}])|(?P<word>[A-Za-z]+)|[\s:,]+"
)
_COLON = re.compile(rb"\s*:")
_BOUNDARY = re.compile(r'boundary="?([^";,]+)')


class Mask:
    """Masks one exchange.

    Args:
        names: of JSON fields at any depth, also within JSON that is a text; of form fields, query
            parameters and headers. Upper and lower case are the same.
    """

    def __init__(self, names: Collection[str]) -> None:
        self._names = {name.lower() for name in names}
        self._secrets: set[bytes] = set()
        some = "|".join(re.escape(name) for name in sorted(self._names)).encode() or rb"(?!)"
        self._field = re.compile(rb'"(?:' + some + rb')"\s*:\s*', re.IGNORECASE)
        self._quoted = re.compile(
            rb'(?P<q>\\+")(?:' + some + rb")(?P=q)\s*:\s*"
            rb'(?:(?P=q)(?P<text>(?:\\[^\r\n]|[^"\\\r\n])*?)(?<!\\)(?P=q)|(?P<number>-?\d[\d.eE+-]*))',
            re.IGNORECASE,
        )
        self._form = re.compile(
            rb'(name="(?:' + some + rb')"[^\r\n]*\r\n(?:[^\r\n]+\r\n)*\r\n)(.*?)(?=\r\n--)',
            re.IGNORECASE | re.DOTALL,
        )

    def headers(self, pairs: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
        """The headers masked. Their secrets are masked in what comes after, too."""
        masked = []
        for name, value in pairs:
            if name.lower() in _SECRET_HEADERS:
                self._learn(value)
            secret = name.lower() in _SECRET_HEADERS | self._names
            masked.append((str(name), MASKED if secret else self._text(value)))
        return tuple(masked)

    def path(self, path: str) -> str:
        """A path with its query, masked."""
        path, mark, query = path.partition("?")
        secret = _SECRET_QUERY | self._names
        pairs = parse_qsl(query, keep_blank_values=True)
        if any(name.lower() in secret for name, _ in pairs):
            query = urlencode([(n, MASKED if n.lower() in secret else v) for n, v in pairs])
        return self._text(f"{path}{mark}{query}")

    def request(self, data: bytes, content_type: str) -> bytes:
        """A request's body masked, with a delimiter of its parts that is always the same."""
        if boundary := _BOUNDARY.search(content_type):
            data = data.replace(boundary[1].encode(), b"boundary-of-the-tape")
            data = self._form.sub(rb"\g<1>" + MASKED.encode(), data)
        return self._mask(data, _alike)

    def content_type(self, value: str) -> str:
        """The content type of a request, with the delimiter that its body has on the tape."""
        return _BOUNDARY.sub("boundary=boundary-of-the-tape", value)

    def pieces(self, data: Sequence[bytes]) -> list[bytes]:
        """The pieces of a response's body masked, each as long as it was."""
        whole, masked, start = self._mask(b"".join(data), _as_long), [], 0
        for piece in data:
            masked.append(whole[start : start + len(piece)])
            start += len(piece)
        return masked

    def _learn(self, value: str) -> None:
        """Note the secrets in the value of a header: a token, or the values of cookies."""
        for part in re.split(r"[;\s]+", value):
            for secret in (part, part.partition("=")[2]):
                if len(secret) >= _SHORTEST and secret.lower() not in _ATTRIBUTES:
                    self._secrets.add(secret.encode())

    def _text(self, text: str) -> str:
        data = text.encode("utf-8", "surrogateescape")
        return self._hide(data, _alike).decode("utf-8", "surrogateescape")

    def _hide(self, data: bytes, mask: Callable[[str, bytes], bytes]) -> bytes:
        for secret in sorted(self._secrets, key=len, reverse=True):
            data = data.replace(secret, mask("text", secret))
        return data

    def _mask(self, data: bytes, mask: Callable[[str, bytes], bytes]) -> bytes:
        data = self._hide(data, mask)
        if not self._names:
            return data
        data = self._quoted.sub(partial(_mask_quoted, mask), data)
        masked, start = [], 0
        while match := self._field.search(data, start):
            masked.append(data[start : match.end()])
            value, start = _mask_value(data, match.end(), mask)
            masked.append(value)
        return b"".join((*masked, data[start:]))


_ATTRIBUTES = {"bearer", "secure", "httponly", "samesite", "strict", "expires", "max-age", "domain"}


def _mask_value(data: bytes, start: int, mask: Callable[[str, bytes], bytes]) -> tuple[bytes, int]:
    """A JSON value masked, and where it ends. Names within it stay."""
    depth, masked = 0, []
    while token := _TOKEN.match(data, start):
        start, kind, text = token.end(), token.lastgroup, token[0]
        if kind == "string" and not (depth and _COLON.match(data, start)):
            closed = len(text) > 1 and text.endswith(b'"')
            inner = text[1:-1] if closed else text[1:]
            text = b'"' + mask("text", inner) + (b'"' if closed else b"")
        elif kind == "number":
            text = mask("number", text)
        masked.append(text)
        depth += (kind == "open") - (kind == "close")
        if depth <= 0 and kind is not None:
            break
    return b"".join(masked), start


def _mask_quoted(mask: Callable[[str, bytes], bytes], match: re.Match[bytes]) -> bytes:
    kind = "text" if match["text"] is not None else "number"
    start, end = (place - match.start() for place in match.span(kind))
    return match[0][:start] + mask(kind, match[kind]) + match[0][end:]


def _as_long(kind: str, value: bytes) -> bytes:
    return b"*" * len(value) if kind == "text" else re.sub(rb"\d", b"1", value)


def _alike(kind: str, value: bytes) -> bytes:
    return MASKED.encode() if kind == "text" else b"0"
