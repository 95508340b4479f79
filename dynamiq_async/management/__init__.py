"""`AsyncManagement`: which Apps there are, and the way from an App's name to a client for it.

The wire facts and their sources are in docs/contract.md.
"""

from dynamiq_async.management.apps import MAX_PAGE_SIZE, Apps
from dynamiq_async.management.client import AppOptions, AsyncManagement, Opening
from dynamiq_async.management.models import App

__all__ = ["MAX_PAGE_SIZE", "App", "AppOptions", "Apps", "AsyncManagement", "Opening"]
