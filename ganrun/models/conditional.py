"""Layers of conditional networks: labels beside the input, norms for each class, scores by projection."""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganrun.core import limits
from ganrun.models.layers import as_output, stack


def check(classes: int, embed: int | None = None, *, low: int = 1) -> None:
    """Refuse a number of classes, or of an embedding's values, that a network cannot have."""
    limits.classes(".classes", classes, low)
    if embed is not None:
        limits.whole(".embed", embed, 1)


class Labelled(nn.Module):
    """A layer that reads labels too: its `forward` takes values and labels."""


class Block(nn.Sequential):
    """Layers in order; those that read labels are given them. Tricks may add layers, as to any block."""

    def forward(self, values: Tensor, labels: Tensor | None = None) -> Tensor:
        """Values [B, N] or [B, C, H, W], labels [B] -> the output of the last layer."""
        for layer in self:
            values = passed(layer, values, labels)
        return values


def passed(layer: nn.Module, values: Tensor, labels: Tensor | None) -> Tensor:
    """The output of a layer for values [B, N] or [B, C, H, W], and for labels [B] where it reads any."""
    return layer(values, labels) if isinstance(layer, Labelled | Block) else layer(values)


def block(**parts: nn.Module | None) -> Block:
    """Layers in this order under these names; one that is None is left out."""
    return Block(OrderedDict(stack(**parts).named_children()))


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """[B] int64 -> [B, classes] float32; shares of each class [B, classes] stay as they are.

    Unlike PyTorch's own, it never waits for the device to look at the labels.
    """
    if labels.is_floating_point():
        return labels
    return (labels[:, None] == torch.arange(classes, device=labels.device)).float()


def embedded(table: nn.Embedding, labels: Tensor) -> Tensor:
    """The rows of these labels [B], or the mean of all rows by their shares [B, classes]. [B, N]"""
    rows: Tensor = labels @ table.weight if labels.is_floating_point() else table(labels)
    return rows


class Beside(Labelled):
    """Put the label beside a vector, or as constant maps beside maps. Mirza & Osindero 2014, section 3.2.

    A label is one-hot, or `embed` learnt numbers (ganhacks 16).
    """

    def __init__(self, *, classes: int, embed: int | None):
        super().__init__()
        self.classes, self.size = classes, embed or classes  # size: how many values it adds
        self.table = nn.Embedding(classes, embed) if embed else None

    def forward(self, values: Tensor, labels: Tensor | None) -> Tensor:
        """The label's values after the others. [B, N] -> [B, N + size], or [B, C, H, W] -> [B, C + size, H, W]"""
        assert labels is not None, "a conditional network was given no labels"
        code = one_hot(labels, self.classes) if self.table is None else embedded(self.table, labels)
        code = code.to(values.dtype)
        if values.dim() == 4:
            code = code[:, :, None, None].expand(-1, -1, *values.shape[2:])
        return torch.cat([values, code], 1)

    def extra_repr(self) -> str:
        """The settings, as `print` shows them."""
        return f"classes={self.classes}, size={self.size}"


class LabelLayers:
    """Makes the layers that put a label beside what other layers read: the network's input, or `every` layer's.

    Without classes it makes none, so that one constructor serves conditional and unconditional networks.
    """

    def __init__(self, *, classes: int, embed: int | None, every: bool):
        self.every, self.classes, self.embed = every, classes, embed

    def __call__(self, *, first: bool = False) -> Beside | None:
        """The layer before the `first` layer of a network, or before a later one; None where labels are not put."""
        return Beside(classes=self.classes, embed=self.embed) if self.size(first=first) else None

    def size(self, *, first: bool = False) -> int:
        """How many values such a layer adds."""
        return (self.embed or self.classes) if first or self.every else 0


NO_LABELS = LabelLayers(classes=0, embed=None, every=False)


class ConditionalBatchNorm(Labelled):
    """Batch norm whose gains and biases belong to a class. Dumoulin et al. 2017, equation 5; de Vries et al. 2017.

    Gains begin at 1 and biases at 0, whatever the model's `init`.
    """

    def __init__(self, *, channels: int, classes: int, momentum: float = 0.1, eps: float = 1e-5):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, momentum=momentum, eps=eps, affine=False)
        self.gain, self.bias = nn.Embedding(classes, channels), nn.Embedding(classes, channels)
        nn.init.ones_(self.gain.weight)
        nn.init.zeros_(self.bias.weight)

    def forward(self, maps: Tensor, labels: Tensor | None) -> Tensor:
        """Maps [B, C, H, W], labels [B] -> maps of the same shape, scaled and shifted for each class."""
        assert labels is not None, "a conditional network was given no labels"
        gain, bias = (embedded(table, labels)[:, :, None, None].to(maps.dtype) for table in (self.gain, self.bias))
        return self.norm(maps) * gain + bias


class Score(Labelled):
    """A score by projection: psi(phi(x)) + <embed(y), phi(x)> of features phi(x). Miyato & Koyama 2018, equation 9."""

    def __init__(self, *, features: int, classes: int, bias: bool):
        super().__init__()
        self.psi = as_output(nn.Linear(features, 1, bias=bias))
        self.projection = Projection(classes=classes, features=features)

    def forward(self, features: Tensor, labels: Tensor | None) -> Tensor:
        """Features and labels to a score. [B, N], [B] -> [B, 1]"""
        return self.psi(features) + self.projection(features, labels)[:, None]


class Projection(Labelled):
    """What a label adds to a score: <embed(y), phi(x)>. Miyato & Koyama 2018, equation 9.

    The embedding is the weight of a dense layer of one-hot labels, so that tricks on weights, such as spectral norm,
    apply to it too; `init` draws it as it draws all others.
    """

    def __init__(self, *, classes: int, features: int):
        super().__init__()
        self.embed = nn.Linear(classes, features, bias=False)

    def forward(self, features: Tensor, labels: Tensor | None) -> Tensor:
        """Features and labels to what the label adds. [B, N], [B] -> [B]"""
        assert labels is not None, "a conditional network was given no labels"
        rows = F.embedding(labels, self.embed.weight.t())
        return (rows.to(features.dtype) * features).sum(1)
