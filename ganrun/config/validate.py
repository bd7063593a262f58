"""Checks of a configuration before anything is built or imported."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from ganrun.core.errors import ConfigError, ConfigErrors

PARTS = ("model.generator", "model.discriminator", "loss", "dataset", "game", "updates",
         "optim.generator", "optim.discriminator")  # fmt: skip
WHOLE = {"steps": 1, "batch": 1, "seed": 0, "log.every": 1, "log.full": 0, "log.samples": 1, "log.checkpoint": 1,
         "log.keep": 2, "engine.workers": 0, "game.grid": 1}  # fmt: skip
GRADIENTS = ("layers", "networks", "none")  # of which log.gradients has the norms recorded
NUMBERS = ("log.minutes", "engine.memory")
NAMES = {"engine.precision": "auto, bf16 or fp32", "engine.device": "auto, cpu, cuda or cuda:N", "name": "a name"}


def resolve(cfg: DictConfig) -> dict[str, Any]:
    """The configuration as plain data, with every reference resolved. Raises ConfigError for a missing value."""
    try:
        settings = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise ConfigError(str(error.full_key or "configuration"), "no value", "one") from error
    except OmegaConfBaseException as error:
        raise ConfigError(str(error.full_key or "configuration"), str(error).splitlines()[0]) from error
    assert isinstance(settings, dict)
    settings.pop("hydra", None)
    return settings  # type: ignore[return-value]


def check_values(cfg: DictConfig) -> None:
    """Raises ConfigError unless every part is there and the numbers that no part checks can be those of a run."""
    check_settings(OmegaConf.to_container(cfg))  # as written; references are checked once they are resolved


def check_settings(settings: Any) -> None:
    """Raises ConfigError as `check_values` does, of plain data."""
    refusals = [*_parts(settings), *_numbers(settings), *_names(settings)]
    if refusals:
        raise refusals[0] if len(refusals) == 1 else ConfigErrors(map(str, refusals))


def _parts(settings: Mapping[str, Any]) -> Iterator[ConfigError]:
    for place in PARTS:
        node = find(settings, place)
        if not isinstance(node, Mapping) or "_target_" not in node:
            found = "not there" if node is None else "does not name a class"
            yield ConfigError(
                place, found, "_target_ and settings", f"ganrun --cfg job --package {place}, which shows it"
            )
    for place in PARTS[-2:]:
        node = find(settings, place)
        rate = find(node, "lr") if isinstance(node, Mapping) else 0.0
        if not isinstance(rate, Mapping) and not _is_number(rate, 0):
            yield ConfigError(f"{place}.lr", repr(rate), "a number from 0 up, or a schedule")
    decay = find(settings, "optim.decay")
    if not isinstance(decay, Mapping) and not _is_number(decay, 0):
        yield ConfigError("optim.decay", repr(decay), "a number from 0 up, or a schedule")


def _numbers(settings: Mapping[str, Any]) -> Iterator[ConfigError]:
    for key, least in WHOLE.items():
        value = find(settings, key)
        if not (isinstance(value, int) or _refers(value)) or not _is_number(value, least):
            yield ConfigError(key, repr(value), f"a whole number from {least} up")
    for key in NUMBERS:
        if not _is_number(find(settings, key), 0):
            yield ConfigError(key, repr(find(settings, key)), "a number from 0 up")


def _names(settings: Mapping[str, Any]) -> Iterator[ConfigError]:
    for key, expected in NAMES.items():
        value = find(settings, key)
        if not isinstance(value, str) and not (key == "name" and _is_number(value, -math.inf)):
            yield ConfigError(key, repr(value), expected)
    if not isinstance(settings.get("objective"), (str, type(None))):
        yield ConfigError(
            "objective", repr(settings["objective"]), "the name of a metric", "objective=probability/real"
        )
    if find(settings, "log.gradients") not in GRADIENTS:
        found = repr(find(settings, "log.gradients"))
        yield ConfigError("log.gradients", found, " or ".join(GRADIENTS), f"log.gradients={GRADIENTS[0]}")
    best = find(settings, "log.best")
    if not isinstance(best, (str, type(None))):
        yield ConfigError("log.best", repr(best), "the name of a metric, or null", "log.best=loss/convergence")
    plugins = settings.get("plugins")
    if not isinstance(plugins, list) or not all(isinstance(name, str) for name in plugins):
        yield ConfigError("plugins", repr(plugins), "a list of modules", f"'plugins=[{plugins}]'")


def _refers(value: Any) -> bool:
    """Whether this is the value of another key, such as ${steps}."""
    return isinstance(value, str) and "${" in value


def _is_number(value: Any, least: float) -> bool:
    return _refers(value) or (
        isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value < math.inf
    )


def find(settings: Mapping[str, Any], key: str) -> Any:
    """The value at this dotted name, None where there is none."""
    node: Any = settings
    for word in key.split("."):
        node = node.get(word) if isinstance(node, Mapping) else None
    return node
