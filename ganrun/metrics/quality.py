"""One number for how far fakes are from reals: the largest z of three feature spaces over its floor."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from ganrun.core.errors import ConfigError
from ganrun.metrics.features import standardised
from ganrun.metrics.mmd import TwoSample, two_sample


def compare(reals: Mapping[str, Tensor], fakes: Mapping[str, Tensor], *, seed: int = 0) -> dict[str, TwoSample]:
    """The permutation test of each space between what `features` gave for reals [N, D] and for fakes [M, D].

    Features are standardised by the reals and clipped first. Raises ConfigError where spaces or sizes differ.
    """
    if reals.keys() != fakes.keys() or not reals:
        raise ConfigError("spaces", ", ".join(fakes) or "none", ", ".join(reals) or "one or more")
    return {name: two_sample(*standardised(reals[name], fakes[name]), seed=seed) for name in reals}


def quality(tests: Mapping[str, TwoSample]) -> float:
    """The largest over the spaces of z / floor; lower is better.

    z is the squared RBF MMD between standardised features of reals and fakes, on a scale on which 97.7 % of its values
    stay below 2 when reals and fakes are permuted; the floor is the z that 95 % of those values stay below, 1.3 to 1.7.
    So at most 1
    means that no space tells these fakes from reals (each by itself with an error of 5 %, the three together with up to
    15 %), and 10 means ten times what chance alone reaches. It grows with the number of images, up to about 0.7 N for N
    against N that do not overlap: compare figures from equal numbers of reals and of fakes only. 0 where all features
    are equal; may be negative. docs/measures.md has figures for N = 500.
    """
    return max(test.z / test.floor if test.floor else test.z for test in tests.values())
