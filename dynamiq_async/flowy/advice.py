"""Explains Flowy's refusals, for messages. The vendor documents the causes."""

from __future__ import annotations

import re

_SCOPES = (
    (re.compile(r"GET .*/apps(/[^/]+)?"), "apps:read"),
    (re.compile(r"POST .*/runs"), "runs:write"),
    (re.compile(r"GET .*/runs/[^/]+"), "runs:read"),
    (re.compile(r"POST .*/generations"), "generations:write"),
    (re.compile(r"GET .*/generations/[^/]+"), "generations:read"),
    (re.compile(r"GET .*/credits"), "credits:read"),
    (re.compile(r"GET .*/assets(/[^/]+)?"), "assets:read"),
)
"""The scope that a request needs, judging by the scopes' names. The first match counts."""

ALL_SCOPES = (
    (re.compile(r"GET .*/apps(/[^/]+)?"), "apps:read"),
    "apps:read, runs:read, runs:write, generations:read, generations:write, assets:read and "
    "credits:read",
)


def advice(request: str, status: int) -> str:
    """Advice about a request that was refused with this status; "" if there is none for Flowy.

    Args:
        request: its method and URL.
    """
    if status == 402:
        return (
            "either the key's daily spend cap is used up, until the next UTC day, or the workspace "
            "is out of credits"
        )
    if status == 403:
        needed = next((scope for call, scope in _SCOPES if call.fullmatch(request)), None)
        scopes = f"{needed}, which this needs" if needed else f"among {ALL_SCOPES}"
        return (
            f"the key may lack a scope ({scopes}), the app may be another workspace's private one, "
            "or a publishable key may come from a domain that is not allowed"
        )
    return ""
