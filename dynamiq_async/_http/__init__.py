"""The HTTP core: requests, the limits they are sent within, and what becomes of responses."""
