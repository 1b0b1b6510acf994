"""A real browser. Screenshots are kept in test-artifacts/."""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Iterator
from typing import Any, TypeAlias

import pytest

from tests.flows.site import ROOT

# In CI it is a must: an import that fails is a failure there, and a skip elsewhere.
playwright_api = (
    importlib.import_module("playwright.sync_api")
    if os.environ.get("CI")
    else pytest.importorskip("playwright.sync_api")
)
expect = playwright_api.expect
Browser: TypeAlias = Any  # its types are there only where it is installed
Page: TypeAlias = Any

PATIENCE = 240_000  # milliseconds; on a busy machine the first page takes its time, and so does the worker with a run


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, or another one on PATH."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        if os.environ.get("CI"):
            pytest.fail("no Chromium: apt-get install chromium")
        pytest.skip("no Chromium: apt-get install chromium")
    with playwright_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """An empty page."""
    page = browser.new_page(viewport={"width": 1400, "height": 1400})
    page.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    yield page
    page.close()


def keep(page: Page, name: str) -> None:
    """Keep a screenshot for people to look at."""
    folder = ROOT / "test-artifacts"
    folder.mkdir(exist_ok=True)
    page.screenshot(path=folder / f"{name}.png", full_page=True)
