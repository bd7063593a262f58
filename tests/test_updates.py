"""Whose turn it is: counts, head starts, and fakes that are made once for both players."""

import gc
import weakref
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
from support import built, drawn, pair_in, pair_of, play
from torch import Tensor

from ganrun.config.build import Run
from ganrun.core.context import Batches, BatchShape, Context, Fakes, Progress, Role, Update
from ganrun.core.engine import chain_of
from ganrun.core.errors import ConfigError
from ganrun.core.seeding import reseed
from ganrun.core.trick import Trick
from ganrun.core.updates import Alternate
from ganrun.games.latent import LatentGame

USUAL: dict[str, Any] = {
    "discriminator": 1,
    "generator": 1,
    "head_start_steps": 0,
    "head_start_every": 0,
    "head_start_discriminator": 1,
    "head_start_generator": 1,
    "share_fakes": False,
    "generator_batch": 1,
}


class SitsOut(Trick):
    """The generator skips every other step."""

    def sits_out(self, step: int, player: Role) -> bool:
        return player == "generator" and step % 2 == 1


class Lazy(Trick):
    """A term that is added every fourth step."""

    every = 4
    differentiates: ClassVar[bool] = True

    def discriminator_term(self, context: Context) -> Tensor:
        assert context.real is not None and context.real.requires_grad and context.fake.requires_grad
        return context.on_real.score.mean() * 0 + 1.0  # type: ignore[union-attr]


def game_of(**tricks: Trick) -> LatentGame:
    return LatentGame(pairs={"main": pair_of(**tricks)}, shape=BatchShape(4, 2), prior="normal", grid=4)


def updates_of(run: Run, step: int) -> list[Update]:
    """The updates of this step, those of joint updates one by one."""
    return [one for update in run.updates(run.game, step) for one in chain_of(update)]


def turns(step: int, game: LatentGame | None = None, **settings: Any) -> str:
    """The updates of a step as letters; > shares its fakes with the next, < trains on them: one joint update."""
    updates = [one for u in Alternate(**(USUAL | settings))(game or game_of(), step) for one in chain_of(u)]
    return " ".join(f"{'<' * u.given_fakes}{u.player[0]}{'>' * u.share_fakes}" for u in updates)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "d g"),
        ({"discriminator": 3}, "d d d g"),
        ({"generator": 2}, "d g g"),
        ({"share_fakes": True}, "d> <g"),
        ({"share_fakes": True, "discriminator": 3, "generator": 2}, "d d d> <g g"),
    ],
)
def test_the_discriminator_moves_and_then_the_generator(settings: dict[str, Any], expected: str) -> None:
    assert turns(0, **settings) == turns(10**6, **settings) == expected


def test_a_head_start_lasts_its_steps() -> None:
    settings = {"head_start_steps": 2, "head_start_discriminator": 1, "head_start_generator": 3, "discriminator": 2}
    assert [turns(step, **settings) for step in range(4)] == ["d g g g", "d g g g", "d d g", "d d g"]


def test_a_head_start_comes_back_every_so_many_steps() -> None:
    """The warm-up of WGAN, main.py of the authors: `gen_iterations < 25 or gen_iterations % 500 == 0`."""
    settings = {"discriminator": 5, "head_start_steps": 25, "head_start_every": 500, "head_start_discriminator": 100}
    counts = [turns(step, **settings).count("d") for step in range(1001)]
    again = [step for step, count in enumerate(counts) if count == 100]
    assert again == [*range(25), 500, 1000] and {*counts} == {5, 100}
    assert [turns(step, head_start_every=2, head_start_discriminator=2) for step in range(3)] == [
        "d d g",
        "d g",
        "d d g",
    ]


def test_the_file_of_the_warm_up_says_the_same() -> None:
    run = built(tricks=["wgan_warmup"])
    counts = [[u.player for u in updates_of(run, s)].count("discriminator") for s in (0, 24, 25, 499, 500, 501)]
    assert counts == [100, 100, 5, 5, 100, 5]


@pytest.mark.parametrize(("counts", "expected"), [((2, 0), "d d"), ((0, 2), "g g")])
def test_one_player_alone_has_nobody_to_share_fakes_with(counts: tuple[int, int], expected: str) -> None:
    settings = {"head_start_steps": 1, "head_start_discriminator": counts[0], "head_start_generator": counts[1]}
    assert turns(0, share_fakes=True, **settings) == expected


@pytest.mark.parametrize("settings", [{"discriminator": 0}, {"generator": 0}, {"discriminator": -1}])
def test_a_player_that_never_moves_is_refused(settings: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=rf"^\.{next(iter(settings))}: .* at least 1"):
        Alternate(**(USUAL | settings))


@pytest.mark.parametrize("counts", [(0, 0), (-1, 1)])
def test_a_head_start_of_nothing_is_refused(counts: tuple[int, int]) -> None:
    settings = {"head_start_discriminator": counts[0], "head_start_generator": counts[1]}
    with pytest.raises(ConfigError, match="head start"):
        Alternate(**(USUAL | settings))


def test_a_trick_may_let_a_player_sit_out() -> None:
    game = game_of(sits=SitsOut())
    assert [turns(step, game, share_fakes=True) for step in range(3)] == ["d> <g", "d", "d> <g"]


def test_lazy_tricks_are_due_every_so_many_steps_and_count_for_them() -> None:
    game = game_of(lazy=Lazy())
    alternate = Alternate(**USUAL)
    due = [alternate(game, step)[0].due for step in range(6)]
    assert due == [frozenset({"lazy"}), *[frozenset()] * 3, frozenset({"lazy"}), frozenset()]
    images = torch.zeros(4, 1, 2, 2)
    for names, expected in ((due[0], {"adversarial", "lazy"}), (due[1], {"adversarial"})):
        update = Update(player="discriminator", role="discriminator", shape=game.shape, due=names)
        terms = game.pair.discriminator_outcome(update, images, images).terms
        assert set(terms) == expected
        assert terms.get("lazy", torch.tensor(4.0)).item() == 4.0, "scaled by the steps it stands for"


def test_updates_are_hashable_and_equal_when_they_run_the_same_kernels() -> None:
    game = game_of()
    first, later = (tuple(Alternate(**(USUAL | {"share_fakes": True}))(game, step)) for step in (0, 7))
    assert first == later and len({*first, *later}) == 1 and len({one for u in first for one in chain_of(u)}) == 2


def test_the_shape_of_every_update_is_the_games() -> None:
    game = game_of()
    game.shape = BatchShape(6, 2)
    assert {update.shape for update in Alternate(**(USUAL | {"discriminator": 2}))(game, 0)} == {BatchShape(6, 2)}


@pytest.mark.parametrize(("overrides", "expected"), [((), 1), (("updates.discriminator=5",), 5)])
def test_the_number_of_critic_steps_is_kept(overrides: tuple[str, ...], expected: int) -> None:
    """Others ignore it in silence."""
    rows = play(built(*overrides), 0, 2).rows
    assert [player for _, player, _ in rows] == (["discriminator"] * expected + ["generator"]) * 2


# Fakes that are made once


def by_hand(run: Run, reuse: bool) -> tuple[list[Tensor], list[Tensor]]:
    """The gradients of D and of G in the first step, written out: the usual loop of a GAN, with this run's noise."""
    pair, latent = pair_in(run), run.game.grid.shape[1]  # type: ignore[union-attr]
    reseed(run.settings["seed"], "train", step=0)
    real = run.source.draw(run.game.shape).images
    fake = pair.generator(torch.randn(4, latent))
    on_real, on_fake = pair.discriminator(real).score, pair.discriminator(fake.detach()).score
    loss = F.softplus(-on_real).mean() + F.softplus(on_fake).mean()
    of_d = torch.autograd.grad(loss, pair.discriminator.parameters())
    for parameter, gradient in zip(pair.discriminator.parameters(), of_d, strict=True):
        parameter.grad = gradient
    run.engine.players["discriminator"].optimizer.step()
    fake = fake if reuse else pair.generator(torch.randn(4, latent))
    of_g = torch.autograd.grad(F.softplus(-pair.discriminator(fake).score).mean(), pair.generator.parameters())
    return list(of_d), list(of_g)


@pytest.mark.parametrize("reuse", [True, False])
@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_a_step_is_the_same_as_written_out_by_hand(reuse: bool, norm: str) -> None:
    """Both players' gradients, on the same fakes: none of D's objective reaches G, and none is added twice."""
    overrides = (f"updates.share_fakes={str(reuse).lower()}", f"model.discriminator.norm={norm}")
    run = built(*overrides)
    of_d, of_g = by_hand(built(*overrides), reuse)
    play(run, 0, 1)
    for player, expected in (("discriminator", of_d), ("generator", of_g)):
        for found, one in zip(run.engine.players[player].gradients, expected, strict=True):
            torch.testing.assert_close(found, one, rtol=1e-5, atol=1e-7)


def test_reusing_fakes_makes_them_once() -> None:
    counts = {}
    for reuse in ("true", "false"):
        run = built(f"updates.share_fakes={reuse}", "updates.discriminator=2")
        calls: list[int] = []
        pair_in(run).generator.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        play(run, 0, 3)
        counts[reuse] = len(calls)
    assert counts == {"true": 2 * 3, "false": 3 * 3}


def test_shared_fakes_live_inside_one_joint_update() -> None:
    """Nothing of an update is kept on the game or the engine: their memory is free for the next."""
    run = built()
    held: list[weakref.ref] = []
    pair_in(run).generator.register_forward_hook(lambda net, given, made: held.append(weakref.ref(made)))
    (update,) = run.updates(run.game, 0)
    results = run.engine.run(update, drawn(run, update))
    assert [result.update.player for result in results] == ["discriminator", "generator"] and len(held) == 1
    del results
    gc.collect()
    assert held[0]() is None


@pytest.mark.parametrize("tricks", [[], ["soft_labels", "instance_noise"]])
def test_the_discriminators_update_leaves_the_generator_alone(tricks: list[str]) -> None:
    """Neither weights nor gradients of G change in D's update, though its graph is kept; nor D's in G's."""
    run = built(tricks=tricks)
    run.engine.begin(Progress(0))
    plain, seen = run.engine._one, []

    def watched(update: Update, batches: Batches, fakes: Mapping[str, Fakes]) -> Any:
        other = run.engine.players["generator" if update.player == "discriminator" else "discriminator"]
        before = [p.detach().clone() for p in other.parameters], [p.grad for p in other.parameters]
        done = plain(update, batches, fakes)
        assert all(torch.equal(p, q) for p, q in zip(other.parameters, before[0], strict=True)), update
        assert all(p.grad is grad for p, grad in zip(other.parameters, before[1], strict=True)), update
        seen.append(update.player)
        return done

    run.engine._one = watched  # type: ignore[method-assign]
    for step in range(2):
        for update in run.updates(run.game, step):
            run.engine.run(update, drawn(run, update))
    assert seen == ["discriminator", "generator"] * 2


def test_the_generator_reads_no_reals_unless_something_compares() -> None:
    run = built()
    first, second = updates_of(run, 0)
    assert run.game.wanted(first) == {"images": first.shape} and not run.game.wanted(second)
    play(run, 0, 3)
    assert run.source.seen == 3 * 4
