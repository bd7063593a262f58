"""Truncation: samples that are less varied and more typical, by noise near 0 or by styles near their mean."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ganrun.core.seeding import the_same_each_time

NOISES = 10_000  # of which the mean style is taken, as in the code of Karras et al. 2019


def truncated_normal(count: int, size: int, threshold: float, device: torch.device) -> Tensor:
    """N(0, 1) in which values beyond the threshold are drawn again. Brock et al. 2019, section 3.1. [count, size]"""
    noise = torch.zeros(count, size, device=device)
    return nn.init.trunc_normal_(noise, a=-threshold, b=threshold) if threshold else noise


class TruncatedStyles(nn.Module):
    """A generator whose styles are moved towards their mean: w_mean + psi (w - w_mean). Karras et al. 2019, appendix B.

    The mean is that of the styles of 10,000 noises, always the same ones. With classes each has a mean of its own, as
    in Sauer et al. 2022 (arXiv 2202.00273): towards one mean for all, samples would lose their class.
    """

    def __init__(self, generator: Any, prior: Any, psi: float):
        """`generator` makes `styles` of noise and labels, and images of styles by its `synthesis`."""
        super().__init__()
        self.generator, self.psi = generator, psi
        self.means = self._means(prior)  # [K, L, S]; [1, L, S] without classes

    @torch.no_grad()
    def _means(self, prior: Any) -> Tensor:
        generator, classes = self.generator, self.generator.classes
        device = next(generator.parameters()).device
        with the_same_each_time(device):
            noise = prior(NOISES, generator.latent, device=device)
        given = [torch.full((NOISES,), label, device=device) for label in range(classes)] if classes else [None]
        return torch.stack([generator.styles(noise, labels).mean(0) for labels in given])

    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """[B, Z], labels [B] or shares of each class [B, K] -> [B, C, H, W]."""
        means = self.means if labels is None or not self.generator.classes else self._mean(labels)
        styles = self.generator.styles(noise, labels)
        images: Tensor = self.generator.synthesis(means + self.psi * (styles - means))
        return images

    def _mean(self, labels: Tensor) -> Tensor:
        """The mean styles of these classes. [B, L, S]"""
        if labels.is_floating_point():
            return torch.einsum("bk,kls->bls", labels, self.means)
        return self.means[labels]
