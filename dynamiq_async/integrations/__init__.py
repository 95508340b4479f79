"""Calls Apps from other kinds of programs.

`shard` works with any engine. `ray` is for Ray Core and Ray Data, and `mcp` serves Apps as tools.
These two need an extra each, and import its library when first used.
"""
