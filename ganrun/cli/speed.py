"""`ganrun speed`: images per second, memory and where a step goes, on this machine. Trains for it and keeps nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import closing

import torch
from omegaconf import DictConfig

from ganrun.cli.lines import ERASE, wrapped
from ganrun.config.build import Run, build
from ganrun.config.validate import value_of
from ganrun.core.errors import ConfigError
from ganrun.machine import device_name, keep_big_blocks, peak_memory
from ganrun.record.progress import duration
from ganrun.run.speed import SECONDS, Speed, measure
from ganrun.run.stages import begin_with_first_stage


def speed(cfg: DictConfig) -> int:
    """Build what this configuration describes, measure it, print the page, and return the exit code.

    Raises ConfigError, and Stopped where a guard of the run ends it.
    """
    if (ranks := value_of(cfg, "engine.ranks")) > 1:
        raise ConfigError("engine.ranks", f"{ranks}, and `ganrun speed` measures one process", "1", "engine.ranks=1")
    keep_big_blocks()
    run = build(cfg)
    with closing(run.data):
        begin_with_first_stage(run)
        try:
            found = measure(run, tell=_show)
        finally:
            _show(None)
    print("\n".join(_page(run, found)))
    return 0


def _show(share: float | None) -> None:
    """How much of the time is over, on a terminal; None removes the line."""
    if sys.stderr.isatty():
        done = "" if share is None else f"ganrun: measuring, {share * SECONDS:.0f} of about {SECONDS:.0f} s"
        print(f"{ERASE}{done}", end="", file=sys.stderr, flush=True)


def _page(run: Run, found: Speed) -> Iterator[str]:
    """The lines of the report."""
    device, steps = run.device, run.settings["steps"]
    where = device_name(device)
    threads = torch.get_num_threads()
    precision = "bf16" if run.engine.autocast else "fp32"
    moment = f", {found.moment}, as at the start of the run" if found.moment else ""
    yield "run"
    yield from wrapped(f"{run.settings['name']}: {found.images} images a batch, {precision}{moment}")
    yield from wrapped(f"{where}, {threads} thread{'s' * (threads > 1)}, torch {torch.__version__}")
    yield "speed"
    yield from wrapped(
        f"{found.images / found.step:,.0f} images/s, {found.step * 1000:,.1f} ms a step: {steps:,} steps take "
        f"{duration(steps * found.step)}, and samples, measures and checkpoints come on top"
    )
    yield "memory"
    of = "by tensors on the GPU" if device.type == "cuda" else "by the whole process"
    yield from wrapped(f"{peak_memory(device) / 2**20:,.0f} MiB at most, {of}")
    yield "where a step goes"
    yield from _rows(found.parts, sum(found.parts.values()))
    if found.terms:
        yield "of which the terms of tricks, by how much shorter a step is without each"
        yield from _rows(found.terms, found.step)


def _rows(parts: Mapping[str, float], whole: float) -> Iterator[str]:
    """A line for each part: its name, its milliseconds, and its share of the whole."""
    width = max(map(len, parts), default=0)
    for name, seconds in parts.items():
        yield f"  {name:<{width}}  {seconds * 1000:9.2f} ms  {seconds / whole:6.1%}"
