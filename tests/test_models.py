"""Models: closed forms against the papers, and properties that every model in conf/model must have."""

import importlib
import inspect
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from ganrun.core.errors import ConfigError
from ganrun.core.facts import Fact
from ganrun.models import dcgan_shape, deep_conv, keep_calm
from ganrun.models.layers import Fold, Maxout, Unfold

CONF = Path(__file__).parents[1] / "conf" / "model"
ALL = sorted(path.stem for path in CONF.rglob("*.yaml"))
CONDITIONAL = [name for name in ALL if "classes: ${dataset" in (CONF / f"{name}.yaml").read_text()]
ELSEWHERE = (
    "began",
    "ebgan",
    "msggan",
    "pix2pix",
    "progan",
    "r3gan",
    "stackgan",
    "stackgan_stage2",
    "stackgan_v2",
    "stylegan2",
    "translation",
)  # in test_energy.py, test_cycle.py and so on
FAMILY = [name for name in ALL if name not in [*CONDITIONAL, *ELSEWHERE]]  # stacks of layers that read no labels
CONVOLUTIONAL = ["dcgan", "deep_conv", "keep_calm"]
UNNORMED = ["improved"]  # whose D has no norm to choose
SMALL: dict[str, list[str]] = {
    "dcgan": ["generator.width=8", "discriminator.width=8"],
    "deep_conv": ["generator.width=8", "discriminator.width=8", "generator.latent=100"],
    "improved": ["generator.width=8", "discriminator.width=8"],
    "infogan": [
        "generator.latent=100",
        "generator.width=8",
        "discriminator.width=8",
        "generator.hidden=24",
        "discriminator.hidden=16",
    ],
    "mlp": ["generator.hidden=[24,24]", "discriminator.hidden=[16,16]"],
    "keep_calm": ["generator.width=8", "discriminator.width=8"],
    "resnet": ["generator.width=8", "discriminator.width=8", "generator.latent=100"],
}
NORMS = [
    (name, norm)
    for name in FAMILY
    for norm in ("batch", "instance", "layer", "group", "none")
    if name not in UNNORMED and (name in CONVOLUTIONAL or norm in ("batch", "layer", "none"))
]
WITHOUT_BATCH = [(name, norm) for name, norm in NORMS if norm != "batch"]


def nodes(name: str, channels: int, resolution: int, *overrides: str) -> DictConfig:
    """The resolved nodes of a model, as a run on such data would have them."""
    model = OmegaConf.merge(OmegaConf.load(CONF / f"{name}.yaml"), OmegaConf.from_dotlist(list(overrides)))
    whole = OmegaConf.create({"dataset": {"channels": channels, "resolution": resolution}, "model": model})
    OmegaConf.resolve(whole)
    return whole.model


def make(node: DictConfig, place: str) -> Any:
    """The network of a node, with its place in front of errors, as the instantiator has."""
    arguments = OmegaConf.to_container(node)
    assert isinstance(arguments, dict)
    module, _, name = str(arguments.pop("_target_")).rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)(**arguments)
    except ConfigError as error:
        raise error.at(place) from error


def build(name: str, channels: int, resolution: int, *overrides: str) -> tuple[Any, Any]:
    torch.manual_seed(0)
    model = nodes(name, channels, resolution, *overrides)
    return make(model.generator, "model.generator"), make(model.discriminator, "model.discriminator")


def small(name: str, channels: int = 3, resolution: int = 16, *overrides: str) -> tuple[Any, Any]:
    return build(name, channels, resolution, *SMALL.get(name, []), *overrides)


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def test_family_is_not_empty():
    assert {"dcgan", "mlp", "keep_calm"} <= set(FAMILY)


# Properties of the family ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_yaml_gives_exactly_what_constructors_take(name):
    model = OmegaConf.load(CONF / f"{name}.yaml")
    assert {"generator", "discriminator"} <= set(model)  # and what both read, such as a text encoder
    for node in (one for one in model.values() if OmegaConf.is_dict(one)):
        module, _, cls = node._target_.rpartition(".")
        parameters = inspect.signature(getattr(importlib.import_module(module), cls)).parameters.values()
        assert all(p.kind is p.KEYWORD_ONLY and p.default is p.empty for p in parameters)
        assert {p.name for p in parameters} == set(node) - {"_target_"}


@pytest.mark.parametrize("resolution", [16, 32, 64])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("name", FAMILY)
def test_shapes_and_range(name, channels, resolution):
    generator, discriminator = small(name, channels, resolution)
    images = generator(50 * torch.randn(3, generator.latent))
    assert images.shape == (3, channels, resolution, resolution)
    assert generator.range == (-1.0, 1.0)
    assert images.abs().max() <= 1
    output = discriminator(images)
    assert output.score.shape == (3,)
    assert len(output.features) >= 2
    for net in (generator, discriminator):
        assert (net.channels, net.resolution) == (channels, resolution)
    assert torch.equal(discriminator.eval()(images, None).score, discriminator(images, torch.arange(3)).score)


@pytest.mark.parametrize("name", FAMILY)
def test_linear_output_leaves_the_range_of_tanh(name):
    generator, _ = small(name, 1, 16, "generator.output=linear", "generator.init.scale=2.0")
    assert generator.range == (-math.inf, math.inf)
    assert generator(torch.randn(8, generator.latent)).abs().max() > 1


@pytest.mark.parametrize("name", FAMILY)
def test_features_are_what_leads_to_the_score_shallow_first(name):
    _, discriminator = small(name)
    images = torch.randn(4, 3, 16, 16)
    score, features, heads = discriminator.eval()(images)
    sizes = [f.numel() for f in features]
    assert sizes == sorted(sizes, reverse=True)
    assert torch.equal(discriminator.blocks[0](images), features[0])
    assert torch.equal(discriminator.head(features[-1]).squeeze(1), score)
    assert not heads


@pytest.mark.parametrize("name", FAMILY)
def test_parameters_are_registered_in_depth_order(name):
    """Gradient norms are drawn in this order: bottom to top of G, image to score of D."""
    for net, start in zip(small(name), (torch.randn(4, 100), torch.randn(4, 3, 16, 16)), strict=True):
        called: list[int] = []
        for layer in net.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                layer.register_forward_hook(lambda layer, *_, called=called: called.append(id(layer.weight)))
        net(start)
        assert called == [id(p) for p in net.parameters() if id(p) in called]


@pytest.mark.parametrize("name", FAMILY)
def test_sigmoid_squashes_the_score_and_says_so(name):
    _, plain = small(name)
    _, squashed = small(name, 3, 16, "discriminator.output=sigmoid")
    images = torch.randn(4, 3, 16, 16)
    assert torch.allclose(squashed.eval()(images).score, plain.eval()(images).score.sigmoid())
    assert Fact.SCORE in squashed.traits.invalidates
    assert Fact.SCORE not in plain.traits.invalidates
    for fact in (Fact.SCORE, Fact.FEATURES, Fact.FREE_WEIGHTS, Fact.PER_SAMPLE):
        assert fact in plain.traits.provides


@pytest.mark.parametrize(("name", "norm"), NORMS)
def test_per_sample_is_true_when_claimed(name, norm):
    """Changing one image changes only its own score, unless batch norm couples them."""
    _, discriminator = small(name, 3, 16, f"discriminator.norm={norm}")
    discriminator.double().train()
    images = torch.randn(4, 3, 16, 16, dtype=torch.double)
    changed = images.clone()
    changed[0] = torch.randn(3, 16, 16)
    scores = []
    for batch in (images, changed):
        torch.manual_seed(1)  # the same dropout
        scores.append(discriminator(batch).score)
    moved = (scores[1] - scores[0]).abs() > 1e-10 * scores[0].abs().max()
    assert moved[0]
    assert bool(moved[1:].any()) == (norm == "batch") == (Fact.PER_SAMPLE in discriminator.traits.invalidates)


@pytest.mark.parametrize("name", [name for name in FAMILY if name not in UNNORMED])
def test_traits_follow_the_layers_that_are_there(name):
    """A trick that replaces batch norm gives PER_SAMPLE back."""
    _, discriminator = small(name, 3, 16, "discriminator.norm=batch")
    assert Fact.PER_SAMPLE in discriminator.traits.invalidates
    for part in [*discriminator.modules()]:
        for key, layer in [*part.named_children()]:
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                setattr(part, key, nn.Identity())
    assert Fact.PER_SAMPLE not in discriminator.traits.invalidates


@pytest.mark.parametrize(("name", "norm"), WITHOUT_BATCH)
@pytest.mark.parametrize("autocast", [False, True])
def test_gradient_of_gradient(name, norm, autocast):
    """What a gradient penalty needs: every weight that the slope depends on gets a finite gradient."""
    _, discriminator = small(name, 1, 16, f"discriminator.norm={norm}")
    images = torch.randn(4, 1, 16, 16, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        score = discriminator(images).score
    slopes = torch.autograd.grad(score.float().sum(), images, create_graph=True)[0]
    (slopes.flatten(1).norm(dim=1) - 1).square().mean().backward()
    for key, parameter in discriminator.named_parameters():
        if key.endswith("weight"):
            assert parameter.grad is not None and parameter.grad.isfinite().all(), key
            assert parameter.grad.abs().max() > 0, key


@pytest.mark.parametrize(("name", "norm"), WITHOUT_BATCH)
def test_torch_func_agrees_with_autograd(name, norm):
    _, discriminator = small(name, 1, 16, f"discriminator.norm={norm}")
    discriminator.eval()
    images = torch.randn(3, 1, 16, 16, requires_grad=True)
    expected = torch.autograd.grad(discriminator(images).score.sum(), images)[0]

    def score(image: Tensor) -> Tensor:
        return discriminator(image[None]).score[0]

    found = torch.func.vmap(torch.func.grad(score))(images.detach())
    assert torch.allclose(found, expected, rtol=1e-3, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize(("name", "norm"), NORMS)
def test_channels_last_and_bf16_change_only_rounding(name, norm):
    generator, discriminator = small(name, 3, 16, f"generator.norm={norm}", f"discriminator.norm={norm}")
    noise = torch.randn(8, generator.latent)
    discriminator.eval()  # no dropout
    plain = generator(noise)
    plain_score = discriminator(plain).score
    generator.to(memory_format=torch.channels_last)
    discriminator.to(memory_format=torch.channels_last)
    images = generator(noise).contiguous(memory_format=torch.channels_last)
    assert torch.allclose(images, plain, atol=1e-5)
    assert torch.allclose(discriminator(images).score, plain_score, rtol=1e-3, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        low = generator(noise)
        discriminator(low).score.sum().backward()
    assert (low.float() - plain).abs().mean() < 0.02
    assert all(p.grad is not None and p.grad.isfinite().all() for p in generator.parameters())


@pytest.mark.parametrize("name", FAMILY)
def test_no_dropout_is_no_layer(name):
    off = ["discriminator.dropout=0", *(["discriminator.input_dropout=0"] if name in ("mlp", "improved") else [])]
    for net in small(name, 3, 16, *off):
        assert not [layer for layer in net.modules() if isinstance(layer, nn.Dropout)]
    for net in small(name, 3, 16, "generator.dropout=0.25", "discriminator.dropout=0.25"):
        assert 0.25 in [layer.p for layer in net.modules() if isinstance(layer, nn.Dropout)]


@pytest.mark.parametrize("name", FAMILY)
def test_building_is_a_function_of_the_seed(name):
    for one, two in zip(small(name), small(name), strict=True):
        for (key, a), b in zip(one.state_dict().items(), two.state_dict().values(), strict=True):
            assert torch.equal(a, b), key


@pytest.mark.parametrize("kind", ["relu", "leaky_relu", "elu", "selu", "silu", "gelu", "tanh"])
@pytest.mark.parametrize("name", FAMILY)
def test_every_activation_is_used(name, kind):
    for net, start in zip(
        small(name, 3, 16, f"generator.activation={kind}", f"discriminator.activation={kind}"),
        (torch.randn(4, 100), torch.randn(4, 3, 16, 16)),
        strict=True,
    ):
        chosen = next(m for n, m in net.blocks[1].named_modules() if n.rpartition(".")[2] == "activation")
        seen: list[tuple[Tensor, Tensor]] = []
        chosen.register_forward_hook(lambda _, given, made, seen=seen: seen.append((given[0], made)))
        net(start)
        slope = {"slope": chosen.negative_slope} if kind == "leaky_relu" else {}
        function = getattr(nn.functional, kind, torch.tanh)
        expected = function(seen[0][0], *slope.values())
        assert torch.allclose(seen[0][1], expected)


# Closed forms against the papers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "channels", "resolution", "generator", "discriminator"),
    [
        # 100*4096 + 256*128*16 + 128*64*16 + 64*16 and 2 (256 + 128 + 64) of norms; 64*16 + ... + 256*16, 2 (128 + 256)
        ("dcgan", 1, 32, 1_066_880, 661_248),
        ("dcgan", 3, 64, 3_576_704, 2_765_568),  # the well-known counts of the usual port
        # 101*1200 + 1201*1200 + 1201*784; five pieces a unit: 785*1200 + 241*1200 + 241
        ("mlp", 1, 28, 2_503_984, 1_231_441),
        # dense 101*32768 + norm 65536, 3 convolutions 5x5, 1 transposed 4x4, norms 4*256, image 128*3*25 + 3
        ("keep_calm", 3, 32, 4_876_675, 792_961),
    ],
)
def test_parameter_counts_by_hand(name, channels, resolution, generator, discriminator):
    width = ["generator.width=64", "discriminator.width=64"] if name == "dcgan" else []  # the usual port's
    assert [count(net) for net in build(name, channels, resolution, *width)] == [generator, discriminator]


def test_dcgan_is_the_usual_port():
    """Dense layers on vectors compute what the port's 4x4 convolutions compute on 1x1 maps."""
    ours, judge = build("dcgan", 3, 32, "generator.width=8", "discriminator.width=8")
    up = [(100, 32, 1, 0), (32, 16, 2, 1), (16, 8, 2, 1), (8, 3, 2, 1)]
    port = nn.Sequential()
    for inputs, outputs, stride, padding in up:
        port.append(nn.ConvTranspose2d(inputs, outputs, 4, stride, padding, bias=False))
        port.extend([nn.BatchNorm2d(outputs), nn.ReLU()] if outputs != 3 else [nn.Tanh()])
    port_judge = nn.Sequential(
        *(nn.Conv2d(3, 8, 4, 2, 1, bias=False), nn.LeakyReLU(0.2)),
        *(nn.Conv2d(8, 16, 4, 2, 1, bias=False), nn.BatchNorm2d(16), nn.LeakyReLU(0.2)),
        *(nn.Conv2d(16, 32, 4, 2, 1, bias=False), nn.BatchNorm2d(32), nn.LeakyReLU(0.2)),
        nn.Conv2d(32, 1, 4, bias=False),
    )
    with torch.no_grad():
        for mine, theirs in zip((ours, judge), (port, port_judge), strict=True):
            for a, b in zip(mine.parameters(), theirs.parameters(), strict=True):
                b.copy_(a if a.shape == b.shape else _as_convolution(a, b.shape))
    noise = torch.randn(5, 100)
    images = ours(noise)
    assert torch.allclose(images, port(noise[:, :, None, None]), atol=1e-5)
    assert torch.allclose(judge(images).score, port_judge(images).flatten(), atol=1e-6)


def _as_convolution(dense: Tensor, shape: torch.Size) -> Tensor:
    if shape[0] == 1:  # the score: [1, S S C] -> [1, C, S, S]
        return dense.unflatten(1, (4, 4, shape[1])).permute(0, 3, 1, 2)
    return dense.unflatten(0, (4, 4, shape[1])).permute(3, 2, 0, 1)  # the projection: [S S C, Z] -> [Z, C, S, S]


@pytest.mark.parametrize("kernel", [3, 4, 5, 6, 7])
@pytest.mark.parametrize("resolution", [16, 32, 64, 128, 256])
def test_dcgan_sizes_double_exactly_with_every_kernel(resolution, kernel):
    narrow = [f"{net}.{key}=2" for net in ("generator", "discriminator") for key in ("width", "max_width")]
    generator, judge = build(
        "dcgan", 1, resolution, *narrow, f"generator.kernel={kernel}", f"discriminator.kernel={kernel}"
    )
    assert generator.to_image.conv.kernel_size == (kernel, kernel)  # top_kernel follows
    made = torch.randn(2, 100)
    for level, block in enumerate(generator.blocks):
        made = block(made)
        assert made.shape[2:] == (4 * 2**level,) * 2
    images = generator.to_image(made)
    assert images.shape[2:] == (resolution, resolution)
    sizes = [f.shape[-1] for f in judge(images).features]
    assert sizes == [resolution // 2**level for level in range(1, len(sizes) + 1)]
    assert sizes[-1] == 4


@pytest.mark.parametrize("kernel", [3, 4, 5, 6, 7])
def test_tips_sizes_with_every_kernel(kernel):
    generator, judge = small("keep_calm", 3, 32, f"generator.up_kernel={kernel}", f"discriminator.kernel={kernel}")
    images = generator(torch.randn(2, 100))
    assert [f.shape[-1] for f in judge(images).features] == [32, 16, 8, 4]


def test_dcgan_widths_double_up_to_the_cap():
    generator, judge = build("dcgan", 1, 256, "generator.max_width=200", "discriminator.max_width=200")
    assert [b.conv.out_channels for b in judge.blocks] == [32, 64, 128, 200, 200, 200]
    assert [b.norm.num_features for b in generator.blocks] == [200, 200, 200, 128, 64, 32]
    _, paper = build("dcgan", 3, 64, "discriminator.width=128")
    assert [b.conv.out_channels for b in paper.blocks] == [128, 256, 512, 1024]  # Radford et al. 2015, figure 1


def test_dcgan_norms_everywhere_but_image_sides():
    generator, judge = build("dcgan", 3, 32)
    assert [hasattr(b, "norm") for b in generator.blocks] == [True, True, True]
    assert [hasattr(b, "norm") for b in judge.blocks] == [False, True, True]
    assert not hasattr(generator.to_image, "norm")


@pytest.mark.parametrize(("kind", "groups"), [("layer", 1), ("instance", 64), ("group", 32)])
def test_norms_are_group_norms(kind, groups):
    _, judge = build("dcgan", 3, 16, f"discriminator.norm={kind}", "discriminator.width=32")
    norm = judge.blocks[1].norm
    assert (norm.num_groups, norm.num_channels) == (groups, 64)
    maps = torch.randn(2, 64, 4, 4)
    normal = nn.functional.group_norm(maps, groups)
    assert torch.allclose(norm(maps), normal * norm.weight[:, None, None], atol=1e-5)


def test_dcgan_initialisation():
    """Weights N(0, 0.02), gains N(1, 0.02), biases 0."""
    for net in build("dcgan", 3, 64):
        for layer in net.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                assert layer.weight.std().item() == pytest.approx(0.02, rel=0.05)
                assert abs(layer.weight.mean().item()) < 4 * 0.02 / math.sqrt(layer.weight.numel())
                kurtosis = (layer.weight / layer.weight.std()).pow(4).mean().item()
                assert kurtosis == pytest.approx(3, abs=0.3)
            elif isinstance(layer, nn.BatchNorm2d):
                assert layer.weight.std().item() == pytest.approx(0.02, rel=0.35)
                assert layer.weight.mean().item() == pytest.approx(1, abs=0.01)
                assert not layer.bias.any()


@pytest.mark.parametrize(("side", "scale"), [(0, 0.05), (1, 0.005)])
def test_mlp_initialisation(side, scale):
    net = build("mlp", 1, 28)[side]
    for layer in (layer for layer in net.modules() if isinstance(layer, nn.Linear)):
        assert not layer.bias.any()
        assert layer.weight.abs().max() <= scale
        if layer.weight.numel() > 1000:
            assert layer.weight.abs().max().item() == pytest.approx(scale, rel=0.01)
            assert layer.weight.std().item() == pytest.approx(scale / math.sqrt(3), rel=0.03)


def test_tips_initialisation_is_glorot_uniform():
    generator, judge = build("keep_calm", 3, 32)
    for layer, fans in [
        (generator.blocks[0].project, 100 + 128 * 16 * 16),
        (generator.blocks[1].conv, 25 * 256),
        (generator.blocks[2].conv, 16 * 256),
        (generator.to_image.conv, 25 * (128 + 3)),
        (judge.blocks[0].conv, 9 * (3 + 128)),
        (judge.head.score, 128 * 16 + 1),
    ]:
        bound = math.sqrt(6 / fans)
        assert layer.weight.abs().max().item() <= bound * (1 + 1e-6)
        assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)
        assert layer.bias is None or not layer.bias.any()


def test_default_initialisation_is_pytorchs_own():
    torch.manual_seed(0)
    expected = nn.Linear(100, 24)
    generator, _ = small("mlp", 1, 16, "generator.init.kind=default")
    assert torch.equal(generator.blocks[0].dense.weight, expected.weight)
    assert torch.equal(generator.blocks[0].dense.bias, expected.bias)


def test_maxout_by_hand():
    values = torch.tensor([[1.0, 5.0, 2.0, -1.0, -3.0, -2.0]])
    assert torch.equal(Maxout(pieces=3)(values), torch.tensor([[5.0, -1.0]]))
    _, judge = build("mlp", 1, 4, "discriminator.hidden=[3]", "discriminator.pieces=2", "discriminator.init.scale=1")
    image = torch.randn(1, 1, 4, 4)
    dense, score = judge.blocks[0].dense, judge.head.score
    lines = [(dense.weight[i] @ image.flatten()).item() for i in range(6)]
    units = [max(lines[0], lines[1]), max(lines[2], lines[3]), max(lines[4], lines[5])]
    expected = sum(w.item() * u for w, u in zip(score.weight[0], units, strict=True))
    assert judge.eval()(image).score.item() == pytest.approx(expected, rel=1e-5)


def test_mlp_forgets_pixels_and_units_at_the_papers_rates():
    _, judge = build("mlp", 1, 28)
    block = judge.blocks[0]
    pixels = block.pixel_dropout(block.flatten(torch.ones(64, 1, 28, 28)))
    assert (pixels == 0).float().mean().item() == pytest.approx(0.2, abs=0.02)
    assert pixels.max().item() == pytest.approx(1 / 0.8)
    features = judge(torch.randn(64, 1, 28, 28)).features
    assert (features[1] == 0).float().mean().item() == pytest.approx(0.5, abs=0.03)


def test_mlp_norms_everywhere_but_image_sides():
    """And a dense layer has a bias only where no norm follows it."""
    generator, judge = small("mlp", 1, 16, "generator.norm=batch", "discriminator.norm=layer")
    assert [hasattr(b, "norm") for b in generator.blocks] == [True, True]
    assert [hasattr(b, "norm") for b in judge.blocks] == [False, True]
    assert [b.dense.bias is None for b in judge.blocks] == [False, True]


def test_mlp_makes_points():
    """The toy network of WGAN-GP's code: 2-512-512-512, ReLU, PyTorch's own initialisation."""
    wide = ["hidden=[512,512,512]", "activation=relu", "init.kind=default"]
    overrides = [f"{net}.{setting}" for net in ("generator", "discriminator") for setting in wide]
    more = ["generator.latent=2", "generator.output=linear", "discriminator.dropout=0", "discriminator.input_dropout=0"]
    generator, critic = build("mlp", 2, 1, *overrides, *more)
    points = generator(torch.randn(16, 2))
    assert points.shape == (16, 2, 1, 1)
    assert critic(points).score.shape == (16,)
    assert count(generator) == 3 * 512 + 2 * 513 * 512 + 513 * 2
    assert count(critic) == 3 * 512 + 2 * 513 * 512 + 513
    assert critic.traits.invalidates == {Fact.SMOOTH}, "it has kinks, and nothing else in the way"


def test_tips_is_the_notebooks_network():
    """Dense, ReLU, norm for each of 32,768 units, leaky ReLU, then maps in Keras' order, channels last."""
    generator, judge = build("keep_calm", 3, 32)
    seed = generator.blocks[0]
    assert [type(layer) for layer in seed] == [nn.Linear, nn.ReLU, nn.BatchNorm1d, nn.LeakyReLU, Unfold]
    assert seed.norm.num_features == 32_768
    kernels = [block.conv.kernel_size[0] for block in generator.blocks[1:]] + [generator.to_image.conv.kernel_size[0]]
    assert kernels == [5, 4, 5, 5, 5]
    assert [block.conv.kernel_size[0] for block in judge.blocks] == [3, 4, 4, 4]
    assert [type(layer) for layer in judge.head] == [Fold, nn.Dropout, nn.Linear]
    assert judge.head.dropout.p == 0.4
    for layer in (*generator.modules(), *judge.modules()):
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            assert (layer.momentum, layer.eps) == (0.1, 1e-3)
        if isinstance(layer, nn.LeakyReLU):
            assert layer.negative_slope == 0.1


def test_folding_is_keras_order_without_a_copy():
    vector = torch.arange(2 * 2 * 3.0)[None]
    maps = Unfold(channels=3, size=2)(vector)
    assert torch.equal(maps[0, :, 0, 1], torch.tensor([3.0, 4.0, 5.0]))
    assert maps.is_contiguous(memory_format=torch.channels_last)
    assert maps.data_ptr() == vector.data_ptr() == Fold()(maps).data_ptr()
    assert torch.equal(Fold()(maps), vector)


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_settings_that_tricks_overlay(name):
    """big_kernels, wide_filters and dropout are overlays of these keys."""
    keys = ["discriminator.kernel=5", "generator.top_kernel=5", "discriminator.dropout=0.5"]
    generator, judge = build(name, 1, 32, *keys, "generator.width=128", "discriminator.width=128")
    assert generator.to_image.conv.kernel_size == (5, 5)
    assert judge.blocks[1].conv.kernel_size == (5, 5)
    assert judge.blocks[0].conv.out_channels == generator.to_image.conv.in_channels == 128
    assert generator(torch.randn(2, generator.latent)).shape == (2, 1, 32, 32)


# Refusals -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "resolution", "override", "line"),
    [
        ("dcgan", 28, "", "model.generator.resolution: 28, expected one of 16, 32, 64, 128, 256 (pixels). "
         "Try: dataset.resolution=32"),
        ("dcgan", 512, "", "model.generator.resolution: 512, expected one of 16, 32, 64, 128, 256 (pixels). "
         "Try: dataset.resolution=256"),
        ("keep_calm", 128, "", "model.generator.resolution: 128, expected one of 16, 32, 64 (pixels). "
         "Try: dataset.resolution=64"),
        ("dcgan", 32, "discriminator.norm=bach", "model.discriminator.norm: bach, expected one of "
         "batch, instance, layer, group, none. Try: model.discriminator.norm=batch"),
        ("mlp", 32, "discriminator.norm=instance", "model.discriminator.norm: instance, expected one of "
         "batch, layer, none. Try: model.discriminator.norm=none"),
        ("dcgan", 32, "generator.kernel=8", "model.generator.kernel: 8, expected a whole number from 3 to 7"),
        ("dcgan", 32, "generator.top_kernel=2", "model.generator.top_kernel: 2, expected a whole number from 3 to 7"),
        ("keep_calm", 32, "generator.kernel=4", "model.generator.kernel: 4, expected one of 3, 5, 7 "
         "(this convolution keeps the size of its image). Try: model.generator.kernel=5"),
        ("dcgan", 32, "generator.activation=leaky", "model.generator.activation: leaky, expected one of "
         "relu, leaky_relu, elu, selu, silu, gelu, tanh. Try: model.generator.activation=leaky_relu"),
        ("mlp", 32, "generator.activation=maxout", "model.generator.activation: maxout, expected one of "
         "relu, leaky_relu, elu, selu, silu, gelu, tanh. Try: model.generator.activation=relu"),
        ("dcgan", 32, "discriminator.dropout=1", "model.discriminator.dropout: 1, "
         "expected a number of at least 0 and below 1"),
        ("dcgan", 32, "generator.width=wide", "model.generator.width: wide, expected a whole number at least 1"),
        ("dcgan", 32, "generator.width=true", "model.generator.width: True, expected a whole number at least 1"),
        ("dcgan", 32, "generator.width=2048", "model.generator.width: 2048, expected at most max_width, 1024. "
         "Try: model.generator.max_width=8192"),
        ("dcgan", 32, "generator.init.kind=orthogonal", "model.generator.init.kind: orthogonal, expected one of "
         "normal, uniform, xavier, he, default. Try: model.generator.init.kind=normal"),
        ("mlp", 32, "generator.hidden=[]", "model.generator.hidden: [], expected a list of one or more widths. "
         "Try: 'model.generator.hidden=[240,240]'"),
        ("mlp", 32, "discriminator.hidden=240", "model.discriminator.hidden: 240, expected a list of one or more "
         "widths. Try: 'model.discriminator.hidden=[240,240]'"),
        ("mlp", 32, "discriminator.pieces=1", "model.discriminator.pieces: 1, expected a whole number at least 2"),
        ("keep_calm", 32, "discriminator.output=logit", "model.discriminator.output: logit, expected one of "
         "linear, sigmoid. Try: model.discriminator.output=linear"),
        ("keep_calm", 32, "generator.latent=0", "model.generator.latent: 0, expected a whole number at least 1"),
    ],
)  # fmt: skip
def test_refusals_name_the_key_and_the_choices(name, resolution, override, line):
    with pytest.raises(ConfigError) as refused:
        build(name, 1, resolution, *([override] if override else []))
    assert refused.value.lines == [line]


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_five_channels_are_refused(name):
    with pytest.raises(ConfigError, match=r"model.generator.channels: 5, expected a whole number from 1 to 4"):
        build(name, 5, 32)


@pytest.mark.parametrize(
    ("name", "resolutions"),
    [("dcgan", dcgan_shape.RESOLUTIONS), ("deep_conv", deep_conv.RESOLUTIONS), ("keep_calm", keep_calm.RESOLUTIONS)],
)
def test_both_networks_make_the_same_resolutions(name, resolutions):
    for resolution in resolutions:
        generator, judge = small(name, 1, resolution, *[f"{n}.width=2" for n in ("generator", "discriminator")])
        assert judge(generator(torch.randn(2, 100))).score.shape == (2,)
