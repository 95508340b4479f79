"""The events of streams.

The wire facts and their sources are in docs/contract.md.
"""
