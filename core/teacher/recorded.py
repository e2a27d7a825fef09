"""The recorded teacher: a file of answers, read as if they were given now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from core.config.teacher import ParseConfig
from core.progress import Progress
from core.records import Example, TeacherAnswer
from core.teacher.answer_file import UNNAMED, Recorded, open_answers
from core.teacher.base import Answered, AttemptPolicy, RecordedLabels, TeacherFacts
from core.teacher.parsing import LabelNames, parse_reply, read_fields


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
        self._compared: Counter[str] = Counter()
        """Answers with parsed and recorded labels, by how the two compare."""
        self._first_unlike: str | None = None
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
        if self._compared:
            facts |= self._label_facts()
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
                    self._compare(row.id, parsed.label, names.read(row.label))
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

    def _compare(self, id: str, parsed: int | None, recorded: int | None) -> None:
        if parsed is None:
            outcome = "neither" if recorded is None else "unread"
        elif recorded is None:
            outcome = "unrecorded"
        else:
            outcome = "agree" if parsed == recorded else "differ"
        self._compared[outcome] += 1
        if outcome not in ("agree", "neither"):
            self._first_unlike = self._first_unlike or id

    def _label_facts(self) -> dict[str, Any]:
        """Return the fields of TeacherFacts about labels that were parsed and recorded."""
        n, notices = self._compared, []
        if wrong := n["differ"] + n["unread"] + n["unrecorded"]:
            notices.append(
                f"the label read from raw_output is not the recorded one in {wrong} of {n.total()} answers "
                f"(differ: {n['differ']}, not read: {n['unread']}, none recorded: {n['unrecorded']}; the "
                f"first is to id {self._first_unlike!r}): fix teacher.parse, or take the recorded labels "
                "with teacher.parse.prefer: fields"
            )
        kinds = ("agree", "differ", "unread", "unrecorded", "neither")
        labels = RecordedLabels(both=n.total(), **{kind: n[kind] for kind in kinds})
        return {"recorded_labels": labels, "notices": notices}
