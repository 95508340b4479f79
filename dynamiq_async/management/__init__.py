"""`AsyncManagement`: finds deployed Apps by name or id and makes clients for them; shows the
traces, conversations and artifacts of their calls; and lists projects.

The wire facts and their sources are in docs/contract.md.
"""

from dynamiq_async._http.request_options import CallOptions
from dynamiq_async.app import AppOptions
from dynamiq_async.management.accounts import Org, Orgs, Project, Projects, User
from dynamiq_async.management.apps import Apps
from dynamiq_async.management.artifacts import Artifact, Artifacts
from dynamiq_async.management.client import AsyncManagement, Opening
from dynamiq_async.management.lists import MAX_PAGE_SIZE, ListOptions
from dynamiq_async.management.models import App
from dynamiq_async.management.sessions import Session, SessionMessage, Sessions
from dynamiq_async.management.traces import Trace, Traces

__all__ = [
    "MAX_PAGE_SIZE",
    "App",
    "AppOptions",
    "Apps",
    "Artifact",
    "Artifacts",
    "AsyncManagement",
    "CallOptions",
    "ListOptions",
    "Opening",
    "Org",
    "Orgs",
    "Project",
    "Projects",
    "Session",
    "SessionMessage",
    "Sessions",
    "Trace",
    "Traces",
    "User",
]
