"""Parsing what was typed: Hydra's options and KEY=VALUE, refused in one line each."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import NoReturn

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Sweep
from hydra.errors import OverrideParseException

from ganrun.config.groups import COMMANDS, Choices, written
from ganrun.core.errors import ConfigError, nearest


def hydras_order(arguments: list[str], overrides: list[str]) -> list[str]:
    """The options first: Hydra's parser gives up when they stand between overrides."""
    options = list(arguments)
    for override in overrides:
        options.remove(override)
    return [*options, *overrides]


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
    if options.config_dir is not None and not Path(options.config_dir).is_dir():
        raise ConfigError("--config-dir", f"no folder {options.config_dir}", "a folder that holds YAML files in groups")
    return options


def own_folders(options: argparse.Namespace) -> list[Path]:
    """The user's own folders of configuration."""
    folders = [options.config_dir] if options.config_dir else []
    for override in options.overrides:
        if override.lstrip("+").startswith("hydra.searchpath="):
            folders += override.split("=", 1)[1].strip("[]").split(",")
    return [Path(str(folder).strip("'\" ").removeprefix("file://")) for folder in folders]


def read_overrides(arguments: list[str]) -> list[Override]:
    """What is to be changed; refused when it is not KEY=VALUE."""
    try:
        overrides = OverridesParser.create().parse_overrides(arguments)
    except OverrideParseException as error:
        raise _unreadable(error.override) from error
    for override in overrides:
        if not override.key_or_group:
            raise _unreadable(str(override.input_line))
    return overrides


def _unreadable(argument: str) -> ConfigError:
    key, equals, value = argument.partition("=")
    if not equals and not argument.startswith(("~", "+", "-")):
        close = nearest(argument, COMMANDS)
        expected = f"one of the commands {', '.join(COMMANDS)}, or KEY=VALUE"
        return ConfigError(argument, "neither a command nor KEY=VALUE", expected, f"ganrun {close or '--help'}")
    quoted = f"'{key}=\"{value}\"'" if value and not set(value) & set("'\"[]{}(),") else "'tricks=[soft_labels,flip]'"
    return ConfigError(argument, "cannot be read", "KEY=VALUE", f"quotes, as in {quoted}")


def check(override: Override, choices: Choices) -> None:
    """Refuse what Hydra would accept silently, or refuse in many lines."""
    key, line = override.key_or_group, str(override.input_line)
    trick = key.removeprefix("tricks.")
    if override.is_delete() and trick != key and choices.is_setting(trick):
        raise ConfigError(line, f"{trick} is a setting; what it has set would stay", "", "'tricks=[...]' without it")
    if key not in choices.groups:
        return
    options = choices.options(key)
    if override.is_delete() and key != "experiment":
        remedy = written(key, [] if key == "tricks" else [choices.default(key)])
        raise ConfigError(line, f"a run without {key}", ", ".join(options), remedy)
    if override.is_add() and key != "tricks":
        raise ConfigError(line, f"{key} is chosen already", ", ".join(options), line.lstrip("+"))
    value = override.value()
    sweep = isinstance(value, Sweep)
    for choice in getattr(value, "list", None) or [] if sweep else [value]:
        choices.check(key, choice)
