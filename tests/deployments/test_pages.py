"""What a person sees in Prefect's pages, in a real browser against a real server.

Screenshots for a person to look at are left in UNDERSTUDY_SCREENSHOTS, where that names a folder.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.servers.prefect_api import PrefectServer
from tests.small_project import write_project

pytestmark = pytest.mark.deployments

PATIENCE_MS = 30_000


@pytest.fixture(scope="module")
def finished(
    deployed: PrefectServer, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """A run's folder, and the artifacts of its flow run by key."""
    folder = tmp_path_factory.mktemp("project")
    write_project(folder, tiny_model)
    deployed.understudy("run", "small.yaml", cwd=folder)
    found = {a["key"]: a for a in deployed.post("artifacts/filter") if a["key"]}
    return folder / "out/runs/small", found


def opened(page: Page, server: PrefectServer, path: str, shot: str) -> Page:
    page.goto(server.url.removesuffix("/api") + path)
    page.wait_for_load_state("networkidle")
    if folder := os.environ.get("UNDERSTUDY_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{shot}.png")
    return page


def test_a_run_has_a_name_that_says_dataset_and_student_and_a_graph_of_its_stages(
    deployed: PrefectServer, finished: tuple[Path, dict[str, Any]], chromium_page: Page
) -> None:
    run = finished[1]["test-report"]["flow_run_id"]
    page = opened(chromium_page, deployed, f"/runs/flow-run/{run}", "run")
    expect(page.get_by_text("small: texts.csv").first).to_be_visible(timeout=PATIENCE_MS)
    expect(page.get_by_text("evaluate step 2 on val: run: not made before")).to_be_visible(
        timeout=PATIENCE_MS
    )
    expect(page.locator("canvas").first).to_be_visible(timeout=PATIENCE_MS)


def test_the_verdict_the_table_and_the_curve_are_shown(
    deployed: PrefectServer, finished: tuple[Path, dict[str, Any]], chromium_page: Page
) -> None:
    folder, artifacts = finished
    analysis = json.loads((folder / "student_phase/analysis.json").read_text())

    page = opened(chromium_page, deployed, f"/artifacts/artifact/{artifacts['test-report']['id']}", "report")
    expect(page.get_by_role("heading", name="Verdict")).to_be_visible(timeout=PATIENCE_MS)
    report = (folder / "test_report.md").read_text()
    headline = report[report.index("## Verdict") :].splitlines()[2].removeprefix("- ")
    expect(page.get_by_text(headline[:60]).first).to_be_visible(timeout=PATIENCE_MS)

    page = opened(chromium_page, deployed, f"/artifacts/artifact/{artifacts['scorers']['id']}", "table")
    for scorer in analysis["scorers"].values():
        expect(page.get_by_text(scorer["title"], exact=True).first).to_be_visible(timeout=PATIENCE_MS)

    page = opened(
        chromium_page, deployed, f"/artifacts/artifact/{artifacts['learning-curve']['id']}", "curve"
    )
    picture = page.locator("img[src^='data:image/png']").first
    expect(picture).to_be_visible(timeout=PATIENCE_MS)
    assert picture.evaluate("image => image.naturalWidth") > 300


def test_the_form_shows_fields_of_the_config_with_their_descriptions(
    deployed: PrefectServer, chromium_page: Page
) -> None:
    found = {each["name"]: each["id"] for each in deployed.post("deployments/filter")}
    page = opened(chromium_page, deployed, f"/deployments/deployment/{found['distill']}/run", "form")
    said = "A table instead of data.path"
    expect(page.get_by_text(said).first).to_be_visible(timeout=PATIENCE_MS)
    expect(page.get_by_text("Decides the split, every draw of rows").first).to_be_visible(timeout=PATIENCE_MS)
