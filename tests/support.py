"""Tiny real runs: the shipped configuration composed by Hydra, with networks small enough for a test."""

import os
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from ganrun.config.build import Run, build
from ganrun.config.compose import compose
from ganrun.core.callbacks import Callback
from ganrun.core.context import Batch, DiscriminatorOutput, Metrics, Progress, Role, Update, UpdateResult
from ganrun.core.engine import chain_of
from ganrun.core.errors import ConfigError
from ganrun.core.facts import Fact
from ganrun.core.loss import Loss
from ganrun.core.pair import Pair
from ganrun.core.train import train
from ganrun.core.traits import Traits, facts
from ganrun.core.trick import Trick
from ganrun.losses.targets import NonSaturating

torch.set_num_threads(1)  # tiny networks are slower on several, above all where tests share a machine

CONF = Path(__file__).parents[1] / "conf"
NORMS = ("batch", "layer", "none")
PLAIN = re.compile(r"[\w./]+")  # a name of a metric that shells and `objective=NAME` take, and TensorBoard draws
TINY = (
    "metrics=none",
    "diagnosis=none",
    "batch=4",
    "steps=6",
    "game.grid=4",
    "engine.device=cpu",
    "engine.precision=fp32",
    "engine.workers=0",
)
TEXT = (
    "text.embed=4",
    "text.units=6",
    "generator.noise=8",
    "generator.code=4",
    "generator.width=4",
    "discriminator.width=4",
)
SIZES = {  # networks of the usual shape, small
    "dcgan": ("generator.width=8", "discriminator.width=8", "generator.latent=8"),
    "keep_calm": ("generator.width=8", "discriminator.width=8", "generator.latent=8"),
    "deep_conv": ("generator.width=8", "discriminator.width=4", "generator.latent=8"),
    "stylegan2": ("generator.width=8", "discriminator.width=8", "generator.latent=8"),
    "improved": ("generator.width=4", "discriminator.width=4", "generator.latent=8"),
    "infogan": (
        "generator.width=4",
        "discriminator.width=4",
        "generator.hidden=16",
        "discriminator.hidden=16",
        "generator.latent=8",
    ),
    "mlp": ("generator.hidden=[16]", "discriminator.hidden=[16]", "generator.latent=8"),
    "began": ("generator.width=4", "discriminator.width=4", "generator.latent=8", "discriminator.code=8"),
    "ebgan": ("generator.width=8", "discriminator.width=8", "generator.latent=8"),
    "r3gan": ("generator.width=8", "discriminator.width=8", "generator.latent=8"),
    "progan": ("generator.width=4", "discriminator.width=4", "generator.latent=8"),
    "msggan": ("generator.width=4", "discriminator.width=4", "generator.latent=8"),
    "resnet": ("generator.width=8", "discriminator.width=8", "generator.latent=8"),
    "biggan": ("generator.width=8", "discriminator.width=8", "generator.latent=12", "generator.embed=4"),
    "cgan": ("generator.hidden=[16,16]", "discriminator.hidden=[16,16]", "generator.latent=8"),
    "cdcgan": ("generator.width=8", "discriminator.width=8", "generator.latent=8"),
    "acgan": ("generator.width=8", "discriminator.width=8", "generator.latent=8"),
    "projection": ("generator.width=8", "discriminator.width=8", "generator.latent=8"),
    "stackgan": TEXT,
    "stackgan_stage2": (*TEXT, "generator.residuals=1", "generator.width=8"),  # narrower ones may be dead
    "stackgan_v2": (*TEXT, "scales=2", "generator.residuals=1"),
    "translation": (
        "generator.width=2",
        "generator.halvings=1",
        "generator.blocks=1",
        "discriminator.width=2",
        "discriminator.halvings=1",
    ),
    "pix2pix": (
        "generator.width=2",
        "generator.halvings=4",
        "discriminator.width=2",
        "discriminator.halvings=1",
    ),
}
CAPTIONS = (
    "game=text",
    "dataset=shapes",
    "dataset.size=60",
    "dataset.held_out=0",
    "dataset.resolution=16",
    "dataset.text=words",
)
FIRST = (
    "{_target_: ganrun.models.stackgan.Generator, text: '${model.text}', code: 4, augmentation: none, "
    "noise: '${model.generator.noise}', channels: 3, resolution: 8, width: 2, norm: batch, output: tanh, "
    "init: {kind: normal, scale: 0.02, gain_scale: 0.02}}"
)
MATES = {  # what a model cannot do without
    "stackgan": CAPTIONS,
    "stackgan_stage2": (*CAPTIONS, f"model.generator.first={FIRST}"),  # of a stage I that nobody trained
    "stackgan_v2": ("game=text_pyramid", *CAPTIONS[1:]),
    "began": ("loss=began",),
    "ebgan": ("loss=ebgan",),
    "progan": (
        "game=growing",
        "game.stabilise=0.008",
        "game.fade=0.008",
        "game.repeats=1",
    ),  # two steps
    "msggan": ("game=pyramid",),
    "translation": ("game=cycle", "dataset=digits_to_negatives", "loss=least_squares"),
    "pix2pix": ("game=paired", "dataset=paired_shapes", "dataset.resolution=16", "dataset.input.size=40"),
}
HOMES = ("dcgan", "ebgan")  # models on which losses are tried, in this order
MODELS = {  # of tricks that need what the usual one has not
    "auxiliary_classifier": "acgan",
    "path_length": "stylegan2",
    "style_mixing": "stylegan2",
    "semi_supervised": "improved",
}


EAGER = {  # settings with which a trick acts within a few steps of a tiny run, where its own wait for longer
    "ada": ("tricks.ada.start=0.5",),
    "apa": ("tricks.apa.start=0.5",),
    "checkpoint_swap": ("tricks.checkpoint_swap.interval=2", "tricks.checkpoint_swap.p=0.9"),
    "info_codes": ("model.generator.latent=20",),
    "lookahead": ("tricks.lookahead.steps=2",),
    "replay": ("tricks.replay.size=5",),
    "semi_supervised": ("model.discriminator.classes=10",),
    "self_attention": ("tricks.self_attention.at=8",),
    "throttle": ("tricks.throttle.accuracy=0.0", "tricks.throttle.interval=2"),
    "top_k": ("tricks.top_k.interval=1", "tricks.top_k.decay=0.5"),
    "wgan_warmup": ("updates.head_start_discriminator=3",),
    "wide_filters": ("model.generator.max_width=128", "model.discriminator.max_width=128"),
}


def family(group: str) -> list[str]:
    """The choices of a configuration group, by name."""
    return sorted(path.stem for path in (CONF / group).rglob("*.yaml"))


def nodes(node: Any, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every mapping with a `_target_`, at any depth."""
    if isinstance(node, list):
        node = dict(enumerate(node))
    if isinstance(node, dict):
        if "_target_" in node:
            yield where, node
        for key, value in node.items():
            yield from nodes(value, f"{where}.{key}")


# Composing and building


def composed(*overrides: str) -> DictConfig:
    """The configuration that the command line would compose from these overrides."""
    return deepcopy(_composed(overrides))


@cache
def _composed(overrides: tuple[str, ...]) -> DictConfig:
    os.environ.setdefault("GANRUN_TAG", "test")
    return compose(list(overrides))


def command_of(experiment: str, which: str) -> list[str]:
    """The overrides of the command that an experiment's YAML tells to type, `Here` or of its `Paper`."""
    lines = (CONF / "experiment" / f"{experiment}.yaml").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"# {which}:"))
    return shlex.split(line.split("ganrun ", 1)[1].split("   ")[0])


def tiny(*overrides: str, model: str = "dcgan", tricks: Sequence[str] = ()) -> tuple[str, ...]:
    """Overrides for a run of a second or less. What one of `tricks` sets stays as it sets it."""
    sizes = [f"model.{size}" for size in SIZES.get(model, ())]
    mates = MATES.get(model, ())
    mine = {override.split("=")[0] for override in (*overrides, *mates)} | {
        key for name in tricks for key in sets(name)
    }
    dataset = (
        ()
        if any(key == "dataset" for key in mine)
        else ("dataset=digits", "dataset.held_out=0", "dataset.resolution=16")
    )
    given = {override.split("=")[0] for override in overrides}
    chosen = [o for o in (*TINY, *sizes, *dataset) if o.split("=")[0] not in mine]
    chosen += [mate for mate in mates if mate.split("=")[0] not in given]
    kept = [o for o in overrides if o.split("=")[0] not in {key for name in tricks for key in sets(name)}]
    return (f"model={model}", *chosen, f"tricks=[{','.join(tricks)}]", *kept)


def sets(trick: str) -> list[str]:
    """The keys that a setting-trick of the package sets; none for tricks of code."""
    path = CONF / "tricks" / f"{trick}.yaml"
    node = OmegaConf.load(path) if path.is_file() else OmegaConf.create({})
    return list(OmegaConf.select(node, f"tricks.{trick}.sets") or ())


def built(*overrides: str, model: str = "dcgan", tricks: Sequence[str] = ()) -> Run:
    """A tiny run, built as the command line builds it."""
    return build(composed(*tiny(*overrides, model=model, tricks=tricks)))


def trick_of(run: Run, name: str) -> Any:
    return pair_in(run).tricks[name]


def pair_in(run: Run) -> Pair:
    """The first pair of a run's game; most have only one."""
    return next(iter(run.game.named_pairs().values()))


# Hosts: the checker itself is asked which company a part can keep


@cache
def host(*tricks: str) -> tuple[str, ...] | str:
    """The first loss and norm with which these tricks may play, as overrides; or why the usual ones refuse them."""
    refusals = []
    model = next((MODELS[name] for name in tricks if name in MODELS), "dcgan")
    losses = sorted(family("loss"), key=lambda loss: loss != "nonsaturating")
    for loss in losses:
        for norm in norms(model):
            overrides = tiny(f"loss={loss}", *norm, model=model, tricks=tricks)
            overrides += tuple(override for name in tricks for override in EAGER.get(name, ()))
            try:
                build(composed(*overrides))
                return overrides
            except ConfigError as refusal:
                refusals.append("; ".join(refusal.lines))
    return refusals[0]


def norms(model: str) -> list[list[str]]:
    """The choices of a norm in D, as overrides; only one, of nothing, where there is none to choose."""
    choice = "norm" in OmegaConf.load(CONF / "model" / f"{model}.yaml").discriminator
    return [[f"model.discriminator.norm={norm}"] for norm in NORMS] if choice else [[]]


@cache
def host_of_loss(loss: str) -> tuple[str, ...]:
    """The first trick (or none), model and norm with which this loss may play, as overrides."""
    for tricks in ([], *([name] for name in family("tricks"))):
        for model, norm in product(HOMES, NORMS):
            overrides = tiny(f"loss={loss}", f"model.discriminator.norm={norm}", model=model, tricks=tricks)
            try:
                build(composed(*overrides))
                return overrides
            except ConfigError:
                continue
    raise AssertionError(f"no host for loss={loss}")


# Playing


class Notes(Callback):
    """Keeps every metric of every update."""

    name = "notes"

    def __init__(self) -> None:
        self.rows: list[tuple[int, str, Metrics]] = []

    def after_step(self, now: Progress, results: Sequence[UpdateResult], *, last: bool) -> None:
        for result in results:
            metrics = dict(zip(result.names, result.values.unbind(), strict=True))
            self.rows.append((now.step, result.update.player, metrics))


def mostly_slow(values: Sequence[Any], of: int = 3) -> list[Any]:
    """Every third of these (or one of `of`) for the default suite, all of them for the slow tests."""
    return [
        value if n % of == 0 else pytest.param(*_several(value), marks=pytest.mark.slow)
        for n, value in enumerate(values)
    ]


def _several(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def play(run: Run, first: int, steps: int) -> Notes:
    """Train from step `first` until `steps` are done, by the package's own loop; returns every metric."""
    notes = Notes()
    loop(run, first, steps, notes)
    return notes


def loop(
    run: Run, first: int, steps: int, *callbacks: Callback, interrupted: Callable[[], bool] = lambda: False
) -> int:
    """The package's own loop with these callbacks; returns the step reached."""
    start = progress(run, first)
    return train(game=run.game, engine=run.engine, updates=run.updates, data=run.data, callbacks=callbacks,
                 seed=run.settings["seed"], start=start, steps=steps, interrupted=interrupted).step  # fmt: skip


def progress(run: Run, step: int) -> Progress:
    """How far a run has come that has done these steps."""
    return Progress(step, step * run.game.shape.images)


def update_of(run: Run, player: Role, **more: Any) -> Update:
    """An update of this player, of the run's shapes."""
    return Update(player=player, role=player, shape=run.updates.shape(run.game, player), **more)


def drawn(run: Run, update: Update) -> list[dict[str, Batch]]:
    """What the engine needs for this update: the next batches of the data, for each update of a joint one."""
    return [run.data.draw(run.game.wanted(one)) for one in chain_of(update)]


def nets_of(run: Run) -> dict[str, Tensor]:
    """What a trick is there to change: the networks' weights, and the samples."""
    pair = pair_in(run)
    nets = {"generator": pair.generator, "discriminator": pair.discriminator}
    found = {f"{role}.{name}": p.detach() for role, net in nets.items() for name, p in net.named_parameters()}
    return found | {"samples": samples_of(run)}


def samples_of(run: Run) -> Tensor:
    """The grid of a run, which may draw random numbers: always the same ones, and none of the run's own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return run.game.sample()


def everything(run: Run) -> dict[str, Tensor]:
    """Every tensor of a run: parameters, buffers (persistent or not), optimisers' state, samples."""
    found = {f"parameter {name}": p.detach() for name, p in run.game.named_parameters()}
    found |= {f"buffer {name}": b for name, b in run.game.named_buffers()}
    for player, one in run.engine.players.items():
        for i, kept in one.optimizer.state_dict()["state"].items():
            found |= {f"{player}'s optimiser {i} {key}": torch.as_tensor(value) for key, value in kept.items()}
    return {name: value.clone() for name, value in found.items()} | {"samples": samples_of(run)}


# Networks whose every number is known


class LinearDiscriminator(nn.Module):
    """D(x) = w . x: its slope is |w| everywhere."""

    channels, resolution = 1, 2

    def __init__(self, weight: Sequence[float]):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))

    traits = Traits(provides=facts(Fact.SCORE, Fact.PER_SAMPLE, Fact.FREE_WEIGHTS))

    def forward(self, images: Tensor, labels: Tensor | None = None) -> DiscriminatorOutput:
        return DiscriminatorOutput(images.flatten(1) @ self.weight)


class Bowl(nn.Module):
    """D(x) = |x|^2 / 2: its slope at x is |x|. Keeps what it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.seen: list[Tensor] = []

    def forward(self, images: Tensor, labels: Tensor | None = None) -> DiscriminatorOutput:
        self.seen.append(images.detach().clone())
        return DiscriminatorOutput(self.weight * images.flatten(1).square().sum(1) / 2)


class ScaleGenerator(nn.Module):
    """G(z) = s z, as images of 2x2 pixels."""

    channels, resolution, latent, range = 1, 2, 4, (-1.0, 1.0)
    traits = Traits()

    def __init__(self, scale: float):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        return (self.scale * noise).view(-1, 1, 2, 2)


def pair_of(
    discriminator: nn.Module | None = None,
    loss: Loss | None = None,
    generator: nn.Module | None = None,
    **tricks: Trick,
) -> Pair:
    """A pair of networks whose every number is known."""
    return Pair(
        generator=generator or ScaleGenerator(0.5),
        discriminator=discriminator or LinearDiscriminator([3.0, 0.0, 4.0, 0.0]),
        loss=loss or NonSaturating(),
        tricks=tricks,
    )
