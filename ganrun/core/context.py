"""What flows through an update: batches, conditions, latents, discriminator outputs, targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from ganrun.core.images import Images

Role = Literal["generator", "discriminator"]
Terms = dict[str, Tensor]  # what a player minimises, by name; each [] in float32
Metrics = dict[str, Tensor]  # what an update measured, by name; each [] in float32, on the device


READ_FIRST = ("text", "embedding", "labels", "image")  # of a condition, the first that is given is what networks read


class Condition(NamedTuple):
    """What a fake is made for, and what the discriminator is given beside an image: one of these, or nothing."""

    labels: Tensor | None = None  # [B] int64
    text: Tensor | None = None  # [B, L] int64, the words of a sentence by number, 0 after its end
    embedding: Tensor | None = None  # [B, E], such as a sentence's
    image: Tensor | None = None  # [B, C, H, W], such as the one to be translated
    mismatch: Tensor | None = None  # the conditions of other images, shaped as the one that is given

    @property
    def tensor(self) -> Tensor | None:
        """The one that is given, as networks take it: [B], [B, L], [B, E] or [B, C, H, W]; None when nothing is.

        Of images with captions and labels it is the captions: a run has them only when its networks read them.
        """
        for name in READ_FIRST:
            if (given := getattr(self, name)) is not None:
                return given
        return None

    @property
    def mismatched(self) -> Condition:
        """The conditions of other images in the place of each image's own."""
        assert self.mismatch is not None, "no conditions of other images were given"
        name = next(name for name in READ_FIRST if getattr(self, name) is not None)
        return Condition(**{name: self.mismatch})

    def each(self, change: Callable[[Tensor], Tensor]) -> Condition:
        """The same change to every tensor that is given, [B, ...] each."""
        return Condition(*(None if given is None else change(given) for given in self))


UNCONDITIONAL = Condition()


class Batch(NamedTuple):
    """Real images as a data source draws them."""

    images: Tensor  # [B, C, H, W] in [-1, 1]; 2-D points are [B, 2, 1, 1]
    condition: Condition = UNCONDITIONAL

    @property
    def labels(self) -> Tensor | None:
        """The class of each image. [B] int64"""
        return self.condition.labels


Batches = Mapping[str, Batch]  # stream -> what was drawn from it


class Examples(Protocol):
    """What a trick may see of the data before the run starts: images by their index."""

    @property
    def condition(self) -> Condition:
        """What belongs to every image, on the host: labels [N], captions [N, L] or [N, E]."""

    @property
    def labels(self) -> Tensor | None:
        """The label of every image, on the host. [N] int64"""

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, by label."""

    def pick(self, indices: Tensor) -> Batch:
        """The images at these indices [B], on the device: [B, C, H, W]."""

    def held_out(self) -> Batch | None:
        """All images that are kept out of training, on the device; None when the data have none."""


NO_TENSORS: Mapping[str, Tensor] = {}  # never filled; compiled graphs break at a mapping proxy


class Latent(NamedTuple):
    """What a generator makes images from."""

    noise: Tensor  # [B, Z]
    condition: Condition = UNCONDITIONAL
    codes: Mapping[str, Tensor] = NO_TENSORS  # what InfoGAN asks the discriminator to recover

    @property
    def labels(self) -> Tensor | None:
        """The class that each image is made for. [B] int64"""
        return self.condition.labels


ALONE = "unconditional"  # the head of a score that no condition is read for; the loss applies to it too


class DiscriminatorOutput(NamedTuple):
    """What a discriminator computes of a batch of images."""

    score: Tensor  # [B], or [B, 1, h, w] of patches: logits, values or energies; the loss says which
    features: tuple[Tensor, ...] = ()  # hidden activations, shallow first
    heads: Mapping[str, Tensor] = NO_TENSORS  # auxiliary outputs, e.g. "class" [B, K]

    @property
    def alone(self) -> Tensor | None:
        """A score of the image alone, in float32, beside that of image and condition; None where there is none. [B]"""
        return self.heads[ALONE].float() if ALONE in self.heads else None

    def float(self) -> DiscriminatorOutput:
        """The same output with the score in float32, whatever precision the network ran in."""
        return self._replace(score=self.score.float())


class Targets(NamedTuple):
    """The probabilities of being real that the discriminator is trained towards. Read by losses with targets."""

    real: Tensor  # shaped as the scores of reals
    fake: Tensor  # shaped as the scores of fakes

    @staticmethod
    def clean(real: Tensor, fake: Tensor) -> Targets:
        """Hard targets for scores [B] or [B, 1, h, w]: 1 for real, 0 for fake."""
        return Targets(torch.ones_like(real), torch.zeros_like(fake))


class BatchShape(NamedTuple):
    """The static shapes of an update."""

    images: int  # batch size
    resolution: int  # height and width, in pixels
    fading: bool = False  # whether images are a blend of two resolutions, as while a network grows


class Progress(NamedTuple):
    """How far a run has come."""

    step: int = 0  # steps done
    images: int = 0  # images of them: the sum of their batch sizes


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """One optimiser step by one player. Hashable and complete: equal updates run the same kernels.

    With `then`, the update of another player that follows in one joint update and trains on the same fakes.
    """

    player: str
    role: Role
    shape: BatchShape
    due: frozenset[str] = frozenset()  # the lazy tricks whose turn it is
    then: Update | None = None
    given_fakes: bool = False  # trains on the fakes of the update whose `then` it is

    @property
    def share_fakes(self) -> bool:
        """Whether the fakes of this update keep their graph, for the update that follows."""
        return self.then is not None


class Observed(NamedTuple):
    """Images and scores that an update computed anyway, without gradients, on the device. For callbacks."""

    fake: Tensor  # [B, C, H, W] before views
    fake_score: Tensor  # [B], or [B, 1, h, w] of patches
    real: Tensor | None = None  # [B, C, H, W] before views
    real_score: Tensor | None = None  # shaped as the fakes' scores


class Fakes(NamedTuple):
    """The fakes of one update, with their graph, for the update that shares them."""

    images: Images  # [B, C, H, W]
    latent: Latent | None = None  # what they were made from; None when that was not noise
    real: Images | None = None  # [B, C, H, W] the reals whose conditions they have
    condition: Condition = UNCONDITIONAL  # what they were made for, where they have no latent that says so


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What an objective returns: what to minimise, what to log, and what callbacks and a joint update may use."""

    terms: Terms
    metrics: Metrics  # each [], without gradients
    observed: Mapping[str, Observed] = field(default_factory=dict)  # by pair
    fakes: Mapping[str, Fakes] = field(default_factory=dict)  # by pair; empty unless the update shares them

    def detached(self) -> Outcome:
        """The same, with terms and metrics whose graph is over."""
        terms = {name: term.detach() for name, term in self.terms.items()}
        metrics = {name: value.detach() for name, value in self.metrics.items()}
        return Outcome(terms=terms, metrics=metrics, observed=self.observed, fakes=self.fakes)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateResult:
    """What one update measured, for callbacks. Nothing here was fetched from the device."""

    update: Update
    names: tuple[str, ...]
    values: Tensor  # [K] on the device, one for each name, as they were right after the update
    observed: Mapping[str, Observed]  # by pair


class PairView(Protocol):
    """What a trick sees of its pair: two networks, their loss, and the tricks beside it. `core.pair.Pair` is one."""

    generator: nn.Module
    discriminator: nn.Module
    loss: Any  # a core.loss.Loss
    tricks: Any  # a core.trick.Tricks
    condition: Condition  # of the batch that tricks are being bound to

    def judge(self, images: Images, condition: Condition = UNCONDITIONAL) -> DiscriminatorOutput:
        """Score images as the discriminator sees them, through every view. [B, C, H, W] -> score [B]"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What one pair has computed so far in this update. Tricks read it; nothing writes it."""

    pair: PairView
    real: Any  # [B, C, H, W] before views; a leaf when a due trick differentiates; None when not needed
    fake: Any  # [B, C, H, W] before views; of several scales only in games that say so (Fact.SINGLE_SCALE)
    on_real: DiscriminatorOutput | None  # None in a generator's update, unless the loss or a trick is paired
    on_fake: DiscriminatorOutput
    condition: Condition = UNCONDITIONAL
    latent: Latent | None = None  # what the fakes were made from; None when that was not noise

    @property
    def labels(self) -> Tensor | None:
        """The class of each image and of the fake in its place. [B] int64"""
        return self.condition.labels
