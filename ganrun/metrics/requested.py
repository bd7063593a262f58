"""Measures of ProGAN's paper, made where they are asked for, as they cost seconds: SWD and MS-SSIM, by name."""

from __future__ import annotations

import math

from torch import Tensor

from ganrun.core.errors import ConfigError
from ganrun.metrics import ms_ssim as pairs
from ganrun.metrics import sliced_wasserstein as sliced
from ganrun.metrics.published import HELD_OUT


class Requested:
    """The sliced Wasserstein distance of each level, and the MS-SSIM of pairs. Karras et al. 2018, section 5 and 6.1.

    A name of a distance holds the side of its level and the reals that it compares with, as `swd_16_held_out`; that of
    MS-SSIM says so where images are too small for the standard five scales, as `ms_ssim_3_scales`.
    """

    def __init__(self, reals: Tensor, *, swd: bool, ms_ssim: bool, against: str = HELD_OUT):
        """`reals` [N, C, H, W] in [-1, 1] are compared with; `against` says which they are. See `check` first."""
        self.reals, self.swd, self.ms_ssim, self.against = reals, swd, ms_ssim, against

    def __bool__(self) -> bool:
        return self.swd or self.ms_ssim

    def names(self, *, labelled: bool) -> list[str]:
        """The names of all that `measure` finds, with labels or without."""
        levels = [*sliced.sides(self.reals.shape[-1]), "mean"] if self.swd else []
        alike = [self._alike, *[f"class_{self._alike}"] * labelled] if self.ms_ssim else []
        return [*(f"swd_{level}{self.against}" for level in levels), *alike]

    def measure(self, samples: Tensor, labels: Tensor | None = None) -> dict[str, float]:
        """Of samples [M, C, H, W], and with their classes [M] the MS-SSIM of pairs of one class, if any."""
        found: list[float] = []
        if self.swd:
            distances = list(sliced.swd(self.reals, samples).values())
            found += [*distances, math.fsum(distances) / len(distances)]
        if self.ms_ssim:
            kinds = [None, *[labels] * (labels is not None)]
            found += [pairs.similarity(samples, kind) for kind in kinds]
        named = zip(self.names(labelled=labels is not None), found, strict=True)
        return {name: value for name, value in named if not math.isnan(value)}

    @property
    def _alike(self) -> str:
        count = pairs.scales(self.reals.shape[-1])
        return "ms_ssim" if count == len(pairs.WEIGHTS) else f"ms_ssim_{count}_scale{'s' * (count > 1)}"


def check(resolution: int, *, swd: bool, ms_ssim: bool, place: str = "{}") -> None:
    """Raises ConfigError for a measure that images of so few pixels cannot have; `place` says where it is set."""
    for name, asked, least in (("swd", swd, sliced.SMALLEST), ("ms_ssim", ms_ssim, pairs.LEAST)):
        if asked and resolution < least:
            where = place.format(name)
            raise ConfigError(where, f"true, of {resolution} pixels", f"{least} pixels or more", f"{where}=false")
