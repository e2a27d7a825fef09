"""The page for users of the earlier scripts has every key, flag and file, as in the code."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from core.legacy.keys import FIXED, KEYS, LegacyKey

REPO = Path(__file__).resolve().parents[3]
PAGE = "configs/from_earlier_scripts.md"
TEXT = (REPO / PAGE).read_text(encoding="utf-8")
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
"""The flags of the scripts."""
RENAMED = {"--baseline-model-name": "student_model_name", "--teacher-model-name": "teacher_model",
           "--workers": "eval_max_concurrency"}  # fmt: skip


def shown(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return f"`{text}`" if text else ""


def row(key: LegacyKey) -> str:
    """A key's row of the page."""
    new = shown(key.new_default)
    default = f"(none) → {new}" if key.later else shown(key.default)
    if not key.later and key.new is not None:
        default += f" → {new}"
    here = ", ".join(f"`{field}`" for field in key.fields) or "–"
    note = key.note.replace("<", "&lt;").replace("|", "&#124;")
    return f"| `{key.name}` | {default} | {here} | {note} |"


@pytest.mark.parametrize("name", KEYS)
def test_every_key_has_its_row(name: str) -> None:
    assert row(KEYS[name]) in TEXT.splitlines()


@pytest.mark.parametrize("field", FIXED)
def test_every_setting_without_a_key_has_its_row(field: str) -> None:
    value, why = FIXED[field]
    assert f"| `{field}` | {shown(value)} | {why} |" in TEXT.splitlines()


def test_every_flag_has_its_row_with_the_fields_of_the_key_that_it_sets() -> None:
    section = TEXT.split("flags of the scripts")[1].split("\n## ")[0]
    flags = dict(re.findall(r"^\| `(--[^`]+)` \| [^|]+ \| (.+) \|$", section, re.MULTILINE))
    assert {f"--{name}" for names in SCRIPTS.values() for name in names.split()} == set(flags)
    for flag, here in flags.items():
        key = KEYS.get(RENAMED.get(flag, flag.removeprefix("--").replace("-", "_")))
        if key is not None and key.fields:
            assert here == ", ".join(f"`--set {field}=…`" for field in key.fields)


def test_the_readme_links_the_page() -> None:
    assert f"({PAGE})" in (REPO / "README.md").read_text()
