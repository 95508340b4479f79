"""The names of downloaded files."""

from __future__ import annotations

import mimetypes
import re
import unicodedata
from pathlib import Path
from urllib.parse import unquote, urlsplit

_MAX_NAME_BYTES = 150
_UNUSABLE = re.compile(r'[\x00-\x1f\x7f-\x9f<>:"|?*\ud800-\udfff]')
_RESERVED = re.compile(
    r"(?i)(con|prn|aux|nul|con(in|out)\$|clock\$|(com|lpt)[\d¹²³]) *(\.|$)"
)  # reserved by Windows
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})  # such as the text direction


def file_name(url: str, media_type: str, fallback: str) -> str:
    """A name for the content of `url`. It is a valid file name on any system, and never a path."""
    last = unquote(urlsplit(url).path).replace("\\", "/").rstrip("/").rpartition("/")[2]
    name = _clean(last) or _clean(fallback) or "output"
    extension = mimetypes.guess_extension(media_type) or ""
    return name if Path(name).suffix else _clean(f"{name}{extension}")


def _clean(name: str) -> str:
    name = _UNUSABLE.sub("_", name.replace("/", "_").replace("\\", "_"))
    shown = ("_" if unicodedata.category(letter) in _INVISIBLE else letter for letter in name)
    name = "".join(shown).strip(" .")
    if _RESERVED.match(name) or name.startswith("-"):  # programs take a leading dash for an option
        name = f"_{name}"
    stem, dot, extension = name.rpartition(".")
    if dot and len(extension.encode()) <= _MAX_NAME_BYTES // 4:
        room = _MAX_NAME_BYTES - len(extension.encode()) - 1
        return f"{_cut(stem, room)}.{extension}"
    return _cut(name, _MAX_NAME_BYTES)


def _cut(text: str, size: int) -> str:
    return text.encode()[:size].decode("utf-8", "ignore")
