"""Whether the chosen parts can be combined: two rules on their traits, and a few that no part can state alone.

Rule 1: every need is provided and not invalidated. Rule 2: what only one part may set is set once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ganrun.core.facts import Fact
from ganrun.core.pair import Pair
from ganrun.core.traits import Diagnostic, Level, Part
from ganrun.core.trick import Trick

PROVIDERS = {
    "loss": "loss",
    "game": "game",
    "discriminator": "model.discriminator",
    "generator": "model.generator",
    "optim": "optim.discriminator",
}
REMEDIES: dict[Fact, str] = {
    Fact.TARGETS: "loss=nonsaturating, loss=minimax or loss=least_squares",
    Fact.PROBABILITY: "loss=nonsaturating or loss=minimax",
    Fact.UNDECIDED: "loss=nonsaturating, loss=least_squares or loss=hinge",
    Fact.FAKES_ALONE: "loss=nonsaturating or loss=hinge",
    Fact.SCORE: "model.discriminator.output=linear, or model=dcgan in place of an auto-encoder",
    Fact.ENERGY: "model=began or model=ebgan",
    Fact.READS_ENERGY: "loss=began or loss=ebgan",
    Fact.PER_SAMPLE: "model.discriminator.norm=none or model.discriminator.norm=layer",
    Fact.ALONE: "leaving minibatch_discrimination and minibatch_stddev out",
    Fact.STEADY: "model.discriminator.dropout=0",
    Fact.SMOOTH: "model.discriminator.activation=silu, or method=directional in place of finite_difference",
    Fact.ONE_IMAGE: "leaving pacgan out",
    Fact.FEATURES: "model=dcgan",
    Fact.FREE_WEIGHTS: "keeping one of the tricks that bound the discriminator",
    Fact.CLASS_SCORE: "model=improved with model.discriminator.classes=10",
    Fact.LIPSCHITZ: "adding gp to tricks (with model.discriminator.norm=none), or clip",
    Fact.NO_MOMENTUM: "optim=rmsprop or 'optim.discriminator.betas=[0.0,0.9]'",
    Fact.STYLES: "model=stylegan2",
    Fact.CURRENT: "leaving replay out",
    Fact.LATENT: "game=latent",
    Fact.UNLABELLED: "model=dcgan, or another model that reads no labels",
    Fact.LABELLED: "model=acgan or model=cdcgan",
    Fact.CLASS_HEAD: "model=acgan",
    Fact.SAME_SIZE: "game.start=${dataset.resolution}, which does not grow",
    Fact.IMAGE_ALONE: "model.discriminator.conditional=false",
    Fact.SINGLE_SCALE: "a model whose generator makes one image",
}


def provider(fact: Fact) -> str:
    """The part, as the configuration names it, that alone can provide this fact; empty when several can."""
    return PROVIDERS.get(fact.partition(".")[0], "")


def diagnostics(parts: Mapping[str, Part]) -> list[Diagnostic]:
    """What the traits of these parts say about each other: two rules that refuse and one that warns."""
    provided, invalidated = _owners(parts, "provides"), _owners(parts, "invalidates")
    found = []
    for name, part in parts.items():
        for kind, level in (("needs", Level.ERROR), ("prefers", Level.WARNING)):
            for fact in sorted(getattr(part.traits, kind)):
                why = _missing(fact, provided, invalidated, parts)
                if why:
                    sentence = f"{_titled([name], parts)[0]}: {kind} {fact.sentence}; {why}. Try: {REMEDIES[fact]}"
                    found.append(Diagnostic(fact.id, level, sentence))
    return [*found, *set_twice(parts)]


def set_twice(parts: Mapping[str, Part]) -> Iterable[Diagnostic]:
    """What several of these parts claim at once."""
    for key, owners in _owners(parts, "sets").items():
        if len(owners) > 1:
            yield Diagnostic("C8", Level.ERROR, f"{_and(owners)}: each sets {key}. Try: keeping one of them")


def contradictions(parts: Mapping[str, Part]) -> list[str]:
    """Every reason why these parts cannot be combined, a sentence each; empty when they can."""
    return [diagnostic.sentence for diagnostic in diagnostics(parts) if diagnostic.level is Level.ERROR]


def _missing(
    fact: Fact, provided: Mapping[str, list[str]], invalidated: Mapping[str, list[str]], parts: Mapping[str, Part]
) -> str:
    """Why this fact does not hold; empty when it does."""
    if fact in invalidated:
        return f"{_and(_titled(invalidated[fact], parts))} takes that away"
    if fact in provided:
        return ""
    return (
        f"{_titled([provider(fact)], parts)[0]} is not one"
        if provider(fact) in parts
        else "no selected component provides it"
    )


def _titled(names: Iterable[str], parts: Mapping[str, Part]) -> list[str]:
    """Parts as a user knows them: the name in the configuration, and what was chosen there."""
    kinds = {n: type(parts[n]) for n in names}
    chosen = {n: k.__module__.rpartition(".")[2] if n.startswith("model.") else k.__name__ for n, k in kinds.items()}
    chosen |= {n: parts[n].title for n in kinds if hasattr(parts[n], "title")}  # type: ignore[attr-defined]
    return [n if n.startswith("tricks.") else f"{n} ({chosen[n]})" for n in kinds]


def _owners(parts: Mapping[str, Part], kind: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, part in parts.items():
        for fact in sorted(getattr(part.traits, kind)):
            found.setdefault(fact, []).append(name)
    return found


def _and(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def between(pair: Pair, settings: Mapping[str, Any]) -> Iterable[Diagnostic]:
    """What is worth knowing about parts together, though each of them may do as it does."""
    softening = [name for name, _ in pair.tricks.at(Trick.targets)]
    updates = settings["updates"]
    ahead = updates.get("discriminator", 1) > updates.get("generator", 1)
    if ahead and not softening and Fact.PROBABILITY in pair.loss.traits.provides:
        counts = f"{updates['discriminator']} updates of D for {updates['generator']} of G"
        text = f"updates: {counts}, with hard labels and a cross-entropy, may make D too sure for G to learn from"
        yield Diagnostic("C28", Level.NOTE, f"{text}. Try: a trick that softens labels, or updates.discriminator=1")
    if _may_ignore_labels(pair):
        text = "model.discriminator: without a norm, and with a gradient penalty, it may come to ignore the label"
        yield Diagnostic("C34", Level.WARNING, f"{text}. Try: model.discriminator.norm=layer")


def _may_ignore_labels(pair: Pair) -> bool:
    """What WGAN-GP's code warns of (gan_cifar_resnet.py): a critic that is given labels, and has no norm."""
    critic: Any = pair.discriminator
    tricks: list[Any] = list(pair.tricks.values())
    reads = getattr(critic, "classes", 0) and Fact.CLASS_HEAD not in critic.traits.provides
    normed = any(isinstance(layer, _BatchNorm | nn.GroupNorm | nn.LayerNorm) for layer in critic.modules())
    penalty = {Fact.LIPSCHITZ, Fact.PER_SAMPLE}  # bounds slopes, and asks for those of each image
    penalised = any(penalty <= trick.traits.provides | trick.traits.needs for trick in tricks)
    return bool(reads) and not normed and penalised and Fact.LIPSCHITZ in pair.loss.traits.needs
