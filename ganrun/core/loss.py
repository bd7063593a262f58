"""What the two players are told about each other's scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from ganrun.core.context import Targets
from ganrun.core.traits import Traits


class Loss(nn.Module):
    """An adversarial loss. State that it needs, such as BEGAN's k, is a buffer."""

    traits: Traits = Traits()
    paired: ClassVar[bool] = False  # the generator's side reads the scores of reals too

    def __init__(self) -> None:
        """Takes nothing: without this, torch's own constructor would seem to take any setting."""
        super().__init__()

    def discriminator(self, real: Tensor, fake: Tensor, targets: Targets) -> Tensor:
        """What the discriminator minimises. Scores [B] and [B]; targets as the tricks left them. Returns []"""
        raise NotImplementedError

    def generator(self, fake: Tensor, real: Tensor | None, targets: Targets) -> Tensor:
        """What the generator minimises. `targets` are hard: they only say which number stands for real. Returns []"""
        raise NotImplementedError

    def probability(self, score: Tensor) -> Tensor | None:
        """A score in the units of the targets, where the loss has any. [B] -> [B]"""
        return None

    def metrics(self) -> Mapping[str, Tensor]:
        """Numbers worth a curve after each discriminator update, as device tensors. Each []"""
        return {}
