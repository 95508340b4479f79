"""The files that pages take for given: what of them a page names is in the folder of its blocks."""

from __future__ import annotations

import io
import json
from collections.abc import Callable

import pandas as pd

ROWS = [{"id": f"q-{n}", "question": f"Where is parcel {n}?"} for n in range(40)]


def _csv() -> bytes:
    return pd.DataFrame(ROWS).assign(age=7, score=0.5).to_csv(index=False).encode()


def _jsonl() -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)


def _parquet() -> bytes:
    file = io.BytesIO()
    pd.DataFrame(ROWS).to_parquet(file)
    return file.getvalue()


FILES: dict[str, Callable[[], bytes]] = {
    "questions.csv": _csv,
    "questions.jsonl": _jsonl,
    "questions.parquet": _parquet,
    "invoice.pdf": lambda: b"%PDF-1.7 an invoice",
}
