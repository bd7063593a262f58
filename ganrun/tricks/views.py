"""Tricks on what the discriminator sees."""

from __future__ import annotations

import torch
from torch import Tensor

from ganrun.core.schedule import Schedule, Scheduled
from ganrun.core.trick import Trick


class InstanceNoise(Trick):
    """Add N(0, sigma) to every image the discriminator sees, real or fake, in both players' updates.

    Soenderby et al. 2017, section 3.1; Arjovsky and Bottou 2017, section 3. `sigma` is in units of the image's [-1, 1].
    """

    def __init__(self, *, sigma: float | Schedule):
        super().__init__()
        self.sigma = Scheduled(sigma)

    def view(self, images: Tensor) -> Tensor:
        return images + self.sigma() * torch.randn_like(images)
