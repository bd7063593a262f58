"""Bilinear sampling that can be differentiated twice with respect to images, on every torch from 2.11 on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

BILINEAR, BORDER = 0, 1  # of ATen: interpolation and padding


Sampler = Callable[[Tensor, Tensor], Tensor]


def sampler() -> Sampler:
    """The function to sample images [B, C, H, W] with, at grid [B, h, w, 2]: torch's own where it will do.

    Differentiable with respect to images, as often as wanted, and not to the grid. Chosen outside of updates.
    """
    return sample if differentiates_twice() else _Sample.apply


def sample(images: Tensor, grid: Tensor) -> Tensor:
    """Images at a grid in [-1, 1], bilinear, the border repeated. [B, C, H, W] and [B, h, w, 2] -> [B, C, h, w]"""
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=True)


def differentiates_twice() -> bool:
    """Whether this torch has a derivative for the backward pass of grid_sample; 2.11 has none."""
    with torch.enable_grad():
        image = torch.zeros(1, 1, 2, 2, requires_grad=True)
        values = sample(image, torch.zeros(1, 1, 1, 2)).square()
        (slope,) = torch.autograd.grad(values.sum(), image, create_graph=True)
        try:
            torch.autograd.grad(slope.sum(), image)
        except RuntimeError:
            return False
    return True


class _Sample(torch.autograd.Function):
    """Sampling is linear in the images: its backward pass is another linear map, whose backward pass is sampling."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, grid: Tensor) -> Tensor:
        ctx.save_for_backward(images, grid)
        return sample(images, grid)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
        images, grid = ctx.saved_tensors
        return _Spread.apply(slope, images, grid), None


class _Spread(torch.autograd.Function):
    """Each sampled value goes back to the pixels that it was made of."""

    @staticmethod
    def forward(ctx: Any, slope: Tensor, images: Tensor, grid: Tensor) -> Tensor:
        ctx.save_for_backward(grid)
        back = torch.ops.aten.grid_sampler_2d_backward
        return back(slope, images, grid, BILINEAR, BORDER, True, [True, False])[0]

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None]:
        (grid,) = ctx.saved_tensors
        return _Sample.apply(slope, grid), None, None
