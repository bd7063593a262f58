"""Configuration nodes become objects: only the project's own classes, torch's optimisers, and named plug-ins."""

from __future__ import annotations

import importlib
import inspect
import typing
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

from ganrun.config.types import coerced, fits, unfit
from ganrun.core.errors import ConfigError, nearest, typed

T = TypeVar("T")
OWN = ("ganrun", "torch.optim")  # the roots from which a configuration may name a class
# What a constructor raises for settings that it refuses: any part, and PyTorch's optimisers.
REFUSALS = {False: (ValueError,), True: (ValueError, TypeError, RuntimeError)}


class Maker:
    """Builds what a node's `_target_` names, from that node's other keys, which must be the constructor's own.

    A configuration may come out of a checkpoint's folder, so a target is admitted only when it is a class that was
    defined below one of `OWN` or of `plugins`, the modules that the user named on the command line.
    """

    def __init__(self, plugins: Sequence[str] = ()):
        self.roots = (*OWN, *plugins)
        self._parts: dict[str, type] = {}  # target -> class, looked up once

    def __call__(self, node: Any, where: str, kinds: tuple[type, ...] = (object,), **extra: Any) -> Any:
        """The value that `node` describes; a class that it names must be of one of these kinds.

        `where` is its place in the configuration, for messages. Raises ConfigError for a class of another kind, before
        it is called.
        """
        if isinstance(node, Mapping) and "_target_" in node:
            return self._call(node, where, kinds, extra)
        if isinstance(node, Mapping):
            return {key: self(value, f"{where}.{key}", kinds) for key, value in node.items()}
        if isinstance(node, list):
            return [self(value, f"{where}[{i}]", kinds) for i, value in enumerate(node)]
        return node

    def a(self, kind: type[T], node: Any, where: str, **extra: Any) -> T:
        """The object that `node` describes, which must be of this kind. Raises ConfigError for another one."""
        return self(node, where, (kind,), **extra)

    def kind(self, kind: type[T], node: Any, where: str) -> type[T]:
        """The class that `node` names, which must be of this kind. Raises ConfigError for another one."""
        return self._of(node, where, (kind,))

    def _of(self, node: Mapping, where: str, kinds: tuple[type, ...]) -> type:
        part = self.part(node["_target_"], where)
        if not issubclass(part, kinds):
            expected = " or ".join(f"a {kind.__name__} ({kind.__module__}.{kind.__name__})" for kind in kinds)
            raise ConfigError(where, str(node["_target_"]), expected or "a plain value")
        return part

    def _call(self, node: Mapping, where: str, kinds: tuple[type, ...], extra: dict[str, Any]) -> Any:
        part = self._of(node, where, kinds)
        given = {key: value for key, value in node.items() if key != "_target_"}
        check_signature(part, given, where, known=set(extra))
        hints = hints_of(part)
        settings = {key: self(value, f"{where}.{key}", classes(hints.get(key))) for key, value in given.items()}
        settings = check_types(part, settings, where)
        try:
            return part(**settings, **extra)
        except ConfigError as error:
            raise error.at(where) from error
        except REFUSALS[is_torchs(part)] as error:
            raise _refusal(part, settings, extra, where, error) from error

    def part(self, target: Any, where: str) -> type:
        """The class that a dotted name stands for. Raises ConfigError when a configuration may not name it."""
        name = str(target)
        if name not in self._parts:
            self._parts[name] = self._find(name, where)
        return self._parts[name]

    def _find(self, target: str, where: str) -> type:
        if not any(target.startswith(f"{root}.") for root in self.roots):
            expected = "a class of ganrun, of torch.optim or of a plug-in"
            module = target.partition(".")[0]
            remedy = f"{typed('plugins', [module])} if that module is yours" if module.isidentifier() else ""
            raise ConfigError(where, f"{target} may not be built from a configuration", expected, remedy)
        module, _, name = target.rpartition(".")
        try:
            part = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise ConfigError(where, f"{target} cannot be imported ({error})", "the dotted name of a class") from error
        home = getattr(part, "__module__", "")
        if not inspect.isclass(part) or not any(f"{home}.".startswith(f"{root}.") for root in self.roots):
            found = f"{target} is not a class of ganrun, of torch.optim or of a plug-in"
            raise ConfigError(where, found, "the dotted name of one")
        if inspect.isabstract(part):
            raise ConfigError(where, f"{target} is abstract", "a class that is made from it")
        return part


def check_signature(part: type, given: Mapping[str, Any], where: str, known: set[str] = frozenset()) -> None:  # type: ignore[assignment]
    """Raises ConfigError unless every key is a parameter of the constructor and none that it needs is missing."""
    parameters = inspect.signature(part).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    names = [name for name in parameters if name not in known]
    for key in given:
        if key not in names:
            close = nearest(key, names)
            left = f"'~{where}.{key}', if another choice has left it there"
            remedy = f"{where}.{close}, or {left}" if close else left
            expected = ", ".join(names) or "no settings"
            raise ConfigError(f"{where}.{key}", f"{part.__name__} has no such setting", expected, remedy)
    for name in names:
        if parameters[name].default is inspect.Parameter.empty and name not in given:
            raise ConfigError(f"{where}.{name}", "not set", f"a value: {part.__name__} needs it")


@cache
def hints_of(part: type) -> dict[str, Any]:
    """The annotations of the constructor by parameter; none for a class whose annotations cannot be resolved."""
    try:
        return typing.get_type_hints(part.__init__)  # type: ignore[misc]
    except (NameError, TypeError):
        return {}


def classes(hint: Any) -> tuple[type, ...]:
    """The classes that a configuration may name where this annotation stands; none in one for plain values alone."""
    args = typing.get_args(hint)
    if args:
        return tuple(dict.fromkeys(kind for arg in args for kind in classes(arg)))
    plain = hint in (None, Any, int, float, str, bool, object, list, dict, tuple) or not inspect.isclass(hint)
    return () if plain or hint.__module__ in ("builtins", "collections.abc") else (hint,)


def check_types(part: type, settings: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The settings as the constructor takes them. Raises ConfigError for a value that does not fit its annotation."""
    hints = hints_of(part)
    for key, value in settings.items():
        if key in hints and not fits(value, hints[key]):
            raise unfit(f"{where}.{key}", value, hints[key])
    return {key: coerced(value, hints.get(key, Any)) if is_torchs(part) else value for key, value in settings.items()}


def is_torchs(part: type) -> bool:
    """Whether this is one of PyTorch's optimisers, which tell whole numbers from real ones and refuse in own words."""
    return part.__module__.startswith("torch.optim")


def _refusal(part: type, settings: dict[str, Any], extra: dict[str, Any], where: str, error: Exception) -> ConfigError:
    """What a constructor refuses in its own words; of PyTorch's, at the setting without which it would not."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    for key, value in settings.items() if is_torchs(part) else ():  # parts of ours may be slow to make
        try:
            part(**{name: other for name, other in settings.items() if name != key}, **extra)
        except REFUSALS[True]:
            continue
        shown = list(value) if isinstance(value, tuple) else value
        return ConfigError(f"{where}.{key}", repr(shown), f"what {part.__name__} takes ({text})")
    return ConfigError(where, text, f"settings that {part.__name__} takes")
