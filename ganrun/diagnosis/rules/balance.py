"""Failures of the balance of the two players: one of them has nothing left to learn from the other."""

from __future__ import annotations

import math

from ganrun.diagnosis.history import History, mean
from ganrun.diagnosis.remedy import Remedy
from ganrun.diagnosis.rule import EARLY, About, Evidence, Rule

STILL_RIGHT = 0.65  # likewise, of a D that had nothing left to learn
RIGHT = 0.85  # share of reals, and of fakes, that a D is right about that has nothing left to learn
GUESSED = 0.75  # of all images: a D that is right about no more
UNORDERED = 0.65  # of pairs of a real and a fake: a D that has no more in order has learnt nothing
MOSTLY = 0.75  # of pairs: a D that had more in order for long wins, and one that had fewer is idle
CHANCE = 0.95  # and whose loss is at least this share of that at chance level has learnt nothing
AT_CHANCE = 0.995  # of the loss at chance level: a D whose loss is no lower than this share of it guesses
WRONG = 0.4  # of all images: a D that was right about no more for long is behind G
RIGHT_BY_CHANCE = 0.55  # and is right about at most this share of all images
AVERAGE_APART = 0.25  # of `average_distance`, likewise
FAR = 0.6  # of `distance`: samples that nobody takes for reals
NEAR = 0.4  # likewise: samples at most so far are good, whatever else is unusual
PROGRESS = 0.9  # a distance above this share of what it was before has not become smaller
WINDOW = 300  # steps that are averaged, where the run has them
YOUNG = 100  # of a run that is young: these at least, and a third of its steps
BEFORE = 900  # steps back to which they are compared: three times as many


def window(history: History) -> int:
    """The steps that are averaged: 300, or the last third of a run that is younger than 900, but 100 at least."""
    return min(WINDOW, max(YOUNG, history.steps[-1] // 3))


def compared(history: History, tag: str) -> tuple[float, float]:
    """The mean of a tag over the last 300 steps, and over the 600 before, of a young run fewer; NaN of nothing."""
    latest, both = history.recent(tag, window(history)), history.recent(tag, BEFORE)
    before = both[: len(both) - len(latest)]
    return mean(latest), mean(before)


def progress(history: History, about: About) -> tuple[float, float]:
    """The distance of samples from reals now, and before."""
    return compared(history, about.tag("diagnosis/distance"))


def approaches(history: History, about: About) -> bool:
    """Whether samples have come nearer to reals."""
    now, before = progress(history, about)
    return now < PROGRESS * before


def stands_still(history: History, about: About) -> Evidence | None:
    """How far samples are from reals, and were before, where they are far and come no nearer."""
    now, before = progress(history, about)
    if now >= FAR and now >= PROGRESS * before:
        return {"distance": now, "distance before": before}
    return None


def right(history: History, about: About) -> tuple[float, float]:
    """The shares of reals and of fakes that D is right about; NaN where no score means undecided."""
    real, fake = (history.mean(about.tag(f"diagnosis/accuracy_{name}"), window(history)) for name in ("real", "fake"))
    return real, fake


def share_right(history: History, about: About, steps: int) -> float:
    """The share of all images that D was right about in the last steps; NaN where no score means undecided."""
    return sum(history.mean(about.tag(f"diagnosis/accuracy_{name}"), steps) for name in ("real", "fake")) / 2


def order(history: History, about: About) -> float:
    """The share of pairs of a real and a fake that D has in order, where no score means undecided; NaN elsewhere."""
    return history.mean(about.tag("diagnosis/order"), window(history))


def right_about_all(history: History, about: About, least: float = RIGHT) -> bool:
    """Whether D is right about nearly every real and nearly every fake, or has nearly all pairs of them in order."""
    return order(history, about) >= least or min(right(history, about)) >= least


def order_for_long(history: History, about: About) -> float:
    """The share of pairs that D had in order in the last 900 steps; NaN of a younger run, and as `order` has it."""
    young = history.steps[-1] <= EARLY + BEFORE
    return math.nan if young else history.mean(about.tag("diagnosis/order"), BEFORE)


def learns_nothing(history: History, about: About) -> bool:
    """Whether D is no better than chance: by its loss and by what it is right about, or by the order of its scores."""
    if about.chance is None:
        return order(history, about) <= UNORDERED
    loss = history.mean(adversarial("discriminator", about), window(history))
    share = share_right(history, about, window(history))
    return loss >= CHANCE * about.chance and share <= GUESSED


def guesses(history: History, about: About) -> bool:
    """Whether D has guessed for 900 steps, though samples are apart from reals; by its loss, since a younger run began.

    Where D is wrong about most images it is behind G, and misses even what is left between samples and reals.
    """
    if about.chance is None:  # BEGAN's balance leaves little order from the start, and beside samples that are good
        shares = compared(history, about.tag("diagnosis/order")) if history.steps[-1] > BEFORE else (math.nan,)
        return progress(history, about)[0] >= NEAR and all(share <= UNORDERED for share in shares)
    losses = compared(history, adversarial("discriminator", about))
    if not all(loss >= AT_CHANCE * about.chance for loss in losses):
        return False
    own, averaged = (history.mean(about.tag(f"diagnosis/{name}"), WINDOW) for name in ("distance", "average_distance"))
    apart = own >= NEAR and not averaged < AVERAGE_APART
    return (apart and share_right(history, about, WINDOW) <= RIGHT_BY_CHANCE) or wrong(history, about)


def wrong(history: History, about: About) -> bool:
    """Whether D was wrong about most images for 900 steps."""
    return history.steps[-1] > EARLY + BEFORE and share_right(history, about, BEFORE) <= WRONG


def fooled(history: History, about: About) -> bool:
    """Whether D learns, and takes some fakes for real: False where it has no boundary."""
    shares = right(history, about)
    return min(shares) < RIGHT and not learns_nothing(history, about)


class DiscriminatorWins(Rule):
    """D is right about everything, and samples come no nearer to reals. D's loss alone says nothing of the kind."""

    name = "discriminator_wins"
    meaning = "D tells every real image from every fake, and samples come no nearer to the reals: G learns nothing."
    remedies = (
        Remedy(tricks=("r1",), sets={"model.discriminator.norm": "none", "tricks.r1.gamma": "1"}),
        Remedy(tricks=("spectral_norm", "no_norm")),
        Remedy(sets={"model.generator.norm": "batch"}),
        Remedy(scales={"optim.discriminator.lr": 0.25}),
        Remedy(tricks=("instance_noise",)),
        Remedy(tricks=("soft_labels", "noisy_labels")),
        Remedy(tricks=("diffaugment",)),
    )
    ends = True

    def evidence(self, history: History, about: About) -> Evidence | None:
        return self._shown(history, about, RIGHT)

    def remains(self, history: History, about: About) -> Evidence | None:
        return self._shown(history, about, STILL_RIGHT)

    @staticmethod
    def _shown(history: History, about: About, least: float) -> Evidence | None:
        still = stands_still(history, about)
        if still is None:
            return None
        if not (right_about_all(history, about, least) or order_for_long(history, about) >= MOSTLY):
            return None
        if about.chance is None:
            return {"pairs of a real and a fake that D has in order": order(history, about), **still}
        real, fake = right(history, about)
        return {"reals that D is right about": real, "fakes": fake, **still}


class DiscriminatorIdle(Rule):
    """D is no better than chance though samples are far from reals."""

    name = "discriminator_idle"
    meaning = "D does not tell fakes from reals though they differ plainly, so that G has nobody to learn from."
    remedies = (
        Remedy(scales={"optim.discriminator.lr": 10.0}),
        Remedy(sets={"updates.discriminator": "3"}),
        Remedy(scales={"model.discriminator.width": 2.0}),
    )

    def evidence(self, history: History, about: About) -> Evidence | None:
        apart = self._apart(history, about)
        if apart is None:
            return None
        if about.chance is None:
            return {"pairs of a real and a fake that D has in order": order(history, about), **apart}
        loss = history.mean(adversarial("discriminator", about), window(history))
        share = share_right(history, about, window(history))
        return {"loss of D": loss, "at chance": about.chance, "share that D is right about": share, **apart}

    @staticmethod
    def _apart(history: History, about: About) -> Evidence | None:
        """How far samples are from reals, where D should tell them apart and does not."""
        if guesses(history, about):
            return {"distance": progress(history, about)[0]}
        idle = learns_nothing(history, about) or order_for_long(history, about) < MOSTLY
        return stands_still(history, about) if idle else None


class GeneratorStarves(Rule):
    """Next to no gradient reaches the layers of G that are nearest to the noise, and samples are bad."""

    name = "generator_starves"
    meaning = "Next to no gradient reaches the first layers of G, so that only the last ones learn."
    remedies = (
        Remedy(sets={"loss": "nonsaturating"}),
        Remedy(sets={"model.generator.norm": "batch"}),
        Remedy(tricks=("one_sided_smoothing",)),
        Remedy(sets={"loss": "wasserstein", "model.discriminator.norm": "none"}, tricks=("gp",)),
    )
    ratio = 1e-3  # of the norm at the first layer to that at the last
    least = 1e-6  # of the norm at the first layer

    def evidence(self, history: History, about: About) -> Evidence | None:
        layers = [tag for tag in history.layers("generator") if not about.pair or f"_{about.pair}" in tag]
        still = stands_still(history, about)
        if len(layers) < 2 or still is None:
            return None
        first, last = history.mean(layers[0], window(history)), history.mean(layers[-1], window(history))
        if not last > self.least or not (first < self.ratio * last or first < self.least):
            return None
        return {"gradient norm at the first layer of G": first, "at the last": last, **still}


def adversarial(player: str, about: About) -> str:
    """The tag of a player's adversarial loss."""
    return "/".join(["loss", player, *([about.pair] if about.pair else []), "adversarial"])
