#!/usr/bin/env python3
"""Images per second of ganrun's own loop, beside two hand-written loops on the same networks and data.

bare   the same arithmetic and precision by hand, data on the device, nothing logged: what is left to gain.
usual  the arithmetic of pytorch/examples' DCGAN: fp32, NCHW, default Adam, a DataLoader with two workers, numbers read
       at every step, D's gradients computed in G's update; in a process of its own, so the allocator is as usual too.

The loops take turns; each round gives one ratio, and their medians count. Ratios hold on a busy machine, speeds do not.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from copy import deepcopy
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor, nn

from ganrun.config.build import Run, build
from ganrun.config.compose import compose
from ganrun.config.instantiate import Maker
from ganrun.core.context import Progress
from ganrun.machine import device_name, find_device, keep_big_blocks
from ganrun.record.checkpoint import Checkpoints
from ganrun.record.folder import RunFolder
from ganrun.record.progress import Display
from ganrun.record.recorder import Recorder
from ganrun.run.callbacks import Checkpointing, Grids, Record
from ganrun.run.turns import ENDLESS, Turns, wait

Loop = Callable[[int], None]  # trains this number of steps
TARGETS = {"bare": 0.97, "usual": 2.0}
WARM_UP = 10  # steps before the clock counts
TURN = 5  # steps of a loop before the next one's turn


class Ours:
    """ganrun's loop with everything that it logs, saves and shows by default; the display goes nowhere."""

    def __init__(self, run: Run, folder: RunFolder, stack: ExitStack):
        self.run = run
        log = run.settings["log"]
        layers = {name: player.layers(name) for name, player in run.engine.players.items()}
        recorder = stack.enter_context(closing(Recorder(folder, every=log["every"], layers=layers)))
        null = stack.enter_context(Path(os.devnull).open("w"))  # noqa: SIM115 - the stack closes it
        nowhere = Console(file=null, force_terminal=True)
        display = stack.enter_context(Display(steps=run.settings["steps"], console=nowhere))
        checkpoints = Checkpoints(folder.checkpoints, keep=log["keep"])
        others = [Record(run, recorder, display, Progress()), Grids(run, folder, recorder)]
        callbacks = [*others, Checkpointing(run, checkpoints, recorder, others)]
        self.turns = Turns(run, callbacks)

    def __call__(self, steps: int) -> None:
        self.turns.train(steps)


class Bare:
    """The same arithmetic in the fewest lines: nothing is logged, nothing is saved."""

    def __init__(self, run: Run):
        pair = next(iter(run.game.named_pairs().values()))
        self.generator, self.discriminator = pair.generator, pair.discriminator
        self.latent = int(run.settings["model"]["generator"]["latent"])
        self.average = deepcopy(self.generator).requires_grad_(False)
        settings = run.settings["optim"]
        self.optimizers = {
            player: torch.optim.Adam(net.parameters(), settings[player]["lr"], settings[player]["betas"], fused=True)
            for player, net in (("generator", self.generator), ("discriminator", self.discriminator))
        }
        self.images = run.source.dataset.bulk()[0].permute(0, 2, 3, 1).contiguous().to(run.device)  # [N, H, W, C] uint8
        self.batch, self.device, self.autocast = run.settings["batch"], run.device, run.engine.autocast
        self.one, self.zero = torch.ones(self.batch, device=run.device), torch.zeros(self.batch, device=run.device)
        self.weights = run.settings["tricks"]["ema"]
        self.done = 0
        self.batches = self._batches()

    def __call__(self, steps: int) -> None:
        for _ in range(steps):
            self.step(next(self.batches))

    def _batches(self) -> Iterator[Tensor]:
        while True:
            order = torch.randperm(len(self.images), device=self.device)
            for rows in order.split(self.batch):
                if len(rows) == self.batch:
                    yield self.images[rows].permute(0, 3, 1, 2).to(torch.float32).div_(127.5).sub_(1)

    def step(self, real: Tensor) -> None:
        """An update of D, then one of G on the same fakes; then G's average."""
        judge, loss = self.discriminator, F.binary_cross_entropy_with_logits
        self.optimizers["discriminator"].zero_grad()
        with torch.autocast(self.device.type, torch.bfloat16, self.autocast):
            fake = self.generator(torch.randn(self.batch, self.latent, device=self.device)).float()
            on_real, on_fake = judge(real).score.float(), judge(fake.detach()).score.float()
        (loss(on_real, self.one) + loss(on_fake, self.zero)).backward()
        self.optimizers["discriminator"].step()
        self.optimizers["generator"].zero_grad()
        judge.requires_grad_(False)
        with torch.autocast(self.device.type, torch.bfloat16, self.autocast):
            on_fake = judge(fake).score.float()
        loss(on_fake, self.one).backward()
        judge.requires_grad_(True)
        self.optimizers["generator"].step()
        self._average()

    @torch.no_grad()
    def _average(self) -> None:
        weight = 1 - min(self.weights["decay"], (1 + self.done) / (self.weights["warm_up"] + self.done))
        torch._foreach_lerp_(list(self.average.parameters()), list(self.generator.parameters()), weight)
        torch._foreach_copy_(list(self.average.buffers()), list(self.generator.buffers()))
        self.done += 1


class Usual:
    """As pytorch/examples/dcgan/main.py does it, on our networks: nothing about it is tuned."""

    def __init__(self, settings: Mapping[str, Any], images: Tensor, device: torch.device):
        make = Maker([])
        self.generator: nn.Module = make(settings["model"]["generator"], "model.generator").to(device)
        self.discriminator: nn.Module = make(settings["model"]["discriminator"], "model.discriminator").to(device)
        self.batch, self.device, self.latent = settings["batch"], device, self.generator.latent
        optim = settings["optim"]
        self.optimizers = {
            player: torch.optim.Adam(net.parameters(), lr=optim[player]["lr"], betas=tuple(optim[player]["betas"]))
            for player, net in (("generator", self.generator), ("discriminator", self.discriminator))
        }
        self.criterion = nn.BCELoss()
        self.loader = self._loader(images)
        self.batches = iter(self.loader)
        self.console = open(os.devnull, "w")  # noqa: SIM115 - open as long as the process lives

    def _loader(self, images: Tensor) -> torch.utils.data.DataLoader:
        data = torch.utils.data.TensorDataset(images.float() / 127.5 - 1)
        # One endless epoch: a short one would count the start of its workers, which a large data set hardly does.
        sampler = torch.utils.data.RandomSampler(data, replacement=True, num_samples=ENDLESS)
        # Workers are forked as usual, though this process was spawned.
        how: dict[str, Any] = {"multiprocessing_context": "fork"} if sys.platform == "linux" else {}
        return torch.utils.data.DataLoader(data, batch_size=self.batch, sampler=sampler, num_workers=2, **how)

    def __call__(self, steps: int) -> None:
        for _ in range(steps):
            self.step(next(self.batches)[0].to(self.device))

    def step(self, real: Tensor) -> None:
        self.discriminator.zero_grad()
        label = torch.full((self.batch,), 1.0, device=self.device)
        answer = self._judge(real)
        loss_real = self.criterion(answer, label)
        loss_real.backward()
        d_x = answer.mean().item()
        fake = self.generator(torch.randn(self.batch, self.latent, device=self.device))
        label.fill_(0.0)
        answer = self._judge(fake.detach())
        loss_fake = self.criterion(answer, label)
        loss_fake.backward()
        d_g_z1 = answer.mean().item()
        loss_d = loss_real + loss_fake
        self.optimizers["discriminator"].step()
        self.generator.zero_grad()
        label.fill_(1.0)
        answer = self._judge(fake)
        loss_g = self.criterion(answer, label)
        loss_g.backward()
        d_g_z2 = answer.mean().item()
        self.optimizers["generator"].step()
        print(f"Loss_D: {loss_d.item():.4f} Loss_G: {loss_g.item():.4f} {d_x:.4f} {d_g_z1:.4f} / {d_g_z2:.4f}",
              file=self.console)  # fmt: skip

    def _judge(self, images: Tensor) -> Tensor:
        return self.discriminator(images).score.sigmoid()


def timed(loop: Loop, steps: int, device: torch.device) -> float:
    """Seconds that this number of steps takes, the device's work included."""
    wait(device)
    start = time.perf_counter()
    loop(steps)
    wait(device)
    return time.perf_counter() - start


def serve(pipe: Connection, settings: Mapping[str, Any], images: Tensor, device: torch.device) -> None:
    """The usual loop in its own process: receives a number of steps, runs them, sends the seconds they took."""
    loop = Usual(settings, images, device)
    pipe.send("ready")
    while (steps := pipe.recv()) > 0:
        pipe.send(timed(loop, steps, device))


@contextmanager
def usual_elsewhere(
    settings: Mapping[str, Any], images: Tensor, device: torch.device
) -> Iterator[Callable[[int], float]]:
    """A function that has the other process run a number of steps, waits for it, and returns the seconds."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(there, settings, images, device))
    process.start()
    there.close()  # so that its end is seen here
    here.recv()  # it has started, and now waits

    def seconds(steps: int) -> float:
        here.send(steps)
        return float(here.recv())

    try:
        yield seconds
    finally:
        if process.is_alive():
            here.send(0)
        process.join()


def measure(
    here: Mapping[str, Callable[[int], float]],
    elsewhere: Mapping[str, Callable[[int], float]],
    *,
    batch: int,
    seconds: float,
    rounds: int,
    multiple: int,
) -> dict[str, list[float]]:
    """Images per second of each loop in each round of about `seconds` a loop.

    The loops of this process take turns every few steps, so that changes of the machine's speed affect both alike. One
    with workers of its own runs a round in one piece: they would fetch ahead while others run.
    """
    turns = {**here, **elsewhere}
    pace = {name: loop(WARM_UP) / WARM_UP for name, loop in turns.items()}
    pace = {name: loop(WARM_UP) / WARM_UP for name, loop in turns.items()}
    steps = max(1, round(seconds / min(pace[name] for name in here) / multiple)) * multiple
    speeds: dict[str, list[float]] = {name: [] for name in turns}
    for number in range(rounds):
        spent = dict.fromkeys(here, 0.0)
        for turn, first in enumerate(range(0, steps, TURN)):
            for name in list(here)[:: 1 if (turn + number) % 2 else -1]:
                spent[name] += here[name](min(TURN, steps - first))
        for name, loop in elsewhere.items():
            spent[name] = loop(max(1, round(seconds / pace[name])))
        for name in turns:
            done = steps if name in here else max(1, round(seconds / pace[name]))
            speeds[name].append(done * batch / spent[name])
    return speeds


def bench(options: argparse.Namespace) -> dict[str, Any]:
    """Build all three, let them take turns, and report."""
    keep_big_blocks()
    overrides = ["model=dcgan", f"batch={options.batch}", f"steps={ENDLESS}"]
    overrides += [f"dataset.resolution={options.resolution}"]
    overrides += [f"model.{net}.width={options.width}" for net in ("generator", "discriminator")]
    overrides += [f"engine.device={options.device}", *options.overrides]
    device = find_device(options.device)
    with ExitStack() as stack:
        ours, other = build(compose(overrides)), build(compose(overrides))
        folder = RunFolder.create(Path(stack.enter_context(tempfile.TemporaryDirectory())) / "run")
        own = Ours(ours, stack.enter_context(closing(folder)), stack)
        bare = Bare(other)
        here = {
            "ganrun": lambda steps: timed(own, steps, device),
            "bare": lambda steps: timed(bare, steps, device),
        }
        elsewhere = {
            "usual": stack.enter_context(usual_elsewhere(ours.settings, ours.source.dataset.bulk()[0], device))
        }
        every = ours.settings["log"]["every"]  # whole periods of writing, so that no round escapes it
        speeds = measure(
            here, elsewhere, batch=options.batch, seconds=options.seconds, rounds=options.rounds, multiple=every
        )
    return report(speeds, device)


def report(speeds: Mapping[str, list[float]], device: torch.device) -> dict[str, Any]:
    pairs = {name: [a / b for a, b in zip(speeds["ganrun"], speeds[name], strict=True)] for name in TARGETS}
    return {
        "images_per_second": {name: {"median": median(some), "rounds": some} for name, some in speeds.items()},
        "ratio": {
            name: {"median": median(some), "rounds": some, "target": TARGETS[name]} for name, some in pairs.items()
        },
        "machine": {
            "device": device_name(device),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }


def show(result: Mapping[str, Any]) -> None:
    machine = result["machine"]
    print(f"{machine['device']}, {machine['threads']} threads, torch {machine['torch']}, Python {machine['python']}")
    for name, found in result["images_per_second"].items():
        print(f"{name:<8}{found['median']:8.0f} images/s   {_spread(found['rounds'], '.0f')}")
    for name, found in result["ratio"].items():
        verdict = "met" if found["median"] >= found["target"] else "MISSED"
        print(f"ganrun / {name:<6}{found['median']:6.3f}   {_spread(found['rounds'], '.3f')}   "
              f"target {found['target']} {verdict}")  # fmt: skip


def _spread(values: list[float], form: str) -> str:
    return f"{min(values):{form}} to {max(values):{form}} in {len(values)} rounds"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--resolution", type=int, default=32)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each loop in each round (default 4)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="print figures for a program")
    parser.add_argument("overrides", nargs="*", help="further overrides of the configuration")
    options = parser.parse_intermixed_args()
    result = bench(options)
    print(json.dumps(result, indent=2)) if options.json else show(result)
    return 0 if all(found["median"] >= found["target"] for found in result["ratio"].values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
