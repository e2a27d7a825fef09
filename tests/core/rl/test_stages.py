"""Segments of reinforcement: restored at every boundary or kept live, the student is the same."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from core import jsonio
from core.config.loading import load
from core.errors import ConfigError
from core.pipeline.run_context import RunContext
from core.progress import Silent
from core.rl.stages import ROLLOUTS, STEPS, PolicySettings, RewardSettings, reinforce, require_loss, reward
from core.stage import build
from core.store import Manifest, Store
from core.student.conversation import Target
from tests.building import build_split
from tests.conftest import AnsweringModel
from tests.core.pipeline.making import policy
from tests.small_project import write_project

pytestmark = pytest.mark.integration

SETTINGS = (
    "student.target=label_only",
    "student.engine.device=cpu",
    "reinforce.steps=3",
    "reinforce.interval=1",
    "reinforce.batch_size=4",
    "reinforce.group_size=4",
    "reinforce.max_new_tokens=12",
    "reinforce.learning_rate=0.02",
)
"""Three segments of one step."""
TWO_STEPS = ("reinforce.steps=4", "reinforce.interval=2")
"""Two segments of two steps."""


class Reinforced:
    """The small project's reinforcement in its own store, without Prefect."""

    def __init__(self, folder: Path, model: Path, *settings: str, restores: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / "small.yaml"
        if not config.exists():
            write_project(folder, model)
        places = [f"{key}={folder / name}" for key, name in (("data.path", "texts.csv"), ("run.root", "out"))]
        files = [f"rules.dir={folder / 'rules'}", f"teacher.answers={folder / 'answers.jsonl'}"]
        self.of = RunContext(load(config, [*places, *files, *SETTINGS, *settings]).config)
        self.store, self.restores = Store.open(str(folder / "out")), restores
        self.split = build_split(self.store, self.of.config)
        self.calls = policy(self.of, self.store, self.split)

    def run(self, start: Manifest | None = None, upto: int | None = None) -> list[Manifest]:
        """Every segment, or the first `upto`."""
        made: list[Manifest] = []
        settings = PolicySettings.of(self.of.config)
        reference = start if self.of.config.reinforce.kl else None
        for arguments in self.calls[:upto]:
            if self.restores:
                self.of.live.close()
            begin = {"parent": made[-1]} if made else {"start": start}
            inputs = {"split": self.split, "reference": reference, **begin}
            call = reinforce.call(settings, self.of, *arguments, **inputs)
            made.append(build(self.store, call, Silent()).manifest)
        self.of.live.close()
        return made

    def trained(self) -> Manifest:
        """A student that learned from one segment of reinforcement, to start from."""
        return self.run(upto=1)[0]

    def rows(self, made: Sequence[Manifest], name: str = STEPS) -> list[dict[str, Any]]:
        return [row for m in made for row in jsonio.read_jsonl(self.store.file(m, name))]

    def rewards(self, checkpoint: Manifest | None) -> Manifest:
        inputs = {"split": self.split, "checkpoint": checkpoint}
        call = reward.call(RewardSettings.of(self.of.config), self.of, {"step": 0}, **inputs)
        return build(self.store, call, Silent()).manifest


@pytest.fixture(scope="module")
def model(answering_model: AnsweringModel) -> Path:
    return answering_model("label_only")


@pytest.fixture(scope="module")
def uninterrupted(model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Manifest]:
    """Every segment of an uninterrupted run."""
    return Reinforced(tmp_path_factory.mktemp("uninterrupted"), model).run()


def digests(made: Sequence[Manifest]) -> list[str]:
    return [m.summary["checkpoint_digest"] for m in made]


def test_restoring_at_every_boundary_gives_the_uninterrupted_student(
    uninterrupted: list[Manifest], model: Path, tmp_path: Path
) -> None:
    restored = Reinforced(tmp_path, model, restores=True).run()
    assert [m.digest for m in restored] == [m.digest for m in uninterrupted]
    assert len(set(digests(restored))) == 3


def test_restoring_with_reference_substeps_and_dropout_gives_the_same_student(
    model: Path, tmp_path: Path
) -> None:
    settings = (*TWO_STEPS, "reinforce.kl=0.1", "reinforce.substeps=2", "student.lora.dropout=0.1")
    live = Reinforced(tmp_path / "live", model, *settings).run(upto=2)
    restored = Reinforced(tmp_path / "restored", model, *settings, restores=True).run(upto=2)
    assert [m.digest for m in live] == [m.digest for m in restored]
    assert len(set(digests(live))) == 2


def test_a_run_stopped_after_its_first_segment_ends_with_the_same_student(
    uninterrupted: list[Manifest], model: Path, tmp_path: Path
) -> None:
    Reinforced(tmp_path, model).run(upto=1)
    assert digests(Reinforced(tmp_path, model).run()) == digests(uninterrupted)


def test_random_numbers_come_from_seed_and_step(model: Path, tmp_path: Path) -> None:
    answers = []
    for name, more in (("a", ()), ("b", ("student.seeds=[7]",)), ("c", ())):
        of = Reinforced(tmp_path / name, model, "reinforce.learning_rate=1e-12", *more)
        rows = of.rows(of.run(upto=1), ROLLOUTS)
        answers.append({(row["step"], row["example_id"]): row["generated"] for row in rows})
    assert answers[0] == answers[2] != answers[1]


def test_greedy_answers_to_val_earn_more_after_training(model: Path, tmp_path: Path) -> None:
    """Sampled answers are not compared: which of them a tiny model learns depends on the last bits."""
    of = Reinforced(tmp_path, model, "reinforce.steps=20", "reinforce.interval=20", "reinforce.batch_size=8")
    made = of.run()
    before, after = of.rewards(None).summary["reward_mean"], of.rewards(made[-1]).summary["reward_mean"]
    assert after > before + 0.2


def test_a_step_without_reward_differences_takes_no_update_and_logs_it(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Answers of one token are truncated before the label, so that all earn nothing."""
    caplog.set_level("INFO")
    of = Reinforced(tmp_path, model, *TWO_STEPS, "reinforce.max_new_tokens=1")
    made = of.run()
    rows = of.rows(made)
    assert all(row["groups_skipped"] == row["n_groups"] == 4 for row in rows)
    assert {(row["updates"], row["loss"], row["n_datums"]) for row in rows} == {(0, None, 0)}
    assert len(set(digests(made))) == 1
    assert "step 1 takes no update: in none of 4 groups do rewards differ" in caplog.text
    assert made[-1].summary["steps_without_update"] == 2


def test_groups_without_variance_are_left_out_of_the_batch(model: Path, tmp_path: Path) -> None:
    of = Reinforced(
        tmp_path, model, "reinforce.steps=6", "reinforce.interval=2", "reinforce.rollouts_kept=16"
    )
    made = of.run()
    groups: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for row in of.rows(made, ROLLOUTS):
        groups.setdefault((row["step"], row["example_id"]), []).append(row)
    skipped = 0
    for group in groups.values():
        assert len(group) == 4
        alike = len({row["reward"] for row in group}) == 1
        assert all((row["advantage"] is None) == alike for row in group)
        skipped += alike
    rows = of.rows(made)
    assert sum(row["groups_skipped"] for row in rows) == skipped > 0
    assert all(row["n_datums"] == 4 * (row["n_groups"] - row["groups_skipped"]) for row in rows)


def test_the_history_has_its_documented_fields(model: Path, tmp_path: Path) -> None:
    of = Reinforced(tmp_path, model, *TWO_STEPS, "reinforce.kl=0.05")
    made = of.run(upto=1)
    known = {"step", "epoch", "loss", "reward_mean", "reward_std", "batch_acc", "invalid_rate", "kl_beta"}
    known |= {"kl_logprob_diff_mean", "loss_fn", "num_substeps", "n_datums", "groups_skipped", "tokens"}
    rows = of.rows(made)
    assert all(known <= row.keys() for row in rows)
    assert [(row["step"], row["epoch"]) for row in rows] == [(1, 1), (2, 1)]
    assert rows[0]["kl_logprob_diff_mean"] == pytest.approx(0, abs=1e-6)
    assert rows[1]["kl_logprob_diff_mean"] != 0
    assert len(made[0].summary["seconds_by_step"]) == 2
    assert "NaN" not in json.dumps(rows)


@pytest.mark.parametrize("target", ["label_first", "reason_first"])
def test_reasoning_students_are_sampled_and_rewarded_in_their_format(
    answering_model: AnsweringModel, tmp_path: Path, target: Target
) -> None:
    of = Reinforced(
        tmp_path, answering_model(target), f"student.target={target}", "reinforce.max_new_tokens=40"
    )
    rows = of.rows(of.run(upto=1))
    assert rows[0]["reward_format"] > 0.2
    assert 0 < rows[0]["reward_cites_rule"] < 1
    assert rows[0]["updates"] == 1


@pytest.mark.parametrize("loss", ["importance_sampling", "ppo", "cispo"])
@pytest.mark.parametrize("way", ["normalised", "centred"])
def test_every_loss_and_kind_of_advantage_trains(model: Path, tmp_path: Path, loss: str, way: str) -> None:
    of = Reinforced(tmp_path, model, f"reinforce.loss={loss}", f"reinforce.advantages={way}")
    rows = of.rows(of.run(upto=1))
    assert rows[0]["loss_fn"] == loss
    assert rows[0]["grad_norm"] > 0


def test_training_starts_from_a_students_weights_with_a_new_optimizer(model: Path, tmp_path: Path) -> None:
    """With `keep_optimiser` its optimizer is kept, so that the next step differs."""
    first = Reinforced(tmp_path, model)
    start = first.trained()
    ends = []
    for kept in ("false", "true"):
        of = Reinforced(tmp_path, model, *TWO_STEPS, "reinforce.steps=2", f"reinforce.keep_optimiser={kept}")
        [made] = of.run(start)
        rows = of.rows([made])
        assert [row["step"] for row in rows] == [1, 2]
        ends.append((made.summary["checkpoint_digest"], rows[0]["reward_mean"]))
    assert ends[0][0] != ends[1][0]
    assert ends[0][1] == ends[1][1]


def test_a_loss_that_the_engine_does_not_compute_is_rejected(model: Path, tmp_path: Path) -> None:
    of = Reinforced(tmp_path, model)
    with pytest.raises(ConfigError, match=r"reinforce\.loss dro is not one that this engine computes"):
        require_loss(of.of.capabilities, "dro")
