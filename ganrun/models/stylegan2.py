"""StyleGAN2: styles scale the weights of a generator's convolutions. Karras et al. 2020 (arXiv 1912.04958)."""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from ganrun.core import limits
from ganrun.core.errors import ConfigError
from ganrun.core.facts import Fact
from ganrun.core.traits import Traits, facts
from ganrun.models import base
from ganrun.models.conditional import Labelled, block
from ganrun.models.epilogues import Epilogue, MinibatchStddev
from ganrun.models.layers import Fold, Unfold, as_output, stack
from ganrun.models.stylegan2_layers import HALF, Activation, Blur, Halve, Label, check_taps, equalised, mapping, widths
from ganrun.models.stylegan2_synthesis import SMALLEST, Styles, Synthesis

RESOLUTIONS = (16, 32, 64, 128, 256, 512, 1024)
ARCHITECTURES = ("skip", "residual", "plain")


class Generator(nn.Module):
    """Noise to styles, styles to an image of any range. Karras et al. 2020, figures 2d and 7."""

    traits = Traits(provides=facts(Fact.STYLES))
    mixes_labels = True  # shares of each class are taken too

    def __init__(
        self, *, latent: int, classes: int, styles: int, mapping_layers: int, mapping_rate: float, channels: int,
        resolution: int, width: int, max_width: int, architecture: str, filter: Sequence[float], slope: float,
    ):  # fmt: skip
        super().__init__()
        depths = _depths(channels, resolution, width, max_width, architecture, filter, slope)
        limits.whole(".latent", latent, 1)
        limits.whole(".styles", styles, 1)
        _check_mapping(classes, mapping_layers, mapping_rate)
        self.latent, self.classes, self.channels, self.resolution = latent, classes, channels, resolution
        self.range = base.RANGES["linear"]
        synthesis = Synthesis(
            styles=styles, channels=channels, depths=depths, architecture=architecture, taps=filter, slope=slope
        )
        self.styles: nn.Module = Styles(
            latent=latent,
            classes=classes,
            styles=styles,
            layers=mapping_layers,
            rate=mapping_rate,
            slope=slope,
            count=synthesis.count,
        )
        self.synthesis = synthesis

    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """[B, Z] -> [B, C, H, W]. Labels [B] are ignored where there are no classes."""
        return self.synthesis(self.styles(noise, labels))


class Halving(nn.Module):
    """Two convolutions, the second of which halves the size, beside a path that only filters and mixes channels."""

    def __init__(self, inputs: int, outputs: int, *, taps: Sequence[float], slope: float, residual: bool):
        super().__init__()
        self.layers = stack(
            conv=equalised(nn.Conv2d(inputs, inputs, 3, padding=1)),
            activation=Activation(slope),
            blur=Blur(taps, wider=True),
            halve=equalised(nn.Conv2d(inputs, outputs, 3, stride=2)),
            last=Activation(slope),
        )
        self.across = _across(inputs, outputs, taps) if residual else None

    def forward(self, maps: Tensor) -> Tensor:
        """[B, I, H, W] -> [B, O, H / 2, W / 2]."""
        return self.layers(maps) if self.across is None else (self.layers(maps) + self.across(maps)) * HALF


def _across(inputs: int, outputs: int, taps: Sequence[float]) -> nn.Sequential:
    return stack(halve=Halve(taps), conv=equalised(nn.Conv2d(inputs, outputs, 1, bias=False)))


class Beside(nn.Module):
    """Reads the image anew at this size; it travels as the last of the channels. Karras et al. 2020, figure 7b."""

    def __init__(self, channels: int, from_image: nn.Module, layers: nn.Module | None, halve: Halve | None):
        super().__init__()
        self.channels, self.from_image, self.layers, self.halve = channels, from_image, layers, halve

    def forward(self, both: Tensor) -> Tensor:
        """[B, I + C, H, W] -> [B, O + C, H / 2, W / 2]; at the top there is only the image, at the end only maps."""
        maps, image = both[:, : -self.channels], both[:, -self.channels :]
        read = self.from_image(image)
        maps = maps + read if maps.shape[1] else read
        if self.layers is None or self.halve is None:
            return maps
        return torch.cat([self.layers(maps), self.halve(image)], 1)


class Discriminator(base.Discriminator):
    """Halve the image down to 4x4 maps, then a convolution and two dense layers. Karras et al. 2020, figure 7, bottom.

    residual: each size adds to a halved copy of the maps above. skip: every size reads the image anew. plain: neither.
    With classes the last layer outputs a vector, and the score is its product with a vector that a mapping network of
    `mapping_layers` makes of the label. Karras et al. 2020b (arXiv 2006.06676), their code; after Miyato & Koyama 2018.
    Raises ConfigError for an epilogue that is not MinibatchStddev.
    """

    def __init__(
        self, *, channels: int, resolution: int, classes: int, mapping_layers: int, mapping_rate: float, width: int,
        max_width: int, architecture: str, filter: Sequence[float], slope: float, epilogue: Epilogue | None,
    ):  # fmt: skip
        super().__init__(channels=channels, resolution=resolution, output="linear")
        depths = _depths(channels, resolution, width, max_width, architecture, filter, slope)
        _check_mapping(classes, mapping_layers, mapping_rate)
        self.classes = classes
        if epilogue is not None and not isinstance(epilogue, MinibatchStddev):
            found = f"{type(epilogue).__name__}, which makes vectors where a convolution follows"
            raise ConfigError(".epilogue", found, "null or MinibatchStddev")
        self.blocks = nn.Sequential()
        for inputs, outputs in pairwise(depths[::-1]):
            layers = Halving(inputs, outputs, taps=filter, slope=slope, residual=architecture == "residual")
            first = not self.blocks
            read = _from_image(channels, inputs, slope) if first or architecture == "skip" else None
            if architecture == "skip":
                assert read is not None
                self.blocks.append(stack(beside=Beside(channels, read, layers, Halve(filter))))
            else:
                self.blocks.append(stack(from_image=read, halving=layers))
        last = _from_image(channels, depths[0], slope) if architecture == "skip" else None
        beside = Beside(channels, last, None, None) if last else None
        asked = None
        if classes:
            asked = MappedProduct(
                classes=classes, numbers=depths[0], layers=mapping_layers, rate=mapping_rate, slope=slope
            )
        outputs = depths[0] if classes else 1
        self.head = block(beside=beside, **dict(_end(depths[0], outputs, epilogue, slope)), asked=asked)


class MappedProduct(Labelled):
    """The score for a class: the product of D's output vector with the label's, which a mapping network makes.

    Karras et al. 2020b (arXiv 2006.06676), their code; after Miyato & Koyama 2018, equation 9.
    """

    def __init__(self, *, classes: int, numbers: int, layers: int, rate: float, slope: float):
        super().__init__()
        self.label = Label(classes=classes, numbers=numbers)
        self.mapping = mapping(numbers, numbers, layers=layers, rate=rate, slope=slope)

    def forward(self, outputs: Tensor, labels: Tensor | None) -> Tensor:
        """Vectors [B, numbers], labels [B] -> scores [B, 1], in float32."""
        with torch.autocast(outputs.device.type, enabled=False):
            vector = self.mapping(self.label(labels))
            return (outputs.float() * vector).sum(1, keepdim=True) / math.sqrt(vector.shape[1])


def _from_image(channels: int, outputs: int, slope: float) -> nn.Sequential:
    return stack(conv=equalised(nn.Conv2d(channels, outputs, 1)), activation=Activation(slope))


def _end(depth: int, outputs: int, epilogue: Epilogue | None, slope: float) -> Iterator[tuple[str, nn.Module]]:
    """From maps of 4x4 pixels to the outputs. An epilogue's vectors are read as the maps that it has added to."""
    inputs = depth
    if epilogue is not None:
        inputs = epilogue.fit((depth, SMALLEST, SMALLEST)) // SMALLEST**2
        yield "epilogue", epilogue
        yield "unfold", Unfold(channels=inputs, size=SMALLEST)
    yield "conv", equalised(nn.Conv2d(inputs, depth, 3, padding=1))
    yield "activation", Activation(slope)
    yield "fold", Fold()
    yield "dense", equalised(nn.Linear(depth * SMALLEST**2, depth))
    yield "last", Activation(slope)
    yield "score", as_output(equalised(nn.Linear(depth, outputs)))


def _check_mapping(classes: int, layers: int, rate: float) -> None:
    limits.whole(".classes", classes, 0)
    limits.whole(".mapping_layers", layers, 1, limits.LAYERS)
    limits.number(".mapping_rate", rate, 1e-6)


def _depths(
    channels: int,
    resolution: int,
    width: int,
    max_width: int,
    architecture: str,
    taps: Sequence[float],
    slope: float,
) -> list[int]:
    """Settings that both networks have, checked; channels of the maps from 4x4 up."""
    limits.choice(".architecture", architecture, ARCHITECTURES)
    limits.number(".slope", slope, 0)
    check_taps(taps)
    return widths(channels, resolution, width, max_width, RESOLUTIONS)
