"""Where Hydra composes a configuration, and where its complaints become one line each."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Sweep
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ganrun.choices import COMMANDS, Choices, written
from ganrun.errors import Refused, nearest


class FolderMade(Callback):
    """Remembers the folder that Hydra is about to make, so that what was refused leaves nothing behind."""

    folder: ClassVar[Path] = Path()
    first: ClassVar[Path | None] = None  # the uppermost part of it that was not there before

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        self.remember(Path(config.hydra.run.dir).absolute())

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        self.remember(Path(config.hydra.sweep.dir).absolute())

    @classmethod
    def remember(cls, folder: Path) -> None:
        cls.folder = folder
        cls.first = next((part for part in reversed((folder, *folder.parents)) if not part.exists()), None)

    @classmethod
    def forget(cls) -> None:
        """Remove the folder if nothing is in it but Hydra's note about the sweep."""
        with suppress(OSError):
            if cls.first is not None and [path.name for path in cls.folder.iterdir()] == ["multirun.yaml"]:
                (cls.folder / "multirun.yaml").unlink()
        cls.remove_empty(cls.folder)

    @classmethod
    def remove_empty(cls, folder: Path) -> None:
        """Remove this folder and those above it, as far as Hydra made them and nothing is in them."""
        for path in (folder, *folder.parents):
            if cls.first is None or not path.is_relative_to(cls.first):
                return
            with suppress(OSError):
                path.rmdir()


def hydra_run(arguments: list[str], task: Callable[[DictConfig], Any]) -> None:
    """Let Hydra read the arguments and call `task` with what they compose; refuse what it cannot compose."""
    import hydra

    options = read_options(arguments)
    choices = Choices(_folders(options))
    overrides = read_overrides(options.overrides)
    for override in overrides:
        _check(override, choices)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises its errors here instead of printing them
    flags = list(arguments)
    for override in options.overrides:
        flags.remove(override)
    FolderMade.first = None
    saved, sys.argv = sys.argv, [sys.argv[0], *flags, *options.overrides]  # argparse wants them in this order
    try:
        hydra.main(version_base="1.3", config_path="pkg://ganrun.conf", config_name="config")(task)()
    except MissingConfigException as error:
        options = ", ".join(error.options or []) or "a YAML file of a group"
        raise Refused(error.missing_cfg_file or "configuration", "there is no such file", options,
                      "ganrun --info searchpath, which lists the folders") from error  # fmt: skip
    except ConfigCompositionException as error:
        raise _no_such_key(error, overrides, choices) from error
    except (HydraException, OmegaConfBaseException) as error:
        raise Refused("configuration", str(error)) from error
    except OSError as error:
        if error.filename is None:
            raise
        place, why = error.filename, (error.strerror or str(error)).lower()
        raise Refused(str(place), why, "a folder that can be written", "hydra.run.dir=another/folder") from error
    finally:
        sys.argv = saved
        FolderMade.forget()


def read_options(arguments: list[str]) -> argparse.Namespace:
    """Hydra's own options, and everything else as `overrides`."""
    from hydra._internal.utils import get_args_parser

    def refuse(message: str) -> NoReturn:
        raise Refused("ganrun", message, "KEY=VALUE and the options of Hydra", "ganrun --help")

    parser = get_args_parser()
    parser.error = refuse  # type: ignore[method-assign]
    options = parser.parse_intermixed_args(arguments)
    if options.experimental_rerun is not None:
        raise Refused("--experimental-rerun", "a pickle may run any code", "a run's folder", "ganrun resume RUN")
    if options.config_dir is not None and not Path(options.config_dir).is_dir():
        raise Refused("--config-dir", f"no folder {options.config_dir}", "a folder that holds YAML files in groups")
    return options


def _folders(options: argparse.Namespace) -> list[Path]:
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


def _unreadable(argument: str) -> Refused:
    key, equals, value = argument.partition("=")
    if not equals and not argument.startswith(("~", "+", "-")):
        close = nearest(argument, COMMANDS)
        expected = f"one of the commands {', '.join(COMMANDS)}, or KEY=VALUE"
        return Refused(argument, "neither a command nor KEY=VALUE", expected, f"ganrun {close or '--help'}")
    quoted = f"'{key}=\"{value}\"'" if value and not set(value) & set("'\"[]{}(),") else "'tricks=[soft_labels,flip]'"
    return Refused(argument, "cannot be read", "KEY=VALUE", f"quotes, as in {quoted}")


def _check(override: Override, choices: Choices) -> None:
    """Refuse what Hydra would take without a word, or refuse in many."""
    key, line = override.key_or_group, str(override.input_line)
    trick = key.removeprefix("tricks.")
    if override.is_delete() and trick != key and choices.is_setting(trick):
        raise Refused(line, f"{trick} is a setting; what it has set would stay", "", "'tricks=[...]' without it")
    if key not in choices.groups:
        return
    options = choices.options(key)
    if override.is_delete() and key != "experiment":
        raise Refused(line, f"a run without {key}", ", ".join(options), written(key, [] if key == "tricks" else options[:1]))
    if override.is_add() and key != "tricks":
        raise Refused(line, f"{key} is chosen already", ", ".join(options), line.lstrip("+"))
    value = override.value()
    sweep = isinstance(value, Sweep)
    for choice in getattr(value, "list", None) or [] if sweep else [value]:
        choices.check(key, choice)


def _no_such_key(error: ConfigCompositionException, overrides: list[Override], choices: Choices) -> Refused:
    """A key that the configuration does not have, with the most similar one that it has."""
    found = re.search(r"Could not (override|delete|append)[^']*'([^']+)'", str(error))
    if not found:
        return Refused("configuration", str(error).split("\n")[0])
    key = found[2].split("=")[0].lstrip("~+").split("@")[0]
    known = _known_keys(overrides, choices)
    if found[1] == "append" and key in known:
        return Refused(f"+{key}", "it is there already", "a new key", f"{key}=..., without the +")
    if key.startswith("hydra"):
        return Refused(key, "there is no such setting", "", "ganrun --cfg hydra, which lists those of Hydra")
    chosen = list(dict.fromkeys(name.split(".")[1] for name in known if name.startswith("tricks.")))
    trick = key.split(".")[1] if key.startswith("tricks.") else ""
    if trick and trick not in chosen and found[1] == "delete":
        return Refused(f"~{key}", f"{trick} is not among the tricks", ", ".join(chosen), "the same without it")
    if trick and trick not in chosen:
        return _not_chosen(key, trick, chosen, choices)
    close = nearest(key, [*known, *choices.groups])
    return Refused(key, "there is no such setting", "", f"{close}=..." if close else "ganrun --cfg job, which lists all")


def _not_chosen(key: str, trick: str, chosen: list[str], choices: Choices) -> Refused:
    """A setting of a trick that is not played."""
    options = choices.options("tricks")
    name = trick if trick in options else nearest(trick, options)
    among = f"the tricks are {', '.join(chosen)}" if chosen else "there are no tricks"
    if not name:
        return Refused(key, f"there is no trick {trick}", ", ".join(options), "ganrun --help, which lists the tricks")
    return Refused(key, f"{trick} is not among the tricks", f"one that is: {among}", written("tricks", [*chosen, name]))


def _known_keys(overrides: list[Override], choices: Choices) -> list[str]:
    """Every key of the configuration under the choices that were made, as far as they compose."""
    from hydra import compose, initialize_config_module

    os.environ.setdefault("GANRUN_TAG", "")
    places = ",".join(f"file://{folder.absolute()}" for folder in choices.folders[1:])
    made = [o.input_line for o in overrides if o.key_or_group in choices.groups and not o.is_sweep_override()]
    for some in (made, []):
        try:
            with initialize_config_module("ganrun.conf", version_base="1.3"):
                cfg = compose("config", [*map(str, some), f"hydra.searchpath=[{places}]"])
                return list(flat(OmegaConf.to_container(cfg)))
        except HydraException:
            continue
    return []


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
