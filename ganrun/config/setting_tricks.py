"""Tricks that only set what belongs to other parts: that these have it, and that a refusal names who set it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ganrun.config.instantiate import Maker
from ganrun.config.validate import find
from ganrun.core.errors import ConfigError, ConfigErrors
from ganrun.core.trick import Trick


def check_sets(settings: Mapping[str, Any], make: Maker, tricks: Mapping[str, Trick]) -> None:
    """Raises ConfigError for a trick that sets what the chosen parts do not have, such as kernels of dense layers."""
    for name, trick in tricks.items():
        for key in getattr(trick, "sets", ()):
            place, _, last = key.rpartition(".")
            node = find(settings, place)
            part = make.part(node["_target_"], place) if "_target_" in node else None
            if part and last not in inspect.signature(part).parameters:
                found = f"sets {key}, which {part.__module__.split('.')[-1]} does not have"
                raise ConfigError(f"tricks.{name}", found, "a model that has it", "model=dcgan")


@contextmanager
def naming_tricks(tricks: Mapping[str, Trick]) -> Iterator[None]:
    """Raises the ConfigError of what is within, with the names of those tricks that set what it is about."""
    try:
        yield
    except ConfigError as refusal:
        if isinstance(refusal, ConfigErrors):
            raise
        about = f"{refusal.where} {refusal.remedy}"
        setters = [(name, key) for name, trick in tricks.items() for key in getattr(trick, "sets", ()) if key in about]
        if not setters:
            raise
        found = "; ".join([refusal.found, *(f"tricks.{name} sets {key}" for name, key in setters)])
        raise ConfigError(refusal.where, found, refusal.expected, refusal.remedy) from refusal
