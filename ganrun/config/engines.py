"""The engine that `engine.compile` and `engine.capture` choose, and where it cannot be had."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from typing import Any

import torch

from ganrun.config.processes import Training, world_of
from ganrun.core.captured import Captured, CapturedCompiled
from ganrun.core.compiled import Compiled
from ganrun.core.engine import Eager
from ganrun.core.errors import ConfigError
from ganrun.core.ranks import Rank

COMPILERS = ("g++", "clang++", "c++")  # that torch calls for a processor


def engine_of(settings: Mapping[str, Any], rank: Rank, device: torch.device) -> type[Eager]:
    """The class of the engine."""
    engine = settings["engine"]
    capture = engine["capture"]
    if capture == "auto":
        capture = device.type == "cuda" and world_of(settings, rank) == 1 and not engine["compile"]
    if capture:
        return CapturedCompiled if engine["compile"] else Captured
    return Compiled if engine["compile"] else Eager


def check_engine(parts: Training, settings: Mapping[str, Any], rank: Rank, device: torch.device) -> None:
    """Raises ConfigError where updates are to be compiled or captured, and cannot be."""
    engine, world = settings["engine"], world_of(settings, rank)
    capture = engine["capture"] is True
    if capture and device.type != "cuda":
        raise ConfigError("engine.capture", f"true, and the device is {device.type}", "cuda", "engine.capture=auto")
    if world > 1 and (engine["compile"] or capture):
        setting, instead = ("engine.compile", "false") if engine["compile"] else ("engine.capture", "auto")
        found = f"true, and {world} processes, which exchange what they draw in the midst of an update"
        raise ConfigError(setting, found, instead, "engine.ranks=1")
    if engine["compile"]:
        _check_compiler(parts, device)


def _check_compiler(parts: Training, device: torch.device) -> None:
    if parts.updates.share_fakes and parts.game.shares_fakes:
        found = "true, and D's update shares its fakes with G's, so that neither is a graph of its own"
        raise ConfigError("engine.compile", found, "fakes for each", "updates.share_fakes=false")
    named = os.environ.get("CXX")
    if device.type == "cpu" and not any(map(shutil.which, [named] if named else COMPILERS)):
        found = f"true, and this machine has no C++ compiler ({named or ', '.join(COMPILERS)})"
        raise ConfigError("engine.compile", found, "one that torch can call", "engine.compile=false")
