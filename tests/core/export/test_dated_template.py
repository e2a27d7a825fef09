"""Chat templates that insert the current date: a run and its bundle use one fixed date in every prompt."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
import transformers.utils.chat_template_utils

from core.base_model import ModelSource, resolve_model
from core.engines import Device
from core.evaluation.analysis import analyse
from core.evaluation.decision import DecideSettings, decide
from core.evaluation.predictions import SCORES, Predictions
from core.evaluation.student_scores import MeasureSettings, evaluate, export
from core.export.bundle import open_bundle
from core.export.stage import BUNDLE, BundleSettings, bundle
from core.pipeline.exporting import Scorer
from core.pipeline.run_context import STUDENT, RunContext
from core.predict.loaded_student import open_model
from core.records import read_examples
from core.store import Store
from core.student.encode_stage import DATA_FILE, EncodeStageSettings, encode, read_data
from core.student.tokenizer import ChatTokenizer
from core.student.train_stage import SegmentSettings, train
from tests.core.pipeline.making import Maker, analysed, context, make_texts, planned, segment
from tests.small_project import write_project

OnDay = Callable[[str], None]
DATED = "{{ '<|im_start|>system\\nIt is ' + strftime_now('%A, %-d %B %Y %H:%M') + '.<|im_end|>\\n' }}"


@pytest.fixture
def on_day(monkeypatch: pytest.MonkeyPatch) -> OnDay:
    """Set the clock that transformers gives to templates."""

    def turn(day: str) -> None:
        class Clock(datetime):
            @classmethod
            def now(cls, tz: object = None) -> Clock:
                return cls.fromisoformat(day)

        monkeypatch.setattr(transformers.utils.chat_template_utils, "datetime", Clock)

    return turn


@pytest.fixture
def project(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The small project with a dated template; returns its config."""
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    template = (model / "chat_template.jinja").read_text()
    (model / "chat_template.jinja").write_text(f"{DATED}\n  {{# dated #}}\n{template}")
    monkeypatch.chdir(tmp_path)
    return write_project(tmp_path, "./model")


def opened(config: Path, *overrides: str) -> RunContext:
    """A new context, as each process opens it."""
    prompts = config.parent / "prompts.yaml"
    if not prompts.exists():
        shown = ("teacher_user", "student_user", "student_label_only_user")
        lines = ["task_instruction: Spam?", *(f'{name}: "Is it? {{{{ text }}}}"' for name in shown)]
        prompts.write_text("\n".join(lines))
    return context(config, ["student.steps=2", "evaluation.interval=2", *overrides])


def trained_prompts(of: RunContext, store: Store, maker: Maker) -> list[str]:
    """The texts of the prompts in the encoded examples."""
    inner = of.tokenizer.inner
    data = read_data(store.file(maker.manifests["encode"], DATA_FILE))
    return [inner.decode(d.tokens).partition("<label>")[0] for d in data]


def asked(of: RunContext, text: str) -> str:
    found: str = of.tokenizer.inner.decode(of.encoder().prompt_tokens(text))
    return found


@pytest.mark.integration
def test_training_evaluation_bundle_and_predictions_use_one_date(project: Path, on_day: OnDay) -> None:
    on_day("2031-03-04 10:00")
    of = opened(project)
    maker = Maker(Store.open(of.config.run.root), of)
    make_texts(maker)
    split, data = maker.manifests["split"], maker.store.folder(maker.manifests["encode"])
    date = "It is Friday, 26 July 2024 00:00."
    assert all(date in prompt for prompt in trained_prompts(of, maker.store, maker))
    first = asked(of, "You have won")
    assert date in first

    on_day("2031-03-05 23:59")
    again = opened(project)
    config = again.config
    settings = EncodeStageSettings.for_training(config.student, config.seed)
    encoded = encode.call(settings, again, reject=maker.manifests["reject"])
    assert encoded.key == maker.manifests["encode"].key
    assert asked(again, "You have won") == first
    maker.of = again
    steps, (part,) = planned(again, data)
    tip = maker.make(train, SegmentSettings.of(config), *segment(steps, part, data))
    on, at = {"split": split, "checkpoint": tip}, {"phase": STUDENT, "step": len(steps), "who": "student"}
    scored = maker.make(evaluate, MeasureSettings.for_evaluation(config), at, **on)
    exported = [MeasureSettings.for_export(config, name, generates=True) for name in ("val", "test")]
    val = maker.make(export, exported[0], at, **on, scored=scored)
    test = maker.make(export, exported[1], at, **on)

    on_day("2031-03-06 12:00")
    third = maker.of = opened(project)
    assert export.call(exported[1], third, **on).key == test.key, "no stage is made again"
    frozen = maker.make(decide, DecideSettings.of(config), at, split=split, scored=val)
    student = Scorer("student", "Student", "student", {"val": val, "test": test}, frozen)
    analysis = maker.make(analyse, analysed(third, [student]), at, split=split, **student.inputs("test"))
    published = {"kept": maker.manifests["reject"], "scored": val, "decision": frozen, "analysis": analysis}
    made = maker.make(bundle, BundleSettings.of(config, label_only=False), at, **on, **published)
    folder = maker.store.folder(made) / BUNDLE

    on_day("2031-04-30 08:00")
    found = open_bundle(folder)
    assert found.encoder.tokenizer.inner.decode(found.encoder.prompt_tokens("You have won")) == first
    rows = Predictions.read(maker.store.folder(test) / SCORES)
    texts = [e.text for e in read_examples(maker.store.folder(split) / "test.csv")]
    with open_model(folder, "adapter", None, Device("cpu")) as answers:
        said = answers(texts)
    calibrated = found.decision.calibrated(rows)
    assert [p.probability for p in said] == pytest.approx(calibrated.probability.tolist(), abs=1e-6)
    of.live.close()
    again.live.close()


def test_another_date_changes_prompts_and_cache_keys(project: Path, on_day: OnDay) -> None:
    on_day("2031-03-04 10:00")
    of, other = opened(project), opened(project, "student.template_date='2025-01-05'")
    assert "It is Sunday, 5 January 2025 00:00." in asked(other, "You have won")
    assert asked(other, "You have won") != asked(of, "You have won")
    maker = Maker(Store.open(of.config.run.root), of)
    make_texts(maker)
    reject, split = maker.manifests["reject"], maker.manifests["split"]
    settings = EncodeStageSettings.for_training(other.config.student, other.config.seed)
    assert encode.call(settings, other, reject=reject).key != maker.manifests["encode"].key
    exported = [MeasureSettings.for_export(each.config, "test") for each in (of, other)]
    one, two = (
        export.call(settings, each, split=split).key
        for settings, each in zip(exported, (of, other), strict=True)
    )
    assert one != two


def test_the_template_before_its_date_is_unchanged(project: Path) -> None:
    model: ModelSource = resolve_model("./model")
    tokenizer = ChatTokenizer.load(model.folder, {})
    plain = tokenizer.inner.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False)
    dated = tokenizer.render(opened(project).student_frames()[0], generate=False)
    assert dated.partition("It is ")[0] == plain.partition("It is ")[0]
