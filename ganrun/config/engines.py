"""The engine that `engine.compile` and `engine.capture` choose, and where it cannot be had."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from typing import Any

import torch

from ganrun.config.processes import Training, world_of
from ganrun.core.compiled import Captured, Compiled
from ganrun.core.engine import Eager
from ganrun.core.errors import ConfigError
from ganrun.core.ranks import Rank

COMPILERS = ("g++", "clang++", "c++")  # that torch calls for a processor


def engine_of(settings: Mapping[str, Any]) -> type[Eager]:
    """The class of the engine."""
    if settings["engine"]["capture"]:
        return Captured
    return Compiled if settings["engine"]["compile"] else Eager


def check_compiling(parts: Training, settings: Mapping[str, Any], rank: Rank, device: torch.device) -> None:
    """Raises ConfigError where updates are to be compiled or captured, and cannot be."""
    engine = settings["engine"]
    if engine["capture"] and device.type != "cuda":
        raise ConfigError("engine.capture", f"true, and the device is {device.type}", "cuda", "engine.capture=false")
    if engine["capture"] and not engine["compile"]:
        raise ConfigError("engine.capture", "true, of updates that are not compiled", "both", "engine.compile=true")
    if not engine["compile"]:
        return
    if (world := world_of(settings, rank)) > 1:
        found = f"true, and {world} processes, which exchange what they draw in the midst of an update"
        raise ConfigError("engine.compile", found, "one process", "engine.ranks=1")
    if parts.updates.share_fakes and parts.game.shares_fakes:
        found = "true, and D's update shares its fakes with G's, so that neither is a graph of its own"
        raise ConfigError("engine.compile", found, "fakes for each", "updates.share_fakes=false")
    named = os.environ.get("CXX")
    if device.type == "cpu" and not any(map(shutil.which, [named] if named else COMPILERS)):
        found = f"true, and this machine has no C++ compiler ({named or ', '.join(COMPILERS)})"
        raise ConfigError("engine.compile", found, "one that torch can call", "engine.compile=false")
