"""Random squares of images, and their mirror images, as data are drawn. Krizhevsky et al. 2012, section 4.1.

CycleGAN and pix2pix: squares of 256 pixels of images of 286, half of them mirrored. Isola et al. 2017, section 6.2.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ganrun.data.transforms.resize import centre_crop


class Framing(NamedTuple):
    """What is taken of an image whenever it is drawn: a square somewhere in it, perhaps mirrored."""

    resolution: int  # height and width of the square, in pixels
    mirrored: float  # the probability of a mirror image

    def frames(self, numbers: Tensor, side: int) -> Tensor:
        """Top and left of squares in images of `side` pixels, and whether mirrored. [N, 3] in [0, 1) -> int64"""
        places = side - self.resolution + 1
        corners = (numbers[:, :2] * places).long().clamp(max=places - 1)
        return torch.cat([corners, (numbers[:, 2:] < self.mirrored).long()], 1)

    def take(self, images: Tensor, frames: Tensor) -> Tensor:
        """The squares of images [B, C, H, W] at these frames [B, 3], all of them with one index. [B, C, R, R]"""
        steps = torch.arange(self.resolution, device=images.device)
        down = frames[:, :1] + steps  # [B, R]
        right = frames[:, 1:2] + torch.where(frames[:, 2:] == 1, self.resolution - 1 - steps, steps)
        each = torch.arange(len(images), device=images.device)[:, None, None]
        return images.permute(0, 2, 3, 1)[each, down[:, :, None], right[:, None, :]].permute(0, 3, 1, 2)

    def centre(self, images: Tensor) -> Tensor:
        """The squares in the middle, which nothing random decides. [B, C, H, W] -> [B, C, R, R]"""
        return centre_crop(images, self.resolution)
