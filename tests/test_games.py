"""Games of several pairs and streams, of conditions of any kind, and of images at several scales."""

from collections.abc import Mapping
from typing import ClassVar

import pytest
import torch
from support import LinearDiscriminator, ScaleGenerator, pair_of
from torch import Tensor, nn

from ganrun.config.combination import diagnostics
from ganrun.core.context import (
    UNCONDITIONAL,
    Batch,
    Batches,
    BatchShape,
    Condition,
    DiscriminatorOutput,
    Fakes,
    Outcome,
    Progress,
    Update,
)
from ganrun.core.engine import Eager, Player
from ganrun.core.facts import Fact
from ganrun.core.game import Game, PairPlan
from ganrun.core.pair import Pair
from ganrun.core.schedule import Constant
from ganrun.core.traits import Traits, facts
from ganrun.games.latent import LatentGame
from ganrun.games.pyramid import PyramidGame
from ganrun.tricks.noise import Dequantize, InstanceNoise
from ganrun.tricks.replay import Replay

SHAPE = BatchShape(4, 2)


def update(player: str, game: Game) -> Update:
    return Update(player=player, role=game.players[player], shape=game.shape)


def engine_of(game: Game) -> Eager:
    """An engine with plain SGD for every player."""
    players = {}
    for name in game.players:
        networks = game.networks(name)
        parameters = [p for net in networks.values() for p in net.parameters()]
        players[name] = Player(networks, torch.optim.SGD(parameters, lr=0.1), Constant(value=0.1))
    return Eager(game, players, device=torch.device("cpu"), autocast=False)


# Two pairs


class TwoPairs(Game):
    """Two generators from one noise, each against its own discriminator and its own stream."""

    plans: ClassVar[Mapping[str, PairPlan]] = {
        "left": PairPlan(generator="g1", discriminator="d1", stream="a"),
        "right": PairPlan(generator="g2", discriminator="d2", stream="b"),
    }

    def __init__(self, pairs: Mapping[str, Pair]):
        super().__init__()
        self.pairs, self.shape = nn.ModuleDict(pairs), SHAPE
        self.objectives = {"discriminator": self.both, "generator": self.both}

    def both(self, update: Update, batches: Batches, fakes: Mapping[str, Fakes]) -> Outcome:
        """Both pairs' sides of this player."""
        outcomes = {}
        for name, pair in self.named_pairs().items():
            fake = pair.generator(torch.ones(4, 4))
            side = pair.discriminator_outcome if update.role == "discriminator" else pair.generator_outcome
            outcomes[name] = side(update, batches[self.plans[name].stream].images, fake)
        return self.merged(outcomes, {"extra": torch.zeros((), requires_grad=True)})

    def networks(self, player: str) -> Mapping[str, nn.Module]:
        return {name: getattr(pair, player) for name, pair in self.named_pairs().items()}

    def wanted(self, update: Update) -> Mapping[str, BatchShape]:
        return dict.fromkeys(self.streams(), update.shape)

    def bind(self, batches: Batches) -> None:
        for name, pair in self.named_pairs().items():
            images = batches[self.plans[name].stream].images
            pair.bind(images, images)

    def sample(self, condition: Condition = UNCONDITIONAL) -> Tensor:
        raise NotImplementedError

    def draw(self, count: int, condition: Condition = UNCONDITIONAL) -> Tensor:
        raise NotImplementedError


def two_pairs() -> TwoPairs:
    return TwoPairs({
        "left": pair_of(pool=Replay(size=4, p=0.5), noise=InstanceNoise(sigma=0.0)),
        "right": pair_of(LinearDiscriminator([1.0, 0.0, 0.0, 0.0]), generator=ScaleGenerator(0.25)),
    })  # fmt: skip


BATCHES = {"a": Batch(torch.full((4, 1, 2, 2), 0.5)), "b": Batch(torch.full((4, 1, 2, 2), -0.5))}


def test_each_pair_network_and_term_has_a_name_of_its_own() -> None:
    """With two pairs nothing is overwritten: scores, tricks' metrics, terms, gradient norms."""
    game = two_pairs()
    game.bind(BATCHES)
    (result,) = engine_of(game).run(update("discriminator", game), [BATCHES])
    found = dict(zip(result.names, result.values.tolist(), strict=True))
    assert found["score/left/real"] == pytest.approx(7 * 0.5) and found["score/right/real"] == pytest.approx(-0.5)
    assert {"loss/discriminator/left/adversarial", "loss/discriminator/right/adversarial"} <= found.keys()
    assert {"probability/left/real", "probability/right/fake", "loss/discriminator/extra"} <= found.keys()
    assert {"gradient/discriminator/left.weight", "gradient/discriminator/right.weight"} <= found.keys()
    assert len(found) == len(result.names), "no name twice"
    assert set(result.observed) == {"left", "right"}
    assert result.observed["right"].fake.flatten().tolist() == pytest.approx([0.25] * 16)


def test_the_only_pairs_names_are_plain() -> None:
    game = LatentGame(pairs={"main": pair_of()}, shape=SHAPE, prior="normal", grid=4)
    batches = {"images": BATCHES["a"]}
    (result,) = engine_of(game).run(update("discriminator", game), [batches])
    assert {"score/real", "loss/discriminator/adversarial", "gradient/discriminator/weight"} <= set(result.names)
    assert set(result.observed) == {"main"}


def test_each_pair_has_tricks_of_its_own() -> None:
    """A pool in one pair is not a pool in the other, and its state lies below its pair."""
    game = two_pairs()
    game.bind(BATCHES)
    keys = [key for key in game.state_dict() if "tricks." in key]
    assert keys and all(key.startswith("pairs.left.tricks.") for key in keys)


def test_the_game_names_its_streams_and_networks() -> None:
    game = two_pairs()
    assert game.streams() == ("a", "b") and list(game.wanted(update("generator", game))) == ["a", "b"]
    player = engine_of(game).players["generator"]
    assert player.names == ["left.scale", "right.scale"]
    assert player.layers("generator") == {
        "left": ["gradient/generator/left.scale"],
        "right": ["gradient/generator/right.scale"],
    }


# One network in two pairs


def test_a_shared_network_is_modified_once() -> None:
    """By the tricks of the first pair that has it: two reparametrisations of one weight would fight."""
    calls: list[str] = []

    class Marks(InstanceNoise):
        def modify(self, net: nn.Module, role: str) -> nn.Module:
            calls.append(role)
            return net

    first = pair_of(one=Marks(sigma=0.0))
    Pair(generator=first.generator, discriminator=LinearDiscriminator([1.0, 0, 0, 0]), loss=first.loss,
         tricks={"one": Marks(sigma=0.0)}, shared=frozenset({"generator"}))  # fmt: skip
    assert calls == ["generator", "discriminator", "discriminator"]


# Conditions


class Told(nn.Module):
    """A generator that adds the mean of its condition, of any kind, to every pixel."""

    channels, resolution, latent, range, conditional = 1, 2, 4, (-1.0, 1.0), True

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, noise: Tensor, condition: Tensor | None = None) -> Tensor:
        assert condition is not None
        return self.scale * condition.float().flatten(1).mean(1)[:, None, None, None].expand(-1, 1, 2, 2)


@pytest.mark.parametrize(
    "condition",
    [Condition(embedding=torch.full((4, 3), 0.5)), Condition(image=torch.full((4, 1, 2, 2), 0.5))],
    ids=["embedding", "image"],
)
def test_fakes_are_conditioned_on_an_embedding_or_an_image_as_on_labels(condition: Condition) -> None:
    game = LatentGame(pairs={"main": pair_of(generator=Told())}, shape=SHAPE, prior="normal", grid=4)
    assert list(game.wanted(update("generator", game))) == ["images"], "their conditions come with reals"
    batches = {"images": Batch(BATCHES["a"].images, condition)}
    (result,) = engine_of(game).run(update("generator", game), [batches])
    assert result.observed["main"].fake.eq(0.5).all()
    assert game.sample(condition).eq(game.pair.generator.scale.item() * 0.5).all()
    assert game.draw(4, condition).shape == (4, 1, 2, 2)


def test_a_condition_is_one_of_its_kinds() -> None:
    labels, image = torch.arange(4), torch.zeros(4, 1, 2, 2)
    assert UNCONDITIONAL.tensor is None
    assert Condition(labels=labels).tensor is labels and Condition(image=image, mismatch=image + 1).tensor is image


# Several scales


class Pyramid(nn.Module):
    """A generator of two scales, as MSG-GAN's is of several: the smaller first."""

    traits = Traits()

    channels, resolution, scales, latent, range = 1, 2, 2, 4, (-1.0, 1.0)

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.5))

    def forward(self, noise: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        large = self.scale * noise.view(-1, 1, 2, 2)
        return large.mean((2, 3), keepdim=True), large


class Scales(nn.Module):
    """A discriminator of all scales."""

    channels, resolution = 1, 2
    traits = Traits(provides=facts(Fact.SCORE))

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, images: tuple[Tensor, ...], condition: Tensor | None = None) -> DiscriminatorOutput:
        assert len(images) == 2
        return DiscriminatorOutput(self.weight * torch.stack([image.mean((1, 2, 3)) for image in images]).sum(0))


def test_a_pyramid_trains_through_the_whole_core() -> None:
    """Every scale reaches D and teaches G; callbacks and grids see the largest."""
    game = PyramidGame(pairs={"main": pair_of(Scales(), generator=Pyramid())}, shape=SHAPE, prior="normal", grid=4,
                       colour=0.0)  # fmt: skip
    engine, before = engine_of(game), game.pair.generator.scale.item()
    engine.begin(Progress())
    joint = Update(player="discriminator", role="discriminator", shape=SHAPE,
                   then=Update(player="generator", role="generator", shape=SHAPE, given_fakes=True))  # fmt: skip
    results = engine.run(joint, [{"images": BATCHES["a"]}, {}])
    assert [one.observed["main"].fake.shape for one in results] == [(4, 1, 2, 2)] * 2
    assert game.pair.generator.scale.item() != before and game.sample().shape == (4, 1, 2, 2)


def test_a_trick_on_images_of_one_size_is_refused_on_a_pyramid() -> None:
    pair = pair_of(Scales(), generator=Pyramid(), noise=Dequantize())
    game = PyramidGame(pairs={"main": pair}, shape=SHAPE, prior="normal", grid=4, colour=0.0)
    assert "C51" in {diagnostic.id for diagnostic in diagnostics(game.parts(pair))}
    plain = pair_of(noise=Dequantize())
    latent = LatentGame(pairs={"main": plain}, shape=SHAPE, prior="normal", grid=4)
    assert "C51" not in {diagnostic.id for diagnostic in diagnostics(latent.parts(plain))}


# Schedules by images are in test_schedule.py
