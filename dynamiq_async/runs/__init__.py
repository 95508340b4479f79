"""The runs of an App."""
