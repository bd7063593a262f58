"""Which player is updated when, against which weights, at which rate; and when a run stops. Counted step by step."""

import io
import math
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from support import loop, progress
from torch import Tensor, nn

from ganrun.config.build import Run, build
from ganrun.config.compose import compose
from ganrun.core.callbacks import Callback
from ganrun.core.context import Batches, Context, DiscriminatorOutput, Progress, Update, UpdateResult
from ganrun.core.engine import chain_of
from ganrun.core.errors import ConfigError
from ganrun.core.loss import Loss
from ganrun.core.pair import Pair
from ganrun.core.schedule import Constant
from ganrun.core.trick import Trick
from ganrun.games.latent import PRIORS
from ganrun.losses.margins import Hinge
from ganrun.losses.targets import LeastSquares, NonSaturating
from ganrun.run.state import restore, state_of
from ganrun.tricks.balance import CheckpointSwap, Throttle
from ganrun.tricks.labels import Flip

TINY = [
    *("dataset.resolution=16", "batch=4", "steps=6", "game.grid=4", "engine.device=cpu", "engine.precision=fp32"),
    *("model.generator.width=4", "model.discriminator.width=4", "model.generator.latent=8"),
]


@pytest.fixture(autouse=True)
def _one_seed_and_one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def built(*overrides: str) -> Any:
    return build(compose([*TINY, *overrides]))


class Log(Callback):
    """Keeps which player was updated in which step; lets tricks watch every `every` steps, as Record does."""

    name = "log"

    def __init__(self, run: Run, every: int):
        self.updated: list[tuple[int, str]] = []  # step from 0, player; both updates of a joint one
        self.run, self.every = run, every

    def after_step(self, now: Progress, results: Sequence[UpdateResult], *, last: bool) -> None:
        self.updated += [(now.step - 1, result.update.player) for result in results]
        if now.step % self.every == 0:
            self.run.game.watch(now.step, {})


def play(run: Run, first: int, steps: int, every: int = 10**9) -> Log:
    log = Log(run, every)
    loop(run, first, steps, log)
    return log


def trick_of(run: Any, name: str) -> Any:
    return run.game.pairs["main"].tricks[name]


def everything(run: Run) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in run.game.state_dict().items() if isinstance(value, Tensor)}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


class Score(nn.Module):
    """D(x) = x's only pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, images: Tensor, labels: Tensor | None = None) -> DiscriminatorOutput:
        return DiscriminatorOutput(images.flatten(1)[:, 0] * self.weight)


def pair_of(loss: Loss | None = None, **tricks: Trick) -> Pair:
    return Pair(generator=nn.Identity(), discriminator=Score(), loss=loss or NonSaturating(), tricks=tricks)


def shown(pair: Pair, real: list[float], fake: list[float]) -> None:
    """What an update of D shows its tricks: the scores of reals and fakes."""
    one, other = torch.tensor(real), torch.tensor(fake)
    context = Context(
        pair=pair, real=one, fake=other, on_real=DiscriminatorOutput(one), on_fake=DiscriminatorOutput(other)
    )
    pair.tricks.each(Trick.observe, context)


# Settings


def test_the_warm_up_of_wgan() -> None:
    """100 updates of the critic in each of the first 25 steps and in every 500th, else 5. One of G always."""
    run = built("tricks=[wgan_warmup]")
    counts = {}
    for step in (0, 1, 24, 25, 26, 499, 500, 501, 1000):
        players = [one.player for update in run.updates(run.game, step) for one in chain_of(update)]
        assert players[-1] == "generator" and players.count("generator") == 1
        counts[step] = players.count("discriminator")
    assert counts == {0: 100, 1: 100, 24: 100, 25: 5, 26: 5, 499: 5, 500: 100, 501: 5, 1000: 100}


def test_rates_fall_in_a_straight_line_to_0_over_the_run() -> None:
    run = built("tricks=[lr_decay,ttur]", "steps=80", "optim.decay.delay=20")
    for player, rate in (("generator", 1e-4), ("discriminator", 4e-4)):
        found = [run.engine.players[player].rate(step) / rate for step in (0, 20, 60, 100, 10**6)]
        assert found == [pytest.approx(x, abs=1e-12) for x in (1, 1, 0.5, 0, 0)]
    run.engine.begin(Progress(60))
    assert run.engine.players["generator"].optimizer.param_groups[0]["lr"] == pytest.approx(5e-5)
    assert built("tricks=[lr_decay]", "steps=123").settings["optim"]["decay"]["steps"] == 123


@pytest.mark.parametrize("tricks", ["sgd_discriminator", "ema,sgd_discriminator,lr_decay"])
def test_sgd_for_d_and_adam_for_g(tricks: str) -> None:
    players = built(f"tricks=[{tricks}]").engine.players
    assert type(players["discriminator"].optimizer) is torch.optim.SGD
    assert type(players["generator"].optimizer) is torch.optim.Adam
    assert players["discriminator"].rate(0) == pytest.approx(1e-2)
    assert type(built("tricks=[ema]").engine.players["discriminator"].optimizer) is torch.optim.Adam


def test_sgd_that_another_choice_undoes_is_refused_and_so_is_adams_rate() -> None:
    with pytest.raises(ConfigError, match=r"RMSprop.*leaving optim"):
        built("tricks=[sgd_discriminator]", "optim=rmsprop")
    with pytest.raises(ConfigError, match=r"sgd_discriminator and tricks\.ttur: each sets optim\.discriminator\.lr"):
        built("tricks=[sgd_discriminator,ttur]")
    assert (
        built("tricks=[sgd_discriminator]", "optim.discriminator.lr=0.5").engine.players["discriminator"].rate(0) == 0.5
    )


def test_noise_on_a_sphere() -> None:
    """|z| is the root of its dimensions exactly; directions are uniform: mean 0, each coordinate of variance 1."""
    noise = PRIORS["spherical"](20_000, 16)
    torch.testing.assert_close(noise.norm(dim=1), torch.full((20_000,), 4.0))
    torch.testing.assert_close(noise.T @ noise / 20_000, torch.eye(16), atol=0.05, rtol=0)
    assert noise.mean(0).abs().max() < 0.05
    fourth = noise[:, 0].pow(4).mean().item()  # E x^4 = 3 d^2 / (d (d + 2)) on a sphere of radius sqrt d
    assert fourth == pytest.approx(3 * 16 / 18, rel=0.05)


def test_the_settings_of_the_latent_choose_its_prior() -> None:
    grid = built("tricks=[spherical_latent]").game.grid
    assert isinstance(grid, Tensor)
    torch.testing.assert_close(grid.norm(dim=1), torch.full((4,), math.sqrt(8)))
    uniform = built("tricks=[uniform_latent]", "game.grid=500").game.grid
    assert isinstance(uniform, Tensor) and uniform.abs().max() <= 1
    assert uniform.var().item() == pytest.approx(1 / 3, rel=0.1)
    with pytest.raises(ConfigError, match=r"game\.prior"):
        built("tricks=[uniform_latent,spherical_latent]")


def test_one_class_only() -> None:
    labels = built("tricks=[one_class]").source.examples(64).labels
    assert labels is not None and set(labels.tolist()) == {0}
    assert len(built("tricks=[one_class]").dataset) < len(built("tricks=[]").dataset) / 8
    with pytest.raises(ConfigError, match="dataset"):
        built("tricks=[one_class]", "dataset.classes=[eleven]")


# Throttle


@pytest.mark.parametrize(
    ("loss", "flip", "sign", "middle"),
    [(NonSaturating, False, 1, 0), (NonSaturating, True, -1, 0), (LeastSquares, False, 1, 0.5), (Hinge, False, 1, 0)],
)
def test_accuracy_by_hand(loss: type, flip: bool, sign: int, middle: float) -> None:
    """3 of 4 reals are taken for real, 1 of 4 fakes for fake: half of all."""
    trick = Throttle(accuracy=0.8, interval=5)
    pair = pair_of(loss(), throttle=trick, **({"flip": Flip()} if flip else {}))
    real, fake = [0.2, 1.0, 3.0, -0.1], [0.3, 0.1, 2.0, -5.0]
    shown(pair, [middle + sign * x for x in real], [middle + sign * x for x in fake])
    assert pair.metrics()["tricks/throttle/accuracy"].item() == pytest.approx(0.5)


@pytest.mark.parametrize(("right", "rests"), [(True, True), (False, False)])
def test_d_rests_for_the_rest_of_an_interval_when_it_wins(right: bool, rests: bool) -> None:
    trick = Throttle(accuracy=0.8, interval=4)
    pair = pair_of(throttle=trick)
    seen = []
    for step in range(12):
        trick.begin(pair, step)
        seen.append(trick.sits_out(step, "discriminator"))
        assert not trick.sits_out(step, "generator")
        shown(pair, [1.0] * 4, [-1.0] * 4 if right else [1.0, 1.0, -1.0, -1.0])
    assert seen == [False, rests, rests, rests] * 3


def test_a_run_rests_and_resumes_within_an_interval() -> None:
    """Accuracy above 0 is certain here; saved while D rests, it rests on."""
    overrides = (
        "tricks=[throttle]",
        "tricks.throttle.accuracy=0.0",
        "tricks.throttle.interval=4",
        "model.discriminator.norm=none",
    )
    whole, again = built(*overrides), built(*overrides)
    assert trick_of(whole, "throttle").accuracy.item() == 0
    log = play(whole, 0, 6)
    d_steps = [step for step, player in log.updated if player == "discriminator"]
    assert d_steps == [0, 4] and len(log.updated) == 8
    play(again, 0, 2)
    saved = io.BytesIO()
    torch.save(state_of(again, progress(again, 2)), saved)
    fresh = built(*overrides)
    restore(fresh, torch.load(io.BytesIO(saved.getvalue()), weights_only=True), "test")
    assert trick_of(fresh, "throttle").rests
    play(fresh, 2, 6)
    assert same(everything(whole), everything(fresh))


def test_logging_changes_nothing() -> None:
    runs = [built("tricks=[throttle]", "tricks.throttle.accuracy=0.4") for _ in range(2)]
    logs = [play(run, 0, 11, every) for run, every in zip(runs, (1, 5), strict=True)]
    assert logs[0].updated == logs[1].updated and same(*map(everything, runs))


@pytest.mark.parametrize("setting", ["accuracy=1.0", "accuracy=-0.1", "interval=1"])
def test_an_impossible_throttle_is_refused(setting: str) -> None:
    with pytest.raises(ConfigError, match=rf"tricks\.throttle\.{setting.split('=')[0]}"):
        built("tricks=[throttle]", f"tricks.throttle.{setting}")


# Past checkpoints


SWAP = ("tricks=[checkpoint_swap]", "tricks.checkpoint_swap.interval=4", "tricks.checkpoint_swap.keep=2")


def weights(net: nn.Module) -> list[Tensor]:
    return [value.detach().clone() for value in (*net.parameters(), *net.buffers())]


def equal(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_copy_replaces_the_player_that_sits_out_and_its_weights_are_restored() -> None:
    """Watched at every update: which player learns, and that the other has a kept copy's weights at the first one."""
    run = built(*SWAP, "tricks.checkpoint_swap.p=0.9", "updates.discriminator=2")
    pair: Any = run.game.pairs["main"]
    kept: list[dict[str, list[Tensor]]] = []  # what each interval began with
    before: dict[str, list[Tensor]] = {}
    seen: list[tuple[int, str, bool]] = []
    plain_begin, plain_run = run.engine.begin, run.engine.run

    def begin(now: Progress) -> None:
        before.update({role: weights(getattr(pair, role)) for role in ("generator", "discriminator")})
        if now.step % 4 == 0:
            kept.append(dict(before))
        plain_begin(now)

    def update(one: Update, batches: Sequence[Batches]) -> list[UpdateResult]:
        other = "generator" if one.player == "discriminator" else "discriminator"
        opponent = weights(getattr(pair, other))
        kept_copy = any(equal(opponent, copies[other]) for copies in kept[-2:])
        past = kept_copy and not equal(opponent, before[other])
        seen.append((len(kept), one.player, past))
        seen.extend((len(kept), later.player, False) for later in [*chain_of(one)][1:])  # of a joint update, unwatched
        results = plain_run(one, batches)
        if past:
            assert equal(weights(getattr(pair, other)), before[other]), "restored"
        return results

    run.engine.begin, run.engine.run = begin, update
    log = play(run, 0, 24)
    alone = {step for step in range(24) if len({player for at, player in log.updated if at == step}) == 1}
    assert not alone & {0, 4, 8, 12, 16, 20}, "steps of copies are ordinary"
    assert len(alone) > 12
    first = {step: log.updated.index((step, player)) for step, player in reversed(log.updated)}
    # In the step after the first copies, and wherever the drawn copy is what the net already is, nothing differs.
    assert sum(seen[first[step]][2] for step in alone) >= len(alone) - 2
    players = {log.updated[first[step]][1] for step in alone}
    assert players == {"generator", "discriminator"}, "either of them is put aside"
    ordinary = [row for row, (step, _) in zip(seen, log.updated, strict=True) if step not in alone]
    assert not any(past for *_, past in ordinary)


def test_copies_are_the_last_of_their_steps() -> None:
    run = built(*SWAP, "tricks.checkpoint_swap.p=0.01")
    pair: Any = run.game.pairs["main"]
    kept = []
    for step in range(13):
        if step % 4 == 0:
            kept.append(weights(pair.generator))
        play(run, step, step + 1)
    copies = [weights(copy) for copy in trick_of(run, "checkpoint_swap").past["generator"]]
    assert equal(copies[0], kept[2]) and equal(copies[1], kept[3])
    assert not equal(kept[2], kept[3])


def test_swaps_come_at_their_rate() -> None:
    trick = CheckpointSwap(interval=1000, keep=1, p=0.05)
    pair = pair_of(swap=trick)
    pair.bind(torch.ones(1, 1, 1, 1), torch.ones(1, 1, 1, 1))
    away = []
    for step in range(4000):
        trick.begin(pair, step)
        away.append(trick.away)
        trick.after(pair, "discriminator")
    assert away.count("generator") / 4000 == pytest.approx(0.025, abs=0.01)
    assert away.count("discriminator") / 4000 == pytest.approx(0.025, abs=0.01)


def test_a_run_with_past_checkpoints_resumes_exactly() -> None:
    overrides = (*SWAP, "tricks.checkpoint_swap.p=0.9")
    whole, first, again = (built(*overrides) for _ in range(3))
    play(whole, 0, 7)
    play(first, 0, 3)
    saved = io.BytesIO()
    torch.save(state_of(first, progress(first, 3)), saved)
    restore(again, torch.load(io.BytesIO(saved.getvalue()), weights_only=True), "test")
    play(again, 3, 7)
    assert same(everything(whole), everything(again))


def test_in_a_step_without_updates_samples_are_of_the_current_weights() -> None:
    """A head start can leave out the player that would train against a copy."""
    trick = CheckpointSwap(interval=2, keep=1, p=0.999999)
    run = built("tricks=[ema]")
    pair: Any = Pair(generator=run.game.pairs["main"].generator, discriminator=run.game.pairs["main"].discriminator,
                     loss=NonSaturating(), tricks={"swap": trick})  # fmt: skip
    pair.bind(torch.ones(1, 1, 16, 16), torch.ones(1, 1, 16, 16))
    trick.begin(pair, 0)
    with torch.no_grad():
        next(iter(pair.generator.parameters())).add_(1)
        next(iter(pair.discriminator.parameters())).add_(1)
    today = {role: weights(getattr(pair, role)) for role in ("generator", "discriminator")}
    for step in (1, 3, 5, 7, 9):
        trick.begin(pair, step)
        assert trick.away and not equal(weights(getattr(pair, trick.away)), today[trick.away])
        with pair.sampler() as net:
            assert equal(weights(net), today["generator"])
    trick.begin(pair, 10)
    assert trick.away is None
    assert all(equal(weights(getattr(pair, role)), numbers) for role, numbers in today.items())


def test_two_tricks_that_let_players_sit_out_are_refused() -> None:
    with pytest.raises(ConfigError, match="the steps that a player skips"):
        built("tricks=[throttle,checkpoint_swap]")


@pytest.mark.parametrize("setting", ["interval=1", "keep=0", "p=0", "p=1.0"])
def test_impossible_past_checkpoints_are_refused(setting: str) -> None:
    with pytest.raises(ConfigError, match=rf"tricks\.checkpoint_swap\.{setting.split('=')[0]}"):
        built("tricks=[checkpoint_swap]", f"tricks.checkpoint_swap.{setting}")


def test_a_plain_rate_does_not_fall() -> None:
    assert built("tricks=[]").engine.players["generator"].rate(10**6) == 2e-4
    assert Constant(value=3.0).final == 3
