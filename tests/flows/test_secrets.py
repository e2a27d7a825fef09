"""Keys of teacher, Tinker server and S3 are in the environment, and in no file that a run writes."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.store import Store
from tests.flows.running import distill
from tests.servers import teacher, tinker
from tests.servers.s3 import S3Server
from tests.servers.teacher_answers import write_texts
from tests.small_project import texts

pytestmark = pytest.mark.usefixtures("prefect_server")

TEACHER_KEY = f"sk-{uuid.uuid4().hex}"


def in_database() -> Iterator[tuple[str, bytes]]:
    """Everything that Prefect's server stores: parameters, states, logs, artifacts, blocks."""
    from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL

    place = Path(str(PREFECT_API_DATABASE_CONNECTION_URL.value()).partition("///")[2])
    assert place.is_file(), place
    for file in place.parent.glob(f"{place.name}*"):
        yield str(file), file.read_bytes()


def under(root: str) -> Iterator[tuple[str, bytes]]:
    """Every file of a root: objects, results, logs, reports, pointers."""
    backend = Store.at(root).backend
    for file in backend.list(""):
        found = backend.read(file.path)
        if found is not None:
            yield file.path, found.data


def test_keys_are_in_no_file_after_a_run_that_used_them(
    project: Path,
    tiny_model: Path,
    s3_server: S3Server,
    s3_root: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TEST_TEACHER_KEY", TEACHER_KEY)
    monkeypatch.setenv("TINKER_API_KEY", tinker.KEY)
    monkeypatch.setenv("TINKER_TELEMETRY", "0")
    known = {name: text for name, text, _ in texts()}
    recorded = write_texts(project.parent / "known.jsonl", known, project.parent / "answers.jsonl")
    secrets = [TEACHER_KEY, tinker.KEY, s3_server.secret_key]
    with (
        teacher.serve(recorded, api_key=TEACHER_KEY) as asked,
        tinker.serve(tiny_model, project.parent / "server", names=("tiny/student",)) as trains,
    ):
        answers = {"kind": "openai", "base_url": asked.base_url, "model": "m", "prices": None}
        distill(
            project,
            f"run.root={s3_root}",
            f"teacher={json.dumps({**answers, 'api_key_env': 'TEST_TEACHER_KEY'})}",
            "student.engine=tinker",
            "student.model=tiny/student",
            f"student.tokenizer={tiny_model}",
            f"student.engine.base_url={trains.base_url}",
            "student.lora={rank: 2}",
            "student.steps=2",
            "export.splits=[test]",
            "export.label_only=false",
            "baselines.other_prompt=false",
            "student.engine.prices=null",
            "run.log_level=DEBUG",
        )
        assert asked.totals().answered > 0, "the teacher's key was used"
    output = capfd.readouterr()
    places = [
        ("stdout", output.out.encode()),
        ("stderr", output.err.encode()),
        *under(s3_root),
        *in_database(),
    ]
    assert len(places) > 50
    found = [(name, secret[:4]) for name, data in places for secret in secrets if secret.encode() in data]
    assert found == []
