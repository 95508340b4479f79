"""How the package's messages say things."""

from __future__ import annotations


def counted(number: int, noun: str, *, grouped: bool = False) -> str:
    """`number` with its noun, which takes an s in the plural: "1 input", "1200 inputs".

    Args:
        grouped: by thousands, for people: "1,200 inputs".
    """
    shown = f"{number:,}" if grouped else f"{number}"
    return f"{shown} {noun}{'' if number == 1 else 's'}"
