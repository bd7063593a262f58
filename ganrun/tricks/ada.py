"""Augmentation with the transforms of ADA, at an adaptive probability or at one that is set. Karras et al. 2020."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from ganrun.core import across
from ganrun.core.context import BatchShape, Context, PairView
from ganrun.core.decision import margin
from ganrun.core.errors import ConfigError, nearest
from ganrun.core.facts import Fact
from ganrun.core.schedule import Schedule, Scheduled
from ganrun.core.traits import Diagnostic, Level, Traits, facts, keys
from ganrun.core.trick import Trick
from ganrun.tricks.ada_pipeline import Pipeline
from ganrun.tricks.augment import AUGMENTED, DiffAugment, one_pixel

GROUPS = ("blit", "geometry", "colour")
SMALLEST = 8  # pixels; below that the filters are longer than the image


class Ada(Trick):
    """ADA: adaptive discriminator augmentation. Karras et al. 2020, section 3.1, equation 1.

    All that D sees is augmented with probability p. r_t = E sign(D(x)) over the reals of the last `interval` updates
    measures how far D overfits; p then changes by sign(r_t - target) * interval * batch / images and stays in [0, 1].
    A positive sign means real, whatever the loss and `flip` make of scores. The transforms are those of appendix B.
    """

    traits = Traits(needs=facts(Fact.SCORE, Fact.UNDECIDED, Fact.SINGLE_SCALE, Fact.IMAGE_ALONE), sets=keys(AUGMENTED))
    p: Tensor  # [] the probability of each transform
    r_t: Tensor  # [] at the last change of p
    total: Tensor  # [] sum of sign(D(x)) since then
    count: Tensor  # [] updates since then

    def __init__(
        self,
        *,
        start: float,
        target: float,
        interval: int,
        images: int,
        groups: list[str],
        move: float,
        scale: float,
        turn: float,
        stretch: float,
        shift: float,
        brightness: float,
        contrast: float,
        hue: float,
        saturation: float,
    ):
        """Raises ConfigError for a start outside [0, 1], counts below 1, and unknown groups."""
        super().__init__()
        _check(start, interval, images, groups)
        self.target, self.interval, self.images = target, interval, images
        self.pipeline = Pipeline(
            groups=groups, move=move, scale=scale, turn=turn, stretch=stretch, shift=shift,
            brightness=brightness, contrast=contrast, hue=hue, saturation=saturation,
        )  # fmt: skip
        for name, value in (("p", start), ("r_t", 0.0), ("total", 0.0), ("count", 0.0)):
            self.register_buffer(name, torch.tensor(float(value)))

    def bind(self, pair: PairView, real: Tensor, fake: Tensor) -> None:
        """Check the number of channels of images [B, C, H, W]. Raises ConfigError for colours of other than 1 or 3."""
        _refuse_colours(self.pipeline, real)

    def view(self, images: Tensor) -> Tensor:
        augmented: Tensor = self.pipeline(images, self.p)
        return augmented

    def observe(self, context: Context) -> None:
        assert context.on_real is not None
        score = context.on_real.score
        self.total.add_(across.mean(margin(context.pair, score).sign().mean()))
        self.count.add_(1)
        due = self.count >= self.interval
        self.r_t.copy_(torch.where(due, self.total / self.interval, self.r_t))
        step = self.interval * len(score) * across.processes() / self.images
        self.p.add_(due * (self.r_t - self.target).sign() * step).clamp_(0, 1)
        self.total.mul_(~due)
        self.count.mul_(~due)

    def metrics(self) -> Mapping[str, Tensor]:
        return {"p": self.p, "r_t": self.r_t}

    def diagnostics(self, shape: BatchShape) -> Iterable[Diagnostic]:
        return _too_small(self.pipeline, shape)


class Augmentation(Trick):
    """Augmentation of all that D sees at a scheduled probability. R3GAN, Huang et al. 2024.

    The transforms of ADA, Karras et al. 2020, appendix B, each with probability p; a change of colour with probability
    `colour` * p. With probability p a square whose side is `cutout` of the size is set to 0, its centre anywhere.
    """

    traits = Traits(needs=facts(Fact.SINGLE_SCALE, Fact.IMAGE_ALONE), sets=keys(AUGMENTED))

    def __init__(
        self,
        *,
        p: float | Schedule,
        groups: list[str],
        move: float,
        scale: float,
        turn: float,
        stretch: float,
        shift: float,
        brightness: float,
        contrast: float,
        hue: float,
        saturation: float,
        colour: float,
        cutout: float,
    ):
        """Raises ConfigError for a `p`, `colour` or `cutout` outside [0, 1], and for unknown groups."""
        super().__init__()
        for name, share in (("p", p), ("colour", colour), ("cutout", cutout)):
            if not isinstance(share, Schedule) and not 0 <= share <= 1:
                raise ConfigError(f".{name}", f"{share}", "a number from 0 to 1", f".{name}=0.5")
        _check_groups(groups)
        self.p, self.colour, self.cutout = Scheduled(p), colour, cutout
        self.pipeline = Pipeline(
            groups=groups, move=move, scale=scale, turn=turn, stretch=stretch, shift=shift,
            brightness=brightness, contrast=contrast, hue=hue, saturation=saturation,
        )  # fmt: skip

    def bind(self, pair: PairView, real: Tensor, fake: Tensor) -> None:
        """Check the number of channels of images [B, C, H, W]. Raises ConfigError for colours of other than 1 or 3."""
        _refuse_colours(self.pipeline, real)

    def view(self, images: Tensor) -> Tensor:
        p = self.p()
        augmented: Tensor = self.pipeline(images, p, self.colour * p)
        if not self.cutout:
            return augmented
        chosen = torch.rand(len(images), 1, 1, 1, device=images.device) < p
        return torch.where(chosen, DiffAugment.cut(augmented, self.cutout), augmented)

    def metrics(self) -> Mapping[str, Tensor]:
        return {"p": self.p()}

    def diagnostics(self, shape: BatchShape) -> Iterable[Diagnostic]:
        return _too_small(self.pipeline, shape)


def _too_small(pipeline: Pipeline, shape: BatchShape) -> Iterable[Diagnostic]:
    if shape.resolution < 2:
        yield one_pixel()
    elif shape.resolution < SMALLEST and "geometry" in pipeline.groups:
        sentence = f"images of {shape.resolution} pixels are smaller than its filters"
        yield Diagnostic("C23", Level.ERROR, f"{sentence}. Try: '.groups=[blit,colour]'")


def _refuse_colours(pipeline: Pipeline, real: Tensor) -> None:
    channels = real.shape[1]
    if channels not in (1, 3) and "colour" in pipeline.groups:
        found = f"images of {channels} channels"
        raise ConfigError(".", found, "1 or 3, whose colours it can change", "'.groups=[blit,geometry]'")


def _check(start: float, interval: int, images: int, groups: list[str]) -> None:
    if not 0 <= start <= 1:
        raise ConfigError(".start", f"{start}", "a probability", ".start=0.0")
    for name, value in (("interval", interval), ("images", images)):
        if value < 1:
            raise ConfigError(f".{name}", f"{value}", "1 or more")
    _check_groups(groups)


def _check_groups(groups: list[str]) -> None:
    unknown = [group for group in groups if group not in GROUPS]
    if not groups or unknown:
        close = nearest(unknown[0], GROUPS) if unknown else GROUPS[0]
        found = ", ".join(unknown) or "an empty list"
        raise ConfigError(".groups", found, f"some of {', '.join(GROUPS)}", f".groups=[{close}]")
