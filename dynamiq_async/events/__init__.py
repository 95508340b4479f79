"""The events of streams."""
