"""An engine registered by a plug-in trains, saves, resumes and is measured by the stages of a run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from core import jsonio
from core.config import ENGINES, register_engine
from core.errors import ConfigError
from core.evaluation.student_scores import MeasureSettings, evaluate
from core.pipeline.run_context import STUDENT, RunContext
from core.store import Manifest, Store
from core.student.train_stage import SegmentSettings, train
from tests.core.engines.bigram import BigramSettings
from tests.core.pipeline.making import Made, Maker, context, make_texts, planned, segment

ENGINE = ("student.engine=bigram", "student.adam.grad_clip_norm=0")


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    """The engine, for one test: the registry belongs to the process."""
    ENGINES.built_in()  # loads them
    register_engine("bigram")(BigramSettings)
    yield
    ENGINES.remove("bigram")


def trained(of: RunContext, maker: Maker, *, resumes: bool = False) -> Manifest:
    """The last checkpoint; with `resumes` every segment begins in a new session."""
    make_texts(maker)
    data = maker.store.folder(maker.manifests["encode"])
    (steps, segments), tip = planned(of, data), None
    for part in segments:
        tip = maker.make(train, SegmentSettings.of(of.config), *segment(steps, part, data), parent=tip)
        if resumes:
            of.live.close()
    assert tip is not None
    return tip


def test_a_registered_engine_trains_and_measures_checkpoints(made: Made) -> None:
    of = context(made.config, ENGINE)
    maker = Maker(Store.open("elsewhere"), of)
    tip = trained(of, maker)
    assert tip.summary["fingerprint"] == {"engine": "bigram", "boost": "100.0"}
    losses = []
    for step, checkpoint in ((0, None), (6, tip)):
        at = {"phase": STUDENT, "step": step, "who": "student"}
        inputs = {"split": maker.manifests["split"], "checkpoint": checkpoint}
        found = maker.make(evaluate, MeasureSettings.for_evaluation(of.config), at, **inputs)
        losses.append(jsonio.read_json(maker.store.file(found, "metrics.json"))["loss"])
    assert losses[1] < losses[0]


def test_a_registered_engine_resumes_from_its_checkpoints(made: Made) -> None:
    digests = set()
    for name, resumes in (("in-one-session", False), ("in-two-sessions", True)):
        of = context(made.config, ENGINE)
        tip = trained(of, Maker(Store.open(name), of), resumes=resumes)
        digests.add(tip.summary["checkpoint_digest"])
    assert len(digests) == 1


def test_the_code_of_a_registered_engine_is_in_the_keys(made: Made) -> None:
    assert context(made.config, ENGINE).config.student.engine.key_extras()["code"]


def test_a_missing_capability_is_an_error_before_any_work(made: Made) -> None:
    of = context(made.config, ENGINE[:1])
    with pytest.raises(ConfigError, match=r"engine bigram does not clip gradients"):
        of.preflight(online=False)
