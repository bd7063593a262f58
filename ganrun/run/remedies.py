"""Remedies as words of a command line that the checker accepts for this run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from omegaconf import open_dict

from ganrun.config.build import assemble
from ganrun.config.compose import compose
from ganrun.config.instantiate import Maker
from ganrun.config.validate import check_settings, resolve
from ganrun.core.errors import ConfigError
from ganrun.core.seeding import generators_kept
from ganrun.diagnosis.remedy import Remedy
from ganrun.machine import find_device

MOST = 3  # remedies that are told


def accepted(
    remedies: Iterable[Remedy], settings: Mapping[str, Any], overrides: Sequence[str] | None
) -> tuple[str, ...]:
    """The first remedies that change the run with these resolved settings, and that its checker accepts; as words.

    `overrides` are what the run was started with. Of a run that was composed in Python they are not known: then nothing
    is checked.
    """
    found: list[str] = []
    for words in dict.fromkeys(remedy.words(settings) for remedy in remedies):
        if len(found) < MOST and words and (overrides is None or _accepts([*overrides, *words.split()], settings)):
            found.append(words)
    return tuple(found)


def _accepts(overrides: list[str], settings: Mapping[str, Any]) -> bool:
    """Whether these overrides make a run, on the data of the run at hand. Builds networks, and opens no data."""
    with suppress(ConfigError), generators_kept(find_device("cpu")):
        cfg = compose(overrides)
        with open_dict(cfg.dataset):
            for key in ("channels", "resolution", "class_count"):
                cfg.dataset[key] = settings["dataset"].get(key)
        again = resolve(cfg)
        check_settings(again)
        assemble(again, Maker(again["plugins"]))
        return True
    return False
