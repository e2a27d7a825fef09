"""A run's name: the same config resumes it, another one is rejected, and --new keeps the earlier run."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import pytest

from core.config import ResolvedConfig
from core.config.loading import parse_source, resolve
from core.errors import UserError
from core.pipeline.opening import claim, other_config, refuse_other, run_config
from core.store import RunView, Store, pointers, run_names
from core.store.run_view import CONFIG
from tests.core.store.making import made, paths

pytestmark = pytest.mark.parametrize("root", ["disk", "s3"], indirect=True)
MINIMAL = "run: {name: r}\ndata: {path: texts.csv}\nteacher: {answers: answers.jsonl}\n"


def config(*overrides: str, text: str = MINIMAL) -> ResolvedConfig:
    path = Path("small.yaml")
    return resolve(path, parse_source(path, text), overrides)


def ran(store: Store, *overrides: str) -> RunView:
    """A run that built a stage and published it."""
    view = RunView(store, "r")
    claim(view, config(*overrides), new=False)
    first = made(store)
    view.fill(first, {"train.jsonl": "data_splits/train.jsonl"})
    view.record("split", first, reused=False)
    content = {"run_name": "r", "run_dir": "runs/r", "train": "runs/r/data_splits/train.jsonl"}
    pointers.publish(store, "r", {**content, "best_model_path": first.folder}, [])
    return view


def again(view: RunView, *overrides: str, new: bool = False) -> None:
    """Claim the name again, as a second command with these changes does."""
    resolved = config(*overrides)
    if not new:
        refuse_other(view, resolved)
    claim(view, resolved, new=new)


def contents(store: Store, run: str) -> dict[str, str | None]:
    view = RunView(store, run)
    names = [p.removeprefix(f"runs/{run}/") for p in paths(store, f"runs/{run}")]
    return {name: view.read(name) for name in names}


@pytest.mark.parametrize(
    "changes",
    [
        [],
        ["run.root=elsewhere"],
        ["run.log_level=DEBUG"],
        ["run.name=other"],
        ["publish=false"],
        ["stages.train=false"],
    ],
)
def test_settings_that_affect_no_result_resume_the_run(store: Store, changes: Sequence[str]) -> None:
    view = ran(store)
    again(view, *changes)
    assert run_names(store) == ["r"]


def test_another_config_is_rejected_with_its_keys_and_both_remedies(store: Store) -> None:
    view = ran(store, "student.epochs=1")
    before = contents(store, "r")
    with pytest.raises(UserError) as caught:
        again(view, "student.epochs=2", "seed=7")
    sentence = str(caught.value)
    assert sentence.startswith(f"run r at {view.where()} was made with another config: ")
    assert "seed: 42 -> 7; student.epochs: 1.0 -> 2.0. Either add --new, which keeps" in sentence
    assert "--set run.name=r-2. Stages that do not depend on these keys are reused either way" in sentence
    with pytest.raises(UserError, match=r"student\.epochs"):
        claim(view, config("student.epochs=2"), new=False)
    assert contents(store, "r") == before


def test_many_differences_are_counted(store: Store) -> None:
    view = ran(store, "student.epochs=1")
    changes = [f"student.lora.{name}=3" for name in ("rank", "alpha")]
    changes += [f"student.{name}=17" for name in ("epochs", "batch_size", "max_length", "engine.threads")]
    changes += ["seed=7", "evaluation.interval=3", "export.reasoning_rows=3", "export.max_new_tokens=3"]
    with pytest.raises(UserError, match=r"; and 2 more. Either add --new"):
        again(view, *changes)


def test_a_run_that_built_nothing_does_not_take_the_name(store: Store) -> None:
    view = RunView(store, "r")
    claim(view, config("seed=1"), new=False)
    again(view, "seed=2")
    assert run_config(view).config.seed == 2
    again(view, "seed=3", new=True)
    assert run_names(store) == ["r"]


def test_new_keeps_the_earlier_run_under_another_name(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    view = ran(store)
    before = contents(store, "r")
    with caplog.at_level(logging.INFO):
        again(view, "seed=7", new=True)
    own, aside = run_names(store)
    assert own == "r"
    assert aside.startswith("r.2")
    assert f"run r begins again; the earlier one is kept as run {aside}" in caplog.text
    assert contents(store, aside) == before
    assert list(contents(store, "r")) == [CONFIG]
    assert run_config(view).config.seed == 7


def test_pointers_follow_the_renamed_run_and_name_existing_files(store: Store) -> None:
    view = ran(store)
    again(view, "seed=7", new=True)
    _, aside = run_names(store)
    for name in ("r", pointers.LATEST):
        found = pointers.read(store, name)
        assert found is not None
        assert found["run_dir"] == f"runs/{aside}"
        assert len(found["history"]) == 1
        for key in ("run_dir", "train", "best_model_path"):
            assert store.backend.list(found[key]) or store.backend.read(found[key]) is not None


def test_new_with_the_same_config_renames_nothing(store: Store) -> None:
    view = ran(store)
    again(view, "seed=7", new=True)
    view.record("split", made(store), reused=True)
    again(view, "seed=7", new=True)
    assert len(run_names(store)) == 2


def test_each_renamed_run_has_a_unique_name(store: Store) -> None:
    view = ran(store, "seed=1")
    for seed in (2, 3):
        again(view, f"seed={seed}", new=True)
        view.record("split", made(store), reused=True)
    seeds = [run_config(RunView(store, name)).config.seed for name in run_names(store)]
    assert sorted(seeds) == [1, 2, 3]


def test_the_config_of_a_renamed_run_has_its_new_name(store: Store) -> None:
    view = ran(store)
    again(view, "seed=7", new=True)
    for name in run_names(store):
        resolved = run_config(RunView(store, name))
        assert resolved.run_name == name
        assert resolved.config.run.root == store.backend.url


def test_an_unreadable_config_is_reported_as_another_versions(store: Store) -> None:
    view = ran(store)
    view.write(CONFIG, MINIMAL + "of_the_future: 1\n")
    with pytest.raises(UserError, match=r"made by another version, whose config this one cannot read \("):
        again(view)
    again(view, new=True)
    assert len(run_names(store)) == 2


def test_a_name_of_digits_stays_a_string(store: Store) -> None:
    view = RunView(store, "2026")
    claim(view, config('run.name="2026"'), new=False)
    assert run_config(view).run_name == "2026"


def test_a_run_that_failed_by_a_config_mistake_before_finishing_frees_its_name(
    store: Store,
) -> None:
    view = ran(store, "student.epochs=1")
    view.note_state("failed", error="no rules", mistake=True)
    again(view, "student.epochs=2")
    view.note_state("failed", error="a bug", mistake=False)
    with pytest.raises(UserError, match=r"student.epochs: 2.0 -> 3.0"):
        again(view, "student.epochs=3")
    view.note_state("failed", error="no rules", mistake=True)
    view.write("run_summary.json", "{}")
    with pytest.raises(UserError, match=r"student.epochs: 2.0 -> 3.0"):
        again(view, "student.epochs=3")


def test_a_run_of_the_first_version_is_resumed(store: Store) -> None:
    """Version 0.1 recorded the keys of both engines flat in `student:`."""
    text = (
        MINIMAL + "student: {engine: local, device: cpu, threads: 2, outstanding: 8, tinker_base_url: null}\n"
    )
    view = ran(store)
    view.write(CONFIG, text)
    now = config(text=MINIMAL + "student: {engine: {kind: local, device: cpu, threads: 2}}\n")
    assert other_config(view, now) == []
    assert other_config(view, config()) == [
        "student.engine.device: cpu -> auto",
        "student.engine.threads: 2 -> nothing",
    ]
    assert run_config(view).config.student.engine == now.config.student.engine
