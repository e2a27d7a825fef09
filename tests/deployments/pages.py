"""Prefect's pages in a browser: V2, to which a server's address leads, and V1, to which links in logs lead.

Screenshots for a person to look at are left in UNDERSTUDY_SCREENSHOTS, where that names a folder.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Locator, Page, expect

PATIENCE_S = 30.0
PREFIXES = {"V2": "/v2", "V1": ""}


@dataclass(frozen=True, slots=True)
class Pages:
    """A browser's page, and which of Prefect's two kinds of pages it shows."""

    page: Page
    address: str
    kind: str

    def open(self, path: str) -> Page:
        """Go to a path and wait until nothing more is loaded."""
        self.page.goto(self.address + PREFIXES[self.kind] + path)
        self.page.wait_for_load_state("networkidle")
        return self.page

    def shoot(self, shot: str) -> None:
        """Leave a screenshot, where these are wanted."""
        if folder := os.environ.get("UNDERSTUDY_SCREENSHOTS"):
            self.page.screenshot(path=Path(folder) / f"{shot}-{self.kind}.png", full_page=True)

    def retry(self, run: str) -> None:
        """Click Retry on a run's page, and again where it asks whether that is meant."""
        page = self.open(f"/runs/flow-run/{run}")
        seen(page.get_by_text("Failed", exact=True).first)
        self.shoot("failed")
        if self.kind == "V2":
            page.get_by_role("button", name="Open menu").first.click()
            page.get_by_role("menuitem", name="Retry").click()
        else:
            page.get_by_role("button", name="Retry").click()
        page.get_by_role("button", name="Retry").last.click()


def seen(what: Locator, within_s: float = PATIENCE_S) -> Locator:
    """What is on the page, or comes to be in time."""
    expect(what).to_be_visible(timeout=1000 * within_s)
    return what
