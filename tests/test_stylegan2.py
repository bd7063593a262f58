"""StyleGAN2 and the tricks on its styles: closed forms against Karras et al. 2019 and 2020."""

import math
from itertools import product
from typing import Any

import pytest
import torch
from support import LinearDiscriminator, built, pair_in, pair_of, play, samples_of, trick_of
from torch import Tensor, nn
from torch.nn import functional

from ganrun.config.compatibility import BaseConfiguration, CompatibilityChecker, ask
from ganrun.core.context import Context, DiscriminatorOutput, Latent
from ganrun.core.errors import ConfigError, ConfigErrors
from ganrun.core.facts import Fact
from ganrun.core.trick import Trick
from ganrun.models.epilogues import MinibatchStddev
from ganrun.models.stylegan2 import Discriminator, Generator
from ganrun.models.stylegan2_layers import Activation, Blur, Double, Halve, Modulated, Noise, equalised
from ganrun.tricks.penalties import R1
from ganrun.tricks.styles import Mixed, PathLength, StyleMixing

TAPS = [1, 3, 3, 1]


def generator(**changed: Any) -> Generator:
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "latent": 6, "classes": 0, "styles": 5, "mapping_layers": 2, "mapping_rate": 0.01, "channels": 3,
        "resolution": 16, "width": 4, "max_width": 8, "architecture": "skip", "filter": TAPS, "slope": 0.2,
    }  # fmt: skip
    return Generator(**settings | changed)


def discriminator(**changed: Any) -> Discriminator:
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "channels": 3, "resolution": 16, "classes": 0, "mapping_layers": 2, "mapping_rate": 0.01, "width": 4,
        "max_width": 8, "architecture": "residual", "filter": TAPS, "slope": 0.2, "epilogue": None,
    }  # fmt: skip
    return Discriminator(**settings | changed)


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def modulated(*, doubles: list[int] | None = None, demodulates: bool = True) -> tuple[Modulated, Tensor, Tensor]:
    """A layer whose every parameter matters, maps and styles; in float64."""
    torch.manual_seed(0)
    layer = Modulated(3, 4, 3, styles=5, demodulates=demodulates, doubles=doubles).double()
    with torch.no_grad():
        layer.bias.normal_()  # type: ignore[union-attr]
        layer.style.bias.normal_()
    return layer, torch.randn(2, 3, 6, 6).double(), torch.randn(2, 5).double()


# Modulated convolutions -----------------------------------------------------------------------------------------------


def weights_of(layer: Modulated, style: Tensor) -> Tensor:
    """Equations 1 and 3, written out for each image. [B, O, I, k, k]"""
    scales = style @ layer.style.weight.T + layer.style.bias + 1
    scaled = layer.weight[None] * scales[:, None, :, None, None]
    return scaled / (scaled.square().sum((2, 3, 4), keepdim=True) + 1e-8).sqrt() if layer.demodulates else scaled


def test_demodulated_weights_have_unit_norm() -> None:
    layer, _, style = modulated()
    assert torch.allclose(weights_of(layer, style).flatten(2).norm(dim=2), torch.ones(2, 4).double(), atol=1e-6)
    scaled = layer.weight[None] * layer.scales(style)[:, None, :, None, None]
    ours = scaled * layer.norms(layer.weight, layer.scales(style))[:, :, None, None, None]
    assert torch.allclose(ours, weights_of(layer, style))


@pytest.mark.parametrize("demodulates", [True, False])
def test_modulation_is_a_convolution_of_each_images_own(demodulates: bool) -> None:
    layer, maps, style = modulated(demodulates=demodulates)
    each = zip(maps, weights_of(layer, style), strict=True)
    expected = torch.cat([functional.conv2d(image[None], weight, layer.bias, padding=1) for image, weight in each])
    assert torch.allclose(layer(maps, style), expected)


def upfirdn(maps: Tensor, *, up: int, down: int, ahead: int, behind: int, gain: float) -> Tensor:
    """Zeros in, padding, a filter tap by tap, pixels out: the reference of the paper's code, for any channels."""
    b, c, h, w = maps.shape
    spread = maps.new_zeros(b, c, h * up, w * up)
    spread[:, :, ::up, ::up] = maps
    padded = functional.pad(spread, (ahead, behind, ahead, behind))
    size = padded.shape[2] - 3
    line = torch.tensor(TAPS) / sum(TAPS)
    taps = ((i, j, (line[i] * line[j] * gain).item()) for i, j in product(range(4), range(4)))
    return sum((padded[:, :, i : i + size, j : j + size] * tap for i, j, tap in taps), start=torch.zeros(()))[
        :, :, ::down, ::down
    ]


def test_a_modulated_convolution_that_doubles() -> None:
    """The paper's code: a transposed convolution with weights of its own, one pixel of padding, the filter times 4."""
    layer, maps, style = modulated(doubles=TAPS)
    each = zip(maps, weights_of(layer, style), strict=True)
    wide = torch.cat([functional.conv_transpose2d(image[None], w.transpose(0, 1), stride=2) for image, w in each])
    expected = upfirdn(wide, up=1, down=1, ahead=1, behind=1, gain=4) + layer.bias[:, None, None]  # type: ignore[index]
    found = layer(maps, style)
    assert found.shape == (2, 4, 12, 12) and torch.allclose(found, expected, atol=1e-6)


def test_resampling_is_the_reference() -> None:
    maps = torch.randn(2, 3, 8, 8)
    for ours, reference in (
        (Double(TAPS), {"up": 2, "down": 1, "ahead": 2, "behind": 1, "gain": 4}),
        (Halve(TAPS), {"up": 1, "down": 2, "ahead": 1, "behind": 1, "gain": 1}),
        (Blur(TAPS, wider=True), {"up": 1, "down": 1, "ahead": 2, "behind": 2, "gain": 1}),
        (Blur(TAPS, wider=False), {"up": 1, "down": 1, "ahead": 1, "behind": 1, "gain": 4}),
    ):
        assert torch.allclose(ours(maps), upfirdn(maps, **reference), atol=1e-6), ours  # type: ignore[arg-type]


def test_what_the_filter_does_to_known_signals() -> None:
    """A constant stays one, away from the border; a pixel spreads as [1, 3, 3, 1] / 8 along each side, times 4."""
    flat = torch.full((1, 2, 8, 8), 3.0)
    assert torch.allclose(Double(TAPS)(flat)[:, :, 1:-1, 1:-1], torch.tensor(3.0))
    assert torch.allclose(Halve(TAPS)(flat)[:, :, 1:-1, 1:-1], torch.tensor(3.0))
    point = torch.zeros(1, 1, 5, 5)
    point[0, 0, 2, 2] = 1
    line = torch.tensor([0, 0, 0, 1, 3, 3, 1, 0, 0, 0]) / 8 * 2
    assert torch.allclose(Double(TAPS)(point)[0, 0], torch.outer(line, line))
    x, y = torch.randn(1, 2, 8, 8), torch.randn(1, 2, 4, 4)  # doubling is the adjoint of halving, times 4
    assert torch.allclose((Halve(TAPS)(x) * y).sum() * 4, (x * Double(TAPS)(y)).sum(), atol=1e-4)


def test_activations_keep_the_mean_square() -> None:
    values = Activation(0.2)(torch.randn(100_000))
    assert values.square().mean().item() == pytest.approx(1 + 0.2**2, rel=0.02)  # 2 (1 + slope^2) / 2


# Equalised layers and the mapping network -----------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [1.0, 0.01])
def test_a_layer_of_another_rate_starts_alike_and_learns_at_its_rate(rate: float) -> None:
    """Weights N(0, 1 / fan in); a step of 1, as Adam's first is, moves them by rate / sqrt(fan in)."""
    torch.manual_seed(0)
    layer = equalised(nn.Linear(16, 400), rate)
    start = layer.weight.detach().clone()
    assert start.std().item() == pytest.approx(1 / 4, rel=0.03) and not layer.bias.any()
    raw = layer.parametrizations.weight.original  # type: ignore[union-attr]
    assert raw.std().item() == pytest.approx(1 / rate, rel=0.03)
    inputs, weight = torch.randn(3, 16), start.clone().requires_grad_()
    layer(inputs).square().sum().backward()
    functional.linear(inputs, weight).square().sum().backward()
    assert weight.grad is not None and torch.allclose(raw.grad, weight.grad * rate / 4, rtol=1e-4)  # type: ignore[arg-type, union-attr]
    with torch.no_grad():
        raw.sub_(raw.grad.sign())  # type: ignore[operator, union-attr]
    assert torch.allclose((layer.weight - start).abs(), torch.tensor(rate / 4), rtol=1e-3)


def test_mapping_sees_directions_only_and_gives_every_layer_the_same() -> None:
    net = generator()
    noise = torch.randn(3, 6)
    styles = net.styles(noise)
    assert styles.shape == (3, 6, 5)  # 2 log2(16) - 2 layers
    assert torch.equal(styles, styles[:, :1].expand(-1, 6, -1))
    assert torch.allclose(net.styles(noise * 7), styles, atol=1e-5)
    direction = noise / noise.square().mean(1, keepdim=True).sqrt()
    assert torch.allclose(styles[:, 0], dense(direction, net.styles.mapping), atol=1e-5)  # type: ignore[arg-type]


def dense(values: Tensor, layers: nn.Module) -> Tensor:
    for layer in layers:  # type: ignore[attr-defined]
        values = functional.leaky_relu(values @ layer.dense.weight.T + layer.dense.bias, 0.2) * math.sqrt(2)
    return values


def label_vectors(label: Any, labels: Tensor) -> Tensor:
    """The rows of the embedding on the sphere, by hand."""
    rows = label.embed.weight.T[labels] + label.embed.bias
    return rows / rows.square().mean(1, keepdim=True).sqrt()


def test_a_label_stands_on_the_sphere_beside_the_noise() -> None:
    net = generator(classes=3)
    noise, labels = torch.randn(4, 6), torch.tensor([0, 2, 2, 1])
    direction = noise / noise.square().mean(1, keepdim=True).sqrt()
    both = torch.cat([direction, label_vectors(net.styles.label, labels)], 1)
    assert both.shape == (4, 6 + 5)
    assert torch.allclose(net.styles(noise, labels)[:, 0], dense(both, net.styles.mapping), atol=1e-5)  # type: ignore[arg-type]
    assert torch.equal(net(noise, labels), net.synthesis(net.styles(noise, labels)))


def test_a_score_is_the_answers_product_with_the_label() -> None:
    judge = discriminator(classes=3)
    images, labels = torch.randn(4, 3, 16, 16), torch.tensor([0, 2, 2, 1])
    seen: list[Tensor] = []
    judge.head.score.register_forward_hook(lambda _, given, made: seen.append(made))
    score = judge(images, labels).score
    asked: Any = judge.head.asked
    told = dense(label_vectors(asked.label, labels), asked.mapping)
    assert seen[0].shape == (4, 8)
    assert torch.allclose(score, (seen[0] * told).sum(1) / math.sqrt(8), atol=1e-5)
    assert not torch.allclose(score, judge(images, labels.roll(1)).score)


def test_a_mapping_of_labels_learns_at_its_rate() -> None:
    layer = discriminator(classes=3, mapping_rate=0.25).head.asked.mapping[0].dense  # type: ignore[union-attr, index]
    assert torch.allclose(layer.weight, layer.parametrizations.weight.original * 0.25 / math.sqrt(8))


def test_with_classes_the_whole_run_is_conditional() -> None:
    sizes = ["model.generator.latent=16", *(f"model.{net}.max_width=16" for net in ("generator", "discriminator"))]
    tricks = ["style_mixing", "path_length", "r1"]
    run = built("model.generator.classes=10", "game.grid=40", *sizes, model="stylegan2", tricks=tricks)
    assert run.game.classes == 10 and run.game.pair.discriminator.classes == 10
    play(run, 0, 2)
    assert trick_of(run, "path_length").length > 0  # type: ignore[operator]
    with pytest.raises(ConfigError, match="classes"):
        built("model.generator.classes=7", *sizes, model="stylegan2")


# Networks -------------------------------------------------------------------------------------------------------------


def test_parameter_counts_are_the_published_ones() -> None:
    """As the paper's code prints them at 1024x1024, with mappings of 2 and 8 layers; and at CIFAR-10 by hand.

    StudioGAN's 20.2M for CIFAR-10 are these with labels: 10 * 512 + 512 to embed them, 512 * 512 more in the mapping.
    """
    with torch.device("meta"):
        large = {"latent": 512, "styles": 512, "resolution": 1024, "width": 32, "max_width": 512}
        shared = {key: large[key] for key in ("resolution", "width", "max_width")}
        assert count(generator(**large, mapping_layers=2)) == 28_794_124
        assert count(generator(**large, mapping_layers=8)) == 30_370_060
        assert count(discriminator(**shared, epilogue=MinibatchStddev(group=4, eps=1e-8))) == 29_012_513
        cifar = large | {"resolution": 32, "width": 512}
        # 7 layers of 512 * 512 * 9 + 512 (512 + 1) + 512 + 1, 4 images of 512 * 3 + 512 (512 + 1) + 3, 2 of mapping
        made = 7 * 2_622_465 + 4 * 264_195 + 512 * 16 + 2 * 262_656
        assert count(generator(**cifar, mapping_layers=2)) == made == 19_947_539
        labelled = made + 10 * 512 + 512 + 512 * 512
        assert count(generator(**cifar, mapping_layers=2, classes=10)) == labelled == 20_215_315
        shared = {"resolution": 32, "width": 512, "max_width": 512, "architecture": "plain"}
        judge = discriminator(**shared, epilogue=MinibatchStddev(group=32, eps=1e-8))
        assert count(judge) == 2_048 + 6 * 2_359_808 + 2_364_416 + 4_194_816 + 513
        # 511 answers more; a label's vector, and 8 layers of mapping
        told = 511 * 513 + 10 * 512 + 512 + 8 * 262_656
        asked = discriminator(**shared, epilogue=MinibatchStddev(group=32, eps=1e-8), classes=10, mapping_layers=8)
        assert count(asked) == count(judge) + told


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("architecture", ["skip", "residual", "plain"])
def test_shapes_of_all_forms(architecture: str, channels: int) -> None:
    net = generator(architecture=architecture, channels=channels)
    judge = discriminator(architecture=architecture, channels=channels)
    images = net(torch.randn(2, 6))
    output = judge(images)
    assert images.shape == (2, channels, 16, 16) and output.score.shape == (2,) and len(output.features) == 2
    assert torch.allclose(judge(images[:1]).score, output.score[:1], atol=1e-5)
    output.score.sum().backward()
    for key, parameter in (*net.named_parameters(), *judge.named_parameters()):
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, key


def test_maps_keep_their_size_through_all_sizes() -> None:
    """Equalised and demodulated: the mean square neither grows nor fades, in both networks.

    Doubling white maps leaves 0.39 of it, a filter's share; once maps are smooth, all of it.
    """
    net, judge = generator(resolution=64, width=32, max_width=64), discriminator(resolution=64, width=32, max_width=64)
    seen: list[Tensor] = []
    for module in net.modules():
        if isinstance(module, Activation):
            module.register_forward_hook(lambda _, given, made: seen.append(made))
    net(torch.randn(8, 6))
    squares = [maps.square().mean().item() for maps in seen if maps.dim() == 4]
    assert len(squares) == 9 and all(0.12 < square < 1.5 for square in squares), squares
    even = torch.randn(8, 3, 1, 1).expand(-1, -1, 64, 64)
    assert all(0.3 < maps.square().mean() < 3 for maps in judge(even).features)


def test_which_style_goes_where() -> None:
    """One each for the layers; what makes the image at a size has the next layer's. Figure 2d, and the paper's code."""
    net = generator()
    styles = torch.randn(2, 6, 5)
    used: list[int] = []
    for module in net.modules():
        if isinstance(module, Modulated):
            module.style.register_forward_pre_hook(
                lambda _, given: used.extend(k for k in range(6) if torch.equal(given[0], styles[:, k]))
            )
    net.synthesis(styles)
    assert used == [0, 1, 1, 2, 3, 3, 4, 5]


def test_a_skip_generator_adds_up_images() -> None:
    net, made = generator(), []
    for module in net.modules():
        if isinstance(module, Modulated) and not module.demodulates:
            module.register_forward_hook(lambda _, given, image: made.append(image))
    found = net(torch.randn(2, 6))
    up = Double(TAPS)
    assert torch.allclose(found, up(up(made[0]) + made[1]) + made[2], atol=1e-5)


def test_residual_forms_are_halved_sums() -> None:
    block = discriminator().blocks[1].halving
    maps = torch.randn(2, 8, 8, 8)
    main, across = block.layers(maps), functional.conv2d(Halve(TAPS)(maps), block.across.conv.weight)
    assert torch.allclose(block(maps), (main + across) / math.sqrt(2), atol=1e-6)
    scale = generator(architecture="residual").synthesis.scales[1]
    maps, styles = torch.randn(2, 8, 4, 4), list(torch.randn(3, 2, 5))
    main = scale.layers[1](scale.layers[0](maps, styles[0]), styles[1])
    across = Double(TAPS)(functional.conv2d(maps, scale.across.conv.weight))
    assert torch.allclose(scale(maps, None, styles)[0], (main + across) / math.sqrt(2), atol=1e-5)


def test_a_skip_discriminator_reads_the_image_at_every_size() -> None:
    judge = discriminator(architecture="skip")
    image = torch.randn(2, 3, 16, 16)
    first, second = judge.blocks
    one = first.beside.layers(first.beside.from_image(image))
    two = second.beside.layers(one + second.beside.from_image(Halve(TAPS)(image)))
    last = two + judge.head.beside.from_image(Halve(TAPS)(Halve(TAPS)(image)))
    assert torch.allclose(judge.head[1:](last).squeeze(1), judge(image).score, atol=1e-5)


def test_the_spread_of_a_group_reaches_the_last_convolution_as_a_map() -> None:
    judge = discriminator(epilogue=MinibatchStddev(group=4, eps=1e-8))
    assert judge.head.conv.in_channels == 9 and Fact.ALONE in judge.traits.invalidates
    given: list[Tensor] = []
    judge.head.conv.register_forward_pre_hook(lambda _, maps: given.append(maps[0]))
    features = judge(torch.randn(4, 3, 16, 16)).features[-1]
    spread = (features.var(0, unbiased=False) + 1e-8).sqrt().mean()
    assert torch.allclose(given[0][:, :8], features) and torch.allclose(given[0][:, 8], spread.expand(4, 4, 4))


def test_noise_follows_its_strength_and_rests_when_sampling() -> None:
    net, noise = generator(), torch.randn(2, 6)
    assert torch.equal(net(noise), net(noise))  # strength 0
    for module in net.modules():
        if isinstance(module, Noise):
            module.strength.data.fill_(0.5)
    assert not torch.equal(net(noise), net(noise))
    net.eval()
    assert torch.equal(net(noise), net(noise))
    layer = Noise(8)
    layer.strength.data.fill_(0.5)
    added = layer(torch.zeros(500, 3, 8, 8))
    assert torch.equal(added[:, 0], added[:, 2])  # one number for all channels
    assert added.std().item() == pytest.approx(0.5, rel=0.02)
    assert torch.equal(layer.eval()(torch.zeros(2, 3, 8, 8)), (0.5 * layer.fixed).expand(2, 3, 8, 8))


def test_grids_can_be_followed() -> None:
    """Fresh noise for every grid is a defect of other packages."""
    run = built(model="stylegan2", tricks=["style_mixing"])
    for module in pair_in(run).generator.modules():
        if isinstance(module, Noise):
            module.strength.data.fill_(0.5)
    torch.manual_seed(5)
    assert torch.equal(run.game.sample(), run.game.sample())
    assert torch.equal(samples_of(run), run.game.sample())


@pytest.mark.parametrize("architecture", ["skip", "residual"])
def test_bf16_and_channels_last_change_only_rounding(architecture: str) -> None:
    net, judge = generator(architecture=architecture), discriminator(architecture=architecture)
    noise = torch.randn(8, 6)
    plain = net(noise)
    score = judge(plain).score
    net.to(memory_format=torch.channels_last)
    judge.to(memory_format=torch.channels_last)
    images = net(noise)
    assert torch.allclose(images, plain, atol=1e-5) and torch.allclose(judge(images).score, score, atol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        low = net(noise)
        low_score = judge(low).score
    assert (low - plain).abs().mean() < 0.02 * plain.std() and (low_score - score).abs().max() < 0.1
    low_score.float().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("architecture", ["skip", "residual", "plain"])
def test_gradient_of_gradient(architecture: str, autocast: bool) -> None:
    judge = discriminator(architecture=architecture)
    images = torch.randn(2, 3, 16, 16, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        score = judge(images).score
    slopes = torch.autograd.grad(score.float().sum(), images, create_graph=True)[0]
    slopes.square().sum().backward()
    for key, parameter in judge.named_parameters():
        if "weight" in key:
            assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any(), key


@pytest.mark.parametrize(
    ("net", "changed", "message"),
    [
        (generator, {"resolution": 28}, r"^\.resolution: 28, expected one of 16, 32"),
        (discriminator, {"channels": 5}, r"^\.channels: 5"),
        (generator, {"filter": [1, 2, 1]}, r"^\.filter: .*even number of taps.*Try: '\.filter="),
        (discriminator, {"architecture": "resnet"}, r"^\.architecture: .*one of skip, residual, plain"),
        (generator, {"mapping_layers": 0}, r"^\.mapping_layers: 0"),
        (discriminator, {"mapping_rate": 0}, r"^\.mapping_rate: 0"),
        (generator, {"classes": -1}, r"^\.classes: -1"),
    ],
)
def test_what_cannot_be_made_is_refused(net: Any, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        net(**changed)


def test_what_cannot_be_combined_is_refused() -> None:
    line = r"model\.discriminator\.epilogue: MinibatchDiscrimination.*expected null or MinibatchStddev"
    with pytest.raises(ConfigError, match=line):
        built(model="stylegan2", tricks=["minibatch_discrimination"])
    for name in ("equalized_lr", "weight_norm"):
        with pytest.raises(ConfigError, match=f"{name}: the networks have a form for their weights already"):
            built(model="stylegan2", tricks=[name])
    for name in ("path_length", "style_mixing"):
        with pytest.raises(ConfigErrors, match=rf"{name}: needs a generator that makes a style.*model=stylegan2"):
            built(tricks=[name])


def test_spectral_norm_bounds_what_the_layers_use() -> None:
    run = built(model="stylegan2", tricks=["spectral_norm"])
    layer = pair_in(run).discriminator.get_submodule("head.dense")
    assert torch.linalg.matrix_norm(layer.weight.detach(), 2).item() == pytest.approx(1, rel=0.1)  # type: ignore[arg-type, operator]


# Path length ----------------------------------------------------------------------------------------------------------


class Linear(nn.Module):
    """Styles are the noise times a scale, twice; an image [1, 2, 2] is A times the first plus B times the second."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.matrices = torch.randn(2, 4, 3)

    def styles(self, noise: Tensor, labels: Tensor | None) -> Tensor:
        return torch.stack([noise, noise], 1).requires_grad_()

    def synthesis(self, styles: Tensor) -> Tensor:
        return self.scale * torch.einsum("bls,lps->bp", styles, self.matrices).unflatten(1, (1, 2, 2))

    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.synthesis(self.styles(noise))


def context_of(trick: Trick, net: nn.Module, noise: Tensor) -> Context:
    pair = pair_of(generator=net, path_length=trick)
    nothing = DiscriminatorOutput(torch.zeros(len(noise)))
    return Context(pair=pair, real=None, fake=noise, on_real=None, on_fake=nothing, latent=Latent(noise))


def test_path_length_in_closed_form() -> None:
    """J^T y = s [A^T y, B^T y], its length the root of the mean over layers; `a` moves by 0.01, with a gradient."""
    net, trick = Linear(), PathLength(weight=2.0, decay=0.01, shrink=2, every=4)
    context, mean = context_of(trick, net, torch.randn(6, 3)), 0.0
    for seed in (7, 8):
        torch.manual_seed(seed)
        towards = torch.randn(3, 1, 2, 2).flatten(1) / 2  # half of six images; the root of four pixels
        unit = torch.einsum("bp,lps->bls", towards, net.matrices).square().sum(2).mean(1).sqrt()
        lengths = 1.5 * unit
        mean = 0.99 * mean + 0.01 * lengths.mean().item()
        torch.manual_seed(seed)
        net.scale.grad = None
        term = trick.generator_term(context)
        term.backward()
        assert term.item() == pytest.approx(2 * (lengths - mean).square().mean().item(), rel=1e-5)
        slope = 2 * 2 * ((lengths - mean) * (unit - 0.01 * unit.mean())).mean().item()
        assert net.scale.grad is not None and net.scale.grad.item() == pytest.approx(slope, rel=1e-4)
        assert trick.mean.item() == pytest.approx(mean, rel=1e-5)
        assert trick.metrics()["length"].item() == pytest.approx(lengths.mean().item(), rel=1e-5)


def test_path_length_estimates_the_jacobians_norm() -> None:
    """E |J^T y|^2 = |J|_F^2 / pixels, the mean over layers taken."""
    net = Linear()
    lengths = PathLength.lengths(net, torch.randn(20_000, 3))
    expected = 1.5**2 * net.matrices.square().sum().item() / 2 / 4
    assert lengths.square().mean().item() == pytest.approx(expected, rel=0.03)


def test_lazy_terms_count_as_often_as_they_are_left_out() -> None:
    """Appendix B: R1 each 16th step and path length each 4th, times 16 and 4."""
    net, trick = Linear(), PathLength(weight=2.0, decay=0.01, shrink=1, every=4)
    context = context_of(trick, net, torch.randn(4, 3))
    torch.manual_seed(1)
    alone = trick.generator_term(context).item()
    trick.mean.zero_()
    torch.manual_seed(1)
    terms = context.pair.tricks.terms(Trick.generator_term, context, frozenset({"path_length"}))
    assert terms["path_length"].item() == pytest.approx(4 * alone)
    assert not context.pair.tricks.terms(Trick.generator_term, context, frozenset())
    judge = LinearDiscriminator([3.0, 0.0, 4.0, 0.0])
    pair = pair_of(judge, r1=R1(gamma=10.0, every=16, method="exact", share=1.0, epsilon=0.01))
    real = torch.randn(4, 1, 2, 2, requires_grad=True)
    seen = Context(pair=pair, real=real, fake=real, on_real=judge(real), on_fake=judge(real))
    assert pair.tricks.terms(Trick.discriminator_term, seen, frozenset({"r1"}))["r1"].item() == 16 * 10 / 2 * 25
    assert [step for step in range(9) if context.pair.tricks.due(step)] == [0, 4, 8]


def test_path_length_is_computed_in_float32() -> None:
    net, noise = generator(), torch.randn(4, 6)
    lengths = []
    for autocast in (False, True):
        torch.manual_seed(2)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            lengths.append(PathLength.lengths(net, noise))
    assert torch.equal(*lengths)
    lengths[1].sum().backward()
    for key, parameter in net.named_parameters():
        if "weight" in key:
            assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any(), key


# Style mixing ---------------------------------------------------------------------------------------------------------


def mixed(p: float) -> tuple[Mixed, Tensor, Tensor]:
    net = StyleMixing(p=p).modify(generator(), "generator")
    assert isinstance(net, Generator) and isinstance(net.styles, Mixed)
    noise = torch.randn(3, 6)
    return net.styles, noise, net.styles.styles(noise)


def test_mixing_at_a_cutoff_takes_the_other_noise_from_there_on() -> None:
    mix, noise, own = mixed(0.9)
    for cutoff in (0, 2, 6):
        mix.cutoff = lambda count, device, cutoff=cutoff: torch.tensor(cutoff)  # type: ignore[method-assign, misc]
        torch.manual_seed(4)
        found = mix(noise)
        torch.manual_seed(4)
        other = mix.styles(torch.randn_like(noise))
        assert torch.equal(found[:, :cutoff], own[:, :cutoff]) and torch.equal(found[:, cutoff:], other[:, cutoff:])
    assert not torch.allclose(own, other)


def test_mixing_never_and_when_sampling_is_none() -> None:
    mix, noise, own = mixed(0.0)
    assert torch.equal(mix(noise), own)
    mix, noise, own = mixed(1.0)
    assert not torch.equal(mix(noise), own) and torch.equal(mix.eval()(noise), own)


def test_labels_serve_both_noises_and_the_length_of_paths() -> None:
    net = StyleMixing(p=1.0).modify(generator(classes=3), "generator")
    assert isinstance(net, Generator) and isinstance(net.styles, Mixed)
    net.styles.cutoff = lambda count, device: torch.tensor(2)  # type: ignore[method-assign]
    noise, labels = torch.randn(4, 6), torch.tensor([0, 2, 2, 1])
    torch.manual_seed(4)
    found = net.styles(noise, labels)
    torch.manual_seed(4)
    other = net.styles.styles(torch.randn_like(noise), labels)
    assert torch.equal(found[:, -1], other[:, -1]) and torch.equal(found[:, 0], net.styles.styles(noise, labels)[:, 0])
    net.eval()
    lengths = []
    for these in (labels, labels, labels.roll(1)):
        torch.manual_seed(5)
        lengths.append(PathLength.lengths(net, noise, these))
    assert torch.equal(lengths[0], lengths[1]) and not torch.allclose(lengths[0], lengths[2])


def test_cutoffs_are_drawn_as_in_the_papers_code() -> None:
    """1 to 5 of 6 layers with 0.9 / 5 each, and 6, which mixes nothing, with 0.1."""
    mix, _, _ = mixed(0.9)
    drawn = torch.stack([mix.cutoff(6, torch.device("cpu")) for _ in range(4000)])
    shares = [(drawn == k).double().mean().item() for k in range(7)]
    assert shares[0] == 0 and shares[6] == pytest.approx(0.1, abs=0.02)
    assert all(share == pytest.approx(0.18, abs=0.03) for share in shares[1:6])


def test_mixing_leaves_the_discriminator_alone() -> None:
    judge = discriminator()
    assert StyleMixing(p=0.9).modify(judge, "discriminator") is judge


def test_the_checker_finds_a_base_configuration_for_these_tricks() -> None:
    """On a model without styles they are refused, which does not mean that no model takes them."""
    checker = CompatibilityChecker()
    for name in ("path_length", "style_mixing"):
        verdict = checker.with_loss(name, "nonsaturating")
        assert verdict.base.model == "stylegan2" and not verdict.diagnostics
    assert ask("nonsaturating", ["path_length"], BaseConfiguration("dcgan", 16, "none", ())).refused
