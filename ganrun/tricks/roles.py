"""The setting by which a trick names the networks that it acts on."""

from __future__ import annotations

from collections.abc import Mapping

from ganrun.core import limits
from ganrun.core.context import Role

BOTH: tuple[Role, Role] = ("generator", "discriminator")
ROLES: Mapping[str, tuple[Role, ...]] = {
    "generator": ("generator",),
    "discriminator": ("discriminator",),
    "both": BOTH,
}


def roles(where: str, name: str) -> tuple[Role, ...]:
    """The networks that `generator`, `discriminator` or `both` names. Raises ConfigError for any other name."""
    limits.choice(where, name, ROLES)
    return ROLES[name]
