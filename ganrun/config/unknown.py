"""Keys that a configuration does not have, and where something like them is. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from ganrun.config.groups import Choices, written
from ganrun.core.errors import ConfigError, for_shell, nearest

MOST = 3  # keys or choices that a remedy names


def no_such_setting(key: str, line: str, known: Sequence[str], choices: Choices | None = None) -> ConfigError:
    """The refusal of a key, typed as `line`: what its place has, and the same value where it belongs."""
    equals, value = line.partition("=")[1:]
    found = "there is no such setting"
    beside = _beside(key, known)
    expected = f"one of {', '.join(beside)}" if beside else "one of those that there are"

    def with_value(name: str) -> str:
        return for_shell(f"{'~' * line.startswith('~')}{name}{equals}{value}")

    if same := _same_name(key, known):
        return ConfigError(key, found, expected, " ".join(map(with_value, same)))
    if choices is not None and (others := _other_choices(key, choices)):
        group = key.partition(".")[0]
        remedy = " or ".join(f"{group}={choice} {with_value(key)}" for choice in others)
        return ConfigError(key, f"{found} with this {group}", expected, remedy)
    close = nearest(key, [*known, *(choices.groups if choices else ())])
    return ConfigError(key, found, expected, with_value(close) if close else "ganrun --cfg job, which lists all")


def not_chosen(key: str, trick: str, chosen: Sequence[str], choices: Choices) -> ConfigError:
    """The refusal of a setting of a trick that is not selected."""
    options = choices.options("tricks")
    name = trick if trick in options else nearest(trick, options)
    among = f"the tricks are {', '.join(chosen)}" if chosen else "there are no tricks"
    if not name:
        return ConfigError(
            key, f"there is no trick {trick}", ", ".join(options), "ganrun --help, which lists the tricks"
        )
    return ConfigError(
        key, f"{trick} is not among the tricks", f"one that is: {among}", written("tricks", [*chosen, name])
    )


def _beside(key: str, known: Sequence[str]) -> list[str]:
    """The keys at the place of this one, or at the nearest place above it that there is."""
    place = key.rpartition(".")[0]
    while place and not any(name.startswith(f"{place}.") for name in known):
        place = place.rpartition(".")[0]
    start = f"{place}." if place else ""
    names = [name[len(start) :].partition(".")[0] for name in known if name.startswith(start)]
    return list(dict.fromkeys(name for name in names if not name.startswith("_")))


def _same_name(key: str, known: Sequence[str]) -> list[str]:
    """The settings of the same name at other places: of both players for `optim.lr`. Empty when there are many."""
    place, _, last = key.rpartition(".")
    found = [name for name in known if name.endswith(f".{last}") and f"{name}.".startswith(f"{place}." * bool(place))]
    return found if len(found) <= MOST else []


def _other_choices(key: str, choices: Choices) -> list[str]:
    """The choices of the group that do have this setting, the first of many."""
    group, _, inner = key.partition(".")
    nested = choices.inside(group).get(inner.partition(".")[0]) if group in choices.groups else None
    if nested is not None:
        return nested.options[:MOST]
    found = (
        []
        if group not in choices.groups or not inner
        else [c for c in choices.options(group) if _has(c, group, inner, choices)]
    )
    return found[:MOST]


def _has(choice: str, group: str, inner: str, choices: Choices) -> bool:
    paths = [folder / group / f"{choice}.yaml" for folder in choices.folders]
    try:
        text = next(path for path in reversed(paths) if path.is_file()).read_text(encoding="utf-8")
        return inner.rpartition(".")[2] in text and inner in leaves(yaml.load(text, yaml.CSafeLoader))
    except (OSError, ValueError, yaml.YAMLError):
        return False


def leaves(node: Any, prefix: str = "") -> Iterator[str]:
    """The dotted name of every key, inner ones too."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield f"{prefix}{key}"
            yield from leaves(value, f"{prefix}{key}.")


def flat(node: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted name -> value, for every value that is not itself a mapping with keys."""
    if not isinstance(node, dict) or not node:
        return {prefix.rstrip("."): node}
    return {name: v for key, value in node.items() for name, v in flat(value, f"{prefix}{key}.").items()}
