"""Normalisation of hidden maps: virtual batch norm and pixel norm."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ganrun.core.context import BatchShape, DiscriminatorOutput, PairView, Role
from ganrun.core.errors import ConfigError
from ganrun.core.facts import Fact
from ganrun.core.traits import Diagnostic, Level, Traits, facts
from ganrun.core.trick import Setting, Trick
from ganrun.models.base import blocks, title
from ganrun.models.layers import on_sphere, precise, stack
from ganrun.tricks.roles import roles

NEEDS = (Fact.UNLABELLED, Fact.SINGLE_SCALE, Fact.SAME_SIZE, Fact.IMAGE_ALONE)  # of what keeps a reference batch


class VirtualNorm(nn.Module):
    """Normalisation by the statistics of a reference batch and of the image itself. Salimans et al. 2016, section 3.4.

    mean = w mean(x) + (1 - w) mean(reference) with w = 1 / (R + 1), the same for the mean of squares. Written with
    variances, which gives the same number without subtracting squares:
    w var(x) + (1 - w) var(reference) + w (1 - w) gap^2, gap being the distance of the two means.
    The first `ahead` images are the reference; they get w = 0.
    """

    when_sampling: ClassVar[str] = "Its norms use the statistics of a reference batch, which the file holds."
    ahead: int = 1  # the size of the reference; set at every call of the network

    def __init__(self, *, like: _BatchNorm, eps: float):
        super().__init__()
        self.weight, self.bias, self.eps = like.weight, like.bias, eps

    def forward(self, values: Tensor) -> Tensor:
        """Normalised maps [R + B, C, H, W] or vectors [R + B, N], R images of the reference first."""
        with torch.autocast(values.device.type, enabled=False):
            x = precise(values)
            share = x.new_full((x.shape[0], *[1] * (x.dim() - 1)), 1 / (self.ahead + 1))
            share[: self.ahead] = 0
            mean, variance = self._blend(x, share)
            shape = (1, -1, *[1] * (x.dim() - 2))
            normal = (x - mean) * torch.rsqrt(variance + self.eps)
            return (normal * self.weight.view(shape) + self.bias.view(shape)).to(values.dtype)

    def _blend(self, x: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance for each image, by its share in them."""
        mean, variance = _own(x)
        of_reference = mean[: self.ahead]
        reference_mean = of_reference.mean(0, keepdim=True)
        spread = of_reference.var(0, unbiased=False, keepdim=True)
        reference_variance = variance[: self.ahead].mean(0, keepdim=True) + spread
        gap = mean - reference_mean
        blended = share * variance + (1 - share) * reference_variance + share * (1 - share) * gap.square()
        return reference_mean + share * gap, blended

    def extra_repr(self) -> str:
        """The settings, for print."""
        return f"{len(self.weight)}, eps={self.eps:g}"


def _own(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of each image and channel; for vectors, the values and 0. [B, C, 1, 1] or [B, N]"""
    pixels = tuple(range(2, x.dim()))
    if not pixels:
        return x, torch.zeros_like(x)
    return x.mean(pixels, keepdim=True), x.var(pixels, unbiased=False, keepdim=True)


def replace_batch_norms(net: nn.Module, make: Callable[[_BatchNorm], nn.Module]) -> int:
    """Put what `make` gives in the place of every batch norm below this module; returns how many there were."""
    count = 0
    for name, child in list(net.named_children()):
        if isinstance(child, _BatchNorm):
            setattr(net, name, make(child))
        count += isinstance(child, _BatchNorm) or replace_batch_norms(child, make)
    return count


def no_batch_norm(net: str) -> Diagnostic:
    """Why a network, named as `title` does, is refused by a trick that replaces its batch norms."""
    remedy = f"{net.partition(' ')[0]}.norm=batch"
    return Diagnostic("C16", Level.ERROR, f"{net} has no batch norm to replace. Try: {remedy}")


class Reference(nn.Module):
    """The reference batch that is put in front of every batch: the network's first input, unless `keep` sets it."""

    batch: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("batch", None)

    def keep(self, batch: Tensor) -> None:
        """Make this the reference. [R, ...]"""
        self.batch = batch.detach().clone()

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any) -> None:
        """Take the saved reference, whose size differs when a run resumes with another batch size."""
        kept = state.get(f"{prefix}batch")
        if kept is not None and self.batch is not None and kept.shape != self.batch.shape:
            self.batch = torch.empty_like(kept, device=self.batch.device)
        super()._load_from_state_dict(state, prefix, *args)


class LeaveBehind(nn.Module):
    """Removes the reference, behind the last norm."""

    ahead: int = 0

    def forward(self, values: Tensor) -> Tensor:
        """[R + B, ...] -> [B, ...], without the R images of the reference."""
        return values[self.ahead :]


def _take_along(net: Any, given: tuple[Any, ...]) -> tuple[Tensor]:
    """Forward pre-hook: put the reference in front. Labels are dropped, as games with labels are refused."""
    if net.reference.batch is None:
        net.reference.keep(given[0])
    for layer in net.modules():
        if isinstance(layer, VirtualNorm | LeaveBehind):
            layer.ahead = len(net.reference.batch)
    return (torch.cat([net.reference.batch, given[0]]),)


def _forget(net: Any, given: tuple[Any, ...], made: Any) -> Any:
    """Forward hook: remove the reference from a discriminator's features."""
    if not isinstance(made, DiscriminatorOutput):
        return made
    return made._replace(features=tuple(f[len(net.reference.batch) :] for f in made.features))


class VirtualBatchNorm(Trick):
    """Virtual batch norm: batch norm with the statistics of a reference batch. Salimans et al. 2016, section 3.4.

    The output for an image then does not depend on the other images of its batch. The reference is computed anew at
    every call, which doubles the cost. It is the first batch of latents (generator) or of reals before any view
    (discriminator). Gains and biases are those of the batch norms that are replaced. Layers that another trick adds
    behind the last block never see the reference.
    """

    traits = Traits(needs=facts(*NEEDS))

    def __init__(self, *, role: str, eps: float):
        """Raises ConfigError for an unknown role."""
        super().__init__()
        self.roles, self.eps = roles(".role", role), eps
        if "discriminator" in self.roles:
            self.traits = Traits(needs=facts(*NEEDS, Fact.ONE_IMAGE))
        self.without: list[str] = []

    def modify(self, net: nn.Module, role: Role) -> nn.Module:
        if role not in self.roles:
            return net
        if not replace_batch_norms(net, lambda norm: VirtualNorm(like=norm, eps=self.eps)):
            self.without.append(title(net, role))
            return net
        last = "to_image" if role == "generator" else "head"
        setattr(net, last, stack(leave_behind=LeaveBehind(), **dict(getattr(net, last).named_children())))
        net.reference = Reference()
        net.register_forward_pre_hook(_take_along)  # plain functions, so that copies of the network work
        net.register_forward_hook(_forget)
        return net

    def bind(self, pair: PairView, real: Tensor, fake: Tensor) -> None:
        """Keep these reals [B, C, H, W] as the discriminator's reference."""
        reference = getattr(pair.discriminator, "reference", None)
        if reference is not None:
            reference.keep(real)

    def diagnostics(self, shape: BatchShape) -> Iterable[Diagnostic]:
        """Refuse networks without a batch norm to replace."""
        return map(no_batch_norm, self.without)


class PixelwiseNorm(nn.Module):
    """Pixelwise feature normalisation: x / sqrt(mean over channels of x^2 + eps). Karras et al. 2018, section 4.2."""

    def __init__(self, *, eps: float):
        super().__init__()
        self.eps = eps

    def forward(self, maps: Tensor) -> Tensor:
        """Each pixel's channels at unit mean square. [B, C, H, W] or [B, N]"""
        return on_sphere(precise(maps), self.eps).to(maps.dtype)

    def extra_repr(self) -> str:
        """The settings, for print."""
        return f"eps={self.eps:g}"


class PixelNorm(Setting):
    """Pixel norm in G, in place of batch norm. ProGAN, Karras et al. 2018, section 4.2.

    At the end of every block: convolution, activation, norm. The layer that makes the image is not normalised.
    """

    def __init__(self, *, eps: float, sets: list[str]):
        super().__init__(sets=sets)
        self.eps = eps

    def modify(self, net: nn.Module, role: Role) -> nn.Module:
        """Add the norm to G. Raises ConfigError for a generator without blocks."""
        if role != "generator":
            return net
        if not blocks(net):
            found = f"{title(net, role)} has no blocks of layers"
            raise ConfigError(".", found, "a generator that has", "model=dcgan")
        for block in blocks(net):
            block.add_module("pixel_norm", PixelwiseNorm(eps=self.eps))
        return net
