"""The numbered rules of what may be combined with what: rows of docs/compatibility.md, and what `force` takes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from ganrun.core.errors import ConfigError, nearest
from ganrun.core.traits import Diagnostic, Level


class Rule(NamedTuple):
    """A row of docs/compatibility.md."""

    levels: str  # of E (refused), W (a warning), I (a note): those that it can have
    sentence: str
    forcible: bool = True  # whether `force` lets a refused run start


RULES: dict[str, Rule] = {
    "C1": Rule("E", "A penalty on D's slope needs a D that judges each image on its own; batch norm couples them."),
    "C2": Rule(
        "E", "A loss without a bound needs something that bounds D's slope: a penalty, clipping, spectral norm."
    ),
    "C3": Rule("E", "Weight clipping and a penalty, or spectral norm, would both own D's slope."),
    "C4": Rule("W", "Weight clipping works badly with momentum; its paper uses RMSprop."),
    "C5": Rule("E", "A loss that takes logits would put a second sigmoid on a D that ends in one."),
    "C6": Rule("E", "Label tricks need a loss that asks for labels; there is nothing to soften in the others."),
    "C7": Rule("W", "With least squares, label tricks move the numbers a and b of the loss."),
    "C8": Rule("E", "Two tricks that set the same thing: keep one.", False),
    "C9": Rule("I", "A fake target above 0 puts the generated density into the numerator of the optimal D."),
    "C10": Rule("E W", "Noisy labels: with p from 0.5 on D learns the inverse, above 0.2 it learns little."),
    "C11": Rule("I", "Noisy labels: the number of swaps to expect. The swaps that happen are counted and logged."),
    "C12": Rule("W", "A layer that looks across the batch makes a penalty depend on an image's neighbours."),
    "C13": Rule("E", "The groups of a minibatch layer must divide the batch."),
    "C14": Rule(
        "E", "A minibatch layer that sees reals and fakes in one pass could tell them apart by that alone.", False
    ),
    "C15": Rule("E", "Virtual batch norm has a reference batch of one shape, so the resolution may not grow."),
    "C16": Rule("E", "Virtual batch norm needs batch norm to replace."),
    "C17": Rule("E", "Feature matching needs a D that shows its hidden activations."),
    "C18": Rule("E", "Historical averaging needs a set of parameters that does not change."),
    "C19": Rule("E", "Batch norm needs a batch of two or more.", False),
    "C20": Rule("W", "Batch norm in a BEGAN: the paper does without."),
    "C21": Rule("E", "The generator must be able to make the data's range.", False),
    "C22": Rule("E", "Channels and resolution of networks and data must agree.", False),
    "C23": Rule("E", "The resolution must be one that the architecture can make.", False),
    "C24": Rule("E W", "A conditional part needs labels, and an auxiliary classifier two classes or more."),
    "C25": Rule("E", "The losses of BEGAN and EBGAN read energies, which an auto-encoder gives and nothing else."),
    "C28": Rule(
        "I", "Several updates of D for each of G, with hard labels and a cross-entropy: D may become too sure."
    ),
    "C29": Rule("I", "Instance noise that never reaches 0 hides from D what is fainter than it."),
    "C32": Rule("W", "A pool of earlier fakes puts generators of several ages into one minibatch layer."),
    "C34": Rule("W", "A conditional critic with a gradient penalty and no norm may come to ignore the label."),
    "C37": Rule("E", "Augmentation of reals only would leak into the samples: one pipe sees reals and fakes.", False),
    "C39": Rule(
        "E W", "With dropout in D, penalty and score, or two calls of D for one penalty, have different masks."
    ),
    "C40": Rule("E", "Names must exist, and settings belong to tricks that were chosen.", False),
    "C41": Rule("I", "Flipped labels only rename the answers, with soft labels as without."),
    "C42": Rule("W", "Norms in D rescale what spectral norm bounds."),
    "C43": Rule("W", "A trick that rewrites weights reaches the layers that are there when it acts: list it last."),
    "C44": Rule("E", "A trick that reads whether D is right needs a loss under which some score means undecided."),
    "C46": Rule("E", "The best fakes can be chosen only where each is judged alone, not against a real of its own."),
    "C50": Rule("E", "Tricks on styles need a generator that maps noise to a style for each of its layers.", False),
    "C51": Rule("E", "Tricks on images of one size cannot act on a pyramid of several.", False),
    "C52": Rule("E", "A trick that keeps images needs images that do not grow in the course of a run.", False),
    "C55": Rule("E", "What moves or exchanges images alone would part them from the inputs that D sees beside them."),
    "C56": Rule("E", "What asks D about single images cannot ask one that judges several of them together."),
    "C57": Rule("I", "In several processes batch norm takes the statistics of each process's part of a batch."),
    "C58": Rule(
        "E",
        "A difference of scores needs a D without kinks: across a kink its gradient is as large as 1 / epsilon.",
    ),
}


def check_force(force: Any) -> None:
    """Raises ConfigError unless `force` is a list of rules that exist and can be overruled."""
    if not isinstance(force, list):
        raise ConfigError("force", repr(force), "a list of rules", f"'force=[{force}]'")
    for rule in force:
        if not isinstance(rule, str) or rule not in RULES:
            close = nearest(str(rule), RULES)
            raise ConfigError(
                "force", f"there is no rule {rule}", "rules of docs/compatibility.md", f"'force=[{close or 'C1'}]'"
            )
        if not RULES[rule].forcible:
            raise ConfigError(
                "force", f"{rule} cannot be forced: no run could be made", "a rule that can", "leaving it out"
            )


def recorded(found: Iterable[Diagnostic]) -> dict[str, Any]:
    """Diagnostics for a run's record; `forced` are the error rules that `force` overruled."""
    listed = list(found)
    return {
        "forced": sorted({diagnostic.id for diagnostic in listed if diagnostic.level is Level.ERROR}),
        "diagnostics": [{"rule": f.id, "level": f.level.value, "sentence": f.sentence} for f in listed],
    }
