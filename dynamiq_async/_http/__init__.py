"""The HTTP core: requests, the limits for sending them, and the handling of responses.

The wire facts and their sources are in docs/contract.md.
"""
