"""The HTTP core: requests, the limits they are sent within, and what becomes of responses.

The wire facts and their sources are in docs/contract.md.
"""
