"""Sample grids and scatter plots as pictures, and PNG files of them."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from ganrun.record.atomic import environment, write_atomically
from ganrun.record.stored import content

GAP = 2  # pixels between images
LINE = 16  # pixels of a line of words, height
TILE = 64  # pixels that a small image is enlarged to, at most
PLOT = 512  # height and width of a scatter picture, in pixels
DOT = 2  # radius of a fake point, in pixels
REALS, FAKES = (70, 90, 120), (225, 87, 40)  # red, green, blue


def grid(images: Tensor, rows: int | None = None, *, reals: Tensor | None = None) -> np.ndarray:
    """Images [N, C, H, W] in [-1, 1] as one picture, uint8 [H, W, 1 or 3]; 2-D points [N, 2, 1, 1] as a scatter."""
    count, channels, height, width = images.shape
    if (channels, height, width) == (2, 1, 1):
        return scatter(images, images if reals is None else reals)
    tiles = _enlarge(to_bytes(images), max(1, TILE // max(height, width)))
    rows = rows or max(1, round(math.sqrt(count * width / height)))  # nearly square
    return _tile(tiles, min(rows, count))


def captioned(picture: np.ndarray, words: str) -> np.ndarray:
    """A picture, uint8 [H, W, 1 or 3], above a line of these words: [H + 16, W, 1 or 3]."""
    line = Image.new("L", (picture.shape[1], LINE))
    ImageDraw.Draw(line).text((GAP, GAP), words, fill=255, font=ImageFont.load_default(11))
    return np.concatenate([picture, np.asarray(line)[..., None].repeat(picture.shape[2], axis=2)])


def to_pixels(images: Tensor) -> np.ndarray:
    """[N, C, H, W] in [-1, 1] as uint8 [N, H, W, C]."""
    values = images.detach().float().cpu().nan_to_num(0.0, 1.0, -1.0).clamp(-1, 1)
    pixels: np.ndarray = ((values + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    return pixels


def to_bytes(images: Tensor) -> np.ndarray:
    """[N, C, H, W] in [-1, 1] as uint8 [N, H, W, 1 or 3]. Of more than three channels the first three are shown."""
    pixels = to_pixels(images)
    if pixels.shape[-1] == 2:
        return np.concatenate([pixels, np.zeros_like(pixels[..., :1])], axis=-1)
    return pixels[..., :3]


def _enlarge(tiles: np.ndarray, factor: int) -> np.ndarray:
    return tiles.repeat(factor, axis=1).repeat(factor, axis=2)


def _tile(tiles: np.ndarray, rows: int) -> np.ndarray:
    """Tiles [N, H, W, C] row by row, with a gap around each."""
    count, height, width, channels = tiles.shape
    columns = math.ceil(count / rows)
    rows = math.ceil(count / columns)  # no empty row at the end
    picture = np.zeros((rows * (height + GAP) + GAP, columns * (width + GAP) + GAP, channels), np.uint8)
    for index, tile in enumerate(tiles):
        top, left = (GAP + (index // columns) * (height + GAP), GAP + (index % columns) * (width + GAP))
        picture[top : top + height, left : left + width] = tile
    return picture


def scatter(fakes: Tensor, reals: Tensor) -> np.ndarray:
    """Fake points [N, 2, 1, 1] as dots over the density of real ones [M, 2, 1, 1]; a picture, uint8 [PLOT, PLOT, 3].

    The axes follow the reals, so that pictures of one run compare. Points beyond the frame are drawn on its edge.
    """
    real, fake = _points(reals), _points(fakes)
    centre, half = (real.max(0) + real.min(0)) / 2, (real.max(0) - real.min(0)).max() / 2
    half = max(float(half) * 1.25, 1e-6)
    picture = _density(_pixels(real, centre, half))
    for x, y in _pixels(fake, centre, half):
        picture[max(y - DOT, 0) : y + DOT + 1, max(x - DOT, 0) : x + DOT + 1] = FAKES
    return picture


def _points(points: Tensor) -> np.ndarray:
    """Points [N, 2, 1, 1] as an array [N, 2]; NaN as 0."""
    return np.nan_to_num(points.detach().float().cpu().reshape(len(points), 2).numpy().astype(np.float64))


def _pixels(points: np.ndarray, centre: np.ndarray, half: float) -> np.ndarray:
    """Where points fall, as [N, 2] (column, row); y grows upwards."""
    unit = (points - centre) / (2 * half) * (1, -1) + 0.5
    return (unit.clip(0, 1) * (PLOT - 1)).round().astype(int)


def _density(pixels: np.ndarray) -> np.ndarray:
    """Grey where the reals are, darker where they are many; [PLOT, PLOT, 3] on white."""
    cell = 4  # pixels
    counts = np.zeros((PLOT // cell, PLOT // cell))
    np.add.at(counts, (pixels[:, 1] // cell, pixels[:, 0] // cell), 1)
    shade = np.sqrt(counts / max(counts.max(), 1))[..., None].repeat(cell, 0).repeat(cell, 1)
    white = np.array([255.0, 255.0, 255.0])
    return (white + shade * 0.8 * (np.array(REALS) - white)).astype(np.uint8)


def png(array: np.ndarray, **texts: str) -> bytes:
    """A picture [H, W, 1 or 3] as a PNG file, with these texts in its header."""
    buffer, header = io.BytesIO(), PngInfo()
    for key, text in texts.items():
        header.add_text(key, text)
    Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array).save(buffer, "PNG", pnginfo=header)
    return buffer.getvalue()


def save_png(path: Path, array: np.ndarray, **texts: str) -> None:
    """Write a picture, whole or not at all, with these texts in its header."""
    with environment(f"cannot save {path}"):
        write_atomically(path, png(array, **texts))


def text_of(path: Path, key: str) -> str | None:
    """A text in the header of a PNG file; None where there is none, or no such file."""
    try:
        found = Image.open(io.BytesIO(content(path)), formats=["PNG"]).info.get(key)
    except Exception:  # a file made to do harm raises anything
        return None
    return found if isinstance(found, str) else None
