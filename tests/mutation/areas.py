"""What is mutated, and the tests that are to notice it: unit tests that need no model and no server."""

from __future__ import annotations

from dataclasses import dataclass

EVALUATION = "tests/core/evaluation"
REJECTION = "tests/core/rejection"


@dataclass(frozen=True, slots=True)
class Module:
    """A module, and the functions and classes of it that are mutated; () for all."""

    path: str
    functions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Area:
    """Modules that are tested together."""

    modules: tuple[Module, ...]
    tests: tuple[str, ...]


AREAS = {
    "statistics": Area(
        (
            Module("core/intervals.py"),
            Module("core/evaluation/metrics.py"),
            Module("core/evaluation/bootstrap.py"),
            Module("core/evaluation/comparison.py"),
            Module("core/evaluation/calibration.py"),
        ),
        (
            "tests/core/test_intervals.py",
            f"{EVALUATION}/test_metrics.py",
            f"{EVALUATION}/test_bootstrap.py",
            f"{EVALUATION}/test_significance.py",
            f"{EVALUATION}/test_comparison.py",
            f"{EVALUATION}/test_calibration.py",
        ),
    ),
    "decision": Area(
        (Module("core/evaluation/decision.py"), Module("core/evaluation/threshold.py")),
        (
            f"{EVALUATION}/test_decision.py",
            f"{EVALUATION}/test_threshold.py",
        ),
    ),
    "rejection": Area(
        (
            Module("core/rejection/rules.py"),
            Module("core/rejection/funnel.py"),
            Module("core/rejection/stage.py"),
        ),
        (
            f"{REJECTION}/test_rules.py",
            f"{REJECTION}/test_leaks.py",
            f"{REJECTION}/test_funnel.py",
            f"{REJECTION}/test_hard_writer.py",
            f"{REJECTION}/test_reject_stage.py",
        ),
    ),
    "keys": Area(
        (
            Module("core/stage.py"),
            Module("core/config/section.py", ("key_fields", "_plain")),
            Module("core/config/rejection.py", ("RejectionRule.key_extras",)),
            Module("core/jsonio.py", ("canonical", "digest", "file_digest")),
            Module("core/registry.py", ("Registry.provenance", "Registry._is_built_in", "_module", "_place")),
            Module("core/store/objects.py", ("Manifest.digest",)),
        ),
        (
            "tests/core/test_stage.py",
            "tests/core/test_stage_calls.py",
            "tests/core/test_registry.py",
            f"{REJECTION}/test_rules.py",
        ),
    ),
}
