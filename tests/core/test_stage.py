"""Keys: opt-out, by content, and explained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pytest

from core import durable
from core.config import ConfigSection, NotInKey
from core.errors import StageError, StoreError
from core.progress import Silent
from core.stage import ACTIONS, STAGES, Stage, StageCall, StageIO, action, build, changed
from core.stage import stage as declare
from core.store import Store


class Inner(ConfigSection):
    rank: int = 1


class Settings(ConfigSection):
    epochs: int = 1
    inner: Inner = Inner()
    root: Annotated[str, NotInKey("a place")] = "a"


def run(config: Settings, io: StageIO) -> dict[str, Any]:
    (io.out / "out.txt").write_text(f"{config.epochs}\n")
    return {"epochs": config.epochs}


def stage(
    config: Settings | None = None, *, content: dict[str, str] | None = None, version: int = 1
) -> StageCall:
    digests = content or {"rules": "x"}
    return Stage("split", version, run, Settings, content=lambda *_: digests).call(config or Settings())


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path))


@pytest.mark.parametrize(
    "other",
    [
        stage(Settings(epochs=2)),
        stage(Settings(inner=Inner(rank=2))),
        stage(content={"rules": "y"}),
        stage(version=2),
    ],
)
def test_every_ingredient_changes_the_key(other: StageCall) -> None:
    assert other.key != stage().key
    assert len(changed(other, stage().ingredients)) == 1


def test_field_marked_not_in_key_does_not_change_the_key() -> None:
    assert stage(Settings(root="b")).key == stage().key


def test_stage_key_is_equal_in_every_process() -> None:
    assert stage().key == "358c75bc2290db47a9453be4a0c94397"


def test_changed_ingredients_are_listed_with_both_values() -> None:
    found = changed(stage(Settings(epochs=2)), stage().ingredients)
    assert found == ["config.epochs changed from 1 to 2"]


def test_stage_is_built_once(store: Store) -> None:
    calls = []

    def counted(config: Settings, io: StageIO) -> dict[str, Any]:
        calls.append(config)
        return run(config, io)

    def counting() -> StageCall:
        return Stage("split", 1, counted, Settings).call(Settings())

    first = build(store, counting(), Silent())
    again = build(store, counting(), Silent())
    assert (first.reused, again.reused) == (False, True)
    assert again.manifest == first.manifest
    assert len(calls) == 1
    build(store, counting(), Silent(), refresh=True)
    assert len(calls) == 2


@pytest.mark.parametrize(
    "error", [StageError("no"), OSError(28, "No space left on device"), RuntimeError("x")]
)
def test_failed_stage_leaves_no_partial_object(store: Store, error: Exception) -> None:
    def fail(config: Settings, io: StageIO) -> dict[str, Any]:
        (io.out / "half").write_text("")
        raise error

    with pytest.raises(StoreError if isinstance(error, OSError) else type(error)):
        build(store, Stage("split", 1, fail, Settings).call(Settings()), Silent())
    assert store.backend.list("objects") == []


def test_a_signal_before_the_manifest_leaves_no_files(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(paths: object) -> None:
        raise KeyboardInterrupt

    folder = store.begin("split", "interrupted")
    (folder / "a.txt").write_text("a")
    monkeypatch.setattr(durable, "sync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.commit("split", "interrupted", folder, {}, {})
    assert not folder.exists()
    assert store.find("split", "interrupted") is None


def test_a_signal_after_the_manifest_was_written_keeps_the_object(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(name: str, about: str) -> None:
        if name == durable.MANIFEST_WRITTEN:
            raise KeyboardInterrupt

    monkeypatch.setattr(durable, "on_failpoint", interrupt)
    with pytest.raises(KeyboardInterrupt):
        build(store, stage(), Silent())
    monkeypatch.undo()
    assert build(store, stage(), Silent()).reused


def test_declaring_the_same_function_again_replaces_the_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.stage.STAGES", STAGES.copy())
    monkeypatch.setattr("core.stage.ACTIONS", ACTIONS.copy())

    def cell(version: int) -> None:
        @declare("counted in a notebook", version=version)
        def count(config: Settings, io: StageIO) -> dict[str, Any]:
            return {}

        @action("shown in a notebook")
        def show() -> None:
            """Show nothing."""

    cell(1)
    cell(2)
    from core import stage as declared

    assert declared.STAGES["counted in a notebook"].version == 2
    assert "shown in a notebook" in declared.ACTIONS


def test_two_functions_cannot_declare_one_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.stage.STAGES", STAGES.copy())
    monkeypatch.setattr("core.stage.ACTIONS", ACTIONS.copy())
    declare("counted twice", version=1)(run)

    def other(config: Settings, io: StageIO) -> dict[str, Any]:
        return {}

    with pytest.raises(ValueError, match=r"run and by .*other: rename one"):
        declare("counted twice", version=1)(other)
    action("shown twice")(run)
    with pytest.raises(ValueError, match=r"run and by .*other: rename one"):
        action("shown twice")(other)
