"""Failures that samples show: too alike, blind to labels, grey, or patterned."""

from __future__ import annotations

import math

import numpy as np

from ganrun.diagnosis.history import History
from ganrun.diagnosis.remedy import LITTLE_NOISE, Remedy
from ganrun.diagnosis.rule import About, Evidence, Rule
from ganrun.diagnosis.rules.balance import FAR, WINDOW, approaches, compared, fooled

ROUNDING = 1e-6  # of a divergence
LATE = 0.2  # share of the run before which samples are not judged by these


class ModeCollapse(Rule):
    """Samples of a batch are far more alike than reals, and were not always."""

    name = "mode_collapse"
    meaning = "Samples are nearly the same whatever the noise: G has collapsed to few images."
    remedies = (
        Remedy(tricks=("r1",), sets={"model.discriminator.norm": "none", "tricks.r1.gamma": "1"}),
        Remedy(tricks=("minibatch_stddev",)),
        Remedy(tricks=("minibatch_discrimination",)),
        Remedy(scales={"optim.generator.lr": 0.25}),
        Remedy(tricks=("mode_seeking",)),
        Remedy(sets={"loss": "relativistic", "model.discriminator.norm": "none"}, tricks=("r1", "r2")),
    )
    ends = True
    full = 0.25  # of `spread`
    apart = 0.4  # of `spread`: samples that were different once
    rises = 1.1  # times what it was before: samples that begin all alike come apart
    missing = 0.75  # of equal modes, at least

    def evidence(self, history: History, about: About) -> Evidence | None:
        return self._of_spread(history, about) or _missing_modes(history, about, self.missing)

    def _of_spread(self, history: History, about: About) -> Evidence | None:
        now, before = compared(history, about.tag("diagnosis/spread"))
        if not now < self.full or now > self.rises * before:
            return None
        most = float(np.nanmax(history.column(about.tag("diagnosis/spread"))))
        if most >= self.apart or fooled(history, about):
            return {"distance of two samples, over that of reals": now, "most so far": most}
        return None  # they never were different, and D does not take them for reals: something else is wrong


class PartialCollapse(Rule):
    """Much of what reals show is missing, and what samples there are look right, or repeat each other."""

    name = "mode_collapse_partial"
    meaning = "Samples look right, or repeat each other, and leave out much of what the reals show."
    remedies = (LITTLE_NOISE, *ModeCollapse.remedies)
    right = 0.5  # of samples, at least: precision, or where the modes are known, the share that is good
    covered = 1 / 3  # of reals: less have a sample as near as their neighbours. Of a sound run 0.5 and more
    missing = 0.25  # of equal modes, at least
    repeated = 0.01  # of pairs of samples that are as good as the same: of a sound run a thousandth at most
    reached = 1 / 3  # of reals, by recall: fewer lie among the samples, where samples repeat each other
    measured = True

    def evidence(self, history: History, about: About) -> Evidence | None:
        far = history.mean(about.tag("diagnosis/distance"), WINDOW) >= FAR  # then repetition is another failure's doing
        return self._shown(history, about, repetition=not far)

    def remains(self, history: History, about: About) -> Evidence | None:
        return self._shown(history, about, repetition=True)

    def _shown(self, history: History, about: About, *, repetition: bool) -> Evidence | None:
        if _latest(history, about, "good") >= self.right:
            return _missing_modes(history, about, self.missing)
        precision, coverage, recall = (_latest(history, about, name) for name in ("precision", "coverage", "recall"))
        if not (about.first and history.steps[-1] >= LATE * about.steps):
            return None
        if precision >= self.right and coverage < self.covered:
            return {"precision": precision, "coverage": coverage}
        same = _latest(history, about, "duplicates") / _pairs(about)
        if repetition and same >= self.repeated and recall < self.reached:
            return {"precision": precision, "recall": recall, "share of pairs of samples that are the same": same}
        return None


class CriticOverfits(Rule):
    """D's scores of training reals move away from those of held-out reals, and samples reach fewer reals than before.

    The gap alone is no failure: samples of a D that overfits go on getting better for a while.
    """

    name = "critic_overfits"
    meaning = "D knows the training images by heart, and samples leave out ever more of what reals show."
    remedies = (
        Remedy(tricks=("diffaugment",)),
        Remedy(tricks=("ada",)),
        Remedy(tricks=("lecam",)),
        Remedy(scales={"model.discriminator.width": 0.5}),
    )
    least = 0.5  # of the gap, over that between training reals and fakes: ADA's r_v
    times = 2  # measured in a row
    lost = 0.6  # of the best recall so far, less than that
    measured = True

    def evidence(self, history: History, about: About) -> Evidence | None:
        if not about.first:
            return None
        (_, gaps), (_, recalls) = (measured(history, about, name) for name in ("generalisation_gap", "recall"))
        latest = gaps[-self.times :]
        lasts = len(latest) == self.times and latest.min() > self.least
        if not lasts or not len(recalls) or recalls[-1] >= self.lost * recalls.max():
            return None
        return {"gap": float(latest[-1]), "recall": float(recalls[-1]), "at best": float(recalls.max())}


class Copies(Rule):
    """Samples are far nearer to single training images than held-out reals are, at two measurements in a row."""

    name = "copies"
    meaning = "Samples are copies of training images: G repeats what it was shown."
    remedies = CriticOverfits.remedies
    least = 0.25  # of samples; of new reals 0.01 are as near
    measured = True

    def evidence(self, history: History, about: About) -> Evidence | None:
        if not about.first or about.quality is None:
            return None
        _, values = history.points(about.quality.replace("quality", "memorised"))
        if len(values) < 2 or values[-2:].min() < self.least:
            return None
        return {"samples that are copies": float(values[-1])}


class LabelsIgnored(Rule):
    """Samples of the same noise and of different classes are the same."""

    name = "labels_ignored"
    meaning = "Samples of the same noise look the same whatever class is asked for: the labels change nothing."
    remedies = (
        Remedy(sets={"model": "projection"}),
        Remedy(scales={"optim.discriminator.lr": 0.5}),
        Remedy(sets={"model": "cdcgan"}),
    )
    least = 0.1  # of `label_effect`

    def evidence(self, history: History, about: About) -> Evidence | None:
        effect = history.mean(about.tag("diagnosis/label_effect"), WINDOW)
        far = history.mean(about.tag("diagnosis/distance"), WINDOW) >= FAR  # then G shows nothing of anything yet
        if about.first and effect < self.least and not far and history.steps[-1] >= LATE * about.steps:
            return {"distance of two classes of one noise, over that of reals": effect}
        return None


class LowContrast(Rule):
    """Samples are greyer than reals, and become no clearer."""

    name = "low_contrast"
    meaning = "Samples are grey: they have less contrast than reals. Norms in D can hide contrast from it."
    remedies = (
        Remedy(tricks=("instance_noise",), sets={"tricks.instance_noise.sigma": "0.1"}),  # to the end
        Remedy(tricks=("spectral_norm", "no_norm")),
        Remedy(tricks=("r1",), sets={"model.discriminator.norm": "none", "tricks.r1.gamma": "1"}),
    )
    least = 0.8  # of the contrast of reals; sound runs have 0.93 and more
    rises = 1.03  # times what it was before: samples begin grey, and become clear

    def evidence(self, history: History, about: About) -> Evidence | None:
        now, before = compared(history, about.tag("diagnosis/contrast"))
        late = history.steps[-1] >= LATE * about.steps
        if late and now < self.least and not now > self.rises * before:
            return {"contrast, over that of reals": now}
        return None


class Checkerboard(Rule):
    """Samples have a pattern of single pixels that reals do not have."""

    name = "checkerboard"
    meaning = "Samples have a pattern of alternating pixels, as transposed convolutions leave it."
    remedies = (Remedy(sets={"model.generator.kernel": "4"}), Remedy(sets={"model": "resnet"}))
    times = 30.0  # the power of reals at the highest frequency
    near = 0.5  # of `distance`, above which samples are bad for other reasons

    def evidence(self, history: History, about: About) -> Evidence | None:
        power = history.mean(about.tag("diagnosis/checkerboard"), WINDOW)
        distance = history.mean(about.tag("diagnosis/distance"), WINDOW)
        late = history.steps[-1] >= LATE * about.steps
        return {"power over that of reals": power} if late and power > self.times and distance < self.near else None


class AverageLags(Rule):
    """Samples of the averaged weights are far behind G's own, which come no nearer to reals.

    Any average is behind a G that still moves. A G that drops values out is drawn without that, and may be far for it.
    """

    name = "average_lags"
    meaning = "Samples are drawn with an average of G's weights that lags far behind: they look worse than G is."
    remedies = (Remedy(sets={"tricks.ema.decay": "0.99"}), Remedy(without=("ema",)))
    times = 2.0  # the distance of the weights that train
    least = 0.5  # of distance

    def evidence(self, history: History, about: About) -> Evidence | None:
        averaged, own = (
            history.mean(about.tag(f"diagnosis/{name}"), WINDOW) for name in ("average_distance", "distance")
        )
        if history.steps[-1] < 2 * LATE * about.steps:
            return None  # an average is young
        far = averaged > self.least and averaged > self.times * own
        if about.first and about.averaged and far and not approaches(history, about):
            return {"distance of averaged samples": averaged, "of G's own": own}
        return None


def measured(history: History, about: About, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The steps at which this was measured beside quality, and its values; none where no quality is measured. [R]"""
    if about.quality is None:
        return np.empty(0), np.empty(0)
    return history.points(about.quality.replace("quality", name))


def of_images(history: History, about: About, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The same of this pair's images; none of 2-D points, which are counted by modes. [R]"""
    points = len(measured(history, about, "good")[1]) > 0
    return (np.empty(0), np.empty(0)) if points or not about.first else measured(history, about, name)


def reached(history: History, about: About) -> tuple[np.ndarray, np.ndarray]:
    """Precision and coverage of this pair's images together, 0 to 2, and the steps at which they were measured. [P]"""
    (steps, precision), (others, coverage) = (of_images(history, about, name) for name in ("precision", "coverage"))
    both, here, there = np.intersect1d(steps, others, return_indices=True)
    return both, precision[here] + coverage[there]


def _missing_modes(history: History, about: About, share: float) -> Evidence | None:
    """Where this share of the data's modes or more has no sample: m of K equal ones have a reverse KL of log K / m."""
    good, modes, divergence = (_latest(history, about, name) for name in ("good", "modes", "reverse_kl"))
    late = about.first and history.steps[-1] >= LATE * about.steps
    if late and divergence >= -math.log(1 - share) - ROUNDING:
        return {"good samples": good, "modes": modes, "reverse KL of the modes": divergence}
    return None


def _pairs(about: About) -> float:
    """The pairs of samples among which duplicates are counted: their number ends the name of quality."""
    samples = int((about.quality or "0").rpartition("_")[2].replace("k", "000"))
    return max(1.0, samples * (samples - 1) / 2)


def _latest(history: History, about: About, name: str) -> float:
    """The latest value of what is measured under this name beside quality; NaN where there is none."""
    _, values = measured(history, about, name)
    return float(values[-1]) if len(values) else math.nan
