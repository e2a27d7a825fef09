"""Registries of named parts: rejection rules, metrics, rewards, engines, report sections.

A part is registered where it is defined, so adding one touches one file. Another distribution adds its parts
through an entry point of the registry's group, which names the module that registers them:

    [project.entry-points."understudy.rules"]
    no_emoji = "my_package.rules"
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar, overload

from core import jsonio
from core.errors import PluginError, UserError

T = TypeVar("T")


class UnknownNameError(UserError):
    """A name that is not registered; the message lists the known names and the closest one."""


@dataclass(frozen=True, slots=True)
class _Entry(Generic[T]):
    value: T
    defined: Any
    """The class or function that defines the part: the value itself, or what the value was built from."""

    @property
    def module(self) -> str:
        return str(getattr(self.defined, "__module__", None) or type(self.defined).__module__)

    @property
    def place(self) -> str:
        return f"{self.module}.{getattr(self.defined, '__qualname__', type(self.defined).__qualname__)}"


class Registry(Generic[T]):
    """Named parts of one kind, in registration order.

    `kind` is the singular noun for messages and `group` the entry-point group for other distributions.
    `modules` define the built-in parts; they are imported at the first lookup, so that a registry is cheap to
    import. Entry points are loaded once: at the first iteration, or at the first lookup of a name that is not
    built in. Lookups raise PluginError if an entry point cannot be loaded.
    """

    def __init__(self, kind: str, group: str, modules: Sequence[str] = ()) -> None:
        self.kind, self.group = kind, group
        self._modules = tuple(modules)
        self._entries: dict[str, _Entry[T]] = {}
        self._built_in_loaded = self._plugins_loaded = False

    @overload
    def register(self, name: str, *, defined: Any = None) -> Callable[[T], T]: ...
    @overload
    def register(self, name: str, value: T, *, defined: Any = None) -> T: ...
    def register(self, name: str, value: T | None = None, *, defined: Any = None) -> Any:
        """Register `value` as `name`; without `value`, return a decorator that does.

        `defined` is the class or function that a value was built from, if it is not the value itself.
        Registering the same definition again (a notebook cell that is run twice) replaces it. Raises
        PluginError if another part has the name.
        """
        if value is None:
            return lambda decorated: self.register(name, decorated, defined=defined)
        entry = _Entry(value, value if defined is None else defined)
        earlier = self._entries.get(name)
        if earlier is not None and earlier.place != entry.place:
            raise PluginError(
                f"two definitions of the {self.kind} {name!r}: {earlier.place} and {entry.place}; rename one"
            )
        self._entries[name] = entry
        return value

    def remove(self, name: str) -> None:
        """Remove a part, for instance one that a test registered."""
        del self._entries[name]

    def get(self, name: str) -> T:
        """Return the part called `name`. Raises UnknownNameError, which lists the known names."""
        return self._entry(name).value

    def __contains__(self, name: str) -> bool:
        self._load_built_in()
        if name not in self._entries:
            self._load_plugins()
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names, in registration order: built-in parts first."""
        self._load_built_in()
        self._load_plugins()
        return iter(tuple(self._entries))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def items(self) -> Iterator[tuple[str, T]]:
        """Iterate over names and parts, in registration order."""
        return ((name, self._entries[name].value) for name in self)

    def built_in(self) -> tuple[str, ...]:
        """Return the names of the built-in parts, without loading plug-ins."""
        self._load_built_in()
        return tuple(name for name, entry in self._entries.items() if self._is_built_in(entry))

    def provenance(self, name: str) -> str:
        """Return what identifies the code of a part in cache keys: "" for a built-in part.

        The distribution and its version for a part from a plug-in; for any other part, for instance one from
        a notebook, the digest of its source, or its place where the source cannot be read.
        """
        entry = self._entry(name)
        if self._is_built_in(entry):
            return ""
        package = entry.module.partition(".")[0]
        for point in entry_points(group=self.group):
            if point.module.partition(".")[0] == package and point.dist is not None:
                return f"{point.dist.name} {point.dist.version}"
        try:
            return jsonio.digest(inspect.getsource(entry.defined))
        except (OSError, TypeError):
            return entry.place

    def _is_built_in(self, entry: _Entry[T]) -> bool:
        package = __name__.partition(".")[0]
        return entry.module in self._modules or entry.module.partition(".")[0] == package

    def _entry(self, name: str) -> _Entry[T]:
        if name not in self:
            names = tuple(self._entries)
            close = difflib.get_close_matches(name, names, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise UnknownNameError(
                f"no {self.kind} is called {name!r}{hint} (known: {', '.join(names) or 'none'})"
            )
        return self._entries[name]

    def _load_built_in(self) -> None:
        if not self._built_in_loaded:
            self._built_in_loaded = True  # set first: a module that registers parts may look up others
            for module in self._modules:
                importlib.import_module(module)

    def _load_plugins(self) -> None:
        if not self._plugins_loaded:
            self._plugins_loaded = True
            for point in entry_points(group=self.group):
                try:
                    point.load()
                except Exception as e:
                    self._plugins_loaded = False  # the next lookup fails with the same error
                    dist = point.dist
                    raise PluginError(
                        f"{f'{dist.name} {dist.version}' if dist else 'an unknown distribution'} cannot "
                        f"provide its {self.kind} {point.name!r} (entry point {point.value} in group "
                        f"{self.group}): {type(e).__name__}: {e}; "
                        f"update or uninstall {dist.name if dist else 'it'}"
                    ) from e
