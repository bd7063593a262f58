"""The systems of 2014 to 2017 that are compositions: constants by hand from their sources, and what follows."""

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from support import ScaleGenerator, built, composed, everything, pair_in, pair_of, play
from torch import Tensor, nn

from ganrun.config.build import Run, build
from ganrun.config.instantiate import Maker
from ganrun.config.validate import resolve
from ganrun.core.context import Progress
from ganrun.core.engine import Metrics
from ganrun.core.errors import ConfigError
from ganrun.core.loss import Loss
from ganrun.core.schedule import FOREVER, Exponential, Linear
from ganrun.games.latent import PRIORS
from ganrun.losses.targets import NonSaturating
from ganrun.models import layers
from ganrun.models.layers import as_output, initialise
from ganrun.tricks.initialisation import MarginalBias
from ganrun.tricks.regularisers import WeightDecay

SMALL = ("engine.device=cpu", "engine.precision=fp32", "engine.workers=0", "game.grid=4", "batch=8", "steps=6")
MLP = ("model.generator.hidden=[16]", "model.discriminator.hidden=[8]", "dataset.resolution=8")


def run_of(experiment: str, *overrides: str) -> Run:
    return build(composed(f"experiment={experiment}", *SMALL, *overrides))


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def nets_of(model: str, *overrides: str) -> tuple[Any, Any]:
    """The networks of a model at their own size, from the configuration, on data of this shape."""
    settings = resolve(composed(f"model={model}", *overrides))["model"]
    return tuple(Maker()(settings[player], f"model.{player}") for player in ("generator", "discriminator"))  # type: ignore[return-value]


# Constants, by hand from the sources ----------------------------------------------------------------------------------

CONSTANTS: dict[str, dict[str, Any]] = {
    "gan": {  # goodfeli/adversarial, mnist.yaml
        "batch": 100, "game.prior": "unit_uniform", "loss": "NonSaturating",
        "model.generator.latent": 100, "model.generator.hidden": [1200, 1200], "model.generator.init.scale": 0.05,
        "model.discriminator.hidden": [240, 240], "model.discriminator.pieces": 5,
        "model.discriminator.input_dropout": 0.2, "model.discriminator.dropout": 0.5,
        "model.discriminator.init.scale": 0.005, "optim.generator.lr": 0.1, "optim.discriminator.lr": 0.1 / 2,
        "tricks": ["marginal_bias"],
    },
    "gan_practical": {  # PyTorch-GAN, gan.py
        "batch": 64, "game.prior": "normal", "model.generator.latent": 100, "loss": "NonSaturating",
        "model.generator.hidden": [128, 256, 512, 1024], "model.discriminator.hidden": [512, 256],
        "model.generator.slope": 0.2, "model.discriminator.slope": 0.2, "optim.generator.lr": 2e-4,
        "optim.generator.betas": [0.5, 0.999], "optim.discriminator.betas": [0.5, 0.999],
    },
    "dcgan": {  # Newmu/dcgan_code, faces/train_uncond_dcgan.py
        "game.prior": "uniform", "model.generator.latent": 100, "model.generator.kernel": 5,
        "model.discriminator.kernel": 5, "model.generator.init.scale": 0.02, "model.generator.init.gain_scale": 0.02,
        "model.discriminator.slope": 0.2, "optim.generator.lr": 2e-4, "optim.generator.betas": [0.5, 0.999],
        "tricks.weight_decay.weight": 1e-5, "tricks.weight_decay.of": "both", "tricks.weight_decay.layers": "all",
        "updates.discriminator": 1, "loss": "NonSaturating",
    },
    "deep_conv": {  # PyTorch-StudioGAN, configs/CIFAR10/DCGAN.yaml over config.py
        "batch": 64, "game.prior": "normal", "model.generator.latent": 128, "updates.discriminator": 2,
        "model.generator.activation": "relu", "model.discriminator.activation": "relu", "loss": "NonSaturating",
        "optim.discriminator.lr": 2e-4, "optim.discriminator.betas": [0.5, 0.999],
        "tricks": ["orthogonal_init", "instance_noise"],  # the second is not StudioGAN's
    },
    "lsgan": {  # xudonmao/LSGAN, train_lsun.py
        "batch": 64, "game.prior": "uniform", "model.generator.latent": 1024, "loss": "LeastSquares",
        "optim.generator.lr": 1e-3, "optim.discriminator.lr": 1e-3, "optim.generator.betas": [0.5, 0.999],
    },
    "hinge": {  # lim0606/pytorch-geometric-gan, scripts/exp3.celeba.sh over main.py
        "batch": 64, "game.prior": "normal", "loss": "Hinge", "updates.generator": 10, "updates.discriminator": 1,
        "optim.generator._target_": "torch.optim.RMSprop", "optim.generator.lr": 2e-4, "optim.generator.alpha": 0.99,
        "optim.discriminator.lr": 2e-4, "tricks.weight_decay.weight": 1 / (1.0 * 64),
        "tricks.weight_decay.of": "discriminator", "tricks.weight_decay.layers": "last",
    },
    "dragan": {  # kodalinaveen3/DRAGAN, DRAGAN.ipynb
        "batch": 128, "game.prior": "uniform", "model.generator.latent": 100, "model.generator.hidden": [128],
        "model.discriminator.hidden": [128], "optim.generator.lr": 1e-4, "optim.generator.betas": [0.5, 0.9],
        "optim.discriminator.betas": [0.5, 0.9], "tricks.dragan.weight": 10, "tricks.dragan.spread": 0.5,
        "tricks.dragan.target": 1, "tricks.dragan.one_sided": False, "loss": "NonSaturating",
    },
    "wgan": {  # martinarjovsky/WassersteinGAN, main.py
        "batch": 64, "game.prior": "normal", "model.generator.latent": 100, "loss": "Wasserstein",
        "optim.generator._target_": "torch.optim.RMSprop", "optim.generator.alpha": 0.99,
        "optim.generator.lr": 4 * 5e-5, "optim.discriminator.lr": 4 * 5e-5,  # four times theirs
        "tricks.clip.bound": 0.01, "updates.discriminator": 5,
        "updates.head_start_steps": 25, "updates.head_start_every": 500, "updates.head_start_discriminator": 100,
        "model.discriminator.norm": "batch", "model.discriminator.kernel": 4,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", CONSTANTS)
def test_the_constants_are_those_of_the_source(name: str) -> None:
    """And both players draw noise of their own, but where the source reuses it."""
    cfg = composed(f"experiment={name}")
    for key, value in CONSTANTS[name].items():
        found = OmegaConf.select(cfg, key)
        if key == "loss":
            found = found._target_.rpartition(".")[2]
        elif key == "tricks":
            found = list(found)
        assert found == (pytest.approx(value) if isinstance(value, float) else value), key
    assert cfg.updates.share_fakes == (name in ("gan_practical", "lsgan"))


@pytest.mark.parametrize("name", ["wgan", "hinge"])
def test_rmsprop_has_no_momentum(name: str) -> None:
    for player in ("generator", "discriminator"):
        assert set(composed(f"experiment={name}").optim[player]) == {"_target_", "lr", "alpha"}


# The first GAN --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [0, 1, 1000, 10**6])
def test_the_first_rate_is_divided_at_every_step(step: int) -> None:
    assert Exponential(start=0.1, end=1e-6, factor=1.000004)(step) == pytest.approx(
        max(0.1 / 1.000004**step, 1e-6), rel=1e-9
    )


def test_the_first_rate_has_a_floor_for_ever() -> None:
    decay = Exponential(start=0.1, end=1e-6, factor=1.000004)
    assert decay(2_878_236) > 1e-6 * 1.00000001 and decay(2_878_239) == decay(FOREVER) == decay.final == 1e-6
    with pytest.raises(ValueError, match="at least 1"):
        Exponential(start=1.0, end=0.0, factor=0.5)


def test_rate_and_momentum_turn_as_in_the_source() -> None:
    """At the paper's size: 0.1 / 1.000004^t, half of that for D; 0.5 in epochs 0 and 1, 0.7 from epoch 250 on."""
    paper = ("optim.generator.momentum.steps=124500", "optim.generator.momentum.delay=500")
    players = run_of("gan", *MLP, *paper).engine.players
    for step, momentum in ((0, 0.5), (500, 0.5), (500 + 62_250, 0.6), (125_000, 0.7), (10**6, 0.7)):
        for name, rate in (("generator", 0.1), ("discriminator", 0.05)):
            players[name].begin(Progress(step))
            (group,) = players[name].optimizer.param_groups
            assert group["momentum"] == pytest.approx(momentum) and not group["nesterov"] and not group["dampening"]
            assert group["lr"] == pytest.approx(rate / 1.000004**step)


def test_growing_momentum_is_what_moves_the_weights() -> None:
    """Velocity by hand: v <- m(t) v + g, w <- w - lr v."""
    run = run_of("gan", *MLP, "optim.generator.momentum.steps=4", "optim.generator.momentum.delay=0", "optim.decay=1")
    weights = [p.detach().double().clone() for p in pair_in(run).generator.parameters()]
    velocity = [torch.zeros_like(w) for w in weights]
    momentum = Linear(start=0.5, end=0.7, steps=4)
    for step in range(4):
        play(run, step, step + 1)
        for w, v, p in zip(weights, velocity, pair_in(run).generator.parameters(), strict=True):
            assert p.grad is not None
            v.mul_(momentum(step)).add_(p.grad.double())
            w.sub_(0.1 * v)
            assert torch.allclose(w, p.detach().double(), rtol=1e-5, atol=1e-7)


def test_a_schedule_of_the_optimiser_must_be_one() -> None:
    with pytest.raises(
        ConfigError, match=r"optim\.discriminator\.momentum: ganrun\.losses\.margins\.Hinge, expected a Schedule"
    ):
        run_of("gan", *MLP, "optim.generator.momentum._target_=ganrun.losses.margins.Hinge",
               "~optim.generator.momentum.start", "~optim.generator.momentum.end", "~optim.generator.momentum.steps",
               "~optim.generator.momentum.delay")  # fmt: skip
    assert run_of("gan", *MLP, "optim.generator.momentum=0.9").engine.players["generator"].numbers == {}


class HalfOfTheSum(Loss):
    """The published D cost, half the sum of the two cross-entropies."""

    traits = NonSaturating.traits

    def __init__(self) -> None:
        super().__init__()
        self.whole = NonSaturating()

    def discriminator(self, real: Tensor, fake: Tensor, targets: Any) -> Tensor:
        return 0.5 * self.whole.discriminator(real, fake, targets)

    def generator(self, fake: Tensor, real: Tensor | None, targets: Any) -> Tensor:
        return self.whole.generator(fake, real, targets)


def test_half_the_rate_is_half_the_cost() -> None:
    """Exactly, as powers of two are: all of the run is the same after five steps."""
    ours, theirs = run_of("gan", *MLP), run_of("gan", *MLP, "optim.discriminator.lr=0.1")
    pair_in(theirs).loss = HalfOfTheSum()
    for run in (ours, theirs):
        play(run, 0, 5)
    one, other = ({k: v for k, v in everything(run).items() if "optimiser" not in k} for run in (ours, theirs))
    assert one.keys() == other.keys()
    assert all(torch.allclose(one[key], other[key], rtol=1e-6, atol=1e-8) for key in one)


def test_noise_of_unit_variance() -> None:
    noise = PRIORS["unit_uniform"](100_000, 2)
    assert noise.abs().max() <= math.sqrt(3) and noise.min() < -1.73 and noise.max() > 1.73
    assert noise.var().item() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("output", ["tanh", "linear"])
def test_the_generator_starts_from_the_mean_image(output: str) -> None:
    """Without its last weights it gives that and nothing else, pixel by pixel."""
    run = run_of("gan", *MLP, f"model.generator.output={output}", "batch=64")
    mean = run.source.examples(64).images.mean(0)
    generator = pair_in(run).generator
    with torch.no_grad():
        generator.to_image[0].weight.zero_()  # type: ignore[operator, index, union-attr]
        images = generator(torch.randn(3, 100))
    assert mean.min() == -1  # a pixel that is black in all: atanh has no answer there
    assert torch.allclose(images, mean.expand_as(images), atol=1e-5) and torch.isfinite(images).all()


def test_a_convolution_starts_from_the_mean_of_each_channel() -> None:
    run = built("dataset=photos", "dataset.resolution=16", "dataset.size=32", "batch=16", tricks=["marginal_bias"])
    layer = pair_in(run).generator.to_image[0]  # type: ignore[index]
    mean = run.source.examples(16).images.mean((0, 2, 3))
    assert torch.allclose(layer.bias.tanh(), mean, atol=1e-5)  # type: ignore[operator, union-attr]


def test_marginals_of_a_network_that_does_not_end_in_its_image_are_refused() -> None:
    for stranger, why in ((nn.Linear(4, 7), "0 layers .* say that they make the image"),
                          (as_output(nn.Linear(4, 7)), "makes something else than the image")):  # fmt: skip
        stranger.channels, stranger.resolution = 1, 2  # type: ignore[assignment]
        with pytest.raises(ConfigError, match=why):
            pair_of(generator=stranger, m=MarginalBias(margin=1e-7))


# The saturating loss --------------------------------------------------------------------------------------------------


def early(loss: str, head_start: int) -> tuple[float, float]:
    """The norm of G's first gradient after this many updates of D alone, and the mean of D(G(z)) then."""
    alone = (f"updates.head_start_steps={head_start}", "updates.head_start_generator=0")
    run = built(f"loss={loss}", "batch=32", "optim.discriminator.lr=2e-3", *alone)
    rows = play(run, 0, head_start + 1).rows
    (metrics,) = [row for _, player, row in rows if player == "generator"]
    norms = [value for name, value in metrics.items() if name.startswith("gradient/generator/")]
    answer = [row["probability/fake"] for _, player, row in rows if player == "discriminator"][-1]
    return torch.stack(norms).norm().item(), answer.item()


def test_the_saturating_loss_has_no_gradient_left_before_a_confident_discriminator() -> None:
    """dL/ds is -s(x) for minimax and -(1 - s(x)) for its alternative: alike at first, then apart by s / (1 - s)."""
    saturating, undecided = early("minimax", 0)
    other, _ = early("nonsaturating", 0)
    assert undecided == pytest.approx(0.5, abs=0.05) and saturating / other == pytest.approx(1, abs=0.2)
    saturating, confident = early("minimax", 20)
    other, same = early("nonsaturating", 20)
    assert confident == same < 0.1
    assert saturating / other == pytest.approx(confident / (1 - confident), rel=0.5) and saturating < 0.1 * other


# Networks at their published sizes ------------------------------------------------------------------------------------


def test_the_practical_network_is_normed_by_pytorchs_own_eps() -> None:
    """PyTorch-GAN's BatchNorm1d(n, 0.8) sets eps to 0.8; no norm behind the first layer there."""
    generator, discriminator = nets_of("mlp", "experiment=gan_practical", "dataset.resolution=28")
    norms = [layer for layer in generator.modules() if isinstance(layer, nn.BatchNorm1d)]
    assert [(n.num_features, n.eps, n.momentum) for n in norms] == [(n, 1e-5, 0.1) for n in (256, 512, 1024)]
    assert not [layer for layer in discriminator.modules() if isinstance(layer, nn.BatchNorm1d | nn.Dropout)]
    sizes = (100, 128, 256, 512, 1024, 784)
    theirs = sum(a * b + b for a, b in pairwise(sizes)) + 2 * (256 + 512 + 1024)
    assert count(generator) == theirs - (256 + 512 + 1024)  # biases that batch norm undoes, which ours leaves out
    assert count(discriminator) == 784 * 512 + 512 + 512 * 256 + 256 + 256 + 1


def test_dcgan_has_the_parameters_of_the_published_code() -> None:
    """All of train_uncond_dcgan.py's, by hand: weights, gains and shifts; those of the 4x4 maps one a unit."""
    sizes = ("width=128", "kernel=5")
    overrides = [f"model.{role}.{size}" for role in ("generator", "discriminator") for size in sizes]
    units = "model.generator.bottom_norm=units"
    with torch.device("meta"):  # 36 million numbers to count, not to draw
        generator, discriminator = nets_of("dcgan", *overrides, units, "dataset=photos")
    project = 100 * 8 * 128 * 16 + 2 * 8 * 128 * 16
    up = 25 * (1024 * 512 + 512 * 256 + 256 * 128) + 2 * (512 + 256 + 128)
    assert count(generator) == project + up + 25 * 128 * 3 == 18_885_760
    down = 25 * (3 * 128 + 128 * 256 + 256 * 512 + 512 * 1024) + 2 * (256 + 512 + 1024)
    assert count(discriminator) == down + 1024 * 16 == 17_232_768


def test_units_of_the_smallest_maps_are_normed_one_by_one() -> None:
    """Each number of the 4x4 maps has its own mean and variance over the batch; `maps` shares those of a channel."""
    small = ("model.generator.width=4", "dataset.resolution=16", "model.generator.init.gain_scale=0")
    for kind, alone in (("units", True), ("maps", False)):
        generator, _ = nets_of("dcgan", *small, f"model.generator.bottom_norm={kind}")
        block = generator.blocks[0][:-1]
        maps = block(torch.randn(512, 100) + torch.randn(100)).double()
        assert maps.shape == (512, 8, 4, 4)
        mean = maps.mean(0)
        assert bool(mean.abs().max() < 1e-4) == alone
        assert maps.mean((0, 2, 3)).abs().max() < 1e-4


def test_deep_conv_has_the_parameters_of_studiogans() -> None:
    """3.81M and 2.93M in its table, to the last bias by hand from its deep_conv.py."""
    generator, discriminator = nets_of("deep_conv", "dataset=photos", "dataset.resolution=32")
    up = sum(16 * a * b + b + 2 * b for a, b in ((512, 256), (256, 128), (128, 64)))
    assert count(generator) == 128 * 8192 + 8192 + up + 9 * 64 * 3 + 3 == 3_812_355
    blocks = sum(9 * a * b + b + 2 * b + 16 * b * b + b + 2 * b for a, b in ((3, 64), (64, 128), (128, 256)))
    assert count(discriminator) == blocks + 9 * 256 * 512 + 512 + 2 * 512 + 512 + 1 == 2_931_009


@pytest.mark.parametrize(("resolution", "scales"), [(8, 1), (16, 2), (32, 3), (64, 4)])
def test_deep_conv_keeps_its_form_at_other_sizes(resolution: int, scales: int) -> None:
    sizes = [f"model.{role}.{size}" for role in ("generator", "discriminator") for size in ("width=4", "max_width=16")]
    generator, discriminator = nets_of("deep_conv", *sizes, f"dataset.resolution={resolution}")
    output = discriminator(generator(torch.randn(2, 128)))
    *maps, sums = output.features
    assert [f.shape[1:] for f in maps] == [
        (min(4 * 2**i, 16), resolution // 2 ** (i + 1), resolution // 2 ** (i + 1)) for i in range(scales)
    ]
    assert maps[-1].shape[2:] == (4, 4) and output.score.shape == (2,)
    torch.testing.assert_close(output.score, discriminator.head.score(sums).squeeze(1))  # what the score is made of
    assert sums.shape == (2, min(4 * 2**scales, 16))


def test_deep_conv_sums_its_last_maps() -> None:
    assert torch.equal(layers.Pool(kind="sum")(torch.ones(2, 3, 4, 4)), torch.full((2, 3), 16.0))


@pytest.mark.parametrize("overrides", [("dataset.resolution=24",), ("model.generator.width=1024",)])
def test_deep_conv_refuses_what_it_cannot_make(overrides: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=r"model\.generator\.(resolution|width).*Try: "):
        nets_of("deep_conv", *overrides)


def test_he_initialisation() -> None:
    """N(0, sqrt(2 / inputs)): what the notebook of DRAGAN calls Xavier's, 1 / sqrt(inputs / 2)."""
    layer = nn.Sequential(nn.Linear(400, 1000))
    initialise(layer, kind="he", scale=1.0, gain_scale=0.0)
    weight: Tensor = layer[0].weight  # type: ignore[assignment]
    assert weight.std().item() == pytest.approx(1 / math.sqrt(400 / 2), rel=0.01)
    assert weight.mean().abs().item() < 1e-3 and not layer[0].bias.any()  # type: ignore[operator, union-attr]


# WGAN and Geometric GAN -----------------------------------------------------------------------------------------------


def test_the_critic_of_wgan_is_clamped_before_each_of_its_updates() -> None:
    """The weights that each update sees are those of main.py's loop, clamp then step, computed alongside by hand."""
    small = ("model.generator.width=4", "model.discriminator.width=4", "dataset.resolution=16")
    theirs_too = ("optim.discriminator.lr=5e-5", "updates.head_start_discriminator=7", "updates.head_start_steps=2")
    run = run_of("wgan", *small, *theirs_too)
    assert not run.diagnostics
    critic = pair_in(run).discriminator
    started = [p.detach().double().clone() for p in critic.parameters()]
    theirs, squares = started, [torch.zeros_like(w) for w in started]
    seen = watch_critic(run, lambda: [p.detach().double().clone() for p in critic.parameters()])
    play(run, 0, 3)
    assert len(seen) == 7 + 7 + 5
    for before, gradients in seen:
        theirs = [w.clamp(-0.01, 0.01) for w in theirs]  # "clamp parameters to a cube"
        assert all(torch.allclose(mine, w, rtol=1e-5, atol=1e-9) for mine, w in zip(before, theirs, strict=True))
        for square, gradient, w in zip(squares, gradients, theirs, strict=True):
            square.mul_(0.99).add_(0.01 * gradient.square())
            w.sub_(5e-5 * gradient / (square.sqrt() + 1e-8))
    assert any(w.abs().max() > 0.01 for w in theirs)  # the last step left the cube: the clamp was needed


def watch_critic(run: Run, weights: Callable[[], list[Tensor]]) -> list[tuple[list[Tensor], list[Tensor]]]:
    """What each update of D starts from, and its gradients, as they come."""
    seen: list[tuple[list[Tensor], list[Tensor]]] = []
    plain = run.engine.run

    def watched(update: Any, batch: Any) -> Metrics:
        before = weights()
        metrics = plain(update, batch)
        if update.player == "discriminator":
            gradients = [g.double().clone() for g in run.engine.players["discriminator"].gradients]
            seen.append((before, gradients))
        return metrics

    run.engine.run = watched  # type: ignore[method-assign]
    return seen


def test_the_first_critic_is_clamped_too() -> None:
    """Batch norm's gains start near 1, far outside the cube."""
    small = ("model.generator.width=4", "model.discriminator.width=4", "dataset.resolution=16")
    critic = pair_in(run_of("wgan", *small)).discriminator
    gains = [layer.weight for layer in critic.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert gains and all(torch.equal(gain, torch.full_like(gain, 0.01)) for gain in gains)


def test_the_margin_pulls_on_the_last_layer_alone() -> None:
    """The gradient of |w|^2 / 2 / (C batch), w the weights of the score without their bias. Lim & Ye, equation 14."""
    net = nn.Sequential(nn.Linear(3, 2), as_output(nn.Linear(2, 1)))
    trick = WeightDecay(weight=1 / 64, of="discriminator", layers="last")
    for p in net.parameters():
        p.grad = torch.zeros_like(p)
    trick.before(pair_of(net, generator=ScaleGenerator(1.0)), "discriminator")
    first, last = net
    assert torch.equal(last.weight.grad, last.weight.detach() / 64)  # type: ignore[arg-type, operator, union-attr]
    assert not last.bias.grad.any() and not first.weight.grad.any()  # type: ignore[operator, union-attr]


# Toys -----------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_wgan_gp_finds_every_mode_of_the_ring(tmp_path: Path) -> None:
    """The recipe of the report, half as wide and half as long; about two minutes."""
    from ganrun.metrics.modes import SAMPLES, measure_modes

    sizes = [f"model.{role}.hidden=[128,128,128]" for role in ("generator", "discriminator")]
    run = build(composed("experiment=wgan_gp_toy", "dataset=ring", "steps=4000", *sizes, "engine.device=cpu"))
    play_quietly(run, 4000)
    torch.manual_seed(0)
    modes = measure_modes(run.game.draw(SAMPLES), run.dataset)
    assert (modes.covered, modes.total) == (8, 8) and modes.good >= 0.9, modes


def play_quietly(run: Run, steps: int) -> None:
    """Play without keeping what every update measures."""
    for first in range(0, steps, 100):
        play(run, first, first + 100)
