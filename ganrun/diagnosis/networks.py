"""The verdict on a pair of networks before a run: the exact probes of it, and what follows from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ganrun.core.context import Condition, Latent, Update
from ganrun.core.facts import Fact
from ganrun.core.images import largest
from ganrun.core.pair import Pair
from ganrun.core.seeding import generators_kept, reseed
from ganrun.core.traits import Traits
from ganrun.core.trick import Trick
from ganrun.diagnosis.data import with_trick
from ganrun.diagnosis.finding import Finding
from ganrun.diagnosis.probes import batch_leak, coupling, difference, label_effect, mates, out_of_reach, stirred


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What a pair is probed with: a batch of reals with their condition, and what fakes are made from."""

    update: Update  # of the discriminator, at the first step
    real: Tensor  # [B, C, H, W] before `Trick.reals`
    condition: Condition  # of the reals
    source: Tensor  # [B, Z] noise, or [B, C, H, W] images to translate
    others: Tensor  # more of the same
    latent: Latent | None  # the noise with its condition; None where that is not noise


@dataclass(frozen=True, slots=True, kw_only=True)
class PairFacts:
    """What the probes of one pair found. 0 where nothing depends."""

    coupling: float  # of D's scores by the batch, as `probes.coupling` has it
    leak: float  # of D's scores, as `probes.batch_leak` has it
    train_mates: float  # of fakes in training, as `probes.mates` has it
    sample_mates: float  # of samples
    out_of_reach: float  # share of values of reals
    labels_to_generator: float | None  # as `probes.label_effect` has it; None where it claims to read none
    labels_to_discriminator: float | None  # of what D minimises


def probe(pair: Pair, given: Given) -> PairFacts:
    """Every probe of this pair. Changes the statistics that its networks keep, so give a copy."""
    trial = stirred(pair)
    return PairFacts(
        coupling=coupling(partial(_score, trial, given.condition), _seen(trial, given.real)),
        leak=batch_leak(partial(_score, deepcopy(pair), given.condition), given.real, _fakes(pair, given)),
        train_mates=mates(partial(_made, trial.generator, given), given.source, given.others),
        sample_mates=_sample_mates(trial, given),
        out_of_reach=out_of_reach(_seen(pair, given.real), *_reach(pair.generator)),
        labels_to_generator=_to_generator(trial, given),
        labels_to_discriminator=_to_discriminator(trial, given),
    )


def _score(pair: Pair, condition: Condition, images: Tensor) -> Tensor:
    return pair.judge(images, condition).score


@torch.no_grad()
def _seen(pair: Pair, real: Tensor) -> Tensor:
    """Reals as tricks leave them. [B, C, H, W]"""
    with generators_kept(real.device):
        reseed(0, "probe")
        return largest(pair.tricks.fold(Trick.reals, real))


def _made(generator: nn.Module, given: Given, source: Tensor, labels: Tensor | None = None) -> Tensor:
    """Images of this noise, or of these images, with the labels of the batch or others. [B, C, H, W]"""
    condition = given.latent.condition.tensor if given.latent is not None else None
    return largest(generator(source, condition if labels is None else labels))


@torch.no_grad()
def _fakes(pair: Pair, given: Given) -> Tensor:
    with generators_kept(given.real.device):
        reseed(0, "probe")
        return _made(deepcopy(pair.generator), given, given.source).float()


def _sample_mates(pair: Pair, given: Given) -> float:
    with pair.sampler() as generator:
        return mates(partial(_made, generator, given), given.source, given.others)


def _reach(generator: Any) -> tuple[float, float]:
    """The values that an image of this generator can have; all where it does not say."""
    low, high = getattr(generator, "range", (-float("inf"), float("inf")))
    return low, high


def _to_generator(pair: Pair, given: Given) -> float | None:
    classes, latent = getattr(pair.generator, "classes", 0), given.latent
    if classes < 2 or latent is None or latent.labels is None:
        return None
    return label_effect(lambda labels: _made(pair.generator, given, latent.noise, labels), latent.labels, classes)


def _to_discriminator(pair: Pair, given: Given) -> float | None:
    """How much what D minimises changes with the labels of its images, which are the same both times."""
    classes, labels = getattr(pair.discriminator, "classes", 0), given.condition.labels
    if classes < 2 or labels is None:
        return None
    fake = _fakes(pair, given)
    return difference(*(_minimised(deepcopy(pair), given, fake, one) for one in (labels, (labels + 1) % classes)))


def _minimised(pair: Pair, given: Given, fake: Tensor, labels: Tensor) -> Tensor:
    """The terms of D's loss with these labels [B]. [K]"""
    with generators_kept(fake.device):
        reseed(0, "probe")
        outcome = pair.discriminator_outcome(
            given.update, given.real, fake, condition=Condition(labels=labels), latent=given.latent
        )
    return torch.stack([term.detach().float() for term in outcome.terms.values()])


def described(facts: PairFacts) -> list[str]:
    """What the probes found, as lines for a reader."""
    lines = [_of_score(facts), _of_fakes(facts)]
    if facts.out_of_reach:
        lines.append(f"{facts.out_of_reach:.1%} of the values of reals are beyond what G can make")
    for name, effect in (("G", facts.labels_to_generator), ("D", facts.labels_to_discriminator)):
        if effect is not None:
            lines.append(f"{name} reads the labels" if effect else f"{name} reads no labels, though it is to")
    return lines


def _of_score(facts: PairFacts) -> str:
    if not facts.coupling:
        return "D scores each image on its own"
    moved = f"half a batch of fakes moves the score of a real by {facts.leak:.2g} standard deviations"
    return f"D's score of an image depends on the others of its batch, as with batch norm: {moved}"


def _of_fakes(facts: PairFacts) -> str:
    if facts.sample_mates:
        return "samples depend on the others that are drawn with them"
    return f"samples do not depend on each other{', though fakes in training do' if facts.train_mates else ''}"


def findings(pair: Pair, facts: PairFacts) -> list[Finding]:
    """What is wrong with this pair."""
    return [*_coupled(pair, facts), *_mates(facts), *_range(facts), *_labels(pair, facts)]


def _coupled(pair: Pair, facts: PairFacts) -> Iterator[Finding]:
    """A dependence on the batch under a penalty that rules it out, or in a D that says that it has none.

    Layers that compare the images of a batch on purpose (Fact.ALONE) are left to the checker, which warns of them.
    """
    traits = _traits(pair.discriminator)
    honest = Fact.PER_SAMPLE in traits.invalidates or Fact.PER_SAMPLE not in traits.provides
    on_purpose = Fact.ALONE in traits.invalidates
    penalties = [name for name, trick in pair.tricks.items() if Fact.PER_SAMPLE in _traits(trick).needs]
    if not facts.coupling or (on_purpose and not honest):
        return
    norms = ("model.discriminator.norm=layer", "model.discriminator.norm=none")
    if penalties:
        yield Finding(
            name="batch_coupling",
            failure=True,
            meaning=f"{' and '.join(penalties)} penalises the slope of D at each image, but D's score of an image "
            "depends on the others of its batch, so it is not that slope which is penalised.",
            evidence={"coupling": facts.coupling},
            remedies=(*norms, *(f"~tricks.{name}" for name in penalties)),
        )
    elif not honest:
        yield Finding(
            name="batch_leak",
            meaning="D's score of an image depends on the others of its batch, though D says that it does not "
            "(Fact.PER_SAMPLE); as reals and fakes come in batches of their own, D can tell them by that alone.",
            evidence={"coupling": facts.coupling, "moved": facts.leak},
            remedies=norms,
        )


def _mates(facts: PairFacts) -> Iterator[Finding]:
    if facts.sample_mates:
        yield Finding(
            name="samples_share_batch",
            meaning="A sample depends on the others that are drawn with it, so it is another one in another batch.",
            evidence={"change": facts.sample_mates},
            remedies=("model.generator.norm=batch", "model.generator.norm=layer"),
        )


def _range(facts: PairFacts) -> Iterator[Finding]:
    if facts.out_of_reach:
        yield Finding(
            name="data_out_of_reach",
            failure=True,
            meaning="Some values of reals are beyond what G's output can be, so D can tell reals by them.",
            evidence={"share": facts.out_of_reach},
            remedies=("model.generator.output=linear",),
        )


def _labels(pair: Pair, facts: PairFacts) -> Iterator[Finding]:
    conditional = ("model=cdcgan", "model=projection")
    if facts.labels_to_generator == 0:
        yield Finding(
            name="labels_unread",
            failure=True,
            meaning="G is given a class and makes the same image for every class.",
            evidence={"effect_on_generator": 0.0},
            remedies=conditional,
        )
    if facts.labels_to_discriminator == 0:
        heads = Fact.CLASS_HEAD in _traits(pair.discriminator).provides
        trained: Sequence[str] = [with_trick(list(pair.tricks), "auxiliary_classifier")] * heads
        yield Finding(
            name="labels_unread",
            failure=True,
            meaning="Nothing that D minimises depends on the labels, so G cannot learn what a class is.",
            evidence={"effect_on_discriminator": 0.0},
            remedies=(*trained, *conditional),
        )


def _traits(part: Any) -> Traits:
    found: Traits = getattr(part, "traits", Traits())
    return found
