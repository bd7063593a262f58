"""How often random architectures train, as a standard GAN and with WGAN-GP. Gulrajani et al. 2017, section 5.2.

    python scripts/robustness.py FOLDER [--count 6] [--seed 0] [--steps 1500] [--at-once 1] [--json]

Draws COUNT architectures by SEED (base, depth, width, nonlinearity, norm of either network) and trains each twice on
the digits at 16x16, a run of its own each time, with nothing tuned: as a standard GAN (DCGAN's recipe), and with
WGAN-GP, where layer norm replaces batch norm in D, as in the paper. Each is scored by the inception score of a
classifier of real digits, from 1 to 10. Prints, as table 2 of the paper, how many reach each
score with one recipe only, with both, with neither. The paper's own count: --count 200. What is finished in FOLDER is
not trained again, so an interrupted sweep goes on, and a larger count adds to a smaller one.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from random import Random

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganrun.core.errors import ConfigError
from ganrun.data.datasets.bundled import Digits
from ganrun.metrics.classifier import score, train
from ganrun.run.draw import draw
from ganrun.run.load import load_run
from ganrun.run.sweep import Job, run_jobs

SAMPLES = 1000
SCORES = (3.0, 5.0, 7.0, 8.0, 9.0)  # of at most 10; the paper's are 1, 3, 5, 7 and 9 of Inception's
SIDE = 16  # pixels of the runs; the classifier's are of 32
RECIPES = {
    "gan": {
        "loss": "nonsaturating", "tricks": "[]", "optim.generator.lr": 2e-4, "optim.discriminator.lr": 2e-4,
        "optim.generator.betas": "[0.5,0.999]", "optim.discriminator.betas": "[0.5,0.999]",
    },
    "wgan_gp": {
        "loss": "wasserstein", "tricks": "[gp,n_critic]", "optim.generator.lr": 1e-4, "optim.discriminator.lr": 1e-4,
        "optim.generator.betas": "[0.5,0.9]", "optim.discriminator.betas": "[0.5,0.9]",
    },
}  # fmt: skip
WIDTHS = {"mlp": (64, 128, 256), "dcgan": (8, 16, 32), "deep_conv": (4, 8, 16)}
IN_CRITIC = {"gan": "batch", "wgan_gp": "layer"}  # the norm in D in place of batch norm

Architecture = Mapping[str, Mapping[str, object]]  # player -> its settings, and the base under "model"


def architecture(seed: int, number: int) -> Architecture:
    """The `number`-th draw: one base for both players, everything else for each."""
    random = Random(f"{seed}/{number}")
    base = random.choice(list(WIDTHS))
    depths = [2, 3, 4, 6] if base == "mlp" else [0]  # the others' follows from the resolution
    players = {
        player: {
            "activation": random.choice(["relu", "leaky_relu", "elu", "tanh"]),
            "normed": random.choice([True, False]),
            "width": random.choice(WIDTHS[base]),
            "depth": random.choice(depths),
        }
        for player in ("generator", "discriminator")
    }
    return {"model": {"base": base}, **players}


def overrides(drawn: Architecture, recipe: str, steps: int, seed: int) -> list[str]:
    """The run of this architecture under this recipe, as typed."""
    base = str(drawn["model"]["base"])
    found = {"model": base, **RECIPES[recipe], "dataset": "digits", "dataset.resolution": SIDE, "steps": steps,
             "log.checkpoint": steps, "log.samples": steps, "seed": seed}  # fmt: skip
    for player in ("generator", "discriminator"):
        own, here = drawn[player], f"model.{player}"
        norm = "batch" if player == "generator" else IN_CRITIC[recipe]
        found |= {f"{here}.activation": own["activation"], f"{here}.norm": norm if own["normed"] else "none"}
        found |= {f"{here}.init.kind": "he", f"{here}.init.scale": 1.0}
        if base == "mlp":
            found[f"{here}.hidden"] = f"[{','.join([str(own['width'])] * int(str(own['depth'])))}]"
        else:
            found[f"{here}.width"] = own["width"]
    if base == "mlp":
        found |= {"model.discriminator.input_dropout": 0.0, "model.discriminator.dropout": 0.0}
    return [f"{key}={value}" for key, value in found.items()]


def in_words(drawn: Architecture) -> str:
    """An architecture in a few words."""
    words = [str(drawn["model"]["base"])]
    for player in ("generator", "discriminator"):
        own = drawn[player]
        size = f"{own['width']}x{own['depth']}" if own["depth"] else f"{own['width']}"
        words.append(f"{player[0].upper()} {size} {own['activation']}{' normed' if own['normed'] else ''}")
    return ", ".join(words)


def larger(images: Tensor) -> Tensor:
    """Images at the resolution of the classifier. [N, 1, 16, 16] -> [N, 1, 32, 32]"""
    return F.interpolate(images, scale_factor=2, mode="bilinear")


def evaluate(folder: Path, classifier: nn.Module, seed: int) -> float:
    """The score of a run; 1 when it ended before its last step."""
    try:
        run, step = load_run(folder)
    except (ConfigError, OSError):
        return 1.0
    run.data.close()
    if step < run.settings["steps"]:
        return 1.0
    return score(classifier, larger(draw(run.game, SAMPLES, seed=seed)))


def train_all(folder: Path, jobs: dict[tuple[int, str], Job], at_once: int) -> None:
    """Train every run that is not there yet, each in a process of its own."""
    missing = [job for job in jobs.values() if not (Path(job.folder) / "summary.json").is_file()]
    if missing:
        run_jobs(missing, [], at_once=at_once)


def table(scores: Mapping[int, Mapping[str, float]]) -> list[dict[str, float]]:
    """How many architectures reach each score, and with which recipe."""
    rows = []
    for least in SCORES:
        reached = [(one["gan"] >= least, one["wgan_gp"] >= least) for one in scores.values()]
        rows.append({"score": least, "only gan": reached.count((True, False)), "only wgan_gp":
                     reached.count((False, True)), "both": reached.count((True, True)),
                     "neither": reached.count((False, False))})  # fmt: skip
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=6, help="architectures; the paper has 200")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=1500, help="updates of G in each run")
    parser.add_argument("--at-once", type=int, default=1, help="runs at a time")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    drawn = {number: architecture(arguments.seed, number) for number in range(arguments.count)}
    jobs = {
        (number, recipe): Job(
            number=2 * number + i,
            overrides=overrides(one, recipe, arguments.steps, arguments.seed),
            folder=str(arguments.folder / f"{number:03d}_{recipe}"),
        )
        for number, one in drawn.items()
        for i, recipe in enumerate(RECIPES)
    }
    train_all(arguments.folder, jobs, arguments.at_once)
    digits = Digits(channels=1, resolution=SIDE, classes=None)
    assert digits.labels is not None
    reals = larger(digits.images.float() / 127.5 - 1)
    classifier = train(reals, digits.labels, arguments.seed)
    scores = {
        number: {recipe: evaluate(Path(jobs[number, recipe].folder), classifier, arguments.seed) for recipe in RECIPES}
        for number in drawn
    }
    report(drawn, scores, score(classifier, reals), arguments.json)
    return 0


def report(
    drawn: Mapping[int, Architecture], scores: Mapping[int, Mapping[str, float]], best: float, as_json: bool
) -> None:
    """Each architecture with its two scores, then the table."""
    rows = table(scores)
    if as_json:
        print(json.dumps({"architectures": drawn, "scores": scores, "table": rows, "score of real digits": best}))
        return
    print(f"\n{'gan':>6} {'wgan_gp':>8}  architecture (real digits score {best:.2f})")
    for number, one in scores.items():
        print(f"{one['gan']:>6.2f} {one['wgan_gp']:>8.2f}  {number}: {in_words(drawn[number])}")
    print("\n" + "".join(f"{name:>14}" for name in rows[0]))
    for row in rows:
        print("".join(f"{value:>14g}" for value in row.values()))


if __name__ == "__main__":
    torch.set_num_threads(1)
    try:
        raise SystemExit(main())
    except ConfigError as refusal:
        print("\n".join(refusal.lines), file=sys.stderr)
        raise SystemExit(2) from None
