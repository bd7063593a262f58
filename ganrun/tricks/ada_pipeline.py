"""The transforms of adaptive discriminator augmentation. Karras et al. 2020 (ADA), appendix B.

Each transform is a matrix, drawn for each image with probability p and the identity otherwise; matrices of one kind are
multiplied, then applied once. Geometric ones map centred pixel coordinates of the result to those of the source, in
pixels: `x` to the right, `y` down. Products are written out, since matrix products may run in TF32, too coarse here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganrun.tricks.warp import Sampler, sample, sampler

# Low-pass filter of the orthogonal wavelet sym6 (Daubechies 1992, table 6.3), scaled so that its sum is 1 below.
SYM6 = (
    0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633, 0.4910559419267466,
    0.787641141030194, 0.3379294217276218, -0.07263752278646252, -0.021060292512300564, 0.04472490177066578,
    0.0017677118642428036, -0.007800708325034148,
)  # fmt: skip
TAPS = len(SYM6)
REACH = 3  # pixels before an image that its upsampled version depends on
MARGIN = 5  # upsampled pixels before the first, and one more after the last, that downsampling reads
GREY = 1 / math.sqrt(3)  # the grey axis is (GREY, GREY, GREY)


def matrix(*rows: Sequence[Tensor | float]) -> Tensor:
    """A square matrix for each image from its cells, each [B] or the same for all. [B, N, N]"""
    like = next(cell for row in rows for cell in row if isinstance(cell, Tensor))
    cells = [cell if isinstance(cell, Tensor) else torch.full_like(like, cell) for row in rows for cell in row]
    return torch.stack(cells, -1).unflatten(-1, (len(rows), len(rows)))


def product(matrices: Sequence[Tensor]) -> Tensor:
    """The first times the second times the third ... [B, N, N]"""
    return reduce(lambda a, b: (a.unsqueeze(-1) * b.unsqueeze(-3)).sum(-2), matrices)


# Inverses of geometric transforms: from coordinates of the result to those of the source


def moved(right: Tensor, down: Tensor) -> Tensor:
    """Translation in pixels. [B], [B] -> [B, 3, 3]"""
    return matrix([1, 0, -right], [0, 1, -down], [0, 0, 1])


def scaled(wide: Tensor, high: Tensor) -> Tensor:
    """Scaling by these factors; -1 mirrors. [B], [B] -> [B, 3, 3]"""
    return matrix([1 / wide, 0, 0], [0, 1 / high, 0], [0, 0, 1])


def turned(angle: Tensor) -> Tensor:
    """Rotation in radians, clockwise as `y` points down. [B] -> [B, 3, 3]"""
    c, s = angle.cos(), angle.sin()
    return matrix([c, s, 0], [-s, c, 0], [0, 0, 1])


def quarter_turned(quarters: Tensor) -> Tensor:
    """Exact rotation by a number of right angles. [B] -> [B, 3, 3]"""
    return turned(quarters * (math.pi / 2)).round()


# Colour transforms of (red, green, blue, 1)


def brightened(amount: Tensor) -> Tensor:
    """An amount added to every channel. [B] -> [B, 4, 4]"""
    return matrix([1, 0, 0, amount], [0, 1, 0, amount], [0, 0, 1, amount], [0, 0, 0, 1])


def contrasted(factor: Tensor) -> Tensor:
    """Every channel multiplied by a factor. [B] -> [B, 4, 4]"""
    return matrix([factor, 0, 0, 0], [0, factor, 0, 0], [0, 0, factor, 0], [0, 0, 0, 1])


def _about_grey(along: Tensor, across: Tensor, around: Tensor | float = 0.0) -> Tensor:
    """Scale along the grey axis and across it, and turn by `around` = sine of an angle whose cosine is `across`."""
    on, off = (along + 2 * across) / 3, (along - across) / 3
    plus, minus = off + GREY * around, off - GREY * around
    return matrix([on, minus, plus, 0], [plus, on, minus, 0], [minus, plus, on, 0], [0, 0, 0, 1])


def luma_flipped(yes: Tensor) -> Tensor:
    """Luma inverted, hue and saturation kept, where `yes` is 1: a reflection at the grey axis. [B] -> [B, 4, 4]"""
    return _about_grey(1 - 2 * yes, torch.ones_like(yes))


def hue_turned(angle: Tensor) -> Tensor:
    """Rotation of colours about the grey axis, in radians. [B] -> [B, 4, 4]"""
    return _about_grey(torch.ones_like(angle), angle.cos(), angle.sin())


def saturated(factor: Tensor) -> Tensor:
    """Distance of colours from the grey axis multiplied by a factor. [B] -> [B, 4, 4]"""
    return _about_grey(torch.ones_like(factor), factor)


# How matrices are applied


def centred(first: float, size: int, device: torch.device) -> Tensor:
    """The positions of `size` pixels: first, first + 1, ... [size]"""
    return torch.arange(size, device=device) + first


def sources(inverse: Tensor, x: Tensor, y: Tensor, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    """Where a result's pixels at `x` [W] and `y` [H] come from; translations times `scale`. [B, H, W] each: x, y"""
    cell = inverse[..., None, None]  # [B, 3, 3, 1, 1]
    column, line = x.view(1, 1, -1), y.view(1, -1, 1)
    across, down = (cell[:, i, 0] * column + cell[:, i, 1] * line + scale * cell[:, i, 2] for i in range(2))
    return across, down


def mirrored(position: Tensor, size: float) -> Tensor:
    """Reflect centred positions [B, H, W] at both ends of [-size, size], as often as needed."""
    return size - ((position + size).remainder(4 * size) - 2 * size).abs()


def repeating(position: Tensor, right: float) -> Tensor:
    """Centred positions [B, H, W] on the upsampled image, which ends at `right`, as places in its period, -1 to 1."""
    return (position + right).remainder(4 * right) / (2 * right) - 1


def blit(images: Tensor, inverse: Tensor) -> Tensor:
    """Pixel blitting: each pixel is one of the source's, mirrored at the borders. [B, C, H, W], inverse [B, 3, 3]"""
    (height, width), device = images.shape[2:], images.device
    right, bottom = (width - 1) / 2, (height - 1) / 2  # the outermost pixels
    x, y = sources(inverse, centred(-right, width, device), centred(-bottom, height, device))
    column = (mirrored(x, right) + right).round().long()
    row = (mirrored(y, bottom) + bottom).round().long()
    index = (row * width + column).flatten(1).unsqueeze(1)  # [B, 1, H * W]
    return images.flatten(2).gather(2, index.expand(-1, images.shape[1], -1)).view_as(images)


def upsample(images: Tensor, filter: Tensor) -> Tensor:
    """A pixel between every two of an endlessly mirrored image. [B, 1, H, W] -> [B, 1, 4 H - 3, 4 W - 3]

    Without aliases. Of what repeats it is one period, which begins with the image and ends with its first pixel again.
    The filter's middle is its sixth number: pixel i of the image is pixel 2 i of the result.
    """
    across, down = 2 * filter.view(1, 1, 1, -1), 2 * filter.view(1, 1, -1, 1)
    wide = F.conv_transpose2d(_mirrored_on(images, -1), across, stride=(1, 2), padding=(0, TAPS - 1))[..., :-1]
    return F.conv_transpose2d(_mirrored_on(wide, -2), down, stride=(2, 1), padding=(TAPS - 1, 0))[..., :-1, :]


def _mirrored_on(images: Tensor, axis: int) -> Tensor:
    """A period of images that are endlessly mirrored along an axis, and what the filter reads beyond its ends."""
    inner = images.narrow(axis, 1, images.shape[axis] - 2)  # each border is in a period once
    period = torch.cat([images, inner.flip(axis)], axis)
    before, behind = period.narrow(axis, -REACH, REACH), period.narrow(axis, 0, REACH + 1)
    return torch.cat([before, period, behind], axis)


def downsample(images: Tensor, filter: Tensor) -> Tensor:
    """Every second pixel, without aliases. [B, 1, 2 (H + MARGIN), 2 (W + MARGIN)] -> [B, 1, H, W]

    Undoes `upsample`, of MARGIN pixels around an image too.
    """
    narrow = F.conv2d(images, filter.view(1, 1, 1, -1), stride=(1, 2))
    return F.conv2d(narrow, filter.view(1, 1, -1, 1), stride=(2, 1))


def resample(images: Tensor, inverse: Tensor, filter: Tensor, sample: Sampler = sample) -> Tensor:
    """Geometric transform [B, 3, 3] of images [B, C, H, W] between upsampling and downsampling. Appendix B.1.

    The filter of both is orthogonal. Beyond its borders an image continues as its reflections, which are upsampled with
    it, as in the authors' code: the filter is not quite symmetric, so reflections of what was upsampled would differ.
    Images whose matrix is the identity stay as they are.
    """
    (batch, channels, height, width), device = images.shape, images.device
    fine = upsample(images.reshape(-1, 1, height, width), filter).unflatten(0, (batch, channels)).squeeze(2)
    right, bottom = width - 1.0, height - 1.0  # the outermost pixels of the image, counted from its centre
    columns = centred(-right - MARGIN, 2 * (width + MARGIN), device)
    rows = centred(-bottom - MARGIN, 2 * (height + MARGIN), device)
    x, y = sources(inverse, columns, rows, scale=2.0)
    grid = torch.stack([repeating(x, right), repeating(y, bottom)], -1)
    warped = sample(fine, grid)
    coarse = downsample(warped.reshape(-1, 1, *warped.shape[2:]), filter).view_as(images)
    touched = (inverse != torch.eye(3, device=inverse.device)).flatten(1).any(1).view(-1, 1, 1, 1)
    return torch.where(touched, coarse, images)


def recolour(images: Tensor, colour: Tensor) -> Tensor:
    """Colour transform [B, 4, 4] of images [B, 3, H, W], or its mean effect on grey for images [B, 1, H, W]."""
    if images.shape[1] == 1:
        colour = colour[:, :3].mean(1, keepdim=True)
        return images * colour[:, :, :3].sum(2).view(-1, 1, 1, 1) + colour[:, :, 3].view(-1, 1, 1, 1)
    columns = colour[:, :3, :, None, None].unbind(2)  # each [B, 3, 1, 1]
    return sum((columns[i] * images[:, i : i + 1] for i in range(3)), start=columns[3])


class Pipeline(nn.Module):
    """Pixel blitting, geometry and colour, each transform with probability p. Appendix B, figure 22.

    Blitting and geometry are one warp. Blitting alone copies pixels, which is exact.
    """

    filter: Tensor  # [12] of sum 1

    def __init__(
        self,
        *,
        groups: Sequence[str],
        move: float,
        scale: float,
        turn: float,
        stretch: float,
        shift: float,
        brightness: float,
        contrast: float,
        hue: float,
        saturation: float,
    ):
        """Shares of the size (`move`, `shift`), of half a turn (`turn`, `hue`), or standard deviations of a log2."""
        super().__init__()
        self.groups = groups
        self.move, self.scale, self.turn, self.stretch, self.shift = move, scale, turn, stretch, shift
        self.brightness, self.contrast, self.hue, self.saturation = brightness, contrast, hue, saturation
        self._sample = sampler()
        self.register_buffer("filter", torch.tensor(SYM6, dtype=torch.float64).div(math.sqrt(2)).float())

    def forward(self, images: Tensor, p: Tensor, colour_p: Tensor | None = None) -> Tensor:
        """Augmented images in float32. [B, C, H, W] -> [B, C, H, W]

        `p` [] is the probability of each transform, `colour_p` [] that of colours where it differs.
        """
        with torch.autocast(images.device.type, enabled=False):
            images = images.float()
            moves = self.blits(images, p) if "blit" in self.groups else []
            if "geometry" in self.groups:  # one warp for both, as in the authors' code
                images = resample(images, product(moves + self.geometry(images, p)), self.filter, self._sample)
            elif moves:
                images = blit(images, product(moves))
            if "colour" in self.groups:
                images = recolour(images, product(self.colours(images, p if colour_p is None else colour_p)))
        return images

    def blits(self, images: Tensor, p: Tensor) -> list[Tensor]:
        """Mirror, rotate by right angles, translate by whole pixels: inverse matrices for images [B, C, H, W].

        Each is [B, 3, 3]; being inverses, they multiply in the order in which they are applied.
        """
        height, width = images.shape[2:]
        zeros = images.new_zeros(len(images))
        mirror = gate(p, (torch.rand_like(zeros) * 2).floor(), 0)
        quarters = gate(p, (torch.rand_like(zeros) * 4).floor(), 0)
        go = gate(p, torch.ones_like(zeros), 0)
        right, down = (go * self.move * (torch.rand_like(zeros) * 2 - 1) for _ in range(2))
        return [
            scaled(1 - 2 * mirror, torch.ones_like(zeros)),
            quarter_turned(quarters),
            moved((right * width).round(), (down * height).round()),
        ]

    def geometry(self, images: Tensor, p: Tensor) -> list[Tensor]:
        """Scale, rotate, stretch, rotate again, translate: inverse matrices for images [B, C, H, W].

        Each is [B, 3, 3], in the order in which they are applied.
        """
        height, width = images.shape[2:]
        zeros = images.new_zeros(len(images))
        turns = 1 - (1 - p).sqrt()  # so that with probability p at least one of the two happens
        size = gate(p, (torch.randn_like(zeros) * self.scale).exp2(), 1)
        before = gate(turns, (torch.rand_like(zeros) * 2 - 1) * (math.pi * self.turn), 0)
        ratio = gate(p, (torch.randn_like(zeros) * self.stretch).exp2(), 1)
        after = gate(turns, (torch.rand_like(zeros) * 2 - 1) * (math.pi * self.turn), 0)
        go = gate(p, torch.ones_like(zeros), 0)
        right, down = (go * self.shift * torch.randn_like(zeros) for _ in range(2))
        return [
            scaled(size, size),
            turned(before),
            scaled(ratio, 1 / ratio),
            turned(after),
            moved(right * width, down * height),
        ]

    def colours(self, images: Tensor, p: Tensor) -> list[Tensor]:
        """Brightness, contrast, luma inversion, hue, saturation: matrices for images [B, C, H, W], the last one first.

        Each is [B, 4, 4], in the order of their product.
        """
        zeros = images.new_zeros(len(images))
        bright = gate(p, torch.randn_like(zeros) * self.brightness, 0)
        contrast = gate(p, (torch.randn_like(zeros) * self.contrast).exp2(), 1)
        flip = gate(p, (torch.rand_like(zeros) * 2).floor(), 0)
        hue = gate(p, (torch.rand_like(zeros) * 2 - 1) * (math.pi * self.hue), 0)
        saturation = gate(p, (torch.randn_like(zeros) * self.saturation).exp2(), 1)
        done = [brightened(bright), contrasted(contrast), luma_flipped(flip), hue_turned(hue), saturated(saturation)]
        return done[::-1]


def gate(p: Tensor, value: Tensor, neutral: float) -> Tensor:
    """Each value [B] with probability p [], else the neutral one. [B]"""
    return torch.where(torch.rand_like(value) < p, value, neutral)
