"""What games that translate refuse."""

from __future__ import annotations

from torch import nn

from ganrun.core.errors import ConfigError


def check_generator(net: nn.Module) -> None:
    """Raises ConfigError for a generator that makes images from noise."""
    if hasattr(net, "latent"):
        found, expected = "it makes images from noise", "a generator that makes them from images"
        raise ConfigError("model.generator", found, expected, "model=translation, or game=latent")
