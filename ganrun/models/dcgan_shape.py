"""DCGAN's shape: a generator doubles 4x4 maps up to the image, a discriminator halves it. Radford et al. 2015.

A network of this shape adds only what is its own: what follows each convolution, layers that read labels, its head.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from torch import nn

from ganrun.core import limits
from ganrun.models import base, layers
from ganrun.models.conditional import NO_LABELS, Block, LabelLayers, block
from ganrun.models.layers import After, Unfold, as_output

RESOLUTIONS = (16, 32, 64, 128, 256)
SMALLEST = 4  # pixels; both networks' smallest maps are 4x4


class DoublingGenerator(base.Generator):
    """Project noise to 4x4 maps, then double them up to the image. Radford et al. 2015, figure 1."""

    def __init__(
        self, *, latent: int, channels: int, resolution: int, output: str, width: int, max_width: int, kernel: int,
        top_kernel: int, top_bias: bool, after: After, init: Mapping[str, Any], by_unit: bool = False,
        labels: LabelLayers = NO_LABELS,
    ):  # fmt: skip
        """`by_unit` normalises each number of the projection on its own; `top_bias` is the last convolution's."""
        super().__init__(latent=latent, channels=channels, resolution=resolution, output=output)
        widths = _widths(channels, resolution, width, max_width)[::-1]  # bottom first
        limits.resizing_kernel(".kernel", kernel)
        limits.resizing_kernel(".top_kernel", top_kernel)
        bottom = _bottom(latent, widths[0], after, by_unit=by_unit, labels=labels)
        self.blocks = Block(bottom, *doubled(widths, kernel, after, bias=after.bias, labels=labels))
        label, inputs = labels(), widths[-1] + labels.size()
        self.to_image = block(label=label, conv=as_output(layers.double(inputs, channels, top_kernel, bias=top_bias)))
        layers.initialise(self, **init)


class HalvingDiscriminator(base.Discriminator):
    """Halve the image down to 4x4 maps. A subclass fills `head` and initialises. Radford et al. 2015, section 3."""

    def __init__(
        self, *, channels: int, resolution: int, output: str, width: int, max_width: int, kernel: int, after: After,
        labels: LabelLayers = NO_LABELS,
    ):  # fmt: skip
        super().__init__(channels=channels, resolution=resolution, output=output)
        widths = _widths(channels, resolution, width, max_width)
        limits.resizing_kernel(".kernel", kernel)
        self.blocks = halved(channels, widths, kernel, after, first_bias=after.bias, labels=labels)
        self.last = (widths[-1], SMALLEST, SMALLEST)  # the shape of the last features, without the batch


def doubled(
    widths: Sequence[int], kernel: int, after: After, *, bias: bool, labels: LabelLayers = NO_LABELS
) -> Iterator[Block]:
    """Transposed convolutions that double the size of maps, from each width to the next, and what follows them."""
    for below, above in pairwise(widths):
        conv = layers.double(below + labels.size(), above, kernel, bias=bias)
        yield block(label=labels(), conv=conv, **after(above))


def halved(
    channels: int,
    widths: Sequence[int],
    kernel: int,
    after: After,
    *,
    first_bias: bool,
    labels: LabelLayers = NO_LABELS,
) -> Block:
    """Convolutions that halve an image, one for each width, and what follows them: no norm behind the first."""
    blocks = Block()
    for above, below in zip([channels, *widths], widths, strict=False):
        first = not len(blocks)
        conv = layers.halve(above + labels.size(first=first), below, kernel, bias=first_bias if first else after.bias)
        blocks.append(block(label=labels(first=first), conv=conv, **after(below, normed=not first)))
    return blocks


def _widths(channels: int, resolution: int, width: int, max_width: int) -> list[int]:
    """Channels of the hidden maps, from the largest maps to those of 4x4 pixels."""
    return layers.widths(channels, width, max_width, layers.scales(resolution, RESOLUTIONS, SMALLEST))


def _bottom(latent: int, width: int, after: After, *, by_unit: bool, labels: LabelLayers) -> Block:
    """Noise to the smallest maps. `by_unit`: batch norm is for each number on its own, before they become maps."""
    units = width * SMALLEST**2
    project = nn.Linear(latent + labels.size(first=True), units, bias=after.bias)
    label, unfold = labels(first=True), Unfold(channels=width, size=SMALLEST)
    if not by_unit or after.norm != "batch":
        return block(label=label, project=project, unfold=unfold, **after(width))
    rest = after.by_unit(units)
    return block(label=label, project=project, norm=rest.pop("norm"), unfold=unfold, **rest)
