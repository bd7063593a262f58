"""Augmentation of all that the discriminator sees, real or fake: DiffAugment, Zhao et al. 2020, and mirror images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ganrun.core.context import BatchShape
from ganrun.core.errors import ConfigError, nearest
from ganrun.core.facts import Fact
from ganrun.core.images import each_scale, largest
from ganrun.core.traits import Diagnostic, Level, Traits, facts, keys
from ganrun.core.trick import Trick

POLICIES = ("colour", "translation", "cutout")
AUGMENTED = "how D's images are augmented"  # what only one trick may set


def one_pixel() -> Diagnostic:
    """The diagnostic of a trick that moves pixels when images are points of 1 pixel."""
    return Diagnostic("C23", Level.ERROR, "points of 1 pixel have no picture to move. Try: leaving it out")


def _uniform(images: Tensor, low: float, high: float) -> Tensor:
    """A number for each image. [B, 1, 1, 1]"""
    return torch.rand(len(images), 1, 1, 1, device=images.device) * (high - low) + low


def _whole(images: Tensor, low: int, high: int) -> Tensor:
    """A whole number from low to high, both included, for each image. [B, 1]"""
    return torch.randint(low, high + 1, (len(images), 1), device=images.device)


def shift_brightness(images: Tensor, amount: Tensor) -> Tensor:
    """Add an amount [B, 1, 1, 1] to every pixel of each image. [B, C, H, W] -> [B, C, H, W]"""
    return images + amount


def scale_saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Multiply the distance of each pixel's channels from their mean by a factor [B, 1, 1, 1]. [B, C, H, W]

    Images of one channel stay as they are.
    """
    grey = images.mean(1, keepdim=True)
    return (images - grey) * factor + grey


def scale_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Multiply the distance of each image's values from their mean by a factor [B, 1, 1, 1]. [B, C, H, W]"""
    mean = images.mean((1, 2, 3), keepdim=True)
    return (images - mean) * factor + mean


def translate(images: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Move each image [B, C, H, W] by whole pixels, filling with 0, the middle of its range.

    `down` and `right` are [B, 1] int64.
    """
    for dim, shift in ((2, down), (3, right)):
        size = images.shape[dim]
        source = torch.arange(size, device=images.device) - shift  # [B, size]
        inside = (source >= 0) & (source < size)
        shape = (len(images), 1, size, 1) if dim == 2 else (len(images), 1, 1, size)
        moved = images.gather(dim, source.clamp(0, size - 1).view(shape).expand_as(images))
        images = moved * inside.view(shape)
    return images


def cut_out(images: Tensor, top: Tensor, left: Tensor, height: int, width: int) -> Tensor:
    """Set a rectangle of each image [B, C, H, W] to 0; it may reach beyond the image.

    `top` and `left` are [B, 1] int64.
    """
    rows = torch.arange(images.shape[2], device=images.device) - top
    columns = torch.arange(images.shape[3], device=images.device) - left
    row, column = (rows >= 0) & (rows < height), (columns >= 0) & (columns < width)
    return images * ~(row[:, None, :, None] & column[:, None, None, :])


class DiffAugment(Trick):
    """DiffAugment: differentiable augmentation of reals and fakes. Zhao et al. 2020, equations 4 to 6.

    In both players' updates. `colour`: brightness plus U(-b, b), saturation times U(`saturation`), contrast times
    U(`contrast`), where saturation does nothing to images of one channel; `translation`: by whole pixels, up to
    `translation` of the size; `cutout`: a square of `cutout` of the size set to 0, its centre anywhere.
    """

    traits = Traits(needs=facts(Fact.SINGLE_SCALE, Fact.IMAGE_ALONE), sets=keys(AUGMENTED))

    def __init__(
        self,
        *,
        policy: list[str],
        brightness: float,
        saturation: list[float],
        contrast: list[float],
        translation: float,
        cutout: float,
    ):
        """Raises ConfigError for an unknown policy, a share outside (0, 1], and factors that are no range."""
        super().__init__()
        _check_policy(policy)
        for name, share in (("translation", translation), ("cutout", cutout)):
            if not 0 < share <= 1:
                raise ConfigError(f".{name}", f"{share}", "a share of the size, 0 < share <= 1")
        for name, bounds in (("saturation", saturation), ("contrast", contrast)):
            if len(bounds) != 2 or not 0 <= bounds[0] <= bounds[1]:
                raise ConfigError(f".{name}", f"{bounds}", "a low and a high factor", f".{name}=[0.5,1.5]")
        self.policy = policy
        self.brightness, self.saturation, self.contrast = brightness, saturation, contrast
        self.translation, self.share = translation, cutout

    def view(self, images: Tensor) -> Tensor:
        steps: Mapping[str, Callable[[Tensor], Tensor]] = {
            "colour": self.colour,
            "translation": partial(self.move, share=self.translation),
            "cutout": partial(self.cut, share=self.share),
        }
        for name in self.policy:
            images = steps[name](images)
        return images

    def colour(self, images: Tensor) -> Tensor:
        """Random brightness, saturation and contrast for each image. [B, C, H, W] -> [B, C, H, W]"""
        images = shift_brightness(images, _uniform(images, -self.brightness, self.brightness))
        images = scale_saturation(images, _uniform(images, *self.saturation))
        return scale_contrast(images, _uniform(images, *self.contrast))

    @staticmethod
    def move(images: Tensor, share: float) -> Tensor:
        """Random translation of each image by up to this share of its size. [B, C, H, W] -> [B, C, H, W]"""
        height, width = (int(size * share + 0.5) for size in images.shape[2:])
        return translate(images, _whole(images, -height, height), _whole(images, -width, width))

    @staticmethod
    def cut(images: Tensor, share: float) -> Tensor:
        """A square of 0 in each image, whose side is this share of its size. [B, C, H, W] -> [B, C, H, W]

        The centre is a pixel, or for even sides a corner of pixels, anywhere in the image, its border included.
        """
        (height, width), sizes = images.shape[2:], [int(size * share + 0.5) for size in images.shape[2:]]
        top = _whole(images, 0, height - sizes[0] % 2) - sizes[0] // 2
        left = _whole(images, 0, width - sizes[1] % 2) - sizes[1] // 2
        return cut_out(images, top, left, *sizes)

    def diagnostics(self, shape: BatchShape) -> Iterable[Diagnostic]:
        if shape.resolution < 2:
            yield one_pixel()


def _check_policy(policy: list[str]) -> None:
    unknown = [name for name in policy if name not in POLICIES]
    if not policy or unknown:
        close = nearest(unknown[0], POLICIES) if unknown else POLICIES[0]
        found = ", ".join(unknown) or "an empty list"
        expected = f"some of {', '.join(POLICIES)}"
        raise ConfigError(".policy", found, expected, f"'.policy=[{close or 'colour'}]'")


class Mirror(Trick):
    """Mirror augmentation: D's input is flipped left to right with probability `p`. Karras et al. 2018, section 4.

    Image by image, reals and fakes, in both players' updates. As fakes are flipped too, G does not learn the flips.
    Where an image has several scales, all of them are flipped, or none.
    """

    traits = Traits(needs=facts(Fact.IMAGE_ALONE))

    def __init__(self, *, p: float):
        """Raises ConfigError for a probability outside (0, 1)."""
        super().__init__()
        if not 0 < p < 1:
            raise ConfigError(".p", f"{p}", "0 < p < 1", ".p=0.5")
        self.p = p

    def view(self, images: Any) -> Any:
        chosen = _uniform(largest(images), 0, 1) < self.p
        return each_scale(images, lambda image: torch.where(chosen, image.flip(3), image))

    def diagnostics(self, shape: BatchShape) -> Iterable[Diagnostic]:
        if shape.resolution < 2:
            yield one_pixel()
