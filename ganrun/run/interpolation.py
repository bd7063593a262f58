"""Paths between vectors: linear, and along a sphere."""

from __future__ import annotations

import torch
from torch import Tensor

FLAT = 1e-4  # sine of an angle below which vectors count as parallel


def lerp(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    """Linear interpolation, from a at 0 to b at 1. [..., Z], [..., Z], [..., 1] -> [..., Z]"""
    return a + share * (b - a)


def slerp(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    """Spherical interpolation: the direction turns evenly. White 2016 (arXiv 1609.04468), after Shoemake 1985.

    [..., Z], [..., Z], [..., 1] -> [..., Z]. The norm goes linearly from that of a to that of b, so that vectors of one
    norm keep it. Parallel and opposite vectors are interpolated linearly.
    """
    norms = a.norm(dim=-1, keepdim=True), b.norm(dim=-1, keepdim=True)
    from_, to = (vector / norm.clamp(min=1e-12) for vector, norm in zip((a, b), norms, strict=True))
    angle = (from_ * to).sum(-1, keepdim=True).clamp(-1, 1).acos()
    sine = angle.sin()
    turned = (((1 - share) * angle).sin() * from_ + (share * angle).sin() * to) / sine.clamp(min=FLAT)
    return torch.where(sine < FLAT, lerp(a, b, share), turned * lerp(*norms, share))


WAYS = {"slerp": slerp, "lerp": lerp}


def path(stops: Tensor, frames: int, *, loops: bool, way: str) -> Tensor:
    """Points at even distances along stops, in each row. [R, S, Z] -> [R, frames, Z]

    From the first stop to the last, both included. One that `loops` goes on to the first again, and ends one point
    before it, so that its repetition has no halt.
    """
    count = stops.shape[1]
    places = torch.arange(frames, device=stops.device) * (count / frames if loops else (count - 1) / max(frames - 1, 1))
    before = places.floor().long().clamp(max=count - 1 if loops else max(count - 2, 0))
    share = (places - before).to(stops.dtype)[None, :, None]
    return WAYS[way](stops[:, before], stops[:, (before + 1) % count], share)
