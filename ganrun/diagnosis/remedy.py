"""Something to try: tricks to add and settings to change, as words of the command line of a run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from ganrun.core.errors import literal
from ganrun.diagnosis.finding import Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """Tricks to add to those of the run, choices, and settings to multiply. Empty: nothing that a word could change."""

    tricks: tuple[str, ...] = ()  # to add
    without: tuple[str, ...] = ()  # tricks to leave out
    sets: Mapping[str, str] = field(default_factory=dict)  # key -> value
    scales: Mapping[str, float] = field(default_factory=dict)  # key of a number -> factor
    outside: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # only where a number is beyond its bounds

    def words(self, settings: Mapping[str, Any], recipe: Mapping[str, Any] | None = None) -> str:
        """The words for a run with these resolved settings, separated by spaces; empty where they change nothing.

        `recipe` are resolved settings: their values replace those of `sets` where they are within the bounds.
        """
        if self.outside and not self.unusual(settings):
            return ""
        chosen = list(settings["tricks"])
        wanted = [name for name in chosen if name not in self.without]
        wanted += [name for name in self.tricks if name not in wanted]
        words = [f"tricks=[{','.join(wanted)}]"] if wanted != chosen else []
        values = self._values_of(recipe or {}) or self.sets
        words += [f"{key}={value}" for key, value in values.items() if literal(_find(settings, key)) != value]
        for key, factor in self.scales.items():
            value = _find(settings, key)
            if _is_number(value):
                words.append(f"{key}={value * factor:.3g}")
        return " ".join(words)

    def _values_of(self, recipe: Mapping[str, Any]) -> dict[str, str]:
        """The recipe's values of the keys in `sets`; empty where it lacks one, or is itself beyond the bounds."""
        values = {key: _find(recipe, key) for key in self.sets}
        usual = self.outside and None not in values.values() and not self.unusual(recipe)
        return {key: literal(value) for key, value in values.items()} if usual else {}

    def unusual(self, settings: Mapping[str, Any]) -> dict[str, float]:
        """Those of these resolved settings that are beyond their bounds, by key, but for those that are intended."""
        found = {key: _find(settings, key) for key, bounds in self.outside.items() if _applies(settings, key)}
        beyond = {key: value for key, value in found.items() if _beyond(value, *self.outside[key])}
        return {key: value for key, value in beyond.items() if not _intended(settings, key, value)}


G_RATE, D_RATE = "optim.generator.lr", "optim.discriminator.lr"
SOUND_RATES = (1e-5, 5e-3)  # of Adam, which hardly learns below and seldom stays together above
# Settings far from what any published recipe has, back to the run's own recipe, or else to DCGAN's: the likeliest cause
# of whatever is wrong.
UNUSUAL = (
    Remedy(sets={G_RATE: "0.0002", D_RATE: "0.0002"}, outside={G_RATE: SOUND_RATES, D_RATE: SOUND_RATES}),
    Remedy(
        sets={"updates.discriminator": "1", "updates.generator": "1"},
        outside={"updates.discriminator": (0, 5), "updates.generator": (0, 2)},
    ),
    Remedy(sets={"batch": "64"}, outside={"batch": (8, math.inf)}),
    Remedy(sets={"model.generator.width": "32"}, outside={"model.generator.width": (8, math.inf)}),
    Remedy(sets={"model.discriminator.width": "32"}, outside={"model.discriminator.width": (8, math.inf)}),
    Remedy(
        sets={"model.generator.init.kind": "normal", "model.generator.init.scale": "0.02"},
        outside={"model.generator.init.scale": (5e-3, 1.5)},  # 1 is the gain of other kinds
    ),
    Remedy(sets={"model.generator.dropout": "0"}, outside={"model.generator.dropout": (0, 0.25)}),
    Remedy(sets={"tricks.gp.weight": "10"}, outside={"tricks.gp.weight": (0.1, 100)}),
    Remedy(sets={"tricks.r1.gamma": "1"}, outside={"tricks.r1.gamma": (0, 200)}),
)
LITTLE_NOISE = Remedy(sets={"model.generator.latent": "64"}, outside={"model.generator.latent": (8, math.inf)})


def unusual_in(settings: Mapping[str, Any], remedies: Iterable[Remedy]) -> dict[str, float]:
    """Those of these resolved settings that are beyond the bounds of one of these remedies, by key."""
    return {key: value for remedy in remedies for key, value in remedy.unusual(settings).items()}


def unusual(settings: Mapping[str, Any], recipe: Mapping[str, Any] | None = None) -> list[Finding]:
    """A remark on settings that are far from those of published recipes, where a run has some; `recipe` as in words."""
    values = unusual_in(settings, UNUSUAL)
    if not values:
        return []
    meaning = "A setting is far from what published recipes have: the first to change, should the run fail."
    remedies = tuple(remedy.words(settings, recipe) for remedy in UNUSUAL if remedy.unusual(settings))
    return [Finding(name="unusual_settings", meaning=meaning, evidence=values, remedies=remedies)]


def _applies(settings: Mapping[str, Any], key: str) -> bool:
    """Whether bounds of a setting are meant for this run: those of rates are Adam's."""
    player, _, name = key.removeprefix("optim.").rpartition(".")
    return name != "lr" or "Adam" in str(_find(settings, f"optim.{player}._target_"))


def _intended(settings: Mapping[str, Any], key: str, value: float) -> bool:
    """Whether `diagnosis.intended`, words such as updates.generator=10, has this value of this setting."""
    for word in _find(settings, "diagnosis.intended") or ():
        name, _, text = word.partition("=")
        with suppress(ValueError):
            if name == key and float(text) == value:
                return True
    return False


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _beyond(value: Any, least: float, most: float) -> bool:
    return _is_number(value) and not least <= value <= most


def _find(settings: Mapping[str, Any], key: str) -> Any:
    node: Any = settings
    for part in key.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return None
        node = node[part]
    return node
