"""One image file: its header, whether it is complete, and its pixels as 8-bit grey or colour."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"})
GREY = frozenset({"1", "L", "LA", "La", "I;16", "I;16B", "I;16L", "I;16N"})
DEEP = frozenset({"I;16", "I;16B", "I;16L", "I;16N"})  # 16 bits, 0..65535
TOO_DEEP = {"F": "floating-point", "I": "32-bit"}  # without a known range
LEAST = 4  # pixels of a side, below which nothing can be seen
MOST = 89_478_485  # pixels beyond which Pillow too suspects a decompression bomb
SUSPECT = 25_000_000, 2000  # pixels, and pixels for each byte of the file, beyond which a file is a bomb
ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}
BACKGROUND = 255  # white, behind transparent pixels


class UnreadableImage(ValueError):
    """An image file that cannot be used; the text says why."""


class Header(NamedTuple):
    """Size and mode of an image, as its file states them."""

    width: int
    height: int
    mode: str

    @property
    def channels(self) -> int:
        """1 for grey, 3 for colour."""
        return 1 if self.mode in GREY else 3


def inspect(path: Path) -> Header:
    """Read the header and check the file's end; decode it where there is no end mark. Raises UnreadableImage."""
    try:
        with Image.open(path) as image:
            header = Header(*image.size, image.mode)
            _check(header, path.stat().st_size)
            if not _ends_well(path, image.format):
                image.load()
            return header
    except UnreadableImage:
        raise
    except Exception as problem:  # decoders raise nearly anything on damaged files
        raise UnreadableImage(reason(path, problem)) from problem


def _check(header: Header, size: int) -> None:
    """Refuses decompression bombs, tiny images, and values of unknown range."""
    pixels = header.width * header.height
    if pixels > MOST or (pixels > SUSPECT[0] and pixels > SUSPECT[1] * size):
        raise UnreadableImage(f"declares {pixels / 1e6:.0f} megapixels in {size:,} bytes, a decompression bomb")
    if min(header.width, header.height) < LEAST:
        raise UnreadableImage(f"is {header.width}x{header.height} pixels")
    if header.mode in TOO_DEEP:
        raise UnreadableImage(f"has {TOO_DEEP[header.mode]} values of unknown range (dataset=array takes their range)")


def _ends_well(path: Path, format: str | None) -> bool:
    """Whether the last bytes are the end mark of this format; False for formats without one."""
    end = ENDS.get(format or "")
    if end is None:
        return False
    with path.open("rb") as file:
        file.seek(-len(end), 2)
        return file.read() == end


def reason(path: Path, problem: Exception) -> str:
    """Why this file could not be read, in words."""
    if isinstance(problem, Image.DecompressionBombError):
        return f"declares far too many pixels in {path.stat().st_size:,} bytes, a decompression bomb"
    if isinstance(problem, UnidentifiedImageError):
        size = path.stat().st_size
        return "is empty" if not size else f"is no image (it begins with {_start(path)!r})"
    if isinstance(problem, OSError) and problem.strerror:
        return f"cannot be opened ({problem.strerror.lower()})"
    return f"is cut or damaged ({problem})"


def _start(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(12).decode("ascii", "replace")


def decode(path: Path, *, channels: int, resolution: int) -> Tensor:
    """The centre square of an image file, upright and resized. [C, R, R] uint8. Raises UnreadableImage."""
    try:
        plain = _upright(path, channels)
    except Exception as problem:  # decoders raise nearly anything on damaged files
        raise UnreadableImage(reason(path, problem)) from problem
    return _pixels(plain, channels, resolution)


def decode_bytes(raw: bytes, *, channels: int, resolution: int) -> Tensor:
    """The centre square of an image file in memory, upright and resized. [C, R, R] uint8. Raises UnreadableImage."""
    try:
        plain = _upright(BytesIO(raw), channels)
    except UnidentifiedImageError as problem:
        raise UnreadableImage(f"is no image (it begins with {raw[:12].decode('ascii', 'replace')!r})") from problem
    except Exception as problem:  # decoders raise nearly anything on damaged files
        raise UnreadableImage(f"is cut or damaged ({problem})") from problem
    return _pixels(plain, channels, resolution)


def _upright(source: Path | BytesIO, channels: int) -> Image.Image:
    with Image.open(source) as image:
        return eight_bits(ImageOps.exif_transpose(image), "L" if channels == 1 else "RGB")


def _pixels(plain: Image.Image, channels: int, resolution: int) -> Tensor:
    pixels = np.array(centre(plain, resolution))  # [R, R] or [R, R, 3]
    return torch.from_numpy(pixels).reshape(resolution, resolution, channels).permute(2, 0, 1)


def eight_bits(image: Image.Image, mode: str) -> Image.Image:
    """Grey or RGB of 8 bits, from any mode: 16 bits are scaled, not clipped; transparent pixels become white."""
    if image.mode in DEEP:
        image = Image.fromarray((np.asarray(image).astype(np.float64) / 257).round().astype(np.uint8))
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (BACKGROUND,) * 3 + (255,)), image)
    return image if image.mode == mode else image.convert(mode)


def centre(image: Image.Image, resolution: int) -> Image.Image:
    """The centre square, resized; the pixels outside it are not resampled."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    if image.size == (resolution, resolution):
        return image
    box = (left, top, left + side, top + side)
    return image.resize((resolution, resolution), Image.Resampling.BICUBIC, box=box)
