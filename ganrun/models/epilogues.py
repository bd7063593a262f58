"""Layers between a discriminator's last features and its score that compare the images of a batch.

Reals and fakes are scored in separate calls (`core/pair.py`), so these layers never see both at once.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from ganrun.core import across, limits
from ganrun.core.context import BatchShape
from ganrun.core.traits import Diagnostic, Level
from ganrun.models.layers import Fold, precise


class Epilogue(nn.Module, ABC):
    """Turns features [B, C, H, W] or [B, N] into vectors that also measure how alike the images of the batch are."""

    @abstractmethod
    def fit(self, shape: Sequence[int]) -> int:
        """Allocate for features of this shape, without the batch. Returns the length of the vectors to come."""

    def calibrate(self, features: Tensor) -> None:
        """Set what depends on the features of one batch of reals, [B, C, H, W] or [B, N]. Without gradients."""


class MinibatchStddev(Epilogue):
    """One more map, which holds the mean standard deviation within a group of images. Karras et al. 2018, section 3.

    The groups interleave, as in the paper's code: image i is in group i mod (B / group).
    """

    def __init__(self, *, group: int, eps: float):
        super().__init__()
        limits.whole(".group", group, 2)
        self.group, self.eps = group, eps
        self.fold = Fold()

    def fit(self, shape: Sequence[int]) -> int:
        maps, *size = shape
        return (maps + 1) * math.prod(size)

    def forward(self, features: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, (C + 1) H W], or [B, N] -> [B, N + 1]."""
        maps = features if features.dim() == 4 else features[:, :, None, None]
        extra = across.mine(self._spread(across.whole(precise(maps)))).to(maps.dtype)
        return self.fold(torch.cat([maps, extra[:, None, None, None].expand(-1, 1, *maps.shape[2:])], 1))

    def _spread(self, maps: Tensor) -> Tensor:
        """The mean deviation within the group of each image. [B, C, H, W] -> [B]"""
        members = math.gcd(self.group, len(maps))  # `group`, unless `force` has let another batch size pass
        groups = maps.unflatten(0, (members, -1))  # [G, B / G, C, H, W]
        spread = (groups.var(0, unbiased=False) + self.eps).sqrt().mean((1, 2, 3))  # [B / G]
        return spread.repeat(members)

    def diagnostics(self, shape: BatchShape) -> Iterable[Diagnostic]:
        """Every group needs all of its images."""
        if shape.images % self.group:
            found = f"groups of {self.group} images do not divide a batch of {shape.images}"
            divisors = [n for n in range(2, shape.images + 1) if shape.images % n == 0]
            smaller = f" or .group={divisors[0]}" if divisors else ""
            remedy = f"batch={shape.images + -shape.images % self.group}{smaller}"
            yield Diagnostic("C13", Level.ERROR, f"{found}. Try: {remedy}")

    def extra_repr(self) -> str:
        """The settings, as `print` shows them."""
        return f"group={self.group}"


class MinibatchDiscrimination(Epilogue):
    """Append how close each image is to all others, by learnt kernels. Salimans et al. 2016, section 3.2.

    o(x_i)_b = sum over j != i of exp(-|M_ib - M_jb|_1), plus a bias, with M_i = f(x_i) T. The columns of T are normed
    and scaled by exp(log_scale), as in the paper's code. In float32 whatever the engine's precision.
    """

    theta: nn.Parameter  # [A, kernels, dims]
    log_scale: nn.Parameter  # [kernels, dims]
    bias: nn.Parameter  # [kernels]
    kinked = True  # where a distance is 0 in one dimension

    def __init__(self, *, kernels: int, dims: int, scale: float, bias: float):
        super().__init__()
        limits.whole(".kernels", kernels, 1)
        limits.whole(".dims", dims, 1)
        self.kernels, self.dims, self.scale, self.start = kernels, dims, scale, bias
        self.fold = Fold()

    def fit(self, shape: Sequence[int]) -> int:
        inputs = math.prod(shape)
        self.theta = nn.Parameter(torch.randn(inputs, self.kernels, self.dims) * self.scale)
        self.log_scale = nn.Parameter(torch.zeros(self.kernels, self.dims))
        self.bias = nn.Parameter(torch.full((self.kernels,), self.start))
        return inputs + self.kernels

    def forward(self, features: Tensor) -> Tensor:
        """[B, C, H, W] or [B, N] -> [B, N + kernels]."""
        vectors = self.fold(features)
        with torch.autocast(vectors.device.type, enabled=False):
            distances = self._distances(across.whole(precise(vectors)))
            closeness = across.mine(_to_others(distances)) + self.bias
        return torch.cat([vectors, closeness], 1)

    @torch.no_grad()
    def calibrate(self, features: Tensor) -> None:
        """Scale each kernel to half the mean distance to the nearest other image, and centre its output.

        Features of a batch of reals: [B, C, H, W] or [B, N].
        """
        distances = self._distances(precise(self.fold(features)))
        itself = 1e6 * torch.eye(len(distances), device=distances.device)[:, :, None]  # the paper's code has 1e6 too
        unit = (0.5 * (distances + itself).amin(1).mean(0)).clamp_min(1e-8)  # [kernels]
        self.log_scale.sub_(unit.log()[:, None])
        self.bias.copy_(-_to_others(distances / unit).mean(0))

    def _distances(self, vectors: Tensor) -> Tensor:
        """[B, A] -> L1 distances [B, B, kernels]. Not cdist, which has no second derivative."""
        norms = torch.linalg.vector_norm(self.theta, dim=0)
        weight = self.theta * (self.log_scale.exp() / norms)
        values = (vectors @ weight.flatten(1)).unflatten(1, (self.kernels, self.dims))
        # Dimension by dimension: half the memory and time of [B, B, kernels, dims] summed over its last, short axis.
        return sum((one[:, None] - one[None]).abs() for one in values.movedim(2, 0).contiguous())

    def diagnostics(self, shape: BatchShape) -> Iterable[Diagnostic]:
        """One image has no others."""
        if shape.images == 1:
            yield Diagnostic("C13", Level.ERROR, "compares images, and the batch has one. Try: batch=2")

    def extra_repr(self) -> str:
        """The settings, as `print` shows them."""
        return f"kernels={self.kernels}, dims={self.dims}"


def _to_others(distances: Tensor) -> Tensor:
    """Sum over the others of exp(-distance); an image's distance to itself is 0. [B, B, kernels] -> [B, kernels]"""
    return torch.exp(-distances).sum(1) - 1
