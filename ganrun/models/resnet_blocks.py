"""What residual networks are made of: blocks that double or halve maps, and the checks of their settings.

Gulrajani et al. 2017 (gan_cifar_resnet.py); Miyato et al. 2018, figure 8.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from ganrun.core import limits
from ganrun.core.errors import ConfigError
from ganrun.models import layers
from ganrun.models.conditional import Block, Labelled, block
from ganrun.models.layers import After, Parts, Unfold, as_output, keep

RESOLUTIONS = (16, 32, 64, 128, 256)
SEED = 4  # pixels; a generator begins with maps of 4x4
UPSAMPLERS = ("nearest", "bilinear")
POOLS = ("sum", "mean")


class Residual(Labelled):
    """Maps through two convolutions, plus the maps themselves. He et al. 2016 (Identity Mappings), equation 2."""

    def __init__(self, *, inner: Block, shortcut: nn.Module | None):
        super().__init__()
        self.inner, self.shortcut = inner, shortcut

    def forward(self, maps: Tensor, labels: Tensor | None = None) -> Tensor:
        """Maps [B, C, H, W], labels [B] -> maps [B, C', H', W']."""
        inner = self.inner(maps, labels)
        return inner + (maps if self.shortcut is None else self.shortcut(maps))


@dataclass(frozen=True, kw_only=True)
class Before:
    """What comes before a convolution of a residual block: a norm, an activation; before its second, dropout."""

    after: After

    def first(self, channels: int) -> Parts:
        """The layers before the first convolution, by name."""
        parts = self.after(channels)
        return {"norm": parts["norm"], "activation": parts["activation"]}

    def second(self, channels: int) -> Parts:
        """The layers before the second convolution, by name."""
        parts = self.after(channels)
        return {"norm2": parts["norm"], "activation2": parts["activation"], "dropout": parts["dropout"]}


def up(inputs: int, outputs: int, *, kernel: int, upsample: str, before: Before) -> Block:
    """A block that doubles the size: ahead of its first convolution, and on the shortcut. Miyato et al. 2018, figure 8.

    The papers upsample ahead of the shortcut's convolution; behind it, which costs a quarter, a 1x1 kernel gives the
    same maps.
    """
    inner = block(
        **before.first(inputs),
        up=nn.Upsample(scale_factor=2, mode=upsample),
        conv=keep(inputs, outputs, kernel, bias=True),
        **before.second(outputs),
        conv2=keep(outputs, outputs, kernel, bias=True),
    )
    shortcut = block(conv=keep(inputs, outputs, 1, bias=True), up=nn.Upsample(scale_factor=2, mode=upsample))
    return block(residual=Residual(inner=inner, shortcut=shortcut))


def down(inputs: int, outputs: int, *, hidden: int, kernel: int, before: Before, halves: bool, image: bool) -> Block:
    """A block that halves the size by mean pooling: behind its second convolution, and on the shortcut.

    Where it sees the `image`, neither norm nor activation come before its first convolution. Where the shortcut has
    nothing to change it has no layers. Pooling ahead of the shortcut's 1x1 convolution gives what pooling behind it
    does, at a quarter of the cost.
    """
    inner = block(
        **({} if image else before.first(inputs)),
        conv=keep(inputs, hidden, kernel, bias=True),
        **(before.second(hidden) | ({"norm2": None} if image else {})),
        conv2=keep(hidden, outputs, kernel, bias=True),
        down=nn.AvgPool2d(2) if halves else None,
    )
    changes = halves or inputs != outputs
    pool = nn.AvgPool2d(2) if halves else None
    shortcut = block(down=pool, conv=keep(inputs, outputs, 1, bias=True)) if changes else None
    return block(residual=Residual(inner=inner, shortcut=shortcut))


def tower(project: nn.Linear, widths: list[int], **how: Any) -> Block:
    """A generator's blocks: a dense layer to 4x4 maps, then residual blocks that double them. Widths bottom first."""
    blocks = block(seed=block(project=project, unfold=Unfold(channels=widths[0], size=SEED)))
    for scale, (below, above) in enumerate(pairwise(widths), 1):
        blocks.add_module(f"up{scale}", up(below, above, **how))
    return blocks


def to_image(width: int, channels: int, kernel: int, after: After) -> nn.Sequential:
    """Norm, activation, a convolution. The norm reads no labels."""
    parts = after(width)
    conv = as_output(keep(width, channels, kernel, bias=True))
    return layers.stack(norm=parts["norm"], activation=parts["activation"], conv=conv)


@torch.no_grad()
def initialise(net: nn.Module, **init: Any) -> None:
    """As for every network, then the convolutions inside residual blocks times `residual_scale`.

    Both papers' codes have Glorot's initialisation, inside blocks times the root of 2.
    Raises ConfigError for a negative factor, and for settings that are missing or unknown.
    """
    residual_scale = limits.entry(".init", init, "residual_scale")
    limits.number(".init.residual_scale", residual_scale, 0)
    layers.initialise(net, **{name: value for name, value in init.items() if name != "residual_scale"})
    for layer in net.modules() if init["kind"] != "default" else ():
        if isinstance(layer, Residual):
            for conv in (layer.inner.conv, layer.inner.conv2):
                conv.weight.mul_(residual_scale)  # type: ignore[union-attr, operator]


def generator_widths(channels: int, resolution: int, width: int, max_width: int) -> list[int]:
    """Channels of a generator's maps, from 4x4 up to the image's size."""
    scales = layers.scales(resolution, RESOLUTIONS, SEED)
    return layers.widths(channels, width, max_width, scales + 1)[::-1]


def check_up(kernel: int, top_kernel: int, upsample: str) -> None:
    """Raises ConfigError for kernels and an upsampling that a generator's blocks cannot have."""
    limits.odd_kernel(".kernel", kernel)
    limits.odd_kernel(".top_kernel", top_kernel)
    limits.choice(".upsample", upsample, UPSAMPLERS)


def halvings(resolution: int, smallest: int) -> int:
    """How many blocks halve an image until its maps have the smallest size. Raises ConfigError where none do."""
    limits.resolution(".resolution", resolution, RESOLUTIONS)
    possible = [2**n for n in range(1, resolution.bit_length() - 1)]
    if smallest not in possible:
        sizes = ", ".join(map(str, possible))
        raise ConfigError(".smallest", str(smallest), f"one of {sizes} (pixels)", f".smallest={possible[0]}")
    return (resolution // smallest).bit_length() - 1
