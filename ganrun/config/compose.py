"""Composing a configuration with Hydra, whose errors become one line each."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from ganrun.config.folder_made import FolderMade, expand
from ganrun.config.gate import check_plugins, gated
from ganrun.config.groups import CONF, Choices, expand_home
from ganrun.config.hydra_packages import missing
from ganrun.config.hydra_task import HydraTask, Task
from ganrun.config.nested import not_nested
from ganrun.config.overrides import check, hydras_order, own_folders, read_options, read_overrides, refuse_several
from ganrun.config.unknown import flat, no_such_setting, not_chosen
from ganrun.config.validate import check_values, find, unresolved
from ganrun.config.yaml_files import check_files
from ganrun.core.errors import ConfigError, literal

DEFAULT_NAME = "ganrun"  # of a run, in conf/config.yaml
LONGEST_NAME = 60  # characters of a run's name in that of its folder


def compose(overrides: Sequence[str] = (), folders: Sequence[Path] = ()) -> DictConfig:
    """The configuration of a run with these overrides, such as `model=mlp`; `hydra` is left out.

    `folders` hold configuration of your own. Raises ConfigError for what cannot be composed.
    """
    choices = Choices([Path(expand_home(str(folder))) for folder in folders])
    parsed = _parsed(overrides, choices, several=False)
    try:
        cfg = composed([str(one.input_line) for one in parsed], choices)
    except (HydraException, OmegaConfBaseException) as error:
        raise (
            _in_one_line(error, parsed, choices) or ConfigError("configuration", str(error), "one that Hydra composes")
        ) from error
    return _finished(cfg, parsed)


def hydra_run(arguments: list[str], task: Task, elsewhere: Callable[[], Task] | None = None) -> None:
    """Let Hydra call `task`, or `elsewhere()` in processes of a launcher of its own. Raises ConfigError in one line."""
    import hydra

    options = read_options(arguments)
    choices = Choices(own_folders(options))
    parsed = _parsed(options.overrides, choices, several=options.multirun)

    _check_package(options, parsed, choices)
    refused: list[ConfigError] = []  # of a single run: raised within Hydra, it would come with two lines of Hydra's
    begun: list[DictConfig] = []

    @wraps(task)
    def run(cfg: DictConfig) -> Any:
        begun.append(cfg)
        try:
            finished = _finished(cfg, parsed)
        except ConfigError as error:
            if not _is_single():
                raise
            refused.append(error)
            return None
        return task(finished)

    OmegaConf.register_new_resolver("name_suffix", name_suffix, replace=True)  # of the folders in conf/config.yaml
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises its errors here instead of printing them
    FolderMade.first = FolderMade.sweep = None
    check_files()
    typed = hydras_order(arguments, options.overrides, [str(override.input_line) for override in parsed])
    saved, sys.argv = sys.argv, [sys.argv[0], *typed]
    try:
        with gated():
            hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(HydraTask(run, elsewhere))()
    except Exception as error:
        refusal = _in_one_line(error, parsed, choices) or (None if begun else _of_hydra(error, typed, choices))
        if refusal is None:
            raise
        raise refusal from error
    finally:
        sys.argv = saved
        FolderMade.forget()
    if refused:
        raise refused[0]


def _check_package(options: Any, parsed: Sequence[Override], choices: Choices) -> None:
    """Refuse to show a part of the configuration that is not there: Hydra would end and not say why."""
    place = options.package
    if options.cfg and place and not place.startswith(("hydra", "_")):
        settings: Any = {}
        with suppress(HydraException, OmegaConfBaseException):  # Hydra will say so itself
            settings = OmegaConf.to_container(composed([str(one.input_line) for one in parsed], choices))
        if settings and find(settings, place) is None:
            expected = "a place such as model.generator"
            raise ConfigError("--package", f"there is no {place}", expected, "ganrun --cfg job")


def _of_hydra(error: Exception, arguments: list[str], choices: Choices) -> ConfigError | None:
    """What Hydra raises over settings of its own, before any run of ours; None where nobody has changed those."""
    own = [word for word in arguments if word.lstrip("+~").startswith("hydra") or word.startswith("-")]
    if isinstance(error, ConfigError) or not (own or choices.folders[1:]):
        return None
    text = str(error).strip().splitlines() or [""]
    place = own[0].partition("=")[0] if own else "hydra"
    found = text[0] or type(error).__name__
    return ConfigError(
        place, found, "settings and options that Hydra can follow", "ganrun --cfg hydra, which lists them"
    )


def name_suffix(_root_: DictConfig) -> str:
    """A dash and the name of a run as its folder ends in it: nothing for the default, or for what is refused later."""
    name = None
    with suppress(OmegaConfBaseException):
        name = OmegaConf.select(_root_, "name")
    words = re.sub(r"[^\w.-]+", "_", "" if name is None else str(name)).strip("_")[:LONGEST_NAME]
    return f"-{words}" if words and words != DEFAULT_NAME else ""


def _is_single() -> bool:
    """Whether Hydra runs one job, not those of a sweep."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    return bool(HydraConfig.get().mode == RunMode.RUN)


def composed(overrides: Sequence[str], choices: Choices) -> DictConfig:
    """What Hydra composes, and raises."""
    import hydra

    os.environ.setdefault("GANRUN_TAG", "")
    check_files()
    places = ",".join(literal(f"file://{folder.absolute()}") for folder in choices.folders[1:])
    with gated(), hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra.compose("config", [*overrides, f"hydra.searchpath=[{places}]"])


def _parsed(overrides: Sequence[str], choices: Choices, *, several: bool) -> list[Override]:
    """The overrides, parsed and checked: once for all that follows. A sweep may give several values to a key."""
    parsed = read_overrides(overrides)
    several |= any(one.key_or_group == "hydra.mode" and one.value() == "MULTIRUN" for one in parsed)
    for override in parsed:
        if not several:
            refuse_several(override)
        check(override, choices)
    return parsed


def _finished(cfg: DictConfig, parsed: Sequence[Override]) -> DictConfig:
    """A composed configuration without what was left out, its plain values checked before anything imports torch."""
    leave_out(cfg, [override.key_or_group for override in parsed])
    expand(cfg)
    check_values(cfg)
    check_plugins(cfg.plugins, parsed)
    return cfg


def leave_out(cfg: DictConfig, keys: Sequence[str]) -> None:
    """When other tricks are typed than a recipe has, drop its settings for those left out; typed ones are refused.

    `keys` are what was typed, without values.
    """
    for name, node in list(cfg.tricks.items()) if "tricks" in keys and OmegaConf.is_dict(cfg.tricks) else []:
        chosen = OmegaConf.is_dict(node) and "_target_" in node
        if not chosen and not any(f"{key}.".startswith(f"tricks.{name}.") for key in keys):
            with open_dict(cfg):
                del cfg.tricks[name]


def _in_one_line(error: Exception, overrides: list[Override], choices: Choices) -> ConfigError | None:
    """Hydra's error as a ConfigError; None when it is not about the configuration."""
    match error:
        case MissingConfigException():
            return missing(error)
        case ConfigCompositionException():
            if isinstance(error.__cause__, OmegaConfBaseException) and "Could not" not in str(error):
                return unresolved(error.__cause__)
            return _no_such_key(error, overrides, choices)
        case OmegaConfBaseException():
            return unresolved(error)
        case OSError():
            if error.filename is None or not FolderMade.concerns(Path(os.fsdecode(error.filename))):
                return None
            found = (error.strerror or str(error)).lower()
            return ConfigError(
                os.fsdecode(error.filename), found, "a folder that can be written", "hydra.run.dir=another/folder"
            )
        case HydraException():
            return _as_hydra_says(error)
        case _:
            return None


def _as_hydra_says(error: Exception) -> ConfigError:
    """The first line of an error about the whole configuration."""
    text = (str(error).splitlines() or [type(error).__name__])[0]
    return ConfigError("configuration", text, "one that Hydra can compose", "ganrun --cfg job, which shows one")


def _no_such_key(error: ConfigCompositionException, overrides: list[Override], choices: Choices) -> ConfigError:
    """A key that the configuration does not have, with the most similar one that it has."""
    found = re.search(r"Could not (override|delete|append)[^']*'([^']+)'", str(error))
    if not found:
        return _as_hydra_says(error)
    key = found[2].split("=")[0].lstrip("~+")
    if "@" in key:
        return not_nested(key, overrides, choices)
    known = _known_keys(overrides, choices)
    if found[1] == "append" and key in known:
        return ConfigError(f"+{key}", "it is there already", "a new key", f"{key}=..., without the +")
    if key.startswith("hydra"):
        remedy = "ganrun --cfg hydra, which lists them"
        return ConfigError(key, "there is no such setting", "one of Hydra's", remedy)
    chosen = list(dict.fromkeys(name.split(".")[1] for name in known if name.startswith("tricks.")))
    trick = key.split(".")[1] if key.startswith("tricks.") else ""
    if trick and trick not in chosen and found[1] == "delete":
        return ConfigError(f"~{key}", f"{trick} is not among the tricks", ", ".join(chosen), "the same without it")
    if trick and trick not in chosen:
        return not_chosen(key, trick, chosen, choices)
    line = next((str(one.input_line) for one in overrides if one.key_or_group == key), key)
    return no_such_setting(key, line, known, choices)


def _known_keys(overrides: list[Override], choices: Choices) -> list[str]:
    """Every key of the configuration under the choices that were made, as far as they compose."""
    made = [o.input_line for o in overrides if o.key_or_group in choices.groups and not o.is_sweep_override()]
    for some in (made, []):
        try:
            return list(flat(OmegaConf.to_container(composed([*map(str, some)], choices))))
        except HydraException:
            continue
    return []
