"""Where Hydra composes a configuration, and where its complaints become one line each."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from ganrun.errors import Refused, nearest

CONF = Path(__file__).parent / "conf"
COMMANDS = ("resume", "explain", "list", "help")
FREE = ("steps", "name", "log.", "engine.device", "engine.workers", "engine.memory", "plugins")  # on resume
WARNED = ("batch", "engine.precision", "optim.generator.lr", "optim.discriminator.lr")


def hydra_run(arguments: list[str], task: Callable[[DictConfig], Any]) -> None:
    """Let Hydra read the arguments and call `task` with what they compose; refuse what it cannot compose."""
    import hydra

    _check_removals(arguments)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises its errors here instead of printing them
    saved, sys.argv = sys.argv, [sys.argv[0], *arguments]
    try:
        hydra.main(version_base="1.3", config_path="pkg://ganrun.conf", config_name="config")(task)()
    except MissingConfigException as error:
        raise _no_such_choice(error) from error
    except OverrideParseException as error:
        raise _unreadable(error.override) from error
    except ConfigCompositionException as error:
        raise _no_such_key(error, arguments) from error
    except (HydraException, OmegaConfBaseException) as error:
        raise Refused("configuration", " ".join(str(error).split())) from error
    except OSError as error:
        if error.filename is None:
            raise
        place, why = error.filename, (error.strerror or str(error)).lower()
        raise Refused(str(place), why, "a folder that can be written", "hydra.run.dir=another/folder") from error
    finally:
        sys.argv = saved


def _check_removals(arguments: list[str]) -> None:
    """`~tricks.NAME` takes a trick out, but what a setting has set would stay."""
    for argument in arguments:
        name = argument.removeprefix("~tricks.")
        path = CONF / "tricks" / f"{name}.yaml"
        if argument != name and path.is_file() and "@package _global_" in path.read_text():
            raise Refused(argument, f"{name} is a setting; what it has set would stay", "", "tricks=[...] without it")


def _no_such_choice(error: MissingConfigException) -> Refused:
    """A choice that no YAML file stands for."""
    group, _, name = (error.missing_cfg_file or "").rpartition("/")
    options = list(error.options or [])
    close = nearest(name, options)
    place = group or "configuration"
    try_ = f"{place}={'[' * (place == 'tricks')}{close}{']' * (place == 'tricks')}" if close else ""
    return Refused(place, f"there is no {name}" if name else str(error).splitlines()[0], ", ".join(options), try_)


def _unreadable(argument: str) -> Refused:
    if "=" in argument or argument.startswith(("~", "+")):
        return Refused(argument, "cannot be read", "KEY=VALUE", "quotes around it: 'tricks=[soft_labels,flip]'")
    close = nearest(argument, COMMANDS)
    return Refused(argument, "neither a command nor KEY=VALUE", ", ".join(COMMANDS), f"ganrun {close or '--help'}")


def _no_such_key(error: ConfigCompositionException, arguments: list[str]) -> Refused:
    """A key that the configuration does not have, with the most similar one that it has."""
    found = re.search(r"Could not (?:override|delete|append).*?'([^']+)'", str(error))
    if not found:
        return Refused("configuration", " ".join(str(error).split("\n")[0].split()))
    key = found[1].split("=")[0].lstrip("~+").split("@")[0]
    known = [*_known_keys(arguments), *(path.name for path in CONF.iterdir() if path.is_dir())]
    close = nearest(key, known)
    return Refused(
        key, "there is no such setting", "", f"{close}=..." if close else "ganrun --cfg job, which lists all"
    )


def _known_keys(arguments: list[str]) -> list[str]:
    """Every key of the configuration under the groups that these arguments choose, as far as they compose."""
    from hydra import compose, initialize_config_module

    os.environ.setdefault("GANRUN_TAG", "")
    groups = {path.name for path in CONF.iterdir() if path.is_dir()}
    choices = [a for a in arguments if a.split("=")[0] in groups and "," not in a.replace("[", "").split("]")[0]]
    for overrides in (choices, []):
        try:
            with initialize_config_module("ganrun.conf", version_base="1.3"):
                return list(leaves(OmegaConf.to_container(compose("config", overrides))))
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
    """Dotted name -> value, for every value that is not itself a mapping."""
    if not isinstance(node, dict):
        return {prefix.rstrip("."): node}
    return {name: v for key, value in node.items() for name, v in flat(value, f"{prefix}{key}.").items()}


def reopen(run: Path, overrides: list[str]) -> tuple[DictConfig, list[str]]:
    """A run's own configuration with some settings changed, and the changes as `key: old -> new`.

    Only what leaves the run the same run may change. Modules of the user's must be named again: a file names no code.
    """
    path = run / "config.yaml"
    if not path.is_file():
        raise Refused(str(run), "no config.yaml in it", "the folder of a run", "ganrun resume outputs/DATE/TIME")
    try:
        cfg = OmegaConf.load(path)
    except Exception as error:  # whatever YAML makes of a damaged file
        raise Refused(str(path), f"cannot be read ({str(error).splitlines()[0]})", "the YAML of a run") from error
    if not isinstance(cfg, DictConfig) or "model" not in cfg:
        raise Refused(str(path), "not a run's configuration", "the YAML that a run wrote")
    before = flat(OmegaConf.to_container(cfg))
    wanted = list(before.get("plugins") or [])
    cfg.plugins = []
    _apply(cfg, overrides)
    missing = [name for name in wanted if name not in cfg.plugins]
    if missing:
        raise Refused("plugins", f"this run used {', '.join(missing)}", "to be told again that this code may run",
                      f"ganrun resume {run} 'plugins=[{','.join(wanted)}]'")  # fmt: skip
    after = flat(OmegaConf.to_container(cfg))
    return cfg, _changes(before, after)


def _apply(cfg: DictConfig, overrides: list[str]) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    OmegaConf.set_struct(cfg, True)
    try:
        parsed = OverridesParser.create().parse_overrides(overrides)
    except OverrideParseException as error:
        raise _unreadable(error.override) from error
    for override in parsed:
        key = override.key_or_group
        known = list(leaves(OmegaConf.to_container(cfg)))
        if key not in known:
            close = nearest(key, known)
            raise Refused(key, "there is no such setting in this run", "", f"{close}=..." if close else "")
        with open_dict(cfg):
            OmegaConf.update(cfg, key, override.value())


def _changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    changed = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    refused = [key for key in changed if not key.startswith(FREE) and key not in WARNED]
    if refused:
        listed = "; ".join(f"{key}: {before.get(key)} -> {after.get(key)}" for key in refused)
        raise Refused("resume", f"{listed} would make it another run", "changes of steps, log, engine or rates only",
                      "a new run with ganrun")  # fmt: skip
    return [f"{key}: {before.get(key)} -> {after.get(key)}" for key in changed if key != "plugins"]
