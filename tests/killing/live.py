"""A run with a live teacher, killed while it asks: python -m tests.killing.live --root URL

The teacher is a real server in a process of its own, which goes on counting. Prints one JSON object
a trial: what was asked again, what was under way when the run was killed, and what is lost, twice in
the result, or unlike an undisturbed run's.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import chdir
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from core import durable, jsonio
from core.base_model import resolve_model
from core.completions.journal import Journal
from core.config.loading import load
from core.data import stage as data_stage
from core.pipeline.run_context import RunContext
from core.progress import Silent
from core.stage import build
from core.store import Store
from tests.building import build_reject, build_sample, build_split
from tests.killing import driver
from tests.killing.children import TO_THE_END, Moment, ask_child, run_in_child
from tests.killing.trials import Kill
from tests.servers import teacher as endpoint
from tests.servers.teacher import TeacherServer
from tests.servers.teacher_answers import write_texts
from tests.small_project import texts, write_project

AT_ONCE = 8
RUN = "live"


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a trial. `under_way` were sent and not yet safe when the run was killed."""

    where: str
    kills: int
    asked_again: int
    under_way: int
    lost: int
    twice: int
    differing: bool
    failed: str = ""


@dataclass(frozen=True, slots=True)
class Work:
    """The stages up to rejection, under a root, against a server."""

    config: Path
    root: str
    base_url: str

    def __call__(self) -> None:
        """What the command does until the student comes in."""
        store, of = self._opened()
        parts = build_split(store, of.config)
        answers = build_sample(store, of, parts).manifest
        build_reject(store, of, parts, answers)

    def safe(self) -> int:
        """How many answers are safe now."""
        with Journal.open(Store.open(self.root), RUN) as journal:
            return journal.count()

    def left(self) -> dict[str, Any]:
        """Who was asked how, and what was accepted, of a finished run; nothing is made."""
        store, of = self._opened()
        split = build(store, data_stage.split.call(data_stage.SplitSettings.of(of.config)), Silent())
        sample = build_sample(store, of, split.manifest)
        kept = build_reject(store, of, split.manifest, sample.manifest)
        assert all(built.reused for built in (split, sample, kept)), "a finished run is found whole"
        rows = list(jsonio.read_jsonl(store.file(sample.manifest, "teacher_samples.jsonl")))
        accepted = list(jsonio.read_jsonl(store.file(kept.manifest, "accepted_samples.jsonl")))
        return {
            "samples": [[row["sample_id"], row["raw_output"]] for row in rows],
            "accepted": [[row["sample_id"], row["label"], row["reasoning"]] for row in accepted],
            "missing": sample.manifest.summary["missing"],
        }

    def _opened(self) -> tuple[Store, RunContext]:
        teacher = {
            "kind": "openai",
            "base_url": self.base_url,
            "model": "m",
            "api_key_env": "KILLING_TEACHER_KEY",
            "attempts": 2,
            "prices": None,
            "limits": {"concurrency": AT_ONCE},
        }
        changes = [f"run.root={self.root}", f"teacher={json.dumps(teacher)}"]
        resolved = load(self.config, changes)
        store = Store.open(self.root)
        return store, RunContext(resolved.config, lambda: Journal.open(store, RUN))


def main() -> None:
    """Read the arguments and print results."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", required=True)
    parser.add_argument("--each", type=int, default=3, help="moments to kill at, spread over the answers")
    parser.add_argument("--random", type=int, default=2, help="trials that kill at random moments")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    os.environ["KILLING_TEACHER_KEY"] = "key"
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        os.environ["UNDERSTUDY_CACHE"] = str(Path(folder) / "cache")
        config = Path(ask_child(lambda: _project(Path(folder))))
        import openai
        import s3fs
        from transformers import AutoTokenizer

        names = (openai.__name__, s3fs.__name__, AutoTokenizer.__module__)
        assert sys.modules.keys() >= set(names), "imported before the forks, which import it no more"
        known = _known(Path(folder))
        with endpoint.serve(known) as server:
            server.delay(0.02, tail="pareto", spread=2.0, seed=given.seed)
            for result in _results(config, given, server):
                print(json.dumps(asdict(result)), flush=True)


def _project(folder: Path) -> str:
    """The small project with a tokenizer and no weights: nothing here computes with them."""
    os.environ.pop("UNDERSTUDY_CACHE", None)
    tokenizer, model = resolve_model(driver.MODEL).folder, folder / "model"
    model.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(tokenizer / name, model / name)
    (model / "model.safetensors").write_bytes(b"only its digest is read")
    return str(write_project(folder, model))


def _known(folder: Path) -> Path:
    """What the server says: to every third text first a wrong label, then the right one."""
    with (folder / "recorded.jsonl").open("w") as f:
        for i, (name, text, label) in enumerate(texts()):
            for sample in range(2):
                said = 1 - label if i % 3 == 1 and sample == 0 else label
                reasoning = f'"{" ".join(text.split()[:3])}" decides it [R{2 - said}].'
                row = {"id": name, "sample": sample, "reasoning": reasoning, "label": said}
                f.write(json.dumps(row) + "\n")
    known = {name: text for name, text, _ in texts()}
    return write_texts(folder / "known.jsonl", known, folder / "recorded.jsonl")


def _results(config: Path, given: argparse.Namespace, server: TeacherServer) -> Iterator[Result]:
    def fresh() -> Work:
        return Work(config, f"{given.root.rstrip('/')}/{uuid.uuid4().hex[:8]}", server.base_url)

    whole = fresh()
    server.reset_counts()
    ended = _run(whole, Kill())
    assert ended.code == 0, "an undisturbed run failed; see its traceback"
    asked, reference = server.totals().received, ask_child(whole.left)
    answered = [p.after for p in ended.passed if p.name == durable.ANSWER_APPENDED]
    counts = sorted({round(i * (asked - 1) / max(given.each - 1, 1)) for i in range(given.each)})
    named = [[Kill(Moment(durable.ANSWER_APPENDED, count))] for count in counts]
    drawn = random.Random(given.seed)
    for kills in [*named, *_random(drawn, answered[0], answered[-1], given.random)]:
        yield _trial(fresh(), kills, server, asked, reference)


def _random(drawn: random.Random, first: float, last: float, count: int) -> Iterator[list[Kill]]:
    """While answers come; every second trial kills the run that follows too."""
    for i in range(count):
        yield [Kill(after=drawn.uniform(first, last)) for _ in range(1 + i % 2)]


def _trial(
    work: Work, kills: Sequence[Kill], server: TeacherServer, asked: int, reference: dict[str, Any]
) -> Result:
    """`asked`: how many requests an undisturbed run sends."""
    where, hit, under_way = ", then ".join(map(str, kills)), 0, 0
    server.reset_counts()
    for kill in (*kills, Kill()):
        ended = _run(work, kill)
        if not ended.killed and ended.code != 0:
            return Result(where, hit, 0, under_way, 0, 0, True, "the same command failed; see its traceback")
        if ended.killed:
            hit += 1
            under_way += server.totals().received - under_way - ask_child(work.safe)
    left = ask_child(work.left)
    names = [name for name, _ in left["samples"]]
    return Result(
        where,
        hit,
        asked_again=server.totals().received - asked,
        under_way=under_way,
        lost=len(reference["samples"]) - len(names) + left["missing"],
        twice=len(names) - len(set(names)),
        differing=left != reference,
    )


def _run(work: Work, kill: Kill) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        return run_in_child(work, Path(folder) / "trace", kill.moment or TO_THE_END, kill.after)


if __name__ == "__main__":
    main()
