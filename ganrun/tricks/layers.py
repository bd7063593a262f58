"""Tricks that add layers to the networks."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ganrun.core.context import PairView, Role
from ganrun.core.errors import ConfigError
from ganrun.core.trick import Setting, Trick
from ganrun.models.base import Discriminator, Generator, blocks, shapes, title
from ganrun.models.epilogues import Epilogue


class MinibatchDiscrimination(Setting):
    """Tell the score how close each image is to the others of its batch. Salimans et al. 2016, section 3.2.

    The layer is `ganrun.models.epilogues.MinibatchDiscrimination`; this scales its kernels to a batch of reals before
    the first step, as the paper's code does.
    """

    def bind(self, pair: PairView, real: Tensor, fake: Tensor) -> None:
        features = pair.judge(real, pair.condition).features[-1]
        for layer in pair.discriminator.modules():
            if isinstance(layer, Epilogue):
                layer.calibrate(features)


class Attention(nn.Module):
    """x + gamma * attention over all pixels, gamma starting at 0. Zhang et al. 2019 (SAGAN), equations 1 to 3.

    As in the paper's code: 1x1 convolutions to C/8, C/8 and C/2 channels without biases, keys and values pooled 2x2, no
    temperature, Glorot's initialisation. Matrices in the open rather than a fused kernel, which could not be
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
        """[B, C, H, W] -> [B, C, H, W]"""
        query = self.query(maps).flatten(2)  # [B, C/8, HW]
        key = functional.max_pool2d(self.key(maps), 2).flatten(2)  # [B, C/8, HW/4]
        value = functional.max_pool2d(self.value(maps), 2).flatten(2)  # [B, C/2, HW/4]
        shares = (query.transpose(1, 2) @ key).softmax(2)  # [B, HW, HW/4], each row sums to 1
        found = (value @ shares.transpose(1, 2).to(value.dtype)).unflatten(2, maps.shape[2:])
        return maps + self.gamma * self.output(found)


class SelfAttention(Trick):
    """Let distant pixels of G's and D's hidden maps speak to each other. Zhang et al. 2019 (SAGAN), section 3.

    Behind the first block of each network whose maps are `at` pixels high.
    """

    def __init__(self, *, at: int):
        super().__init__()
        self.at = at

    def modify(self, net: nn.Module, role: Role) -> nn.Module:
        made = shapes(net) if isinstance(net, Generator | Discriminator) else []
        maps = {shape[-1]: i for i, shape in reversed([*enumerate(made)]) if len(shape) == 3}  # size -> first block
        here = "tricks.self_attention"
        possible = sorted(size for size in maps if size > 1)  # keys and values are pooled 2x2
        if not possible:
            raise ConfigError(here, f"{title(net, role)} has no feature maps", "a convolutional model", "model=dcgan")
        if self.at not in possible:
            found = f"{self.at}, but the maps of {title(net, role)} are not of that size"
            close = min(possible, key=lambda size: abs(size - self.at))
            raise ConfigError(f"{here}.at", found, f"one of {', '.join(map(str, possible))}", f"{here}.at={close}")
        first = maps[self.at]
        blocks(net)[first].add_module("attention", Attention(channels=made[first][0]))
        return net


class SteadyDropout(nn.Module):
    """Dropout that stays on when sampling."""

    def __init__(self, *, p: float):
        super().__init__()
        self.p = p

    def forward(self, values: Tensor) -> Tensor:
        return functional.dropout(values, self.p, training=True)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class GeneratorDropout(Trick):
    """Dropout in G, in training and when sampling. ganhacks 17; pix2pix, Isola et al. 2017.

    A second source of noise. Behind the lowest `blocks` blocks, or all when there are fewer: pix2pix has it in the
    first three of its decoder.
    Samples draw their masks from torch's generator like all else, so the same step gives the same grid.
    """

    def __init__(self, *, p: float, blocks: int):
        super().__init__()
        here = "tricks.generator_dropout"
        if not 0 < p < 1:
            raise ConfigError(f"{here}.p", f"{p}", "0 < p < 1", f"{here}.p=0.5")
        if blocks < 1:
            raise ConfigError(f"{here}.blocks", f"{blocks}", "at least 1", f"{here}.blocks=3")
        self.p, self.blocks = p, blocks

    def modify(self, net: nn.Module, role: Role) -> nn.Module:
        if role != "generator":
            return net
        if not blocks(net):
            found = f"{title(net, role)} has no blocks of layers"
            raise ConfigError("tricks.generator_dropout", found, "a generator that has", "model=dcgan")
        for block in blocks(net)[: self.blocks]:
            block.add_module("steady_dropout", SteadyDropout(p=self.p))
        return net
