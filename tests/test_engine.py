"""The engine and the loop: gradients of one player, in place; what is logged; when the loop ends."""

import io
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from support import Notes, built, composed, loop, pair_in, play, tiny
from torch import nn

from ganrun.core.callbacks import Callback
from ganrun.core.context import Batches, BatchShape, Fakes, Outcome, Progress, Terms, Update, UpdateResult
from ganrun.core.engine import Eager, Player
from ganrun.core.schedule import Constant
from ganrun.core.seeding import derive, reseed
from ganrun.record.checkpoint import Checkpoints
from ganrun.run.session import Session
from ganrun.run.signals import Signals


def first_updates(run: Any) -> list[Update]:
    return run.updates(run.game, 0)


def test_gradients_of_an_update_are_its_own() -> None:
    """Started from zero: what an earlier update left is gone."""
    found = []
    for stale, keep in ((0.0, False), (1e6, False), (1e6, True)):
        run = built()
        run.engine.keep_addresses = keep
        for player in run.engine.players.values():
            for parameter in player.parameters:
                parameter.grad = torch.full_like(parameter, stale)
            player.collect()
        play(run, 0, 1)
        found.append([g.clone() for p in run.engine.players.values() for g in p.gradients])
    for other in found[1:]:
        assert all(torch.equal(one, two) for one, two in zip(found[0], other, strict=True))


def test_the_terms_of_an_update_add_up() -> None:
    """Weights move by the gradient of the sum, each term is logged by name."""
    run = built("model.discriminator.norm=layer", tricks=["gp"])
    rows = play(run, 0, 1).rows
    metrics = next(metrics for _, player, metrics in rows if player == "discriminator")
    assert {"loss/discriminator/adversarial", "loss/discriminator/gp", "tricks/gp/slope"} <= set(metrics)
    assert all(value.ndim == 0 and not value.requires_grad for value in metrics.values())


class TwoTerms:
    """A game of one network, whose objective has two terms."""

    def __init__(self, net: nn.Linear):
        self.net = net

    def outcome(self, update: Update, batches: Batches, fakes: Mapping[str, Fakes]) -> Outcome:
        terms: Terms = {"one": self.net.weight.sum() * 2, "two": self.net.weight.square().sum()}
        return Outcome(terms=terms, metrics={})


def test_the_gradient_is_that_of_the_sum_of_terms() -> None:
    net = nn.Linear(3, 1, bias=False)
    player = Player({"net": net}, torch.optim.SGD(net.parameters(), lr=0.1), Constant(value=0.1))
    engine = Eager(TwoTerms(net), {"only": player}, device=torch.device("cpu"), autocast=False)  # type: ignore[arg-type]
    outcome = engine.learn(Update(player="only", role="generator", shape=BatchShape(1, 1)), {})
    player.collect()
    torch.testing.assert_close(player.gradients[0], 2 + 2 * net.weight.detach())
    assert list(outcome.terms) == ["one", "two"]


def test_a_parameter_without_a_gradient_gets_zeros_as_if_it_had_one() -> None:
    """Adam updates it all the same, by its momentum: skipping it would depend on what an update happens to use."""
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    net = nn.Module()
    net.register_parameter("used", used)
    net.register_parameter("unused", unused)
    player = Player({"net": net}, torch.optim.Adam(net.parameters(), lr=0.1), Constant(value=0.1))
    (used.sum() + unused.sum()).backward()
    player.collect()
    player.optimizer.step()
    before = unused.detach().clone()
    player.clear(keep_addresses=False)
    used.sum().backward()
    player.collect()
    assert player.gradients[1].eq(0).all()
    player.optimizer.step()
    assert not torch.equal(unused, before)


@pytest.mark.parametrize("player", ["discriminator", "generator"])
def test_every_layers_gradient_norm_is_logged_in_depth_order(player: str) -> None:
    run = built()
    metrics = next(metrics for _, who, metrics in play(run, 0, 1).rows if who == player)
    net = getattr(pair_in(run), player)
    names = [f"gradient/{player}/{name}" for name, _ in net.named_parameters()]
    assert [key for key in metrics if key.startswith("gradient/")] == names
    for name, parameter in net.named_parameters():
        assert metrics[f"gradient/{player}/{name}"].item() == pytest.approx(parameter.grad.norm().item(), rel=1e-5)


def test_layers_gather_their_parameters_in_depth_order() -> None:
    run = built()
    layers = run.engine.players["discriminator"].layers("discriminator")
    names = [name for names in layers.values() for name in names]
    assert names == [f"gradient/discriminator/{n}" for n, _ in pair_in(run).discriminator.named_parameters()]
    bottom, *_, top = layers
    assert bottom.startswith("blocks.0") and top.startswith("head")
    assert all(name.startswith(f"gradient/discriminator/{layer}") for layer, of in layers.items() for name in of)


def test_a_layer_has_the_norm_of_its_reparametrised_weight() -> None:
    """Gain and direction of weight norm, beside the bias: one layer."""
    net = torch.nn.Sequential(torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(2, 2)), torch.nn.Linear(2, 1))
    player = Player({"generator": net}, torch.optim.SGD(net.parameters(), lr=0.1), Constant(value=0.1))
    layers = player.layers("generator")
    assert {layer: len(names) for layer, names in layers.items()} == {"0": 3, "1": 2}


def test_parameters_frozen_on_purpose_stay_frozen() -> None:
    run = built()
    net = pair_in(run).generator
    frozen = next(net.parameters())
    frozen.requires_grad_(False)
    player = Player({"generator": net}, torch.optim.SGD(net.parameters(), lr=0.1), Constant(value=0.1))
    player.learns(True)
    assert not frozen.requires_grad
    assert len(player.parameters) == len(list(net.parameters())) - 1


def test_players_are_open_again_after_every_update_even_one_that_fails() -> None:
    run = built()
    play(run, 0, 2)
    parameters = [p for player in run.engine.players.values() for p in player.parameters]
    assert all(p.requires_grad for p in parameters)
    with pytest.raises(RuntimeError):
        run.engine.run(Update(player="generator", role="generator", shape=BatchShape(-1, 16)), [{}])
    assert all(p.requires_grad for p in parameters)


def test_the_other_player_is_closed_while_one_learns() -> None:
    """So that no time is spent on gradients that nobody reads."""
    run = built("updates.share_fakes=false")
    seen = []
    nets = pair_in(run).discriminator, pair_in(run).generator
    nets[0].register_forward_hook(lambda *_: seen.append(tuple(next(n.parameters()).requires_grad for n in nets)))
    play(run, 0, 1)
    assert seen == [(True, False), (True, False), (False, True)]


def test_scores_and_losses_are_float32_under_bf16() -> None:
    run = built("engine.precision=bf16")
    assert run.engine.autocast
    for _, _, metrics in play(run, 0, 2).rows:
        assert all(value.dtype == torch.float32 for value in metrics.values()), metrics
    assert all(p.dtype == torch.float32 for p in run.game.parameters()) and run.game.sample().dtype == torch.float32


def test_bf16_changes_the_arithmetic_and_not_the_course() -> None:
    losses = []
    for precision in ("fp32", "bf16"):
        rows = play(built(f"engine.precision={precision}"), 0, 3).rows
        losses.append([m[f"loss/{player}/adversarial"].item() for _, player, m in rows])
    assert losses[0] != losses[1] and losses[0] == pytest.approx(losses[1], abs=0.05)


def test_the_learning_rate_of_a_fused_optimiser_is_a_tensor_that_stays_where_it_is() -> None:
    """As a captured update reads it; also after a checkpoint was put back, whose rate is another tensor."""
    run = built("optim.generator.lr={_target_: ganrun.core.schedule.Linear, start: 4.0e-3, end: 0.0, steps: 4}")
    player = run.engine.players["generator"]
    rate = player.optimizer.param_groups[0]["lr"]
    assert isinstance(rate, torch.Tensor) and rate.shape == () and rate.item() == 4e-3
    play(run, 0, 2)
    assert player.optimizer.param_groups[0]["lr"] is rate and rate.item() == pytest.approx(3e-3)
    player.load_optimizer(deepcopy(player.optimizer.state_dict()))
    assert player.optimizer.param_groups[0]["lr"] is rate
    play(run, 3, 4)
    assert rate.item() == pytest.approx(1e-3)
    plain = built("optim=rmsprop").engine.players["generator"].optimizer.param_groups[0]
    assert isinstance(plain["lr"], float), "one that takes a number gets one"


# The loop


class Watching(Notes):
    """Keeps the steps it was called after, and which of them was the last."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[tuple[int, bool]] = []

    def after_step(self, now: Progress, results: Sequence[UpdateResult], *, last: bool) -> None:
        super().after_step(now, results, last=last)
        self.steps.append((now.step, last))


def test_the_loop_stops_when_it_is_asked_to_and_says_where() -> None:
    notes = Watching()
    assert loop(built(), 0, 10, notes, interrupted=lambda: len(notes.steps) == 1) == 2
    assert notes.steps == [(1, False), (2, True)], "the step at which it stops is the last to callbacks too"


def test_an_interruption_is_asked_for_once_a_step() -> None:
    """Or a signal between two questions would end the loop without its last checkpoint."""
    answers = iter([False, False, True])
    notes = Watching()
    assert loop(built(), 0, 10, notes, interrupted=lambda: next(answers)) == 2
    assert notes.steps[-1] == (2, True)


def test_the_loop_counts_steps_from_one_and_the_last_is_the_last() -> None:
    notes = Watching()
    assert loop(built(), 4, 5, notes) == 5
    assert {step for step, _, _ in notes.rows} == {5} and notes.steps == [(5, True)]


def test_a_run_that_is_done_trains_no_more() -> None:
    notes = Notes()
    assert loop(built(), 6, 6, notes) == 6 and notes.rows == []


def test_progress_counts_images() -> None:
    run, seen = built("batch=4"), []

    class Counting(Callback):
        def after_step(self, now: Progress, results: Sequence[UpdateResult], *, last: bool) -> None:
            seen.append(now)

    loop(run, 0, 2, Counting())
    assert seen == [Progress(1, 4), Progress(2, 8)]


def test_callbacks_see_images_and_scores_of_an_update() -> None:
    """As device tensors without gradients; the means of the scores are those that are logged."""
    run, found = built(), []

    class Seeing(Callback):
        def after_step(self, now: Progress, results: Sequence[UpdateResult], *, last: bool) -> None:
            found.extend(results)

    loop(run, 0, 1, Seeing())
    of_d, of_g = found
    seen = of_d.observed["main"]
    assert seen.real is not None and seen.real_score is not None
    assert seen.fake.shape == seen.real.shape == (4, 1, 16, 16) and seen.fake_score.shape == (4,)
    metrics = dict(zip(of_d.names, of_d.values.tolist(), strict=True))
    assert metrics["score/fake"] == pytest.approx(seen.fake_score.mean().item())
    assert metrics["score/real"] == pytest.approx(seen.real_score.mean().item())
    assert torch.equal(of_g.observed["main"].fake, seen.fake), "the fakes are shared"
    assert of_g.observed["main"].real is None
    assert not any(tensor.requires_grad for tensor in (*seen[:2], of_g.observed["main"].fake_score))


def test_the_same_seed_is_the_same_run_and_another_is_another() -> None:
    ends = []
    for seed in (0, 0, 1):
        run = built(f"seed={seed}")
        play(run, 0, 2)
        ends.append(torch.cat([p.detach().flatten() for p in run.game.parameters()]))
    assert torch.equal(ends[0], ends[1]) and not torch.equal(ends[0], ends[2])


# Watching never changes training


def watched(path: Path, *overrides: str, average: bool = True) -> dict[str, Any]:
    """What the last checkpoint of a whole session holds."""
    tricks = [*["ema"] * average, "noisy_labels", "instance_noise"]  # without ema, samples come from G itself
    cfg = composed(*tiny(*overrides, "steps=5", tricks=tricks))
    console = Console(file=io.StringIO())
    code = Session(signals=Signals(), console=console).start(cfg, path, overrides=list(overrides))
    assert code == 0
    return Checkpoints(path / "checkpoints", keep=2).load()


@pytest.mark.parametrize("average", [True, False])
def test_how_often_one_logs_samples_and_saves_does_not_change_one_bit(tmp_path: Path, average: bool) -> None:
    one, hundred = (tuple(f"log.{what}={n}" for what in ("every", "samples", "checkpoint")) for n in (1, 100))
    often = watched(tmp_path / "often", *one, average=average)
    rarely = watched(tmp_path / "rarely", *hundred, average=average)
    assert len(list((tmp_path / "often" / "samples").glob("step_*.png"))) == 5
    assert len(list((tmp_path / "rarely" / "samples").glob("step_*.png"))) == 1
    for part in ("game", "optimizers"):
        many, few = (dict(leaves(state[part])) for state in (often, rarely))
        assert many.keys() == few.keys() and len(many) > 20
        assert not [key for key in many if not torch.equal(torch.as_tensor(many[key]), torch.as_tensor(few[key]))]
    assert often["step"] == rarely["step"] == 5 and often["seen"] == rarely["seen"]


def test_an_unwatched_loop_ends_where_a_whole_session_does(tmp_path: Path) -> None:
    """The tests here play with a log that writes nothing; that, too, is the same run."""
    kept = watched(tmp_path / "run")["game"]
    run = built("steps=5", tricks=["ema", "noisy_labels", "instance_noise"])
    play(run, 0, 5)
    mine = run.game.state_dict()
    assert kept.keys() == mine.keys() and all(torch.equal(kept[key], mine[key]) for key in mine)


def leaves(node: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """Every tensor and number of a state by the keys that lead to it; names and nothing else are left out."""
    if isinstance(node, dict | list | tuple):
        items = node.items() if isinstance(node, dict) else enumerate(node)
        for key, value in items:
            yield from leaves(value, f"{where}.{key}")
    elif isinstance(node, torch.Tensor | int | float):
        yield where, node


def test_a_reseeded_step_draws_what_torch_draws_from_the_same_seed() -> None:
    reseed(3, "train", step=7)
    found = torch.randn(5)
    torch.manual_seed(derive(3, "train", step=7))
    assert torch.equal(found, torch.randn(5))
