"""The same steps on SkyRL and on the local engine, from the same adapter: losses side by side, as JSON.

Run in the client's environment. An adapter's first values hang on who draws them, so those that
SkyRL drew are taken home before step 1 and put into the local engine's state.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from core import jsonio
from core.base_model import resolve_model
from core.engines import AdamParams, Datum, LoraSpec, Session, StateRef
from core.engines.local import LocalEngine
from core.engines.local.model import WEIGHTS, adapter_digest, load_tensors
from core.engines.local.session import STATE
from core.engines.tinker import Connection, TinkerEngine, server_address
from core.student.encode_stage import DATA_FILE, read_data
from core.student.train_stage import mean_over_examples

STEPS, BATCH = 4, 8
LORA = LoraSpec(rank=16, alpha=32.0, dropout=0.0, seed=42)
# SkyRL does not clip.
ADAM = AdamParams(learning_rate=5e-4, beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.0, grad_clip_norm=0.0)


def main(server: str, name: str, model: str, encoded: str) -> None:
    """Print the losses of both, and the gradients' norms."""
    data = read_data(Path(encoded) / DATA_FILE)
    rows = [data[i % len(data)] for i in range(STEPS * BATCH)]
    batches = [mean_over_examples(rows[i : i + BATCH]) for i in range(0, len(rows), BATCH)]
    remote = TinkerEngine(name, Connection(server_address(server)))
    local = LocalEngine(resolve_model(model), device="cpu", train_dtype="float32")
    with tempfile.TemporaryDirectory() as folder:
        there = remote.open(LORA, None)
        here = _beside(remote, there, local, Path(folder))
        found = {"SkyRL": _steps(there, batches), "local": _steps(here, batches)}
    remote.close()
    print(json.dumps(found))


def _steps(session: Session, batches: list[list[Datum]]) -> list[tuple[float, float | None]]:
    done = [session.submit(batch, ADAM, step=step).result() for step, batch in enumerate(batches)]
    session.close()
    return [(each.loss, each.grad_norm) for each in done]


def _beside(remote: TinkerEngine, there: Session, local: LocalEngine, folder: Path) -> Session:
    """A local session whose adapter is the remote one's, before any step."""
    saved = folder / "remote"
    saved.mkdir()
    home = folder / "home"
    remote.download_adapter(there.save(saved, step=0), home)
    state = folder / "local"
    local.open(LORA, None).save(state, step=0)
    weights = load_tensors(home / WEIGHTS)
    (state / "adapter" / WEIGHTS).write_bytes((home / WEIGHTS).read_bytes())
    facts = jsonio.read_json(state / STATE)
    jsonio.write_json(state / STATE, {**facts, "adapter_digest": adapter_digest(weights)})
    return local.open(LORA, StateRef(str(state)))


if __name__ == "__main__":
    main(*sys.argv[1:])
