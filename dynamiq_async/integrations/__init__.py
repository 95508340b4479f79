"""What lets an App be called by engines that spread work over many machines.

`shard` knows no engine. `ray` is for Ray Core and Ray Data, and imports Ray with its first use.
"""
