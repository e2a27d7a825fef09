"""The recorded teacher: a file of answers, read as if they were given now.

The file is checked line by line, and kept in a temporary SQLite database, in which answers are found by id:
memory does not grow with their number.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from core.config import ParseConfig
from core.data import sources
from core.errors import AnswersError, DataError
from core.progress import Progress
from core.records import Example, TeacherAnswer, text_id
from core.teacher.parsing import LabelNames, clean, parse_reply, read_fields
from core.teacher.samples import Answered, AttemptPolicy, RecordedLabels, TeacherFacts

UNNAMED = "unnamed"
"""The model of answers that name none."""
_PHASE = "teacher_phase"
_FILES = ("teacher_samples.jsonl", "accepted_samples.jsonl")
"""All answers, or, if a run took them over from another, those that were accepted."""
_SUMMARY = "teacher_summary.json"
_SAMPLE_OF_ID = re.compile(r"_k(\d+)$")
_THOUGHT = re.compile(r"\s*<think>(.*)</think>\s*", re.DOTALL | re.IGNORECASE)


class RecordedTeacher:
    """Answers from a JSON-lines file or a run's folder. A text without a recorded answer stays without one.

    The attempts of a text are its recorded samples in their order, as far as the policy asks; unless
    `hinted`, those that were shown the gold label are left out.
    """

    def __init__(
        self, url: str, rules: ParseConfig, names: LabelNames, policy: AttemptPolicy, *, hinted: bool = True
    ) -> None:
        self.url, self.rules, self.names, self.policy, self._hinted = url, rules, names, policy, hinted
        self._models: Counter[str] = Counter()
        self._comparison = LabelComparison()
        self._facts = TeacherFacts()

    @property
    def model(self) -> str:
        """The recorded models' names; several are joined, the most frequent first."""
        return ", ".join(name for name, _ in self._models.most_common()) or UNNAMED

    def answers(self, examples: Iterable[Example], total: int, progress: Progress) -> Iterator[Answered]:
        """Raises AnswersError with file and line before the first answer if a line is broken."""
        used = ids = left_out = 0
        with open_answers(self.url) as file:
            for done, example in enumerate(examples, start=1):
                recorded = file.of(example)
                ids += bool(recorded)
                usable = recorded if self._hinted else [row for row in recorded if not row.hinted]
                left_out += len(recorded) - len(usable)
                given = self._attempts(example, usable)
                used += len(given)
                progress.update(done, total)
                yield Answered(example, given)
            (answers, texts), first = file.count(), file.first()
        facts: dict[str, Any] = {
            "recorded_answers": answers,
            "recorded_not_asked": answers - used,
            "unknown_ids": texts - ids,
        }
        if first.text is not None:
            facts["a_text_of_the_file"] = first.text.strip()[:60]
        else:
            facts["an_id_of_the_file"] = first.id
        if not self._hinted:
            facts["hinted_left_aside"] = left_out
        if self._comparison.counts:
            facts["recorded_labels"] = self._comparison.labels()
            facts["notices"] = self._comparison.notices()
        self._facts = TeacherFacts(**facts)

    def facts(self) -> TeacherFacts:
        """Return counts of the file's answers, and how parsed labels compare with recorded ones."""
        return self._facts

    def _attempts(self, example: Example, recorded: Sequence[Recorded]) -> tuple[TeacherAnswer, ...]:
        given: list[TeacherAnswer] = []
        for row in recorded:
            if self.policy.next(example.label, [answer.label for answer in given]) is None:
                break
            self._models[row.model] += 1
            raw, rules, names = row.raw_output, self.rules, self.names
            if raw is None or (row.has_fields and rules.prefer == "fields"):
                parsed = read_fields(row.label, row.reasoning, names)
            else:
                parsed = parse_reply(raw, row.reasoning_content, row.finish_reason, rules, names)
                if row.has_fields or row.label is not None:
                    self._comparison.add(row.id, parsed.label, names.read(row.label))
            answer = TeacherAnswer(
                example_id=example.id,
                sample=row.sample,
                model=row.model,
                raw_output=raw or "",
                parse_ok=parsed.ok,
                parse_source=parsed.source,
                label=parsed.label,
                reasoning=parsed.reasoning,
                error=parsed.error,
                finish_reason=row.finish_reason,
                temperature=row.temperature,
                hinted=row.hinted,
            )
            given.append(answer)
        return tuple(given)


class LabelComparison:
    """Counts how the labels parsed from raw outputs compare with those recorded next to them."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        """Answers by the fields of RecordedLabels."""
        self._first_unlike: str | None = None

    def add(self, id: str, parsed: int | None, recorded: int | None) -> None:
        """Count an answer to the text `id`; None is a label that cannot be read."""
        if parsed is None:
            outcome = "neither" if recorded is None else "unread"
        elif recorded is None:
            outcome = "unrecorded"
        else:
            outcome = "agree" if parsed == recorded else "differ"
        self.counts[outcome] += 1
        if outcome not in ("agree", "neither"):
            self._first_unlike = self._first_unlike or id

    def labels(self) -> RecordedLabels:
        kinds = ("agree", "differ", "unread", "unrecorded", "neither")
        return RecordedLabels(both=self.counts.total(), **{kind: self.counts[kind] for kind in kinds})

    def notices(self) -> list[str]:
        """Return a sentence if any two labels differ, with the remedy."""
        n = self.counts
        if not (wrong := n["differ"] + n["unread"] + n["unrecorded"]):
            return []
        return [
            f"the label read from raw_output is not the recorded one in {wrong} of {n.total()} answers "
            f"(differ: {n['differ']}, not read: {n['unread']}, none recorded: {n['unrecorded']}; the "
            f"first is to id {self._first_unlike!r}): fix teacher.parse, or take the recorded labels "
            "with teacher.parse.prefer: fields"
        ]


class AnswerFile:
    """The answers of one file, by id. Open it with `open_answers`, and close it."""

    def __init__(self, place: str, model: str = UNNAMED) -> None:
        """`model` answered if a line names none."""
        self.place, self._model = place, model
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.executescript(
            "PRAGMA journal_mode = OFF;"
            "CREATE TABLE answer (id TEXT, sample INTEGER, line INTEGER, body TEXT,"
            " PRIMARY KEY (id, sample)) WITHOUT ROWID"
        )

    def of(self, example: Example) -> list[Recorded]:
        """Return all answers to one text, in the order of their samples: by its id, else by the text."""
        for key in (example.id, text_id(example.text)):
            rows = self._db.execute(
                "SELECT body, line, sample FROM answer WHERE id = ? ORDER BY sample", (key,)
            ).fetchall()
            if rows:
                return [
                    read_line(body, f"{self.place}:{line}", self._model).model_copy(update={"sample": sample})
                    for body, line, sample in rows
                ]
        return []

    def count(self) -> tuple[int, int]:
        """Return how many answers there are, and to how many texts."""
        row = self._db.execute("SELECT COUNT(*), COUNT(DISTINCT id) FROM answer").fetchone()
        return int(row[0]), int(row[1])

    def first(self) -> Recorded:
        """Return the first answer, which shows how the texts are named. Raises AnswersError without any."""
        row = self._db.execute("SELECT body, line FROM answer ORDER BY line LIMIT 1").fetchone()
        if row is None:
            raise AnswersError(f"{self.place} contains no answers; name another file in teacher.answers")
        return read_line(row[0], f"{self.place}:{row[1]}")

    def close(self) -> None:
        self._db.close()

    def fill(self, lines: Iterable[bytes]) -> None:
        """Add the file's lines. Raises AnswersError at the first that is broken or repeated."""
        self._db.execute("BEGIN")
        for number, raw in enumerate(lines, start=1):
            at = f"{self.place}:{number}"
            try:
                text = raw.rstrip(b"\r\n").decode("utf-8").removeprefix("\ufeff")
            except UnicodeDecodeError as e:
                message = f"{at}: byte {e.start} of the line is not UTF-8; save it as UTF-8"
                raise AnswersError(message) from None
            if not text.strip():
                continue
            row = read_line(text, at)
            sample = row.sample
            if row.text is not None:  # a text that occurs twice in a run's data was sampled twice
                query = "SELECT MAX(sample), SUM(sample = ?) FROM answer WHERE id = ?"
                last, taken = self._db.execute(query, (sample, row.id)).fetchone()
                sample = int(last) + 1 if taken else sample
            try:
                self._db.execute("INSERT INTO answer VALUES (?, ?, ?, ?)", (row.id, sample, number, text))
            except sqlite3.IntegrityError:
                query = "SELECT line FROM answer WHERE id = ? AND sample = ?"
                first = self._db.execute(query, (row.id, sample)).fetchone()[0]
                raise AnswersError(
                    f"{at}: a second answer to id {row.id!r}, sample {sample}; the first "
                    f"is on line {first}; remove one or number them with sample"
                ) from None
            except sqlite3.DatabaseError as e:
                raise OSError(f"the temporary database for {self.place} failed: {e}") from e
        self._db.execute("COMMIT")


@contextmanager
def open_answers(url: str) -> Iterator[AnswerFile]:
    """Read the whole file, or that of a run's folder, decompressed by its name's ending.

    Raises AnswersError with file and line for anything that is not an answer, and if the file is
    missing or empty.
    """
    found, model = source_of(url)
    file = AnswerFile(sources.place(found), model)
    try:
        with _explained(), sources.opened(found) as lines:
            file.fill(lines)
        file.first()
        yield file
    finally:
        file.close()


def answers_digest(url: str) -> str:
    """Return the sha256 of the file's bytes, in hex; for a run's folder with the model that answered."""
    source, model = source_of(url)
    with _explained():
        found = sources.digest(source)
    return found if model == UNNAMED else f"{found}, {model}"


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except DataError as e:
        raise AnswersError(f"{e}; set teacher.answers") from e


def source_of(url: str) -> tuple[str, str]:
    """Return the file that a config's `answers` means, and the model of answers that name none.

    Raises AnswersError for a folder without such a file.
    """
    if not sources.is_folder(url):
        return url, UNNAMED
    files = ((folder, name) for folder in (sources.join(url, _PHASE), url) for name in _FILES)
    found = next((each for each in files if sources.exists(sources.join(*each))), None)
    if found is None:
        wanted = " or ".join(f"{_PHASE}/{name}" for name in _FILES)
        raise AnswersError(
            f"{sources.place(url)} is a folder without {wanted}: name a run's folder, or a file of answers, "
            "in teacher.answers"
        )
    model = None  # the predecessor's answers do not name it, but its summary does
    with suppress(DataError, ValueError, KeyError, TypeError):
        model = json.loads(sources.read_bytes(sources.join(found[0], _SUMMARY)))["teacher_model"]
    named = isinstance(model, str) and model.strip()
    return sources.join(*found), clean(named) if named else UNNAMED


def _id(value: object) -> str:
    name = str(value).strip() if isinstance(value, str) or type(value) is int else ""
    if not name:
        raise ValueError("not an id")
    return clean(name)


Text = Annotated[str, BeforeValidator(lambda v: clean(v) if isinstance(v, str) else v)]


class Recorded(BaseModel):
    """One line of the file: the answer of a model to a text. Without `raw_output`, only the fields `label`
    and `reasoning` were recorded. `text` is that of a line without an id, whose `id` is derived from it.
    """

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)

    id: Annotated[str, BeforeValidator(_id)]
    temperature: float | None = None
    sample: int = Field(0, ge=0, lt=2**31)
    model: Text
    raw_output: Text | None = None
    label: Any = None
    reasoning: Any = None
    finish_reason: Text | None = None
    reasoning_content: Annotated[Text | None, BeforeValidator(lambda v: v if type(v) is str else None)] = None
    hinted: Annotated[bool, BeforeValidator(lambda v: v is True)] = False
    text: Text | None = None

    @property
    def has_fields(self) -> bool:
        """Whether label and reasoning were recorded, whatever their values."""
        return self.model_fields_set >= {"label", "reasoning"}


_WANTED = {
    "id": "the text's id, as text or a whole number",
    "temperature": "a number",
    "sample": "a whole number from 0 on",
}
"""What messages ask for in place of a wrong value; a text for other fields."""


def read_line(line: str, at: str, model: str = UNNAMED) -> Recorded:
    """Read the line `at` file:line; `model` answered if it names none.

    Raises AnswersError with place, reason and remedy.
    """
    try:
        row = json.loads(line)
    except json.JSONDecodeError as e:
        raise AnswersError(f"{at}: not JSON ({e.msg} at column {e.colno}); fix or remove the line") from None
    except (ValueError, RecursionError) as e:
        raise AnswersError(f"{at}: not JSON ({e}); fix or remove the line") from None
    if not isinstance(row, dict):
        raise AnswersError(
            f"{at}: not a JSON object; a line contains id and raw_output, or reasoning and label"
        )
    text = row.pop("text", None)
    if "id" not in row and isinstance(text, str) and text.strip():
        row = {**_of_run(row, text), "text": text}
    if row.get("id") is None:
        raise AnswersError(f"{at}: neither id nor text; give the text's id, or the text itself")
    try:
        own = row.get("model")
        found = Recorded.model_validate({**row, "model": model if own in (None, "") else own})
    except ValidationError as e:
        name = str(e.errors()[0]["loc"][0])
        shown, wanted = json.dumps(row[name])[:40], _WANTED.get(name, "a text")
        raise AnswersError(f"{at}: {name} is {shown}; give {wanted}") from None
    if found.raw_output is None and not found.has_fields:
        raise AnswersError(f"{at}: neither raw_output nor reasoning and label; give one of the two")
    return found


def _of_run(row: dict[str, Any], text: str) -> dict[str, Any]:
    """Translate a run's line, whose reasoning may be in its tags, to the fields of a line with an id."""
    match = _SAMPLE_OF_ID.search(str(row.get("sample_id")))
    sample = row.get("k_index", int(match[1]) if match else 0)
    fields: dict[str, Any] = {"id": text_id(clean(text)), "sample": sample}
    if "label" not in row and "pred_label" in row:
        fields["label"] = row["pred_label"]
    if isinstance(row.get("reasoning"), str) and (thought := _THOUGHT.fullmatch(row["reasoning"])):
        fields["reasoning"] = thought[1].strip()
    return {**row, **fields}
