"""Conditional runs: what labels do in networks, in the game, in grids; closed forms against the papers."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support import Bowl, composed, pair_in, pair_of, play, tiny
from test_models import CONDITIONAL, build, count
from torch import Tensor, nn

from ganrun.config.build import Run
from ganrun.config.build import build as build_run
from ganrun.core.context import Batch, Batches, BatchShape, Condition, Context, DiscriminatorOutput, Update
from ganrun.core.errors import ConfigError, ConfigErrors
from ganrun.core.facts import Fact
from ganrun.core.loss import Loss
from ganrun.core.traits import Traits, facts
from ganrun.games.latent import LatentGame
from ganrun.losses.margins import Wasserstein
from ganrun.losses.targets import NonSaturating
from ganrun.models.conditional import Beside, Block, ConditionalBatchNorm, Projection, Score, block, one_hot
from ganrun.models.layers import Fold
from ganrun.record.grid import GAP, grid
from ganrun.tricks.auxiliary_classifier import AuxiliaryClassifier, cross_entropy
from ganrun.tricks.penalties import GradientPenalty

TEN = ["generator.classes=10", "discriminator.classes=10"]
SMALL = {
    "cgan": ["generator.hidden=[12,16]", "discriminator.hidden=[16,12]"],
    "cdcgan": ["generator.width=4", "discriminator.width=4"],
    "acgan": ["generator.width=4", "discriminator.width=4", "discriminator.dropout=0.0"],
    "projection": ["generator.width=4", "discriminator.width=4"],
}


def small(name: str, channels: int = 1, resolution: int = 16, *overrides: str) -> tuple[Any, Any]:
    return build(name, channels, resolution, *TEN, *SMALL[name], *overrides)


def run_of(model: str, *overrides: str, tricks: tuple[str, ...] = ()) -> Run:
    return build_run(composed(*tiny(*overrides, model=model, tricks=tricks)))


# Layers


def test_one_hot_is_one_hot() -> None:
    labels = torch.tensor([2, 0, 1, 2])
    assert torch.equal(one_hot(labels, 3), F.one_hot(labels, 3).float())


def test_a_label_is_put_beside_vectors_and_beside_maps() -> None:
    labels, beside = torch.tensor([1, 0]), Beside(classes=3, embed=None)
    assert torch.equal(beside(torch.tensor([[5.0], [6.0]]), labels), torch.tensor([[5.0, 0, 1, 0], [6.0, 1, 0, 0]]))
    maps = beside(torch.full((2, 2, 4, 4), 7.0), labels)
    assert maps.shape == (2, 5, 4, 4) and (maps[:, :2] == 7).all()
    assert (maps[0, 3] == 1).all() and (maps[1, 2] == 1).all() and maps[:, 2:].sum() == 2 * 16
    learnt = Beside(classes=3, embed=2)
    assert torch.equal(learnt(torch.zeros(2, 1), labels)[:, 1:], learnt.table.weight[labels])  # type: ignore[union-attr]


def test_conditional_batch_norm_is_batch_norm_with_gains_and_biases_of_the_class() -> None:
    """gain[y] (x - mean) / sqrt(var + eps) + bias[y], the moments being those of the whole batch."""
    norm, x, y = ConditionalBatchNorm(channels=2, classes=3), torch.randn(6, 2, 4, 4), torch.tensor([0, 1, 2, 0, 1, 2])
    torch.testing.assert_close(norm(x, y), nn.BatchNorm2d(2)(x))  # gains of 1, biases of 0 at first
    with torch.no_grad():
        norm.gain.weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
        norm.bias.weight.copy_(torch.tensor([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]]))
    mean, deviation = x.mean((0, 2, 3)), (x.var((0, 2, 3), unbiased=False) + 1e-5).sqrt()
    for i in range(6):
        for c in range(2):
            label = y[i].item()
            gain, bias = 1 + 2 * label + c, 0.1 + 0.2 * label + 0.1 * c
            torch.testing.assert_close(norm(x, y)[i, c], gain * (x[i, c] - mean[c]) / deviation[c] + bias)
    norm.eval()
    kept = (x[0] - norm.norm.running_mean[:, None, None]) / (norm.norm.running_var[:, None, None] + 1e-5).sqrt()
    torch.testing.assert_close(
        norm(x, y)[0], kept * torch.tensor([1.0, 2.0])[:, None, None] + torch.tensor([0.1, 0.2])[:, None, None]
    )


def test_projection_by_hand() -> None:
    """psi = 2 a + 3 b + 1; embeddings (1, 0), (0, -1): what the label adds is a or -b."""
    score = Score(features=2, classes=2, bias=True)
    with torch.no_grad():
        score.psi.weight.copy_(torch.tensor([[2.0, 3.0]]))
        score.psi.bias.fill_(1.0)
        score.projection.embed.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, -1.0]]))  # a column for each class
    features = torch.tensor([[10.0, 100.0], [10.0, 100.0]])
    assert score(features, torch.tensor([0, 1])).tolist() == [[321.0 + 10.0], [321.0 - 100.0]]


def test_projection_is_a_dense_layer_of_one_hot_labels() -> None:
    projection, features, y = Projection(classes=5, features=7), torch.randn(4, 7), torch.tensor([4, 0, 3, 3])
    torch.testing.assert_close(projection(features, y), (projection.embed(one_hot(y, 5)) * features).sum(1))


def test_blocks_hand_labels_to_the_layers_that_read_them_however_deep() -> None:
    nest = block(one=nn.Linear(2, 2), two=Block(block(label=Beside(classes=2, embed=None))))
    assert nest(torch.zeros(1, 2), torch.tensor([1]))[0, 2:].tolist() == [0.0, 1.0]


# Models


def test_the_conditional_models_are_there() -> None:
    assert set(CONDITIONAL) >= set(SMALL)


@pytest.mark.parametrize(("channels", "resolution"), [(1, 16), (2, 32), (3, 64), (4, 32)])
@pytest.mark.parametrize("name", SMALL)
def test_shapes_range_and_what_the_networks_say_of_themselves(name: str, channels: int, resolution: int) -> None:
    generator, discriminator = small(name, channels, resolution)
    y = torch.tensor([0, 9, 4])
    images = generator(50 * torch.randn(3, generator.latent), y)
    assert images.shape == (3, channels, resolution, resolution) and images.abs().max() <= 1
    output = discriminator(images, y)
    assert output.score.shape == (3,) and len(output.features) >= 2
    assert generator.classes == discriminator.classes == 10
    assert (Fact.CLASS_HEAD in discriminator.traits.provides) == (name == "acgan") == ("class" in output.heads)


@pytest.mark.parametrize("name", SMALL)
def test_the_label_changes_images_and_scores(name: str) -> None:
    torch.manual_seed(0)
    generator, discriminator = small(name)
    for net in (generator, discriminator):  # gains of a class begin alike: give each its own
        for layer in net.modules():
            if isinstance(layer, nn.Embedding):
                nn.init.normal_(layer.weight, 1.0)
        net.eval()
    z, x = torch.randn(1, generator.latent).expand(10, -1), torch.rand(1, 1, 16, 16).expand(10, -1, -1, -1) * 2 - 1
    y = torch.arange(10)
    assert len({row.sum().item() for row in generator(z, y)}) == 10
    scores, others = discriminator(x, y).score, discriminator(x, y.flip(0)).score
    assert torch.equal(scores, others) == (name == "acgan")  # whose D names labels and is not told
    assert name == "acgan" or len(set(scores.tolist())) == 10


def label_weights(net: Any, classes: int) -> list[Tensor]:
    """The slices of weights that multiply labels: the last inputs of every layer right behind a `Beside`."""
    found = []
    for part in net.modules():
        layers = list(part.children()) if isinstance(part, Block) else []
        for i, layer in enumerate(layers):
            if isinstance(layer, Beside):
                after = next(other for other in layers[i:] if hasattr(other, "weight"))
                transposed = isinstance(after, nn.ConvTranspose2d)
                found.append(after.weight[-classes:] if transposed else after.weight[:, -classes:])
    return found


@pytest.mark.parametrize(
    ("name", "condition", "places"), [("cgan", None, (1, 1)), ("cdcgan", "input", (1, 1)), ("cdcgan", "every", (3, 3))]
)
def test_labels_act_through_their_own_weights_alone(name: str, condition: str | None, places: tuple[int, int]) -> None:
    """One-hot beside the input of one layer or of all; with those weights at 0 the label changes nothing."""
    chosen = [f"{role}.condition={condition}" for role in ("generator", "discriminator") if condition]
    nets = small(name, 1, 16, *chosen)
    given = torch.randn(6, nets[0].latent), torch.rand(6, 1, 16, 16)
    for net, x, expected in zip(nets, given, places, strict=True):
        net.eval()
        weights = label_weights(net, 10)
        assert len(weights) == expected and all(10 in weight.shape[:2] for weight in weights)

        def answer(labels: Tensor, net: Any = net, x: Tensor = x) -> Tensor:
            made = net(x, labels)
            return made if isinstance(made, Tensor) else made.score

        zeros, others = torch.zeros(6, dtype=torch.int64), torch.arange(6) + 1
        assert not torch.equal(answer(zeros), answer(others))
        with torch.no_grad():
            for weight in weights:
                weight.zero_()
        assert torch.equal(answer(zeros), answer(others))


def test_parameters_are_those_of_the_form_without_labels_and_the_labels_own() -> None:
    plain = build(
        "dcgan",
        1,
        32,
        *[f"{role}.{size}" for role in ("generator", "discriminator") for size in ("kernel=5", "width=64")],
    )
    code = [
        f"{role}.{size}"
        for role in ("generator", "discriminator")
        for size in ("kernel=5", "width=64", "condition=every")
    ]
    told = build("cdcgan", 1, 32, *TEN, *code, "generator.init.kind=normal")
    # G: beside noise to 4x4x256, beside 256 and 128 maps to 128 and 64 by 5x5, beside 64 to the image
    assert count(told[0]) - count(plain[0]) == 10 * (4096 + 25 * (128 + 64 + 1))
    # D: beside the image and beside 64 and 128 maps, beside the features
    assert count(told[1]) - count(plain[1]) == 10 * (25 * (64 + 128 + 256) + 1)


def test_acgan_has_the_shapes_of_its_table() -> None:
    """Odena et al. 2017, table 2: G 110 -> 384 maps of 4x4 -> 192 -> 96 -> 3, 5x5; D 16 to 512 by 3x3."""
    generator, discriminator = build("acgan", 3, 32, *TEN)
    convs = [layer for layer in generator.modules() if isinstance(layer, nn.ConvTranspose2d)]
    assert [(c.in_channels, c.out_channels, c.kernel_size[0]) for c in convs] == [
        (384, 192, 5),
        (192, 96, 5),
        (96, 3, 5),
    ]
    (dense,) = [layer for layer in generator.modules() if isinstance(layer, nn.Linear)]
    assert (dense.in_features, dense.out_features) == (110, 384 * 16)
    convs = [layer for layer in discriminator.modules() if isinstance(layer, nn.Conv2d)]
    assert [c.out_channels for c in convs] == [16, 32, 64, 128, 256, 512]
    assert [c.stride[0] for c in convs] == [2, 1, 2, 1, 2, 1] and {c.kernel_size[0] for c in convs} == {3}
    assert [layer.out_features for layer in discriminator.modules() if isinstance(layer, nn.Linear)] == [1, 10]
    assert sum(isinstance(layer, nn.Dropout) for layer in discriminator.modules()) == 6


def test_projection_scores_its_own_features_summed_over_pixels() -> None:
    _, discriminator = small("projection")
    x, y = torch.rand(4, 1, 16, 16), torch.tensor([3, 1, 3, 9])
    output, head = discriminator(x, y), discriminator.head.score
    phi = output.features[-1].sum((2, 3))
    by_hand = phi @ head.psi.weight[0] + head.psi.bias + (phi * head.projection.embed.weight[:, y].T).sum(1)
    torch.testing.assert_close(output.score, by_hand)


def test_a_conditional_dcgan_is_a_dcgan_whose_first_layers_read_labels_too() -> None:
    """The same names in the same order; only what reads the label is wider, by one number for each class."""
    sizes = ["generator.width=4", "discriminator.width=4", "generator.kernel=4", "discriminator.kernel=4"]
    places = ["generator.condition=input", "discriminator.condition=input"]
    readers = [{"blocks.0.project.weight"}, {"blocks.0.conv.weight"}]
    pairs = zip(build("dcgan", 1, 16, *sizes), build("cdcgan", 1, 16, *TEN, *sizes, *places), readers, strict=True)
    for plain, conditional, reader in pairs:
        before, after = plain.state_dict(), conditional.state_dict()
        assert list(before) == list(after)
        assert {name for name in before if before[name].shape != after[name].shape} == reader
        (name,) = reader
        assert after[name].shape[1] == before[name].shape[1] + 10


@pytest.mark.parametrize("classes", [0, 1])
def test_without_classes_to_tell_apart_it_is_a_dcgan(classes: int) -> None:
    """Of data without labels, or of one class. Both networks have the layers of DCGAN, and take no labels."""
    sizes = ["generator.width=4", "discriminator.width=4"]
    none = [f"{role}.classes={classes}" for role in ("generator", "discriminator")]
    for plain, found in zip(build("dcgan", 1, 16, *sizes), build("cdcgan", 1, 16, *none, *sizes), strict=True):
        assert {name: t.shape for name, t in plain.state_dict().items()} == {
            name: t.shape for name, t in found.state_dict().items()
        }
        assert found.classes == 0
    assert found(torch.rand(3, 1, 16, 16)).score.shape == plain(torch.rand(3, 1, 16, 16)).score.shape


def test_the_default_model_takes_data_without_labels(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.random.default_rng(0).integers(0, 256, (20, 16, 16), dtype=np.uint8))
    where = ("dataset=array", f"dataset.path={tmp_path / 'images.npy'}", "dataset.held_out=0", "batch=4")
    run = build_run(composed(*where, "engine.device=cpu", "engine.workers=0", "game.grid=4", "metrics=none"))
    assert run.game.classes == 0 and not run.game.conditional
    assert all(torch.isfinite(value) for _, _, metrics in play(run, 0, 2).rows for value in metrics.values())


# The auxiliary classifier


class Names(nn.Module):
    """D(x) = 0 w, with class logits that are the first three pixels of the image, times a factor."""

    channels, resolution, classes = 1, 2, 3
    traits = Traits(provides=facts(Fact.SCORE, Fact.CLASS_HEAD))

    def __init__(self, factor: float = 1.0):
        super().__init__()
        self.weight, self.factor = nn.Parameter(torch.zeros(())), factor

    def forward(self, images: Tensor, labels: Tensor | None = None) -> DiscriminatorOutput:
        logits = images.flatten(1)[:, :3] * self.factor
        return DiscriminatorOutput(images.flatten(1).sum(1) * self.weight, heads={"class": logits})


def test_cross_entropy_reaches_zero_and_takes_one_softmax() -> None:
    """Confident and right: 0. A head that ends in a softmax, as a peer's, has a floor of log(1 + 9 / e) = 1.461."""
    y = torch.arange(10)
    sure = DiscriminatorOutput(torch.zeros(10), heads={"class": 50.0 * torch.eye(10)})
    assert cross_entropy(sure, y).item() < 1e-6
    twice = sure._replace(heads={"class": sure.heads["class"].softmax(1)})
    assert cross_entropy(twice, y).item() == pytest.approx(math.log(1 + 9 / math.e), abs=1e-4)
    unsure = sure._replace(heads={"class": torch.zeros(10, 10)})
    assert cross_entropy(unsure, y).item() == pytest.approx(math.log(10))


def test_both_players_minimise_the_classifiers_cross_entropy() -> None:
    """Logits (1, 0, 0) for reals and (0, 2, 0) for fakes, by hand, each with its weight."""
    trick = AuxiliaryClassifier(real=1.0, fake=0.5, generator=0.25)
    pair = pair_of(Names(), auxiliary=trick)
    real = torch.tensor([[1.0, 0, 0, 0]]).view(1, 1, 2, 2)
    fake = torch.tensor([[0.0, 2, 0, 0]]).view(1, 1, 2, 2).requires_grad_()
    y = torch.tensor([0])
    on_real, on_fake = math.log(math.e + 2) - 1, math.log(math.exp(2) + 2)
    shape = BatchShape(1, 2)
    given = Condition(labels=y)
    update = Update(player="discriminator", role="discriminator", shape=shape)
    terms = pair.discriminator_outcome(update, real, fake, condition=given).terms
    assert terms["auxiliary"].item() == pytest.approx(on_real + 0.5 * on_fake)
    update = Update(player="generator", role="generator", shape=shape)
    terms = pair.generator_outcome(update, None, fake, condition=given).terms
    assert terms["auxiliary"].item() == pytest.approx(0.25 * on_fake)
    (gradient,) = torch.autograd.grad(terms["auxiliary"], fake)
    probability = torch.tensor([0.0, 2.0, 0.0]).softmax(0)
    torch.testing.assert_close(gradient.flatten()[:3], 0.25 * (probability - torch.tensor([1.0, 0.0, 0.0])))
    assert {key: value.item() for key, value in trick.metrics().items()} == {"accuracy/real": 1.0, "accuracy/fake": 0.0}


# The game


class LabelGenerator(nn.Module):
    """G(z, y): images of 2x2 pixels that are y / 10 everywhere, plus a little noise. Keeps the labels it was given."""

    channels, resolution, latent, range, classes = 1, 2, 4, (-1.0, 1.0), 3

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1e-3))
        self.given: list[Tensor] = []

    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        assert labels is not None
        self.given.append(labels.clone())
        return (labels[:, None] / 10 + self.scale * noise).view(-1, 1, 2, 2)


class Listening(Bowl):
    """A bowl that keeps the labels of every batch."""

    channels, resolution, classes = 1, 2, 3
    traits = Traits(provides=facts(Fact.SCORE, Fact.PER_SAMPLE, Fact.FREE_WEIGHTS))

    def __init__(self) -> None:
        super().__init__()
        self.labels: list[Tensor] = []

    def forward(self, images: Tensor, labels: Tensor | None = None) -> DiscriminatorOutput:
        assert labels is not None
        self.labels.append(labels.clone())
        return super().forward(images, labels)


class Relative(Loss):
    """A loss whose generator's side reads the scores of reals."""

    paired = True

    def discriminator(self, real: Tensor, fake: Tensor, targets: Any) -> Tensor:
        return (fake - real).mean()

    def generator(self, fake: Tensor, real: Tensor | None, targets: Any) -> Tensor:
        assert real is not None
        return (real - fake).mean()


SHAPE = BatchShape(6, 2)
GIVEN = Update(player="generator", role="generator", shape=SHAPE, given_fakes=True)
JOINT = Update(player="discriminator", role="discriminator", shape=SHAPE, then=GIVEN)
FRESH = Update(player="generator", role="generator", shape=SHAPE)
LABELS = torch.tensor([2, 0, 1, 1, 0, 2])
REALS = (LABELS[:, None] / 10 + torch.linspace(0, 0.01, 6)[:, None].expand(-1, 4)).view(6, 1, 2, 2)


def game_of(loss: Loss | None = None, **tricks: Any) -> LatentGame:
    pair = pair_of(Listening(), loss or NonSaturating(), LabelGenerator(), **tricks)
    return LatentGame(pairs={"main": pair}, shape=SHAPE, prior="normal", grid=12)


def batches(images: Tensor = REALS, labels: Tensor = LABELS) -> Batches:
    return {"images": Batch(images, Condition(labels=labels))}


def joint_update(game: LatentGame) -> None:
    """The discriminator's objective, then the generator's on the same fakes."""
    fakes = game.outcome(JOINT, batches(), {}).fakes
    game.outcome(GIVEN, {}, fakes)


def classes_of(images: Tensor) -> list[int]:
    return (images.mean((1, 2, 3)) * 10).round().int().tolist()


def test_in_ds_update_each_fake_has_the_label_of_the_real_at_its_place() -> None:
    game = game_of()
    game.outcome(JOINT, batches(), {})
    real, fake = game.pair.discriminator.seen  # type: ignore[misc]
    assert classes_of(real) == classes_of(fake) == LABELS.tolist()
    assert all(torch.equal(given, LABELS) for given in game.pair.discriminator.labels)  # type: ignore[union-attr]


def test_a_gradient_penalty_stays_within_the_class() -> None:
    """What is between a real and a fake is scored with the label of both."""
    game = game_of(Wasserstein(), gp=GradientPenalty(weight=10.0, target=1.0, one_sided=False, every=1))
    game.outcome(JOINT, batches(), {})
    net = game.pair.discriminator
    assert len(net.seen) == 3 and torch.equal(net.labels[2], LABELS)  # type: ignore[arg-type, index]
    assert classes_of(net.seen[2]) == LABELS.tolist()  # type: ignore[index]


def test_in_gs_update_labels_come_with_the_fakes_or_from_a_batch_whose_reals_are_not_scored() -> None:
    game = game_of()
    assert game.wanted(JOINT) == game.wanted(FRESH) == {"images": SHAPE} and game.wanted(GIVEN) == {}
    joint_update(game)
    other = LABELS.flip(0)
    game.outcome(FRESH, batches(REALS.flip(0), other), {})
    net = game.pair.discriminator
    assert [labels.tolist() for labels in net.labels[2:]] == [LABELS.tolist(), other.tolist()]  # type: ignore[union-attr, index]
    assert [classes_of(seen) for seen in net.seen[2:]] == [LABELS.tolist(), other.tolist()]  # type: ignore[union-attr, index]
    assert [labels.tolist() for labels in game.pair.generator.given] == [LABELS.tolist(), other.tolist()]  # type: ignore[union-attr]


def test_a_paired_loss_compares_fakes_with_reals_of_their_classes() -> None:
    game = game_of(Relative())
    joint_update(game)
    other = LABELS.flip(0)
    game.outcome(FRESH, batches(REALS.flip(0), other), {})
    for seen, labels in zip(game.pair.discriminator.seen, game.pair.discriminator.labels, strict=True):  # type: ignore[arg-type]
        assert classes_of(seen) == labels.tolist()
    assert len(game.pair.discriminator.seen) == 6  # type: ignore[arg-type]


def test_a_grid_has_a_class_a_row_and_the_same_noise_in_each_column() -> None:
    game = game_of()
    images = game.sample()
    assert game.rows == 3 and classes_of(images) == [0] * 4 + [1] * 4 + [2] * 4
    rows = (images - torch.arange(3).repeat_interleave(4)[:, None, None, None] / 10).view(3, 4, -1)
    torch.testing.assert_close(rows[0], rows[1])
    torch.testing.assert_close(rows[0], rows[2])
    assert len({column[0].item() for column in rows[0]}) == 4
    picture = grid(images, game.rows)
    tile = 64 + GAP
    assert picture.shape == (3 * tile + GAP, 4 * tile + GAP, 1)
    assert [round((picture[GAP + i * tile, GAP].item() / 127.5 - 1) * 10) for i in range(3)] == [0, 1, 2]


def test_a_grid_without_room_for_all_classes_shows_the_first() -> None:
    pair = pair_of(Listening(), NonSaturating(), LabelGenerator())
    game = LatentGame(pairs={"main": pair}, shape=SHAPE, prior="normal", grid=9)
    assert game.rows == 2 and classes_of(game.sample()) == [0] * 4 + [1] * 4


def test_samples_are_of_the_given_classes_or_of_any() -> None:
    game = game_of()
    assert classes_of(game.draw(4, Condition(labels=torch.tensor([2, 1, 1, 0])))) == [2, 1, 1, 0]
    torch.manual_seed(0)
    drawn = torch.tensor(classes_of(game.draw(3000)))
    assert all(abs(share - 1 / 3) < 0.05 for share in (drawn.bincount(minlength=3) / 3000).tolist())


def test_a_game_knows_from_its_networks_whether_it_is_conditional() -> None:
    conditional, plain = (
        game_of(),
        LatentGame(pairs={"main": pair_of()}, shape=BatchShape(4, 2), prior="normal", grid=4),
    )
    assert Fact.LABELLED in conditional.traits.provides and Fact.UNLABELLED in conditional.traits.invalidates
    assert Fact.UNLABELLED in plain.traits.provides and Fact.LABELLED not in plain.traits.provides
    assert plain.classes == 0 and plain.rows is None and plain.grid_labels is None
    assert set(conditional.state_dict()) - {"grid_labels"} == set(game_of().state_dict()) - {"grid_labels"}
    assert "grid_labels" not in plain.state_dict() and "grid_labels" in conditional.state_dict()


def test_networks_that_disagree_about_labels_are_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"model.discriminator: a network that reads no labels, expected 3 classes.*C24"
    ):
        LatentGame(pairs={"main": pair_of(generator=LabelGenerator())}, shape=SHAPE, prior="normal", grid=4)
    with pytest.raises(ConfigError, match=r"3 classes, expected a network that reads no labels"):
        LatentGame(pairs={"main": pair_of(Listening())}, shape=SHAPE, prior="normal", grid=4)
    LatentGame(pairs={"main": pair_of(Names())}, shape=SHAPE, prior="normal", grid=4)  # one that only names classes may


# Whole runs


@pytest.mark.parametrize(
    ("model", "overrides", "message"),
    [
        ("cgan", ("dataset=swiss_roll", "dataset.size=100"), "model.generator.classes: 0 classes, .* .rule C24."),
        ("acgan", ("dataset.classes=[3]",), "model.discriminator.classes: 1 class, so nothing to tell apart"),
        ("cdcgan", ("model.generator.classes=5", "model.discriminator.classes=5"), "5, but the data have 10 classes"),
        ("cdcgan", ("model.generator.classes=5",), "model.discriminator: 10 classes, expected 5 classes"),
        ("cdcgan", ("dataset.class_count=7",), "dataset.class_count: 7, but the data have 10 classes"),
        ("cdcgan", ("model.generator.condition=all",), "model.generator.condition: all, expected one of input, every"),
        ("cgan", ("model.generator.embed=0",), "model.generator.embed: 0"),
    ],
)  # fmt: skip
def test_refusals(model: str, overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as refusal:
        run_of(model, *overrides)
    assert len(refusal.value.lines) == 1 and "\n" not in str(refusal.value)


@pytest.mark.parametrize("trick", ["replay", "virtual_batch_norm"])
def test_tricks_that_forget_labels_are_refused(trick: str) -> None:
    with pytest.raises(ConfigErrors, match=f"tricks.{trick}: needs a game without class labels.*C24"):
        run_of("cdcgan", tricks=(trick,))


def test_an_auxiliary_classifier_needs_labels_and_a_head() -> None:
    for model in ("dcgan", "cdcgan"):
        with pytest.raises(ConfigErrors, match=r"a discriminator that also names the class.*Try: model=acgan"):
            run_of(model, tricks=("auxiliary_classifier",))


@pytest.mark.parametrize(
    ("norm", "loss", "warned"), [("none", "wasserstein", 1), ("layer", "wasserstein", 0), ("none", "hinge", 0)]
)
def test_a_critic_that_may_ignore_the_label(norm: str, loss: str, warned: int) -> None:
    run = run_of("cdcgan", f"loss={loss}", f"model.discriminator.norm={norm}", tricks=("gp",))
    assert [diagnostic.id for diagnostic in run.diagnostics].count("C34") == warned


def test_a_conditional_run_trains_and_labels_reach_the_weights() -> None:
    run = run_of("projection", "loss=hinge", tricks=("spectral_norm",))
    generator = pair_in(run).generator
    tables = [layer.gain.weight for layer in generator.modules() if isinstance(layer, ConditionalBatchNorm)]
    before = [table.detach().clone() for table in tables]
    play(run, 0, 2)
    assert all((table != old).any() for table, old in zip(tables, before, strict=True))
    assert run.game.classes == 10 and run.settings["dataset"]["class_count"] == 10


def test_labels_of_a_data_set_of_others_making_are_checked() -> None:
    from ganrun.data.transforms.classes import check_labels, class_counts

    for labels, found in (
        (torch.zeros(3), r"labels \[3\] of float32 for 3 images"),
        (torch.zeros(2, dtype=torch.int64), r"labels \[2\] of int64 for 3 images"),
        (torch.tensor([0, 1, 2]), "labels from 0 to 2, expected 0 to 1, as there are 2 classes"),
        (torch.tensor([-1, 0, 1]), "labels from -1 to 1"),
    ):
        with pytest.raises(ConfigError, match=found):
            check_labels(labels, 3, ("a", "b"))
    check_labels(torch.tensor([0, 1, 1]), 3, ("a", "b"))
    assert class_counts(torch.tensor([0, 1, 1]), ("a", "b", "c")) == {"a": 1, "b": 2, "c": 0}


def test_a_run_records_how_many_images_each_class_has(tmp_path: Path) -> None:
    import json

    from ganrun.cli.main import main
    from ganrun.run.load import draw, load_run

    folder = tmp_path / "run"
    small_run = [*tiny("steps=1", model="cdcgan"), f"hydra.run.dir={folder}", "game.grid=40"]
    assert main([word for word in small_run if not word.startswith("game.grid=4 ")]) == 0
    counted = json.loads((folder / "environment.json").read_text())["classes"]
    assert list(counted) == [str(digit) for digit in range(10)] and sum(counted.values()) == 1797
    log = (folder / "run.log").read_text()
    assert "images of each class: 0 178, 1 182" in log and "a row for each class, 10 of 10" in log
    run, _ = load_run(folder)
    wanted = torch.arange(6)
    asked = Condition(labels=wanted)
    assert torch.equal(draw(run.game, 6, seed=1, condition=asked), draw(run.game, 6, seed=1, condition=asked))
    assert not torch.equal(
        draw(run.game, 6, seed=1, condition=asked),
        draw(run.game, 6, seed=1, condition=Condition(labels=wanted.flip(0))),
    )


def test_features_behind_blocks_of_labels_are_known_to_tricks() -> None:
    """Layers that tricks add find maps of the size they look for, in networks that read labels too."""
    tricks = (
        "self_attention",
        "minibatch_discrimination",
        "feature_matching",
    )  # the last two score images while they bind
    run = run_of("cdcgan", "tricks.self_attention.at=8", tricks=tricks)
    play(run, 0, 1)
    assert sum(name.endswith(".attention") for name, _ in pair_in(run).named_modules()) == 2


def test_fold_is_where_labels_join_the_features() -> None:
    _, discriminator = small("cdcgan", 1, 16, "discriminator.condition=every")
    kinds = [type(layer) for layer in discriminator.head]
    assert kinds == [Fold, Beside, nn.Linear]


def test_context_labels_are_the_fakes_labels_in_gs_update() -> None:
    seen: list[Context] = []

    class Watching(AuxiliaryClassifier):
        def generator_term(self, context: Context) -> Tensor:
            seen.append(context)
            return context.fake.sum() * 0

        def discriminator_term(self, context: Context) -> Tensor:
            return context.fake.sum() * 0

        def observe(self, context: Context) -> None: ...

    game = game_of(watching=Watching(real=1.0, fake=1.0, generator=1.0))
    joint_update(game)
    (context,) = seen
    assert context.latent is not None and context.latent.labels is context.labels
    assert torch.equal(context.labels, LABELS) and context.on_real is None and context.real is None  # type: ignore[arg-type]
