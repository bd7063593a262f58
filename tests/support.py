"""Tiny real runs: the shipped configuration composed by Hydra, with networks small enough for a test."""

import io
import os
from collections.abc import Iterator, Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_module
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import ganrun
from ganrun.build import Run, build
from ganrun.core.context import DiscriminatorOutput
from ganrun.core.engine import Measures
from ganrun.core.facts import Fact
from ganrun.core.loss import Loss
from ganrun.core.pair import Pair
from ganrun.core.schedule import Scheduled
from ganrun.core.train import train
from ganrun.core.traits import Traits, facts
from ganrun.core.trick import Setting, Trick
from ganrun.errors import Refused
from ganrun.losses.targets import NonSaturating
from ganrun.session import restore, state

torch.set_num_threads(1)  # tiny networks are slower on several, above all where tests share a machine

CONF = Path(ganrun.__file__).parent / "conf"
NORMS = ("batch", "layer", "none")
TINY = ("batch=4", "steps=6", "game.grid=4", "engine.device=cpu", "engine.precision=fp32", "engine.workers=0")
SIZES = {  # networks of the usual shape, small
    "dcgan": ("generator.width=8", "discriminator.width=8", "generator.latent=8"),
    "tips": ("generator.width=8", "discriminator.width=8", "generator.latent=8"),
    "mlp": ("generator.hidden=[16]", "discriminator.hidden=[16]", "generator.latent=8"),
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
    with initialize_config_module("ganrun.conf", version_base="1.3"):
        return compose("config", list(overrides))


def tiny(*overrides: str, model: str = "dcgan", tricks: Sequence[str] = ()) -> tuple[str, ...]:
    """Overrides for a run of a second or less. What one of `tricks` sets stays as it sets it."""
    sizes = [f"model.{size}" for size in SIZES.get(model, ())]
    mine = {override.split("=")[0] for override in overrides} | {key for name in tricks for key in sets(name)}
    dataset = () if any(key == "dataset" for key in mine) else ("dataset=digits", "dataset.resolution=16")
    chosen = [o for o in (*TINY, *sizes, *dataset) if o.split("=")[0] not in mine]
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
    return run.game.pairs["main"].tricks[name]  # type: ignore[union-attr, index]


def pair_in(run: Run) -> Pair:
    pair = run.game.pairs["main"]
    assert isinstance(pair, Pair)
    return pair


# Hosts: the checker itself is asked which company a part can keep


@cache
def host(*tricks: str) -> tuple[str, ...] | str:
    """The first loss and norm with which these tricks may play, as overrides; or why the usual ones refuse them."""
    refusals = []
    losses = sorted(family("loss"), key=lambda loss: loss != "nonsaturating")
    for loss in losses:
        for norm in NORMS:
            overrides = tiny(f"loss={loss}", f"model.discriminator.norm={norm}", tricks=tricks)
            try:
                build(composed(*overrides))
                return overrides
            except Refused as refusal:
                refusals.append("; ".join(refusal.lines))
    return refusals[0]


@cache
def host_of_loss(loss: str) -> tuple[str, ...]:
    """The first trick (or none) and norm with which this loss may play, as overrides."""
    for tricks in ([], *([name] for name in family("tricks"))):
        for norm in NORMS:
            overrides = tiny(f"loss={loss}", f"model.discriminator.norm={norm}", tricks=tricks)
            try:
                build(composed(*overrides))
                return overrides
            except Refused:
                continue
    raise AssertionError(f"no host for loss={loss}")


# Playing


class Notes:
    """A log that keeps every measure, and a saver that saves nothing."""

    interrupted = False

    def __init__(self) -> None:
        self.rows: list[tuple[int, str, Measures]] = []

    def add(self, step: int, player: str, measures: Measures) -> None:
        kept = {name: value.clone() for name, value in measures.items()}  # gauges are buffers, which move on
        self.rows.append((step, player, kept))

    def due(self, step: int) -> bool:
        return False

    def flush(self, step: int) -> dict[str, float]:
        return {}

    def after(self, step: int) -> None: ...


def play(run: Run, first: int, steps: int) -> Notes:
    """Train from step `first` until `steps` are done, by the package's own loop; returns every measure."""
    notes = Notes()
    train(game=run.game, engine=run.engine, updates=run.updates, data=run.source, log=notes, saver=notes,
          seed=run.settings["seed"], first=first, steps=steps)  # fmt: skip
    return notes


def nets_of(run: Run) -> dict[str, Tensor]:
    """What a trick is there to change: the networks' weights, and the samples."""
    pair = pair_in(run)
    nets = {"generator": pair.generator, "discriminator": pair.discriminator}
    found = {f"{role}.{name}": p.detach() for role, net in nets.items() for name, p in net.named_parameters()}
    return found | {"samples": run.game.sample()}


def everything(run: Run) -> dict[str, Tensor]:
    """Every tensor of a run: parameters, buffers (persistent or not), optimisers' state, samples."""
    found = {f"parameter {name}": p.detach() for name, p in run.game.named_parameters()}
    found |= {f"buffer {name}": b for name, b in run.game.named_buffers()}
    for player, one in run.engine.players.items():
        for i, kept in one.optimizer.state_dict()["state"].items():
            found |= {f"{player}'s optimiser {i} {key}": torch.as_tensor(value) for key, value in kept.items()}
    return {name: value.clone() for name, value in found.items()} | {"samples": run.game.sample()}


def differences(one: dict[str, Tensor], other: dict[str, Tensor]) -> list[str]:
    """Names of the tensors that are not the same bit for bit."""
    missing = [*(one.keys() ^ other.keys())]
    return missing + [name for name in one.keys() & other.keys() if not torch.equal(one[name], other[name])]


def round_trip(saved: dict[str, Any]) -> dict[str, Any]:
    """Through a file's bytes, as a checkpoint goes."""
    buffer = io.BytesIO()
    torch.save(saved, buffer)
    return torch.load(io.BytesIO(buffer.getvalue()), weights_only=True)


@torch.no_grad()
def scramble(run: Run) -> None:
    """Spoil all that a checkpoint must bring back, so that nothing is right by having been built alike."""
    scheduled = {id(module.value) for module in run.game.modules() if isinstance(module, Scheduled)}
    for tensor in (*run.game.parameters(), *run.game.buffers()):
        if id(tensor) not in scheduled:
            tensor.copy_(torch.rand_like(tensor.float()) * 7 + 1)


# What every part must pass. Each is used on every part that the package ships, and on parts that are broken on purpose


def check_resume(overrides: Sequence[str]) -> None:
    """3 steps, saved, loaded into a run built anew, and 3 more are 6 steps, bit for bit."""
    whole, again = build(composed(*overrides)), build(composed(*overrides))
    play(whole, 0, 3)
    saved = round_trip(state(whole, 3))
    play(whole, 3, 6)
    scramble(again)
    assert restore(again, saved, "test") == 3
    play(again, 3, 6)
    assert not differences(everything(whole), everything(again))


def check_state_is_kept(overrides: Sequence[str]) -> None:
    """Every buffer is in the checkpoint, except numbers that follow the step; every key can be read by a person."""
    game = build(composed(*overrides)).game
    scheduled = {f"{name}.value" for name, module in game.named_modules() if isinstance(module, Scheduled)}
    buffers = {name for name, _ in game.named_buffers()}
    assert buffers - set(game.state_dict()) == scheduled
    starts = ("generator.", "discriminator.", "loss.", *(f"tricks.{name}." for name in game.pairs["main"].tricks))  # type: ignore[union-attr]
    assert all(key == "grid" or key.startswith(tuple(f"pairs.main.{s}" for s in starts)) for key in game.state_dict())


def check_changes(overrides: Sequence[str], name: str, patience: int = 20) -> None:
    """The trick changes weights or samples, beyond the random numbers that it draws."""
    run, without = build(composed(*overrides)), _without(overrides, name)
    for step in range(patience):
        play(run, step, step + 1)
        play(without, step, step + 1)
        if differences(nets_of(run), nets_of(without)):
            return
    raise AssertionError(f"{name} changes nothing in {patience} steps")


def _without(overrides: Sequence[str], name: str) -> Run:
    """The same run with the trick's effect undone. A setting is left out; code still runs, but nothing comes of it."""
    run = build(composed(*overrides))
    trick = trick_of(run, name)
    if isinstance(trick, Setting):
        kept = [other for other in pair_in(run).tricks if other != name]
        chosen = [o for o in overrides if not o.startswith(("tricks=", "+tricks."))]
        return build(composed(*chosen, f"tricks=[{','.join(kept)}]"))
    for seam in ("latent", "replay", "view", "targets", "encode", "sampler"):
        _undo(trick, seam, lambda before, after: before)
    for seam in ("discriminator_term", "generator_term"):
        _undo(trick, seam, lambda before, after: after * 0)
    if type(trick).after is not Trick.after:
        trick.after = lambda pair, player: None
    return run


def _undo(trick: Any, seam: str, keep: Any) -> None:
    if getattr(type(trick), seam) is not getattr(Trick, seam):
        original = getattr(trick, seam)
        setattr(trick, seam, lambda value: keep(value, original(value)))


def check_no_sync(overrides: Sequence[str]) -> None:
    """No update waits for the device."""
    run = build(composed(*overrides))
    plain = run.engine.run

    def watched(*args: Any) -> Measures:
        with NoHostSync(), NoHostValue():
            return plain(*args)

    run.engine.run = watched  # type: ignore[method-assign]
    assert len(play(run, 0, 3).rows) >= 6


SYNCS = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "item", "_unique2", "bincount"}
VALUES = {"item", "tolist", "numpy", "cpu", "__bool__", "__float__", "__int__", "__index__", "__array__"}


class NoHostSync(TorchDispatchMode):
    """Refuses operators whose result the host needs before it can go on."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        assert name not in SYNCS, f"{func} waits for the device"
        if name in ("index", "index_put", "index_put_", "_index_put_impl_"):
            masks = [index for index in args[1] if index is not None and index.dtype in (torch.bool, torch.uint8)]
            assert not masks, f"{func} with a mask waits for the device"
        return func(*args, **(kwargs or {}))


class NoHostValue(TorchFunctionMode):
    """Refuses methods that turn a tensor into numbers of the host, some of which call no operator on a CPU."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        assert name not in VALUES, f"{name} waits for the device"
        return func(*args, **(kwargs or {}))


def check_addresses(overrides: Sequence[str]) -> None:
    """Parameters, buffers, gradients and the optimisers' state stay where they are, so an update can be captured."""
    run = build(composed(*overrides))
    play(run, 0, 1)
    before = dict(_addresses(run))
    play(run, 1, 4)
    moved = [name for name, address in _addresses(run) if before.get(name) != address]
    assert not moved


def _addresses(run: Run) -> Iterator[tuple[str, int]]:
    for name, parameter in run.game.named_parameters():
        yield name, parameter.data_ptr()
        if parameter.grad is not None:
            yield f"gradient of {name}", parameter.grad.data_ptr()
    for name, buffer in run.game.named_buffers():
        yield name, buffer.data_ptr()
    for player, one in run.engine.players.items():
        for i, kept in enumerate(one.optimizer.state.values()):
            yield from ((f"{player} {i} {key}", value.data_ptr()) for key, value in kept.items() if key != "step")


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
