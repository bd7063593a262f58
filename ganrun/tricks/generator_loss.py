"""Terms of the generator's loss (feature matching, mode seeking, pulling away), and which fakes it is computed on."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ganrun.core import across, limits
from ganrun.core.context import Context, PairView
from ganrun.core.decision import features, hard_targets
from ganrun.core.errors import ConfigError
from ganrun.core.facts import Fact
from ganrun.core.images import Images, largest
from ganrun.core.traits import Traits, facts, keys
from ganrun.core.trick import Trick


def _weight(weight: float) -> float:
    limits.positive(".weight", weight)
    return weight


def _two_images(name: str, fake: Images) -> None:
    count = len(largest(fake))
    if count < 2:
        raise ConfigError("batch", f"{count} image, and {name} compares images", "2 or more", "batch=2")


class FeatureMatching(Trick):
    """Feature matching: G matches the mean of D's features on reals. Salimans et al. 2016, section 3.1.

    weight * |E f(x) - E f(G(z))|, where f is the output of D's block `layer` (-1 is the last) and the means are over
    the batch, unit by unit. `distance`: squared, the sum over units of the squared difference (the paper), or absolute,
    the mean over units of the absolute difference (its code for CIFAR-10). In the paper it replaces the adversarial
    term: `instead`.
    """

    paired = True

    def __init__(self, *, weight: float, layer: int, distance: str, instead: bool):
        """Raises ConfigError for a weight that is not above 0, and for an unknown distance."""
        super().__init__()
        if distance not in ("squared", "absolute"):
            raise ConfigError(".distance", repr(distance), "squared or absolute")
        self.weight, self.layer, self.squared = _weight(weight), layer, distance == "squared"
        self.replaces = instead
        owned = keys("which scores teach the generator") if instead else keys()
        self.traits = Traits(needs=facts(Fact.FEATURES), sets=owned)

    def bind(self, pair: PairView, real: Tensor, fake: Tensor) -> None:
        """Check `layer` on reals [B, C, H, W]. Raises ConfigError when D has fewer layers of features."""
        count = len(features(pair, real))
        if not -count <= self.layer < count:
            found = f"{self.layer}, and D shows {count} layers"
            raise ConfigError(".layer", found, f"{-count} to {count - 1}", ".layer=-1")

    def generator_term(self, context: Context) -> Tensor:
        assert context.on_real is not None
        real = context.on_real.features[self.layer].detach().float().mean(0)
        fake = context.on_fake.features[self.layer].float().mean(0)
        difference = across.mean(real - fake)
        return self.weight * (difference.square().sum() if self.squared else difference.abs().mean())


class ModeSeeking(Trick):
    """Mode seeking: images of different noise are pushed apart. MSGAN, Mao et al. 2019, equation 2.

    The paper maximises the ratio |G(z1) - G(z2)|_1 / |z1 - z2|_1; as in its code, G minimises weight / (ratio +
    epsilon), with means in place of sums, over the whole batch. z1 is the first half of the batch, z2 the second.
    """

    traits = Traits(needs=facts(Fact.LATENT, Fact.SINGLE_SCALE), prefers=facts(Fact.UNLABELLED))

    def __init__(self, *, weight: float, epsilon: float):
        """Raises ConfigError for a weight or an epsilon that is not above 0."""
        super().__init__()
        self.weight, self.epsilon = _weight(weight), epsilon
        if epsilon <= 0:
            raise ConfigError(".epsilon", f"{epsilon}", "a number above 0", ".epsilon=1e-5")

    def bind(self, pair: PairView, real: Tensor, fake: Tensor) -> None:
        """Raises ConfigError for fakes [B, C, H, W] that are fewer than two."""
        _two_images("mode_seeking", fake)

    def generator_term(self, context: Context) -> Tensor:
        assert context.latent is not None
        ratio = self._spread(across.whole(context.fake)) / self._spread(across.whole(context.latent.noise))
        return self.weight / (ratio + self.epsilon)

    @staticmethod
    def _spread(values: Tensor) -> Tensor:
        """Mean absolute difference between the halves of a batch; of an odd batch the last is left out. []"""
        half = len(values) // 2
        return (values[:half].float() - values[half : 2 * half].float()).abs().mean()


class PullingAway(Trick):
    """Pulling-away term: D's features of fakes are made orthogonal. EBGAN, Zhao et al. 2017, section 2.4, equation 4.

    weight / (N (N - 1)) * sum over i != j of cos(s_i, s_j)^2, where s are D's last features of N fakes: weight when
    all are parallel, 0 when all are orthogonal.
    """

    traits = Traits(needs=facts(Fact.FEATURES))

    def __init__(self, *, weight: float):
        """Raises ConfigError for a weight that is not above 0."""
        super().__init__()
        self.weight = _weight(weight)

    def bind(self, pair: PairView, real: Tensor, fake: Tensor) -> None:
        """Raises ConfigError for fakes [B, C, H, W] that are fewer than two."""
        _two_images("pulling_away", fake)

    def generator_term(self, context: Context) -> Tensor:
        shown = across.whole(context.on_fake.features[-1])
        count = len(shown)
        with torch.autocast(shown.device.type, enabled=False):
            directions = F.normalize(shown.float().flatten(1), dim=1)
            squares = (directions @ directions.T).square()
            others = squares.sum() - squares.diagonal().sum()
        return self.weight * others / (count * (count - 1))


class TopK(Trick):
    """Top-k training: G's loss is computed on the fakes with the highest scores. Sinha et al. 2020, algorithm 1.

    The k highest scores of each batch, k = max(floor, decay ^ (step // interval)) of the batch: the whole batch at
    first; of patches, the k highest at each place. With `flip`, where real is 0, the k lowest. k is rounded once, from
    the power: 60 of 64 after seven intervals of 0.99. StudioGAN (adjust_k, and int(topk) in its worker) cuts the power
    instead: 59. Code with k = int(decay k) at each interval compounds what it cuts: 57.
    """

    traits = Traits(needs=facts(Fact.SCORE, Fact.FAKES_ALONE), sets=keys("which scores teach the generator"))
    largest = True
    share = 1.0

    def __init__(self, *, decay: float, floor: float, interval: int):
        """Raises ConfigError for a decay or floor outside (0, 1], and for an interval below one step."""
        super().__init__()
        for name, value in (("decay", decay), ("floor", floor)):
            if not 0 < value <= 1:
                raise ConfigError(f".{name}", f"{value}", "a share, 0 < share <= 1")
        if interval < 1:
            raise ConfigError(".interval", f"{interval}", "at least 1 step")
        self.decay, self.floor, self.interval = decay, floor, interval

    def bind(self, pair: PairView, real: Tensor, fake: Tensor) -> None:
        """Find out whether high scores mean real; reads none of the images [B, C, H, W]."""
        target = hard_targets(pair, torch.zeros(1))
        self.largest = bool(target.real > target.fake)

    def begin(self, pair: PairView, step: int) -> None:
        self.share = max(self.floor, self.decay ** (step // self.interval))

    def choose(self, score: Tensor) -> Tensor:
        if self.share == 1:
            return score
        score = across.whole(score)
        k = max(1, round(self.share * len(score)))
        return score if k == len(score) else score.topk(k, dim=0, largest=self.largest).values
