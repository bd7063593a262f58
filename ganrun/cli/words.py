"""What a command that follows training is given: folders or files, and settings as KEY=VALUE, each of a known kind."""

from __future__ import annotations

import os
import typing
from collections.abc import Sequence
from dataclasses import MISSING, fields
from typing import Any, TypeVar

from ganrun.config.groups import expand_home
from ganrun.config.types import coerced, fits, unfit
from ganrun.core.errors import ConfigError, for_shell, nearest

Form = TypeVar("Form")
LONGEST = 255  # bytes of the name of a file, on any usual file system


def read_words(command: str, words: Sequence[str], form: type[Form], example: str) -> tuple[list[str], Form]:
    """The operands of a command, such as runs, and its settings: the fields of the dataclass `form`.

    A word is a setting when it has a `=` and is no path that exists. Values are read as in training: quotes, lists and
    `~` mean the same. `example` is a command that can be typed, for messages. Raises ConfigError for a setting that
    there is not, one that is missing, twice, or does not fit its annotation.
    """
    operands = [expand_home(word) for word in words if "=" not in word or os.path.lexists(expand_home(word))]
    given = _settings(command, [word for word in words if "=" in word and not os.path.lexists(expand_home(word))])
    hints = typing.get_type_hints(form, include_extras=True)
    for key, value in given.items():
        if key not in hints:
            close = nearest(key, hints)
            raise ConfigError(
                key, f"{command} has no such setting", ", ".join(hints), f"{close}=..." if close else example
            )
        if not fits(value, hints[key]):
            raise unfit(key, value, hints[key])
    for field in fields(form):  # type: ignore[arg-type]
        if field.name not in given and field.default is MISSING and field.default_factory is MISSING:
            raise ConfigError(field.name, "not set", "a value", example)
    return operands, form(**{key: coerced(value, hints[key]) for key, value in given.items()})


def one_operand(command: str, operands: Sequence[str], what: str, example: str) -> str:
    """The only operand. Raises ConfigError for none or several, and for what no file can be called."""
    if any(len(os.fsencode(part)) > LONGEST for operand in operands for part in operand.split("/")):
        raise ConfigError(command, "a name too long for a file", f"one {what}", example)
    if len(operands) != 1 or not operands[0]:
        found = f"{len(operands)} of them: {' '.join(operands)}" if operands else f"no {what} named"
        raise ConfigError(command, found, f"one {what}", example)
    return operands[0]


def with_remedy(arguments: Sequence[str], remedy: str) -> str:
    """The command that trains with a remedy, one word or more: what was typed, without what the remedy replaces."""
    from ganrun.config.overrides import replacing
    from ganrun.record.progress import command

    return " ".join([command("ganrun"), *map(for_shell, replacing(arguments, remedy.split()))])


def _settings(command: str, words: Sequence[str]) -> dict[str, Any]:
    from ganrun.config.overrides import read_overrides

    found: dict[str, Any] = {}
    for override in read_overrides(words) if words else ():
        key = override.key_or_group
        if override.is_delete() or override.is_add() or override.is_force_add() or override.is_sweep_override():
            raise ConfigError(key, f"{override.input_line!r} for {command}", "KEY=VALUE", f"{key}=VALUE")
        if key in found:
            raise ConfigError(key, "set twice", "once", f"{key}={override.value()}")
        found[key] = override.value()
    return found
