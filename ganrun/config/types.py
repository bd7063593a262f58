"""What may stand where an annotation is: one check of kind and range for every setting. Needs no torch."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ganrun.core.errors import ConfigError, typed

MOST = 2**63 - 1  # no whole number beyond it is a size, a count or a number of steps
WORDS = {
    int: "a whole number",
    float: "a number",
    str: "a name",
    bool: "true or false",
    type(None): "null",
    Mapping: "settings",
}


@dataclass(frozen=True)
class Within:
    """The range of a number, as in `Annotated[int, Within(1)]`."""

    low: float
    high: float = MOST

    def __str__(self) -> str:
        return f"from {self.low:g} up" if self.high >= MOST else f"from {self.low:g} to {self.high:.0f}"

    def holds(self, value: Any, kind: type) -> bool:
        """Whether this is a number of the kind, in the range."""
        is_kind = type(value) is int or (kind is float and _is_finite(value))
        return is_kind and self.low <= value <= self.high


@dataclass(frozen=True)
class Called:
    """What a message calls a setting, as in `Annotated[str, Called("a metric")]`."""

    words: str


def in_words(hint: Any) -> str:
    """What a user may write where this annotation stands."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        note = hint.__metadata__[0]
        return note.words if isinstance(note, Called) else f"{in_words(args[0])} {note}"
    if origin in (typing.Union, types.UnionType):
        words = " or ".join(in_words(arg) for arg in args if getattr(arg, "__module__", "") != "torch")
        return " or ".join(dict.fromkeys(words.split(" or ")))
    if origin is typing.Literal:
        return " or ".join(filter(None, (", ".join(map(str, args[:-1])), str(args[-1]))))
    if origin is tuple and Ellipsis not in args:
        return f"a list of {len(args)}, each {in_words(args[0])}"
    if origin in (list, tuple, Sequence):
        return f"a list, each {in_words(args[0])}"
    return WORDS.get(origin or hint) or f"a {getattr(hint, '__name__', str(hint))}"


def fits(value: Any, hint: Any) -> bool:
    """Whether a plain YAML value, or an object made of one, may stand where this annotation is."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        note = hint.__metadata__[0]
        return note.holds(value, args[0]) if isinstance(note, Within) else fits(value, args[0])
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, arg) for arg in args)
    if origin is typing.Literal:
        return any(value == arg and type(value) is type(arg) for arg in args)
    if origin in (list, tuple, Sequence):
        return isinstance(value, (list, tuple)) and _each_fits(value, origin, args)
    if hint is bool or isinstance(value, bool):
        return isinstance(value, bool) and hint in (bool, Any, object)
    if hint in (int, float):
        return (isinstance(value, int) and abs(value) <= MOST) or (hint is float and _is_finite(value))
    if isinstance(origin or hint, type) and hint is not Any:
        return isinstance(value, origin or hint)
    return True


def _each_fits(values: Sequence[Any], origin: Any, args: tuple[Any, ...]) -> bool:
    """Whether every item fits, and of a tuple with a fixed length as many are there."""
    if origin is tuple and Ellipsis not in args:
        return len(values) == len(args) and all(map(fits, values, args))
    return all(fits(value, args[0]) for value in values)


def _is_finite(value: Any) -> bool:
    return isinstance(value, float) and math.isfinite(value)


def coerced(value: Any, hint: Any) -> Any:
    """A value that fits, with whole numbers made real where only real ones are meant: PyTorch tells them apart."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType) and int not in args:
        return next((coerced(value, arg) for arg in args if fits(value, arg)), value)
    if origin is tuple and isinstance(value, (list, tuple)):
        each = args[:1] * len(value) if Ellipsis in args else args
        return tuple(map(coerced, value, each))
    return float(value) if hint is float and type(value) is int else value


def unfit(where: str, value: Any, hint: Any) -> ConfigError:
    """The refusal of a value that does not fit, with the value that was meant where its kind alone was misread.

    Text that looks like a number or a truth is offered in quotes, one item where a list belongs in brackets.
    """
    text = str(value).lower() if isinstance(value, bool) else str(value)
    meant: tuple[Any, ...] = (text, [value]) if isinstance(value, (bool, int, float)) else ([value],)
    remedy = next((typed(where, one) for one in meant if fits(one, hint)), "")
    beyond = isinstance(value, int) and abs(value) > MOST
    return ConfigError(where, repr(value), "a number that fits into 64 bits" if beyond else in_words(hint), remedy)
