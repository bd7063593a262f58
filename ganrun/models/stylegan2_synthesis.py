"""StyleGAN2's generator in its two parts: noise to styles, and styles to an image. Karras et al. 2020, figure 2d."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ganrun.models.layers import as_output, on_sphere, stack
from ganrun.models.stylegan2_layers import (
    EPS,
    HALF,
    Activation,
    Double,
    Label,
    Modulated,
    Noise,
    equalised,
    mapping,
)

SMALLEST = 4  # pixels; both networks' smallest maps are 4x4


class Styles(nn.Module):
    """Noise to a style for each layer, all alike: the mapping network. Karras et al. 2019, figure 1; 2020, appendix B.

    Noise is brought to the sphere first, and with classes so is a vector for the label, beside it, as in the code of
    Karras et al. 2020b (arXiv 2006.06676). Dense layers, each of which learns at `rate` times the rate of all others.
    """

    def __init__(self, *, latent: int, classes: int, styles: int, layers: int, rate: float, slope: float, count: int):
        super().__init__()
        self.count = count
        self.label = Label(classes=classes, numbers=styles) if classes else None
        self.mapping = mapping(latent + styles if classes else latent, styles, layers=layers, rate=rate, slope=slope)

    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """[B, Z] -> [B, layers, S], in float32. Labels [B] are ignored where there are no classes."""
        with torch.autocast(noise.device.type, enabled=False):
            direction = on_sphere(noise, EPS)
            if self.label is not None:
                direction = torch.cat([direction, self.label(labels)], 1)
            style = self.mapping(direction)
        return style[:, None].expand(-1, self.count, -1)


class Layer(nn.Module):
    """A modulated convolution, noise, and leaky ReLU. Karras et al. 2020, figure 2d."""

    def __init__(
        self, inputs: int, outputs: int, size: int, slope: float, *, styles: int, doubles: Sequence[float] | None
    ):
        super().__init__()
        self.conv = Modulated(inputs, outputs, 3, styles=styles, demodulates=True, doubles=doubles)
        self.noise = Noise(size)
        self.activation = Activation(slope)

    def forward(self, maps: Tensor, style: Tensor) -> Tensor:
        """Maps [B, I, H, W], a style [B, S] -> maps [B, O, H, W] or [B, O, 2 H, 2 W]."""
        return self.activation(self.noise(self.conv(maps, style)))


class Scale(nn.Module):
    """What the generator does at one size: layers, and what they add to the image. Karras et al. 2020, figure 7."""

    def __init__(
        self, layers: list[Layer], *, to_image: Modulated | None, doubling: Double | None, across: nn.Sequential | None
    ):
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.across, self.to_image, self.doubling = across, to_image, doubling

    def forward(self, maps: Tensor, image: Tensor | None, styles: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
        """Maps [B, I, H', W'], their image [B, C, H', W'], styles [B, S] each -> maps and image of H x W pixels."""
        below = maps
        for layer, style in zip(self.layers, styles, strict=False):
            maps = layer(maps, style)
        if self.across is not None:
            maps = (maps + self.across(below)) * HALF
        return maps, self._image(maps, image, styles[-1])

    def _image(self, maps: Tensor, image: Tensor | None, style: Tensor) -> Tensor | None:
        """In float32: it adds up over all sizes."""
        if self.to_image is None:
            return image
        made = self.to_image(maps, style).float()
        if image is None or self.doubling is None:
            return made
        with torch.autocast(maps.device.type, enabled=False):
            return made + self.doubling(image)


class Synthesis(nn.Module):
    """Styles to an image, from a constant that is learnt. Karras et al. 2020, figure 7, top.

    skip: every size adds to the image. residual: only the largest makes it, and each size adds to a doubled copy of the
    maps below. plain: neither. A style serves one layer; what makes the image at a size shares that of the next layer.
    """

    def __init__(
        self, *, styles: int, channels: int, depths: list[int], architecture: str, taps: Sequence[float], slope: float
    ):
        super().__init__()
        self.count = 2 * len(depths)  # of styles
        self.start = nn.Parameter(torch.randn(1, depths[0], SMALLEST, SMALLEST))
        self.scales = nn.ModuleList()
        for i, depth in enumerate(depths):
            size, inputs = SMALLEST * 2**i, depths[max(i - 1, 0)]
            layers = [Layer(inputs, depth, size, slope, styles=styles, doubles=taps)] if i else []
            layers.append(Layer(depth, depth, size, slope, styles=styles, doubles=None))
            last = i == len(depths) - 1
            ends = architecture == "skip" or last
            rgb = Modulated(depth, channels, 1, styles=styles, demodulates=False, doubles=None) if ends else None
            across = _across(inputs, depth, taps) if architecture == "residual" and i else None
            doubling = Double(taps) if architecture == "skip" and i else None
            rgb = as_output(rgb) if rgb and last else rgb
            self.scales.append(Scale(layers, to_image=rgb, doubling=doubling, across=across))

    def forward(self, styles: Tensor) -> Tensor:
        """[B, layers, S] -> [B, C, H, W]."""
        each = styles.unbind(1)
        maps, image = self.start.expand(styles.shape[0], -1, -1, -1), None
        for i, scale in enumerate(self.scales):
            maps, image = scale(maps, image, each[max(2 * i - 1, 0) : 2 * i + 2])
        assert image is not None
        return image


def _across(inputs: int, outputs: int, taps: Sequence[float]) -> nn.Sequential:
    return stack(conv=equalised(nn.Conv2d(inputs, outputs, 1, bias=False)), doubling=Double(taps))
