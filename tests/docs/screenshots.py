"""Take the pictures of the documentation; run by `make screenshots`.

    python -m tests.docs.screenshots [CONFIG]

runs CONFIG, by default the quickstart, on a Prefect server of its own, reusing what exists, and saves its
report and its pages in Prefect's UI under `docs/images/`, each with less than LIMIT bytes. Needs Chromium.
"""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from core.config.loading import load
from tests.deployments.pages import Pages, seen
from tests.servers import prefect_api
from tests.servers.prefect_api import PrefectServer

REPO = Path(__file__).resolve().parents[2]
IMAGES = REPO / "docs/images"
LIMIT = 150_000
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
DRAWN_MS = 4000
"""How long Prefect's graph of a run takes to come to rest."""


def main(config: str) -> None:
    """Take and save all pictures."""
    browser = next((path for name in CHROMIUM if (path := shutil.which(name))), None)
    if browser is None:
        sys.exit("no Chromium is installed; on Debian: apt-get install chromium")
    resolved = load(REPO / config)
    report = REPO / resolved.config.run.root / "runs" / resolved.run_name / "report.html"
    with tempfile.TemporaryDirectory() as folder, prefect_api.serve(Path(folder)) as server:
        server.understudy("run", config)
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
            page = chromium.new_page(viewport={"width": 1200, "height": 1000})
            page.goto(report.as_uri())
            save(page, "report")
            take_prefect(page, server)
            chromium.close()


def take_prefect(page: Page, server: PrefectServer) -> None:
    """Save the page of the run, with its graph of stages, and that of its report."""
    artifacts = {each["key"]: each for each in server.post("artifacts/filter") if each["key"]}
    pages = Pages(page, server.url.removesuffix("/api"), "V2")
    pages.open(f"/runs/flow-run/{artifacts['test-report']['flow_run_id']}")
    seen(page.locator("canvas").first)
    page.wait_for_timeout(DRAWN_MS)
    save(page, "prefect_run")
    pages.open(f"/artifacts/artifact/{artifacts['test-report']['id']}")
    seen(page.get_by_role("heading", name="Verdict"))
    save(page, "prefect_report")


def save(page: Page, name: str) -> None:
    """Save what a page shows, with as many colors as the limit allows."""
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    for colors in (256, 128, 64, 32):
        found = io.BytesIO()
        picture.quantize(colors).save(found, "PNG", optimize=True)
        if found.tell() < LIMIT:
            break
    else:
        sys.exit(f"{name}: {found.tell()} bytes even with {colors} colors")
    IMAGES.mkdir(exist_ok=True)
    (IMAGES / f"{name}.png").write_bytes(found.getvalue())
    print(f"docs/images/{name}.png: {found.tell()} bytes, {colors} colors")


if __name__ == "__main__":
    main(*(sys.argv[1:] or ["configs/quickstart.yaml"]))
