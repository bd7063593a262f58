"""Choices of Hydra's own groups that come in packages of their own, and what is said where one is not there."""

from __future__ import annotations

from hydra.errors import MissingConfigException

from ganrun.core.errors import ConfigError

PACKAGES = {
    "hydra/launcher/joblib": "hydra-joblib-launcher",
    "hydra/launcher/ray": "hydra-ray-launcher",
    "hydra/launcher/ray_aws": "hydra-ray-launcher[aws]",
    "hydra/launcher/rq": "hydra-rq-launcher",
    "hydra/launcher/submitit_local": "hydra-submitit-launcher",
    "hydra/launcher/submitit_slurm": "hydra-submitit-launcher",
    "hydra/sweeper/ax": "hydra-ax-sweeper",
    "hydra/sweeper/nevergrad": "hydra-nevergrad-sweeper",
    "hydra/sweeper/optuna": "hydra-optuna-sweeper",
}


def missing(error: MissingConfigException) -> ConfigError:
    """A file of configuration that Hydra has not found, in one line; it names the package that would bring it."""
    place, options = error.missing_cfg_file or "configuration", ", ".join(error.options or [])
    if (package := PACKAGES.get(place)) is not None:
        return ConfigError(place, "not installed", f"{options}, or its package", f"pip install {package}")
    remedy = "ganrun --info searchpath, which lists the folders"
    return ConfigError(place, "there is no such file", options or "a YAML file of a group", remedy)
