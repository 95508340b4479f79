"""The management API: which Apps there are, and where they are called."""

from .apps import DEFAULT_PROJECT, DEFAULT_TOKEN, ManagedApp, Management

__all__ = ["DEFAULT_PROJECT", "DEFAULT_TOKEN", "ManagedApp", "Management"]
