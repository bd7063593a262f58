"""Images at the wanted resolution and number of channels: centre crop, antialiased resize, grey from or to colour."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ganrun.core.errors import ConfigError, nearest

FITS = ("crop", "pad", "stretch")  # what becomes of images that are not square
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def to_shape(images: Tensor, *, channels: int, resolution: int, fit: str = "crop") -> Tensor:
    """Make square, resize and convert channels, in the same dtype. [N, C, H, W] -> [N, channels, R, R]

    `fit` is `crop` for the centre square, `pad` for black edges, `stretch` for other proportions.
    """
    square = {"crop": centre_crop, "pad": pad_to_square, "stretch": lambda images: images}[fit]
    return convert_channels(resize(square(images), resolution), channels)


def pad_to_square(images: Tensor) -> Tensor:
    """Black on both sides of the shorter dimension. [N, C, H, W] -> [N, C, S, S]"""
    height, width = images.shape[-2:]
    down, right = max(width - height, 0), max(height - width, 0)
    edges = (right // 2, right - right // 2, down // 2, down - down // 2)
    return F.pad(images, edges, value=0 if images.dtype == torch.uint8 else -1)


def centre_crop(images: Tensor, side: int | None = None) -> Tensor:
    """The square of this side in the middle, the largest one without it. [N, C, H, W] -> [N, C, S, S]"""
    height, width = images.shape[-2:]
    side = side or min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return images[..., top : top + side, left : left + side]


def resize(images: Tensor, resolution: int, mode: str = "bilinear") -> Tensor:
    """Antialiased interpolation. [N, C, H, W] -> [N, C, R, R]"""
    if images.shape[-2:] == (resolution, resolution):
        return images
    smooth = F.interpolate(images.float(), size=(resolution, resolution), mode=mode, antialias=True)
    return _to_dtype(smooth, images.dtype)


def convert_channels(images: Tensor, channels: int) -> Tensor:
    """Grey repeated, or colour reduced to its luma. [N, C, H, W] -> [N, channels, H, W]

    Raises ConfigError for other conversions.
    """
    if images.shape[1] == channels:
        return images
    if images.shape[1] == 1:
        return images.expand(-1, channels, -1, -1)
    if channels == 1 and images.shape[1] == 3:
        luma = torch.tensor(LUMA).view(1, 3, 1, 1)
        return _to_dtype((images.float() * luma).sum(1, keepdim=True), images.dtype)
    raise ConfigError(".channels", f"{channels} for data of {images.shape[1]}", "1 or 3", ".channels=null")


def _to_dtype(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Rounded and clamped to 0..255 for 8-bit data, else clamped to [-1, 1]."""
    return values.round().clamp(0, 255).to(torch.uint8) if dtype == torch.uint8 else values.clamp(-1, 1)


def check_fit(fit: str) -> None:
    """Raises ConfigError for what is no way to make images square."""
    if fit not in FITS:
        raise ConfigError(".fit", repr(fit), ", ".join(FITS), f".fit={nearest(fit, FITS) or FITS[0]}")


def check_shape(channels: int | None, resolution: int | None, *, most: int | None = None) -> None:
    """Raises ConfigError for a number of channels or pixels that no image can have, or more pixels than `most`."""
    if channels not in (None, 1, 3):
        raise ConfigError(".channels", f"{channels}", "1 (grey) or 3 (colour)", ".channels=3")
    if resolution is not None and resolution < 1:
        raise ConfigError(".resolution", f"{resolution}", "a number of pixels", ".resolution=32")
    if most is not None and resolution is not None and resolution > most:
        raise ConfigError(".resolution", f"{resolution}", f"at most {most}", f".resolution={most}")
