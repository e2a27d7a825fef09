"""Differences of two configs: each key that can affect results, with both values."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.config import Config, ResolvedConfig, differences
from core.config.config import render
from core.config.loading import parse_source, resolve

MINIMAL = "data: {path: texts.csv}\nteacher: {answers: answers.jsonl}\n"
RULES = "rejection: {rules: [unparsed, {rule: too_short, min_chars: 5}]}\n"


def resolved(text: str = "", *overrides: str) -> ResolvedConfig:
    path = Path("c.yaml")
    return resolve(path, parse_source(path, MINIMAL + text), overrides)


def config(text: str = "", *overrides: str) -> Config:
    return resolved(text, *overrides).config


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        ("", "", []),
        ("seed: 1", "seed: 2", ["seed: 1 -> 2"]),
        ("student: {lora: {rank: 2}}", "student: {lora: {rank: 4}}", ["student.lora.rank: 2 -> 4"]),
        ("student: {epochs: 1}", "student: {epochs: 1.0}", []),
        (
            "student: {epochs: 2}",
            "student: {steps: 3}",
            ["student.steps: nothing -> 3", "student.epochs: 2.0 -> nothing"],
        ),
        (RULES, RULES.replace("5", "5 "), []),
        ("run: {root: a, name: a, log_level: DEBUG}\npublish: false\nstages: {train: false}", "", []),
        ("evaluation: {invalid_warn_rate: 0.5}", "", []),
        ("prompts: {file: a.yaml}", "prompts: {file: b.yaml}", ["prompts.file: a.yaml -> b.yaml"]),
    ],
)
def test_each_differing_key_is_listed_with_both_values(before: str, after: str, found: list[str]) -> None:
    assert differences(config(before), config(after)) == found


def test_rules_with_another_limit_or_order_differ() -> None:
    limit = differences(config(RULES), config(RULES.replace("5", "6")))
    assert len(limit) == 1
    assert limit[0].startswith(
        "rejection.rules: [{'rule': 'unparsed'}, {'rule': 'too_short', 'min_chars': 5}]"
    )
    order = "rejection: {rules: [{rule: too_short, min_chars: 5}, unparsed]}\n"
    assert len(differences(config(RULES), config(order))) == 1
    assert len(differences(config(RULES), config("rejection: {rules: [unparsed]}"))) == 1


def test_rule_name_equals_the_rule_with_its_defaults() -> None:
    short = "rejection: {rules: [too_short]}"
    assert differences(config(short), config("rejection: {rules: [{rule: too_short, min_chars: 20}]}")) == []


def test_differing_long_values_are_listed_truncated() -> None:
    before, after = (config("", f"data.path={'x' * 200}{end}") for end in "ab")
    (line,) = differences(before, after)
    assert line == f"data.path: {'x' * 77}... -> {'x' * 77}..."


@pytest.mark.parametrize("extra", ["", RULES, "student: {steps: 3, learning_rate: 1e-4}\nseed: 3\n"])
def test_rendered_config_does_not_differ(extra: str) -> None:
    before = resolved(extra)
    path = Path("resolved_config.yaml")
    again = resolve(path, parse_source(path, render(before)))
    assert differences(before.config, again.config) == []
