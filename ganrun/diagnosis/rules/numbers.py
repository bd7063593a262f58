"""Failures of the numbers themselves: gradients and losses without bounds, penalties that do not bind."""

from __future__ import annotations

import numpy as np

from ganrun.diagnosis.history import History
from ganrun.diagnosis.remedy import Remedy
from ganrun.diagnosis.rule import EARLY, About, Evidence, Rule
from ganrun.diagnosis.rules.balance import NEAR, WINDOW, adversarial

PLAYERS = ("discriminator", "generator")
WATCHED = ("loss/", "weight_gradient/")
SLOWER = Remedy(scales={"optim.generator.lr": 0.1, "optim.discriminator.lr": 0.1})


class NotFinite(Rule):
    """A loss or a gradient is NaN or infinite: the run ends there."""

    name = "not_finite"
    meaning = "A loss or a gradient is NaN or infinite, and every weight that it reaches would be."
    remedies = (SLOWER, Remedy(sets={"engine.precision": "fp32"}), Remedy(tricks=("gradient_clipping",)))
    lasting, rows = 0, 1
    early = True

    def evidence(self, history: History, about: About) -> Evidence | None:
        latest = history.latest
        bad = [tag for tag, value in latest.items() if tag.startswith(WATCHED) and not np.isfinite(value)]
        return {tag: latest[tag] for tag in bad[:3]} or None


class GradientExplodes(Rule):
    """A layer's gradient has grown far beyond what it was, or a loss has left every scale."""

    name = "gradient_explodes"
    meaning = "Gradients or losses grow without bound, and every update undoes what was learnt."
    remedies = (
        SLOWER,
        Remedy(tricks=("r1",), sets={"model.discriminator.norm": "none"}),
        Remedy(tricks=("spectral_norm",)),
        Remedy(tricks=("gradient_clipping",)),
    )
    large = 100.0  # a norm (ganhacks)
    times = 30.0  # what it was in the median so far
    loss = 1e4  # that no loss of a sound run reaches
    window = 100  # steps
    early = True  # a loss that has left every scale; gradients are large at first

    def evidence(self, history: History, about: About) -> Evidence | None:
        for player in PLAYERS:
            loss = history.mean(adversarial(player, about), self.window)
            if abs(loss) > self.loss:
                return {f"loss of the {player}": loss}
        if history.steps[-1] <= EARLY:
            return None
        norms = {tag: history.mean(tag, self.window) for player in PLAYERS for tag in history.layers(player)}
        grown = {
            tag: norm for tag, norm in norms.items()
            if norm > self.large and norm > self.times * float(np.nanmedian(history.column(tag)))
        }  # fmt: skip
        if not grown:
            return None
        tag = max(grown, key=lambda tag: grown[tag])
        return {
            f"gradient norm at {tag.partition('/')[2]}": grown[tag],
            "median": float(np.nanmedian(history.column(tag))),
        }


class PenaltyOffTarget(Rule):
    """The slope of D at a penalty's points is far from the target that the penalty has, and samples are not good."""

    name = "penalty_off_target"
    meaning = "The gradient penalty does not hold the slope of D near its target, so that the critic is not one."
    remedies = (
        Remedy(scales={"tricks.gp.weight": 10.0}),
        Remedy(sets={"model.discriminator.norm": "none"}),
        Remedy(scales={"optim.discriminator.lr": 0.25}),
    )
    bounds = (0.5, 2.0)

    def evidence(self, history: History, about: About) -> Evidence | None:
        if history.mean(about.tag("diagnosis/distance"), WINDOW) <= NEAR:
            return None
        for name, target in about.slopes:
            slope = history.mean(name, WINDOW)
            if target > 0 and (slope < self.bounds[0] * target or slope > self.bounds[1] * target):
                return {"slope of D": slope, "target": target}
        return None


class Saturated(Rule):
    """BEGAN's balance k stays at the end of its range."""

    name = "k_saturated"
    meaning = "The balance k of BEGAN stays at 0 or 1, so that it balances nothing."
    remedies = (
        Remedy(scales={"loss.lambda_k": 0.1}),
        Remedy(sets={"loss.gamma": "0.7"}),
        Remedy(scales={"optim.generator.lr": 0.5, "optim.discriminator.lr": 0.5}),
    )
    late = 0.2  # share of the run before which k at 0 is as it should be
    window = 500  # steps

    def evidence(self, history: History, about: About) -> Evidence | None:
        values = history.recent(about.tag("loss/k"), self.window)
        if history.steps[-1] < max(self.late * about.steps, self.window) or not len(values):
            return None
        stuck = values.max() <= 1e-4 or values.min() >= 1 - 1e-4
        return {"k": float(values.mean())} if stuck else None
