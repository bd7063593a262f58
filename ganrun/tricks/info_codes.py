"""InfoGAN: parts of the noise are codes, which a second head of the discriminator recovers. Chen et al. 2016."""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import deepcopy
from itertools import accumulate
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganrun.core import across, limits
from ganrun.core.context import Context, DiscriminatorOutput, Latent, Role
from ganrun.core.errors import ConfigError
from ganrun.core.facts import Fact
from ganrun.core.traits import Traits, facts
from ganrun.core.trick import Trick
from ganrun.models.base import title
from ganrun.models.layers import Fold, stack, unit_norm

COLUMNS = 10  # values of a continuous code in a picture, as in the paper's figures
ROWS = 10  # of such a picture, each with noise of its own
NORMS = ("batch", "layer", "none")
STDS = ("fixed", "learnt")


def categorical_bound(logits: Tensor, code: Tensor) -> Tensor:
    """Bound on the information about a uniform code of K values, E log q(c|x) + log K, in nats. [B, K], [B] -> []"""
    return math.log(logits.shape[1]) - F.cross_entropy(logits, code)


def gaussian_bound(mean: Tensor, log_std: Tensor, code: Tensor) -> Tensor:
    """The same bound for codes U(-1, 1): E log N(c; mean, std) + log 2, summed over codes. [B, n] each -> []"""
    gap = (code - mean) * torch.exp(-log_std)
    likelihood = -0.5 * math.log(2 * math.pi) - log_std - gap.square() / 2  # [B, n]
    return (likelihood + math.log(2)).sum(1).mean()


class Recogniser(nn.Module):
    """Q: a hidden layer on D's last features, then the parameters of q(c|x). Chen et al. 2016, section 5."""

    def __init__(
        self, *, inputs: int, hidden: int, norm: str, slope: float, scale: float, categories: list[int], means: int,
        learns_std: bool,
    ):  # fmt: skip
        super().__init__()
        self.sizes = [*categories, means, means * learns_std]
        normalise = unit_norm(norm, hidden)
        dense = nn.Linear(inputs, hidden, bias=normalise is None)
        self.hidden = stack(fold=Fold(), dense=dense, norm=normalise, activation=nn.LeakyReLU(slope))
        self.codes = nn.Linear(hidden, sum(self.sizes))
        for layer in (dense, self.codes):
            nn.init.normal_(layer.weight, 0.0, scale)
        nn.init.zeros_(self.codes.bias)

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """Logits [B, K] of each categorical code; mean and log std [B, n] of the continuous ones."""
        *logits, mean, log_std = self.codes(self.hidden(features)).float().split(self.sizes, 1)
        log_std = log_std if log_std.shape[1] else torch.zeros_like(mean)
        return {f"category_{i}": each for i, each in enumerate(logits)} | {"mean": mean, "log_std": log_std}


def _recognise(net: Any, given: tuple[Any, ...], made: DiscriminatorOutput) -> DiscriminatorOutput:
    """Forward hook: add Q's outputs to the heads. A plain function, so that copies of the network work."""
    return made._replace(heads={**made.heads, **net.recogniser(made.features[-1])})


class InfoCodes(Trick):
    """InfoGAN: maximises the mutual information of codes in the noise and the image. Chen et al. 2016, equation 6.

    The last numbers of the noise become codes: a one-hot vector for each of `categories`, then `continuous` numbers
    U(-1, 1). D gets a head Q that predicts them from its last features, and is updated with D. Both players minimise
    -L_I(G, Q), the bound on the mutual information of codes and images, E log q(c|x) + H(c), in nats, with a
    weight for each kind of code. It is computed on fakes only. `std` of the continuous codes' Gaussians: fixed at
    1, as in the authors' code for MNIST, or learnt.
    """

    traits = Traits(
        needs=facts(Fact.LATENT, Fact.FEATURES, Fact.SINGLE_SCALE, Fact.ONE_IMAGE),
        invalidates=facts(Fact.UNLABELLED),
    )
    categorical: Tensor  # [] the bound at D's last update, in nats
    gaussian: Tensor  # []

    def __init__(
        self, *, categories: list[int], continuous: int, weight_categorical: float, weight_continuous: float, std: str,
        hidden: int, norm: str, slope: float, scale: float, sweep: float,
    ):  # fmt: skip
        """Raises ConfigError for sizes and weights out of range, unknown choices, and when there are no codes."""
        super().__init__()
        for size in categories:
            limits.whole(".categories", size, 2)
        limits.whole(".continuous", continuous, 0)
        limits.whole(".hidden", hidden, 1)
        limits.choice(".std", std, STDS)
        limits.choice(".norm", norm, NORMS)
        for key, value in (("weight_categorical", weight_categorical), ("weight_continuous", weight_continuous),
                           ("slope", slope), ("scale", scale), ("sweep", sweep)):  # fmt: skip
            limits.number(f".{key}", value, 0)
        self.categories, self.continuous, self.sweep = list(categories), continuous, sweep
        self.size = sum(categories) + continuous  # how many numbers of the noise become codes
        if not self.size:
            raise ConfigError(".", "no codes", "categories, continuous codes or both", ".categories=[10]")
        self.weights = weight_categorical, weight_continuous
        self.q: dict[str, Any] = {"hidden": hidden, "norm": norm, "slope": slope, "scale": scale,
                                  "categories": self.categories, "means": continuous,
                                  "learns_std": std == "learnt"}  # fmt: skip
        self.register_buffer("categorical", torch.zeros(()))
        self.register_buffer("gaussian", torch.zeros(()))

    def modify(self, net: nn.Module, role: Role) -> nn.Module:
        """Add Q to D, before its optimiser is made. Raises ConfigError for too few numbers of noise, or no features."""
        if role == "generator":
            self._check(net)
            return net
        net.add_module("recogniser", Recogniser(inputs=_units(net), **self.q))
        net.register_forward_hook(_recognise)
        return net

    def _check(self, net: Any) -> None:
        if not hasattr(net, "latent"):
            raise ConfigError(".", "the generator has no noise for codes to be part of", "one that has")
        if getattr(net, "conditional", False):
            found = "codes take the last numbers of the noise, with which this generator varies a sentence"
            raise ConfigError(".", found, "a generator that reads no sentences", "model=infogan")
        if net.latent <= self.size:
            found = f"{net.latent} numbers of noise, and the last {self.size} of them become codes"
            raise ConfigError(".", found, f"more than {self.size}",
                          f"model.generator.latent={62 + self.size}, 62 of them noise as in the paper")  # fmt: skip

    def latent(self, latent: Latent) -> Latent:
        noise = latent.noise
        count, device = len(noise), noise.device
        codes, parts = {}, [noise[:, : noise.shape[1] - self.size]]
        for i, size in enumerate(self.categories):
            code = codes[f"category_{i}"] = torch.randint(size, (count,), device=device)
            parts.append((code[:, None] == torch.arange(size, device=device)).to(noise.dtype))
        codes["continuous"] = torch.rand(count, self.continuous, device=device, dtype=noise.dtype) * 2 - 1
        return latent._replace(noise=torch.cat([*parts, codes["continuous"]], 1), codes={**latent.codes, **codes})

    def bounds(self, context: Context) -> tuple[Tensor, Tensor]:
        """L_I of the categorical and of the continuous codes, in nats. [], []"""
        assert context.latent is not None
        heads, codes = context.on_fake.heads, context.latent.codes
        names = [f"category_{i}" for i in range(len(self.categories))]
        zero = heads["mean"].new_zeros(())
        categorical = sum((categorical_bound(heads[name], codes[name]) for name in names), start=zero)
        return categorical, gaussian_bound(heads["mean"], heads["log_std"], codes["continuous"])

    def observe(self, context: Context) -> None:
        for kept, bound in zip((self.categorical, self.gaussian), self.bounds(context), strict=True):
            kept.copy_(across.mean(bound))

    def discriminator_term(self, context: Context) -> Tensor:
        return self._term(context)

    def generator_term(self, context: Context) -> Tensor:
        return self._term(context)

    def _term(self, context: Context) -> Tensor:
        """-lambda L_I, whose gradient reaches Q, D's trunk and, in G's update, G."""
        categorical, gaussian = self.bounds(context)
        return -(self.weights[0] * categorical + self.weights[1] * gaussian)

    def metrics(self) -> Mapping[str, Tensor]:
        found = {"bound_categorical": self.categorical} if self.categories else {}
        return found | ({"bound_continuous": self.gaussian} if self.continuous else {})

    def traversals(self, noise: Tensor) -> Mapping[str, Tensor]:
        """A picture [rows, columns, Z] for each code: its values by column, one of the grid's latents [N, Z] by row.

        As in the paper's figure 2: every value of a category; continuous codes from -`sweep` to `sweep`.
        """
        first = noise.shape[1] - self.size
        starts = [first + passed for passed in accumulate(self.categories, initial=0)]
        axis = torch.linspace(-self.sweep, self.sweep, COLUMNS, device=noise.device, dtype=noise.dtype)
        values = [torch.eye(size, device=noise.device, dtype=noise.dtype) for size in self.categories]
        values += [axis[:, None]] * self.continuous
        places = [*starts, *range(starts[-1] + 1, starts[-1] + self.continuous)][: len(values)]
        return {f"code_{i}": _traversed(noise[:ROWS], *pair) for i, pair in enumerate(zip(places, values, strict=True))}


def _traversed(rest: Tensor, place: int, values: Tensor) -> Tensor:
    """The latents [R, Z] with each of the values [V, W] of one code, which begins at this place. [R, V, Z]"""
    latents = rest[:, None].repeat(1, len(values), 1)
    latents[:, :, place : place + values.shape[1]] = values
    return latents


@torch.no_grad()
def _units(net: Any) -> int:
    """The size of an image's last features, measured on a copy of the network."""
    with torch.random.fork_rng(devices=()):  # some layers draw random numbers
        images, labels = torch.zeros(2, net.channels, net.resolution, net.resolution), torch.zeros(2, dtype=torch.int64)
        shown = deepcopy(net).eval()(images, labels).features  # labels for the networks that read them
    if not shown:
        raise ConfigError(".", f"{title(net, 'discriminator')} shows no hidden activations (rule C17)",
                      "a discriminator that does", "model=infogan")  # fmt: skip
    return shown[-1][0].numel()
