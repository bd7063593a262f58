"""Checks of parts' settings. Each raises ConfigError, with one line that says what was expected."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ganrun.core.errors import ConfigError, nearest

LAYERS = 100  # of one kind in a row, or copies of a network: more take minutes to make


def choice(where: str, value: object, known: Iterable[str]) -> None:
    """Refuse a name that is not among those known, and offer the one most like it."""
    names = list(known)
    if value not in names:
        close = nearest(str(value), names)
        raise ConfigError(where, str(value), f"one of {', '.join(names)}", f"{where}={close or names[0]}")


def whole(where: str, value: object, low: int, high: int | None = None) -> None:
    """Refuse what is not a whole number in [low, high]."""
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if not is_whole or value < low or (high is not None and value > high):  # type: ignore[operator]
        span = f"at least {low}" if high is None else f"from {low} to {high}"
        raise ConfigError(where, str(value), f"a whole number {span}")


def number(where: str, value: object, low: float, below: float = float("inf")) -> None:
    """Refuse what is not a number in [low, below)."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not low <= value < below:  # type: ignore[operator]
        span = f"at least {low:g}" + ("" if below == float("inf") else f" and below {below:g}")
        raise ConfigError(where, str(value), f"a number of {span}")


def positive(where: str, value: object) -> None:
    """Refuse what is not a finite number above 0."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 < value < float("inf"):  # type: ignore[operator]
        raise ConfigError(where, str(value), "a number above 0")


def classes(where: str, value: object, low: int = 1) -> None:
    """Refuse a number of classes that a conditional network cannot have: 0 is what unlabelled data have."""
    if isinstance(value, int) and 0 <= value < low:
        found = "1 class, so nothing to tell apart" if value else "0 classes, which is what data without labels have"
        more = "more of dataset.classes" if value else "data with labels"
        remedy = f"{more}, or a model that reads none"
        raise ConfigError(where, f"{found} (rule C24)", f"at least {low}", remedy)
    whole(where, value, low)


def resolution(where: str, value: int, possible: Sequence[int]) -> None:
    """Refuse a resolution that this architecture cannot make; list those it can."""
    if value not in possible:
        close = min(possible, key=lambda other: abs(other - value)) if isinstance(value, int) else possible[0]
        sizes = ", ".join(map(str, possible))
        raise ConfigError(where, str(value), f"one of {sizes} (pixels)", f"dataset.resolution={close}")


def resizing_kernel(where: str, value: int) -> None:
    """Refuse a kernel that cannot halve or double an image exactly."""
    whole(where, value, 3, 7)


def odd_kernel(where: str, value: int) -> None:
    """Refuse a kernel that cannot keep the size of an image with the same border on every side."""
    if value not in (3, 5, 7):
        raise ConfigError(
            where, str(value), "one of 3, 5, 7 (this convolution keeps the size of its image)", f"{where}=5"
        )


def entry(where: str, given: Mapping[str, Any], name: str) -> Any:
    """The value of this setting below `where`. Raises ConfigError where it is missing."""
    if name not in given:
        raise ConfigError(f"{where}.{name}", "not set", "a value")
    return given[name]


def no_others(where: str, given: Mapping[str, Any], known: Sequence[str]) -> None:
    """Raises ConfigError for a setting below `where` that is none of those known."""
    for name in given:
        if name not in known:
            close = nearest(str(name), known) or known[0]
            raise ConfigError(f"{where}.{name}", "there is no such setting", ", ".join(known), f"{where}.{close}=...")
