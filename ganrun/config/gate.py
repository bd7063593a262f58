"""What Hydra may instantiate of a composed configuration. No composing, no building."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import hydra._internal.hydra as loaders
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from ganrun.core.errors import ConfigError, typed

OURS = frozenset({"ganrun.config.folder_made.FolderMade"})
MOST = 10_000  # values below `hydra`; it has about 200
ENVIRONMENT = "hydra.job.env_set"
SINGLE = "hydra.mode=RUN"  # what Hydra adds to the overrides of a single run once it knows that it is one

# Python's `logging` imports what these keys and prefixes name; this is what Hydra's own files name.
LOGGING = ("hydra.job_logging", "hydra.hydra_logging")
LOGGING_CLASSES = frozenset({"logging.StreamHandler", "logging.FileHandler", "logging.NullHandler", "logging.Formatter",
                             "colorlog.ColoredFormatter"})  # fmt: skip
STREAMS = frozenset({"ext://sys.stdout", "ext://sys.stderr"})
LOG_FILES = frozenset({"${hydra.runtime.output_dir}/${hydra.job.name}.log", "hydra-${hydra.job.name}.log"})


class GatedLoader(ConfigLoaderImpl):
    """Hydra's loader of configurations; one that would run code of a file's choice is refused before Hydra reads on.

    Hydra instantiates whatever stands below `hydra.callbacks`, `hydra.launcher` and `hydra.sweeper`, also to print a
    configuration, and configures logging from it.
    """

    _composed: tuple[Any, DictConfig] | None = None  # what Hydra asks for first, to read `hydra.mode` in it

    def load_configuration(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        """The composed configuration. Raises ConfigError for one that Hydra may not instantiate.

        Hydra composes a single run twice, which takes most of the time that a refusal takes: here once.
        """
        before, self._composed = self._composed, None
        if before is not None and before[0] == (config_name, *overrides) and run_mode is RunMode.RUN:
            return _single(before[1])
        first = not validate_sweep_overrides and not _sweeps(overrides)
        now = overrides if run_mode is RunMode.RUN else _of_every_job(overrides)
        try:
            cfg = super().load_configuration(
                config_name, now, RunMode.RUN if first else run_mode, from_shell, validate_sweep_overrides
            )
        except ValueError as error:
            raise _below_a_list(error, overrides) from error
        if now != overrides:
            cfg.hydra.overrides.task = [one for one in overrides if one not in cfg.hydra.overrides.hydra]
        check_hydra(cfg, overrides)
        single = overrides if SINGLE in overrides else [*overrides, SINGLE]
        self._composed = ((config_name, *single), cfg) if first else None
        return cfg


def _single(cfg: DictConfig) -> DictConfig:
    """The configuration as it is composed once Hydra has added that it is a single run."""
    with open_dict(cfg.hydra):
        cfg.hydra.mode = RunMode.RUN
        if SINGLE not in cfg.hydra.overrides.hydra:
            cfg.hydra.overrides.hydra.append(SINGLE)
    return cfg


def _below_a_list(error: ValueError, overrides: list[str]) -> ValueError:
    """The refusal of a name where OmegaConf looks for the number of an item of a list; else the error itself."""
    name = re.fullmatch(r"invalid literal for int\(\) with base 10: '(.*)'", str(error))
    for override in OverridesParser.create().parse_overrides(overrides) if name else ():
        place, _, last = override.key_or_group.rpartition(".")
        if place and last == name[1]:  # type: ignore[index]
            return ConfigError(override.key_or_group, f"{place} is a list", "no name below it", f"leaving {last} out")
    return error


def _of_every_job(overrides: list[str]) -> list[str]:
    """The overrides that hold for every job of a sweep, whatever it chooses.

    Settings of a swept group, such as `tricks.r1.gamma=2` where `tricks` is swept, exist only in jobs that choose the
    part. Where `experiment` is swept, that is every nested setting but Hydra's own.
    """
    parsed = OverridesParser.create().parse_overrides(overrides)
    swept = {one.key_or_group for one in parsed if one.is_sweep_override()}

    def is_chosen(one: Override) -> bool:
        place, dot, _ = one.get_key_element().lstrip("+~").partition(".")
        return bool(dot) and not one.is_hydra_override() and (place in swept or "experiment" in swept)

    return [typed for typed, one in zip(overrides, parsed, strict=True) if not is_chosen(one)]


def _sweeps(overrides: list[str]) -> bool:
    """Whether one of these has several values."""
    return any(override.is_sweep_override() for override in OverridesParser.create().parse_overrides(overrides))


@contextmanager
def gated() -> Iterator[None]:
    """Hydra loads configurations through the gate. It has no setting for the class of its loader.

    It composes one at a time: a run that it has started is set aside meanwhile.
    """
    holder = GlobalHydra.instance()
    begun, holder.hydra = holder.hydra, None
    saved, loaders.ConfigLoaderImpl = loaders.ConfigLoaderImpl, GatedLoader  # type: ignore[attr-defined]
    try:
        yield
    finally:
        loaders.ConfigLoaderImpl = saved  # type: ignore[attr-defined]
        holder.hydra = begun


def check_hydra(cfg: DictConfig, overrides: list[str]) -> None:
    """Raises ConfigError unless all that Hydra would instantiate, import or put into the environment is admitted.

    `overrides` are what was typed: environment variables count only there, since compilers and Python obey them.
    """
    allowed = instantiable()
    for place, value in values_below(cfg.hydra, "hydra"):
        key = place.rpartition(".")[2]
        if key == "_target_" and value not in allowed:
            raise _refused(
                place.removesuffix("._target_"), value, "a class of Hydra, or of an installed launcher or sweeper"
            )
        if place.startswith(LOGGING):
            _check_logging(place, key, value)
        if place.startswith(f"{ENVIRONMENT}.") and value != os.environ.get(key) and not _typed(place, overrides):
            raise _refused(place, f"{key}={value}", "environment variables to be typed on the command line")


def instantiable() -> frozenset[str]:
    """The classes that Hydra may instantiate: ours, installed launchers and sweepers, and what those registered."""
    kinds = Plugins.instance().discover(Launcher) + Plugins.instance().discover(Sweeper)
    registered = {target for target in _targets(ConfigStore.instance().repo) if isinstance(target, str)}
    return OURS | registered | {f"{kind.__module__}.{kind.__qualname__}" for kind in kinds}


def values_below(node: Any, place: str, budget: list[int] | None = None) -> Iterator[tuple[str, Any]]:
    """Every value below this node with its place, references followed as Hydra will follow them.

    A reference that leads nowhere yet is given as it is written. Raises ConfigError for references without an end.
    """
    budget = [MOST] if budget is None else budget
    if not isinstance(node, (DictConfig, ListConfig)):
        yield place, node
        return
    for key in range(len(node)) if isinstance(node, ListConfig) else [*node.keys()]:
        budget[0] -= 1
        if budget[0] < 0 or place.count(".") > 30:
            raise _refused(place, "references without an end", "plain settings")
        yield from values_below(_value(node, key), f"{place}.{key!s}", budget)


def _value(node: DictConfig | ListConfig, key: Any) -> Any:
    raw = node._get_node(key)
    if key == "filename":  # compared as it is written: the folder is not known yet
        return raw._value()  # type: ignore[union-attr]
    try:
        return node[key]
    except OmegaConfBaseException:
        return raw._value()  # type: ignore[union-attr]


def _targets(node: Any) -> Iterator[Any]:
    """Every `_target_` of the registered configurations."""
    if isinstance(node, dict):
        for value in node.values():
            yield from _targets(value)
    elif OmegaConf.is_config(getattr(node, "node", None)):
        yield from (value for place, value in values_below(node.node, "") if place.endswith("._target_"))


def _check_logging(place: str, key: str, value: Any) -> None:
    text = str(value)
    outside = "://" in text and text not in STREAMS
    if outside or (key in ("class", "()", "factory") and text not in LOGGING_CLASSES):
        raise _refused(place, text, f"one of {', '.join(sorted(LOGGING_CLASSES | STREAMS))}")
    if key == "filename" and text not in LOG_FILES:
        raise _refused(place, text, "the log file of Hydra's own")


def _typed(place: str, overrides: list[str]) -> bool:
    keys = [override.lstrip("+").partition("=")[0] for override in overrides]
    return place in keys or ENVIRONMENT in keys


def _refused(place: str, found: Any, expected: str) -> ConfigError:
    return ConfigError(place, f"{found} may not come from a configuration", expected, "a configuration without it")


def check_plugins(plugins: Iterable[str], overrides: Iterable[Override]) -> None:
    """Raises ConfigError for a module that only a file names: importing it would run code that nobody asked for."""
    named = {name for override in overrides if override.key_or_group == "plugins" for name in _names(override)}
    missing = [name for name in plugins if name not in named]
    if missing:
        found = f"{', '.join(missing)}, which only a file names"
        expected = "modules that are typed: a file makes no code run"
        raise ConfigError("plugins", found, expected, typed("plugins", list(plugins)))


def _names(override: Override) -> Iterator[str]:
    """The modules that one `plugins=` names; those of every job, if it is swept."""
    value = override.value()
    for chosen in value.list if isinstance(value, ChoiceSweep) else [value]:
        yield from map(str, chosen if isinstance(chosen, list) else [chosen])
