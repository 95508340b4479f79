"""Streams: their life, and the events that are read from a response.

The wire facts and their sources are in docs/contract.md.
"""
