"""Hyperparameters of a run, for TensorBoard's HParams page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

ROLES = ("discriminator", "generator")


def hyperparameters(settings: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The chosen parts by name, the main numbers, and every override: the columns that differ between runs."""
    parts = {
        "model": settings["model"]["generator"]["_target_"].split(".")[-2],
        "loss": settings["loss"]["_target_"].split(".")[-1],
        "dataset": settings["dataset"]["_target_"].split(".")[-1],
        "tricks": " ".join(settings["tricks"]) or "none",
        **{key: settings[key] for key in ("batch", "seed", "steps")},
        **{f"optim.{name}.lr": str(settings["optim"][name]["lr"]) for name in ROLES},
    }
    typed = (override.lstrip("~+").split("=", 1) for override in overrides)
    return parts | {pair[0]: pair[-1] for pair in typed if pair[0] not in parts}
