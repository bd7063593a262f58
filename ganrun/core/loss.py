"""The adversarial loss of a pair: from the scores of reals and fakes to what each player minimises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from ganrun.core.context import Targets
from ganrun.core.traits import Traits


class Loss(nn.Module, ABC):
    """An adversarial loss. State that it needs, such as BEGAN's k, is a buffer."""

    traits: Traits = Traits()
    paired: ClassVar[bool] = False  # the generator's side reads the scores of reals too
    output_name: ClassVar[str] = "score"  # what metrics call D's number: a score, or an energy, which is low for reals

    def __init__(self) -> None:
        """Takes nothing: without this, torch's own constructor would seem to take any setting."""
        super().__init__()

    @abstractmethod
    def discriminator(self, real: Tensor, fake: Tensor, targets: Targets) -> Tensor:
        """The discriminator's loss, from scores [B] and [B] and the targets as tricks left them. Returns []."""

    @abstractmethod
    def generator(self, fake: Tensor, real: Tensor | None, targets: Targets) -> Tensor:
        """The generator's loss, from scores [B] and hard targets: the numbers for real and fake. Returns []."""

    def probability(self, score: Tensor) -> Tensor | None:
        """The probability of being real that a score stands for, where the loss has targets. [B] -> [B]"""
        return None

    def metrics(self) -> Mapping[str, Tensor]:
        """Metrics to log after each discriminator update, as device tensors. Each []"""
        return {}
