"""BigGAN's generator: each block is given the class and a part of the noise. Brock et al. 2019, appendix B."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ganrun.core import limits
from ganrun.core.errors import ConfigError
from ganrun.models import base, resnet_blocks
from ganrun.models.conditional import Labelled, embedded
from ganrun.models.layers import After
from ganrun.models.resnet_blocks import SEED, Before


class CodedBatchNorm(Labelled):
    """Batch norm whose gains and biases are linear in a code of the class and some noise: (1 + W c) x + V c.

    Brock et al. 2019, appendix B: without biases of their own, so that gains are centred at 1 and biases at 0.
    """

    def __init__(self, *, channels: int, code: int):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.gain, self.bias = (nn.Linear(code, channels, bias=False) for _ in range(2))

    def forward(self, maps: Tensor, labels: Tensor | None) -> Tensor:
        """Maps [B, C, H, W] and, in place of labels, codes [B, N] -> maps of the same shape."""
        assert labels is not None, "a conditional network was given no labels"
        gain, bias = (layer(labels)[:, :, None, None].to(maps.dtype) for layer in (self.gain, self.bias))
        return self.norm(maps) * (1 + gain) + bias


class Generator(base.Generator):
    """Residual blocks, each of which is given the class's embedding, which all share, and its own part of the noise.

    The first part of the noise is projected to 4x4 maps. Brock et al. 2019, figure 15; blocks as in figure 8 of Miyato
    et al. 2018.
    """

    mixes_labels = True  # shares of each class are taken too

    def __init__(
        self, *, latent: int, channels: int, resolution: int, classes: int, embed: int, width: int, max_width: int,
        kernel: int, top_kernel: int, upsample: str, activation: str, slope: float, dropout: float, output: str,
        init: Mapping[str, Any],
    ):  # fmt: skip
        super().__init__(latent=latent, channels=channels, resolution=resolution, output=output)
        widths = resnet_blocks.generator_widths(channels, resolution, width, max_width)
        resnet_blocks.check_up(kernel, top_kernel, upsample)
        limits.classes(".classes", classes)
        limits.whole(".embed", embed, 1)
        self.classes, self.part = classes, _part(latent, len(widths))
        self.shared = nn.Embedding(classes, embed)
        after = After(norm="batch", activation=activation, slope=slope, dropout=dropout)
        code = embed + self.part
        before = Before(after=replace(after, own_norm=partial(CodedBatchNorm, code=code)))
        project = nn.Linear(self.part, widths[0] * SEED**2)
        self.blocks = resnet_blocks.tower(project, widths, kernel=kernel, upsample=upsample, before=before)
        self.to_image = resnet_blocks.to_image(widths[-1], channels, top_kernel, after)
        resnet_blocks.initialise(self, **init)
        nn.init.orthogonal_(self.shared.weight)

    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """Noise [B, Z] and labels [B] -> images [B, C, H, W]."""
        assert labels is not None, "a conditional network was given no labels"
        shared = embedded(self.shared, labels)
        first, *others = noise.split(self.part, 1)
        seed, *blocks = self.blocks
        hidden = seed(first)
        for block, part in zip(blocks, others, strict=True):
            hidden = block(hidden, torch.cat([shared, part.to(shared.dtype)], 1))
        return self.squash(self.to_image(hidden))


def _part(latent: int, parts: int) -> int:
    """Numbers of noise for each part: one is projected, the others go to a block each."""
    if latent % parts:
        found = f"{latent} numbers of noise, which {parts} parts do not share evenly"
        close = max(parts, latent // parts * parts)
        raise ConfigError(".latent", found, f"a multiple of {parts}", f".latent={close}")
    return latent // parts
