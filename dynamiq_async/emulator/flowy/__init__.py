"""Flowy: apps that are run and asked about, rate limits, a spend cap, and links that expire."""

from .apps import FlowyApp, FlowyContent, FlowyFailedError
from .state import Flowy

__all__ = ["Flowy", "FlowyApp", "FlowyContent", "FlowyFailedError"]
