"""The registry of named parts: lookups, duplicate names, and parts from other distributions."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from core.errors import PluginError
from core.registry import Registry, UnknownNameError
from core.store.objects import manifest_path

Greeting = Callable[[], str]


@pytest.fixture
def greetings() -> Registry[Greeting]:
    registry: Registry[Greeting] = Registry("greeting", "understudy.test_greetings")

    def hello() -> str:
        return "hello"

    registry.register("hello", hello)
    registry.register("goodbye", lambda: "goodbye")
    return registry


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Install a distribution with one module, whose entry point is called like the distribution."""

    def installed(name: str, source: str) -> None:
        site = tmp_path / name
        (site / f"{name}-1.5.dist-info").mkdir(parents=True)
        (site / f"{name}.py").write_text(source, encoding="utf-8")
        (site / f"{name}-1.5.dist-info/METADATA").write_text(f"Name: {name}\nVersion: 1.5\n")
        (site / f"{name}-1.5.dist-info/entry_points.txt").write_text(
            f"[understudy.test_greetings]\n{name} = {name}\n"
        )
        monkeypatch.syspath_prepend(site)
        monkeypatch.delitem(sys.modules, name, raising=False)

    return installed


def registering(registry: Registry[Greeting], monkeypatch: pytest.MonkeyPatch, name: str) -> str:
    """The source of a plug-in module that registers a greeting in `registry`."""
    monkeypatch.setattr(sys.modules[__name__], "REGISTRY", registry, raising=False)
    monkeypatch.setitem(sys.modules, "greetings_of_the_test", sys.modules[__name__])
    return (
        "from greetings_of_the_test import REGISTRY\n"
        f"def greet() -> str:\n    return {name!r}\n"
        f"REGISTRY.register({name!r}, greet)\n"
    )


def test_parts_are_found_by_name_in_registration_order(greetings: Registry[Greeting]) -> None:
    assert list(greetings) == ["hello", "goodbye"]
    assert [part() for _, part in greetings.items()] == ["hello", "goodbye"]
    assert greetings.get("goodbye")() == "goodbye"
    assert "hello" in greetings
    assert "hullo" not in greetings
    assert len(greetings) == 2


def test_an_unknown_name_lists_the_known_names_and_the_closest(greetings: Registry[Greeting]) -> None:
    with pytest.raises(UnknownNameError) as caught:
        greetings.get("helo")
    assert "'helo'" in str(caught.value)
    assert "did you mean 'hello'" in str(caught.value)
    assert "hello, goodbye" in str(caught.value)


def test_second_definition_of_a_name_is_rejected(greetings: Registry[Greeting]) -> None:
    def other() -> str:
        return "other"

    with pytest.raises(PluginError, match=r"hello.*other"):
        greetings.register("hello", other)
    assert greetings.get("hello")() == "hello"


def test_the_same_definition_may_be_registered_again(greetings: Registry[Greeting]) -> None:
    def cell(text: str) -> Greeting:
        def ahoy() -> str:
            return text

        return ahoy

    greetings.register("ahoy", cell("first"))
    greetings.register("ahoy", cell("second"))
    assert greetings.get("ahoy")() == "second"


def test_built_in_modules_are_imported_at_the_first_lookup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry: Registry[Greeting] = Registry("greeting", "understudy.test_greetings", ["built_in_greetings"])
    (tmp_path / "built_in_greetings.py").write_text(registering(registry, monkeypatch, "hi"))
    monkeypatch.syspath_prepend(tmp_path)
    assert "built_in_greetings" not in sys.modules
    assert registry.get("hi")() == "hi"
    assert registry.provenance("hi") == ""
    del sys.modules["built_in_greetings"]


def test_an_installed_distribution_adds_parts(
    greetings: Registry[Greeting], install: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    install("aloha_plugin", registering(greetings, monkeypatch, "aloha"))
    assert greetings.get("hello")() == "hello"
    assert "aloha_plugin" not in sys.modules, "a built-in name loads no plug-in"
    assert greetings.get("aloha")() == "aloha"
    assert list(greetings) == ["hello", "goodbye", "aloha"]
    assert greetings.provenance("aloha") == "aloha_plugin 1.5"
    assert len(greetings.provenance("hello")) == 64, "a part of another module is not the plug-in's"


def test_broken_plug_in_is_reported_with_its_distribution_at_every_lookup(
    greetings: Registry[Greeting], install: Callable[[str, str], None]
) -> None:
    install("broken_plugin", "import no_such_module_anywhere\n")
    for _ in range(2):
        with pytest.raises(PluginError) as caught:
            list(greetings)
        assert "broken_plugin 1.5" in str(caught.value)
        assert "understudy.test_greetings" in str(caught.value)
        assert "no_such_module_anywhere" in str(caught.value)


def test_a_plug_in_cannot_take_a_name_that_is_registered(
    greetings: Registry[Greeting], install: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    install("hello_plugin", registering(greetings, monkeypatch, "hello"))
    with pytest.raises(PluginError, match=r"hello_plugin 1.5.*two definitions"):
        list(greetings)


def test_a_part_without_distribution_is_identified_by_its_source(greetings: Registry[Greeting]) -> None:
    assert len(greetings.provenance("hello")) == 64
    assert greetings.provenance("hello") != greetings.provenance("goodbye")


def test_a_part_of_a_package_is_identified_by_the_distribution_of_the_package(
    greetings: Registry[Greeting], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "parts_package").mkdir()
    (tmp_path / "parts_package/__init__.py").write_text("")
    (tmp_path / "parts_package/greet.py").write_text("def greet():\n    return 'hi'\n")
    (tmp_path / "parts-2.0.dist-info").mkdir()
    (tmp_path / "parts-2.0.dist-info/METADATA").write_text("Name: parts\nVersion: 2.0\n")
    (tmp_path / "parts-2.0.dist-info/entry_points.txt").write_text(
        "[understudy.test_greetings]\nhi = parts_package.other\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    greetings.register("hi", importlib.import_module("parts_package.greet").greet)
    assert greetings.provenance("hi") == "parts 2.0"


def test_a_part_defined_in_the_core_package_is_built_in(greetings: Registry[Greeting]) -> None:
    greetings.register("path", manifest_path)  # type: ignore[arg-type]
    assert greetings.provenance("path") == ""


def test_a_part_whose_source_cannot_be_read_is_identified_by_its_place(greetings: Registry[Greeting]) -> None:
    module: dict[str, Greeting] = {}
    exec("def greet(): return 'hi'", {"__name__": "typed_in"}, module)
    greetings.register("typed", module["greet"])
    assert greetings.provenance("typed") == "typed_in.greet"
    greetings.register("bound", functools.partial(str, "hi"))
    assert greetings.provenance("bound") == "functools.partial"
