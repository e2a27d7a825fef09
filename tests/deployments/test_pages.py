"""What a person sees in Prefect's pages, in a real browser against a real server."""

from __future__ import annotations

import io
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page

from core.config import Config
from core.config.loading import fields_at, leaves
from core.engines.local import LocalSettings
from core.engines.tinker import TinkerSettings
from core.evaluation.analysis import Analysis
from core.report.scorer_sections import scorer_rows
from tests.deployments.pages import PATIENCE_S, Pages, seen
from tests.deployments.working import until
from tests.pipeline.test_labelling import asking
from tests.servers import teacher as endpoint
from tests.servers.prefect_api import PrefectServer, started
from tests.small_project import write_project

pytestmark = pytest.mark.deployments

SEGMENTS = ("1 to 2", "3 to 4", "5 to 6")
OPTIONAL = ("SplitFiles", "TokenWeights", "EarlyStopping", "WandbConfig", "MlflowConfig")
"""Sections that are shown once they are chosen instead of None, wherever the config has one."""


@pytest.fixture(scope="module")
def chromium(deployed: PrefectServer, chromium: Browser) -> Browser:
    """The browser, started after the deployments: Prefect's commands cannot run in its process."""
    return chromium


@pytest.fixture(scope="module")
def folder(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small project."""
    found = tmp_path_factory.mktemp("project")
    write_project(found, tiny_model)
    return found


@pytest.fixture(scope="module")
def run(deployed: PrefectServer, folder: Path) -> Path:
    """A finished run's folder."""
    deployed.understudy("run", "small.yaml", cwd=folder)
    return folder / "out/runs/small"


@pytest.fixture(scope="module")
def artifacts(deployed: PrefectServer, run: Path) -> dict[str, dict[str, Any]]:
    """What the finished run left in Prefect, by key."""
    assert run.is_dir()
    return {a["key"]: a for a in deployed.post("artifacts/filter") if a["key"]}


@pytest.fixture(scope="module")
def progress(deployed: PrefectServer, folder: Path) -> Iterator[str]:
    """The progress artifact of a run that goes on meanwhile: each of its answers takes two seconds."""
    command = [sys.executable, "-c", "from flows.cli import main; main()", "run", "small.yaml"]

    def shown() -> list[dict[str, Any]]:
        return [a for a in deployed.post("artifacts/filter") if " left, $" in (a["description"] or "")]

    with endpoint.serve() as server:
        server.delay(2.0)
        slow = ["run.name=slow", asking(server), "teacher.limits.concurrency=1"]
        command += [word for each in slow for word in ("--set", each)]
        with started(command, folder, deployed.environment(), folder / "slow.log"):
            until(shown, "there is no progress to see", 90)
            (found,) = shown()
            assert found["type"] == "progress"
            yield str(found["id"])


def greens(page: Page) -> int:
    """How many points of the graph have the colour of what is Completed."""
    picture = Image.open(io.BytesIO(seen(page.locator("canvas").first).screenshot()))
    red, green, blue = np.moveaxis(np.asarray(picture.convert("RGB"), dtype=float), 2, 0)
    return int((green > 1.5 * np.maximum(red, blue)).sum())


def test_a_runs_page_has_a_name_that_says_what_it_is_and_a_graph_of_stages_and_segments(
    pages: Pages, artifacts: dict[str, dict[str, Any]]
) -> None:
    run = artifacts["test-report"]["flow_run_id"]
    with pages.page.expect_response(re.compile("graph-v2"), timeout=1000 * PATIENCE_S) as heard:
        page = pages.open(f"/runs/flow-run/{run}")
    seen(page.get_by_text("small: texts.csv").first)
    seen(page.get_by_text("reject: run: not cached"))

    nodes = dict(heard.value.json()["nodes"])
    drawn = {node["label"] for node in nodes.values()}
    edges = {(nodes[of["id"]]["label"], node["label"]) for node in nodes.values() for of in node["parents"]}
    assert {("split", "sample"), ("reject", "encode"), ("report", "publish")} <= edges
    assert ("train steps 1 to 2 of 6", "train steps 3 to 4 of 6") in edges
    assert {"split", "sample", "reject", "encode", "baseline", "analyse student on test"} <= drawn
    assert {f"train steps {segment} of 6" for segment in SEGMENTS} <= drawn
    assert {f"evaluate step {step} on val" for step in (0, 2, 4, 6)} <= drawn
    limit = iter(range(int(2 * PATIENCE_S)))
    while greens(page) < 2000:
        assert next(limit, None) is not None, "the graph is not drawn"
        page.wait_for_timeout(500)
    pages.shoot("run")


def test_progress_is_shown_with_counts_rate_time_and_money_while_it_is_made(
    pages: Pages, progress: str
) -> None:
    page = pages.open(f"/artifacts/artifact/{progress}")
    shown = re.compile(
        r"sample: (\d+)/42 \(\d+ %\), \d+\.\d/s, \d+ s left, \$0\.\d{4} spent, about \$0\.\d{4} to come"
    )
    found = shown.search(seen(page.get_by_text(shown).first).inner_text())
    assert found is not None
    assert 0 < int(found[1]) < 42
    pages.shoot("progress")


def test_the_verdict_the_table_and_the_curve_are_shown(
    pages: Pages, run: Path, artifacts: dict[str, dict[str, Any]]
) -> None:
    page = pages.open(f"/artifacts/artifact/{artifacts['test-report']['id']}")
    seen(page.get_by_role("heading", name="Verdict"))
    report = (run / "test_report.md").read_text()
    headline = report[report.index("## Verdict") :].splitlines()[2].removeprefix("- ")
    seen(page.get_by_text(headline[:60]).first)
    pages.shoot("report")

    page = pages.open(f"/artifacts/artifact/{artifacts['scorers']['id']}")
    rows = scorer_rows(Analysis.read(run / "student_phase/analysis.json"))
    seen(page.get_by_text(str(rows[0]["scorer"]), exact=True).first)
    shown = page.inner_text("table")
    assert len(rows) > 5
    assert [v for row in rows for pair in row.items() for v in pair if str(v) not in shown] == []
    pages.shoot("table")

    page = pages.open(f"/artifacts/artifact/{artifacts['learning-curve']['id']}")
    picture = seen(page.locator("img[src^='data:image/png']").first)
    assert picture.evaluate("image => image.naturalWidth") > 300
    pages.shoot("curve")


def test_the_places_of_report_and_pointer_are_shown_and_are_links_where_prefect_lets_them(
    pages: Pages, run: Path, artifacts: dict[str, dict[str, Any]]
) -> None:
    for key, place in (
        ("report-page", run / "report.html"),
        ("model-pointer", run.parents[1] / "model/small.json"),
    ):
        page = pages.open(f"/artifacts/artifact/{artifacts[key]['id']}")
        link = seen(page.get_by_text(str(place), exact=True).first)
        assert place.is_file()
        # V2 takes the address away from a link to a file.
        assert link.get_attribute("href") == (place.as_uri() if pages.kind == "V1" else None)
        pages.shoot(key)


def plain(text: str) -> str:
    """As it is read: without what markdown takes away, on one line."""
    return " ".join(text.replace("`", "").split())


def test_the_form_shows_every_field_of_the_config_with_its_key_and_description(
    pages: Pages, deployed: PrefectServer
) -> None:
    found = {each["name"]: each["id"] for each in deployed.post("deployments/filter")}
    page = pages.open(f"/deployments/deployment/{found['distill']}/run")
    for name in OPTIONAL:
        choices = page.get_by_text(name, exact=True)
        seen(choices.first)
        for index in range(choices.count()):
            choices.nth(index).click()
    seen(page.get_by_text("Smallest change that counts as better.").last)
    pages.shoot("form")

    text = page.inner_text("body")
    missing = []
    # The form shows the settings of the engine that is chosen.
    hidden = TinkerSettings.model_fields.keys() - LocalSettings.model_fields.keys()
    shown = [key for key in leaves(Config) if key[:2] != ("student", "engine") or key[2] not in hidden]
    for key in shown:
        section = fields_at(key[:-1])
        assert section is not None
        if plain(str(section[key[-1]].description)) not in plain(text):
            missing.append(key)
    assert missing == []
    titles = Counter(line.removesuffix(" (Optional)") for line in text.splitlines())
    assert Counter(key[-1] for key in shown) - titles == Counter()
    assert "A table instead of data.path" in text
