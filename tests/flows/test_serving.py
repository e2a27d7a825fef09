"""publish-dataset, serve and automations reject invalid options before any work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flows.running import understudy


@pytest.fixture
def nowhere() -> Iterator[None]:
    """Name no server in the environment or in a profile."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        yield


@pytest.mark.parametrize(
    "arguments",
    [
        ["publish-dataset", "texts.csv"],
        ["serve", "small.yaml"],
        ["automations", "apply", "--heartbeat", "60"],
    ],
)
@pytest.mark.usefixtures("nowhere")
def test_without_a_server_the_message_names_the_setting(
    project: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert understudy(*arguments) == 2
    error = capsys.readouterr().err
    assert "PREFECT_API_URL is not set, and this needs a Prefect server" in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["publish-dataset", "text.csv"], 2, "does not exist"),
        (["publish-dataset", "texts.csv", "--name", "a b"], 2, "--name a b: a name has letters"),
        (["publish-dataset", "texts.csv"], 1, "no Prefect server answers at http://127.0.0.1:9/api"),
        (["serve", "none.yaml"], 2, "no config file at"),
        (["serve", "small.yaml", "--set", "data.path=nothing.csv"], 2, "nothing.csv"),
        (["serve", "small.yaml", "--cron", "at night"], 2, "--cron 'at night' is not a cron line"),
        (["serve", "small.yaml"], 1, "no Prefect server answers at"),
        (["automations", "apply", "--webhook-env", "NOT_SET"], 2, "NOT_SET: this environment variable"),
        (["automations", "apply", "--heartbeat", "20"], 2, "--heartbeat"),
        (["automations", "apply", "--heartbeat", "60"], 1, "no Prefect server answers at"),
    ],
)
def test_invalid_options_are_one_message(
    project: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, sentence: str
) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        assert understudy(*arguments) == code
    error = capsys.readouterr().err
    assert sentence in error
    assert "Traceback" not in error
