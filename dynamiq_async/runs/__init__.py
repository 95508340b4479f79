"""The runs of an App.

The wire facts and their sources are in docs/contract.md.
"""
