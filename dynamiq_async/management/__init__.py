"""`AsyncManagement`: the deployed Apps, and a client for one of them by its name or id.

The wire facts and their sources are in docs/contract.md.
"""

from dynamiq_async.app import AppOptions
from dynamiq_async.management.apps import MAX_PAGE_SIZE, Apps
from dynamiq_async.management.client import AsyncManagement, Opening
from dynamiq_async.management.models import App

__all__ = ["MAX_PAGE_SIZE", "App", "AppOptions", "Apps", "AsyncManagement", "Opening"]
