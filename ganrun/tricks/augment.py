"""Differentiable augmentation: the same random changes to whatever the discriminator sees. Zhao et al. 2020."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial

import torch
from torch import Tensor

from ganrun.core.context import BatchShape
from ganrun.core.errors import ConfigError, nearest
from ganrun.core.traits import Diagnostic, Traits, keys
from ganrun.core.trick import Trick
from ganrun.tricks.views import one_pixel

POLICIES = ("colour", "translation", "cutout")


def _uniform(images: Tensor, low: float, high: float) -> Tensor:
    """A number for each image. [B, 1, 1, 1]"""
    return torch.rand(len(images), 1, 1, 1, device=images.device) * (high - low) + low


def _whole(images: Tensor, low: int, high: int) -> Tensor:
    """A whole number from low to high, both included, for each image. [B, 1]"""
    return torch.randint(low, high + 1, (len(images), 1), device=images.device)


def shift_brightness(images: Tensor, amount: Tensor) -> Tensor:
    """Add a number to every pixel. `amount` [B, 1, 1, 1]"""
    return images + amount


def scale_saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Stretch each pixel's colours away from its grey. One channel is its own grey, which this leaves alone."""
    grey = images.mean(1, keepdim=True)
    return (images - grey) * factor + grey


def scale_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Stretch each image's values away from their mean."""
    mean = images.mean((1, 2, 3), keepdim=True)
    return (images - mean) * factor + mean


def translate(images: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Move each image by whole pixels; what comes in is 0, the middle of [-1, 1]. `down`, `right` [B, 1] int64"""
    for dim, shift in ((2, down), (3, right)):
        size = images.shape[dim]
        source = torch.arange(size, device=images.device) - shift  # [B, size]
        inside = (source >= 0) & (source < size)
        shape = (len(images), 1, size, 1) if dim == 2 else (len(images), 1, 1, size)
        moved = images.gather(dim, source.clamp(0, size - 1).view(shape).expand_as(images))
        images = moved * inside.view(shape)
    return images


def cut_out(images: Tensor, top: Tensor, left: Tensor, height: int, width: int) -> Tensor:
    """Set a rectangle of each image to 0; the parts of it that lie outside do nothing. `top`, `left` [B, 1] int64"""
    rows = torch.arange(images.shape[2], device=images.device) - top
    columns = torch.arange(images.shape[3], device=images.device) - left
    row, column = (rows >= 0) & (rows < height), (columns >= 0) & (columns < width)
    return images * ~(row[:, None, :, None] & column[:, None, None, :])


class DiffAugment(Trick):
    """Augment reals and fakes alike, differentiably, in both players' updates. Zhao et al. 2020, equations 4 to 6.

    `colour`: brightness plus U(-b, b), saturation times U(`saturation`), contrast times U(`contrast`), where saturation
    does nothing to images of one channel; `translation`: by whole pixels, up to `translation` of the size; `cutout`: a
    square of `cutout` of the size set to 0, its centre anywhere.
    """

    traits = Traits(sets=keys("how D's images are augmented"))

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
        super().__init__()
        _check_policy(policy)
        for name, share in (("translation", translation), ("cutout", cutout)):
            if not 0 < share <= 1:
                raise ConfigError(f"tricks.diffaugment.{name}", f"{share}", "a share of the size, 0 < share <= 1")
        for name, bounds in (("saturation", saturation), ("contrast", contrast)):
            if len(bounds) != 2 or not 0 <= bounds[0] <= bounds[1]:
                raise ConfigError(
                    f"tricks.diffaugment.{name}", f"{bounds}", "a low and a high factor", f"{name}=[0.5,1.5]"
                )
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
        images = shift_brightness(images, _uniform(images, -self.brightness, self.brightness))
        images = scale_saturation(images, _uniform(images, *self.saturation))
        return scale_contrast(images, _uniform(images, *self.contrast))

    @staticmethod
    def move(images: Tensor, share: float) -> Tensor:
        height, width = (int(size * share + 0.5) for size in images.shape[2:])
        return translate(images, _whole(images, -height, height), _whole(images, -width, width))

    @staticmethod
    def cut(images: Tensor, share: float) -> Tensor:
        """The centre is a pixel, or for even sizes a corner of pixels, anywhere in the image, its border included."""
        (height, width), sizes = images.shape[2:], [int(size * share + 0.5) for size in images.shape[2:]]
        top = _whole(images, 0, height - sizes[0] % 2) - sizes[0] // 2
        left = _whole(images, 0, width - sizes[1] % 2) - sizes[1] // 2
        return cut_out(images, top, left, *sizes)

    def diagnostics(self, shape: BatchShape) -> Iterable[Diagnostic]:
        if shape.resolution < 2:
            yield one_pixel("diffaugment")


def _check_policy(policy: list[str]) -> None:
    unknown = [name for name in policy if name not in POLICIES]
    if not policy or unknown:
        close = nearest(unknown[0], POLICIES) if unknown else POLICIES[0]
        found = ", ".join(unknown) or "an empty list"
        raise ConfigError("tricks.diffaugment.policy", found, f"some of {', '.join(POLICIES)}",
                      f"'tricks.diffaugment.policy=[{close or 'colour'}]'")  # fmt: skip
