"""StyleGAN's regularisers, for generators with a style for each layer: path length and style mixing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ganrun.core import across, limits
from ganrun.core.context import Context, Role
from ganrun.core.facts import Fact
from ganrun.core.schedule import Schedule, Scheduled
from ganrun.core.traits import Traits, facts
from ganrun.core.trick import Trick


class PathLength(Trick):
    """Path length regularisation. StyleGAN2, Karras et al. 2020, equation 4.

    Steps of one length in the space of styles are to change the image by the same amount everywhere.
    weight * E (|J^T y| - a)^2 with y ~ N(0, I) / sqrt(H W) for each image, J^T y the gradient of <G(w), y> with respect
    to the styles w, and a the running mean of its length, updated by the share `decay`. As in the paper's code, the
    length is the root of the mean over layers of the squared length for each, `a` is updated before it is compared
    with, and only the first B / `shrink` images of a batch are used. In float32 whatever the engine's precision, as it
    is differentiated twice.
    """

    traits = Traits(needs=facts(Fact.LATENT, Fact.STYLES, Fact.SINGLE_SCALE))
    mean: Tensor  # [] running mean of the lengths
    length: Tensor  # [] their mean when the trick was last due

    def __init__(self, *, weight: float | Schedule, decay: float, shrink: int, every: int):
        """Raises ConfigError for a negative weight, a decay outside [0, 1), and counts below 1."""
        super().__init__()
        if not isinstance(weight, Schedule):
            limits.number(".weight", weight, 0)
        limits.number(".decay", decay, 0, 1)
        limits.whole(".shrink", shrink, 1)
        limits.whole(".every", every, 1)
        self.weight, self.decay, self.shrink, self.every = Scheduled(weight), decay, shrink, every
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("length", torch.zeros(()))

    def generator_term(self, context: Context) -> Tensor:
        assert context.latent is not None
        labels = context.latent.condition.labels
        noise, labels = self._few(context.latent.noise), None if labels is None else self._few(labels)
        lengths = self.lengths(context.pair.generator, noise, labels)
        length = across.mean(lengths.mean())
        mean = self.mean.lerp(length, self.decay)
        self.mean.copy_(mean.detach())
        self.length.copy_(length.detach())
        return self.weight() * (lengths - mean).square().mean()

    def _few(self, rows: Tensor) -> Tensor:
        """The first of a batch. [B, ...] -> [B / shrink, ...]"""
        every = across.whole(rows)
        return across.mine(every[: max(1, len(every) // self.shrink)])

    @staticmethod
    def lengths(generator: Any, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """|J^T y| for each image, itself differentiable. [B, Z] -> [B]"""
        with torch.autocast(noise.device.type, enabled=False):
            styles = generator.styles(noise, labels)
            images = generator.synthesis(styles)
            towards = torch.randn_like(images) / (images.shape[2] * images.shape[3]) ** 0.5
            (gradient,) = torch.autograd.grad((images * towards).sum(), styles, create_graph=True)
            return gradient.square().sum(2).mean(1).sqrt()

    def metrics(self) -> Mapping[str, Tensor]:
        return {"length": self.length}


class Mixed(nn.Module):
    """A mapping network in training: the styles of one noise for the first layers, of another for the rest."""

    def __init__(self, styles: nn.Module, p: float):
        super().__init__()
        self.styles, self.p = styles, p

    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """Styles of noise, mixed in training. [B, Z] -> [B, layers, S]

        The labels [B] hold for both noises.
        """
        own = self.styles(noise, labels)
        if not self.training:
            return own
        layers = torch.arange(own.shape[1], device=own.device)
        is_own = layers < self.cutoff(own.shape[1], own.device)
        return torch.where(is_own[None, :, None], own, self.styles(torch.randn_like(noise), labels))

    def cutoff(self, count: int, device: torch.device) -> Tensor:
        """The first layer with the other noise: 1 to count - 1 with probability p, else `count`, which is none. []"""
        crossover = torch.randint(1, count, (), device=device)
        return torch.where(torch.rand((), device=device) < self.p, crossover, count)

    def extra_repr(self) -> str:
        """The settings, for print."""
        return f"p={self.p}"


class StyleMixing(Trick):
    """Style mixing: an image has the styles of two noises. StyleGAN, Karras et al. 2019, section 3.1.

    In training only, with probability `p`: one noise up to a layer, another from there on. The layer is uniform, and
    the same for the whole batch as in the paper's code; the second noise is N(0, I).
    """

    traits = Traits(needs=facts(Fact.STYLES))

    def __init__(self, *, p: float):
        """Raises ConfigError for a probability outside [0, 1]."""
        super().__init__()
        limits.number(".p", p, 0, 1 + 1e-9)
        self.p = p

    def modify(self, net: nn.Module, role: Role) -> nn.Module:
        """Wrap the generator's mapping network. One without styles stays as it is, and is refused by its traits."""
        if role == "generator" and isinstance(getattr(net, "styles", None), nn.Module):
            net.styles = Mixed(net.get_submodule("styles"), self.p)
        return net
