"""Something to try for a refusal that has no remedy of its own: the value that its setting has otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ganrun.config.compose import composed
from ganrun.config.groups import Choices
from ganrun.config.overrides import own_folders, read_options, read_overrides
from ganrun.config.validate import find
from ganrun.core.errors import ConfigError, ConfigErrors, typed


def remedied(error: ConfigError, arguments: list[str]) -> ConfigError:
    """The refusal of these arguments with something to try in every line."""
    try:
        options = read_options(arguments)
        return with_remedy(error, read_overrides(options.overrides), Choices(own_folders(options)))
    except ConfigError:
        return error


def with_remedy(error: ConfigError, overrides: Sequence[Override], choices: Choices) -> ConfigError:
    """The same refusal with something to try: without a remedy of its own, the value that its setting has otherwise."""
    if error.complete:
        return error
    places = [one.where for one in getattr(error, "reasons", [error]) if isinstance(one, ConfigError)]
    others = [str(one.input_line) for one in overrides if not any(_touches(one, place) for place in places)]
    for some in (others, []):
        with suppress(HydraException, OmegaConfBaseException, ConfigError):
            return filled(error, OmegaConf.to_container(composed(some, choices)))
    return filled(error, {})


def filled(error: ConfigError, settings: Any) -> ConfigError:
    """The same refusal with a remedy: its setting's value in these settings, or else leaving the setting out."""
    if isinstance(error, ConfigErrors):
        return ConfigErrors(filled(one, settings) if isinstance(one, ConfigError) else one for one in error.reasons)
    value = find(settings, error.where)
    usable = isinstance(value, (bool, int, float, str, list)) and repr(value) != error.found
    return (
        error if error.remedy else error.trying(typed(error.where, value) if usable else f"leaving {error.where} out")
    )


def _touches(override: Override, key: str) -> bool:
    """Whether this override sets the key, something inside it, or what it is inside."""
    one = f"{override.key_or_group}."
    return one.startswith(f"{key}.") or f"{key}.".startswith(one)
