"""Streams: their life, and the events that are read from a response."""
