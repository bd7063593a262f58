#!/usr/bin/env python3
"""What penalties on D's slope cost, and how exact their gradients are in float32 and in bf16.

    OMP_NUM_THREADS=1 python scripts/penalties.py cost [--rounds 9] [overrides]
    OMP_NUM_THREADS=1 python scripts/penalties.py precision [--steps 300] [--draws 12] [overrides]

cost       trains the same run with each penalty in turns of a few steps. The clock is the processor's, so that a busy
           machine slows all alike; the ratio to the run without a penalty is the median of the rounds.
precision  trains with the penalty for `--steps` steps in float32, then compares gradients by D's weights on one batch:
           cosine and relative norm against the reference, for `gp` the median over draws of points between images. bf16
           is autocast, which on a CPU computes the same where no processor is quick at it.

The networks are those of the default run with 64 channels, and with no norm and SiLU in D, as finite differences need a
smooth D. The overrides model.discriminator.activation=leaky_relu 'force=[C58]' measure leaky ReLU.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from statistics import median

import torch
from torch import Tensor

from ganrun.config.build import Run, build
from ganrun.config.compose import compose
from ganrun.core.context import Context
from ganrun.core.pair import Pair
from ganrun.core.seeding import reseed
from ganrun.machine import device_name
from ganrun.run.turns import ENDLESS, Turns
from ganrun.tricks.penalties import GradientPenalty
from ganrun.tricks.slopes import AlongGradient, Directional, Exact, FiniteDifference

SMOOTH = ["model.discriminator.norm=none", "model.discriminator.activation=silu"]
BASE = ["metrics=none", "diagnosis=none", f"steps={ENDLESS}", *SMOOTH]
WIDTH = [f"model.{net}.width=64" for net in ("generator", "discriminator")]
METHODS = ("directional", "finite_difference")
SIDES = {
    "no penalty": ["tricks=[ema]"],
    "r1": ["tricks=[ema,r1]"],
    **{f"r1, {method}": ["tricks=[ema,r1]", f"tricks.r1.method={method}"] for method in METHODS},
    "r1 and r2": ["tricks=[ema,r1,r2]"],
    **{
        f"r1 and r2, {method}": ["tricks=[ema,r1,r2]", *(f"tricks.{name}.method={method}" for name in ("r1", "r2"))]
        for method in METHODS
    },
    "gp": ["tricks=[ema,gp]"],
}


def side(overrides: Sequence[str]) -> Turns:
    """A run that trains in turns."""
    return Turns(build(compose([*BASE, *WIDTH, *overrides])))


def cost(sides: Mapping[str, Turns], *, rounds: int, turn: int) -> dict[str, list[float]]:
    """The seconds of a turn of each side, in each round."""
    spent: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name in list(sides)[:: 1 if number % 2 else -1]:
            seconds = sides[name].work(turn)
            if number:  # the first warms up
                spent[name].append(seconds)
    return spent


def show_cost(overrides: Sequence[str], *, rounds: int, turn: int) -> None:
    """Train each side in turns, and print what its steps cost beside those without a penalty."""
    sides = {name: side([*own, *overrides]) for name, own in SIDES.items()}
    spent = cost(sides, rounds=rounds, turn=turn)
    device = sides["no penalty"].run.device
    print(f"{device_name(device)}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    none = spent["no penalty"]
    for name, seconds in spent.items():
        ratios = [one / other for one, other in zip(seconds, none, strict=True)]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        print(f"| {name} | {median(seconds) / turn * 1000:.3g} ms | {median(ratios):.2f} | {spread} |")


class Batch:
    """One batch of reals and fakes before a trained D, and gradients of penalties on it by D's weights."""

    def __init__(self, run: Run):
        self.pair: Pair = next(iter(run.game.named_pairs().values()))
        batch = run.data.draw(run.game.wanted(run.updates(run.game, 0)[0]))["images"]
        self.real, self.condition = batch.images, batch.condition
        with torch.no_grad():
            noise = torch.randn(len(self.real), run.settings["model"]["generator"]["latent"], device=run.device)
            self.fake = self.pair.generator(noise, self.condition.tensor).float()

    def gradient(self, penalty: Callable[[Context], Tensor], *, draw: int, bf16: bool) -> tuple[float, Tensor]:
        """A penalty and its gradient by D's weights, one vector [P], with the random numbers of this draw."""
        reseed(0, "precision", 0, draw)
        real = self.real.detach().requires_grad_()
        with torch.autocast(real.device.type, torch.bfloat16, bf16):
            on_real = self.pair.judge(real, self.condition)
            value = penalty(Context(
                pair=self.pair, real=real, fake=self.fake, on_real=on_real, on_fake=on_real, condition=self.condition,
            ))  # fmt: skip
        weights = list(self.pair.discriminator.parameters())
        found = torch.autograd.grad(value, weights, allow_unused=True, materialize_grads=True)
        return value.item(), torch.cat([gradient.flatten() for gradient in found])


def between(context: Context) -> Tensor:
    """The penalty of gp with the paper's constants, in the precision that is on around it. []"""
    points = GradientPenalty(weight=10.0, target=1.0, one_sided=False, every=1).points(context)
    points = points.detach().requires_grad_()  # type: ignore[union-attr]
    score = context.pair.judge(points, context.condition).score
    (slope,) = torch.autograd.grad(score.sum(), [points], create_graph=True)
    return 10 * (torch.linalg.vector_norm(slope.float(), dim=(1, 2, 3)) - 1).square().mean()


def alike(one: Tensor, other: Tensor) -> tuple[float, float]:
    """The cosine between two gradients [P], and the length of the first, as a share of the second's."""
    one, other = one.double(), other.double()
    return torch.cosine_similarity(one, other, 0).item(), (one.norm() / other.norm()).item()


def row(name: str, value: float, pairs: Sequence[tuple[float, float]]) -> None:
    cosine, norm = (median(column) for column in zip(*pairs, strict=True))
    print(f"| {name} | {value:.3f} | {cosine:.6f} | {norm:.4f} |", flush=True)


def precision(overrides: Sequence[str], *, steps: int, draws: int) -> None:
    """Print how far rounding moves each penalty's gradient, beside how far another draw does."""
    trained = side(["loss=wasserstein", "tricks=[ema,gp]", "engine.precision=fp32", *overrides])
    trained.train(steps)
    batch = Batch(trained.run)
    exact = [batch.gradient(between, draw=draw, bf16=False) for draw in range(draws)]
    rounded = [batch.gradient(between, draw=draw, bf16=True) for draw in range(draws)]
    print("| gp | value, of float32's | cosine | length |")
    ratio = median(one[0] / other[0] for one, other in zip(rounded, exact, strict=True))
    row("bf16, of the same draw in float32", ratio, [alike(a[1], b[1]) for a, b in zip(rounded, exact, strict=True)])
    others = list(pairwise(exact))
    row(
        "another draw, of a draw in float32",
        median(a[0] / b[0] for a, b in others),
        [alike(a[1], b[1]) for a, b in others],
    )
    differences(batch)


def differences(batch: Batch) -> None:
    """Print R1 without a double backward, at the whole batch and in both precisions, beside the exact one."""

    def of(method: Exact | AlongGradient) -> Callable[[Context], Tensor]:
        def square(context: Context) -> Tensor:
            assert context.on_real is not None
            return method(context, context.real, context.on_real).square

        return square

    value, reference = batch.gradient(of(Exact()), draw=0, bf16=False)
    print("| r1 | value, of the exact one in float32 | cosine | length |")
    methods: dict[str, Exact | AlongGradient] = {"exact": Exact(), "directional": Directional(1.0)}
    methods |= {f"epsilon {epsilon:g}": FiniteDifference(1.0, epsilon) for epsilon in (0.0001, 0.001, 0.01, 0.1, 1.0)}
    for name, method in methods.items():
        for bf16 in (False, True):
            found, gradient = batch.gradient(of(method), draw=0, bf16=bf16)
            row(f"{name}, {'bf16' if bf16 else 'float32'}", found / value, [alike(gradient, reference)])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["cost", "precision"])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--turn", type=int, default=4, help="steps of a side in a round (default 4)")
    parser.add_argument("--steps", type=int, default=300, help="of training before precision is measured (default 300)")
    parser.add_argument("--draws", type=int, default=12)
    parser.add_argument("overrides", nargs="*", help="further overrides of the configuration")
    options = parser.parse_intermixed_args()
    if options.what == "cost":
        show_cost(options.overrides, rounds=options.rounds, turn=options.turn)
    else:
        precision(options.overrides, steps=options.steps, draws=options.draws)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
