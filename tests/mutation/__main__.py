"""Mutation testing by hand: `make mutation`, of one area with `make mutation ONLY=keys`.

Prints each surviving mutant that tests/mutation/accepted.toml does not explain; exits with 1 if there is one.
`ONLY="--again keys"` runs only those that survived before, after tests were added.
"""

from __future__ import annotations

import json
import os
import sys
import time
import tomllib
from collections import Counter
from pathlib import Path

from tests.mutation.areas import AREAS, Area
from tests.mutation.mutants import REPO, Mutant, mutants
from tests.mutation.running import (
    KILLED,
    TIMEOUT,
    Pool,
    in_child,
    preload,
    run_imported,
    run_live,
)

FOLDER = REPO / "artifacts" / "mutation"
ACCEPTED = Path(__file__).parent / "accepted.toml"


def main(arguments: list[str]) -> int:
    preload()
    FOLDER.mkdir(parents=True, exist_ok=True)
    again = "--again" in arguments
    names = [name for name in arguments if name != "--again"] or list(AREAS)
    jobs = int(os.environ.get("MUTATION_JOBS", "2"))
    return max(_measure(name, AREAS[name], jobs, again=again) for name in names)


def _measure(name: str, area: Area, jobs: int, *, again: bool) -> int:
    """Run one area; return 1 if a mutant survives that is not accepted."""
    began = time.monotonic()
    place = FOLDER / f"{name}.json"
    found = [m for module in area.modules for m in mutants(module.path, module.functions)]
    verdicts: dict[str, str] = json.loads(place.read_text()) if again else {}
    chosen = [m for m in found if verdicts.get(m.name) not in (KILLED, TIMEOUT)]
    verdicts = {m.name: verdicts.get(m.name, "") for m in found}

    def report(mutant: Mutant, verdict: str) -> None:
        with place.with_suffix(".jsonl").open("a") as out:
            out.write(json.dumps([mutant.name, verdict]) + "\n")

    place.with_suffix(".jsonl").write_text("")
    live = [m for m in chosen if m.function]
    covering, not_live = in_child(lambda: run_live(live, area.tests, jobs, report))
    pool = Pool(jobs, report)
    for mutant in [m for m in chosen if not m.function or m.name in not_live]:
        seconds = covering.get(mutant.path, {})
        total = sum(seconds.values())
        pool.start(mutant, total, lambda m=mutant, s=seconds: run_imported(m, area.tests, list(s)))  # type: ignore[misc]
    pool.close()
    verdicts |= dict(map(json.loads, place.with_suffix(".jsonl").read_text().splitlines()))
    place.write_text(json.dumps(verdicts, indent=1, ensure_ascii=False))
    return _summarize(name, {m.name: m.lines[0] for m in found}, verdicts, time.monotonic() - began)


def _summarize(name: str, lines: dict[str, int], verdicts: dict[str, str], seconds: float) -> int:
    accepted = tomllib.loads(ACCEPTED.read_text(encoding="utf-8"))
    explained = {mutant for group in accepted.values() for mutant in group["mutants"]}
    counts = Counter(verdicts.values())
    alive = [mutant for mutant, verdict in verdicts.items() if verdict not in (KILLED, TIMEOUT)]
    new = [mutant for mutant in alive if mutant not in explained]
    for mutant in new:
        print(f"{verdicts[mutant]}: line {lines[mutant]}, {mutant}")
    print(
        f"{name}: {len(verdicts)} mutants, {counts[KILLED]} killed, {counts[TIMEOUT]} timeouts, "
        f"{len(alive) - len(new)} accepted, {len(new)} survivors, {seconds / 60:.1f} minutes",
        flush=True,
    )
    return int(bool(new))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
