"""What all generators and all discriminators here have in common: blocks, then a layer that makes the output."""

import math
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import replace

import torch
from torch import Tensor, nn

from ganrun.core import limits
from ganrun.core.context import DiscriminatorOutput
from ganrun.core.errors import ConfigError
from ganrun.core.facts import Fact
from ganrun.core.traits import Traits, facts
from ganrun.models.conditional import Beside, block, passed
from ganrun.models.epilogues import Epilogue
from ganrun.models.layers import WEIGHTED, Fold, Layer, Maxout, W, as_output, dropout, fan_in, is_output

RANGES = {"tanh": (-1.0, 1.0), "linear": (-math.inf, math.inf)}
GAIN = math.sqrt(2)  # of layers before a ReLU
OUTPUTS = ("linear", "sigmoid")
KINKED = (nn.ReLU, nn.LeakyReLU, nn.SELU, Maxout)  # activations whose slope jumps
OFFERS = (Fact.FEATURES, Fact.FREE_WEIGHTS, Fact.SCORE, Fact.PER_SAMPLE, Fact.ALONE, Fact.STEADY,
          Fact.ONE_IMAGE, Fact.SMOOTH)  # fmt: skip


class Generator(nn.Module):
    """Noise through blocks to an image. A subclass fills `blocks` and `to_image`, bottom (latent side) first."""

    blocks: nn.Sequential
    to_image: nn.Sequential
    classes: int = 0  # whose labels it reads; 0: it makes images of no class in particular
    conditional: bool = False  # whether it reads a condition that is no label

    def __init__(self, *, latent: int, channels: int, resolution: int, output: str):
        super().__init__()
        limits.whole(".latent", latent, 1)
        limits.choice(".output", output, RANGES)
        self.latent, self.channels, self.resolution = latent, channels, resolution
        self.range = RANGES[output]  # what the images can take
        self.squash = nn.Tanh() if output == "tanh" else nn.Identity()

    @property
    def traits(self) -> Traits:
        """None of its own: what a generator is does not restrict what it is combined with."""
        return Traits()

    def blank(self, count: int) -> Tensor:
        """Labels of class 0. [count] int64"""
        return torch.zeros(count, dtype=torch.int64)

    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """[B, Z] -> [B, C, H, W]. Labels [B] go to the layers that read them; where there are none they are ignored."""
        return self.squash(passed(self.to_image, passed(self.blocks, noise, labels), labels))


class Discriminator(nn.Module):
    """Images through blocks, whose outputs are the features, to a score. A subclass fills `blocks` and `head`."""

    blocks: nn.Sequential
    head: nn.Sequential
    classes: int = 0  # whose labels it reads, or names in heads["class"] (Fact.CLASS_HEAD); 0: it knows none

    def __init__(self, *, channels: int, resolution: int, output: str):
        super().__init__()
        limits.choice(".output", output, OUTPUTS)
        self.channels, self.resolution = channels, resolution
        self.squash = nn.Sigmoid() if output == "sigmoid" else nn.Identity()

    @property
    def traits(self) -> Traits:
        """Read from the layers that are there now, so a trick that replaces batch norm changes them."""
        coupled = any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in self.modules())
        dropping = any(isinstance(layer, nn.Dropout) for layer in self.modules())
        comparing = any(isinstance(layer, Epilogue) for layer in self.modules())
        bounded = isinstance(self.squash, nn.Sigmoid)
        kinked = any(isinstance(layer, KINKED) or getattr(layer, "kinked", False) for layer in self.modules())
        lost = {Fact.PER_SAMPLE: coupled, Fact.SCORE: bounded, Fact.STEADY: dropping, Fact.ALONE: comparing,
                Fact.SMOOTH: kinked}  # fmt: skip
        return Traits(
            provides=facts(*OFFERS),
            invalidates=facts(*[fact for fact, is_lost in lost.items() if is_lost]),
            prefers=facts(*[Fact.CURRENT] * comparing),  # a pool mixes generators within a batch
        )

    def forward(self, images: Tensor, labels: Tensor | None = None) -> DiscriminatorOutput:
        """[B, C, H, W] -> score [B] and features. Labels [B] go to the layers that read them."""
        features = self.hidden(images, labels)
        return DiscriminatorOutput(self.squash(passed(self.head, features[-1], labels)).squeeze(1), features)

    def blank(self, count: int) -> Tensor:
        """A condition of the kind that it reads, such as labels of class 0. [count] int64"""
        return torch.zeros(count, dtype=torch.int64)

    def hidden(self, images: Tensor, labels: Tensor | None = None) -> tuple[Tensor, ...]:
        """The output of each block, shallow first. [B, C, H, W], [B] -> [B, C', H', W'] or [B, N] each"""
        features: list[Tensor] = []
        for layer in self.blocks:
            features.append(passed(layer, features[-1] if features else images, labels))
        return tuple(features)


class NamingDiscriminator(Discriminator):
    """A discriminator with logits of classes, from its last features, beside the score. Odena et al. 2017 (AC-GAN)."""

    class_head: nn.Module | None  # None: it names no classes

    @property
    def traits(self) -> Traits:
        """As of any discriminator; with logits of classes, a class head too."""
        found = super().traits
        return found if self.class_head is None else replace(found, provides=found.provides | {Fact.CLASS_HEAD})

    def forward(self, images: Tensor, labels: Tensor | None = None) -> DiscriminatorOutput:
        """[B, C, H, W] -> score [B], features, and heads["class"], logits [B, K]. Labels [B] as in the base class."""
        output = super().forward(images, labels)
        if self.class_head is None:
            return output
        return output._replace(heads={"class": self.class_head(output.features[-1])})


def head(
    shape: Sequence[int],
    epilogue: Epilogue | None,
    *,
    drops: float = 0.0,
    label: Beside | None = None,
    outputs: int = 1,
    bias: bool,
) -> nn.Sequential:
    """From the last features, of this shape without the batch, to a score, or several `outputs`; beside a label's."""
    inputs = (epilogue.fit(shape) if epilogue else math.prod(shape)) + (label.size if label else 0)
    fold = Fold() if len(shape) > 1 and not epilogue else None
    score = as_output(nn.Linear(inputs, outputs, bias=bias))
    return block(epilogue=epilogue, fold=fold, dropout=dropout(drops), label=label, score=score)


def he(layer: W, gain: float | None = None) -> W:
    """The layer with weights N(0, gain^2 / fan in), biases 0; the gain is sqrt(2) unless given. He et al. 2015.

    A gain that is given stays with the layer: the trick `equalized_lr` then keeps to it.
    """
    nn.init.normal_(layer.weight, 0.0, (GAIN if gain is None else gain) / math.sqrt(fan_in(layer)))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    if gain is not None:
        layer.gain = gain  # type: ignore[assignment]
    return layer


# What tricks that work inside networks use ----------------------------------------------------------------------------


def weighted(net: nn.Module) -> Iterator[tuple[str, Layer]]:
    """Every dense layer and convolution, by name, in depth order."""
    for name, layer in net.named_modules():
        if isinstance(layer, WEIGHTED):
            yield name, layer


def gain_of(layer: nn.Module, usual: float) -> float:
    """The gain of a layer's weights: its own, where its network gave it one."""
    own = getattr(layer, "gain", usual)
    return own if isinstance(own, float) else usual


def output_layer(net: nn.Module, role: str) -> Layer:
    """The layer that makes the image or the score. Raises ConfigError unless one layer says so (`layers.as_output`)."""
    found = [layer for _, layer in weighted(net) if is_output(layer)]
    if len(found) != 1:
        product = "image" if role == "generator" else "score"
        which = f"{len(found)} layers of {title(net, role)} say that they make the {product}"
        raise ConfigError(".", which, "one, which ganrun.models.layers.as_output marks", "leaving it out")
    return found[0]


def blocks(net: nn.Module) -> list[nn.Sequential]:
    """The blocks of a network of ours, bottom or image side first; none of a network that is built otherwise."""
    return [block for block in getattr(net, "blocks", ()) if isinstance(block, nn.Sequential)]


def title(net: nn.Module, role: str) -> str:
    """A network as messages name it."""
    return f"model.{role} ({type(net).__module__.rpartition('.')[2]})"


@torch.no_grad()
def shapes(net: Generator | Discriminator) -> list[torch.Size]:
    """What each block gives for an image, [C, H, W] or [N]. Found by running a copy, so that it leaves no trace."""
    given = (net.latent,) if isinstance(net, Generator) else (net.channels, net.resolution, net.resolution)
    found: list[torch.Size] = []
    copy = deepcopy(net).eval()
    for layer in blocks(copy):
        layer.register_forward_hook(lambda _, given, made: found.append(made.shape[1:]))
    with torch.random.fork_rng(devices=()):  # some layers draw
        copy(torch.zeros(2, *given), net.blank(2))
    return found
