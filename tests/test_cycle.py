"""CycleGAN in small, a game of two pairs: losses by hand, the paper's networks, tricks on each pair, exact resume."""

import json
from pathlib import Path

import properties
import pytest
import torch
import torch.nn.functional as F
from support import built, composed, family, loop, mostly_slow, progress
from torch import Tensor, nn

import ganrun
from ganrun.config.build import Run, build
from ganrun.core.context import BatchShape, Condition, Update
from ganrun.core.errors import ConfigError
from ganrun.core.pair import Pair
from ganrun.data.transforms.value_range import to_units
from ganrun.games.cycle import BACK, FROM, CycleGame
from ganrun.losses.targets import LeastSquares
from ganrun.models import translation

SMALL = (
    "experiment=cyclegan", "steps=4", "batch=2", "game.grid=2", "engine.device=cpu", "engine.precision=fp32",
    "dataset=digits_to_negatives", "model.generator.width=2", "model.generator.halvings=0", "model.generator.blocks=1",
    "model.discriminator.width=2",
)  # fmt: skip


def run_of(*overrides: str) -> Run:
    return build(composed(*SMALL, *overrides))


# Losses


class Affine(nn.Module):
    """G(x) = scale x + shift."""

    channels, resolution, range = 1, 2, (-1.0, 1.0)

    def __init__(self, scale: float, shift: float):
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.tensor(scale)), nn.Parameter(torch.tensor(shift))

    def forward(self, image: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.scale * image + self.shift


def discriminator() -> nn.Module:
    return translation.Discriminator(
        channels=1, resolution=8, width=2, halvings=1, slope=0.2, output="linear", scale=0.1
    )


def game_of(cycle: float = 10.0, identity: float = 5.0) -> CycleGame:
    pairs = {
        name: Pair(generator=Affine(*numbers), discriminator=discriminator(), loss=LeastSquares(), tricks={})
        for name, numbers in (("a_to_b", (0.5, 0.1)), ("b_to_a", (-0.25, 0.2)))
    }
    return CycleGame(pairs=pairs, shape=BatchShape(3, 8), cycle=cycle, identity=identity, grid=2)


def test_the_generators_minimise_what_the_paper_says() -> None:
    """Equations 1 to 3 and section 5.2, written out: G(x) = x/2 + 0.1, F(x) = -x/4 + 0.2."""
    from ganrun.core.context import Batch

    torch.manual_seed(0)
    a, b = torch.rand(3, 1, 8, 8) * 2 - 1, torch.rand(3, 1, 8, 8) * 2 - 1
    game = game_of()
    to_b, to_a = (lambda x: 0.5 * x + 0.1), (lambda x: -0.25 * x + 0.2)
    update = Update(player="generator", role="generator", shape=game.shape)
    terms = game.outcome(update, {"a": Batch(a), "b": Batch(b)}, {}).terms
    cycle = F.l1_loss(to_a(to_b(a)), a) + F.l1_loss(to_b(to_a(b)), b)
    identity = F.l1_loss(to_b(b), b) + F.l1_loss(to_a(a), a)
    assert terms["cycle"].item() == pytest.approx(10 * cycle.item(), rel=1e-5)
    assert terms["identity"].item() == pytest.approx(5 * identity.item(), rel=1e-5)
    for name, fake in (("a_to_b", to_b(a)), ("b_to_a", to_a(b))):
        scores = game.named_pairs()[name].discriminator(fake).score
        assert scores.shape[1] == 1 and scores.dim() == 4, "a score for each patch"
        expected = ((scores - 1) ** 2).mean() / 2
        assert terms[f"{name}/adversarial"].item() == pytest.approx(expected.item(), rel=1e-5)
    update = Update(player="discriminator", role="discriminator", shape=game.shape)
    terms = game.outcome(update, {"a": Batch(a), "b": Batch(b)}, {}).terms
    judge = game.named_pairs()["a_to_b"].discriminator
    expected = (((judge(b).score - 1) ** 2).mean() + (judge(to_b(a)).score ** 2).mean()) / 2
    assert terms["a_to_b/adversarial"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert set(terms) == {"a_to_b/adversarial", "b_to_a/adversarial"}


def test_weights_of_zero_leave_their_terms_out() -> None:
    from ganrun.core.context import Batch

    game, batch = game_of(cycle=0.0, identity=0.0), Batch(torch.zeros(3, 1, 8, 8))
    update = Update(player="generator", role="generator", shape=game.shape)
    assert set(game.outcome(update, {"a": batch, "b": batch}, {}).terms) == {"a_to_b/adversarial", "b_to_a/adversarial"}
    with pytest.raises(ConfigError, match=r"^\.cycle: -1"):
        game_of(cycle=-1)


def test_the_directions_lead_back() -> None:
    assert {FROM[name] for name in FROM} == set(CycleGame.streams()) == {"a", "b"}
    assert all(CycleGame.plans[name].stream == FROM[BACK[name]] for name in FROM)


# Networks of the paper's size


def test_parameters_are_those_of_the_authors_networks() -> None:
    """Their code prints 11.378 M for the generator with 9 blocks and 2.765 M for the discriminator."""
    generator = translation.Generator(channels=3, resolution=256, width=64, halvings=2, blocks=9, scale=0.02)
    judge = translation.Discriminator(
        channels=3, resolution=256, width=64, halvings=3, slope=0.2, output="linear", scale=0.02
    )
    assert sum(p.numel() for p in generator.parameters()) == 11_378_179
    assert sum(p.numel() for p in judge.parameters()) == 2_764_737
    assert judge(torch.zeros(1, 3, 256, 256)).score.shape == (1, 1, 30, 30)


def test_a_patch_has_seventy_pixels() -> None:
    """The pixels that one score depends on, by its gradient; norms, which see the whole map, left out."""
    judge = translation.Discriminator(
        channels=1, resolution=256, width=2, halvings=3, slope=0.2, output="linear", scale=1.0
    )
    for block in judge.blocks:
        if hasattr(block, "norm"):
            block.norm = nn.Identity()
    image = torch.zeros(1, 1, 256, 256, requires_grad=True)
    judge(image).score[0, 0, 15, 15].backward()
    touched = image.grad[0, 0].ne(0).nonzero()  # type: ignore[index]
    assert (touched.max(0).values - touched.min(0).values + 1).tolist() == [70, 70]


def test_a_generator_keeps_the_size_and_the_range() -> None:
    made = translation.Generator(channels=3, resolution=16, width=4, halvings=2, blocks=1, scale=1.0)(
        torch.randn(2, 3, 16, 16)
    )
    assert made.shape == (2, 3, 16, 16) and made.abs().max() <= 1


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (
            ["model.generator.halvings=5"],
            "model.generator.halvings: 5 of 16 pixels, .*Try: model.generator.halvings=1",
        ),
        (["model.discriminator.halvings=3"], "model.discriminator.halvings: 3, which leave maps of 2 pixels"),
        (["game=latent"], "model.generator: it makes images from images, expected .* from noise. Try: game=cycle"),
        (["dataset=digits", "dataset.resolution=16"], "dataset: streams images, expected b, a for this game"),
    ],
)
def test_what_does_not_fit_is_refused(overrides: list[str], line: str) -> None:
    with pytest.raises(ConfigError, match=f"^{line}"):
        run_of(*overrides)


def test_noise_and_images_are_not_mixed_up() -> None:
    with pytest.raises(ConfigError, match=r"^model\.generator: it makes images from noise.* Try: model=translation"):
        build(composed("game=cycle", "dataset=digits_to_negatives", "model=dcgan", "batch=2", "engine.device=cpu"))
    with pytest.raises(ConfigError, match=r"^dataset: streams a, b, expected images for this game"):
        built("dataset=digits_to_negatives")


# The whole game


def test_resume_is_exact() -> None:
    """With pools, averages and a falling rate, for both pairs."""
    properties.check_resume(SMALL)


def test_no_update_waits_for_the_device_and_addresses_are_stable() -> None:
    properties.check_no_sync(SMALL)
    properties.check_addresses(SMALL)


def test_the_state_of_each_pair_is_its_own() -> None:
    run = run_of()
    loop(run, 0, 3)
    keys = run.game.state_dict().keys()
    for name in FROM:
        assert any(key.startswith(f"pairs.{name}.tricks.replay.") for key in keys)
        assert any(key.startswith(f"pairs.{name}.tricks.ema.") for key in keys)
    pools = [run.game.named_pairs()[name].tricks["replay"].state_dict() for name in FROM]
    assert any(not torch.equal(one, other) for one, other in zip(*(pool.values() for pool in pools), strict=True))
    assert progress(run, 3).images == 6


@pytest.mark.slow
def test_a_run_leaves_grids_of_both_directions_and_curves_of_each_pair(tmp_path: Path) -> None:
    folder = ganrun.train(composed(*SMALL, "log.every=2"), tmp_path / "run")
    names = {path.name for path in (folder / "samples").iterdir()}
    assert {"a_to_b_00000004.png", "b_to_a_00000004.png", "reals_a.png", "reals_b.png", "step_00000004.png"} == names
    line = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    for name in FROM:
        assert {f"loss/{player}/{name}/adversarial" for player in ("discriminator", "generator")} <= line.keys()
        assert {f"probability/{name}/real", f"score/{name}/fake"} <= line.keys()
        assert any(key.startswith("weight_gradient/generator/") and f"_{name}." in key for key in line)
    assert {"loss/generator/cycle", "loss/generator/identity", "loss/generator/total"} <= line.keys()
    loaded = ganrun.load(folder, device="cpu")
    images = loaded.sample(3, seed=1)
    assert images.shape == (3, 3, 16, 16)
    given = torch.rand(2, 3, 16, 16)
    made = loaded.game.draw(2, Condition(image=given))
    assert torch.equal(made, loaded.generator.eval()(given))


@pytest.mark.parametrize("trick", mostly_slow(family("tricks")))
def test_every_trick_trains_or_is_refused_with_a_reason(trick: str) -> None:
    try:
        run = run_of(f"tricks=[{trick}]")
    except ConfigError as refusal:
        assert all(len(line) > 30 for line in refusal.lines), refusal.lines
        return
    loop(run, 0, 2)
    samples = run.game.sample()
    assert samples.isfinite().all()
    for pair in run.game.named_pairs().values():
        assert list(pair.tricks) == [trick]


def test_most_tricks_train_on_both_pairs() -> None:
    """The test above would be content if all were refused."""
    trained = []
    for trick in ("replay", "ema", "soft_labels", "flip", "instance_noise", "spectral_norm", "gp", "feature_matching"):
        run = run_of(f"tricks=[{trick}]")
        loop(run, 0, 1)
        trained.append(trick)
    assert len(trained) == 8


def test_a_digits_negative_is_the_negative_of_a_digit() -> None:
    """What the networks are to learn is known: x -> -x."""
    run = run_of()
    a, b = (run.data.sources[stream].dataset.bulk()[0] for stream in ("a", "b"))
    assert a.float().mean() < 80 < 127 < b.float().mean() and len(a) + len(b) == 1797 - 180
    assert built().dataset.streams.keys() == {"images"}


def test_a_full_pool_resumes_exactly() -> None:
    """The pools are filled within the first step, and half of the fakes that D sees are then exchanged with them."""
    small = (*SMALL, "tricks.replay.size=2", "batch=4")
    run = run_of("tricks.replay.size=2", "batch=4")
    loop(run, 0, 3)
    for pair in run.game.named_pairs().values():
        replay = pair.tricks["replay"]
        assert int(replay.seen) == 12 and (replay.pool.flatten(1) != 0).any(1).all()
    properties.check_resume(small)


@pytest.mark.slow
def test_the_translation_that_is_learnt_is_the_negative() -> None:
    """No term of the loss names it. On digits that domain a does not hold; `halvings=0` is what makes it likely."""
    tiny = ("model.generator.width=8", "model.generator.halvings=0", "model.generator.blocks=1", "batch=16",
            "optim.decay.steps=300", "optim.decay.delay=300", "model.discriminator.width=32")  # fmt: skip
    small = ("experiment=cyclegan", "dataset=digits_to_negatives", "engine.device=cpu", "engine.precision=fp32")
    run = build(composed(*small, *tiny))
    loop(run, 0, 600)
    data = run.data.sources["b"].dataset  # whose truth is in domain a, and none of them
    images, truth = (to_units(one.bulk()[0]) for one in (data.truth, data))
    made = run.game.draw(len(images), Condition(image=images))
    pairs = zip(made.flatten(1), truth.flatten(1), strict=True)
    correlation = torch.stack([torch.corrcoef(torch.stack(pair))[0, 1] for pair in pairs]).mean()
    assert correlation > 0.95 and (made - truth).abs().mean() < 0.15
