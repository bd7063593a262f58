"""What a run would have without some of what was typed: the settings of its recipe."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

from ganrun.config.compose import compose
from ganrun.config.overrides import read_overrides
from ganrun.config.validate import resolve
from ganrun.core.errors import ConfigError


def recipe(typed: Sequence[str], keys: Collection[str]) -> Mapping[str, Any]:
    """The resolved settings of a run without what was typed for these keys, or inside them.

    `typed` are overrides, as a run's overrides.yaml has them. Empty where none is for these keys, and where what is
    left cannot be composed, as with a configuration folder that is not there any more.
    """
    with suppress(ConfigError):
        others = [
            word
            for word, one in zip(typed, read_overrides(typed), strict=True)
            if not any(f"{one.key_or_group}.".startswith(f"{key}.") for key in keys)
        ]
        if len(others) < len(typed):
            return resolve(compose(others))
    return {}
