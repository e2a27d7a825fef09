"""Calls of stages: inputs, ingredients, places in the run folder, and what building an object does."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Annotated, Any, cast

import pytest
from pydantic import BaseModel

from core import jsonio
from core.config import ConfigSection, NotInKey
from core.config.section import key_fields
from core.errors import PassingError, StageError, StoreError
from core.jsonio import Record
from core.pipeline.run_context import RunContext
from core.progress import Silent
from core.stage import ACTIONS, STAGES, Built, Stage, StageIO, action, build, changed, flat, stage
from core.store import Manifest, Store
from core.store.objects import FileEntry

CONTEXT = cast(RunContext, object())
"""A context that stages of these tests only pass on."""


class Settings(ConfigSection):
    split: str = "val"
    without: tuple[str, ...] = ()


class Counted(Record):
    rows: int = 3


def run(settings: Settings, io: StageIO, steps: int = 0) -> dict[str, Any]:
    (io.out / "out.txt").write_text(settings.split)
    return {"split": settings.split, "steps": steps}


def declared(**fields: Any) -> Stage[Settings]:
    return Stage("measure", 1, fields.pop("function", run), Settings, **fields)


def manifest(stage: str = "split", sha256: str = "00") -> Manifest:
    files = {"a.csv": FileEntry(sha256=sha256, bytes=1)}
    return Manifest(stage=stage, key="k", writer="w", created_at="t", files=files, ingredients={}, summary={})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path / "root"))


@pytest.fixture(autouse=True)
def declarations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what a test declares."""
    monkeypatch.setattr("core.stage.STAGES", STAGES.copy())
    monkeypatch.setattr("core.stage.ACTIONS", ACTIONS.copy())


# Inputs


def test_a_stage_sees_the_folders_of_its_inputs(tmp_path: Path) -> None:
    io = StageIO({"split": tmp_path}, tmp_path / "out")
    assert io.input("split") == io.optional("split") == tmp_path
    assert io.optional("scored") is None
    with pytest.raises(KeyError):
        io.input("scored")


def test_a_stage_without_a_run_has_no_context(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs the context of a run"):
        _ = StageIO({}, tmp_path).context
    io = StageIO({}, tmp_path, run=CONTEXT)
    assert io.context is CONTEXT
    assert (type(io.progress), io.key) == (Silent, "")


def test_a_call_has_exactly_the_inputs_of_its_stage() -> None:
    of = declared(inputs=("split", "scored?"))
    assert set(of.call(Settings(), split=manifest()).inputs) == {"split"}
    assert set(of.call(Settings(), split=manifest(), scored=None).inputs) == {"split"}
    assert set(of.call(Settings(), split=manifest(), scored=manifest()).inputs) == {"split", "scored"}
    for wrong in ({}, {"split": None}, {"scored": manifest()}, {"split": manifest(), "other": manifest()}):
        with pytest.raises(ValueError, match="stage measure has the inputs"):
            of.call(Settings(), **wrong)


def test_a_stage_with_a_star_takes_inputs_of_any_name() -> None:
    of = declared(inputs=("split", "*"))
    assert set(of.call(Settings(), split=manifest(), other=manifest()).inputs) == {"split", "other"}
    with pytest.raises(ValueError):
        of.call(Settings(), other=manifest())


# Ingredients and keys


def test_ingredients_are_version_settings_content_and_inputs_by_name() -> None:
    seen = []

    def content(settings: Settings, context: RunContext | None, *given: object) -> dict[str, str]:
        seen.append((settings, context, *given))
        return {"rules.dir": "digest of the rules"}

    of = declared(inputs=("split",), content=content)
    call = of.call(Settings(split="test"), CONTEXT, {}, 3, split=manifest(sha256="ab"))
    assert call.ingredients == {
        "version": 1,
        "config.split": "test",
        "config.without": [],
        "content.rules.dir": "digest of the rules",
        "input.split": manifest(sha256="ab").digest,
    }
    assert seen == [(Settings(split="test"), CONTEXT, 3)]
    _ = of.call(Settings(), CONTEXT, split=manifest()).key
    assert seen[1:] == [(Settings(), CONTEXT)]
    assert call.key == jsonio.digest(["measure", call.ingredients])[:32]
    assert len(call.key) == 32


def test_the_key_depends_on_the_stage_its_inputs_and_their_names() -> None:
    one = declared(inputs=("*",)).call(Settings(), split=manifest())
    others = [
        Stage("other", 1, run, Settings, inputs=("*",)).call(Settings(), split=manifest()),
        declared(inputs=("*",)).call(Settings(), split=manifest(sha256="11")),
        declared(inputs=("*",)).call(Settings(), sample=manifest()),
        declared(inputs=("*",)).call(Settings()),
    ]
    assert len({one.key, *(other.key for other in others)}) == 5


def test_what_a_call_is_given_beside_its_settings_moves_no_key() -> None:
    of = declared(slot="measure/{step}")
    calls = [of.call(Settings()), of.call(Settings(), CONTEXT, {"step": 3}, 4)]
    assert calls[0].key == calls[1].key


def test_the_digest_of_an_input_is_of_its_files_names_and_contents() -> None:
    assert manifest().digest == jsonio.digest({"a.csv": "00"})
    assert manifest(stage="other").digest == manifest().digest


def test_nested_values_are_flat_by_their_path_and_dots_in_names_are_escaped() -> None:
    nested = {"a": {"b": 1, "c.d": [2]}, "e": {}, "f": {"g": {"h": None}}}
    assert flat("config", nested) == {
        "config.a.b": 1, "config.a.c\\.d": [2], "config.e": {}, "config.f.g.h": None,
    }  # fmt: skip
    assert flat("config", {1: {2: 3}}) == {"config.1.2": 3}
    assert flat("config", {}) == {"config": {}}
    assert flat("at", 5) == {"at": 5}


class Part(ConfigSection):
    rank: int = 1
    place: Annotated[str, NotInKey("a place")] = "here"


class Whole(ConfigSection):
    part: Part = Part()
    parts: tuple[Part, ...] = (Part(), Part(rank=2))
    named: dict[str, Part] = {"b": Part(rank=3), "a": Part()}
    limit: float | None = None

    def key_extras(self) -> dict[str, Any]:
        return {"code": "x"}


def test_fields_of_nested_sections_are_in_the_key_unless_they_are_marked() -> None:
    assert key_fields(Whole()) == {
        "part": {"rank": 1},
        "parts": [{"rank": 1}, {"rank": 2}],
        "named": {"a": {"rank": 1}, "b": {"rank": 3}},
        "limit": None,
        "code": "x",
    }
    assert list(key_fields(Whole())["named"]) == ["a", "b"]


class Plain(BaseModel):
    """Settings that are no section of the config, with a mapping of any names."""

    weights: dict[Any, Any] = {2: Part(), "a": 1}
    place: Annotated[str, NotInKey("a place")] = "here"


def test_models_that_are_no_sections_and_mappings_with_any_names_have_key_fields() -> None:
    assert key_fields(Plain()) == {"weights": {"2": {"rank": 1}, "a": 1}}


def test_the_canonical_form_of_json_has_one_byte_string() -> None:
    assert jsonio.canonical({"b": [1, None], "a": "é"}) == '{"a":"é","b":[1,null]}'.encode()
    assert jsonio.canonical({"a": "\ud800"}) == b'{"a":"\xed\xa0\x80"}'
    with pytest.raises(ValueError):
        jsonio.canonical(float("nan"))
    assert jsonio.digest({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


def test_a_files_digest_is_that_of_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"one\r\n")
    assert jsonio.file_digest(tmp_path / "a") == (
        "5259d46a49644bf76792231ef7315b5293677c49ddd7e69d95557013e10320d4"
    )


def test_changes_are_named_with_the_begin_of_digests_and_of_long_values() -> None:
    call = declared(content=lambda *_: {"new": "n", "rules": "a" * 64}).call(Settings(split="s" * 70))
    earlier = {
        **{name: value for name, value in call.ingredients.items() if name != "content.new"},
        "config.split": "t" * 63,
        "content.rules": "b" * 64,
        "content.gone": 5,
    }
    assert changed(call, earlier) == [
        f"config.split changed from {'t' * 60} to {'s' * 60}",
        "content.new changed from None to n",
        f"content.rules changed from {'b' * 10} to {'a' * 10}",
        "content.gone changed from 5 to None",
    ]
    assert changed(call, call.ingredients) == []


# Places


def test_slot_label_and_places_are_filled_from_the_settings_and_the_call() -> None:
    of = declared(
        publishes={"scores.jsonl": "{phase}/{settings.split}.jsonl", "all/": "{phase}/all/"},
        slot="measure/{phase}/",
        label=lambda settings: f"measure {settings.split} in {{phase}}",
    )
    call = of.call(Settings(), None, {"phase": "one"})
    assert call.slot == "measure/one"
    assert call.label == "measure val in one"
    assert call.places == {"scores.jsonl": "one/val.jsonl", "all/": "one/all/"}
    assert call.shows == "one/val.jsonl"


def test_a_stage_that_is_called_once_is_named_like_its_function_and_shows_what_it_publishes() -> None:
    call = declared().call(Settings())
    assert (call.slot, call.label, call.places) == ("measure", "measure", {})
    assert call.shows == "result of measure"
    assert declared(slot="measure/once").call(Settings()).label == "measure/once"
    by_settings = declared(publishes=lambda settings: {"a": f"{settings.split}.txt"})
    assert by_settings.call(Settings(split="test")).places == {"a": "test.txt"}
    assert declared(shows="{who}.json").shown(Settings(), who="A") == "A.json"
    assert declared(shows="{settings.split}.json").shown(Settings()) == "val.json"
    assert by_settings.shown(Settings(split="test")) == "test.txt"
    assert declared().switch is None


def test_a_call_without_optional_parts_differs_in_its_settings_alone() -> None:
    call = declared().call(Settings(), CONTEXT, {"a": 1}, 2)
    left = call.without(("slices",))
    assert left.settings == Settings(without=("slices",))
    assert (left.stage, left.context, left.at, left.given) == (call.stage, CONTEXT, {"a": 1}, 2)
    assert left.key != call.key


# Declarations


def test_a_declaration_reads_its_settings_from_the_function_and_is_switched_by_its_name() -> None:
    @stage("declared", version=4, inputs=("split",))
    def one(settings: Settings, io: StageIO) -> dict[str, Any]:
        return {}

    assert (one.name, one.version, one.inputs, one.settings) == ("declared", 4, ("split",), Settings)
    assert (one.switch, one.publishes, one.shows) == ("declared", {}, "")
    assert (one.slot, one.label) == ("", "")
    assert one.call(Settings(), split=manifest()).name == "declared"

    @stage("always", version=1, switch=None, shows="a", slot="b", label="c", publishes={"d": "e"})
    def two(settings: Settings, io: StageIO) -> dict[str, Any]:
        return {}

    assert (two.switch, two.shows, two.slot, two.label) == (None, "a", "b", "c")
    assert two.publishes == {"d": "e"}
    other = stage("switched", version=1, switch="export")(run)
    assert other.switch == "export"


def test_a_function_without_settings_cannot_be_declared() -> None:
    def wrong(settings: int, io: StageIO) -> dict[str, Any]:
        return {}

    wrong.__annotations__["settings"] = int
    with pytest.raises(TypeError, match="wrong: the first parameter is annotated with its settings"):
        stage("wrong", version=1)(wrong)  # type: ignore[type-var]


def test_an_action_is_declared_as_it_is() -> None:
    def write() -> str:
        return "written"

    assert action("write it")(write) is write
    from core import stage as module

    assert module.ACTIONS["write it"] is write


# Building


def test_an_object_has_the_summary_of_its_function_and_the_seconds_it_took(store: Store) -> None:
    built = build(store, declared().call(Settings(), None, {}, 2), Silent())
    assert built.manifest.summary.keys() == {"split", "steps", "seconds"}
    seconds = built.manifest.summary["seconds"]
    assert isinstance(seconds, float)
    assert 0 <= seconds < 60
    assert round(seconds, 2) == seconds
    assert built.manifest.summary["steps"] == 2
    assert build(store, declared().call(Settings(split="test")), Silent()).manifest.summary["steps"] == 0
    assert (built.manifest.stage, set(built.manifest.files)) == ("measure", {"out.txt"})
    assert (store.folder(built.manifest) / "out.txt").read_text() == "val"


def test_the_record_that_a_function_returns_is_the_summary(store: Store) -> None:
    def counted(settings: Settings, io: StageIO) -> Counted:
        return Counted()

    built = build(store, declared(function=counted).call(Settings()), Silent())
    assert built.manifest.summary["rows"] == 3


def test_a_manifest_records_the_ingredients_of_its_key(store: Store) -> None:
    call = declared(inputs=("split",), content=lambda *_: {"rules": "x"}).call(Settings(), split=manifest())
    # The folder of the input is only read by a stage that asks for it.
    built = build(store, call, Silent())
    assert (built.manifest.ingredients, built.manifest.key) == (call.ingredients, call.key)


def test_a_function_gets_inputs_progress_key_and_context(store: Store) -> None:
    seen: list[StageIO] = []

    def look(settings: Settings, io: StageIO) -> dict[str, Any]:
        seen.append(io)
        return {}

    earlier = build(store, declared().call(Settings()), Silent()).manifest
    progress = Silent()
    call = Stage("look", 1, look, Settings, inputs=("split",)).call(Settings(), CONTEXT, split=earlier)
    build(store, call, progress)
    (io,) = seen
    assert io.input("split") == store.folder(earlier)
    assert (io.progress, io.key, io.context) == (progress, call.key, CONTEXT)
    assert io.out.name == store.find("look", call.key).writer  # type: ignore[union-attr]


def test_a_check_runs_before_and_a_note_after_an_object_that_has_to_be_built(store: Store) -> None:
    order: list[str] = []

    def noted(settings: Settings, io: StageIO) -> dict[str, Any]:
        order.append("function")
        return {}

    def before(context: RunContext) -> None:
        assert context is CONTEXT
        order.append("before")

    def after(context: RunContext) -> None:
        assert context is CONTEXT
        order.append("after")

    call = declared(function=noted, before=before, after=after).call(Settings(), CONTEXT)
    assert not build(store, call, Silent()).reused
    assert order == ["before", "function", "after"]
    assert build(store, call, Silent()).reused
    assert order == ["before", "function", "after"]
    assert not build(store, call, Silent(), refresh=True).reused
    assert order == ["before", "function", "after"] * 2


def test_without_a_context_neither_is_called(store: Store) -> None:
    def fail(context: RunContext) -> None:
        raise AssertionError

    assert not build(store, declared(before=fail, after=fail).call(Settings()), Silent()).reused


def test_two_runs_that_need_an_object_at_once_build_it_once(store: Store) -> None:
    calls: list[list[str]] = []
    both = Barrier(2)

    def slow(settings: Settings, io: StageIO) -> dict[str, Any]:
        calls.append([file.path for file in store.backend.list("leases")])
        time.sleep(0.3)
        return {}

    def build_it() -> Built:
        call = declared(function=slow).call(Settings())
        both.wait()
        return build(store, call, Silent())

    with ThreadPoolExecutor(2) as pool:
        one, other = (made.result() for made in [pool.submit(build_it) for _ in range(2)])
    assert one.manifest == other.manifest
    assert {one.reused, other.reused} == {True, False}
    (leases,) = calls
    assert f"leases/measure/{declared().call(Settings()).key}.json" in leases


def test_an_object_that_exists_is_returned_without_waiting_for_its_lease(store: Store) -> None:
    call = declared().call(Settings())
    first = build(store, call, Silent())
    with store.lease(f"measure/{call.key}", "another run"), ThreadPoolExecutor(1) as pool:
        assert pool.submit(build, store, call, Silent()).result(timeout=5).manifest == first.manifest


def test_a_refreshed_object_replaces_the_earlier_one(store: Store) -> None:
    first = build(store, declared().call(Settings()), Silent())
    second = build(store, declared().call(Settings()), Silent(), refresh=True)
    assert second.manifest.writer != first.manifest.writer
    assert build(store, declared().call(Settings()), Silent()).manifest == second.manifest


def fails(error: BaseException) -> Stage[Settings]:
    def fail(settings: Settings, io: StageIO) -> dict[str, Any]:
        (io.out / "half").write_text("")
        raise error

    return declared(function=fail, label="measure it")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(28, "No space left on device", "/full/disk"), StoreError),
        (ConnectionResetError("reset"), PassingError),
        (TimeoutError("too late"), PassingError),
        (StageError("no"), StageError),
        (PassingError("a server"), PassingError),
        (StoreError("elsewhere"), StoreError),
        (ZeroDivisionError("x"), ZeroDivisionError),
    ],
)
def test_errors_of_the_system_get_a_type_and_others_pass(
    store: Store, error: Exception, kind: type[Exception]
) -> None:
    with pytest.raises(kind) as caught:
        build(store, fails(error).call(Settings()), Silent())
    assert type(caught.value) is kind
    system = isinstance(error, OSError) and not isinstance(error, StageError | PassingError | StoreError)
    assert (caught.value.__cause__ is error) is system
    assert (caught.value is error) is not system
    assert store.backend.list("objects") == []


def test_an_error_of_the_disk_names_the_file_or_the_folder_of_the_object(store: Store) -> None:
    with pytest.raises(StoreError, match=r"measure it could not .* /full/disk: No space left on device; "):
        build(store, fails(OSError(28, "No space left on device", "/full/disk")).call(Settings()), Silent())
    with pytest.raises(StoreError, match=r"could not .*objects/measure/.*: broken; "):
        build(store, fails(OSError("broken")).call(Settings()), Silent())


def test_a_signal_inside_a_stage_leaves_nothing(store: Store) -> None:
    with pytest.raises(KeyboardInterrupt):
        build(store, fails(KeyboardInterrupt()).call(Settings()), Silent())
    assert store.backend.list("objects") == []
