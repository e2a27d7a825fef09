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
from collections.abc import Iterator, Sequence
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar

from core import jsonio
from core.errors import PluginError, UserError

T = TypeVar("T")


class UnknownNameError(UserError):
    """A name that is not registered; the message lists the known names and the closest one."""


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
        self._parts: dict[str, T] = {}
        self._defined: dict[str, Any] = {}
        """The class or function that defines a part: the part itself, or what it was built from."""
        self._built_in_loaded = self._plugins_loaded = False

    def register(self, name: str, part: T, *, defined: Any = None) -> None:
        """Register a part; `defined` is the class or function it was built from, if it is not one itself.

        Registering the same definition again (a notebook cell that is run twice) replaces it. Raises
        PluginError if another part has the name.
        """
        defined = part if defined is None else defined
        earlier, now = _place(self._defined.get(name, defined)), _place(defined)
        if earlier != now:
            raise PluginError(f"two definitions of the {self.kind} {name!r}: {earlier} and {now}; rename one")
        self._parts[name], self._defined[name] = part, defined

    def remove(self, name: str) -> None:
        """Remove a part, for instance one that a test registered."""
        del self._parts[name], self._defined[name]

    def get(self, name: str) -> T:
        """Return the part called `name`. Raises UnknownNameError, which lists the known names."""
        if name not in self:
            close = difflib.get_close_matches(name, self._parts, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            known = ", ".join(self._parts) or "none"
            raise UnknownNameError(f"no {self.kind} is called {name!r}{hint} (known: {known})")
        return self._parts[name]

    def __contains__(self, name: str) -> bool:
        self._load_built_in()
        if name not in self._parts:
            self._load_plugins()
        return name in self._parts

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names, in registration order: built-in parts first."""
        self._load_built_in()
        self._load_plugins()
        return iter(tuple(self._parts))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def items(self) -> Iterator[tuple[str, T]]:
        """Iterate over names and parts, in registration order."""
        return ((name, self._parts[name]) for name in self)

    def built_in(self) -> tuple[str, ...]:
        """Return the names of the built-in parts, without loading plug-ins."""
        self._load_built_in()
        return tuple(filter(self._is_built_in, self._parts))

    def provenance(self, name: str) -> str:
        """Return what identifies the code of a part in cache keys: "" for a built-in part.

        The distribution and its version for a part from a plug-in; for any other part, for instance one from
        a notebook, the digest of its source, or its place where the source cannot be read.
        """
        self.get(name)
        defined = self._defined[name]
        if self._is_built_in(name):
            return ""
        package = _module(defined).partition(".")[0]
        for point in entry_points(group=self.group):
            if point.module.partition(".")[0] == package and point.dist is not None:
                return f"{point.dist.name} {point.dist.version}"
        try:
            return jsonio.digest(inspect.getsource(defined))
        except (OSError, TypeError):
            return _place(defined)

    def _is_built_in(self, name: str) -> bool:
        module = _module(self._defined[name])
        return module in self._modules or module.partition(".")[0] == __name__.partition(".")[0]

    def _load_built_in(self) -> None:
        if not self._built_in_loaded:
            self._built_in_loaded = True  # set first: a module that registers parts may look up others
            for module in self._modules:
                importlib.import_module(module)

    def _load_plugins(self) -> None:
        if self._plugins_loaded:
            return
        self._plugins_loaded = True
        for point in entry_points(group=self.group):
            try:
                point.load()
            except Exception as e:
                self._plugins_loaded = False  # the next lookup fails with the same error
                name = point.dist.name if point.dist else "an unknown distribution"
                version = f" {point.dist.version}" if point.dist else ""
                raise PluginError(
                    f"{name}{version} cannot provide its {self.kind} {point.name!r} (entry point "
                    f"{point.value} in group {self.group}): {type(e).__name__}: {e}; "
                    f"update or uninstall {name if point.dist else 'it'}"
                ) from e


def _module(defined: Any) -> str:
    return str(getattr(defined, "__module__", None) or type(defined).__module__)


def _place(defined: Any) -> str:
    return f"{_module(defined)}.{getattr(defined, '__qualname__', type(defined).__qualname__)}"
