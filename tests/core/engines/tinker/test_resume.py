"""A new session continues from the last saved state: no step is skipped or repeated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from core.engines import AdamParams, Checkpoint, Datum, LoraSpec
from core.engines.tinker import Connection, TinkerEngine
from core.engines.tinker.session import TinkerSession
from core.errors import CheckpointGone, ConfigError, PassingError, SessionLost, StageError
from tests.core.engines.tinker.conftest import rated
from tests.servers import tinker, tinker_client
from tests.servers.tinker_records import Created, Restored, Stepped, batch_hash

Batches = list[list[Datum]]
SAVE_EVERY, STEPS = 2, 6

LOSSES: dict[str, Callable[[tinker.TinkerServer], None]] = {
    "a request that the server fails": lambda server: server.fail(
        "server_failure", on="forward_backward", first=1
    ),
    "an update that the server fails": lambda server: server.fail("server_failure", on="optim_step", first=1),
    "a save that the server fails": lambda server: server.fail("server_failure", on="save_weights", first=1),
    "an expired session": lambda server: server.end_sessions(),
    "a session that expires in between": lambda server: server.fail(
        "expired_session", on="optim_step", first=1
    ),
    "a restart": lambda server: server.restart(),
}


def train(
    engine: TinkerEngine,
    lora: LoraSpec,
    adam: AdamParams,
    batches: Batches,
    folder: Path,
    disturb: Callable[[int, TinkerSession], None] = lambda step, session: None,
) -> tuple[list[tuple[int, float]], int]:
    """Train segment by segment, as the pipeline does; return the steps' losses and the number of restarts."""
    last: Checkpoint | None = None
    rows: list[tuple[int, float]] = []
    session: TinkerSession | None = None
    lost = 0
    while len(rows) < STEPS:
        segment = range(len(rows), len(rows) + SAVE_EVERY)
        try:
            session = session or engine.open(lora, last.state if last else None)
            found = []
            for step in segment:
                disturb(step, session)
                found.append((step, session.submit(batches[step], rated(adam, step), step=step)))
            last = session.save(folder / str(segment.stop), step=segment.stop)
            rows += [(step, pending.result().loss) for step, pending in found]
        except PassingError:
            lost += 1
            assert lost < 6
            if session is not None:
                session.close()
            session = None
    return rows, lost


def lineage(server: tinker.TinkerServer) -> list[Stepped]:
    """The steps behind the weights that were saved last, through all restored states."""
    model = server.saves()[-1].model
    restored = {row.model: row for row in server.restores()}
    steps: list[Stepped] = []
    until: int | None = None
    while True:
        own = [row for row in server.steps(model) if until is None or row.step < until]
        steps = own + steps
        origin: Restored | None = restored.get(model)
        if origin is None:
            return steps
        model, until = origin.path.removeprefix("tinker://").split("/")[0], origin.step


@pytest.fixture(scope="module")
def undisturbed(
    lora: LoraSpec, adam: AdamParams, batches: Batches, tmp_path_factory: pytest.TempPathFactory
) -> list[tuple[int, float]]:
    """Steps and losses of a run without failures."""
    connection = Connection(tinker_client.fresh_server().base_url, tinker.KEY)
    engine = TinkerEngine(tinker_client.NAME, connection)
    return train(engine, lora, adam, batches, tmp_path_factory.mktemp("undisturbed"))[0]


@pytest.mark.parametrize("how", list(LOSSES))
@pytest.mark.parametrize("at", [0, 3])
def test_a_lost_session_continues_from_the_last_state(
    engine: TinkerEngine,
    server: tinker.TinkerServer,
    lora: LoraSpec,
    adam: AdamParams,
    batches: Batches,
    undisturbed: list[tuple[int, float]],
    folder: Path,
    how: str,
    at: int,
) -> None:
    done: list[int] = []

    def disturb(step: int, session: TinkerSession) -> None:
        if step == at and not done:
            done.append(step)
            LOSSES[how](server)

    rows, lost = train(engine, lora, adam, batches, folder, disturb)
    assert lost >= 1
    assert [step for step, _ in rows] == list(range(STEPS))
    assert [loss for _, loss in rows] == pytest.approx([loss for _, loss in undisturbed], abs=1e-4)
    seen = [(row.step, row.batch, row.learning_rate) for row in lineage(server)]
    assert seen == [(i, batch_hash(batches[i]), rated(adam, i).learning_rate) for i in range(STEPS)]


def test_a_connection_that_drops_needs_no_new_session(
    engine: TinkerEngine,
    server: tinker.TinkerServer,
    lora: LoraSpec,
    adam: AdamParams,
    batches: Batches,
    folder: Path,
) -> None:
    for call in ("forward_backward", "optim_step", "save_weights", "retrieve_future"):
        server.fail("drop_taken", on=call, first=1)
    rows, lost = train(engine, lora, adam, batches, folder)
    assert (len(rows), lost) == (STEPS, 0)
    assert [row.step for row in lineage(server)] == list(range(STEPS))


def test_the_optimizer_is_restored(
    engine: TinkerEngine, lora: LoraSpec, adam: AdamParams, batches: Batches, folder: Path
) -> None:
    session = engine.open(lora, None)
    for i in range(3):
        session.submit(batches[i], adam, step=i).result()
    saved = session.save(folder, step=3)
    again = engine.open(lora, saved.state)
    for i in range(3, 6):
        here, there = (s.submit(batches[i], adam, step=i).result() for s in (session, again))
        assert there.loss == pytest.approx(here.loss, abs=1e-5)


def test_after_a_failure_every_call_raises_it_and_no_request_is_in_flight(
    engine: TinkerEngine,
    server: tinker.TinkerServer,
    lora: LoraSpec,
    adam: AdamParams,
    batches: Batches,
    folder: Path,
) -> None:
    session = engine.open(lora, None)
    server.fail("server_failure", on="forward_backward", first=1)
    pending = [session.submit(batches[i], adam, step=i) for i in range(3)]
    with pytest.raises(SessionLost, match=r"the server failed at step 0, forward and backward \(server\): "):
        pending[0].result()
    assert all(future.done() for each in pending for future in (each.forward, each.update))
    for call in (
        pending[0].result,
        pending[2].result,
        lambda: session.submit(batches[0], adam, step=0),
        lambda: session.save(folder, step=1),
    ):
        with pytest.raises(SessionLost, match="failed at step 0"):
            call()


def test_a_save_after_a_failed_step_raises_the_steps_error(
    engine: TinkerEngine,
    server: tinker.TinkerServer,
    lora: LoraSpec,
    adam: AdamParams,
    batches: Batches,
    folder: Path,
) -> None:
    session = engine.open(lora, None)
    server.fail("server_failure", on="optim_step", first=1)
    session.submit(batches[0], adam, step=0)
    with pytest.raises(SessionLost, match="failed at step 0, update"):
        session.save(folder, step=1)
    assert not (folder / "tinker.json").exists()


@pytest.mark.parametrize("token", [100_000])
def test_rejected_data_is_not_a_passing_error(
    engine: TinkerEngine, lora: LoraSpec, adam: AdamParams, batches: Batches, token: int
) -> None:
    session = engine.open(lora, None)
    wrong = replace(batches[0][0], tokens=(token, *batches[0][0].tokens[1:]))
    with pytest.raises(StageError, match=r"^the server refused step 0, forward and backward: ") as caught:
        session.submit([wrong], adam, step=0).result()
    assert not isinstance(caught.value, PassingError)


def test_a_key_rejected_during_training_is_not_a_passing_error(
    engine: TinkerEngine, server: tinker.TinkerServer, lora: LoraSpec, adam: AdamParams, batches: Batches
) -> None:
    session = engine.open(lora, None)
    server.fail("unauthorized", on="forward_backward")
    with pytest.raises(ConfigError, match="does not accept the key"):
        session.submit(batches[0], adam, step=0).result()


def test_two_sessions_in_one_process_do_not_end_each_other(
    engine: TinkerEngine, server: tinker.TinkerServer, lora: LoraSpec, adam: AdamParams, batches: Batches
) -> None:
    one, two = engine.open(lora, None), engine.open(lora, None)
    server.fail("server_failure", on="forward_backward", first=1)
    with pytest.raises(SessionLost):
        one.submit(batches[0], adam, step=0).result()
    assert two.submit(batches[0], adam, step=0).result().loss > 0


def test_a_checkpoint_exists_while_the_server_has_both_its_parts(
    engine: TinkerEngine, server: tinker.TinkerServer, lora: LoraSpec, folder: Path
) -> None:
    session = engine.open(lora, None)
    first, second, third = (session.save(folder / str(i), step=i) for i in range(3))
    server.restart()
    assert [engine.checkpoint_exists(saved) for saved in (first, second, third)] == [True, True, True]
    server.expire(first.state.location)
    engine.remove(second.sampler.location)
    assert [engine.checkpoint_exists(saved) for saved in (first, second, third)] == [False, False, True]
    with pytest.raises(CheckpointGone, match="does not have"):
        engine.open(lora, first.state)
    with pytest.raises(CheckpointGone, match="no longer has"):
        engine.sampler(second.sampler)
    engine.open(lora, third.state)


def test_a_checkpoint_of_an_unknown_run_does_not_exist(
    engine: TinkerEngine, lora: LoraSpec, folder: Path
) -> None:
    saved = engine.open(lora, None).save(folder, step=0)
    other = replace(saved, state=type(saved.state)(saved.state.location.replace("train:0", "train:99")))
    assert not engine.checkpoint_exists(other)


def test_one_session_serves_all_segments(
    engine: TinkerEngine,
    server: tinker.TinkerServer,
    lora: LoraSpec,
    adam: AdamParams,
    batches: Batches,
    folder: Path,
) -> None:
    before = len([row for row in server.records() if isinstance(row, Created)])
    train(engine, lora, adam, batches, folder)
    assert len([row for row in server.records() if isinstance(row, Created)]) == before + 1
