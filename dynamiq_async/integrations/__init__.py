"""What lets an App be called from programs of other kinds. Each needs an extra of its own.

`shard` knows no engine. `ray` is for Ray Core and Ray Data, and `mcp` serves Apps as tools. Each
imports its library with its first use.
"""
