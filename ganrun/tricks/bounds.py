"""Tricks on the weights of either network, and on their gradients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from ganrun.core import limits
from ganrun.core.context import Context, PairView, Role
from ganrun.core.errors import ConfigError
from ganrun.core.schedule import Schedule, Scheduled
from ganrun.core.trick import Trick
from ganrun.models.base import weighted

OF: Mapping[str, tuple[Role, ...]] = {
    "generator": ("generator",),
    "discriminator": ("discriminator",),
    "both": ("generator", "discriminator"),
}


LAYERS = ("all", "last")


def _players(where: str, of: str) -> tuple[Role, ...]:
    """Whom the setting `of` names."""
    limits.choice(f"{where}.of", of, OF)
    return OF[of]


def _matrices(net: nn.Module) -> Iterator[Tensor]:
    """The weights of dense layers and convolutions as matrices, a row for each unit or filter that they feed."""
    for module in net.modules():
        for weight in module.parameters(recurse=False):
            if weight.ndim > 1 and not isinstance(module, nn.Embedding):
                transposed = isinstance(module, nn.modules.conv._ConvTransposeNd)
                yield (weight.transpose(0, 1) if transposed else weight).flatten(1)


class Orthogonal(Trick):
    """Keep filters at right angles, their lengths free. BigGAN, Brock et al. 2019, equation 3.

    weight * sum over layers of |W W^T o (1 - I)|_F^2, W with a row for each filter; for G, D or both (`of`).
    """

    def __init__(self, *, weight: float | Schedule, of: str):
        super().__init__()
        if not isinstance(weight, Schedule):
            limits.number("tricks.orthogonal.weight", weight, 0)
        self.weight, self.players = Scheduled(weight), _players("tricks.orthogonal", of)

    def discriminator_term(self, context: Context) -> Tensor:
        return self._term(context.pair.discriminator, "discriminator")

    def generator_term(self, context: Context) -> Tensor:
        return self._term(context.pair.generator, "generator")

    def _term(self, net: nn.Module, player: Role) -> Tensor:
        if player not in self.players:
            return torch.zeros_like(self.weight())
        with torch.autocast(self.weight().device.type, enabled=False):  # near 0 it is a difference of large numbers
            angles = [self._overlap(matrix.float()) for matrix in _matrices(net)]
        return self.weight() * torch.stack([*angles, torch.zeros_like(self.weight())]).sum()

    @staticmethod
    def _overlap(matrix: Tensor) -> Tensor:
        """What products of different rows are, squared and summed. [N, K] -> []"""
        products = matrix @ matrix.T
        return (products - torch.diag_embed(products.diagonal())).square().sum()


class WeightDecay(Trick):
    """Pull every weight to 0: L2, added to the gradients. As in DCGAN's published code, Radford et al. 2015.

    gradient += weight * parameter, biases and gains included; so Adam scales it too, unlike decoupled weight decay,
    which is optim.*._target_=torch.optim.AdamW. Acts where it stands in the list: after `gradient_clipping`, unclipped.
    `layers=last` is the margin of a support vector machine, |w|^2 / 2 over the weights of the last layer alone, as in
    Geometric GAN, Lim & Ye 2017, equation 14: their C is 1 / (weight * batch).
    """

    def __init__(self, *, weight: float | Schedule, of: str, layers: str):
        super().__init__()
        if not isinstance(weight, Schedule):
            limits.number("tricks.weight_decay.weight", weight, 0)
        limits.choice("tricks.weight_decay.layers", layers, LAYERS)
        self.weight, self.players, self.layers = Scheduled(weight), _players("tricks.weight_decay", of), layers

    def before(self, pair: PairView, player: Role) -> None:
        if player in self.players:
            learnt = [p for p in self._decaying(getattr(pair, player)) if p.grad is not None]
            gradients = [p.grad for p in learnt if p.grad is not None]
            torch._foreach_add_(gradients, torch._foreach_mul(learnt, self.weight()))

    def _decaying(self, net: nn.Module) -> list[Tensor]:
        if self.layers == "all":
            return list(net.parameters())
        *_, (_, last) = weighted(net)
        return [p for p in last.parameters() if p.ndim > 1]


class GradientClipping(Trick):
    """Shorten a player's gradient to `norm` when it is longer. Pascanu et al. 2013, algorithm 1.

    All its tensors as one, in place, by a factor that the device computes: min(1, norm / |gradient|).
    """

    discriminator: Tensor  # [] norm before clipping at the last update; 0 when it is not clipped
    generator: Tensor

    def __init__(self, *, norm: float, of: str):
        super().__init__()
        where = "tricks.gradient_clipping"
        if not norm > 0:
            raise ConfigError(f"{where}.norm", f"{norm}", "a number above 0", f"{where}.norm=1")
        self.norm, self.players = norm, _players(where, of)
        for player in self.players:
            self.register_buffer(player, torch.zeros(()))

    def before(self, pair: PairView, player: Role) -> None:
        if player in self.players:
            norm = nn.utils.clip_grad_norm_(getattr(pair, player).parameters(), self.norm)
            getattr(self, player).copy_(norm)

    def metrics(self) -> Mapping[str, Tensor]:
        return {player: getattr(self, player) for player in self.players}
