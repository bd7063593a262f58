"""What is wrong with a run before its first step: data, networks, and in a full check a rehearsal of updates."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ganrun.config.accepted import accepted
from ganrun.config.build import Run
from ganrun.config.recipe import recipe
from ganrun.core.context import Batch, Latent, Progress, Update
from ganrun.core.engine import Eager, chain_of
from ganrun.core.from_images import FromImages
from ganrun.core.from_noise import FromNoise
from ganrun.core.game import Game
from ganrun.core.seeding import generator, reseed, the_same_each_time
from ganrun.core.trick import Trick
from ganrun.data.sources.source import Source
from ganrun.diagnosis import data, networks, rates
from ganrun.diagnosis.finding import Finding
from ganrun.diagnosis.remedy import UNUSUAL, unusual, unusual_in
from ganrun.run.rehearsal import copied

logger = logging.getLogger(__name__)

LOOKED_AT = 1000  # images of a stream, at most
AT_ONCE = 64  # images that are read between two looks at the clock
READING = 0.3  # seconds for them, where they are read from files
REHEARSED = 20  # steps, at most
REHEARSING = 1.8  # seconds for them
BATCHES = 4  # different ones in a rehearsal


@dataclass(frozen=True, slots=True)
class Examined:
    """What was looked at, as lines below titles, and what is wrong."""

    sections: Mapping[str, list[str]]
    findings: list[Finding]


def before(run: Run, typed: Sequence[str] = ()) -> list[Finding]:
    """What is wrong with the data and the networks of a run, without a rehearsal; nothing where it is not asked for.

    `typed` are the overrides of the run: a setting that is far from usual goes back to what it is without them.
    Changes neither the run nor torch's generators. Remedies are those that the run's checker accepts.
    """
    if not run.settings["diagnosis"]["before"]:
        return []
    try:
        return examine(run, typed, rehearsal=False).findings
    except Exception as error:  # of networks of the user's that a probe does not fit: they may well train
        logger.warning(
            "diagnosis: a probe failed (%s: %s); diagnosis=none leaves them out", type(error).__name__, error
        )
        return []


def examine(run: Run, typed: Sequence[str] = (), *, rehearsal: bool = True) -> Examined:
    """All of it, with `typed` as above. Changes neither the run nor torch's generators."""
    sections: dict[str, list[str]] = {"notes on the data": list(run.dataset.notes)} if run.dataset.notes else {}
    findings: list[Finding] = []
    with the_same_each_time(run.device):
        for part in (_data, _networks, *([_rates] if rehearsal else [])):
            for title, lines, found in part(run):
                sections[title] = lines
                findings += found
    usual = recipe(typed, unusual_in(run.settings, UNUSUAL))
    found = [*_each_once(findings), *unusual(run.settings, usual)]
    return Examined(sections, [_with_accepted(finding, run.settings) for finding in found])


def _each_once(findings: list[Finding]) -> list[Finding]:
    """The first of those with the same name and meaning: pairs and streams that are alike say the same."""
    return list({(finding.name, finding.meaning): finding for finding in reversed(findings)}.values())[::-1]


def _with_accepted(finding: Finding, settings: Mapping[str, Any]) -> Finding:
    return replace(finding, remedies=accepted(settings, finding.remedies))


Section = tuple[str, list[str], list[Finding]]  # title, lines, findings


def _data(run: Run) -> Iterator[Section]:
    """Each stream of real images."""
    pairs = list(run.game.named_pairs().values())
    nets: list[Any] = [net for pair in pairs for net in (pair.generator, pair.discriminator)]
    tricks = list(run.settings["tricks"])
    for name, source in run.data.sources.items():
        images, labels = looked_at(source)
        one = source.dataset
        facts = data.look(
            images, labels, span=one.value_range(), all_labels=source.labels, count=len(one), classes=source.classes
        )
        found = data.findings(
            facts, labels_read=any(getattr(net, "classes", 0) > 1 for net in nets), tricks=tricks,
            augmented=any(pair.tricks.at(Trick.view) for pair in pairs), ends=_ends(run.settings["dataset"]),
        )  # fmt: skip
        yield _titled("data", name, len(run.data.sources)), data.described(facts), found


def looked_at(source: Source) -> tuple[Tensor, Tensor | None]:
    """Up to 1,000 images [N, C, H, W] and their labels [N], the same selection each time; fewer where reading is slow.

    Changes no position in the data.
    """
    order = torch.randperm(len(source.dataset), generator=generator(0, "looked at"))[:LOOKED_AT]
    until, found = time.monotonic() + READING, []
    for rows in order.split(AT_ONCE):
        found.append(source.pick(rows))
        if time.monotonic() > until:
            break
    labels = [batch.labels for batch in found if batch.labels is not None]
    return torch.cat([batch.images for batch in found]).cpu(), torch.cat(labels).cpu() if labels else None


def _ends(settings: Mapping[str, Any]) -> tuple[float, float] | None:
    """The raw values that became -1 and 1 by a setting; None where the data have no such setting."""
    ends = settings.get("range")
    return (float(ends[0]), float(ends[1])) if isinstance(ends, list) else None


def _networks(run: Run) -> Iterator[Section]:
    """Each pair of networks, on a copy of the game."""
    game = deepcopy(run.game)
    game.begin(Progress())
    batches = game.prepared(run.data.examples(game.shape.images), game.shape)
    for name, pair in game.named_pairs().items():
        facts = networks.probe(pair, _given(run, game, name, batches))
        yield _titled("networks", name, len(game.pairs)), networks.described(facts), networks.findings(pair, facts)


def _given(run: Run, game: Game, pair: str, batches: Mapping[str, Batch]) -> networks.Given:
    """What this pair is probed with: noise where fakes are made from noise, else the images that it translates."""
    batch = batches[game.plans[pair].stream]
    player = next(name for name, role in game.players.items() if role == "discriminator")
    update = Update(player=player, role="discriminator", shape=game.shape, due=game.due(0))
    latents: list[Latent | None] = [None, None]
    made_from = game.given(pair, batches) if isinstance(game, FromImages) else batch.images
    sources = [made_from, made_from.flip(0)]
    if isinstance(game, FromNoise):
        with game.drawing() as drawing:
            latents = [game.latent(drawing.noise(game.shape.images), batch.condition) for _ in sources]
        sources = [latent.noise for latent in latents if latent is not None]
    return networks.Given(
        update=update, real=batch.images, condition=batch.condition, source=sources[0], others=sources[1],
        latent=latents[0],
    )  # fmt: skip


def _titled(title: str, name: str, several: int) -> str:
    return title if several == 1 else f"{title} {name}"


def _rates(run: Run) -> Iterator[Section]:
    """The updates of a rehearsal."""
    done = rehearse(run)
    ratios = {player: rates.medians(steps) for player, steps in done.ratios.items()}
    found = rates.findings(ratios, {player: _rate(run, player) for player in ratios}) if done.finite else []
    if not done.finite:
        found = [_not_finite(run, done)]
    yield "rates", rates.described(ratios, done.updates, done.steps), found


def _not_finite(run: Run, done: Rehearsal) -> Finding:
    rate = _rate(run, "discriminator")
    return Finding(
        name="not_finite",
        failure=True,
        meaning="Within the first updates a loss or a gradient is not a finite number.",
        evidence={"updates": done.updates},
        remedies=("engine.precision=fp32", *([] if rate is None else [f"optim.discriminator.lr={rate / 10:g}"])),
    )


def _rate(run: Run, player: str) -> float | None:
    """The learning rate of a player as a setting; None where it is a schedule."""
    rate = run.settings["optim"].get(player, {}).get("lr")
    return float(rate) if isinstance(rate, int | float) else None


@dataclass(slots=True)
class Rehearsal:
    """What a rehearsal measured."""

    ratios: dict[str, list[dict[str, float]]]  # of update and weight, of each layer, for each update of each player
    updates: int = 0
    steps: int = 0  # begun
    finite: bool = True  # whether all that was measured is


def rehearse(run: Run, steps: int = REHEARSED) -> Rehearsal:
    """Train a copy of the run for some steps, or for as many updates as fit into 1.8 seconds, and throw it away."""
    game, engine = copied(run)
    drawn = run.data.examples(game.shape.images * BATCHES)
    until, done = time.monotonic() + REHEARSING, Rehearsal({player: [] for player in engine.players})
    first = {player: _weights(engine, player) for player in engine.players}
    for step in range(min(steps, run.settings["steps"])):
        reseed(run.settings["seed"], "rehearsal", step=step)
        engine.begin(Progress(step, step * game.shape.images))
        done.steps = step + 1
        for update in run.updates(game, step):
            _rehearse_update(game, engine, update, drawn, first, done)
            if not done.finite or time.monotonic() > until:
                return done
    return done


def _rehearse_update(
    game: Game, engine: Eager, update: Update, drawn: Mapping[str, Batch], first: Mapping[str, dict[str, Tensor]],
    done: Rehearsal,
) -> None:  # fmt: skip
    """One update, or a joint one."""
    chain = list(chain_of(update))
    before = {one.player: _weights(engine, one.player) for one in chain}
    for result in engine.run(update, [_batches(drawn, game, one, done.updates) for one in chain]):
        done.finite &= math.isfinite(float(result.values.sum()))
    for player, weights in before.items():
        done.ratios[player].append(rates.update_ratios(weights, _weights(engine, player), first[player]))
        done.updates += 1


def _weights(engine: Eager, player: str) -> dict[str, Tensor]:
    one = engine.players[player]
    return {name: weight.detach().clone() for name, weight in zip(one.names, one.parameters, strict=True)}


def _batches(drawn: Mapping[str, Batch], game: Game, update: Update, number: int) -> dict[str, Batch]:
    """A part of what was drawn for each stream that this update reads, another one for each number of an update."""
    found = {}
    for stream, shape in game.wanted(update).items():
        whole = drawn[stream]
        rows = (torch.arange(shape.images) + number * game.shape.images) % len(whole.images)
        rows = rows.to(whole.images.device)
        found[stream] = _picked(whole, rows)
    return found


def _picked(batch: Batch, rows: Tensor) -> Batch:
    """These images [M] of a batch, with their conditions."""
    return Batch(batch.images[rows], batch.condition.each(lambda given: given[rows]))
