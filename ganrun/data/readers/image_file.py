"""One image file: what its header says, whether it is complete, its raw values, and its pixels at the wanted size."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import IO, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from ganrun.data.readers import array_file
from ganrun.data.readers.regular import UnreadableImage, reason

SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".bmp", ".gif", ".tif", ".tiff", ".webp",
                      ".ppm", ".pgm", ".pbm", ".pnm", ".npy"})  # fmt: skip
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")  # whatever the name says; no EPS, which runs code
GREY = frozenset({"1", "L", "LA", "La", "I;16", "I;16B", "I;16L", "I;16N", "I", "F"})
COLOUR = frozenset({"P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"})
DEEP = {"I;16": "uint16", "I;16B": "uint16", "I;16L": "uint16", "I;16N": "uint16", "I": "int32", "F": "float32"}
LEAST = 4  # pixels of a side, below which nothing can be seen
MOST = 89_478_485  # pixels beyond which Pillow too suspects a decompression bomb
SUSPECT = 25_000_000, 2000  # pixels, and pixels for each byte of the file, beyond which a file is a bomb
ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}
BACKGROUND = 255  # white, behind transparent pixels


class Header(NamedTuple):
    """An image as its file states it."""

    width: int
    height: int
    mode: str  # Pillow's name, or the shape of an array
    channels: int  # 1 for grey, 3 for colour
    dtype: str = "uint8"  # of the raw values
    frames: int = 1  # of an animation, or pages
    clear: bool = False  # whether pixels may be transparent
    shortened: bool = False  # whether 16-bit colour is read at 8 bits


def inspect(file: IO[bytes], *, thoroughly: bool = False) -> Header:
    """Read the header and check the file's end; decode it where there is no end mark, or to be thorough.

    Raises UnreadableImage.
    """
    try:
        if array_file.is_array(file):
            header = _checked(Header(*array_file.inspect(file)), _size(file))
            if thoroughly:
                array_file.read(file)
            return header
        with Image.open(file, formats=FORMATS) as image:
            header = _checked(_header(image), _size(file))
            if thoroughly or not _ends_well(file, image.format):
                image.load()
            if thoroughly and header.dtype == "float32":
                array_file.finite(np.asarray(image))
            return header._replace(frames=getattr(image, "n_frames", 1))
    except UnreadableImage:
        raise
    except Exception as problem:  # decoders raise nearly anything on damaged files
        raise UnreadableImage(why(file, problem)) from problem


def _header(image: Image.Image) -> Header:
    clear = image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info
    shortened = image.mode not in DEEP and any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))
    channels = 1 if image.mode in GREY else 3
    return Header(*image.size, image.mode, channels, _dtype(image), 1, clear, shortened)


def _dtype(image: Image.Image) -> str:
    """The type of the raw values. Portable maps of 16 bits have a mode of 32, and values from 0 to 65535."""
    return "uint16" if image.mode == "I" and image.format == "PPM" else DEEP.get(image.mode, "uint8")


def _checked(header: Header, size: int) -> Header:
    """The header. Refuses decompression bombs, tiny images, and modes that have no colours on a screen."""
    pixels = header.width * header.height
    if pixels > MOST or (pixels > SUSPECT[0] and pixels > SUSPECT[1] * size):
        raise UnreadableImage(f"declares {pixels / 1e6:.0f} megapixels in {size:,} bytes, a decompression bomb")
    if min(header.width, header.height) < LEAST:
        raise UnreadableImage(f"is {header.width}x{header.height} pixels, which are fewer than {LEAST} a side")
    if header.mode not in GREY | COLOUR and not header.mode.startswith("array"):
        raise UnreadableImage(f"has colours of the kind {header.mode}")
    return header


def _size(file: IO[bytes]) -> int:
    """The file's size in bytes."""
    return file.seek(0, os.SEEK_END)


def _ends_well(file: IO[bytes], format: str | None) -> bool:
    """Whether the last bytes are the end mark of this format; False for formats without one."""
    end = ENDS.get(format or "")
    if end is None or _size(file) < len(end):
        return False
    file.seek(-len(end), os.SEEK_END)
    return file.read() == end


def why(file: IO[bytes], problem: Exception) -> str:
    """Why this file could not be read, in words."""
    if isinstance(problem, Image.DecompressionBombError):
        return f"declares far too many pixels in {_size(file):,} bytes, a decompression bomb"
    if isinstance(problem, UnidentifiedImageError):
        file.seek(0)
        start = file.read(12).decode("ascii", "replace")
        return f"is no image (it begins with {start!r})" if start else "is empty"
    return f"is cut or damaged ({reason(problem)})"


def decode(
    file: IO[bytes],
    *,
    channels: int,
    resolution: int,
    fit: str = "crop",
    ends: tuple[float, float] | None = None,
    side: str | None = None,
    kinds: frozenset[str] | None = None,
) -> Tensor:
    """An image, upright, of one size. [C, R, R] uint8. Raises UnreadableImage, also for values of none of these kinds.

    `side` is left or right, where the file holds two images side by side. `ends` are the raw values that become 0 and
    255; without them those of the type: 0 and 255, or 0 and 65535.
    """
    values = raw_values(file, channels)
    if kinds is not None and values.dtype.name not in kinds:
        raise UnreadableImage(f"has {values.dtype.name} values, unlike the others")
    middle = values.shape[1] // 2
    values = {None: values, "left": values[:, :middle], "right": values[:, middle:]}[side]
    plain = Image.fromarray(eight_bits(np.ascontiguousarray(values), ends))
    pixels = np.array(fitted(plain.convert("L" if channels == 1 else "RGB"), resolution, fit))  # [R, R] or [R, R, 3]
    return torch.from_numpy(pixels).reshape(resolution, resolution, channels).permute(2, 0, 1)


def decode_whole(file: IO[bytes], *, channels: int, ends: tuple[float, float] | None = None) -> Tensor:
    """An image, upright, of the size that it has, `ends` as in `decode`. [C, H, W] uint8. Raises UnreadableImage."""
    plain = Image.fromarray(eight_bits(raw_values(file, channels), ends))
    pixels = np.array(plain.convert("L" if channels == 1 else "RGB"))  # [H, W] or [H, W, 3]
    return torch.from_numpy(pixels.reshape(*pixels.shape[:2], channels)).permute(2, 0, 1)


def raw_values(file: IO[bytes], channels: int) -> np.ndarray:
    """The values as they are stored, upright. [H, W], or [H, W, 3] for colour of 8 bits. Raises UnreadableImage."""
    try:
        if array_file.is_array(file):
            return array_file.read(file)
        with Image.open(file, formats=FORMATS) as image:
            deep, dtype = image.mode in DEEP, _dtype(image)
            upright = ImageOps.exif_transpose(image)
            if deep:
                return array_file.finite(np.asarray(upright).astype(dtype))
            return np.asarray(opaque(upright, "L" if channels == 1 else "RGB"))
    except UnreadableImage:
        raise
    except Exception as problem:  # decoders raise nearly anything on damaged files
        raise UnreadableImage(why(file, problem)) from problem


def opaque(image: Image.Image, mode: str) -> Image.Image:
    """Grey or RGB of 8 bits; transparent pixels become white."""
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (BACKGROUND,) * 3 + (255,)), image)
    return image if image.mode == mode else image.convert(mode)


def eight_bits(values: np.ndarray, ends: Sequence[float] | None) -> np.ndarray:
    """Raw values as 0..255: scaled from `ends`, or from 0..65535 when they have 16 bits. [H, W] or [H, W, 3] uint8"""
    if ends is None and values.dtype == np.uint8:
        return values
    low, high = ends or (0.0, 65535.0)
    scaled = (values.astype(np.float64) - low) * (255 / (high - low))
    return scaled.round().clip(0, 255).astype(np.uint8)


def fitted(image: Image.Image, resolution: int, fit: str) -> Image.Image:
    """A square of this many pixels: the centre, all of it with black edges (`pad`), or all of it distorted."""
    square = (resolution, resolution)
    if image.size == square:
        return image
    if fit == "stretch":
        return image.resize(square, Image.Resampling.BICUBIC)
    if fit == "pad":
        return _padded(image, resolution)
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.resize(square, Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))


def _padded(image: Image.Image, resolution: int) -> Image.Image:
    width, height = (max(1, round(side * resolution / max(image.size))) for side in image.size)
    square = Image.new(image.mode, (resolution, resolution))
    square.paste(
        image.resize((width, height), Image.Resampling.BICUBIC), ((resolution - width) // 2, (resolution - height) // 2)
    )
    return square
