"""A live teacher: every text is put to an endpoint until the policy has enough, each answer kept.

Two passes. The first asks whatever the journal lacks, many texts at once, in whatever order answers
come. The second reads the journal in the order of the rows, so that what comes out does not depend
on who answered first, on a restart, or on who paid.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager

from core.completions.budget import price_of, spent_before
from core.completions.journal import Journal
from core.config.teacher import TeacherConfig
from core.errors import TeacherError
from core.progress import Progress
from core.prompts import Prompts
from core.records import Example, SplitName
from core.teacher.base import Answered
from core.teacher.live.asking import Asking
from core.teacher.live.loop import run_to_end
from core.teacher.live.questions import Questions
from core.teacher.live.sending import Ledger
from core.teacher.parsing import LabelNames
from core.teacher.summary import TeacherFacts, TeacherLedger

OpenJournal = Callable[[], AbstractContextManager[Journal]]


class LiveTeacher:
    """Asks an OpenAI-compatible endpoint. `journal` opens the journal of the run's root; `split` is where
    the texts are from, for messages.
    """

    def __init__(
        self,
        config: TeacherConfig,
        prompts: Prompts,
        rulebook: str,
        names: LabelNames,
        journal: OpenJournal,
        split: SplitName = "train",
    ) -> None:
        self.config, self.split = config, split
        self.questions = Questions(config, prompts, rulebook, names)
        self._open = journal
        self._facts = TeacherFacts()

    @property
    def model(self) -> str:
        """The model's name at the endpoint."""
        return self.config.model

    def answers(self, examples: Iterable[Example], total: int, progress: Progress) -> Iterator[Answered]:
        """Goes over `examples` twice; holds them only where they are no collection.

        Raises TeacherError where the endpoint refuses, fails too often, leaves texts without an answer
        that it may give another time, or the budget is spent.
        """
        rows = examples if isinstance(examples, Collection) else list(examples)
        with self._open() as journal:
            ledger = run_to_end(self._ask(rows, total, journal, progress))
            self._refuse_missing(ledger, total)
            answers = 0
            for example in rows:
                given = self.questions.given(example, journal)
                answers += len(given)
                yield Answered(example, tuple(given))
            self._facts = self._told(ledger, journal, answers)

    def facts(self) -> TeacherFacts:
        """The output format, and the ledger: requests, tokens and money of this start and of the run so far.

        Money is None where no price is known.
        """
        return self._facts

    async def _ask(
        self, rows: Collection[Example], total: int, journal: Journal, progress: Progress
    ) -> Ledger:
        return await Asking(self.questions, journal, progress, rows, total).all()

    def _refuse_missing(self, ledger: Ledger, total: int) -> None:
        """A text that the endpoint will not read stays missing; one that it failed to answer is an error,
        since the next start may get its answer. `max_missing` allows so many of both kinds.
        """
        failed, most = ledger.failed.total(), self.config.max_missing
        missing = failed if most is None else failed + ledger.unread.total()
        if missing <= (most or 0):
            return
        words = "; ".join(f"{words} ({n})" for words, n in ledger.given_up.most_common(3))
        raise TeacherError(
            f"{missing} of {total} texts of {self.split} got no answer: {words}; run the same command again, "
            f"which asks only these, or set teacher.max_missing to {missing} or more to go on without them"
        )

    def _told(self, ledger: Ledger, journal: Journal, answers: int) -> TeacherFacts:
        run, price = journal.spent(journal.run), price_of(self.config)
        return TeacherFacts(
            output_format=self.questions.output_format,
            ledger=TeacherLedger(
                run=journal.run,
                asked_now=ledger.answered,
                reused=max(0, answers - ledger.answered),
                usd_now=None if price is None else round(ledger.usd, 6),
                tokens_now=ledger.usage.total,
                cached_tokens_now=ledger.usage.cached,
                usd_of_the_run=None if price is None else round(spent_before(journal, price).usd, 6),
                requests_of_the_run=run.requests,
                prompt_tokens_of_the_run=run.prompt_tokens,
                cached_tokens_of_the_run=run.cached_tokens,
                completion_tokens_of_the_run=run.completion_tokens,
                unmetered_of_the_run=run.unmetered,
                retried=dict(ledger.retried.most_common()),
                given_up=dict(ledger.given_up.most_common(20)),
            ),
        )
