"""Settings of runs: what all have in common, and what differs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ganrun.core.errors import ConfigError
from ganrun.record.results import finite
from ganrun.record.stored import text

Settings = dict[str, Any]  # dotted name -> a plain value; lists are values, and so is an empty mapping

LARGEST = 2**20  # characters of config.yaml
DEEPEST = 50  # mappings and lists inside each other
TARGET = "_target_"
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
MISSING = object()
DASH = "\N{EN DASH}"  # for what is not there


def read_settings(path: Path) -> Settings:
    """Every setting of a run's config.yaml. Raises ConfigError for what no run has written."""
    content = text(path)
    if content is None:
        raise _foreign(path, "is missing")
    if len(content) > LARGEST:
        raise _foreign(path, f"has more than {LARGEST:,} characters")
    try:
        _check(content)
        found = yaml.load(content, Loader=LOADER)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError, OverflowError) as error:
        raise _foreign(path, "cannot be read as YAML") from error
    if not isinstance(found, dict):
        raise _foreign(path, "holds no settings")
    return dict(flat(found))


def _check(content: str) -> None:
    """Raises ValueError for aliases, which may stand for billions of values, and for what is nested too deep."""
    depth = 0
    for event in yaml.parse(content, Loader=LOADER):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent) or depth > DEEPEST:
            raise ValueError("no configuration of a run")


def _foreign(path: Path, found: str) -> ConfigError:
    return ConfigError(str(path), found, "what the run wrote", "a copy of it")


def flat(node: Mapping[Any, Any], where: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values. The tricks come as one list of their names too: their order is that of the run."""
    for key, value in node.items():
        name = f"{where}.{key}" if where else str(key)
        if name == "tricks" and isinstance(value, dict):
            yield name, list(map(str, value))
        if isinstance(value, dict) and value:
            yield from flat(value, name)
        elif not isinstance(value, dict) or name != "tricks":
            yield name, value


def shown(value: Any) -> str:
    """A value as the page shows it; a dash where a run does not have the setting."""
    if value is MISSING:
        return DASH
    if isinstance(value, list):
        return ", ".join(map(shown, value)) if value else "none"
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    number = finite(value)
    return str(value) if number is None or isinstance(value, int) else f"{number:.6g}"


def key_of(value: Any) -> str:
    """A text that is the same for equal values alone."""
    return "" if value is MISSING else json.dumps(value, sort_keys=True, default=str)


def without_seed(settings: Settings) -> str:
    """The same for runs that differ in the seed alone."""
    return json.dumps({key: value for key, value in settings.items() if key != "seed"}, sort_keys=True, default=str)


def split(several: Sequence[Settings]) -> tuple[Settings, list[str]]:
    """The settings that all have in common, and the names of those that differ, in the order of the configurations.

    A setting of a part that not every run has, such as a trick, differs only where those that have it differ: that the
    part itself is not everywhere is seen already.
    """
    names = list(dict.fromkeys(name for settings in several for name in settings))
    common = {name: several[0][name] for name in names if _is_common(name, several)}
    parts = _optional_parts(several, names)
    differing = [name for name in names if name not in common and not _implied(name, several, parts)]
    return common, differing


def _is_common(name: str, several: Sequence[Settings]) -> bool:
    return len({key_of(settings.get(name, MISSING)) for settings in several}) == 1


def _optional_parts(several: Sequence[Settings], names: Sequence[str]) -> tuple[str, ...]:
    """The places of parts, such as `tricks.ema`, that differ in what is built there, each with a dot at its end."""
    targets = [name for name in names if name.endswith(f".{TARGET}") and not _is_common(name, several)]
    return tuple(name.removesuffix(TARGET) for name in targets)


def _implied(name: str, several: Sequence[Settings], parts: tuple[str, ...]) -> bool:
    having = [key_of(settings[name]) for settings in several if name in settings]
    if len(having) == len(several):
        return False
    if name.startswith("tricks."):
        return len(set(having)) == 1
    return name.startswith(parts) and len(set(having)) == 1 and not name.endswith(TARGET)
