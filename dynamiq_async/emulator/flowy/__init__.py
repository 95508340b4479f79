"""Flowy: apps whose runs are polled, rate limits, a spend cap, and links that expire."""

from .apps import FlowyApp, FlowyContent, FlowyFailedError
from .state import Flowy

__all__ = ["Flowy", "FlowyApp", "FlowyContent", "FlowyFailedError"]
