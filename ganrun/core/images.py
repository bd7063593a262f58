"""Images of one scale, or of several at once: MSG-GAN's image is a pyramid, the largest scale last."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

Images = Tensor | tuple[Tensor, ...]  # [B, C, H, W], or one such tensor for each scale


def scales(images: Images) -> tuple[Tensor, ...]:
    """The images at each of their scales, the largest last. [B, C, H, W] each"""
    return images if isinstance(images, tuple) else (images,)


def each_scale(images: Images, change: Callable[..., Tensor], *others: Images) -> Images:
    """The same change at every scale of [B, C, H, W], which may read other images of that scale too."""
    if not isinstance(images, tuple):
        return change(images, *others)
    return tuple(change(*one) for one in zip(images, *map(scales, others), strict=True))


def pyramid(images: Tensor, count: int) -> tuple[Tensor, ...]:
    """The images [B, C, H, W] at `count` scales, each the mean of 2x2 pixels of the next. Karnewar & Wang 2020."""
    found = [images]
    while len(found) < count:
        found.insert(0, F.avg_pool2d(found[0], 2))
    return tuple(found)


def detached(images: Images, *, differentiable: bool = False) -> Images:
    """The images [B, C, H, W] cut off from their graph; leaves of a new one when `differentiable`."""
    return each_scale(images, lambda image: image.detach().requires_grad_(differentiable))


def largest(images: Images) -> Tensor:
    """The images at their largest scale. [B, C, H, W]"""
    return images[-1] if isinstance(images, tuple) else images


def at_resolution(images: Tensor, resolution: int) -> Tensor:
    """The images at another resolution: pixels averaged, or repeated. [B, C, H, W] -> [B, C, R, R]"""
    if images.shape[-1] == resolution:
        return images
    if images.shape[-1] > resolution:
        return F.adaptive_avg_pool2d(images, resolution)
    return F.interpolate(images, size=(resolution, resolution), mode="nearest")
