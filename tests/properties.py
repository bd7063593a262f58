"""What every part must do, as one check each: on every part that the package ships, and on some broken on purpose."""

import inspect
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from copy import deepcopy
from typing import Any
from unittest.mock import patch

import pytest
import torch
import torch._dynamo
from support import composed, drawn, everything, nets_of, pair_in, play, progress, samples_of, trick_of, update_of
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from ganrun.config.build import Run, build, placed_on
from ganrun.config.instantiate import Maker
from ganrun.config.players import make_players
from ganrun.core.context import Batch, Condition, Progress, Role, UpdateResult
from ganrun.core.engine import Eager
from ganrun.core.schedule import Scheduled
from ganrun.core.trick import Setting, Trick
from ganrun.run.state import restore, state_of


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


def check_resume(overrides: Sequence[str]) -> None:
    """3 steps, saved, loaded into a run built anew, and 3 more are 6 steps, bit for bit."""
    whole, again = build(composed(*overrides)), build(composed(*overrides))
    play(whole, 0, 3)
    saved = round_trip(state_of(whole, progress(whole, 3)))
    play(whole, 3, 6)
    scramble(again)
    assert restore(again, saved, "test") == progress(whole, 3)
    play(again, 3, 6)
    assert not differences(everything(whole), everything(again))


def check_state_is_kept(overrides: Sequence[str]) -> None:
    """Every buffer is in the checkpoint, except numbers that follow the step; every key can be read by a person."""
    game = build(composed(*overrides)).game
    scheduled = {f"{name}.value" for name, module in game.named_modules() if isinstance(module, Scheduled)}
    buffers = {name for name, _ in game.named_buffers()}
    assert buffers - set(game.state_dict()) == scheduled
    places = [
        f"pairs.{name}.{start}"
        for name, pair in game.named_pairs().items()
        for start in ("generator.", "discriminator.", "loss.", *(f"tricks.{trick}." for trick in pair.tricks))
    ]
    grids = ("grid", "grid_labels", "grid_text", "captions", "grid_a", "grid_b", "grid_input", "grid_target")
    assert all(key in grids or key.startswith(tuple(places)) for key in game.state_dict())


def check_changes(overrides: Sequence[str], name: str, patience: int = 20) -> None:
    """The trick changes weights or samples, beyond the random numbers that it draws."""
    run = build(composed(*overrides))
    without, seen = _without(run, overrides, name)
    for step in range(patience):
        play(run, step, step + 1)
        play(without, step, step + 1)
        if differences(seen(run), seen(without)):
            return
    raise AssertionError(f"{name} changes nothing in {patience} steps")


def _without(run: Run, overrides: Sequence[str], name: str) -> tuple[Run, Callable[[Run], dict[str, Tensor]]]:
    """The same run with the trick's effect undone, and what to compare. Code still runs, but nothing comes of it.

    A setting, or what rebuilds the networks, is left out: their weights have other names and shapes, so samples from
    the same noise are compared.
    """
    if isinstance(trick_of(run, name), Setting) or type(trick_of(run, name)).modify is not Trick.modify:
        kept = [other for other in pair_in(run).tricks if other != name]
        chosen = [o for o in overrides if not o.startswith(("tricks=", "+tricks.", f"tricks.{name}."))]
        return _alike(run, build(composed(*chosen, f"tricks=[{','.join(kept)}]"))), _samples
    without = build(composed(*overrides))
    trick = trick_of(without, name)
    for hook in ("latent", "reals", "replay", "view", "targets", "encode", "choose", "sampler"):
        _undo(trick, hook, lambda before, after: before)
    for hook in ("discriminator_term", "generator_term"):
        _undo(trick, hook, lambda before, after: after * 0)
    for hook in ("before", "after"):
        if getattr(type(trick), hook) is not getattr(Trick, hook):
            setattr(trick, hook, lambda pair, player: None)
    if type(trick).begin is not Trick.begin:
        begin = trick.begin
        trick.begin = lambda pair, step: begin(deepcopy(pair), step)  # draws what it draws, moves nothing
    if type(trick).sits_out is not Trick.sits_out:
        trick.sits_out = lambda step, player: False
    return without, nets_of


@torch.no_grad()
def _alike(run: Run, other: Run) -> Run:
    """The other run, with the noise of this one for its samples: what is built before may have drawn more."""
    for name, noise in run.game.named_buffers(recurse=False):
        if name == "grid":
            other.game.get_buffer(name).copy_(noise)
    return other


def _samples(run: Run) -> dict[str, Tensor]:
    return {"samples": samples_of(run)}


def _undo(trick: Any, hook: str, keep: Any) -> None:
    if getattr(type(trick), hook) is not getattr(Trick, hook):
        original = getattr(trick, hook)
        setattr(trick, hook, lambda value: keep(value, original(value)))


def check_no_sync(overrides: Sequence[str]) -> None:
    """No update waits for the device."""
    run = build(composed(*overrides))
    plain = run.engine.run

    def watched(*args: Any) -> list[UpdateResult]:
        with NoHostSync(), NoHostValue():
            return plain(*args)

    run.engine.run = watched  # type: ignore[method-assign]
    rests = any(pair.tricks.at(Trick.sits_out) for pair in run.game.named_pairs().values())
    assert len(play(run, 0, 3).rows) >= (3 if rests else 6)


def check_compiles(overrides: Sequence[str]) -> None:
    """Each player's terms and their gradients are one graph, which torch captures whole; they are what they were."""
    plain, captured = build(composed(*overrides)), build(composed(*overrides))
    assert plain.engine.players.keys() == {"discriminator", "generator"}
    for player in plain.engine.players:
        torch.compiler.reset()
        try:
            found = [terms_of(run, player, capture=run is captured) for run in (plain, captured)]
        except torch._dynamo.exc.Unsupported as error:
            if "requires_grad_" in str(error) and torch.__version__.startswith("2.11."):
                pytest.skip("this PyTorch cannot trace requires_grad_")
            raise
        assert found[0] and not differences(*found)


def terms_of(run: Run, player: Role, *, capture: bool) -> dict[str, Tensor]:
    """Terms and gradients of the first update of this player, with every lazy trick's turn come."""
    run.engine.begin(Progress())
    update = update_of(run, player, due=run.game.due(0))
    (batches,) = drawn(run, update)
    parameters = [p for net in run.game.networks(player).values() for p in net.parameters() if p.requires_grad]

    def objective() -> tuple[dict[str, Tensor], Sequence[Tensor]]:
        outcome = run.game.outcome(update, batches, {})
        slopes = torch.autograd.grad(sum(outcome.terms.values()), parameters, materialize_grads=True)
        return {name: value.detach() for name, value in {**outcome.terms, **outcome.metrics}.items()}, slopes

    torch.manual_seed(0)
    with torch._dynamo.config.patch(trace_autograd_ops=True):
        named, slopes = (torch.compile(objective, backend="eager", fullgraph=True) if capture else objective)()
    return named | {f"slope {i}": slope for i, slope in enumerate(slopes)}


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


META = torch.device(
    "meta"
)  # its tensors have shapes and no values: what mixes devices, or reads one, fails as on a GPU


class NoAutocast(nullcontext):
    """In place of torch.autocast, which does not know the meta device."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()


def check_elsewhere(overrides: Sequence[str]) -> None:
    """One update of each player runs where nothing but the game, the optimisers and the batches have been moved to."""
    run = build(composed(*overrides))
    run.engine.begin(Progress())  # between updates the host may read: `throttle` does
    updates = [update_of(run, player, due=run.game.due(0)) for player in run.game.players]
    batches = [[{name: _elsewhere(batch) for name, batch in one.items()} for one in drawn(run, u)] for u in updates]
    placed_on(run.game, META)
    optim = {
        name: _unfused(node) if isinstance(node, dict) and "lr" in node else node
        for name, node in run.settings["optim"].items()
    }
    players = make_players({**run.settings, "optim": optim}, Maker(run.settings["plugins"]), run.game)
    engine = Eager(run.game, players, device=META, autocast=False)
    with patch.object(torch, "autocast", NoAutocast):
        for update, batch in zip(updates, batches, strict=True):
            (result,) = engine.run(update, batch)
            assert result.values.is_meta and result.names and players[update.player].gradients


def _elsewhere(batch: Batch) -> Batch:
    condition = Condition(*(None if tensor is None else tensor.to(META) for tensor in batch.condition))
    return Batch(batch.images.to(META), condition)


def _unfused(node: dict[str, Any]) -> dict[str, Any]:
    """An optimiser's settings without a fused kernel, of which the meta device has none."""
    knows = "fused" in inspect.signature(Maker().part(node["_target_"], "optim")).parameters
    return {**node, "fused": False} if knows else node


def check_addresses(overrides: Sequence[str]) -> None:
    """Parameters, buffers, gradients and the optimisers' state stay where they are, so an update can be captured."""
    run = build(composed(*overrides))
    run.engine.keep_addresses = True  # as an engine that captures updates has it
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
