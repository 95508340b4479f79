"""The management API: which Apps there are, where they are called, and what they have done."""

from .apps import (
    DEFAULT_ORG,
    DEFAULT_PROJECT,
    DEFAULT_TOKEN,
    DEFAULT_USER,
    ManagedApp,
    Management,
)

__all__ = [
    "DEFAULT_ORG",
    "DEFAULT_PROJECT",
    "DEFAULT_TOKEN",
    "DEFAULT_USER",
    "ManagedApp",
    "Management",
]
