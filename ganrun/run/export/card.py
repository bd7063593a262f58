"""The model card of an exported network: what it is, what it reads and gives, and how it is loaded."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from keyword import iskeyword
from pathlib import Path
from typing import Any

from ganrun.core.trick import Trick
from ganrun.run.export.formats import Format
from ganrun.run.export.network import Port, Subject
from ganrun.version import __version__

COUNT = 16  # images in the example
# Of game.prior: in words, and as expressions of torch and numpy with {n} rows of {z} numbers.
PRIORS: Mapping[str, tuple[str, str, str]] = {
    "normal": ("N(0, 1)", "torch.randn({n}, {z})", 'random.standard_normal(({n}, {z}), "float32")'),
    "uniform": ("U(-1, 1)", "torch.rand({n}, {z}) * 2 - 1", 'random.random(({n}, {z}), "float32") * 2 - 1'),
    "unit_uniform": (
        "U(-1.73, 1.73), of variance 1",
        "(torch.rand({n}, {z}) * 2 - 1) * 3**0.5",
        '(random.random(({n}, {z}), "float32") * 2 - 1) * 3**0.5',
    ),
    "spherical": (
        "uniform on the sphere of radius sqrt({z})",
        "torch.nn.functional.normalize(torch.randn({n}, {z})) * {z}**0.5",
        'random.standard_normal(({n}, {z}), "float32")\n'
        "noise *= {z}**0.5 / numpy.linalg.norm(noise, axis=1, keepdims=True)",
    ),
}
UNKNOWN = ("as game.prior of config.yaml says", *PRIORS["normal"][1:])
CARD = """---
library_name: ganrun
tags: [gan, ganrun, image-generation]
---

# {title}

{what}

| | |
|---|---|
{facts}

config.yaml holds every setting of the run.

## Inputs and outputs

N is any number of images.

| | name | shape | type | values |
|---|---|---|---|---|
{ports}

## How to load it

In this folder, with {needs}:

```python
{code}
```

## What to know

{notes}

## Licence

None has been chosen. Whoever publishes this network chooses one, with the rights in the training data in mind.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where an exported network comes from: its run's settings, the step of its weights, its classes by label."""

    settings: Mapping[str, Any]
    step: int
    classes: Sequence[str]
    plugins: Sequence[str]


def card(subject: Subject, kind: Format, origin: Origin, difference: float) -> str:
    """The text of README.md; `difference` is the largest between the export and the network."""
    settings = origin.settings
    rows = [("input", port) for port in subject.inputs] + [("output", port) for port in subject.outputs]
    notes = [*_notes(subject), f"Loaded again, its outputs differed from the network's by at most {difference:.1g}."]
    return CARD.format(
        title=_line(f"{settings['name']}: {subject.role} of a generative adversarial network"),
        what=_what(subject, origin.step),
        facts="\n".join(f"| {name} | {_line(value)} |" for name, value in _facts(subject, origin)),
        ports="\n".join(f"| {way} | {p.name} | {p.size} | {p.kind} | {values(p, settings)} |" for way, p in rows),
        needs=kind.needs,
        code="\n".join(code(subject, kind, origin)),
        notes="\n".join(f"* {_line(note)}" for note in notes),
    )


def _what(subject: Subject, step: int) -> str:
    words = f"The {subject.role} that ganrun {__version__} trained for {step:,} steps"
    if subject.averaged:
        words += ", with the weights that the run keeps for samples, such as their average over training"
    return f"{words}."


def _facts(subject: Subject, origin: Origin) -> Iterator[tuple[str, str]]:
    settings = origin.settings
    kind, data = type(subject.network.net), settings["dataset"]
    doc = (inspect.getdoc(kind) or "").partition("\n")[0]
    yield "architecture", f"`{kind.__module__}.{kind.__qualname__}`: {doc}"
    yield "parameters", f"{sum(p.numel() for p in subject.network.parameters()):,}"
    path = f", {Path(str(data['path'])).name}" if data.get("path") else ""
    images = (
        f"{data['resolution']}x{data['resolution']} pixels, {data['channels']} channel{'s' * (data['channels'] > 1)}"
    )
    yield "trained on", f"{str(data['_target_']).rpartition('.')[2]}{path}; {images}"
    if origin.classes:
        yield "classes", ", ".join(f"{label}: {name}" for label, name in enumerate(origin.classes))
    yield "steps", f"{origin.step:,}, of {settings['batch']} images each"
    yield "loss", type(subject.pair.loss).__name__
    yield "tricks", ", ".join(settings["tricks"]) or "none"
    yield "pair", subject.pair_name
    yield "ganrun", __version__


def values(port: Port, settings: Mapping[str, Any]) -> str:
    """The values of an input or output in words."""
    if port.name != "noise":
        return port.values
    return _prior(settings)[0].format(z=port.shape[0])


def _prior(settings: Mapping[str, Any]) -> tuple[str, str, str]:
    return PRIORS.get(settings["game"].get("prior", ""), UNKNOWN)


def _notes(subject: Subject) -> Iterator[str]:
    if subject.role == "discriminator":
        yield "It scores in evaluation mode: its norms use the statistics that they have learnt, in training a batch's."
    else:
        yield "It samples in evaluation mode, as ganrun does: its norms use the statistics that they have learnt."
    acting = subject.pair.tricks.at(Trick.latent) if subject.inputs[0].name == "noise" else ()
    for name, _ in acting:
        doc = " ".join((inspect.getdoc(type(subject.pair.tricks[name])) or "").split())
        yield f"The trick {name} changes the noise, and an input must be like what it gives. {doc}"
    yield from dict.fromkeys(
        words for layer in subject.network.modules() if (words := getattr(layer, "when_sampling", ""))
    )


def code(subject: Subject, kind: Format, origin: Origin) -> Iterator[str]:
    """Python that loads the network and calls it, line by line."""
    given = f", plugins={list(origin.plugins)}" if origin.plugins else ""
    yield from (line.replace("{plugins}", given) for line in kind.loading)
    if kind.library == "numpy":
        yield "random = numpy.random.default_rng()"
    for port in subject.inputs:
        yield f"{port.name} = {_drawn(port, kind, origin.settings)}"
    names = [f"{port.name}_" if iskeyword(port.name) else port.name for port in subject.outputs]
    call = kind.calling.format(
        outputs=", ".join(names),
        unpacked=", ".join(names) if names[1:] else f"({names[0]},)",
        inputs=", ".join(port.name for port in subject.inputs),
        named=", ".join(f'"{port.name}": {port.name}' for port in subject.inputs),
    )
    yield f"{call}  # {subject.outputs[0].size.replace('N', str(COUNT), 1)}"


def _drawn(port: Port, kind: Format, settings: Mapping[str, Any]) -> str:
    numpy = kind.library == "numpy"
    if port.kind == "int64":
        size = ", ".join(map(str, (COUNT, *port.shape)))
        of_torch = f"torch.randint({port.below}, ({size}{',' * (not port.shape)}))"
        return f"random.integers({port.below}, size=({size}))" if numpy else of_torch
    if port.name == "noise":
        return _prior(settings)[2 if numpy else 1].format(n=COUNT, z=port.shape[0])
    size = ", ".join(map(str, (COUNT, *port.shape)))
    drawn = f'random.random(({size}), "float32")' if numpy else f"torch.rand({size})"
    return f"{drawn} * 2 - 1  # in place of images of yours"


def _line(text: str) -> str:
    """Text that is one line, and no cell or mark of Markdown."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
