"""What reinforcement will sample, train and measure, and on a server what that costs, before any of it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from core.config import Config
from core.data.writing import scan_examples
from core.pipeline.context import RunContext
from core.report.text import plural
from core.student import plan

_LOOKED_AT = 200
_MILLION = 1_000_000


def forecast(config: Config, bench: RunContext, texts: Path, counts: dict[str, int]) -> Iterator[str]:
    """Lines for people. `texts` is the folder of the split, `counts` its rows by split.

    Prompts are counted as the first texts have them, answers at their longest; an early end costs less.
    """
    of = config.reinforce
    steps = plan.total_steps(of, counts["train"])
    asked = steps * of.batch_size * of.group_size
    updates = plural(of.substeps, "update")
    yield (
        f"reinforce: {steps:,} steps of {of.batch_size} texts, {of.group_size} answers each: {asked:,} "
        f"answers of up to {of.max_new_tokens} tokens, {updates} a step"
    )
    prompt, longest = _prompt_tokens(bench, texts, of.max_new_tokens), of.max_new_tokens
    evaluations = sum(part.evaluate for part in plan.segments(steps, of.interval, of.save_every)) + 1
    val = min(config.evaluation.max_examples or counts["val"], counts["val"])
    rewarded = min(of.reward_rows, counts["val"])
    reasons = config.student.target == "reason_first"
    trained = asked * (prompt + longest) * of.substeps
    can = config.student.engine.capabilities
    # A metered engine bills a prompt once for all answers of its group.
    computed = steps * of.batch_size if can.metered else asked
    prefilled = computed * prompt + (trained // of.substeps if of.kl else 0)
    prefilled += evaluations * (val * (2 if reasons else 1) + rewarded) * prompt
    sampled = asked * longest + evaluations * rewarded * longest
    sampled += evaluations * val * config.evaluation.max_new_tokens if reasons else 0
    yield (
        f"at most {trained:,} tokens trained, {sampled:,} sampled, {prefilled:,} prompt tokens; on val "
        f"{evaluations} evaluations of {val:,} texts and {rewarded:,} rewarded answers"
    )
    if can.metered:
        yield _money(config, bench, trained, prefilled, sampled)


def _prompt_tokens(bench: RunContext, texts: Path, room: int) -> int:
    """Tokens of a prompt, the mean over the first texts of train."""
    encoder = bench.encoder()
    encoder.require_room(room)
    examples = list(islice(scan_examples(texts / "train.csv"), _LOOKED_AT))
    found = encoder.tokenizer.encode_texts([e.text for e in examples])
    return round(sum(len(encoder.prompt_with_room(t, room).tokens) for t in found) / max(len(found), 1))


def _money(config: Config, bench: RunContext, trained: int, prefilled: int, sampled: int) -> str:
    price = bench.engine.price
    if price is None:
        return (
            f"no price of {config.student.model} is known (student.engine.prices): tokens are counted, "
            "money is not"
        )
    usd = (trained * price.train + prefilled * price.prefill + sampled * price.sample) / _MILLION
    return f"at most about US$ {usd:.2f}, but for the final measurement of the other splits"
