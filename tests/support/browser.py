"""A headless Chromium."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from selenium.webdriver import Chrome

REQUIRED = os.environ.get("DYNAMIQ_TEST_BROWSER") == "required"


def _missing(reason: str) -> None:
    if REQUIRED:
        pytest.fail(f"DYNAMIQ_TEST_BROWSER is 'required', but {reason}")
    pytest.skip(f"no browser test: {reason}")


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """The browser, driven over WebDriver."""
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or driver is None:
        _missing("chromium and chromedriver are not installed (.ci/browser.sh does it)")
    # Never look for, or fetch, another driver than the one there is.
    os.environ.update(SE_OFFLINE="true", SE_AVOID_STATS="true")
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    options = ChromeOptions()
    options.binary_location = str(browser)
    for argument in _arguments(tmp_path_factory.mktemp("chromium")):
        options.add_argument(argument)
    chrome = Chrome(options, ChromeService(str(driver)))
    try:
        chrome.set_page_load_timeout(20)
        yield chrome
    finally:
        chrome.quit()


def _arguments(profile: Path) -> Iterator[str]:
    yield "--headless=new"
    yield f"--user-data-dir={profile}"
    yield "--window-size=900,600"
    yield "--disable-dev-shm-usage"  # which is small in containers
    yield "--disable-background-networking"
    yield "--disable-component-update"
    yield "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    if os.geteuid() == 0:
        yield "--no-sandbox"  # Chromium refuses to have one as root
