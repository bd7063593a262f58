"""Packing: the discriminator judges several images together, which a generator of few kinds of images cannot pass."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ganrun.core import limits
from ganrun.core.context import BatchShape, DiscriminatorOutput, Role
from ganrun.core.errors import ConfigError
from ganrun.core.facts import Fact
from ganrun.core.traits import Diagnostic, Level, Traits, facts
from ganrun.core.trick import Trick
from ganrun.models.base import title, weighted
from ganrun.models.layers import Layer, Scaled

PROBE = 1e-5  # two numbers that differ by less are the same number of the probe


def _pack(net: Any, given: tuple[Any, ...]) -> tuple[Any, ...]:
    """Forward pre-hook: [B, C, H, W] -> [B / m, m C, H, W]. The last pack is filled up with the first images."""
    images, *others = given
    net.packed = len(images)
    missing = -len(images) % net.packing
    if missing:
        images = torch.cat([images, *[images] * net.packing])[: len(images) + missing]
    return images.unflatten(0, (-1, net.packing)).flatten(1, 2), *others


def _unpack(net: Any, given: tuple[Any, ...], made: DiscriminatorOutput) -> DiscriminatorOutput:
    """Forward hook: every image gets what D made of its pack. [B / m, ...] -> [B, ...]"""

    def each(values: Tensor) -> Tensor:
        return values.repeat_interleave(net.packing, 0)[: net.packed]

    features = tuple(each(one) for one in made.features)
    return DiscriminatorOutput(each(made.score), features, {name: each(one) for name, one in made.heads.items()})


class PacGan(Trick):
    """PacGAN: D judges several images of one source together, stacked in channels. Lin et al. 2018, section 2.

    arXiv 1712.04086. The batch is cut into packs of neighbours: with m images in a pack D sees [B / m, m C, H, W].
    Every image has the score and the features of its pack, so losses and metrics stay what they are. As in the paper
    only the layers that read the image grow, to m times the inputs; their weights are those that the network drew, in
    another order for each image, over the root of m, which keeps the variance of what they give. Unlike the authors'
    code, whose batch counts packs, D's batch has B / m of them.
    """

    traits = Traits(
        needs=facts(Fact.UNLABELLED, Fact.IMAGE_ALONE, Fact.SINGLE_SCALE, Fact.SAME_SIZE),
        invalidates=facts(Fact.ONE_IMAGE, Fact.PER_SAMPLE),
    )

    def __init__(self, *, images: int):
        """Raises ConfigError for packs of less than two images, or of more than 100."""
        super().__init__()
        limits.whole(".images", images, 2, limits.LAYERS)
        self.images = self.neighbours = images
        self.unfit: list[str] = []

    def modify(self, net: nn.Module, role: Role) -> nn.Module:
        """Let D read packs. Raises ConfigError where another trick gave a form to a layer that reads the image."""
        if role != "discriminator":
            return net
        rebuilds = Fact.ENERGY in getattr(net, "traits", Traits()).provides
        readers = [] if rebuilds else [net.get_submodule(name) for name in _readers(net)]
        if not readers:
            why = "rebuilds the image" if rebuilds else "has no layer that reads only the image"
            self.unfit.append(f"{title(net, role)} {why}")
            return net
        for layer in readers:
            _widen(layer, self.images)  # type: ignore[arg-type]
        net.packing, net.packed = self.images, 0  # type: ignore[assignment]
        net.register_forward_pre_hook(_pack)  # plain functions, so that copies of the network work
        net.register_forward_hook(_unpack)
        return net

    def diagnostics(self, shape: BatchShape) -> Iterable[Diagnostic]:
        """The batch must be made of packs, two at least, and D of layers that can read them."""
        for found in self.unfit:
            yield Diagnostic("C22", Level.ERROR, f"{found}, so it cannot read several. Try: model=dcgan")
        if shape.images % self.images or shape.images < 2 * self.images:
            found = f"packs of {self.images} images do not divide a batch of {shape.images} into two or more"
            more = max(shape.images + -shape.images % self.images, 2 * self.images)
            yield Diagnostic("C13", Level.ERROR, f"{found}. Try: batch={more}")


@torch.no_grad()
def _readers(net: Any) -> list[str]:
    """The dense layers and convolutions that read the image itself, at whatever size, by name.

    Found by showing a copy an image whose channels are constants: what reads these and nothing else reads the image.
    """
    copy, found = deepcopy(net).eval(), []
    constants = torch.rand(net.channels) + 1

    def watch(name: str, layer: Layer) -> None:
        def look(_: nn.Module, given: tuple[Tensor, ...]) -> None:
            away = (given[0].flatten()[:, None] - constants).abs().amin(1)
            if bool((away < PROBE).all()):
                found.append(name)

        layer.register_forward_pre_hook(look)

    for name, layer in weighted(copy):
        watch(name, layer)
    with torch.random.fork_rng(devices=()):  # some layers draw
        image = constants.view(1, -1, 1, 1).expand(2, -1, net.resolution, net.resolution)
        copy(image, net.blank(2) if hasattr(net, "blank") else None)
    return list(dict.fromkeys(found))


def _widen(layer: Layer, times: int) -> None:
    """Let a layer read `times` as many inputs. Raises ConfigError for a weight that a trick has given a form."""
    holder: Any = layer
    if made := parametrize.is_parametrized(layer, "weight"):
        holder = layer.parametrizations.weight  # type: ignore[union-attr]
        if not all(isinstance(form, Scaled) for form in holder):
            raise ConfigError(".", "another trick gave the layer that reads the image a form", "this one before it")
    name = "original" if made else "weight"
    weight: Tensor = getattr(holder, name).detach()
    flat = weight.flatten()
    copies = [flat[torch.randperm(len(flat))].view_as(weight) for _ in range(times - 1)]
    setattr(holder, name, nn.Parameter(torch.cat([weight, *copies], 1) / sqrt(times)))
    if isinstance(layer, nn.Linear):
        layer.in_features *= times
    else:
        layer.in_channels *= times
