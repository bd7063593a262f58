"""Progressive growing: small images first, then twice the size, again and again. Karras et al. 2018, section 2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from ganrun.core import limits
from ganrun.core.context import Batch, Batches, BatchShape, Progress
from ganrun.core.errors import ConfigError
from ganrun.core.facts import Fact
from ganrun.core.growth import Growth, Phase, growths
from ganrun.core.images import at_resolution
from ganrun.core.pair import Pair
from ganrun.core.traits import Traits
from ganrun.games.latent import LatentGame

SMALLEST = 4  # pixels to a side
THOUSAND = 1000


class Course:
    """The phase of a run by the images that it has seen: the schedule of the authors' code, train.py.

    Every resolution is trained for `stabilise` images; then twice the resolution fades in, its weight growing linearly
    from 0 to 1 over `fade` images; and so on up to the full resolution.
    """

    def __init__(self, *, start: int, full: int, stabilise: int, fade: int):
        """Raises ConfigError for a start that no doubling leads from to the full resolution, and where none follows."""
        self.resolutions = [SMALLEST << scale for scale in range((full // SMALLEST).bit_length())]
        if start not in self.resolutions:
            sizes = ", ".join(map(str, self.resolutions))
            raise ConfigError(".start", f"{start}", f"one of {sizes} (pixels)", f".start={self.resolutions[0]}")
        self.resolutions = self.resolutions[self.resolutions.index(start) :]
        if not stabilise + fade and start < full:
            found, expected = "0, and .fade is 0, so nothing ever grows", "thousands of images"
            raise ConfigError(".stabilise", found, expected, f".start={full}")
        self.stabilise, self.fade = stabilise, fade

    def __call__(self, images: int) -> Phase:
        """The phase after this many images."""
        doublings, rest = divmod(images, max(self.stabilise + self.fade, 1))
        if doublings >= len(self.resolutions) - 1:
            return Phase(self.resolutions[-1])
        if rest <= self.stabilise:
            return Phase(self.resolutions[doublings])
        return Phase(self.resolutions[doublings + 1], (rest - self.stabilise) / self.fade)


class GrowingGame(LatentGame):
    """ProGAN: both networks, and the reals, begin small and grow while training. Karras et al. 2018, section 2.

    While a resolution fades in, reals are blended with themselves at half the resolution, as G's images and what D
    reads of them are. Images have the resolution of the moment in updates and the full one, by repeated pixels, in
    grids and samples. The phase is looked up every `repeats` steps. With `reset`, both optimisers start anew when a
    resolution begins to fade in and when it has. Authors' code, train.py.
    """

    forgets: bool

    def __init__(
        self,
        *,
        pairs: Mapping[str, Pair],
        shape: BatchShape,
        prior: str,
        grid: int,
        start: int,
        stabilise: float,
        fade: float,
        batches: Sequence[int] | None,
        rates: Sequence[float] | None,
        repeats: int,
        reset: bool,
    ):
        """`stabilise` and `fade` are thousands of images; `batches` and `rates` belong to 4x4, 8x8 and so on.

        The last of them holds for all larger resolutions. Raises ConfigError for numbers out of range, and for networks
        that do not grow.
        """
        super().__init__(pairs=pairs, shape=shape, prior=prior, grid=grid)
        for role in ("generator", "discriminator"):
            if not growths(getattr(self.pair, role)):
                found = f"{type(getattr(self.pair, role)).__module__.rpartition('.')[2]}, which has one size"
                raise ConfigError(f"model.{role}", found, "a network that grows", "model=progan, or game=latent")
        for name, number in (("stabilise", stabilise), ("fade", fade)):
            limits.number(f".{name}", number, 0)
        limits.whole(".repeats", repeats, 1)
        self.batches, self.rates = list(batches or [self._full.images]), list(rates or [1.0])
        for images in self.batches:
            limits.whole(".batches", images, 1)
        for rate in self.rates:
            limits.number(".rates", rate, 0)
        self.course = Course(
            start=start,
            full=self._full.resolution,
            stabilise=round(stabilise * THOUSAND),
            fade=round(fade * THOUSAND),
        )
        self.repeats, self.forgets = repeats, reset
        self._growths: list[Growth] | None = None
        self._turn(self.course(0))

    @property
    def traits(self) -> Traits:  # type: ignore[override]
        """As of any game with noise; the size of images changes unless it starts with the full one."""
        found = super().traits
        grows = len(self.course.resolutions) > 1
        return replace(found, provides=found.provides - {Fact.SAME_SIZE}) if grows else found

    @property
    def phase(self) -> Phase:
        """The resolution of the moment, and its weight. Checkpoints hold it with the networks."""
        return growths(self.pair.generator)[0].phase

    @property
    def shape(self) -> BatchShape:
        """The shape of the moment."""
        phase = self.phase
        return BatchShape(int(self._of(self.batches, phase.resolution)), phase.resolution, phase.fading)

    @shape.setter
    def shape(self, shape: BatchShape) -> None:
        self._full = shape

    @property
    def shapes(self) -> tuple[BatchShape, ...]:
        """The shape at every resolution."""
        return tuple(BatchShape(int(self._of(self.batches, size)), size) for size in self.course.resolutions)

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Those that the networks have grown to."""
        return tuple(size for size in self.course.resolutions if size <= self.phase.resolution)

    @property
    def moment(self) -> str:
        """The resolution, and how much of it has faded in."""
        size, alpha = self.phase
        return f"{size}x{size}" + (f", {alpha:.0%} faded in" if self.phase.fading else "")

    def begin(self, now: Progress) -> None:
        """As any game does, after every module that grows has been turned to its phase, copies of tricks too."""
        before, after = self.phase, self.course(now.images) if now.step % self.repeats == 0 else self.phase
        self._turn(after)
        changed = (before.resolution, before.fading) != (after.resolution, after.fading)
        self.anew = frozenset(self.players) if self.forgets and changed else frozenset()
        self.rate = self._of(self.rates, after.resolution)
        super().begin(now)

    def prepared(self, batches: Batches, shape: BatchShape) -> Batches:
        """Reals at the resolution of the update, blended with half of it while that fades in. [B, C, R, R]"""
        return {name: self._prepared(batch, shape) for name, batch in batches.items()}

    @torch.no_grad()
    def bind(self, batches: Batches) -> None:
        super().bind(self.prepared(batches, self.shape))
        self._growths = None

    @torch.no_grad()
    def log_metrics(self) -> dict[str, float]:
        """Those of tricks, the resolution of the moment in pixels, and its weight."""
        size, alpha = self.phase
        return super().log_metrics() | {"growing/resolution": float(size), "growing/alpha": alpha}

    def _prepared(self, batch: Batch, shape: BatchShape) -> Batch:
        images = at_resolution(batch.images, shape.resolution)
        if shape.fading:
            half = at_resolution(images, shape.resolution // 2)
            images = growths(self.pair.generator)[0].blend(at_resolution(half, shape.resolution), images)
        return batch._replace(images=images)

    def _turn(self, phase: Phase) -> None:
        if self._growths is None:
            self._growths = growths(self)
        for growth in self._growths:
            growth.turn(phase)

    @staticmethod
    def _of(numbers: Sequence[float], resolution: int) -> float:
        """The number of this resolution: of 4x4, 8x8 and so on, the last for all beyond."""
        return numbers[min((resolution // SMALLEST).bit_length(), len(numbers)) - 1]
