"""Residual networks by hand: blocks, shortcuts, counts, what spectral norm and labels do to them; G's larger batch."""

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from properties import check_resume
from support import built, pair_in, play, tiny
from test_models import build, count
from torch import Tensor, nn

from ganrun.core.context import BatchShape
from ganrun.core.errors import ConfigError, ConfigErrors
from ganrun.core.facts import Fact
from ganrun.models import base
from ganrun.models.biggan import CodedBatchNorm
from ganrun.models.biggan import Generator as BigGanGenerator
from ganrun.models.layers import After
from ganrun.models.resnet_blocks import Before, Residual, down, up
from ganrun.tricks.layers import SelfAttention
from ganrun.tricks.noise import Dequantize
from ganrun.tricks.regularisers import Orthogonal


def before(norm: str = "none") -> Before:
    return Before(after=After(norm=norm, activation="relu", slope=0.2, dropout=0.0))


def residual_of(made: nn.Sequential) -> Residual:
    residual = made.residual
    assert isinstance(residual, Residual)
    return residual


def convolved(maps: Tensor, layer: Any) -> Tensor:
    return F.conv2d(maps, layer.weight, layer.bias, padding=layer.kernel_size[0] // 2)


def means(maps: Tensor) -> Tensor:
    """gan_cifar_resnet.py: the sum of every second pixel, from four starts, by four."""
    return (maps[..., ::2, ::2] + maps[..., 1::2, ::2] + maps[..., ::2, 1::2] + maps[..., 1::2, 1::2]) / 4


def doubled(maps: Tensor) -> Tensor:
    return maps.repeat_interleave(2, 2).repeat_interleave(2, 3)


@torch.no_grad()
def test_a_block_that_doubles_upsamples_ahead_of_its_first_convolution_and_on_the_shortcut() -> None:
    """Written as in gan_cifar_resnet.py: UpsampleConv, Conv, and UpsampleConv of one pixel for the shortcut."""
    torch.manual_seed(0)
    made = up(3, 5, kernel=3, upsample="nearest", before=before("batch"))
    residual, maps = residual_of(made), torch.randn(4, 3, 6, 6)
    inner = residual.inner
    hidden = F.relu(F.batch_norm(maps, None, None, inner.norm.weight, inner.norm.bias, training=True))
    hidden = convolved(doubled(hidden), inner.conv)
    hidden = F.relu(F.batch_norm(hidden, None, None, inner.norm2.weight, inner.norm2.bias, training=True))
    expected = convolved(hidden, inner.conv2) + convolved(doubled(maps), residual.shortcut.conv)
    assert torch.allclose(made(maps), expected, atol=1e-5)


@torch.no_grad()
def test_a_bilinear_shortcut_is_the_same_on_both_sides_of_its_convolution() -> None:
    torch.manual_seed(0)
    shortcut = residual_of(up(3, 5, kernel=3, upsample="bilinear", before=before())).shortcut
    maps = torch.randn(2, 3, 4, 4)
    wide = F.interpolate(maps, scale_factor=2, mode="bilinear", align_corners=False)
    assert torch.allclose(shortcut(maps), convolved(wide, shortcut.conv), atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("image", [False, True])
def test_a_block_that_halves_pools_behind_its_second_convolution_and_on_the_shortcut(image: bool) -> None:
    """ConvMeanPool; where it sees the image no activation is in front, and the shortcut is MeanPoolConv."""
    torch.manual_seed(0)
    made = down(3, 6, hidden=4, kernel=3, before=before(), halves=True, image=image)
    residual, maps = residual_of(made), torch.randn(2, 3, 8, 8)
    hidden = F.relu(convolved(maps if image else F.relu(maps), residual.inner.conv))
    skip = residual.shortcut.conv
    shortcut = convolved(means(maps), skip) if image else means(convolved(maps, skip))
    assert torch.allclose(made(maps), means(convolved(hidden, residual.inner.conv2)) + shortcut, atol=1e-5)


@torch.no_grad()
def test_a_block_that_keeps_everything_has_a_shortcut_without_layers() -> None:
    torch.manual_seed(0)
    same = down(4, 4, hidden=4, kernel=3, before=before(), halves=False, image=False)
    assert residual_of(same).shortcut is None
    maps = torch.randn(2, 4, 8, 8)
    for conv in (residual_of(same).inner.conv, residual_of(same).inner.conv2):
        nn.init.zeros_(conv.weight)
        nn.init.zeros_(conv.bias)
    assert torch.equal(same(maps), maps)
    wider = down(4, 6, hidden=6, kernel=3, before=before(), halves=False, image=False)
    assert residual_of(wider).shortcut.conv.weight.shape == (6, 4, 1, 1)


# The papers' networks -------------------------------------------------------------------------------------------------

CRITIC = {  # norms: none in D; sum of hand: first block, halving, two flat, dense
    "first": (3 * 9 + 1) * 128 + (128 * 9 + 1) * 128 + (3 + 1) * 128,
    "halving": 2 * (128 * 9 + 1) * 128 + 129 * 128,
    "flat": 2 * 2 * (128 * 9 + 1) * 128,
    "score": 129,
}


def test_the_networks_for_32_pixels_have_the_published_counts() -> None:
    """4.28 and 1.05 million in the port of SNGAN and WGAN-GP that is compared with."""
    generator, critic = build("resnet", 3, 32)
    assert count(critic) == sum(CRITIC.values()) == 1_053_825
    block = 2 * (256 * 9 + 1) * 256 + 257 * 256 + 2 * 2 * 256
    assert count(generator) == 129 * 4096 + 3 * block + 2 * 256 + (256 * 9 + 1) * 3 == 4_276_739
    assert [round(count(net) / 1e6, 2) for net in (generator, critic)] == [4.28, 1.05]


def test_wgan_gps_own_generator_has_half_the_channels() -> None:
    generator, _ = build("resnet", 3, 32, "generator.width=128")
    block = 2 * (128 * 9 + 1) * 128 + 129 * 128 + 2 * 2 * 128
    assert count(generator) == 129 * 2048 + 3 * block + 2 * 128 + (128 * 9 + 1) * 3


@pytest.mark.parametrize(
    ("resolution", "overrides", "maps", "seen"),
    [  # Miyato et al. 2018, table 4 and code, by 16: channels of G's maps from 4x4 on; channels, sizes of D's
        (32, ["generator.width=16", "discriminator.width=8"], [16] * 4, [(8, 16), (8, 8), (8, 8), (8, 8)]),
        (64, ["discriminator.smallest=2", "discriminator.flat=0"], [64, 32, 16, 8, 4],
         [(4, 32), (8, 16), (16, 8), (32, 4), (64, 2)]),
        (128, ["discriminator.smallest=4", "discriminator.flat=1"], [64, 64, 32, 16, 8, 4],
         [(4, 64), (8, 32), (16, 16), (32, 8), (64, 4), (64, 4)]),
    ],
)  # fmt: skip
def test_widths_and_sizes_are_the_published(resolution: int, overrides: list[str], maps: list[int], seen: list) -> None:
    large = [f"{net}.{key}" for net in ("generator", "discriminator") for key in ("width=4", "max_width=64")]
    generator, critic = build("resnet", 3, resolution, *(large if resolution > 32 else []), *overrides)
    assert [shape[0] for shape in base.shapes(generator)] == maps
    assert [(shape[0], shape[1]) for shape in base.shapes(critic)[:-1]] == seen


def test_initialisation_is_glorots_and_root_two_of_it_inside_blocks() -> None:
    """tflib's conv2d: uniform of deviation sqrt(4 / (fan in + fan out)) with he_init, sqrt(2 / ...) without."""
    generator, critic = build("resnet", 3, 32)
    inner, shortcut = generator.blocks[1].residual.inner, generator.blocks[1].residual.shortcut
    assert inner.conv.weight.std().item() == pytest.approx(math.sqrt(4 / (9 * 512)), rel=0.02)
    assert inner.conv2.weight.abs().max().item() == pytest.approx(math.sqrt(12 / (9 * 512)), rel=0.01)
    assert shortcut.conv.weight.std().item() == pytest.approx(math.sqrt(2 / 512), rel=0.02)
    assert generator.to_image.conv.weight.std().item() == pytest.approx(math.sqrt(2 / (9 * 259)), rel=0.04)
    assert critic.blocks[0].residual.inner.conv.weight.std().item() == pytest.approx(math.sqrt(4 / (9 * 131)), rel=0.04)
    assert not any(p.any() for net in (generator, critic) for name, p in net.named_parameters() if "bias" in name)


def test_the_critic_sums_or_averages_each_map_before_its_score() -> None:
    _, summing = build("resnet", 3, 32, "discriminator.width=8")
    _, averaging = build("resnet", 3, 32, "discriminator.width=8", "discriminator.pool=mean")
    images = torch.randn(2, 3, 32, 32)
    last = summing(images).features[-2]
    by_hand = F.relu(last).sum((2, 3)) @ summing.head.score.weight[0]
    assert torch.allclose(summing(images).score, by_hand, rtol=1e-4)
    assert torch.allclose(summing(images).score, 64 * averaging(images).score, rtol=1e-4)
    assert Fact.PER_SAMPLE not in summing.traits.invalidates


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize(("model", "resolution"), [("resnet", 16), ("resnet", 256), ("biggan", 16), ("biggan", 128)])
def test_every_resolution_and_channels(model: str, channels: int, resolution: int) -> None:
    sizes = [f"{net}.{key}" for net in ("generator", "discriminator") for key in ("width=2", "max_width=4")]
    known = [f"{net}.classes=3" for net in ("generator", "discriminator")] if model == "biggan" else []
    generator, critic = build(model, channels, resolution, *sizes, *known)
    images = generator(torch.randn(2, generator.latent), torch.tensor([0, 2]))
    assert images.shape == (2, channels, resolution, resolution) and images.abs().max() <= 1
    assert critic(images, torch.tensor([0, 2])).score.shape == (2,)


@pytest.mark.parametrize(
    ("model", "resolution", "override", "line"),
    [
        ("resnet", 28, "", "model.generator.resolution: 28, expected one of 16, 32, 64, 128, 256 (pixels). "
         "Try: dataset.resolution=32"),
        ("resnet", 32, "discriminator.smallest=32", "model.discriminator.smallest: 32, expected one of 2, 4, 8, 16 "
         "(pixels). Try: model.discriminator.smallest=2"),
        ("resnet", 32, "discriminator.pool=max", "model.discriminator.pool: max, expected one of sum, mean. "
         "Try: model.discriminator.pool=mean"),
        ("resnet", 32, "generator.kernel=4", "model.generator.kernel: 4, expected one of 3, 5, 7 "
         "(this convolution keeps the size of its image). Try: model.generator.kernel=5"),
        ("biggan", 32, "generator.latent=30", "model.generator.latent: 30 numbers of noise, which 4 parts do not share "
         "evenly, expected a multiple of 4. Try: model.generator.latent=28"),
    ],
)  # fmt: skip
def test_refusals(model: str, resolution: int, override: str, line: str) -> None:
    known = [f"{net}.classes=3" for net in ("generator", "discriminator")] if model == "biggan" else []
    with pytest.raises(ConfigError) as refused:
        build(model, 1, resolution, *known, *([override] if override else []))
    assert refused.value.lines == [line]


def test_classes_need_batch_norm_and_data_need_labels() -> None:
    with pytest.raises(
        ConfigError, match=r"model\.generator\.norm: none, and 3 classes.*Try: model\.generator\.norm=batch"
    ):
        build("resnet", 1, 16, "generator.classes=3", "generator.norm=none")
    with pytest.raises(ConfigError, match="rule C24"):
        build("biggan", 1, 16, "generator.classes=0", "discriminator.classes=0")


# Labels ---------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_projection_and_head() -> None:
    small = ["discriminator.width=8", "discriminator.classes=3"]
    images, labels = torch.randn(4, 1, 16, 16), torch.tensor([0, 1, 2, 1])
    _, judge = build("resnet", 1, 16, *small)
    output, pooled = judge(images, labels), judge(images, labels).features[-1]
    table = judge.head.score.projection.embed.weight  # [features, classes]
    by_hand = pooled @ judge.head.score.psi.weight[0] + (pooled * table.T[labels]).sum(1)
    assert torch.allclose(output.score, by_hand, atol=1e-5) and not output.heads
    _, naming = build("resnet", 1, 16, *small, "discriminator.conditioning=head")
    output = naming(images, labels)
    assert torch.allclose(output.heads["class"], output.features[-1] @ naming.class_head.weight.T)
    assert torch.equal(output.score, naming(images, labels.flip(0)).score)
    assert Fact.CLASS_HEAD in naming.traits.provides and Fact.CLASS_HEAD not in judge.traits.provides


@torch.no_grad()
def test_a_norm_by_code_by_hand() -> None:
    """(1 + W c) (x - mean) / sqrt(variance + eps) + V c. Brock et al. 2019, appendix B."""
    torch.manual_seed(0)
    norm, maps, code = CodedBatchNorm(channels=2, code=3), torch.randn(4, 2, 5, 5), torch.randn(4, 3)
    normal = (maps - maps.mean((0, 2, 3), keepdim=True)) / (
        maps.var((0, 2, 3), unbiased=False, keepdim=True) + 1e-5
    ).sqrt()
    gain, bias = 1 + code @ norm.gain.weight.T, code @ norm.bias.weight.T
    assert torch.allclose(norm(maps, code), normal * gain[:, :, None, None] + bias[:, :, None, None], atol=1e-5)
    nn.init.zeros_(norm.gain.weight)
    nn.init.zeros_(norm.bias.weight)
    assert torch.allclose(norm(maps, code), normal, atol=1e-5)


def bigger() -> BigGanGenerator:
    sizes = ["generator.width=4", "generator.max_width=8", "generator.embed=5", "generator.latent=9"]
    return build("biggan", 1, 16, *sizes, "generator.classes=3", "discriminator.classes=3")[0]


@torch.no_grad()
def test_each_part_of_the_noise_enters_where_it_should() -> None:
    """The first part is projected; the others go, beside the shared embedding, to the norms of one block each."""
    net = bigger().eval()
    given: dict[str, Tensor] = {}
    for name, layer in net.named_modules():
        if isinstance(layer, CodedBatchNorm) or name == "blocks.seed":
            layer.register_forward_hook(lambda _, args, made, name=name: given.update({name: args[-1]}))
    noise, labels = torch.randn(2, 9), torch.tensor([2, 0])
    net(noise, labels)
    assert torch.equal(given["blocks.seed"], noise[:, :3])
    for i in (1, 2):
        for norm in ("norm", "norm2"):
            code = given[f"blocks.up{i}.residual.inner.{norm}"]
            assert torch.equal(code, torch.cat([net.shared.weight[labels], noise[:, 3 * i : 3 * i + 3]], 1))
    assert len(given) == 5
    assert isinstance(net.to_image.norm, nn.BatchNorm2d)


def in_generator(width: int, embed: int, part: int, classes: int) -> int:
    """Weights of BigGAN's generator for 128 pixels: embedding, dense layer, blocks, attention at 64 pixels, image."""
    widths = [width * n for n in (16, 16, 8, 4, 2, 1)]
    found = classes * embed + (part + 1) * 16 * widths[0] + 2 * width + (9 * width + 1) * 3
    for below, above in pairwise(widths):
        norms = 2 * (embed + part) * (below + above)
        found += norms + (9 * below + 1) * above + (9 * above + 1) * above + (below + 1) * above
    return found + attention(2 * width)


def in_discriminator(width: int, classes: int) -> int:
    widths = [3, *(width * n for n in (1, 2, 4, 8, 16))]
    found = sum((9 * a + 1) * b + (9 * b + 1) * b + (a + 1) * b for a, b in pairwise(widths))
    return found + (2 * (9 * widths[-1] + 1) + 1 + classes) * widths[-1] + 1 + attention(width)


def attention(maps: int) -> int:
    return 2 * maps * (maps // 8) + 2 * maps * (maps // 2) + 1


def test_the_counts_of_biggan_for_128_pixels() -> None:
    """With 96 channels G has the 70,433,988 that the library compare_gan asserts of BigGAN."""
    assert in_generator(96, 128, 20, 1000) == 70_433_988
    assert in_discriminator(96, 1000) == 87_982_370
    sizes = [f"{net}.{key}" for net in ("generator", "discriminator") for key in ("width=8", "max_width=128")]
    known = [f"{net}.classes=7" for net in ("generator", "discriminator")]
    generator, judge = build("biggan", 3, 128, *sizes, *known, "generator.embed=6", "generator.latent=18")
    trick = SelfAttention(at=64)
    assert count(trick.modify(generator, "generator")) == in_generator(8, 6, 3, 7)
    assert count(trick.modify(judge, "discriminator")) == in_discriminator(8, 7)


# Tricks on residual networks ------------------------------------------------------------------------------------------


@torch.no_grad()
def test_spectral_norm_reaches_every_layer_and_divides_by_the_largest_singular_value() -> None:
    run = built("loss=hinge", "tricks.spectral_norm.warm_up=40", model="resnet", tricks=["spectral_norm"])
    judge = pair_in(run).discriminator.eval()
    found = [layer for _, layer in base.weighted(judge)]
    assert len(found) == 3 + 2 + 2 + 1  # two convolutions a block, a shortcut where it changes, the score
    for layer in found:
        original = layer.parametrizations.weight.original  # type: ignore[union-attr]
        sigma = torch.linalg.svdvals(original.flatten(1))[0]
        assert torch.allclose(layer.weight, original / sigma, rtol=0.05)
        assert torch.linalg.svdvals(layer.weight.flatten(1))[0].item() == pytest.approx(1, rel=0.05)


@torch.no_grad()
def test_spectral_norm_of_both_players_reaches_norms_by_code_but_not_the_shared_embedding() -> None:
    run = built("loss=hinge", "tricks.spectral_norm.role=both", model="biggan", tricks=["spectral_norm"])
    generator = pair_in(run).generator
    normed = [name for name, layer in generator.named_modules() if hasattr(layer, "parametrizations")]
    assert any(name.endswith("norm.gain") for name in normed) and "shared" not in normed
    assert {name for name, _ in base.weighted(generator)} == set(normed)


@torch.no_grad()
def test_attention_stands_behind_the_first_maps_of_its_size() -> None:
    """SAGAN: in G behind the block that makes them, in D too; it starts as no attention at all."""
    plain = built("loss=hinge", "dataset.resolution=32", model="biggan")
    run = built("loss=hinge", "dataset.resolution=32", "tricks.self_attention.at=16", model="biggan",
                tricks=["self_attention"])  # fmt: skip
    pair, without = pair_in(run), pair_in(plain)
    assert [name for name, m in pair.generator.named_modules() if name.endswith("attention")] == [
        "blocks.up2.attention"
    ]
    found = [name for name, m in pair.discriminator.named_modules() if name.endswith("attention")]
    assert found == ["blocks.down1.attention"]
    noise, labels = torch.randn(4, 12), torch.arange(4)
    pair.generator.load_state_dict(without.generator.state_dict(), strict=False)
    assert torch.equal(pair.generator(noise, labels), without.generator(noise, labels))
    pair.generator.blocks.up2.attention.gamma.fill_(1.0)
    assert not torch.allclose(pair.generator(noise, labels), without.generator(noise, labels), atol=1e-3)


def test_orthogonal_regularisation_on_a_known_matrix() -> None:
    """BigGAN, equation 3: |W W^T o (1 - I)|^2; its code adds the gradient 2 (W W^T o (1 - I)) W, half of ours."""
    weight = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    net = nn.Linear(2, 2, bias=False)
    net.weight = nn.Parameter(weight.detach().clone())
    trick = Orthogonal(weight=1e-4, of="generator")
    term = trick._term(net, "generator")
    assert term.item() == pytest.approx(1e-4 * 2 * (1 * 3 + 2 * 4) ** 2)
    term.backward()
    products = net.weight @ net.weight.T
    code = 2 * (products * (1 - torch.eye(2))) @ net.weight
    assert torch.allclose(net.weight.grad, 1e-4 * 2 * code)
    assert trick._term(net, "discriminator") == 0


INSIDE = ["minibatch_stddev", "minibatch_discrimination", "equalized_lr", "dropout", "generator_dropout", "big_kernels"]


@pytest.mark.parametrize("trick", INSIDE)
def test_tricks_that_change_networks_play_with_residual_ones(trick: str) -> None:
    run = built("batch=4", model="resnet", tricks=[trick])
    rows = play(run, 0, 2).rows
    assert all(torch.isfinite(value) for _, _, metrics in rows for value in metrics.values())


def test_noise_inside_a_conditional_generator() -> None:
    play(built(model="biggan", tricks=["generator_noise"]), 0, 1)


def test_layer_norm_is_inside_the_blocks_but_the_first() -> None:
    judge = pair_in(built(model="resnet", tricks=["layer_norm"])).discriminator
    held = {name.split(".")[1] for name, m in judge.named_modules() if isinstance(m, nn.GroupNorm)}
    assert held == {"flat1", "flat2"} and Fact.PER_SAMPLE not in judge.traits.invalidates  # type: ignore[union-attr, operator]


# A larger batch for G -------------------------------------------------------------------------------------------------

LARGER = ("updates.generator_batch=2", "updates.share_fakes=false")


def test_the_generators_batch_is_a_multiple_of_the_discriminators() -> None:
    run = built(*LARGER, "updates.discriminator=2", model="resnet")
    updates = run.updates(run.game, 0)
    assert [(u.player, u.shape) for u in updates] == [
        ("discriminator", BatchShape(4, 16)), ("discriminator", BatchShape(4, 16)), ("generator", BatchShape(8, 16)),
    ]  # fmt: skip
    seen: list[int] = []
    pair_in(run).discriminator.register_forward_hook(lambda _, args, made: seen.append(len(args[0])))
    play(run, 0, 1)
    assert seen == [4, 4, 4, 4, 8]
    assert run.source.seen == 8  # G's update draws no reals


def test_a_conditional_generator_draws_as_many_labels() -> None:
    run = built(*LARGER, model="biggan")
    seen: list[int] = []
    pair_in(run).generator.register_forward_pre_hook(lambda _, args: seen.append(len(args[1])))
    play(run, 0, 1)
    assert seen == [4, 8] and run.source.seen == 12


@pytest.mark.parametrize("more", [[], ["feature_matching"]])
def test_resume_with_a_larger_batch_is_exact(more: list[str]) -> None:
    check_resume(tiny(*LARGER, model="resnet", tricks=more))


def test_a_larger_batch_needs_fresh_fakes() -> None:
    with pytest.raises(
        ConfigError, match=r"updates\.generator_batch: 2 batches for G.*Try: updates\.share_fakes=false"
    ):
        built("updates.generator_batch=2")
    with pytest.raises(
        ConfigError, match=r"updates\.generator_batch: 0 times the images of a batch, expected at least 1"
    ):
        built("updates.generator_batch=0")


# Reals made continuous ------------------------------------------------------------------------------------------------


def test_dequantised_reals_fill_the_steps_between_8_bit_values() -> None:
    """2 (n / 256 - 1/2) + U(0, 1/128), as in gan_cifar_resnet.py."""
    torch.manual_seed(0)
    values = torch.arange(256.0)
    images = (values / 127.5 - 1).repeat(400, 1)
    added = Dequantize().reals(images) - 2 * (values / 256 - 0.5)
    assert added.min() > -1e-6 and added.max() < 1 / 128 + 1e-6
    assert added.mean().item() == pytest.approx(1 / 256, rel=0.01)
    assert added.std().item() == pytest.approx(1 / 128 / math.sqrt(12), rel=0.01)


def test_only_reals_are_dequantised_and_the_penalty_is_between_them_and_fakes() -> None:
    run = built("loss=wasserstein", "model.discriminator.norm=none", tricks=["dequantize", "gp"])
    seen: list[Tensor] = []
    pair_in(run).discriminator.register_forward_hook(lambda _, args, made: seen.append(args[0].detach()))
    play(run, 0, 1)
    real, mixed = seen[0], seen[2]
    steps = (real + 1) * 128
    assert (steps - steps.round()).abs().mean() > 0.2, "still whole numbers"
    assert real.max() <= 1 and mixed.shape == real.shape


def test_points_have_no_rounding_to_undo() -> None:
    with pytest.raises(ConfigError, match=r"tricks\.dequantize: the data are not 8-bit images"):
        built("dataset=ring", "dataset.size=100", "model.generator.output=linear", model="mlp", tricks=["dequantize"])


def test_the_conditional_form_resumes_exactly() -> None:
    known = [f"model.{net}.classes=10" for net in ("generator", "discriminator")]
    overrides = (*known, "loss=hinge", "tricks.spectral_norm.role=both")
    check_resume(tiny(*overrides, model="resnet", tricks=["spectral_norm"]))


def test_head_and_classifier_play_together() -> None:
    known = [f"model.{net}.classes=10" for net in ("generator", "discriminator")]
    rows = play(
        built(*known, "model.discriminator.conditioning=head", model="resnet", tricks=["auxiliary_classifier"]), 0, 1
    )
    assert any("auxiliary_classifier" in name for _, _, metrics in rows.rows for name in metrics)
    with pytest.raises(ConfigErrors, match="names the class"):
        built(*known, model="resnet", tricks=["auxiliary_classifier"])
