"""Data sets in a data set, such as the two of `unpaired`: chosen by name, and of one shape."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.override_parser.types import Override

from ganrun.config.groups import Choices, Inside
from ganrun.core.errors import ConfigError, for_shell


def check_nested(override: Override, choices: Choices) -> None:
    """Refuse a choice for a place in another one where it is not typed as GROUP@GROUP.PLACE=NAME, and for no place."""
    typed = override.get_key_element().lstrip("+~")
    found = re.fullmatch(r"(\w+)[@./](?:\1[./])?(\w+)", typed)
    if found is None or found[1] not in choices.groups:
        return
    (group, place), value = found.groups(), str(override.input_line).partition("=")[2]
    inside, right = choices.inside(group), f"{group}@{group}.{place}"
    if place not in inside and override.package is not None:
        raise _no_place(typed, group, value, inside)
    if place in inside and typed != right and not value.startswith("{"):
        name = value if value in choices.options(group) else inside[place].choice
        raise ConfigError(typed, value or "no value", f"the choice of a {group}, as {right}=NAME", f"{right}={name}")


def not_nested(typed: str, overrides: Sequence[Override], choices: Choices) -> ConfigError:
    """The refusal of GROUP@GROUP.PLACE where the choice of the group has no such place."""
    lines = [str(one.input_line) for one in overrides if one.get_key_element().lstrip("~+") == typed]
    group = typed.partition("@")[0]
    return _no_place(typed, group, lines[0].partition("=")[2] if lines else "", choices.inside(group))


def _no_place(typed: str, group: str, value: str, inside: Mapping[str, Inside]) -> ConfigError:
    """The refusal, with a choice of the group that has this place, or else one that has another."""
    place = typed.rpartition(".")[2]
    found = f"the {group} that is chosen has no other one at {place}"
    if not inside:
        return ConfigError(typed, found, f"one {group}", f"leaving {typed} out")
    fitting = place if place in inside else next(iter(inside))
    right = for_shell(f"{group}@{group}.{fitting}={value or inside[fitting].choice}")
    options = inside[fitting].options
    return ConfigError(typed, found, f"one that has: {', '.join(options)}", f"{group}={options[0]} {right}")


def share_shape(node: Any, **shape: int | None) -> None:
    """Give every data set inside this one the `channels` and the `resolution` that are set for the whole."""
    for inner in node.values():
        if not isinstance(inner, Mapping):
            continue
        for key, value in shape.items() if "_target_" in inner else ():
            if value is not None and key in inner:
                inner[key] = value  # type: ignore[index]
        share_shape(inner, **shape)
