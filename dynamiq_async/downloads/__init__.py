"""Downloads the content of links: into memory or to a file, completely or not at all."""

from dynamiq_async.downloads.files import Loader, PartFile
from dynamiq_async.downloads.names import file_name
from dynamiq_async.downloads.requests import (
    DEFAULT_MAX_BYTES,
    EXPIRED_STATUS,
    MAX_WAIT,
    Downloaded,
    Downloader,
    DownloadingClient,
    Sink,
)

__all__ = [
    "DEFAULT_MAX_BYTES",
    "EXPIRED_STATUS",
    "MAX_WAIT",
    "Downloaded",
    "Downloader",
    "DownloadingClient",
    "Loader",
    "PartFile",
    "Sink",
    "file_name",
]
