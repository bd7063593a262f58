"""What flows through an update: batches, latents, opinions, targets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import torch
from torch import Tensor

if TYPE_CHECKING:
    from ganrun.core.pair import Pair

Role = Literal["generator", "discriminator"]
Terms = dict[str, Tensor]  # what a player minimises, by name; each [] in float32


class Batch(NamedTuple):
    """Real images as a data source draws them."""

    images: Tensor  # [B, C, H, W] in [-1, 1]; 2-D points are [B, 2, 1, 1]
    labels: Tensor | None = None  # [B] int64


class Examples(Protocol):
    """What a trick may see of the data before the run starts: images by their index."""

    @property
    def labels(self) -> Tensor | None:
        """The label of every image, on the host. [N] int64"""

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of what the labels count."""

    def pick(self, indices: Tensor) -> Batch:
        """These images, on the device."""

    def kept_out(self) -> Batch | None:
        """All images that are kept out of training, on the device; None when the data have none."""


class Latent(NamedTuple):
    """What a generator makes images from."""

    noise: Tensor  # [B, Z]
    labels: Tensor | None = None  # [B] int64
    codes: Mapping[str, Tensor] = MappingProxyType({})  # what InfoGAN asks the discriminator to recover


class DiscriminatorOutput(NamedTuple):
    """A discriminator's opinion of a batch of images."""

    score: Tensor  # [B] a logit, a value or an energy: the loss says which
    features: tuple[Tensor, ...] = ()  # hidden activations, shallow first
    heads: Mapping[str, Tensor] = MappingProxyType({})  # auxiliary outputs, e.g. "class" [B, K]

    def float(self) -> DiscriminatorOutput:
        """The same opinion with the score in float32, whatever precision the network ran in."""
        return self._replace(score=self.score.float())


class Targets(NamedTuple):
    """What the discriminator is asked to answer. Only losses that provide `targets` read it."""

    real: Tensor  # [B]
    fake: Tensor  # [B]

    @staticmethod
    def clean(real: Tensor, fake: Tensor) -> Targets:
        """Hard targets, 1 for real and 0 for fake, shaped like these scores."""
        return Targets(torch.ones_like(real), torch.zeros_like(fake))


class Stage(NamedTuple):
    """The static shapes of an update."""

    images: int  # batch size
    resolution: int  # height and width, in pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """One optimiser step by one player. Hashable and complete: equal updates run the same kernels."""

    player: str
    stage: Stage
    due: frozenset[str] = frozenset()  # the lazy tricks whose turn it is
    hands_on: bool = False  # keeps its fakes, with their graph, for the generator's update that follows
    takes_over: bool = False  # uses the fakes that the update before handed on


class Outcome(NamedTuple):
    """What an objective returns: what to minimise, and what to log without gradients."""

    terms: Terms
    measures: dict[str, Tensor]  # each []


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What one pair has computed so far in this update. Tricks read it; nothing writes it."""

    pair: Pair
    real: Tensor | None  # [B, C, H, W] before views; a leaf when a due trick differentiates; None when nobody asked
    fake: Tensor  # [B, C, H, W] before views
    on_real: DiscriminatorOutput | None  # None in a generator's update, unless the loss or a trick is paired
    on_fake: DiscriminatorOutput
    labels: Tensor | None = None  # [B]
    latent: Latent | None = None  # what the fakes were made from; None when that was not noise
