"""Single stages of a run, built without a pipeline."""

from __future__ import annotations

from typing import Any

from core.config import Config
from core.data.stage import SplitSettings, split
from core.pipeline.run_context import RunContext
from core.progress import Silent
from core.records import SplitName
from core.rejection.stage import RejectSettings, reject
from core.stage import Built, build
from core.store import Manifest, Store
from core.teacher.stage import SampleSettings, sample


def small_config(**sections: Any) -> Config:
    """A config of which a test uses no more than these sections."""
    teacher = {"kind": "recorded", "answers": "answers.jsonl"}
    return Config.model_validate({"data": {"path": "texts.csv"}, "teacher": teacher, **sections})


def build_split(store: Store, config: Config) -> Manifest:
    """The split of a config's data."""
    return build(store, split.call(SplitSettings.of(config)), Silent()).manifest


def build_sample(store: Store, of: RunContext, parts: Manifest, name: SplitName = "train") -> Built:
    """The teacher's answers to a split."""
    return build(store, sample.call(SampleSettings.of(of.config, name), of, split=parts), Silent())


def build_reject(store: Store, of: RunContext, parts: Manifest, answers: Manifest) -> Built:
    """The accepted answers."""
    call = reject.call(RejectSettings.of(of.config), of, split=parts, sample=answers)
    return build(store, call, Silent())
