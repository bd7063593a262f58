"""Checks of a configuration before anything is built or imported."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError, MissingMandatoryValue, OmegaConfBaseException

from ganrun.config.types import Called, Within, fits, unfit
from ganrun.core.errors import ConfigError, ConfigErrors, nearest

PARTS = ("model.generator", "model.discriminator", "loss", "dataset", "game", "updates",
         "optim.generator", "optim.discriminator")  # fmt: skip
METRIC = Annotated[str | None, Called("the name of a metric, or null")]
WEIGHTS = Annotated[str | None, Called("a file of weights, or null")]
RATE = Annotated[float, Within(0)] | Mapping
# What no part checks: the settings of the run itself, each with its kind and range.
SETTINGS: dict[str, Any] = {
    "steps": Annotated[int, Within(1)],
    "batch": Annotated[int, Within(1)],
    "seed": Annotated[int, Within(0, 10**30)],
    "name": Annotated[str | int | float, Called("a name")],
    "objective": METRIC,
    "plugins": Annotated[list[str], Called("a list of modules")],
    "force": Annotated[list[str], Called("a list of rules")],
    "log.every": Annotated[int, Within(1)],
    "log.full": Annotated[int, Within(0)],
    "log.gradients": Literal["layers", "networks", "none"],
    "log.samples": Annotated[int, Within(1)],
    "log.checkpoint": Annotated[int, Within(1)],
    "log.minutes": Annotated[float, Within(0)],
    "log.keep": Annotated[int, Within(2)],
    "log.best": METRIC,
    "log.best_is": Literal["auto", "lowest", "highest"],
    "metrics.every": Annotated[int, Within(0)],
    "metrics.samples": Annotated[int, Within(50, 100_000)],
    "metrics.swd": bool,
    "metrics.ms_ssim": bool,
    "metrics.inception.weights": WEIGHTS,
    "metrics.dinov2.weights": WEIGHTS,
    "diagnosis.before": bool,
    "diagnosis.during": bool,
    "diagnosis.intended": Annotated[list[str], Called("a list of words such as [updates.generator=10]")],
    "diagnosis.on_collapse": Literal["warn", "stop"],
    "diagnosis.on_nonfinite": Literal["stop", "rollback"],
    "engine.device": Annotated[str, Called("auto, cpu, cuda or cuda:N")],
    "engine.ranks": Annotated[int, Within(1, 1024)],
    "engine.sync_batch_norm": bool,
    "engine.precision": Literal["auto", "bf16", "fp32"],
    "engine.compile": bool,
    "engine.capture": Annotated[bool | Literal["auto"], Called("auto, true or false")],
    "engine.workers": Annotated[int, Within(0, 256)],
    "engine.memory": Annotated[float, Within(0)],
    "engine.data_timeout": Annotated[float, Within(0)],
    "optim.generator.lr": Annotated[RATE, Called("a number from 0 up, or a schedule")],
    "optim.discriminator.lr": Annotated[RATE, Called("a number from 0 up, or a schedule")],
    "optim.decay": Annotated[RATE, Called("a number from 0 up, or a schedule")],
    "game.grid": Annotated[int, Within(1, 4096)],
}
# Groups of numbers: what is not above is no setting.
CLOSED = ("log", "engine", "metrics", "metrics.inception", "metrics.dinov2", "diagnosis")


def resolve(cfg: DictConfig) -> dict[str, Any]:
    """The configuration as plain data, with every reference resolved. Raises ConfigError for a missing value."""
    try:
        settings = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise ConfigError(str(error.full_key or "configuration"), "no value", "one") from error
    except (OmegaConfBaseException, RecursionError) as error:
        raise unresolved(error) from error
    assert isinstance(settings, dict)
    settings.pop("hydra", None)
    return settings  # type: ignore[return-value]


def unresolved(error: Exception) -> ConfigError:
    """The refusal of a value that refers to what is not there."""
    where, found = (
        str(getattr(error, "full_key", None) or "configuration"),
        (str(error).splitlines() or ["no value"])[0],
    )
    refers = isinstance(error, (InterpolationResolutionError, RecursionError))
    expected = "a value, or a reference to one such as ${steps}" if refers else "a value that this setting can have"
    return ConfigError(where, found, expected)


def check_values(cfg: DictConfig) -> None:
    """Raises ConfigError unless every part is there and the settings that no part checks can be those of a run."""
    check_settings(OmegaConf.to_container(cfg), resolved=False)


def check_settings(settings: Any, *, resolved: bool = True) -> None:
    """Raises ConfigError as `check_values` does, of plain data; without `resolved`, references are left for later."""
    refusals = [*_parts(settings), *_values(settings, resolved), *_strangers(settings)]
    if refusals:
        raise refusals[0] if len(refusals) == 1 else ConfigErrors(refusals)


def value_of(cfg: DictConfig, key: str) -> Any:
    """One setting of `SETTINGS`, resolved. Raises ConfigError for a value that does not fit."""
    node = OmegaConf.select(cfg, key)
    value = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    if not fits(value, SETTINGS[key]):
        raise unfit(key, value, SETTINGS[key])
    return value


def _parts(settings: Mapping[str, Any]) -> Iterator[ConfigError]:
    for place in PARTS:
        node = find(settings, place)
        if not isinstance(node, Mapping) or "_target_" not in node:
            found = "not there" if node is None else "does not name a class"
            yield ConfigError(
                place, found, "_target_ and settings", f"ganrun --cfg job --package {place}, which shows it"
            )
    if not isinstance(settings.get("tricks"), Mapping):
        yield ConfigError("tricks", repr(settings.get("tricks")), "a list of tricks", "tricks=[]")


def _values(settings: Mapping[str, Any], resolved: bool) -> Iterator[ConfigError]:
    for key, hint in SETTINGS.items():
        value, place = find(settings, key), key.rpartition(".")[0]
        if (not resolved and isinstance(value, str) and "${" in value) or (
            place in PARTS and not isinstance(find(settings, place), Mapping)
        ):
            continue  # it refers to another key, or `_parts` tells of the part
        if not fits(value, hint):
            yield unfit(key, value, hint)


def _strangers(settings: Mapping[str, Any]) -> Iterator[ConfigError]:
    """Keys in a group of numbers that nothing reads."""
    for group in CLOSED:
        node, inside = find(settings, group), f"{group}."
        known = list({key.removeprefix(inside).split(".")[0]: None for key in SETTINGS if key.startswith(inside)})
        for key in node if isinstance(node, Mapping) else ():
            if key not in known:
                close = nearest(str(key), known)
                remedy = f"{group}.{close}=..." if close else f"leaving {group}.{key} out"
                yield ConfigError(f"{group}.{key}", "there is no such setting", ", ".join(known), remedy)


def find(settings: Mapping[str, Any], key: str) -> Any:
    """The value at this dotted name, None where there is none."""
    node: Any = settings
    for word in key.split("."):
        node = node.get(word) if isinstance(node, Mapping) else None
    return node
