"""InfoGAN: the bound by hand, where its gradient goes, what codes are made of, and pictures that sweep one of them."""

import importlib.util
import math
from typing import Any

import pytest
import torch
from support import CONF, built, composed, drawn, pair_in, play, tiny, trick_of
from torch import nn

from ganrun.config.build import build
from ganrun.core.context import Latent, Outcome, Progress
from ganrun.core.engine import chain_of
from ganrun.core.errors import ConfigError, ConfigErrors
from ganrun.models import infogan
from ganrun.record.grid import grid
from ganrun.tricks.info_codes import categorical_bound, gaussian_bound

SMALL = ("model.generator.width=4", "model.discriminator.width=4", "model.generator.hidden=16",
         "model.discriminator.hidden=16", "model.generator.latent=20")  # fmt: skip


def run_of(*overrides: str, model: str = "infogan", tricks: tuple[str, ...] = ("info_codes",)) -> Any:
    small = SMALL if model == "infogan" else SMALL[-1:]
    return build(composed(*tiny(model=model, tricks=tricks), *small, *overrides))


# The bound


def test_the_bound_of_a_category_by_hand() -> None:
    """q(c|x) = (1/2, 1/4, 1/4) for the true value: log 3 - log 2 nats, and log 3 - log 4 for one of the others."""
    logits = torch.tensor([[1 / 2, 1 / 4, 1 / 4]]).log() + 7  # logits are free up to a constant
    assert categorical_bound(logits, torch.tensor([0])).item() == pytest.approx(math.log(3 / 2), abs=1e-5)
    assert categorical_bound(logits, torch.tensor([2])).item() == pytest.approx(math.log(3 / 4), abs=1e-5)
    both = categorical_bound(logits.repeat(2, 1), torch.tensor([0, 2])).item()
    assert both == pytest.approx((math.log(3 / 2) + math.log(3 / 4)) / 2, abs=1e-5)


def test_a_category_that_is_read_without_error_tells_its_entropy_and_guessing_tells_nothing() -> None:
    code = torch.arange(10)
    assert categorical_bound(100 * torch.eye(10), code).item() == pytest.approx(math.log(10), abs=1e-4)
    assert categorical_bound(torch.zeros(10, 10), code).item() == pytest.approx(0, abs=1e-6)


def test_the_bound_of_continuous_codes_by_hand() -> None:
    """Two codes: at the mean with std 1, and one std of 1/2 away from it. H(U(-1, 1)) is log 2 each."""
    mean, log_std = torch.tensor([[0.3, -0.5]]), torch.tensor([[0.0, math.log(0.5)]])
    code = torch.tensor([[0.3, 0.0]])
    first = -math.log(math.sqrt(2 * math.pi)) + math.log(2)
    second = -math.log(math.sqrt(2 * math.pi)) - math.log(0.5) - 0.5 + math.log(2)
    assert gaussian_bound(mean, log_std, code).item() == pytest.approx(first + second, abs=1e-5)


def test_no_gaussian_tells_more_than_there_is_to_know() -> None:
    """For q that ignores x, E log q(c) + H(c) <= 0, whatever q: minus the divergence of U(-1, 1) from q."""
    code = torch.linspace(-1, 1, 20001)[:, None]
    found = [gaussian_bound(torch.zeros_like(code), torch.full_like(code, s), code).item() for s in (-1.0, -0.55, 0.0)]
    assert max(found) < 0
    divergence = 0.5 * math.log(2 * math.pi / 3) + 0.5 - math.log(2)  # for the best q, of variance 1/3
    best = gaussian_bound(torch.zeros_like(code), torch.full_like(code, -0.5 * math.log(3)), code).item()
    assert best == pytest.approx(-divergence, abs=1e-3)


# Codes


def test_codes_are_the_last_numbers_of_the_noise() -> None:
    run = run_of()
    noise = torch.randn(500, 20)
    latent = trick_of(run, "info_codes").latent(Latent(noise))
    assert torch.equal(latent.noise[:, :8], noise[:, :8])
    one_hot, continuous = latent.noise[:, 8:18], latent.noise[:, 18:]
    assert torch.equal(one_hot.argmax(1), latent.codes["category_0"]) and torch.equal(one_hot.sum(1), torch.ones(500))
    assert set(one_hot.unique().tolist()) == {0.0, 1.0}
    assert len(latent.codes["category_0"].unique()) == 10  # each is missing with probability 0.9^500
    assert torch.equal(continuous, latent.codes["continuous"])
    assert continuous.abs().max() <= 1 and continuous.std().item() == pytest.approx(3**-0.5, abs=0.05)


def test_the_noise_of_the_grid_and_new_samples_hold_codes() -> None:
    run = run_of("game.grid=9")
    grid = run.game.grid
    assert torch.equal(grid[:, 8:18].sum(1), torch.ones(9)) and set(grid[:, 8:18].unique().tolist()) == {0.0, 1.0}
    seen: list[torch.Tensor] = []
    run.game.pairs["main"].generator.register_forward_pre_hook(lambda net, given: seen.append(given[0]))
    run.game.draw(6)
    assert torch.equal(seen[0][:, 8:18].sum(1), torch.ones(6))


@pytest.mark.parametrize("latent", [3, 12])
def test_a_latent_without_room_for_noise_is_refused(latent: int) -> None:
    with pytest.raises(
        ConfigError, match=rf"tricks.info_codes: {latent} numbers of noise, and the last 12 .* more than 12. Try: .*=74"
    ):
        run_of(f"model.generator.latent={latent}")


@pytest.mark.parametrize("model", ["stackgan", "stackgan_v2"])
def test_noise_that_a_sentence_is_drawn_with_is_not_for_codes(model: str) -> None:
    with pytest.raises(ConfigError, match=r"tricks.info_codes: codes take the last numbers of the noise.* Try: model="):
        built("tricks=[info_codes]", "tricks.info_codes.categories=[2]", model=model)


def test_a_pool_of_fakes_is_refused() -> None:
    """Fakes of the past have lost their codes."""
    with pytest.raises(ConfigErrors, match=r"tricks.replay: needs .*; tricks.info_codes takes that away"):
        run_of(tricks=("info_codes", "replay"))


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("tricks.info_codes.categories=[1]", "tricks.info_codes.categories: 1, expected a whole number at least 2"),
        ("tricks.info_codes.std=free", "tricks.info_codes.std: free, expected one of fixed, learnt"),
        ("tricks.info_codes.norm=group", "tricks.info_codes.norm: group, expected one of batch, layer, none"),
    ],
)
def test_refusals(override: str, line: str) -> None:
    with pytest.raises(ConfigError) as refused:
        run_of(override)
    assert refused.value.lines[0].startswith(line)


def test_no_codes_at_all_are_refused() -> None:
    with pytest.raises(ConfigError, match="no codes"):
        run_of("tricks.info_codes.categories=[]", "tricks.info_codes.continuous=0")


# Who learns what. torchgan's term has no gradient; vegans makes the heads after the optimisers


@pytest.mark.parametrize("model", ["infogan", "dcgan", "mlp"])
@pytest.mark.parametrize("std", ["fixed", "learnt"])
def test_the_term_reaches_generator_trunk_and_head(model: str, std: str) -> None:
    run = run_of(f"tricks.info_codes.std={std}", model=model)
    pair, trick, net = pair_in(run), trick_of(run, "info_codes"), pair_in(run).discriminator
    outcomes: dict[str, Outcome] = {}
    run.engine.begin(Progress(0))
    (update,) = run.updates(run.game, 0)
    for one, batches in zip(chain_of(update), drawn(run, update), strict=True):
        fakes = outcomes["discriminator"].fakes if one.given_fakes else {}
        outcomes[one.player] = run.game.outcome(one, batches, fakes)
    trunk = [p for p in net.blocks.parameters() if p.requires_grad]
    q = list(net.recogniser.parameters())
    for player, learners in (("discriminator", [*trunk, *q]), ("generator", list(pair.generator.parameters()))):
        term = outcomes[player].terms["info_codes"]
        slopes = torch.autograd.grad(term, learners, retain_graph=True, allow_unused=True)
        weights = [s for p, s in zip(learners, slopes, strict=True) if p.dim() > 1]
        assert weights and all(s is not None and s.abs().max() > 0 for s in weights), player
    assert trick.size == 12


@pytest.mark.parametrize("model", ["infogan", "dcgan"])
def test_the_head_is_moved_by_the_optimiser_of_d_alone(model: str) -> None:
    run = run_of(model=model)
    q = {id(p) for p in pair_in(run).discriminator.recogniser.parameters()}
    players = run.engine.players
    owned = {name: {id(p) for g in one.optimizer.param_groups for p in g["params"]} for name, one in players.items()}
    assert q and q <= owned["discriminator"] and not q & owned["generator"]
    before = [p.detach().clone() for p in pair_in(run).discriminator.recogniser.parameters()]
    play(run, 0, 1)
    after = list(pair_in(run).discriminator.recogniser.parameters())
    assert all(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_terms_are_minus_the_weighted_bound_and_gauges_the_bound() -> None:
    run = run_of("tricks.info_codes.weight_categorical=3", "tricks.info_codes.weight_continuous=0.1")
    rows = play(run, 0, 1).rows
    metrics = rows[0][2]
    bound = 3 * metrics["tricks/info_codes/bound_categorical"] + 0.1 * metrics["tricks/info_codes/bound_continuous"]
    assert metrics["loss/discriminator/info_codes"].item() == pytest.approx(-bound.item(), abs=1e-5)
    assert "loss/generator/info_codes" in rows[1][2]
    assert (
        abs(metrics["tricks/info_codes/bound_categorical"].item()) < 1
    )  # Q knows nothing yet: near 0, far from log 10


def test_no_category_or_no_continuous_code() -> None:
    for override, gone in (("categories=[]", "bound_categorical"), ("continuous=0", "bound_continuous")):
        run = run_of(f"tricks.info_codes.{override}")
        names = play(run, 0, 1).rows[0][2]
        assert f"info_codes/{gone}" not in names and all(value.isfinite() for value in names.values())


def test_several_categories_as_for_svhn() -> None:
    """Four of 20 and 124 of noise there; here two, and every value of each is swept."""
    run = run_of("tricks.info_codes.categories=[3,4]", "game.grid=2")
    assert {name: tuple(p.shape[:2]) for name, p in run.game.pictures().items()} == {
        "code_0": (2, 3), "code_1": (2, 4), "code_2": (2, 10), "code_3": (2, 10)}  # fmt: skip
    assert all(value.isfinite() for value in play(run, 0, 1).rows[0][2].values())


# Pictures


def test_a_sweep_changes_one_code_and_nothing_else() -> None:
    run = run_of("game.grid=5")
    sweeps = trick_of(run, "info_codes").traversals(run.game.grid)
    assert list(sweeps) == ["code_0", "code_1", "code_2"]
    for name, places in (("code_0", range(8, 18)), ("code_1", [18]), ("code_2", [19])):
        latents, moved = sweeps[name], list(places)
        rest = [i for i in range(20) if i not in moved]
        assert latents.shape == (5, 10, 20)
        assert torch.equal(latents[:, :, rest], run.game.grid[:, None, rest].expand(5, 10, len(rest)))
        assert len(latents[0][:, moved].unique(dim=0)) == 10
    assert torch.equal(sweeps["code_0"][3, :, 8:18], torch.eye(10))
    assert torch.equal(sweeps["code_2"][1, :, 19], torch.linspace(-2, 2, 10))


def test_pictures_are_what_the_generator_makes_of_the_sweep() -> None:
    run = run_of("game.grid=3")
    latents = trick_of(run, "info_codes").traversals(run.game.grid)["code_1"]
    images = run.game.pictures()["code_1"]
    assert images.shape == (3, 10, 1, 16, 16) and grid(images.flatten(0, 1), 3).shape[1] > grid(images[0], 3).shape[0]
    with pair_in(run).sampler() as generator, torch.no_grad():
        assert torch.allclose(images[1, 4], generator(latents[1])[4], atol=1e-6)
    assert not built().game.pictures()


def test_pictures_are_saved_beside_the_grid(tmp_path: Any) -> None:
    from ganrun.run.session import Session
    from ganrun.run.signals import Signals

    cfg = composed(*tiny(model="infogan", tricks=("info_codes",)), *SMALL, "steps=2", "log.samples=1")
    assert Session(signals=Signals()).start(cfg, tmp_path / "run", overrides=[]) == 0
    names = {path.name for path in (tmp_path / "run" / "samples").glob("*.png")}
    pictures = {f"{name}_{step:08d}.png" for name in ("step", "code_0", "code_1", "code_2") for step in (1, 2)}
    assert names == pictures | {"reals.png"}


# Networks


def test_published_sizes() -> None:
    """Appendix C.1 at 28x28: numbers counted by hand, one bias for each unit that no norm follows."""
    cfg = composed("model=infogan", "dataset=digits", "dataset.resolution=28", "tricks=[info_codes]")
    pair = pair_in(build(cfg))
    g = 74 * 1024 + 2 * 1024 + 1024 * 6272 + 2 * 6272 + 128 * 64 * 16 + 2 * 64 + 64 * 16 + 1
    d = 16 * 64 + 64 + 64 * 128 * 16 + 2 * 128 + 6272 * 1024 + 2 * 1024 + 1024 + 1
    q = 1024 * 128 + 2 * 128 + 128 * 12 + 12
    assert sum(p.numel() for p in pair.generator.parameters()) == g
    assert sum(p.numel() for p in pair.discriminator.parameters()) == d + q
    assert pair.generator.blocks[1].unfold.shape == (7, 7, 128)


@pytest.mark.parametrize(("resolution", "size", "convolutions"), [(16, 4, 2), (28, 7, 2), (32, 8, 2), (64, 8, 3)])
@pytest.mark.parametrize("channels", [1, 4])
def test_every_size(resolution: int, size: int, convolutions: int, channels: int) -> None:
    common: dict[str, Any] = {
        "channels": channels, "resolution": resolution, "width": 2, "hidden": 8, "kernel": 4, "norm": "batch",
        "activation": "relu", "slope": 0.1, "dropout": 0.0, "init": {"kind": "default", "scale": 0, "gain_scale": 0},
    }  # fmt: skip
    generator = infogan.Generator(latent=5, output="tanh", **common)
    judge = infogan.Discriminator(epilogue=None, output="linear", **common)
    images = generator(torch.randn(3, 5))
    assert images.shape == (3, channels, resolution, resolution)
    output = judge(images)
    assert output.score.shape == (3,) and output.features[-1].shape == (3, 8)
    assert output.features[-2].shape == (3, 2 * 2 ** (convolutions - 1), size, size)
    assert not [m for m in judge.blocks[0].modules() if isinstance(m, nn.BatchNorm2d)]  # none on the image


def test_a_size_that_it_cannot_make_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model.generator.resolution: 24, expected one of 16, 28, 32, 64"):
        run_of("dataset.resolution=24")


# Classes without labels


def judge() -> Any:
    spec = importlib.util.spec_from_file_location("judge_codes", CONF.parent / "scripts" / "judge_codes.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_codes_are_matched_to_classes_one_to_one() -> None:
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    assert judge().matched(torch.tensor([2, 2, 0, 0, 1, 1]), labels) == 1  # other names, the same parts
    assert judge().matched(torch.tensor([1, 1, 1, 1, 0, 2]), labels) == pytest.approx(3 / 6)  # one code for one class
    assert judge().matched(torch.zeros(6, dtype=torch.int64), labels) == pytest.approx(2 / 6)
    shuffled, largest = judge().chance(torch.arange(10).repeat(100), torch.arange(10).repeat_interleave(100))
    assert 0.1 < shuffled < 0.2 and shuffled < largest < 0.25


@pytest.mark.slow
def test_the_category_becomes_the_digits() -> None:
    """No label is ever seen; with codes that mean nothing the matching finds about 0.13."""
    cfg = composed("experiment=infogan", "engine.device=cpu", "engine.precision=fp32", "engine.workers=0")
    run = build(cfg)
    play(run, 0, 2000)
    images, labels = run.dataset.bulk()
    codes = judge().read_codes(pair_in(run).discriminator, images.float() / 127.5 - 1, 0)
    assert judge().matched(codes, labels) > 0.4
    assert trick_of(run, "info_codes").categorical > 1.5  # nats of log 10 = 2.3


@pytest.mark.parametrize("model", ["acgan", "cdcgan", "projection"])
def test_codes_stand_beside_labels(model: str) -> None:
    """Networks that read labels have codes too; a row of a picture has the label of the grid's image that it varies."""
    run = built("tricks=[info_codes]", "model.generator.latent=16", "game.grid=12", model=model)
    play(run, 0, 2)
    game: Any = run.game
    picture = game.pictures()["code_0"]
    with game.pair.sampler() as generator, torch.no_grad():
        row = game.grid[5].repeat(10, 1)
        row[:, 4:14] = torch.eye(10)  # 16 numbers: 4 of noise, a category of ten, two continuous codes
        expected = generator(row, game.grid_labels[5].repeat(10))
        other = generator(row, game.grid_labels[0].repeat(10))
    torch.testing.assert_close(picture[5], expected)
    assert not torch.allclose(picture[5], other)
