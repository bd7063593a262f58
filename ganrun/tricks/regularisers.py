"""Regularisers: of the discriminator's scores (LeCam, consistency) and of weights (orthogonal, weight decay)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganrun.core import across, limits
from ganrun.core.context import Context, PairView, Role
from ganrun.core.errors import ConfigError
from ganrun.core.facts import Fact
from ganrun.core.found import Found, parameters
from ganrun.core.schedule import Schedule, Scheduled
from ganrun.core.traits import Traits, facts
from ganrun.core.trick import Trick
from ganrun.models.base import output_layer, weighted
from ganrun.models.layers import Layer
from ganrun.tricks.reparametrisation import outputs_axis, plain_weight
from ganrun.tricks.roles import roles

LAYERS = ("all", "last")


class _From(Schedule):
    """One number before a step, another from that step on."""

    def __init__(self, step: int, before: float, after: float):
        self.step, self.before, self.after = step, float(before), float(after)

    def __call__(self, step: int, images: int = 0) -> float:
        return self.before if step < self.step else self.after


class LeCam(Trick):
    """LeCam regularisation: scores stay near running means of the opposite kind's. Tseng et al. 2021, equation 4.

    weight * (E |D(x) - a_F|^2 + E |D(G(z)) - a_R|^2), anchors a <- decay * a + (1 - decay) * E D. With `rectified`, as
    in the authors' code, only reals above a_F and fakes below a_R count, so the term is 0 while D is wrong.
    Before step `start` there is no term, and the anchors are the current scores.
    """

    traits = Traits(needs=facts(Fact.SCORE))
    real: Tensor  # [] running mean of D(real)
    fake: Tensor  # [] running mean of D(fake)

    def __init__(self, *, weight: float, decay: float, rectified: bool, start: int):
        """Raises ConfigError for a negative weight, a decay outside [0, 1) and a start before step 1."""
        super().__init__()
        limits.number(".weight", weight, 0)
        limits.number(".decay", decay, 0, 1)
        limits.whole(".start", start, 1)  # at step 0 the anchors are 0, which is no score of D
        self.weight, self.newest = Scheduled(_From(start, 0, weight)), Scheduled(_From(start, 1, 1 - decay))
        self.rectified = rectified
        self.register_buffer("real", torch.zeros(()))
        self.register_buffer("fake", torch.zeros(()))

    def observe(self, context: Context) -> None:
        assert context.on_real is not None
        self.real.lerp_(across.mean(context.on_real.score.mean()), self.newest())
        self.fake.lerp_(across.mean(context.on_fake.score.mean()), self.newest())

    def discriminator_term(self, context: Context) -> Tensor:
        assert context.on_real is not None
        reals, fakes = context.on_real.score - self.fake, self.real - context.on_fake.score
        if self.rectified:
            reals, fakes = F.relu(reals), F.relu(fakes)
        return self.weight() * (reals.square().mean() + fakes.square().mean())

    def metrics(self) -> Mapping[str, Tensor]:
        return {"real": self.real, "fake": self.fake}


class Consistency(Trick):
    """Consistency regularisation: CR, Zhang et al. 2020; balanced (bCR), Zhao et al. 2021.

    real * E (D(x) - D(T(x)))^2 + fake * E (D(G(z)) - D(T(G(z))))^2. T flips left and right with probability 1/2 and
    shifts by up to `shift` pixels each way, mirrored at the border. fake = 0 is CR, with which T shows in samples.
    """

    traits = Traits(needs=facts(Fact.SINGLE_SCALE, Fact.IMAGE_ALONE))

    def __init__(self, *, real: float | Schedule, fake: float | Schedule, shift: int):
        """Raises ConfigError for a negative weight or shift."""
        super().__init__()
        for key, weight in (("real", real), ("fake", fake)):
            if not isinstance(weight, Schedule):
                limits.number(f".{key}", weight, 0)
        limits.whole(".shift", shift, 0)
        self.on_reals, self.on_fakes = real != 0, fake != 0
        self.real, self.fake, self.shift = Scheduled(real), Scheduled(fake), shift

    def bind(self, pair: PairView, real: Tensor, fake: Tensor) -> None:
        """Check the shift against the reals [B, C, H, W]. Raises ConfigError where it is not less than their size."""
        side = min(real.shape[2:])
        if side <= max(self.shift, 1):
            remedy = ".shift=1" if side > 1 else "leaving it out, points have no sides"
            raise ConfigError(".shift", f"{self.shift} pixels, and images of {side}", "less than the image", remedy)

    def discriminator_term(self, context: Context) -> Tensor:
        assert context.real is not None and context.on_real is not None
        term = torch.zeros_like(self.real())
        if self.on_reals:
            term = term + self.real() * self._change(context, context.real, context.on_real.score)
        if self.on_fakes:
            term = term + self.fake() * self._change(context, context.fake, context.on_fake.score)
        return term

    def _change(self, context: Context, images: Tensor, score: Tensor) -> Tensor:
        """The mean square by which T changes these scores. []"""
        moved = context.pair.judge(flip_and_shift(images.detach(), self.shift), context.condition).score
        return (score - moved).square().mean()


def flip_and_shift(images: Tensor, shift: int) -> Tensor:
    """Mirror half of the images, and shift each by whole pixels, U(-shift, shift) on either axis. [B, C, H, W]"""
    count, _, height, width = images.shape
    device = images.device
    down, right = torch.randint(-shift, shift + 1, (2 * count, 1), device=device).unflatten(0, (2, count))
    flipped = torch.rand(count, 1, device=device) < 0.5
    rows = _mirrored(torch.arange(height, device=device) + down, height)
    columns = _mirrored(torch.arange(width, device=device) + right, width)
    columns = torch.where(flipped, width - 1 - columns, columns)
    each = torch.arange(count, device=device)[:, None, None]
    return images.permute(0, 2, 3, 1)[each, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _mirrored(index: Tensor, size: int) -> Tensor:
    """Reflect positions at 0 and size - 1, up to size - 1 beyond either. [B, N]"""
    return size - 1 - (size - 1 - index.abs()).abs()


class Orthogonal(Trick):
    """Orthogonal regularisation with free filter norms. BigGAN, Brock et al. 2019, equation 3.

    weight * sum over layers of |W W^T o (1 - I)|_F^2, where W has a row for each filter; for G, D or both (`of`).
    Layers are the dense ones and convolutions, W what they compute with, whatever form their weights have, except
    under spectral norm: there it is the weight before its division.
    """

    def __init__(self, *, weight: float | Schedule, of: str):
        """Raises ConfigError for a negative weight, and for an unknown `of`."""
        super().__init__()
        if not isinstance(weight, Schedule):
            limits.number(".weight", weight, 0)
        self.weight, self.players = Scheduled(weight), roles(".of", of)
        self._layers = {player: Found(_layers) for player in self.players}

    def discriminator_term(self, context: Context) -> Tensor:
        return self._term(context.pair.discriminator, "discriminator")

    def generator_term(self, context: Context) -> Tensor:
        return self._term(context.pair.generator, "generator")

    def _term(self, net: nn.Module, player: Role) -> Tensor:
        if player not in self.players:
            return torch.zeros_like(self.weight())
        with torch.autocast(self.weight().device.type, enabled=False):  # near 0 it is a difference of large numbers
            overlaps = [self._overlap(filters(layer).float()) for layer in self._layers[player](net)]
        return self.weight() * torch.stack([*overlaps, torch.zeros_like(self.weight())]).sum()

    @staticmethod
    def _overlap(matrix: Tensor) -> Tensor:
        """The sum of squared products of different rows. [N, K] -> []"""
        products = matrix @ matrix.T
        return (products - torch.diag_embed(products.diagonal())).square().sum()


def _layers(net: nn.Module) -> list[Layer]:
    return [layer for _, layer in weighted(net)]


def filters(layer: Layer) -> Tensor:
    """The weight of a dense layer or convolution as a matrix: a row for each output unit or filter. [O, K]"""
    weight = plain_weight(layer)
    if not outputs_axis(layer):
        return weight.flatten(1)
    groups = weight.unflatten(0, (layer.groups, -1))  # each makes outputs of its own
    return groups.transpose(1, 2).flatten(0, 1).flatten(1)


class WeightDecay(Trick):
    """L2 weight decay, added to the gradients. As in DCGAN's published code, Radford et al. 2015.

    gradient += weight * parameter, for biases and gains too. Adam therefore scales it, unlike decoupled weight decay,
    which is optim.*._target_=torch.optim.AdamW. Tricks act in the order of the list: after `gradient_clipping` it is
    not clipped. `layers=last` is the margin of a support vector machine, weight * |w|^2 / 2, w being the weights that
    the layer that makes the score (or the image) computes with, whatever form they have, before spectral norm divides
    them. Geometric GAN, Lim & Ye 2017, equation 14: their C is 1 / (weight * batch).
    """

    def __init__(self, *, weight: float | Schedule, of: str, layers: str):
        """Raises ConfigError for a negative weight, and for unknown `of` or `layers`."""
        super().__init__()
        if not isinstance(weight, Schedule):
            limits.number(".weight", weight, 0)
        limits.choice(".layers", layers, LAYERS)
        self.weight, self.players, self.layers = Scheduled(weight), roles(".of", of), layers
        self._all = {player: Found(parameters) for player in self.players}
        self._last = {player: Found(partial(output_layer, role=player)) for player in self.players}

    def modify(self, net: nn.Module, role: Role) -> nn.Module:
        """Change nothing. Raises ConfigError for `layers=last` where no layer says that it makes the output."""
        if self.layers == "last" and role in self.players:
            output_layer(net, role)
        return net

    def before(self, pair: PairView, player: Role) -> None:
        if player in self.players:
            net: nn.Module = getattr(pair, player)
            everything = self.layers == "all"
            learnt, slopes = _itself(self._all[player](net)) if everything else _margin(self._last[player](net))
            gradients = [p.grad for p in learnt if p.grad is not None]
            torch._foreach_add_(gradients, torch._foreach_mul(slopes, self.weight()))


def _itself(parameters: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """What has a gradient, and the slope of half its square: itself. [N, ...] each"""
    learnt = [p for p in parameters if p.grad is not None]
    return learnt, learnt


def _margin(layer: Layer) -> tuple[list[Tensor], list[Tensor]]:
    """What a layer's weight w is made of and has a gradient, and the slopes of |w|^2 / 2. [N, ...] each"""
    forms: Any = getattr(layer, "parametrizations", {})
    learnt, _ = _itself(list(forms["weight"].parameters()) if "weight" in forms else [layer.weight])
    if not learnt:
        return [], []
    with torch.enable_grad():
        return learnt, list(torch.autograd.grad(plain_weight(layer).square().sum() / 2, learnt))
