"""Parsing what was typed: Hydra's options and KEY=VALUE, refused in one line each."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Sweep
from hydra.errors import OverrideParseException

from ganrun.config.groups import COMMANDS, Choices, expand_home, own_folder, written
from ganrun.config.nested import check_nested
from ganrun.config.types import fits, unfit
from ganrun.core.errors import ConfigError, for_shell, literal, nearest, typed

# `~` in what is typed: at the beginning of a value, or of one in a list, a mapping or a sweep.
TYPED_HOME = re.compile(r"(^|(?:^|[\[(,:])\s*['\"]?(?:file://)?)~(?=/|$)")


def _home_expanded(argument: str) -> str:
    """An option or KEY=VALUE with `~` expanded in its value."""
    key, equals, value = argument.partition("=")
    if not equals:
        return argument if argument.startswith("~") and not argument.startswith("~/") else expand_home(argument)
    return f"{key}={TYPED_HOME.sub(lambda found: found[1] + os.path.expanduser('~'), value)}"


def hydras_order(arguments: Sequence[str], typed: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """The options last: Hydra's parser gives up when they stand between overrides, here as typed and as read.

    Not first: an option that may have a value, such as `--info`, would take an override for it.
    """
    options = [word for word in arguments if word != "--"]  # Hydra refuses it as the last argument
    for override in typed:
        options.remove(override)
    return [*overrides, *map(_home_expanded, options)]


def read_options(arguments: list[str]) -> argparse.Namespace:
    """Hydra's own options, and everything else as `overrides`. Raises ConfigError for what is neither."""
    from hydra._internal.utils import get_args_parser

    def refuse(message: str) -> NoReturn:
        raise ConfigError("ganrun", message, "KEY=VALUE and the options of Hydra", "ganrun --help")

    try:
        os.getcwd()
    except OSError as error:
        raise ConfigError("the current folder", "is not there any more", "one that is", "cd") from error
    parser = get_args_parser()
    parser.error = refuse  # type: ignore[method-assign]
    options = parser.parse_intermixed_args(arguments)
    if options.experimental_rerun is not None:
        raise ConfigError("--experimental-rerun", "a pickle may run any code", "a run's folder", "ganrun resume RUN")
    if options.cfg and options.multirun:
        expected = "one of the two: to show the configuration, or to train"
        raise ConfigError("--cfg", "together with -m", expected, "--cfg without -m")
    if options.config_dir is not None:
        options.config_dir = str(own_folder(options.config_dir))
    return options


def own_folders(options: argparse.Namespace) -> list[Path]:
    """The user's own folders of configuration."""
    folders = [options.config_dir] if options.config_dir else []
    for override in options.overrides:
        if override.lstrip("+").startswith("hydra.searchpath="):
            folders += override.split("=", 1)[1].strip("[]").split(",")
    return [Path(expand_home(str(folder).strip("'\" ").removeprefix("file://"))) for folder in folders]


def read_overrides(arguments: Sequence[str]) -> list[Override]:
    """What is to be changed, with `~` expanded in every value. Raises ConfigError for what is not KEY=VALUE."""
    try:
        overrides = OverridesParser.create().parse_overrides([*map(_home_expanded, arguments)])
    except OverrideParseException as error:
        raise _unreadable(error.override) from error
    except (ValueError, RecursionError) as error:  # such as a number of more digits than Python reads
        raise ConfigError(
            "ganrun", f"an argument that cannot be read ({error})", "KEY=VALUE", "a shorter one"
        ) from error
    for override in overrides:
        if not override.key_or_group:
            raise _unreadable(str(override.input_line))
    return overrides


def is_readable(argument: str) -> bool:
    """Whether Hydra's parser reads this as KEY=VALUE."""
    try:
        return bool(OverridesParser.create().parse_overrides([argument])[0].key_or_group)
    except (OverrideParseException, ValueError, RecursionError):
        return False


def _unreadable(argument: str) -> ConfigError:
    """What cannot be read, and the nearest to it that can: without spaces, with its bracket closed, or in quotes."""
    key, equals, value = argument.partition("=")
    argument = argument if argument.strip() else repr(argument)
    if not equals and not argument.startswith(("~", "+", "-")):
        close = nearest(argument, COMMANDS)
        expected = f"one of the commands {', '.join(COMMANDS)}, or KEY=VALUE"
        return ConfigError(argument, "neither a command nor KEY=VALUE", expected, f"ganrun {close or '--help'}")
    key, value = key.strip(), value.strip()
    close = {"[": "]", "{": "}"}.get(value[:1], "")
    candidates = [f"{key}={value}", *([f"{key}={value}{close}"] if close else []), f"{key}={literal(value)}"]
    remedy = next((for_shell(one) for one in candidates if equals and is_readable(one)), "ganrun --help")
    return ConfigError(argument, "cannot be read", "KEY=VALUE", remedy)


def refuse_several(override: Override) -> None:
    """Raises ConfigError for several values where one run is to have one."""
    key, line = override.get_key_element(), str(override.input_line)
    if override.is_sweep_override():
        value = line.partition("=")[2]
        ways = [f"ganrun -m {for_shell(line)} for a run each"]
        if is_readable(f"{key}=[{value}]") and "(" not in value:
            ways.append(f"{for_shell(f'{key}=[{value}]')} for a list")
        ways.append(f"{typed(key, value)} for text")
        raise ConfigError(key, f"{value}, which is several values", "one", ", ".join(ways[:-1]) + f" or {ways[-1]}")


def check(override: Override, choices: Choices) -> None:
    """Refuse what Hydra would accept silently, or refuse in many lines."""
    key, line = override.key_or_group, str(override.input_line)
    if key == "hydra.searchpath" and not override.is_delete():
        value = override.value()
        if not fits(value, list[str]):
            raise unfit(key, value, list[str]).trying("--config-dir FOLDER")
    if key == "hydra.output_subdir" and not override.is_delete() and override.value() is not None:
        found = f"{override.value()}, where Hydra would write configuration of its own"
        raise ConfigError(key, found, "null, as a run writes its own", "hydra.output_subdir=null")
    trick = key.removeprefix("tricks.")
    if override.is_delete() and trick != key and choices.is_setting(trick):
        expected = "a trick that can be taken out of a list"
        raise ConfigError(
            line, f"{trick} is a setting; what it has set would stay", expected, "tricks=[...] without it"
        )
    check_nested(override, choices)
    if key not in choices.groups:
        return
    options, typed = choices.options(key), override.get_key_element().lstrip("+~")
    if override.is_delete() and key != "experiment":
        remedy = written(typed, [] if key == "tricks" else [choices.default(key)])
        raise ConfigError(line, f"a run without {key}", ", ".join(options), remedy)
    if override.is_add() and key != "tricks":
        raise ConfigError(line, f"{key} is chosen already", ", ".join(options), line.lstrip("+"))
    value = override.value()
    sweep = isinstance(value, Sweep)
    for choice in getattr(value, "list", None) or [] if sweep else [value]:
        choices.check(key, choice, typed)


def replacing(arguments: Sequence[str], words: Sequence[str]) -> list[str]:
    """Arguments with these overrides at their end, without what they replace. Raises ConfigError."""
    kept = list(arguments)
    overrides = read_options(kept).overrides
    typed = list(zip(overrides, read_overrides(overrides), strict=True))
    for new in read_overrides(words):
        for word, old in typed:
            replaced = f"{_place(old)}.".startswith(f"{_place(new)}.")
            if replaced and (new.key_or_group != "tricks" or _lists_tricks(word)) and word in kept:
                kept.remove(word)
    return [*kept, *words]


def _place(override: Override) -> str:
    """Where in the configuration this override acts: for GROUP@PLACE that is the place."""
    return override.package or override.key_or_group


def _lists_tricks(word: str) -> bool:
    """Whether this override is a list of tricks, not a setting of one."""
    return word.lstrip("+~").startswith("tricks=")
