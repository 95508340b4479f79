"""Flowy."""
