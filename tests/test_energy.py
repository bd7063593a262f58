"""Energies: EBGAN's margin and BEGAN's balance in closed form, their auto-encoders, and who may play with whom."""

import math
from typing import Any

import pytest
import torch
from support import built, composed, pair_in, play, tiny, trick_of
from torch import Tensor, nn

from ganrun.config.build import build
from ganrun.core.context import DiscriminatorOutput, Targets
from ganrun.core.errors import ConfigError, ConfigErrors
from ganrun.core.traits import Level
from ganrun.losses.energy import BoundaryEquilibrium, EnergyMargin
from ganrun.models import autoencoder, began
from ganrun.models.layers import stack
from ganrun.tricks.generator_loss import PullingAway

REAL, FAKE = torch.tensor([1.0, 2.0]), torch.tensor([2.0, 7.0])  # means 1.5 and 4.5


def discriminator(loss: Any, real: Tensor = REAL, fake: Tensor = FAKE) -> Tensor:
    return loss.discriminator(real, fake, Targets.clean(real, fake))


# EBGAN


def test_fakes_beyond_the_margin_teach_d_nothing() -> None:
    """D(x) + max(0, m - D(G(z))) with m = 5: 1.5 + (3 + 0) / 2, per image and not of the mean."""
    loss = EnergyMargin(margin=5.0)
    assert discriminator(loss).item() == pytest.approx(1.5 + 1.5)
    fake = FAKE.clone().requires_grad_()
    discriminator(loss, REAL, fake).backward()
    assert fake.grad is not None and fake.grad.tolist() == [-0.5, 0.0]
    assert loss.generator(FAKE, None, Targets.clean(FAKE, FAKE)).item() == pytest.approx(4.5)


def test_a_margin_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^\.margin: 0.*Try: \.margin=10"):
        EnergyMargin(margin=0.0)


# BEGAN


def test_began_weighs_fakes_by_k_and_g_minimises_its_own_error() -> None:
    loss = BoundaryEquilibrium(gamma=0.5, lambda_k=0.001)
    loss.k.fill_(0.25)
    assert discriminator(loss).item() == pytest.approx(1.5 - 0.25 * 4.5)
    assert loss.generator(FAKE, None, Targets.clean(FAKE, FAKE)).item() == pytest.approx(4.5)


def test_the_gradient_is_of_the_k_before_it_moved() -> None:
    loss = BoundaryEquilibrium(gamma=0.5, lambda_k=0.1)
    loss.k.fill_(0.25)
    real, fake = REAL.clone().requires_grad_(), FAKE.clone().requires_grad_()
    value = discriminator(loss, real, fake)
    assert loss.k.item() != 0.25
    value.backward()
    assert real.grad is not None and fake.grad is not None
    assert real.grad.tolist() == [0.5, 0.5] and fake.grad.tolist() == [-0.125, -0.125]


@pytest.mark.parametrize(
    ("k", "fake", "expected"),
    [(0.5, 0.45, 0.53), (0.5, 4.5, 0.125), (0.01, 4.5, 0.0), (0.99, 0.15, 1.0)],
)
def test_k_follows_the_balance_within_0_and_1(k: float, fake: float, expected: float) -> None:
    """k + lambda (gamma L(x) - L(G(z))), clipped: with lambda 0.1, gamma 0.5, L(x) 1.5."""
    loss = BoundaryEquilibrium(gamma=0.5, lambda_k=0.1)
    loss.k.fill_(k)
    place = loss.k.data_ptr()
    discriminator(loss, REAL, torch.full((2,), fake))
    assert loss.k.item() == pytest.approx(expected, abs=1e-6) and loss.k.data_ptr() == place


@pytest.mark.parametrize(("fake", "expected"), [(0.25, 1.5 + 0.5), (4.5, 1.5 + 3.75), (0.75, 1.5)])
def test_m_is_the_error_plus_the_distance_from_balance(fake: float, expected: float) -> None:
    """M = L(x) + |gamma L(x) - L(G(z))|."""
    loss = BoundaryEquilibrium(gamma=0.5, lambda_k=0.001)
    discriminator(loss, REAL, torch.full((2,), fake))
    assert loss.metrics()["convergence"].item() == pytest.approx(expected)


@pytest.mark.parametrize("gamma", [0.0, -0.5, 1.5])
def test_a_diversity_ratio_is_one(gamma: float) -> None:
    with pytest.raises(ConfigError, match=r"^\.gamma: .*Try: \.gamma=0.5"):
        BoundaryEquilibrium(gamma=gamma, lambda_k=0.001)


def test_a_run_moves_k_once_for_each_update_of_d_by_what_it_logs() -> None:
    """k and M of every update follow from the scores logged beside them: nothing else changes them."""
    run = built("updates.discriminator=2", "loss.lambda_k=0.05", model="began")
    k, rows = 0.0, [m for _, player, m in play(run, 0, 3).rows if player == "discriminator"]
    assert len(rows) == 6
    for metrics in rows:
        real, fake = metrics["energy/real"].item(), metrics["energy/fake"].item()
        k = min(max(k + 0.05 * (0.5 * real - fake), 0), 1)
        assert metrics["loss/k"].item() == pytest.approx(k, abs=1e-6)
        assert metrics["loss/convergence"].item() == pytest.approx(real + abs(0.5 * real - fake), rel=1e-5)
    assert rows[-1]["loss/k"].item() != 0


# Auto-encoders


class Given(autoencoder.AutoEncoder):
    """Rebuilds nothing: every image comes back as 0, by a code of two numbers."""

    def __init__(self, error: str):
        super().__init__(channels=1, resolution=2, error=error)
        self.blocks = nn.Sequential(stack(fold=nn.Flatten(), code=nn.Linear(4, 2)))
        self.decoder = nn.Sequential(nn.Linear(2, 4), nn.Unflatten(1, (1, 2, 2)))
        for parameter in self.decoder.parameters():
            nn.init.zeros_(parameter)


@pytest.mark.parametrize(
    ("error", "expected"), [("absolute", [1.25, 3.0]), ("squared", [7 / 4, 9.0]), ("norm", [math.sqrt(7), 6.0])]
)
def test_the_score_is_each_images_own_error(error: str, expected: list[float]) -> None:
    images = torch.tensor([[1.0, -1.0, 2.0, 1.0], [3.0, 3.0, -3.0, 3.0]]).view(2, 1, 2, 2)
    output = Given(error)(images)
    assert output.score.tolist() == pytest.approx(expected)
    assert [f.shape for f in output.features] == [(2, 2)]


def test_settings_that_cannot_be_are_refused_with_their_place() -> None:
    with pytest.raises(ConfigError, match=r"^\.error: sqared.*Try: \.error=squared"):
        Given("sqared")
    line = r"^model\.discriminator\.error: sqared.*Try: model\.discriminator\.error=squared"
    with pytest.raises(ConfigError, match=line):
        built("model.discriminator.error=sqared", model="began")
    with pytest.raises(ConfigError, match=r"^loss\.margin: -1.*Try: loss\.margin=10"):
        built("loss.margin=-1", model="ebgan")


@pytest.mark.parametrize(("channels", "resolution"), [(1, 16), (2, 32), (4, 64), (3, 256)])
@pytest.mark.parametrize("name", ["began", "ebgan"])
def test_every_size_of_image_is_made_and_rebuilt(name: str, channels: int, resolution: int) -> None:
    data = (f"dataset.resolution={resolution}", f"dataset.channels={channels}")
    cfg = composed(*tiny(*data, "dataset=digits", model=name), *width(name, 2))
    generator, net = nets(cfg, channels, resolution)
    images = generator(torch.randn(2, generator.latent))
    assert images.shape == (2, channels, resolution, resolution)
    output = net(images)
    assert output.score.shape == (2,) and (output.score >= 0).all()
    assert len(output.features) >= (2 if resolution > 16 else 1)
    if resolution <= 64:
        assert net.decoder(output.features[-1]).shape == images.shape


def width(name: str, maps: int) -> tuple[str, ...]:
    return tuple(f"model.{role}.width={maps}" for role in ("generator", "discriminator"))


def nets(cfg: Any, channels: int, resolution: int) -> tuple[Any, Any]:
    from ganrun.config.instantiate import Maker
    from ganrun.config.validate import resolve

    cfg.dataset.channels, cfg.dataset.resolution = channels, resolution
    model = resolve(cfg)["model"]
    return tuple(Maker()(model[role], f"model.{role}") for role in ("generator", "discriminator"))  # type: ignore[return-value]


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def conv(inputs: int, outputs: int, kernel: int = 3) -> int:
    return kernel**2 * inputs * outputs + outputs


def test_began_has_the_published_form() -> None:
    """By BEGAN-tensorflow's models.py, n = h = z = its defaults at 64 pixels: four scales, filters n, 2n, 3n, 4n."""
    n, h = 128, 64
    decoder = h * 64 * n + 64 * n + 4 * 2 * conv(n, n) + conv(n, 3)
    encoder = conv(3, n)
    encoder += sum(conv(n * max(i, 1), n * (i + 1)) + conv(n * (i + 1), n * (i + 1)) for i in range(4))
    encoder += sum(conv(n * (i + 1), n * (i + 1)) for i in range(3))  # the strided ones
    encoder += 64 * 4 * n * h + h
    generator, net = nets(composed("model=began"), 3, 64)
    assert (count(generator), count(net)) == (decoder, encoder + decoder)
    assert [f.shape[1:] for f in net.eval()(torch.zeros(1, 3, 64, 64)).features] == [
        (128, 64, 64), (128, 32, 32), (256, 16, 16), (384, 8, 8), (512, 8, 8), (64,),
    ]  # fmt: skip


def test_began_has_none_of_what_it_does_without() -> None:
    for net in nets(composed("model=began"), 3, 32):
        kinds = {type(layer) for layer in net.modules()}
        assert not kinds & {nn.BatchNorm2d, nn.Dropout, nn.ConvTranspose2d, nn.Tanh, nn.GroupNorm}
        assert {nn.ELU, nn.Upsample} <= kinds
        assert all((layer.bias == 0).all() for layer in net.modules() if isinstance(layer, nn.Conv2d | nn.Linear))


def test_ebgan_has_the_published_form() -> None:
    """(64)4c2s-(128)4c2s-(256)4c2s and back, for images of 64 pixels: the code is 256 maps of 8x8."""
    generator, net = nets(composed("model=ebgan"), 3, 64)
    norms = 2 * (128 + 256 + 128 + 64)
    weights = 16 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 128 + 128 * 64 + 64 * 3)
    assert count(net) == weights + norms + 64 + 3  # biases where no norm follows
    assert net.eval()(torch.zeros(1, 3, 64, 64)).features[-1].shape == (1, 256, 8, 8)
    drawn = [layer.weight.std().item() for layer in net.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]
    assert drawn == pytest.approx([0.002] * 6, rel=0.1)
    assert [p.shape[0] for p in generator.parameters() if p.dim() == 4] == [1024, 512, 256, 128]


@pytest.mark.parametrize("name", ["began", "ebgan", "r3gan"])
def test_parameters_are_registered_in_depth_order(name: str) -> None:
    """Gradient norms are drawn in this order: bottom to top of G, image to code to image of D."""
    generator, net = nets(composed(*tiny("dataset=digits", model=name)), 1, 16)
    for one, start in ((generator, torch.randn(2, generator.latent)), (net, torch.randn(2, 1, 16, 16))):
        called: list[int] = []
        for layer in one.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                layer.register_forward_hook(lambda layer, *_, called=called: called.append(id(layer.weight)))
        one(start)
        assert called and called == [id(p) for p in one.parameters() if id(p) in called]


def test_sizes_that_cannot_be_made_are_refused() -> None:
    for name in ("began", "ebgan"):
        with pytest.raises(ConfigError, match=r"28.*one of 16, 32, 64, 128, 256"):
            built("dataset=digits", "dataset.resolution=28", model=name)
    with pytest.raises(ConfigError, match=r"code_size: 16.*one of 2, 4, 8"):
        built("model.discriminator.code_size=16", model="ebgan")


# Pulling away acts on the code


class Codes(nn.Module):
    """Shows these codes, whatever it sees."""

    def __init__(self, codes: Tensor):
        super().__init__()
        self.codes = nn.Parameter(codes)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> DiscriminatorOutput:
        return DiscriminatorOutput(self.codes.sum(1), (torch.ones_like(self.codes), self.codes))


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ([[1.0, 0.0], [5.0, 0.0], [2.0, 0.0]], 1.0),
        ([[1.0, 0.0], [0.0, 3.0]], 0.0),
        ([[1.0, 0.0], [-4.0, 0.0]], 1.0),  # squared: the opposite is as alike
        ([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]], (0.5 + 0.0 + 0.5) / 3),
    ],
)
def test_the_repelling_term_is_squared_and_over_pairs(codes: list[list[float]], expected: float) -> None:
    """1 / (N (N - 1)) sum over i != j of cos^2, times the weight: torchgan gives 4.57 and 0.143 for 1 and 0."""
    from types import SimpleNamespace

    context = SimpleNamespace(on_fake=Codes(torch.tensor(codes))(torch.zeros(1)))
    assert PullingAway(weight=0.1).generator_term(context).item() == pytest.approx(0.1 * expected, abs=1e-6)  # type: ignore[arg-type]


def test_in_ebgan_it_repels_codes() -> None:
    run = built(model="ebgan", tricks=["pulling_away"])
    pair = pair_in(run)
    fake = torch.randn(4, 1, 16, 16)
    code = pair.discriminator(fake).features[-1]
    assert torch.equal(code, pair.discriminator.blocks(fake))  # type: ignore[operator]
    assert pair.discriminator.decoder(code).shape == fake.shape  # type: ignore[operator, union-attr]
    assert trick_of(run, "pulling_away").weight == 0.1


# Compatibility


@pytest.mark.parametrize("loss", ["began", "ebgan"])
def test_an_energy_loss_wants_an_auto_encoder(loss: str) -> None:
    with pytest.raises(ConfigErrors, match=r"loss .*needs a discriminator whose score is how badly.*Try: .*rule C25"):
        built(f"loss={loss}")


@pytest.mark.parametrize("loss", ["nonsaturating", "hinge", "least_squares", "relativistic"])
@pytest.mark.parametrize("model", ["began", "ebgan"])
def test_an_auto_encoder_wants_an_energy_loss(model: str, loss: str) -> None:
    with pytest.raises(ConfigErrors, match=r"model\.discriminator .*needs a loss that takes scores for energ.*C25"):
        built(f"loss={loss}", model=model)


@pytest.mark.parametrize("trick", ["soft_labels", "noisy_labels", "flip", "ada", "lecam"])
@pytest.mark.parametrize("model", ["began", "ebgan"])
def test_what_reads_labels_or_scores_has_nothing_to_read(model: str, trick: str) -> None:
    with pytest.raises(ConfigErrors, match=rf"tricks\.{trick}: needs"):
        built(model=model, tricks=[trick])


def test_either_loss_plays_with_either_auto_encoder() -> None:
    for model, loss in (("began", "ebgan"), ("ebgan", "began")):
        rows = play(built(f"loss={loss}", model=model), 0, 2).rows
        assert all(value.isfinite() for _, _, metrics in rows for value in metrics.values())


@pytest.mark.parametrize("role", ["generator", "discriminator"])
def test_batch_norm_in_a_began_is_warned_of(role: str) -> None:
    run = built(f"model.{role}.norm=batch", model="began")
    found = [diagnostic for diagnostic in run.diagnostics if diagnostic.id == "C20"]
    assert [diagnostic.level for diagnostic in found] == [Level.WARNING]
    assert f"model.{role}" in found[0].sentence and f"Try: model.{role}.norm=none" in found[0].sentence
    assert not [diagnostic for diagnostic in built(model="began").diagnostics if diagnostic.id == "C20"]


def test_the_experiments_rates_fall_by_half_every_100000_steps_to_a_floor() -> None:
    paper = ("optim.generator.lr.start=1e-4", "game.grid=1", "engine.device=cpu")
    player = build(composed("experiment=began", *paper)).engine.players["generator"]
    rates = [player.rate(step) for step in (0, 99_999, 100_000, 250_000, 499_999)]
    assert rates == pytest.approx([1e-4, 1e-4, 5e-5, 2.5e-5, 2e-5])
    assert isinstance(player.networks["generator"], began.Generator)
