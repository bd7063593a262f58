"""Which remedies the checker accepts: overrides tried on the settings of a run, without asking Hydra."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import torch
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ganrun.config.build import assemble, open_data
from ganrun.config.groups import CONF, Choices
from ganrun.config.instantiate import Maker
from ganrun.config.overlays import chosen, overlay
from ganrun.config.overrides import read_overrides
from ganrun.config.text import NOTHING
from ganrun.config.validate import check_settings, resolve
from ganrun.core.errors import ConfigError
from ganrun.core.seeding import generators_kept


def accepted(settings: Mapping[str, Any], remedies: Iterable[str], most: int | None = None) -> tuple[str, ...]:
    """The first of these overrides, at most `most`, with which a run of these settings is another one and trains."""
    return tuple(islice((remedy for remedy in remedies if accepts(settings, remedy)), most))


def accepts(settings: Mapping[str, Any], remedy: str) -> bool:
    """Whether these overrides, such as `loss=hinge` or `~tricks.gp steps=9`, change these settings and fit them.

    Networks, loss and tricks are built without data, as `assemble` does; data are opened for a setting of theirs.
    Torch's generators are left alone.
    """
    overrides = read_overrides(remedy.split())
    device = torch.device("cuda" if torch.cuda.is_initialized() else "cpu")
    try:
        with generators_kept(device):
            return _fits(settings, overrides)
    except (ConfigError, OmegaConfBaseException):
        return False


def _fits(settings: Mapping[str, Any], overrides: Sequence[Override]) -> bool:
    cfg = OmegaConf.create(dict(settings))
    if not all(_changed(cfg, override) for override in overrides):
        return False
    changed, make = resolve(cfg), Maker(settings["plugins"])
    if changed == settings:
        return False
    check_settings(changed)
    if any(one.key_or_group.startswith("dataset.") for one in overrides):  # networks follow what is measured of data
        cfg.dataset.update({"class_count": 0} | NOTHING)  # they are measured anew
        open_data(cfg, make)
    else:
        assemble(changed, make)
    return True


def _changed(cfg: DictConfig, override: Override) -> bool:
    """Change this configuration as the override says; False where it cannot be without asking Hydra."""
    key, group = override.key_or_group, Choices().groups
    if override.is_delete():
        return key.startswith("tricks.") and _without(cfg, [key.removeprefix("tricks.")])
    if key == "tricks":
        value: Any = override.value()
        names = [str(name) for name in value]
        return _without(cfg, [str(name) for name in cfg.tricks if name not in names]) and _with(cfg, names)
    if key in group:
        path = CONF / key / f"{override.value()}.yaml"
        if not path.is_file() or key == "experiment" or override.package is not None:
            return False
        node = OmegaConf.load(path)
        if "defaults" in node:
            return False
        cfg[key] = node
        return True
    place, _, last = key.rpartition(".")
    node = OmegaConf.select(cfg, place) if place else cfg
    if not OmegaConf.is_dict(node) or last not in node:
        return False
    OmegaConf.update(cfg, key, override.value(), merge=False)
    return True


def _without(cfg: DictConfig, tricks: Iterable[str]) -> bool:
    """Take these tricks out; False where one is not there, or is a setting: what it has set would stay."""
    for name in tricks:
        if name not in cfg.tricks or Choices().is_setting(name):
            return False
        del cfg.tricks[name]
    return True


def _with(cfg: DictConfig, tricks: Iterable[str]) -> bool:
    """Put the tricks in that are not there yet, at the end; False for one that the package does not have."""
    for name in tricks:
        if name in cfg.tricks:
            continue
        if name not in Choices().options("tricks"):
            return False
        for group, choice in chosen(name):
            cfg[group] = OmegaConf.load(CONF / group / f"{choice}.yaml")
        for key, node in overlay(name).items():
            cfg[key] = OmegaConf.merge(cfg[key], node)
    return True
