"""Scores rows on a server, by the best way of asking that it knows."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from core.engines.base import ChoiceScores, GenerateParams
from core.engines.choices import choice_plan
from core.engines.tinker.asking import Asker, RowError
from core.engines.tinker.questions import Incomplete, NotGiven, RowScore, Tokens, Way, ways
from core.errors import StageError

log = logging.getLogger(__name__)

PREFILL = GenerateParams(max_tokens=1)
"""A prompt is computed by sampling one token after it."""

Told = Callable[[int], None]


class Scorer:
    """Scores with one sampling client. How its server is asked is settled once, by the first row."""

    def __init__(self, asker: Asker, server: str, top_k: int) -> None:
        self._asker, self._server, self._top_k = asker, server, top_k
        self._settled: str | None = None

    def score(self, prompts: Sequence[Tokens], choices: Sequence[Tokens], told: Told) -> ChoiceScores:
        """`told` is given the rows that are done. Raises StageError where all rows fail."""
        known = ways(choice_plan(choices), choices, self._top_k)
        way = next((way for way in known if way.name == self._settled), None)
        rows: list[RowScore | RowError] = []
        while way is None and len(rows) < len(prompts):
            row, way = self._first(prompts[len(rows)], known)
            rows.append(row)
            told(len(rows))
        if way is not None:
            self._settle(way)
            begun = len(rows)
            rows += self._rows(way, prompts[begun:], lambda done: told(begun + done))
        return _scores(rows, self._settled or "none")

    def _first(self, prompt: Tokens, known: Sequence[Way]) -> tuple[RowScore | RowError, Way | None]:
        """A row's score and the way it was come by; a row that fails by itself settles nothing."""
        for way in known:
            try:
                (row,) = self._rows(way, [prompt], lambda done: None)
            except NotGiven:
                continue
            return row, way if isinstance(row, RowScore) else None
        raise StageError(f"{self._server} gives no log-probabilities of prompts: rows cannot be scored on it")

    def _settle(self, way: Way) -> None:
        if self._settled is None and not way.exact_at_once:
            log.warning("%s does not score tokens that are named: scores come by %s", self._server, way.name)
        self._settled = way.name

    def _rows(self, way: Way, prompts: Sequence[Tokens], told: Told) -> list[RowScore | RowError]:
        asked = [way.questions(prompt) for prompt in prompts]
        flat = [(question, PREFILL) for questions in asked for question in questions]
        answers = iter(self._asker.ask(flat, "scores", lambda done: told(done * len(prompts) // len(flat))))
        given = [[next(answers) for _ in questions] for questions in asked]
        return [_read(way, prompt, row) for prompt, row in zip(prompts, given, strict=True)]


def _read(way: Way, prompt: Tokens, answers: Sequence[object]) -> RowScore | RowError:
    failed = next((answer for answer in answers if isinstance(answer, RowError)), None)
    if failed is not None:
        return failed
    try:
        return way.read(prompt, answers)
    except Incomplete as error:
        return RowError(str(error))


def _scores(rows: Sequence[RowScore | RowError], method: str) -> ChoiceScores:
    errors = {i: row.why for i, row in enumerate(rows) if isinstance(row, RowError)}
    refuse_all_failed(len(rows), errors, "scores")
    scored = {i: row for i, row in enumerate(rows) if isinstance(row, RowScore)}
    bounds = tuple((i, choice) for i, row in scored.items() for choice in row.bounds)
    return ChoiceScores(
        logprobs=tuple(scored[i].logprobs if i in scored else () for i in range(len(rows))),
        exact=not bounds,
        bounds=bounds,
        errors=errors,
        method=method,
    )


def refuse_all_failed(rows: int, errors: dict[int, str], what: str) -> None:
    """Single rows may fail; raise StageError where nothing was answered at all."""
    if rows and len(errors) == rows:
        raise StageError(f"none of {rows} requests for {what} was answered; the first failed so: {errors[0]}")
