"""Three feature spaces of images that need no trained weights: small pixels, the power spectrum, random convolutions.

Each misses something that another one sees: docs/measures.md shows which. Random weights of a VGG network rank
generators of images that ImageNet does not hold as trained ones do (Naeem et al. 2020, section 4.3); heavy tails of
such features are why they are standardised and clipped before a kernel compares them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from ganrun.core.errors import ConfigError
from ganrun.core.seeding import generator

SMALL = 16  # pixels of a side in the space of pixels
FREQUENCIES = (32, 17)  # vertical and horizontal frequencies of the spectrum, at most: those of 32 pixels
ROUNDING = (2 / 255) ** 2 / 12  # the power of rounding to 8 bits; what is below it cannot be seen in a file
LARGEST = 32  # pixels of a side that the random network is given, at most
WIDTHS = (32, 64, 128)  # channels of its layers
LEAST = 8  # pixels of a side that three halvings need
CHUNK = 250  # images at a time through the random network
CLIP = 5.0  # standard deviations
FLATTEST = 0.1  # the least standard deviation of a feature, as a fraction of their root mean square


def features(images: Tensor) -> dict[str, Tensor]:
    """The features of images [N, C, H, W] in [-1, 1] in each space, by its name: [N, D], float64.

    Values beyond [-1, 1] are cut, as when an image is saved. torch's own generators are left alone. Raises ConfigError
    for anything but two or more finite float images of 8 pixels a side or more.
    """
    check_images(images)
    shown = images.detach().float().clamp(-1, 1)
    return {name: space(shown).double() for name, space in SPACES.items()}


def check_images(images: Tensor) -> None:
    """Raises ConfigError for anything but two or more finite float images [N, C, H, W] of 8 pixels a side or more."""
    if not images.is_floating_point():
        raise ConfigError("images", str(images.dtype).removeprefix("torch."), "floats in [-1, 1]")
    shape = list(images.shape)
    if len(shape) != 4 or shape[0] < 2 or shape[1] < 1 or min(shape[2:]) < LEAST:
        expected = f"two or more images [N, C, H, W] of {LEAST} pixels a side or more"
        raise ConfigError("images", str(shape), expected)
    bad = int((~images.isfinite()).flatten(1).any(1).sum())
    if bad:
        raise ConfigError("images", f"{bad} of {len(images)} hold NaN or infinity", "finite values")


def pixels(images: Tensor) -> Tensor:
    """Pixels at 16x16, resized with antialiasing. [N, C, H, W] -> [N, 256 C]

    Without antialiasing the resize itself moves such figures: Parmar et al. 2022 (arXiv 2104.11222).
    """
    return _resized(images, SMALL).flatten(1)


def spectrum(images: Tensor) -> Tensor:
    """Logarithm of the power at each frequency of the mean of the channels. [N, C, H, W] -> [N, at most 32 * 17]

    Above 32 pixels neighbouring frequencies are averaged. The power of rounding to 8 bits is added, so that nothing
    finer counts. Generators fail at high frequencies: Durall et al. 2020 (arXiv 2003.01826).
    """
    power = torch.fft.rfft2(images.mean(1), norm="ortho").abs().square()
    height, width = power.shape[1:]
    size = (min(height, FREQUENCIES[0]), min(width, FREQUENCIES[1]))
    return (F.adaptive_avg_pool2d(power.roll(height // 2, 1), size) + ROUNDING).log().flatten(1)


def convolutions(images: Tensor) -> Tensor:
    """Means and deviations of the channels of a random network, and its last maps at 2x2. [N, C, H, W] -> [N, 960]

    Three 3x3 convolutions with He's initial weights from a private generator of a fixed seed, leaky ReLU and mean
    pooling. Images of more than 32 pixels are resized to 32, with antialiasing. After Naeem et al. 2020, section 4.3.
    """
    small = _resized(images, LARGEST) if min(images.shape[2:]) > LARGEST else images
    weights = [weight.to(images.device) for weight in _weights(images.shape[1])]
    return torch.cat([_through(chunk, weights) for chunk in small.split(CHUNK)])


SPACES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "pixels": pixels,
    "spectrum": spectrum,
    "convolutions": convolutions,
}


def standardised(reals: Tensor, fakes: Tensor) -> tuple[Tensor, Tensor]:
    """Both in standard deviations of the reals from the reals' mean, clipped at 5. [N, D], [M, D] -> the same shapes

    A feature that is almost constant over the reals is divided by a tenth of the root mean square of all deviations in
    place of its own, so that what nobody sees is not magnified, such as specks on a black edge. Raises ConfigError
    for sizes that do not fit.
    """
    check_features(reals, fakes)
    deviation, mean = torch.std_mean(reals.double(), 0)
    scale = deviation.clamp_min(FLATTEST * float(deviation.square().mean().sqrt()) or 1.0)
    return tuple(((one.double() - mean) / scale).clamp(-CLIP, CLIP) for one in (reals, fakes))  # type: ignore[return-value]


def check_features(reals: Tensor, *others: Tensor, least: int = 2) -> None:
    """Raises ConfigError unless all are [N, D] with the same D, finite, and have `least` rows or more."""
    for one in (reals, *others):
        if one.ndim != 2 or one.shape[1:] != reals.shape[1:] or len(one) < least:
            found = " and ".join(str(list(some.shape)) for some in (reals, *others))
            raise ConfigError("features", found, f"[N, D] with one D and {least} rows or more")
        if not bool(one.isfinite().all()):
            raise ConfigError("features", "NaN or infinity", "finite values")


def _resized(images: Tensor, size: int) -> Tensor:
    return F.interpolate(images, size=(size, size), mode="bilinear", antialias=True)


def _weights(channels: int) -> list[Tensor]:
    """He's initial weights of the random network; the same at every call. [out, in, 3, 3] each"""
    drawn = generator(0, "random features")
    pairs = zip((channels, *WIDTHS), WIDTHS, strict=False)
    return [torch.randn(o, i, 3, 3, generator=drawn) * math.sqrt(2 / (9 * i)) for i, o in pairs]


@torch.no_grad()
def _through(maps: Tensor, weights: list[Tensor]) -> Tensor:
    """The statistics of each layer's maps. [B, C, H, W] -> [B, 960]"""
    found = []
    for weight in weights:
        maps = F.leaky_relu(F.conv2d(maps, weight, padding=1), 0.2)
        found += [*torch.std_mean(maps, (2, 3))]
        maps = F.avg_pool2d(maps, 2)
    return torch.cat([*found, F.adaptive_avg_pool2d(maps, 2).flatten(1)], 1)
