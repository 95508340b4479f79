"""The page itself: one file with its style and its script, which loads nothing from elsewhere.

Its Content-Security-Policy allows only the script and style in the file, by their digests. It also
forbids the script to turn text into markup (`trusted-types`), in browsers that support that.
"""

from __future__ import annotations

import re
from base64 import b64encode
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .inspector import InspectorExchange

_INLINE = "<{0}>(.*?)</{0}>"
_POLICY = (
    "default-src 'none'; base-uri 'none'; connect-src 'self'; form-action 'none'; "
    "frame-ancestors 'none'; img-src data:; require-trusted-types-for 'script'; "
    "script-src '{script}'; style-src '{style}'; trusted-types 'none'"
)


@cache
def page() -> bytes:
    """The content of the file."""
    return files(__package__).joinpath("page.html").read_bytes()


@cache
def policy() -> str:
    """The Content-Security-Policy of the page."""
    text = page().decode()
    digests = {}
    for tag in ("script", "style"):
        [content] = re.findall(_INLINE.format(tag), text, re.DOTALL)
        digests[tag] = f"sha256-{b64encode(sha256(content.encode()).digest()).decode()}"
    return _POLICY.format(**digests)


async def show(exchange: InspectorExchange) -> None:
    """`GET /_ui`."""
    headers = {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": policy(),
        "Cache-Control": "no-store",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
    }
    await exchange.wire.start(200, headers, length=len(page()))
    await exchange.wire.write(page())
    await exchange.wire.finish()
