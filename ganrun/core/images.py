"""Images of one scale, or of several at once: MSG-GAN's image is a pyramid, the largest scale last."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

Images = Tensor | tuple[Tensor, ...]  # [B, C, H, W], or one such tensor for each scale


def each_scale(images: Images, change: Callable[[Tensor], Tensor]) -> Images:
    """The same change at every scale of [B, C, H, W]."""
    return tuple(change(image) for image in images) if isinstance(images, tuple) else change(images)


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
