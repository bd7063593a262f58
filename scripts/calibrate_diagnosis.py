"""A fair test of findings: runs broken on purpose, an independent judge, and what was found in them.

    python scripts/calibrate_diagnosis.py FOLDER [--bases dcgan_r1,...] [--faults d_rate_up,...] [--doses 3] [--seeds 3]
                                          [--at-once 2] [--rescue]
    python scripts/calibrate_diagnosis.py FILE

Breaks base configurations, each sound as it is, by one fault at a time, in up to three doses, over seeds. The judge
looks at samples alone and makes three counts: samples that a classifier of real digits accepts, of no class more than
twice its fair share (or a generator that draws one perfect digit would pass); reals that are covered, which have a
sample as near as their fifth neighbour in its features (Naeem et al. 2020; or one picture for each class would pass);
and smooth samples, whose power in the upper half of the frequencies is at most twice that of 97.5 % of the reals (the
classifier does not mind noise). A run is broken when one of them is below that of the sound runs of its base by
Fisher's exact test (p < 0.001) and below three quarters of it. Counted too is how many of the broken are told nothing
at all: no finding, and before the first step no remark on an unusual setting. Runs that a fault did not break count as
sound, and so do the bases themselves: a failure found there at the end is a false alarm.
Bounds may be set by looking at the bases of the group `set`; those of the group `scored` were for the count alone until
they had been looked at too, and so were those of `unseen`, in their turn.

With `--rescue`, each broken run is then given to `ganrun rescue RUN tries=2`; one is sound again where the rescue says
that a remedy helped and the judge agrees. Runs in which no failure was found have no remedy and are left out.

What is finished in FOLDER is not trained again, so an interrupted test goes on, and more seeds add to fewer. Prints a
row for each run, the table of confusion, and the shares with their 95 % intervals (Clopper and Pearson).

What rules read of each run, and the three counts, are kept in FOLDER/courses.jsonl.xz, a few kB a run. In the place of
FOLDER such a file stands for runs that are not there: nothing is trained, and rules that have changed are tried on it
in a minute. tests/courses.jsonl.xz is the one that docs/diagnosis.md tells of.
"""

from __future__ import annotations

import argparse
import json
import lzma
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from scipy.stats import beta, fisher_exact

from ganrun.config.compose import compose
from ganrun.config.recipe import recipe
from ganrun.config.validate import resolve
from ganrun.core.errors import ConfigError
from ganrun.data.datasets.bundled import Digits
from ganrun.diagnosis.remedy import unusual, unusual_in
from ganrun.diagnosis.rule import About
from ganrun.diagnosis.rules.all import RULES
from ganrun.diagnosis.rules.course import UnusualSettings
from ganrun.diagnosis.watch import Watch
from ganrun.metrics.classifier import Classified, classify, train
from ganrun.metrics.comparison import QUALITY
from ganrun.metrics.neighbours import neighbourhoods
from ganrun.record.results import findings, found_before, windows
from ganrun.record.stored import record
from ganrun.run.about import abouts
from ganrun.run.draw import draw
from ganrun.run.load import load, untrained
from ganrun.run.sweep import Job, run_jobs

SAMPLES, SIDE, STEPS, CLASSES, TRIES = 500, 16, 1500, 10, 2
NOTHING, NOT_FINITE = (0, 0, 0), "not_finite"
KEPT = ("diagnosis/", "metrics/", "loss/", "probability/", "tricks/", "weight_gradient/")  # tags that rules may read
ABSENT = ""  # of a tag that a row does not have; null is a number that is not finite
PLAIN = 0.25  # of a count of sound runs, below which a run is plainly broken
HALF = 0.5  # likewise: a run that has lost more than a half
SOUND = 3  # seeds of each base as it is, at least: what others are measured by
SLOW = "slow_start"  # a remark: it explains a run that is not done, and is no alarm
SMALL = ("dataset=digits", f"dataset.resolution={SIDE}", "batch=32", f"steps={STEPS}", "log.every=25", "game.grid=32",
         "log.samples=1500", "log.checkpoint=1500", "metrics.every=300", "metrics.samples=150", "engine.device=cpu",
         "diagnosis.before=false")  # fmt: skip
GROUPS = ("set", "scored", "unseen")  # of bases
WIDTH = ("model.generator.width=16", "model.discriminator.width=16")
DCGAN = ("model=dcgan", *WIDTH)
RATES = ("optim.generator.lr=5e-4", "optim.discriminator.lr=5e-4")
BASES: dict[str, tuple[str, tuple[str, ...]]] = {  # name -> group, overrides
    "dcgan_r1": ("set", (*DCGAN, *RATES, "model.discriminator.norm=none", "tricks=[r1,ema]", "tricks.r1.gamma=1",
                         "tricks.r1.every=4")),
    "sngan": ("set", (*DCGAN, *RATES, "loss=hinge", "tricks=[spectral_norm,no_norm,ema]")),
    "wgan_gp": ("scored", (*DCGAN, "loss=wasserstein", "tricks=[gp,layer_norm,ema]")),
    "cdcgan": ("set", (*WIDTH, "model=cdcgan")),
    "modern": ("set", ("experiment=modern", *WIDTH)),
    "lsgan": ("scored", (*DCGAN, *RATES, "loss=least_squares", "tricks=[spectral_norm,no_norm,ema]")),
    "deep_conv": ("scored", ("model=deep_conv", *WIDTH, *RATES, "loss=hinge", "tricks=[spectral_norm,no_norm,ema]")),
    "mlp": ("unseen", ("model=mlp", *RATES)),
    "ralsgan": ("unseen", (*DCGAN, *RATES, "loss=relativistic_average", "model.discriminator.norm=none",
                           "tricks=[r1,ema]", "tricks.r1.gamma=1")),
    "projection": ("unseen", ("experiment=projection", *WIDTH)),
}  # fmt: skip


@dataclass(frozen=True)
class Fault:
    """A way to break a run: overrides in rising doses, and the findings that name it."""

    doses: tuple[tuple[str, ...], ...]
    names: frozenset[str]


def fault(names: str, *doses: str) -> Fault:
    """A collapse may be partial."""
    named = names.replace("mode_collapse", "mode_collapse mode_collapse_partial")
    return Fault(tuple(tuple(dose.split()) for dose in doses), frozenset(named.split()))


D, G = "optim.discriminator.lr", "optim.generator.lr"
FAULTS = {
    "d_rate_up": fault("discriminator_wins gradient_explodes mode_collapse penalty_off_target peaked",
                       f"{D}=5e-3", f"{D}=2e-2", f"{D}=1e-1"),
    "d_rate_down": fault("discriminator_idle mode_collapse slow_start", f"{D}=2e-5", f"{D}=5e-6", f"{D}=1e-6"),
    "g_rate_up": fault("mode_collapse discriminator_wins gradient_explodes peaked oscillation",
                       f"{G}=1e-2", f"{G}=5e-2", f"{G}=5e-1"),
    "g_rate_down": fault("discriminator_wins generator_starves slow_start", f"{G}=2e-5", f"{G}=2e-6", f"{G}=1e-8"),
    "both_rates_up": fault("gradient_explodes discriminator_wins mode_collapse oscillation peaked penalty_off_target",
                           f"{D}=1e-2 {G}=1e-2", f"{D}=5e-2 {G}=5e-2", f"{D}=5e-1 {G}=5e-1"),
    "many_d_updates": fault("discriminator_wins slow_start", "updates.discriminator=5", "updates.discriminator=15"),
    "many_g_updates": fault("mode_collapse discriminator_idle oscillation", "updates.generator=5",
                            "updates.generator=15"),
    "no_norm_in_g": fault("discriminator_wins generator_starves mode_collapse", "model.generator.norm=none"),
    "small_g": fault("discriminator_wins mode_collapse slow_start",
                     "model.generator.width=4", "model.generator.width=2", "model.generator.width=1"),
    "small_d": fault("discriminator_idle mode_collapse oscillation", "model.discriminator.width=4",
                     "model.discriminator.width=2", "model.discriminator.width=1"),
    "small_batch": fault("mode_collapse oscillation peaked discriminator_idle", "batch=4", "batch=2"),
    "few_images": fault("critic_overfits discriminator_wins mode_collapse",
                        "dataset.held_out=1600", "dataset.held_out=1760"),
    "start_too_large": fault("gradient_explodes discriminator_wins generator_starves mode_collapse slow_start",
                             "model.generator.init.scale=0.5", "model.generator.init.scale=2"),
    "start_too_small": fault("generator_starves discriminator_wins slow_start", "model.generator.init.scale=1e-3",
                             "model.generator.init.scale=1e-5"),
    "dropout_in_g": fault("slow_start mode_collapse", "model.generator.dropout=0.5", "model.generator.dropout=0.9"),
    "little_noise": fault("mode_collapse", "model.generator.latent=2", "model.generator.latent=1"),
    "sigmoid": fault("generator_starves discriminator_idle discriminator_wins slow_start mode_collapse",
                     "model.discriminator.output=sigmoid force=[C5]"),
    "heavy_r1": fault("discriminator_idle slow_start mode_collapse penalty_off_target",
                      "tricks.r1.gamma=100", "tricks.r1.gamma=1e4"),
    "light_gp": fault("penalty_off_target gradient_explodes discriminator_wins mode_collapse peaked",
                      "tricks.gp.weight=1e-2", "tricks.gp.weight=1e-4"),
    "wrong_range": fault("data_out_of_range discriminator_wins", "dataset.range=[0,1024] diagnosis.before=true",
                         "dataset.range=[0,65535] diagnosis.before=true"),
    "heavy_gp": fault("discriminator_idle slow_start mode_collapse penalty_off_target",
                      "tricks.gp.weight=1e3", "tricks.gp.weight=1e5"),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One run of the test."""

    base: str
    fault: str  # "" for the base as it is
    dose: int
    seed: int

    @property
    def name(self) -> str:
        return f"{self.base}-{self.fault or 'sound'}-{self.dose}-{self.seed}"

    @property
    def own(self) -> tuple[str, ...]:
        """The words of its fault."""
        return FAULTS[self.fault].doses[self.dose] if self.fault else ()

    @property
    def overrides(self) -> list[str]:
        replaced = {word.partition("=")[0] for word in self.own}
        before = [word for word in (*SMALL, *BASES[self.base][1]) if word.partition("=")[0] not in replaced]
        return [*before, *self.own, f"seed={self.seed}"]


@dataclass(frozen=True, kw_only=True)
class Course:
    """What rules read of a run, and what its samples came to."""

    trial: Trial
    counts: tuple[int, ...] | None  # of SAMPLES: accepted, covered, smooth; None for a run that was refused
    before: Mapping[str, str] = field(default_factory=dict)  # failures found before the first step: what to try first
    finite: bool = True  # whether its numbers stayed so
    abouts: tuple[About, ...] = ()
    rows: tuple[tuple[int, Mapping[str, float | None]], ...] = ()  # step, and means by tag


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run came to."""

    trial: Trial
    counts: tuple[int, ...] | None  # as the course has them
    found: list[str]  # what is found at its end, what explains most first; `slow_start` is no failure
    first: float | None  # share of the run at which the first of them appeared
    before: Mapping[str, str] = field(default_factory=dict)  # as the course has it

    @property
    def refused(self) -> bool:
        """Whether the run was never begun."""
        return self.counts is None


def trials(bases: Sequence[str], faults: Sequence[str], doses: int, seeds: int) -> Iterator[Trial]:
    """Every run of the test."""
    for base in bases:
        yield from (Trial(base=base, fault="", dose=0, seed=seed) for seed in range(max(seeds, SOUND)))
        for seed in range(seeds):
            for name in faults:
                for dose in range(min(doses, len(FAULTS[name].doses))):
                    yield Trial(base=base, fault=name, dose=dose, seed=seed)


class Judge:
    """A classifier of half of the real digits, with the confidence that 95 % of the other half reach."""

    def __init__(self) -> None:
        digits = Digits(channels=1, resolution=SIDE, classes=None)
        assert digits.labels is not None
        images, order = (
            torch.nn.functional.interpolate(digits.images.float() / 127.5 - 1, scale_factor=2, mode="bilinear"),
            torch.randperm(len(digits), generator=torch.Generator().manual_seed(0)),
        )
        half = len(order) // 2
        self.net = train(images[order[:half]], digits.labels[order[:half]], 0)
        others: Classified = classify(self.net, images[order[half:]])
        self.threshold = float(others.confidence.quantile(0.05))
        self.reals = others.features[:SAMPLES]
        self.power = 2 * float(high_frequencies(digits.images.float() / 127.5 - 1).quantile(0.975))

    def counts(self, images: torch.Tensor) -> tuple[int, ...]:
        """Samples [N, 1, R, R] that are accepted, reals that are covered, and samples that are smooth."""
        if not bool(images.isfinite().all()):
            return NOTHING
        found = classify(self.net, images)
        each = found.classes[found.confidence >= self.threshold].bincount(minlength=CLASSES)
        covered = neighbourhoods(self.reals, found.features).coverage
        smooth = int((high_frequencies(images) <= self.power).sum())
        return int(each.clamp(max=2 * len(images) // CLASSES).sum()), round(covered * len(self.reals)), smooth


def high_frequencies(images: torch.Tensor) -> torch.Tensor:
    """Mean power of the upper half of the frequencies of rows or columns. [N, 1, R, R] -> [N]"""
    frequency = torch.fft.fftfreq(images.shape[-1]).abs()
    upper = (frequency[:, None] > 0.25) | (frequency > 0.25)
    return torch.fft.fft2(images).abs().square()[..., upper].mean((1, 2))


def course(trial: Trial, folder: Path, judge: Callable[[torch.Tensor], tuple[int, ...]]) -> Course:
    """What is in the folder of a run. A run that ended with numbers that are not finite has no good samples."""
    if not (folder / "config.yaml").is_file():
        return Course(trial=trial, counts=None)
    try:
        counts = judge(draw(load(folder).game, SAMPLES, seed=1))
    except ConfigError:  # it ended before its first checkpoint
        counts = NOTHING
    rows = [(row.step, dict(row)) for row in windows(folder / "metrics.jsonl")]
    quality = next((tag for _, row in rows for tag in row if tag.startswith(f"metrics/{QUALITY}_")), None)
    settings, game = untrained(folder, [], torch.device("cpu"))
    return Course(
        trial=trial,
        counts=counts,
        before={one["finding"]: " ".join(one["remedies"][:1]) for one in found_before(folder) if one["failure"]},
        finite=NOT_FINITE not in findings(folder),
        abouts=tuple(abouts(game, settings, quality)),
        rows=tuple(rows),
    )


def outcome(one: Course) -> Outcome:
    """What the rules, as they are now, say of a run."""
    found = found_at_the_end(one)
    first = min(found.values()) / STEPS if found else None
    return Outcome(trial=one.trial, counts=one.counts, found=list(found), first=first, before=one.before)


def to_try(one: Outcome) -> str:
    """The first remedy of what is found first, in words of the command line; "" where there is none."""
    first = next(iter(one.found), "")
    if first in one.before or not first:
        return one.before.get(first, "")
    return first_remedy(first, replace(one.trial, seed=0))


@cache
def settings_of(trial: Trial) -> Mapping[str, Any]:
    """The resolved settings of a run."""
    return resolve(compose(trial.overrides))


@cache
def first_remedy(finding: str, trial: Trial) -> str:
    """The first remedy of a finding that would change this run; "" where there is none."""
    settings = settings_of(trial)
    remedies = [remedy for rule in RULES if rule.name == finding for remedy in rule.tries]
    usual = recipe(trial.overrides, unusual_in(settings, remedies))
    return next(filter(None, (remedy.words(settings, usual) for remedy in remedies)), "")


def has_ended(folder: Path) -> bool:
    """Whether a run has come to its end, or to numbers that are not finite."""
    return (record(folder / "summary.json") or {}).get("step") == STEPS or NOT_FINITE in findings(folder)


def found_at_the_end(one: Course) -> dict[str, int]:
    """What is not over at the end of a run, what explains most first, and at which step it appeared.

    What was found before the first step comes first, at 0.
    """
    watch = Watch(RULES, one.abouts)
    began: dict[str, int] = {}
    for step, row in one.rows:
        for change in watch.feed(step, row):
            began[change.rule.name] = change.step
    found = [change.rule.name for change in watch.found if change.rule.name != "healthy"]
    at_once = [*one.before, *([] if one.finite else [NOT_FINITE])]
    return dict.fromkeys(at_once, 0) | {name: began[name] for name in found}


def keep(courses: Sequence[Course], path: Path) -> None:
    """Write a line of JSON for each run, by columns, numbers to four digits."""
    with lzma.open(path, "wt") as file:
        for one in courses:
            tags = dict.fromkeys(tag for _, row in one.rows for tag in row if tag.startswith(KEPT))
            columns = {tag: [_written(row.get(tag, ABSENT)) for _, row in one.rows] for tag in tags}
            line = asdict(replace(one, rows=())) | {"steps": [step for step, _ in one.rows], "rows": columns}
            file.write(json.dumps(line, separators=(",", ":")) + "\n")


def kept(path: Path) -> list[Course]:
    """What `keep` wrote."""
    with lzma.open(path, "rt") as file:
        return [_course(json.loads(line)) for line in file]


def _course(line: dict[str, Any]) -> Course:
    columns = line.pop("rows")
    rows = [
        (step, {tag: values[n] for tag, values in columns.items() if values[n] != ABSENT})
        for n, step in enumerate(line.pop("steps"))
    ]
    known = [
        About(**about | {name: tuple(map(tuple, about[name])) for name in ("slopes", "unusual")})
        for about in line.pop("abouts")
    ]
    counts = None if line["counts"] is None else tuple(line.pop("counts"))
    whole: dict[str, Any] = line | {"trial": Trial(**line["trial"]), "counts": counts}
    return Course(**whole, abouts=tuple(known), rows=tuple(rows))


def _written(value: float | str | None) -> float | str | None:
    return float(f"{value:.4g}") if isinstance(value, float) else value


def is_broken(one: Outcome, sound: Sequence[Outcome]) -> bool:
    """Whether one of its counts is below that of the sound runs of its base."""
    others = [other.counts or NOTHING for other in sound]
    return any(
        falls_short(own, theirs) for own, theirs in zip(one.counts or NOTHING, zip(*others, strict=True), strict=True)
    )


def falls_short(own: int, others: Sequence[int]) -> bool:
    """Whether a count of SAMPLES is plainly below these."""
    good, all_of_them = sum(others), SAMPLES * len(others)
    table = [[own, SAMPLES - own], [good, all_of_them - good]]
    return fisher_exact(table, "less").pvalue < 0.001 and own / SAMPLES < 0.75 * good / all_of_them


def left(one: Outcome, sound: Sequence[Outcome]) -> float:
    """What a fault has left of the count that it has hurt most, as a share of that of sound runs."""
    means = [sum(counts) / len(counts) for counts in zip(*(other.counts or NOTHING for other in sound), strict=True)]
    return min(own / mean for own, mean in zip(one.counts or NOTHING, means, strict=True) if mean)


def named(runs: Sequence[Outcome], most: int) -> str:
    """How many are named by one of the first `most` findings."""
    return interval(sum(bool(names(one.trial) & set(one.found[:most])) for one in runs), len(runs))


def names(trial: Trial) -> frozenset[str]:
    """The findings that name the fault of a run: those of its list, and one whose evidence is the setting at fault."""
    own = {word.partition("=")[0] for word in trial.own}
    far = unusual_in(settings_of(trial), UnusualSettings().tries)
    return FAULTS[trial.fault].names | ({UnusualSettings.name} if own & far.keys() else set())


def undone(one: Outcome) -> bool:
    """Whether what is to be tried first changes a setting that the fault has changed."""
    keys = [{word.partition("=")[0] for word in words} for words in (to_try(one).split(), one.trial.own)]
    return bool(keys[0] & keys[1])


def told_nothing(one: Outcome) -> bool:
    """Whether nothing is found at the end, and `ganrun check` has no remark on a setting that is far from usual."""
    return not one.found and not unusual(settings_of(one.trial))


def sound_runs(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    """The runs of each base as it is."""
    return {base: [one for one in outcomes if one.trial.base == base and not one.trial.fault] for base in BASES}


def broken_runs(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Those that their fault has broken."""
    sound = sound_runs(outcomes)
    return [one for one in outcomes if one.trial.fault and not one.refused and is_broken(one, sound[one.trial.base])]


def interval(hits: int, of: int) -> str:
    """A share with its 95 % interval by Clopper and Pearson."""
    if not of:
        return "0 of 0"
    low = beta.ppf(0.025, hits, of - hits + 1) if hits else 0.0
    high = beta.ppf(0.975, hits + 1, of - hits) if hits < of else 1.0
    return f"{hits} of {of}, {hits / of:.1%} ({low:.1%} to {high:.1%})"


def report(outcomes: Sequence[Outcome]) -> list[str]:
    """Print a row for each run, and tables in Markdown of which fault was found as what, and of each group's shares.

    Returns the lines of the tables.
    """
    broken = broken_runs(outcomes)
    print(f"{'run':<36}{'accepted':>9}{'covered':>9}{'smooth':>9}  {'':<7} found")
    for one in outcomes:
        kind = "refused" if one.refused else "broken" if one in broken else "sound"
        counts = "".join(f"{count:>9}" for count in one.counts) if one.counts else " " * 27
        print(f"{one.trial.name:<36}{counts}  {kind:<7} {' '.join(one.found)}")
    lines = [*confusion(broken), "", *table({group: shares(outcomes, broken, group) for group in GROUPS})]
    print("\n" + "\n".join(lines))
    return lines


def confusion(broken: Sequence[Outcome]) -> list[str]:
    """A table of what was found first in runs with each fault, the most frequent first."""
    lines = ["| fault | runs | what was found first |", "|---|---|---|"]
    for fault in sorted({one.trial.fault for one in broken}):
        first = Counter(f"`{one.found[0]}`" if one.found else "nothing" for one in broken if one.trial.fault == fault)
        told = ", ".join(f"{name} {count}" for name, count in sorted(first.items(), key=lambda of: (-of[1], of[0])))
        lines.append(f"| `{fault}` | {first.total()} | {told} |")
    return lines


def table(columns: Mapping[str, Mapping[str, str]]) -> list[str]:
    """A table of the same rows for each group."""
    rows = next(iter(columns.values()))
    head = [f"| | {' | '.join(f'`{group}`' for group in columns)} |", f"|{'---|' * (len(columns) + 1)}"]
    return head + [f"| {row} | {' | '.join(column[row] for column in columns.values())} |" for row in rows]


def shares(outcomes: Sequence[Outcome], broken: Sequence[Outcome], group: str) -> dict[str, str]:
    """What the test comes to for the bases of a group."""
    sound = sound_runs(outcomes)
    mine = [one for one in broken if BASES[one.trial.base][0] == group]
    rest = [one for one in outcomes if one not in broken and not one.refused and BASES[one.trial.base][0] == group]
    plainly, halved = ([one for one in mine if left(one, sound[one.trial.base]) < most] for most in (PLAIN, HALF))
    times = sorted(one.first for one in mine if one.first is not None)
    return {
        "broken, named first": named(mine, 1),
        "broken, named first or second": named(mine, 2),
        "broken, what to try first undoes the fault": interval(sum(map(undone, mine)), len(mine)),
        "broken, nothing found": interval(sum(not one.found for one in mine), len(mine)),
        "broken, neither a finding nor a remark": interval(sum(map(told_nothing, mine)), len(mine)),
        "less than a half left, named first": named(halved, 1),
        "less than a half left, named first or second": named(halved, 2),
        "plainly broken, named first": named(plainly, 1),
        "plainly broken, named first or second": named(plainly, 2),
        "plainly broken, what to try first undoes the fault": interval(sum(map(undone, plainly)), len(plainly)),
        "plainly broken, nothing found": interval(sum(not one.found for one in plainly), len(plainly)),
        "sound, false alarms": interval(sum(bool(set(one.found) - {SLOW}) for one in rest), len(rest)),
        "median share of the run until found": f"{times[len(times) // 2]:.0%}" if times else "-",
    }


def rescue(broken: Sequence[Outcome], folder: Path, at_once: int) -> dict[str, int]:
    """Call `ganrun rescue RUN tries=2` for each of these runs; the number of the try that helped, by the run's name.

    -1 where none did; a run without a remedy is not there.
    """

    def one(outcome: Outcome) -> tuple[str, int] | None:
        run = folder / outcome.trial.name
        out = run.with_name(f"{run.name}-rescue")
        command = [sys.executable, "-P", "-m", "ganrun", "rescue", str(run), f"tries={TRIES}", f"out={out}"]
        code = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True).returncode
        tries = sorted(int(path.name) for path in out.glob("[0-9]*")) if out.is_dir() else []
        return (run.name, tries[-1] if code == 0 else -1) if tries else None

    with ThreadPoolExecutor(at_once) as pool:
        return dict(found for found in pool.map(one, broken) if found)


def report_rescue(
    outcomes: Sequence[Outcome], tries: Mapping[str, int], again: Callable[[Trial, int], Outcome]
) -> list[str]:
    """Print what became of each run that had a remedy, and a table of the share that the judge takes for sound again.

    `again` judges a try, by the run and its number. Returns the lines of the table.
    """
    sound = sound_runs(outcomes)
    healed: dict[str, list[bool]] = {group: [] for group in GROUPS}
    print(f"\n{'rescued':<36}{'counts':>18}{'then':>18}")
    for one in broken_runs(outcomes):
        if (number := tries.get(one.trial.name)) is None:
            continue
        after = again(one.trial, number) if number >= 0 else None
        healed[BASES[one.trial.base][0]].append(after is not None and not is_broken(after, sound[one.trial.base]))
        print(f"{one.trial.name:<36}{one.counts!s:>18}{after.counts if after else 'none helped'!s:>18}")
    lines = table({group: {"sound again": interval(sum(found), len(found))} for group, found in healed.items()})
    print("\n" + "\n".join(lines))
    return lines


def courses_in(folder: Path, chosen: Sequence[Trial], at_once: int) -> list[Course]:
    """Train what is missing of these runs, and read all of them."""
    jobs = [Job(number=n, overrides=one.overrides, folder=str(folder / one.name)) for n, one in enumerate(chosen)]
    missing = [job for job in jobs if not has_ended(Path(job.folder))]
    if missing:
        run_jobs(missing, [], at_once=at_once)
    judge = Judge()
    found = [course(one, folder / one.name, judge.counts) for one in chosen]
    keep(found, folder / "courses.jsonl.xz")
    return found


def rescued(outcomes: Sequence[Outcome], folder: Path, at_once: int) -> None:
    """Rescue the broken ones, and print what became of them."""
    judge = Judge()

    def again(trial: Trial, number: int) -> Outcome:
        return outcome(course(trial, folder / f"{trial.name}-rescue" / str(number), judge.counts))

    tries = rescue(broken_runs(outcomes), folder, at_once)
    report_rescue(outcomes, tries, again)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the runs, or the file of runs that are not there")
    parser.add_argument("--bases", default=",".join(BASES))
    parser.add_argument("--faults", default=",".join(FAULTS))
    parser.add_argument("--doses", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--rescue", action="store_true", help="call ganrun rescue for each broken run, and judge again")
    given = parser.parse_args()
    if given.folder.is_file():
        report([outcome(one) for one in kept(given.folder)])
        return 0
    chosen = list(trials(given.bases.split(","), given.faults.split(","), given.doses, given.seeds))
    outcomes = [outcome(one) for one in courses_in(given.folder, chosen, given.at_once)]
    report(outcomes)
    if given.rescue:
        rescued(outcomes, given.folder, given.at_once)
    return 0


if __name__ == "__main__":
    torch.set_num_threads(1)
    try:
        raise SystemExit(main())
    except ConfigError as refusal:
        print("\n".join(refusal.lines), file=sys.stderr)
        raise SystemExit(2) from None
