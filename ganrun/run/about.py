"""What rules need to know of a run, from its game and its settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ganrun.core.decision import chance_loss
from ganrun.core.facts import Fact
from ganrun.core.game import Game
from ganrun.core.pair import Pair
from ganrun.core.seeding import the_same_each_time
from ganrun.core.trick import Trick
from ganrun.diagnosis.remedy import unusual_in
from ganrun.diagnosis.rule import About
from ganrun.diagnosis.rules.course import UnusualSettings

SLOPE = "slope"  # the metric of a penalty: D's slope when it was last due


def abouts(game: Game, settings: Mapping[str, Any], quality: str | None) -> list[About]:
    """For each pair of a bound game, the first one first. `quality` is the tag of its samples' quality."""
    several = len(game.plans) > 1
    return [
        About(
            steps=settings["steps"],
            pair=name if several else "",
            first=number == 0,
            chance=chance_level(pair),
            quality=quality if number == 0 else None,
            slopes=tuple(_slopes(name if several else "", pair)),
            unusual=tuple(unusual_in(settings, UnusualSettings().tries).items()),
            averaged=pair.tricks.fold(Trick.sampler, pair.generator) is not pair.generator,
            ready=settings["updates"].get("head_start_steps", 0),
        )
        for number, (name, pair) in enumerate(game.named_pairs().items())
    ]


def decides(pair: Pair) -> bool:
    """Whether some score of this pair's discriminator means undecided."""
    return Fact.UNDECIDED in pair.loss.traits.provides


def chance_level(pair: Pair) -> float | None:
    """D's loss at chance level, where some score means undecided; None elsewhere."""
    if not decides(pair):
        return None
    device = next(pair.discriminator.parameters()).device
    with the_same_each_time(device):
        return chance_loss(pair, device)


def _slopes(pair_name: str, pair: Pair) -> Iterator[tuple[str, float]]:
    """The tag of D's slope under each penalty that has a target above 0, and the target."""
    for name, trick in pair.tricks.items():
        target = getattr(trick, "target", 0)
        assert isinstance(trick, Trick)
        if isinstance(target, (int, float)) and target > 0 and SLOPE in trick.metrics():
            middle = f"{pair_name}/" if pair_name else ""
            yield f"tricks/{middle}{name}/{SLOPE}", float(target)
