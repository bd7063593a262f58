"""Tricks on the weights that networks start from."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ganrun.core.context import Role
from ganrun.core.traits import Traits, claims
from ganrun.core.trick import Trick
from ganrun.models.base import weighted
from ganrun.tricks.weights import INITIALISATION


class Initialisation(Trick):
    """What tricks that draw all weights anew, biases 0, have in common. Both players; gains of norms are left alone."""

    traits = Traits(claims=claims(INITIALISATION))

    def draw(self, weight: Tensor) -> None:
        raise NotImplementedError

    @torch.no_grad()
    def modify(self, net: nn.Module, role: Role) -> nn.Module:
        for _, layer in weighted(net):
            weight = torch.empty_like(layer.weight, memory_format=torch.contiguous_format)
            self.draw(weight)
            if parametrize.is_parametrized(layer, "weight"):
                layer.weight = weight  # in the form that an earlier trick gave it
            else:
                layer.weight.copy_(weight)
            if layer.bias is not None:
                layer.bias.zero_()
        return net


class OrthogonalInit(Initialisation):
    """Weights as orthonormal rows or columns, [first axis, everything else], times `gain`. Saxe et al. 2014."""

    def __init__(self, *, gain: float):
        super().__init__()
        self.gain = gain

    def draw(self, weight: Tensor) -> None:
        nn.init.orthogonal_(weight, self.gain)


class XavierInit(Initialisation):
    """Weights U(-a, a), a = gain sqrt(6 / (fan in + fan out)). Glorot & Bengio 2010, equation 16."""

    def __init__(self, *, gain: float):
        super().__init__()
        self.gain = gain

    def draw(self, weight: Tensor) -> None:
        nn.init.xavier_uniform_(weight, self.gain)


class NormalInit(Initialisation):
    """Weights N(0, std). Radford et al. 2015, section 4."""

    def __init__(self, *, std: float):
        super().__init__()
        self.std = std

    def draw(self, weight: Tensor) -> None:
        nn.init.normal_(weight, 0.0, self.std)
