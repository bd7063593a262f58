"""Making images fit: square by a centre crop, then resized; grey and colour into each other."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ganrun.core.errors import ConfigError

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def fit(images: Tensor, *, channels: int, resolution: int) -> Tensor:
    """Centre crop, resize and recolour, keeping the kind of number. [N, C, H, W] to [N, channels, R, R]"""
    return recoloured(resized(square(images), resolution), channels)


def square(images: Tensor) -> Tensor:
    """The centre square. [N, C, H, W] to [N, C, S, S]"""
    height, width = images.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return images[..., top : top + side, left : left + side]


def resized(images: Tensor, resolution: int, mode: str = "bilinear") -> Tensor:
    """Smoothly, against aliasing. [N, C, S, S] to [N, C, R, R]"""
    if images.shape[-1] == resolution:
        return images
    smooth = F.interpolate(images.float(), size=(resolution, resolution), mode=mode, antialias=True)
    return like(smooth, images.dtype)


def recoloured(images: Tensor, channels: int) -> Tensor:
    """Grey repeated, or colour reduced to its luma. [N, C, H, W] to [N, channels, H, W]"""
    if images.shape[1] == channels:
        return images
    if images.shape[1] == 1:
        return images.expand(-1, channels, -1, -1)
    if channels == 1 and images.shape[1] == 3:
        luma = torch.tensor(LUMA).view(1, 3, 1, 1)
        return like((images.float() * luma).sum(1, keepdim=True), images.dtype)
    raise ConfigError(
        "dataset.channels", f"{channels} for data of {images.shape[1]}", "1 or 3", "dataset.channels=null"
    )


def like(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Rounded and clamped where the data are 8-bit."""
    return values.round().clamp(0, 255).to(torch.uint8) if dtype == torch.uint8 else values.clamp(-1, 1)


def check_shape(channels: int | None, resolution: int | None, *, most: int | None = None) -> None:
    """Refuse a number of channels or pixels that no image can have."""
    if channels not in (None, 1, 3):
        raise ConfigError("dataset.channels", f"{channels}", "1 (grey) or 3 (colour)", "dataset.channels=3")
    if resolution is not None and resolution < 1:
        raise ConfigError("dataset.resolution", f"{resolution}", "a number of pixels", "dataset.resolution=32")
    if most is not None and resolution is not None and resolution > most:
        raise ConfigError("dataset.resolution", f"{resolution}", f"at most {most}", f"dataset.resolution={most}")
