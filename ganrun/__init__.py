"""Train generative adversarial networks from composable configuration; compose, train, load and sample from Python.

    cfg = ganrun.compose(["model=dcgan", "tricks=[ema,soft_labels]", "steps=200"])
    run = ganrun.train(cfg)
    images = ganrun.load(run).sample(16, seed=1)

Importing this loads neither torch nor Hydra; the functions do.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ganrun.version import __version__

if TYPE_CHECKING:  # types of what the functions below load when they are called
    from omegaconf import DictConfig

    from ganrun.run.load import LoadedRun

__all__ = ["__version__", "compose", "load", "train"]


def compose(overrides: Sequence[str] = (), *, folders: Sequence[str | Path] = ()) -> DictConfig:
    """The configuration of a run with these overrides, written as on the command line: `["model=mlp", "steps=100"]`.

    `folders` hold YAML of your own, as `--config-dir` does. Raises ConfigError for what cannot be composed.
    """
    from ganrun.config.compose import compose

    return compose(list(overrides), [Path(folder) for folder in folders])


def train(cfg: DictConfig, folder: str | Path | None = None) -> Path:
    """Train a composed configuration to its end; returns the folder of the run.

    `folder` is a new one below `outputs/` unless given. Raises ConfigError before any work, Stopped when a guard ends
    the run, EnvironmentFailed when the machine fails, and KeyboardInterrupt after it has saved an interrupted run.
    """
    from ganrun.run.session import train_in

    return train_in(cfg, None if folder is None else Path(folder).expanduser())


def load(
    run: str | Path, *, plugins: Sequence[str] = (), device: str = "auto", checkpoint: str | int = "last"
) -> LoadedRun:
    """The networks of a run, with averaged weights where it keeps an average, ready to sample. Needs no data set.

    `checkpoint` is "last", "best" or a step. `plugins` are the modules of yours that the run used. Raises ConfigError
    for a folder without a checkpoint, or without that one.
    """
    from ganrun.run.load import load

    return load(run, plugins=plugins, device=device, checkpoint=checkpoint)
