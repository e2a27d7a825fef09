"""The sample stage: from the texts of a split to the teacher's answers and what the teacher was shown.

On val and test, which measure the teacher, it is asked once, at temperature 0 (or the model's own), and never
with the gold label shown: asking until it is right, as on train, would be biased.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import ValidationInfo, field_validator

from core import durable, jsonio
from core.completions.journal import Journal
from core.config import Config, ConfigSection, PromptsConfig, RulesConfig, TeacherConfig
from core.cost import Forecast, Range
from core.errors import AnswersError
from core.progress import Progress
from core.prompts import load_prompts
from core.records import Example, Examples, LabelSet, SplitName, TeacherAnswer, scan_examples
from core.rulebook import load_rulebook
from core.stage import StageIO, stage
from core.store import Manifest, Store
from core.teacher.live import LiveTeacher, OpenJournal, Taken, forecast
from core.teacher.parsing import LabelNames
from core.teacher.recorded import RecordedTeacher, answers_digest
from core.teacher.samples import (
    GOLD_SOURCE,
    Answered,
    AttemptPolicy,
    SampleSummary,
    Tally,
    TeacherFacts,
    sample_row,
)

if TYPE_CHECKING:
    from core.pipeline.run_context import RunContext

SAMPLES_FILE = "teacher_samples.jsonl"
SUMMARY_FILE = "sample_summary.json"


class SampleSettings(ConfigSection):
    """What the teacher's answers depend on."""

    split: SplitName = "train"
    """Whose texts are answered."""
    teacher: TeacherConfig
    """The config's `teacher:`; for a split other than train its policy is to ask once."""
    rules: RulesConfig
    """The config's `rules:`."""
    prompts: PromptsConfig
    """The config's `prompts:`."""
    positive: tuple[str, ...] = ()
    """The data's names of the positive class."""
    negative: tuple[str, ...] = ()
    """The data's names of the negative class."""

    @property
    def labels(self) -> LabelSet:
        """The labels with their names in the data."""
        return LabelSet.binary(self.positive, self.negative)

    @field_validator("teacher")
    @classmethod
    def _asks_once(cls, value: TeacherConfig, info: ValidationInfo) -> TeacherConfig:
        if info.data.get("split", "train") == "train":
            return value
        return value.model_copy(update={"attempts": 1, "keep": 1, "hint": False})

    @classmethod
    def of(cls, config: Config, split: SplitName = "train") -> SampleSettings:
        """Return the part of the config that decides the answers to a split."""
        return cls(
            teacher=config.teacher,
            rules=config.rules,
            prompts=config.prompts,
            positive=config.data.positive,
            negative=config.data.negative,
            split=split,
        )


class Teacher(Protocol):
    """Answers texts. Opened with all it needs (prompts, rulebook, names of labels, policy).

    `examples` is read lazily, and only a collection (core.records.Examples reads its file each
    time) more than once. The answers are in its order, one item for each text. A caller that stops early
    closes the iterator, and texts that were answered until then stay answered.
    """

    @property
    def model(self) -> str:
        """The answering model, for the summary; known at the latest when the last answer was given."""

    def answers(self, examples: Iterable[Example], total: int, progress: Progress) -> Iterator[Answered]:
        """Answer `examples`, of which there are `total`; reports to `progress` how many are done."""

    def facts(self) -> TeacherFacts:
        """Return what only this kind of teacher reports; complete once `answers` has ended."""


class GoldTeacher:
    """Answers every text with its gold label and an empty reasoning."""

    model = "gold"

    def answers(self, examples: Iterable[Example], total: int, progress: Progress) -> Iterator[Answered]:
        for done, example in enumerate(examples, start=1):
            progress.update(done, total)
            answer = TeacherAnswer(
                example_id=example.id,
                sample=0,
                model=self.model,
                raw_output="",
                parse_ok=True,
                parse_source=GOLD_SOURCE,
                label=example.label,
                reasoning="",
            )
            yield Answered(example, (answer,))

    def facts(self) -> TeacherFacts:
        return TeacherFacts()


def content(settings: SampleSettings, context: RunContext | None = None) -> dict[str, str]:
    """Return digests of the rulebook, the teacher's prompts, and the recorded answers.

    Raises PromptError or AnswersError if one of them cannot be read.
    """
    found = {
        "rules.dir": load_rulebook(settings.rules).digest,
        "prompts.file": load_prompts(settings.prompts).teacher_digest,
    }
    if settings.teacher.answers is not None:
        found["teacher.answers"] = answers_digest(settings.teacher.answers)
    return found


def open_teacher(settings: SampleSettings, journal: OpenJournal | None = None) -> Teacher:
    """Return the teacher that the config names; a live one stores its answers in `journal`."""
    config = settings.teacher
    if config.kind == "gold":
        return GoldTeacher()
    names = LabelNames(settings.labels, config.parse.labels)
    if config.kind == "recorded":
        assert config.answers is not None, "the config requires answers for the kind recorded"
        policy = AttemptPolicy(config.attempts, config.keep)
        return RecordedTeacher(config.answers, config.parse, names, policy, hinted=settings.split == "train")
    if journal is None:
        raise ValueError("a live teacher needs a journal, so that no answer is paid for twice")
    prompts, rulebook = load_prompts(settings.prompts), load_rulebook(settings.rules).text
    return LiveTeacher(config, prompts, rulebook, names, journal, settings.split)


def published(settings: SampleSettings) -> dict[str, str]:
    """Return the published files: answers and rulebook; except for train, answers and summary."""
    if settings.split == "train":
        return {name: f"teacher_phase/{name}" for name in (SAMPLES_FILE, "rulebook.txt", "rule_files.json")}
    named = {SAMPLES_FILE: f"teacher_samples_{settings.split}.jsonl"}
    named[SUMMARY_FILE] = f"sample_summary_{settings.split}.json"
    return {name: f"teacher_phase/{place}" for name, place in named.items()}


@stage(
    "sample",
    version=5,
    inputs=("split",),
    content=content,
    publishes=published,
    slot=lambda settings: "sample" if settings.split == "train" else f"sample/{settings.split}",
    label=lambda settings: "sample" if settings.split == "train" else f"the teacher labels {settings.split}",
    before=lambda context: context.check_room(),
)
def sample(settings: SampleSettings, io: StageIO) -> dict[str, Any]:
    """Write teacher_samples.jsonl, rulebook.txt, rule_files.json and sample_summary.json.

    A text without an answer is counted as missing, in any split. Raises AnswersError if recorded
    answers cannot be read, belong to other texts, or if more texts of the split lack one than
    `teacher.max_missing` allows, and TeacherError if a live teacher stops.
    """
    rulebook = load_rulebook(settings.rules)
    (io.out / "rulebook.txt").write_text(rulebook.text + "\n", encoding="utf-8", newline="\n")
    jsonio.write_json(io.out / "rule_files.json", list(rulebook.files))
    journal = None if io.run is None else io.run.journal
    teacher, tally = open_teacher(settings, journal), Tally(settings.labels)
    examples = scan_examples(io.input("split") / f"{settings.split}.csv")

    def rows() -> Iterator[dict[str, Any]]:
        for answered in teacher.answers(examples, len(examples), io.progress):
            durable.failpoint(durable.TEACHER_ASKED, answered.example.id)
            tally.add(answered)
            for answer in answered.answers:
                yield sample_row(answered.example, answer, split=settings.split)

    jsonio.write_jsonl(io.out / SAMPLES_FILE, rows())
    summary = _summary(settings, teacher, tally)
    _refuse_missing(settings, examples, summary)
    summary.write(io.out / SUMMARY_FILE)
    return summary.to_json()


def _summary(settings: SampleSettings, teacher: Teacher, tally: Tally) -> SampleSummary:
    facts, notices, split = teacher.facts(), list[str](), settings.split
    if missing := tally.missing.total():
        named = {settings.labels.title(label): tally.missing[label] for label in settings.labels}
        by = ", ".join(f"{count} {title}" for title, count in reversed(named.items()))
        notices.append(f"{missing} of {tally.examples} texts of {split} have no answer ({by})")
    if facts.unknown_ids and split == "train":  # a file for other splits contains answers to train, too
        notices.append(f"answers to {facts.unknown_ids} texts that are not in train were left aside")
    if hinted := facts.hinted_left_aside:
        notices.append(f"{hinted} answers to texts of {split} were shown the gold label and were left aside")
    until_right = settings.teacher.keep == 1 < settings.teacher.attempts
    counts = tally.counts(settings.teacher.kind, teacher.model, until_right=until_right)
    found = {**counts.to_json(), **facts.to_json(), "notices": [*notices, *facts.notices]}
    return SampleSummary.model_validate(found)


def _refuse_missing(settings: SampleSettings, examples: Examples, summary: SampleSummary) -> None:
    """Raise AnswersError if recorded answers lack too many texts; a live teacher has already raised."""
    missing, config, split = summary.missing, settings.teacher, settings.split
    if config.kind != "recorded":
        return
    if 0 < missing == summary.examples:
        # How the file names its texts, and one text of the split: the two may not match.
        example, in_file = next(iter(examples)), summary.a_text_of_the_file
        unlike = (
            f"its ids look like {summary.an_id_of_the_file!r}, those of {split} like {example.id!r}; name "
            "the right file in teacher.answers, or the right column in data.id_column"
        )
        if in_file is not None:
            unlike = (
                f"its texts look like {in_file!r}, those of {split} like {example.text.strip()[:60]!r}; name "
                "the right run in teacher.answers, or that run's texts in data.dir, <run>/data_splits"
            )
        other = "" if split == "train" else f", or remove {split} from teacher.label_splits"
        raise AnswersError(
            f"{config.answers} answers none of the {missing} texts of {split}: {unlike}{other}"
        )
    if config.max_missing is not None and missing > config.max_missing:
        raise AnswersError(
            f"{missing} of {summary.examples} texts of {split} have no answer in {config.answers} "
            f"({', '.join(summary.missing_ids[:3])}{', ...' if missing > 3 else ''}); teacher.max_missing "
            f"allows {config.max_missing}: record them, or raise it"
        )


def forecasts(
    config: Config, store: Store, parts: Manifest, journal: Journal
) -> Iterator[tuple[SplitName, Forecast, str]]:
    """Yield each split that a live teacher answers, the forecast for it, and how its tokens are counted.

    `parts` are the files of the splits. What the answers to one split took is expected of the next, too.
    """
    taken = Taken(config.teacher.endpoint)
    splits: tuple[SplitName, ...] = ("train", *config.teacher.label_splits)
    for name in splits:
        teacher = open_teacher(SampleSettings.of(config, name), lambda: contextlib.nullcontext(journal))
        assert isinstance(teacher, LiveTeacher)
        rows = scan_examples(store.file(parts, f"{name}.csv"))
        yield name, *forecast(teacher, rows, journal, taken)


def forecast_lines(config: Config, store: Store, parts: Manifest, journal: Journal) -> Iterator[str]:
    """Yield lines for people: the forecast for each split that a live teacher answers, and their sum."""
    several, found_all = bool(config.teacher.label_splits), list[Forecast]()
    for name, found, counter in forecasts(config, store, parts, journal):
        about = f" about {name}" if several else ""
        prompt, completion = _range(found.prompt_tokens), _range(found.completion_tokens)
        calls = _range(found.calls)
        yield f"asking {config.teacher.model}{about}: {calls} calls, tokens counted by: {counter}"
        yield f"  {prompt} prompt tokens, {completion} completion tokens"
        yield f"  {_money(found)}"
        yield f"  {_time(found)}"
        found_all.append(found)
    if several:
        total = reduce(add, found_all)
        yield f"in all: {_range(total.calls)} calls; {_money(total)}; {_time(total)}"


def _money(found: Forecast) -> str:
    if found.usd is None:
        return "the price is not known: see teacher.prices"
    return f"${found.usd.mean:.4g} (${found.usd.low:.4g} to ${found.usd.high:.4g})"


def _time(found: Forecast) -> str:
    return f"{found.seconds.mean:.0f} s ({found.seconds.low:.0f} to {found.seconds.high:.0f})"


def _range(value: Range) -> str:
    if value.low == value.high:
        return f"{value.mean:.0f}"
    return f"{value.mean:.0f} ({value.low:.0f} to {value.high:.0f})"
