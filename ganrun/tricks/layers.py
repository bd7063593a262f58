"""Layers added to the networks: minibatch discrimination, self-attention, dropout in the generator."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from ganrun.core.context import PairView, Role
from ganrun.core.errors import ConfigError
from ganrun.core.trick import Setting, Trick
from ganrun.models.base import Discriminator, Generator, blocks, shapes, title
from ganrun.models.epilogues import Epilogue


class MinibatchDiscrimination(Setting):
    """Minibatch discrimination: D sees how close the images of a batch are. Salimans et al. 2016, section 3.2.

    The layer is `ganrun.models.epilogues.MinibatchDiscrimination`; this trick scales its kernels to a batch of reals
    before the first step, as the paper's code does.
    """

    def bind(self, pair: PairView, real: Tensor, fake: Tensor) -> None:
        """Calibrate the layer on features of reals [B, C, H, W]."""
        features = pair.judge(real, pair.condition).features[-1]
        for layer in pair.discriminator.modules():
            if isinstance(layer, Epilogue):
                layer.calibrate(features)


class Attention(nn.Module):
    """Self-attention over all pixels, x + gamma * attention. SAGAN, Zhang et al. 2019, equations 1 to 3.

    gamma is 0 at first. As in the paper's code: 1x1 convolutions to C/8, C/8 and C/2 channels without biases, keys and
    values pooled 2x2, no temperature, Glorot's initialisation. Plain matrix products, since a fused kernel cannot be
    differentiated twice.
    """

    gamma: nn.Parameter  # []

    def __init__(self, *, channels: int):
        super().__init__()
        narrow, middle = max(1, channels // 8), max(1, channels // 2)
        self.query = nn.Conv2d(channels, narrow, 1, bias=False)
        self.key = nn.Conv2d(channels, narrow, 1, bias=False)
        self.value = nn.Conv2d(channels, middle, 1, bias=False)
        self.output = nn.Conv2d(middle, channels, 1, bias=False)
        for layer in (self.query, self.key, self.value, self.output):
            nn.init.xavier_uniform_(layer.weight)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, maps: Tensor) -> Tensor:
        """Hidden maps with attention added. [B, C, H, W] -> [B, C, H, W]"""
        query = self.query(maps).flatten(2)  # [B, C/8, HW]
        key = functional.max_pool2d(self.key(maps), 2).flatten(2)  # [B, C/8, HW/4]
        value = functional.max_pool2d(self.value(maps), 2).flatten(2)  # [B, C/2, HW/4]
        shares = (query.transpose(1, 2) @ key).softmax(2)  # [B, HW, HW/4], each row sums to 1
        found = (value @ shares.transpose(1, 2).to(value.dtype)).unflatten(2, maps.shape[2:])
        return maps + self.gamma * self.output(found)


class SelfAttention(Trick):
    """Self-attention in G and D. SAGAN, Zhang et al. 2019, section 3.

    Behind the first block of each network whose maps are `at` pixels high.
    """

    def __init__(self, *, at: int):
        super().__init__()
        self.at = at

    def modify(self, net: nn.Module, role: Role) -> nn.Module:
        """Add attention to this network. Raises ConfigError where it has no maps of that height."""
        made = shapes(net) if isinstance(net, Generator | Discriminator) else []
        maps = {shape[-1]: i for i, shape in reversed([*enumerate(made)]) if len(shape) == 3}  # size -> first block
        possible = sorted(size for size in maps if size > 1)  # keys and values are pooled 2x2
        if not possible:
            raise ConfigError(".", f"{title(net, role)} has no feature maps", "a convolutional model", "model=dcgan")
        if self.at not in possible:
            found = f"{self.at}, but the maps of {title(net, role)} are not of that size"
            close = min(possible, key=lambda size: abs(size - self.at))
            raise ConfigError(".at", found, f"one of {', '.join(map(str, possible))}", f".at={close}")
        first = maps[self.at]
        blocks(net)[first].add_module("attention", Attention(channels=made[first][0]))
        return net


class SteadyDropout(nn.Module):
    """Dropout that also acts in evaluation mode, hence when sampling."""

    when_sampling: ClassVar[str] = (
        "Dropout also acts here, as in the run's own samples: the same noise gives another image at every call."
    )

    def __init__(self, *, p: float):
        super().__init__()
        self.p = p

    def forward(self, values: Tensor) -> Tensor:
        """Drop and rescale. [B, ...] -> [B, ...]"""
        return functional.dropout(values, self.p, training=True)

    def extra_repr(self) -> str:
        """The settings, for print."""
        return f"p={self.p}"


class GeneratorDropout(Trick):
    """Dropout in G, in training and when sampling. ganhacks 17; pix2pix, Isola et al. 2017.

    A second source of noise. Behind the first `blocks` blocks, or all when there are fewer: pix2pix has it in the
    first three of its decoder. Masks are drawn from torch's generator, so the same step gives the same grid.
    """

    def __init__(self, *, p: float, blocks: int):
        """Raises ConfigError for a probability outside (0, 1), and for less than one block."""
        super().__init__()
        if not 0 < p < 1:
            raise ConfigError(".p", f"{p}", "0 < p < 1", ".p=0.5")
        if blocks < 1:
            raise ConfigError(".blocks", f"{blocks}", "at least 1", ".blocks=3")
        self.p, self.blocks = p, blocks

    def modify(self, net: nn.Module, role: Role) -> nn.Module:
        """Add dropout to G. Raises ConfigError for a generator without blocks."""
        if role != "generator":
            return net
        if not blocks(net):
            found = f"{title(net, role)} has no blocks of layers"
            raise ConfigError(".", found, "a generator that has", "model=dcgan")
        for block in blocks(net)[: self.blocks]:
            block.add_module("steady_dropout", SteadyDropout(p=self.p))
        return net
