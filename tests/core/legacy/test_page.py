"""The page for its users names every key, flag and file of the tables, and cannot drift from them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from core.legacy.files import FILES
from core.legacy.flags import FLAGS
from core.legacy.keys import KEYS
from core.legacy.page import PATH, render

REPO = Path(__file__).resolve().parents[3]
SCRIPTS = {
    "common": "config seed run-name wandb-mode",
    "teacher": "dataset-name dataset-root-dir rules-root-dir teacher-k teacher-workers selection-metric "
    "max-train-examples max-val-examples max-test-examples teacher-temperature teacher-max-tokens "
    "teacher-model-name",
    "student": "run-name teacher-run-name teacher-k selection-metric student-model-name lora-rank num-epochs "
    "batch-size learning-rate max-length eval-interval max-eval-samples eval-max-concurrency "
    "use-emitted-label-metrics save-resume-checkpoint download-adapter adapter-output-subdir "
    "adapter-download-timeout-seconds student-use-rulebook batch-strategy reasoning-token-weight "
    "label-token-weight max-new-tokens val-export-every-evals train-checkpoint-e2e-eval "
    "eval-test-during-train ttl-seconds",
    "inference": "run-name teacher-run-name checkpoint-path student-model-name lora-rank max-length "
    "eval-max-concurrency max-new-tokens temperature workers reasoning label-only compare-label-only force "
    "progress",
    "others": "baseline-model-name runs-dir output mode",
}
"""The flags of its scripts."""


def rows(title: str) -> list[str]:
    """The first cells of the tables under a heading."""
    section = (REPO / PATH).read_text().split(title)[1].split("\n## ")[0]
    return re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE)


def test_the_page_is_what_the_tables_say() -> None:
    assert (REPO / PATH).read_text() == render(), "write it anew with `python -m core.legacy.page`"


def test_every_key_flag_and_file_has_its_row() -> None:
    assert rows("keys of its config")[: len(KEYS)] == list(KEYS)
    assert rows("flags of its scripts") == list(FLAGS)
    assert rows("## Its files") == list(FILES)


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_flag_of_its_scripts_is_in_the_table(script: str) -> None:
    assert {f"--{name}" for name in SCRIPTS[script].split()} <= set(FLAGS)


def test_every_flag_sets_a_key_or_says_what_to_do() -> None:
    assert {f"--{name}" for names in SCRIPTS.values() for name in names.split()} == set(FLAGS)
    assert [f.name for f in FLAGS.values() if bool(f.key) == bool(f.here)] == []
    assert {f.key for f in FLAGS.values() if f.key} <= set(KEYS)


def test_every_file_has_its_like_or_a_reason() -> None:
    assert [f.name for f in FILES.values() if not f.here and not f.said] == []


def test_the_readme_links_the_page() -> None:
    assert f"({PATH})" in (REPO / "README.md").read_text()
