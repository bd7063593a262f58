"""`ganrun export`: a folder with one network of a run, its configuration and its model card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ganrun.core.context import Role
from ganrun.core.errors import ConfigError
from ganrun.record.atomic import write_atomically
from ganrun.record.new_folder import free_folder, new_folder
from ganrun.record.stored import record
from ganrun.run.export.card import Origin, card
from ganrun.run.export.formats import FORMATS, SAFE, Called
from ganrun.run.export.network import Subject, run_seeded, subject_of
from ganrun.run.load import Which, load
from ganrun.version import __version__

TOLERANCE = 1e-4  # of an output, or of the largest where that is above 1
BATCHES = (1, 3, 8)  # numbers of images that a file is checked with


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """What was exported: the file, the step of its weights, and how far it is from the network."""

    file: Path
    step: int
    averaged: bool
    parameters: int
    images: int  # with which it was checked
    difference: float  # the largest, of one output


def export(
    path: str | Path,
    *,
    form: str,
    out: str,
    network: Role = "generator",
    pair: str = "",
    plugins: Sequence[str] = (),
    checkpoint: Which = "last",
) -> Export:
    """Write a network of the run in this folder into a new folder `out`; returns what was written.

    `form` is safetensors, onnx or torch_export. What was written is loaded again and compared with the network on fresh
    noise. Raises ConfigError for a run, a folder or a network with which that cannot be done, and for a file that gives
    something else than the network; EnvironmentFailed when the machine fails. Nothing half-written stays.
    """
    kind = FORMATS[form]
    kind.check_installed(form)
    target = free_folder("out", out)
    with torch.random.fork_rng(devices=[]):
        run = load(path, plugins=plugins, device="cpu", checkpoint=checkpoint)
        subject = subject_of(run.game, run.settings, network, pair)
        check_drawing(subject, form)
        about = {"ganrun": __version__, "network": network, "pair": subject.pair_name, "step": str(run.step)}
        data = kind.data(subject, about)
        with new_folder(target) as folder:
            write_atomically(folder / "config.yaml", (run.path / "config.yaml").read_bytes())
            write_atomically(folder / kind.file, data)
            difference = compared(subject, kind.opened(folder, plugins), str(target / kind.file))
            names = list((record(run.path / "environment.json") or {}).get("classes") or ())
            origin = Origin(settings=run.settings, step=run.step, classes=names, plugins=plugins)
            write_atomically(folder / "README.md", card(subject, kind, origin, difference))
    return Export(
        file=target / kind.file,
        step=run.step,
        averaged=subject.averaged,
        parameters=sum(p.numel() for p in subject.network.parameters()),
        images=sum(BATCHES),
        difference=difference,
    )


def check_drawing(subject: Subject, form: str) -> None:
    """Raises ConfigError for a network that draws random numbers in a format that cannot draw the same ones."""
    if not FORMATS[form].replays and subject.draws_at_sampling():
        found = f"this {subject.role} draws random numbers at every call, and {form} draws others than torch"
        raise ConfigError("format", found, "a network that can be compared", SAFE)


@torch.no_grad()
def compared(subject: Subject, opened: Called, where: str) -> float:
    """The largest difference between what was opened again and the run's own network, on fresh inputs.

    Raises ConfigError when it is above `TOLERANCE`.
    """
    largest = 0.0
    for seed, count in enumerate(BATCHES):
        given = subject.draw(count)
        ours, theirs = run_seeded(subject.original, given, seed), run_seeded(opened, given, seed)
        for port, one, other in zip(subject.outputs, ours, theirs, strict=True):
            if one.shape != other.shape:
                found = f"{port.name} of {list(other.shape)}, where the network gives {list(one.shape)}"
                raise ConfigError(where, found, "the same", SAFE)
            gap = float((one - other).abs().max())
            allowed = TOLERANCE * max(1.0, float(one.abs().max()))
            if not gap <= allowed:
                found = f"its {port.name} differ from the network's by {gap:.2g}, of {count} images"
                raise ConfigError(where, found, f"at most {allowed:.2g}", SAFE)
            largest = max(largest, gap)
    return largest
