"""Parts are chosen on a composed configuration as on a command line, but without Hydra: 1000 times as quick."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from omegaconf import DictConfig, OmegaConf

from ganrun.config.groups import CONF, Choices

SMALL = {"width": 4, "hidden": [8], "latent": 16}


def names(group: str) -> list[str]:
    """The choices of a group, by name."""
    return Choices().options(group)


def small(cfg: DictConfig) -> DictConfig:
    """The same configuration with the smallest networks of its model."""
    for role in ("generator", "discriminator"):
        node = cfg.model[role]
        for key, value in SMALL.items():
            if key in node:
                node[key] = value
    return cfg


def with_parts(cfg: DictConfig, loss: str, tricks: Sequence[str], norm: str) -> DictConfig:
    """The configuration with this loss, these tricks, and this norm in the discriminator."""
    if "norm" in cfg.model.discriminator:
        cfg.model.discriminator.norm = norm
    cfg.loss = OmegaConf.load(CONF / "loss" / f"{loss}.yaml")
    for group, choice in (pair for trick in tricks for pair in chosen(trick)):
        cfg[group] = OmegaConf.load(CONF / group / f"{choice}.yaml")
    for trick in tricks:
        cfg = OmegaConf.merge(cfg, overlay(trick))  # type: ignore[assignment]
    return cfg


@cache
def overlay(trick: str) -> DictConfig:
    """The settings that choosing a trick adds to a configuration."""
    path = CONF / "tricks" / f"{trick}.yaml"
    node = OmegaConf.load(path)
    assert isinstance(node, DictConfig)
    node.pop("defaults", None)
    return node if "@package _global_" in path.read_text() else OmegaConf.create({"tricks": node})


@cache
def chosen(name: str, group: str = "tricks") -> list[tuple[str, str]]:
    """The choices of other groups that a trick makes, or an experiment: `override /optim: sgd` in its defaults."""
    node = OmegaConf.to_container(OmegaConf.load(CONF / group / f"{name}.yaml"))
    assert isinstance(node, dict)
    picked = [one for one in node.get("defaults", ()) if isinstance(one, dict)]  # not _self_
    return [(key.split("/")[-1], str(choice)) for one in picked for key, choice in one.items()]
