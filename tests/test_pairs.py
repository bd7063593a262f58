"""Any two tricks with any loss train two finite steps, or are refused in sentences before any work is done."""

import math
import random
from contextlib import closing
from itertools import combinations

import pytest
import torch
from omegaconf import OmegaConf
from support import drawn

from ganrun.config.build import build
from ganrun.config.compatibility import (
    MODELS,
    TINY,
    BaseConfiguration,
    CompatibilityChecker,
    Verdict,
    ask,
    configuration,
    mark,
    settings_of,
)
from ganrun.config.compose import compose
from ganrun.config.instantiate import Maker
from ganrun.config.overlays import names
from ganrun.core.context import Progress, Update
from ganrun.core.errors import ConfigError
from ganrun.core.facts import Fact
from ganrun.core.traits import Level
from ganrun.core.trick import Setting, Trick

torch.set_num_threads(1)

TRICKS, LOSSES = names("tricks"), names("loss")
ALL = [(one, other, loss) for one, other in combinations(TRICKS, 2) for loss in LOSSES]
# A refusal of a network over what a trick has set once named no trick. Then a few by a fixed seed.
SAMPLE = [("auxiliary_classifier", "one_class", "hinge"), *random.Random(31).sample(ALL, 12)]
CHECKER = CompatibilityChecker()
STEPS = 2


def trained(cfg: object) -> list[str]:
    """Two steps of a run; returns what was not finite."""
    cfg.dataset.class_count = 0  # type: ignore[attr-defined]  # of these data it is measured
    run = build(cfg)  # type: ignore[arg-type]
    seen: dict[str, torch.Tensor] = {}
    with closing(run.data):
        for step in range(STEPS):
            run.engine.begin(Progress(step))
            for update in short(run.updates(run.game, step)):
                for one in run.engine.run(update, drawn(run, update)):
                    seen |= {f"{key} at step {step}": v for key, v in zip(one.names, one.values, strict=True)}
        seen["samples"] = run.game.sample()
    return [key for key, value in seen.items() if not bool(torch.isfinite(value).all())]


def short(updates: list[Update], most: int = 4) -> list[Update]:
    """The first and the last updates of a step: a hundred updates of D show no more than a few."""
    return updates if len(updates) <= most else [*updates[:1], *updates[-most + 1 :]]


def judge(one: str, other: str, loss: str) -> str:
    """What came of this combination: `refused`, `trained`, or what is wrong."""
    verdict = CHECKER.best(loss, [one, other])
    cfg = configuration(loss, [*verdict.base.required, one, other], verdict.base)
    try:
        wrong = trained(cfg)
    except ConfigError as refusal:
        named = all(any(name in line for name in (one, other, "loss")) for line in refusal.lines)
        if not verdict.refused or not named:
            return f"{refusal.lines} though the checker says {mark(verdict.diagnostics) or 'nothing'}"
        return "refused"
    if verdict.refused:
        return f"trained, though the checker says {verdict.diagnostics}"
    return f"not finite: {wrong}" if wrong else "trained"


def verdict_of(combination: tuple[str, str, str]) -> str:
    """As `judge`; a bug is returned, not raised, so that the rest is tried too."""
    try:
        return judge(*combination)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def test_the_families_are_not_empty() -> None:
    assert len(TRICKS) >= 14 and len(LOSSES) >= 5 and len(ALL) == math.comb(len(TRICKS), 2) * len(LOSSES)


@pytest.mark.parametrize(("one", "other", "loss"), SAMPLE, ids=["-".join(one) for one in SAMPLE])
def test_two_tricks_and_a_loss_train_or_say_why_not(one: str, other: str, loss: str) -> None:
    assert judge(one, other, loss) in ("trained", "refused")


@pytest.mark.slow
@pytest.mark.parametrize("loss", LOSSES)
def test_every_two_tricks_train_or_say_why_not(loss: str) -> None:
    outcomes = {combination: verdict_of(combination) for combination in ALL if combination[2] == loss}
    wrong = {key: value for key, value in outcomes.items() if value not in ("trained", "refused")}
    assert not wrong, "\n".join(f"{key}: {value}" for key, value in wrong.items())
    assert {"trained", "refused"} == set(outcomes.values())


# Taking a trick out


def random_sets(count: int) -> list[tuple[str, list[str]]]:
    """A loss and two to five tricks each, by a fixed seed."""
    dice = random.Random(5)
    return [(dice.choice(LOSSES), dice.sample(TRICKS, dice.randint(2, 5))) for _ in range(count)]


def gives(loss: str, tricks: list[str], base: BaseConfiguration, name: str) -> bool:
    """Whether this trick may make a fact true: it provides one, it changes the networks, or it sets other parts."""
    trick = Maker()(settings_of(loss, tricks, base)["tricks"][name], f"tricks.{name}")
    return bool(trick.traits.provides) or isinstance(trick, Setting) or type(trick).modify is not Trick.modify


@pytest.mark.parametrize(("sets", "least"), [(6, 1), pytest.param(60, 15, marks=pytest.mark.slow)])
def test_leaving_a_trick_out_of_a_valid_set_leaves_it_valid(sets: int, least: int) -> None:
    """On the same base configuration, a set without one of its tricks is valid too.

    Unless that trick made a fact true that a remaining part needs: it provided it (the only bound of a Wasserstein
    critic), or changed the networks or the settings so that it held (no batch norm left, under a gradient penalty).
    """
    needed = {fact.id for fact in Fact}
    valid = excused = 0
    for loss, tricks in random_sets(sets):
        verdict = CHECKER.best(loss, tricks)
        if verdict.refused:
            continue
        valid += 1
        everything = [*verdict.base.required, *tricks]
        for name in everything:
            fewer = ask(loss, [other for other in everything if other != name], verdict.base)
            if fewer.refused:
                errors = {diagnostic.id for diagnostic in fewer.diagnostics if diagnostic.level is Level.ERROR}
                excuse = gives(loss, everything, verdict.base, name) and errors <= needed
                assert excuse, (loss, everything, name, fewer.diagnostics)
                excused += 1
    assert valid >= least and excused >= sets // 60, (valid, excused)


# The checker of these tests, and of docs/compatibility.md, is that of training


@pytest.mark.parametrize("tricks", [[], *([name] for name in random.Random(2).sample(TRICKS, 8)), TRICKS[:3]], ids=str)
def test_configurations_are_those_of_hydra(tricks: list[str]) -> None:
    base = BaseConfiguration(*MODELS[0], "none", ())
    ours = configuration("hinge", tricks, base)
    given = [*TINY, f"dataset.resolution={base.resolution}", "loss=hinge", f"tricks=[{','.join(tricks)}]"]
    theirs = OmegaConf.to_container(compose(given), resolve=True)
    assert isinstance(theirs, dict)
    mine = OmegaConf.to_container(ours, resolve=True)
    assert isinstance(mine, dict)
    for settings in (mine, theirs):
        del settings["model"]  # ours are small
    assert mine == theirs
    assert settings_of("hinge", tricks, base) == OmegaConf.to_container(ours, resolve=True)


@pytest.mark.slow
def test_known_verdicts() -> None:
    """The combinations that users meet first; each cell can be wrong in its own way."""
    assert mark(CHECKER.loss_cell("soft_labels", "wasserstein")) == "E C6"
    assert mark(CHECKER.loss_cell("soft_labels", "least_squares")) == "W C7"
    assert mark(CHECKER.loss_cell("gp", "wasserstein")) == "" == mark(CHECKER.loss_cell("ema", "hinge"))
    assert mark(CHECKER.pair_cell("clip", "gp")) == "E C3" == mark(CHECKER.pair_cell("gp", "clip"))
    assert mark(CHECKER.pair_cell("soft_labels", "one_sided_smoothing")) == "E C8"
    assert mark(CHECKER.pair_cell("dropout", "gp")) == "W C39"
    assert mark(CHECKER.pair_cell("ema", "noisy_labels")) == ""
    batch = ask("nonsaturating", ["gp"], BaseConfiguration("dcgan", 16, "batch", ()))
    assert isinstance(batch, Verdict) and mark(batch.diagnostics) == "E C1"
