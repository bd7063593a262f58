"""Something to try: tricks to add and settings to change, as words of the command line of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """Tricks to add to those of the run, choices, and settings to multiply. Empty: nothing that a word could change."""

    tricks: tuple[str, ...] = ()  # to add
    without: tuple[str, ...] = ()  # tricks to leave out
    sets: Mapping[str, str] = field(default_factory=dict)  # key -> value
    scales: Mapping[str, float] = field(default_factory=dict)  # key of a number -> factor
    outside: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # only where a number is beyond its bounds

    def words(self, settings: Mapping[str, Any]) -> str:
        """The words for a run with these resolved settings, separated by spaces; empty where they change nothing."""
        if self.outside and not any(_beyond(_find(settings, key), *bounds) for key, bounds in self.outside.items()):
            return ""
        chosen = list(settings["tricks"])
        wanted = [name for name in chosen if name not in self.without]
        wanted += [name for name in self.tricks if name not in wanted]
        words = [f"tricks=[{','.join(wanted)}]"] if wanted != chosen else []
        words += [f"{key}={value}" for key, value in self.sets.items() if str(_find(settings, key)) != value]
        for key, factor in self.scales.items():
            value = _find(settings, key)
            if _is_number(value):
                words.append(f"{key}={value * factor:.3g}")
        return " ".join(words)


G_RATE, D_RATE = "optim.generator.lr", "optim.discriminator.lr"
# Adam's rates as DCGAN has them, where one is so large or so small that nothing is learnt. UMLAUT 2021: 1e-7 and 0.01.
USUAL_RATES = Remedy(sets={G_RATE: "0.0002", D_RATE: "0.0002"}, outside={G_RATE: (1e-6, 0.01), D_RATE: (1e-6, 0.01)})


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
