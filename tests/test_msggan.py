"""MSG-GAN: networks and pyramids by hand, penalties over scales in closed form, counts of the authors' networks."""

import math
from pathlib import Path
from typing import Any

import properties
import pytest
import torch
import torch.nn.functional as F
from support import built, composed, loop, pair_in, pair_of, tiny
from torch import Tensor, nn

import ganrun
from ganrun.config.build import Run
from ganrun.core.context import BatchShape, Context, DiscriminatorOutput, Latent, Update
from ganrun.core.errors import ConfigError
from ganrun.core.images import each_scale, largest, pyramid, scales
from ganrun.core.pair import Pair
from ganrun.games.pyramid import PyramidGame
from ganrun.models.epilogues import MinibatchDiscrimination, MinibatchStddev
from ganrun.models.msggan import COMBINES, Discriminator, Generator
from ganrun.tricks.augment import Mirror
from ganrun.tricks.noise import InstanceNoise
from ganrun.tricks.penalties import R1, R2, GradientPenalty
from ganrun.tricks.replay import Replay

TRICKS = ["gp", "drift", "pixel_norm", "minibatch_stddev", "replay", "mirror", "ema"]


def generator(**changed: Any) -> Generator:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"latent": 6, "channels": 3, "resolution": 16, "width": 4, "max_width": 8,
                                "norm": "none", "slope": 0.2, "output": "linear"}  # fmt: skip
    return Generator(**settings | changed)


def discriminator(**changed: Any) -> Discriminator:
    torch.manual_seed(1)
    settings: dict[str, Any] = {"channels": 3, "resolution": 16, "width": 4, "max_width": 8, "combine": "simple",
                                "slope": 0.2, "epilogue": None, "epilogue_at": "every", "output": "linear"}  # fmt: skip
    return Discriminator(**settings | changed)


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def run_of(*overrides: str, tricks: list[str] | None = None) -> Run:
    return built(*overrides, model="msggan", tricks=TRICKS if tricks is None else tricks)


# Pyramids


def test_each_scale_is_the_mean_of_the_pixels_of_the_next() -> None:
    images = torch.randn(2, 3, 8, 8)
    small, middle, large = pyramid(images, 3)
    assert large is images
    for scale, side in ((small, 4), (middle, 2)):
        for row in range(8 // side):
            for column in range(8 // side):
                block = images[:, :, row * side : (row + 1) * side, column * side : (column + 1) * side]
                assert torch.allclose(scale[:, :, row, column], block.sum((2, 3)) / side**2, atol=1e-6)


def test_a_change_at_each_scale_may_read_other_images_of_that_scale() -> None:
    one, other = pyramid(torch.randn(2, 1, 4, 4), 2), pyramid(torch.randn(2, 1, 4, 4), 2)
    found = each_scale(one, torch.sub, other)
    assert isinstance(found, tuple) and all(torch.equal(*pair) for pair in zip(found, map(torch.sub, one, other),
                                                                              strict=True))  # fmt: skip
    assert torch.equal(each_scale(one[1], torch.sub, other[1]), found[1])  # type: ignore[arg-type]


def test_the_game_shows_reals_as_pyramids_to_every_part() -> None:
    """The discriminator, both players' updates, what tricks are bound to; samples are the largest scale."""
    run = run_of(tricks=["ema"])
    seen: list[list[int]] = []
    pair = pair_in(run)
    pair.discriminator.register_forward_pre_hook(lambda _, given: seen.append([one.shape[-1] for one in given[0]]))
    loop(run, 0, 1)
    assert seen and all(sizes == [4, 8, 16] for sizes in seen)
    assert run.game.sample().shape == run.game.draw(4).shape == (4, 1, 16, 16)


def test_a_picture_shows_all_scales_of_the_same_noise() -> None:
    run = run_of(tricks=["ema"])
    assert isinstance(run.game, PyramidGame)
    loop(run, 0, 1)
    shown = run.game.pictures()["scales"]
    assert shown.shape == (4, 3, 1, 16, 16)
    assert torch.equal(shown[:, 2], run.game.sample())
    with run.game.drawing() as drawing:
        made = scales(drawing.made(Latent(run.game.grid)))
    for number, images in enumerate(made):
        factor = 2 ** (2 - number)
        assert torch.equal(shown[:, number], images.repeat_interleave(factor, 2).repeat_interleave(factor, 3))


# Networks


def weight(layer: Any, gain: float) -> Tensor:
    """What an equalised layer computes with: N(0, 1) times gain / sqrt(inputs). ProGAN, section 4.1."""
    learnt: Tensor = layer.parametrizations.weight.original
    inputs = learnt.shape[0] * 16 if isinstance(layer, nn.ConvTranspose2d) else learnt[0].numel()
    return learnt * gain / math.sqrt(inputs)


def same(maps: Tensor, layer: Any, gain: float = math.sqrt(2)) -> Tensor:
    """A convolution of a padded image, by its patches."""
    kernel = weight(layer, gain)
    patches = F.unfold(maps, kernel.shape[2:], padding=kernel.shape[2] // 2)
    made = (kernel.flatten(1) @ patches).unflatten(2, maps.shape[2:])
    return made if layer.bias is None else made + layer.bias[:, None, None]


def leaky(maps: Tensor) -> Tensor:
    return torch.where(maps > 0, maps, 0.2 * maps)


def normed(maps: Tensor) -> Tensor:
    return maps / (maps.square().mean(1, keepdim=True) + 1e-8).sqrt()


@torch.no_grad()
def stir(net: nn.Module) -> None:
    """Biases other than 0, so that they matter."""
    for parameter in net.parameters():
        if parameter.dim() == 1:
            parameter.normal_()


def test_the_generator_by_hand() -> None:
    """Every convolution is followed by leaky ReLU and pixel norm; every scale has an image of its own, of gain 1."""
    net: Any = pair_in(run_of("model.generator.width=4", tricks=["pixel_norm"])).generator
    stir(net)
    noise = torch.randn(3, 8)
    first = net.blocks[0].project
    maps = torch.einsum("bz,zchw->bchw", noise, weight(first, math.sqrt(2))) + first.bias[:, None, None]
    maps = normed(leaky(maps))
    expected = []
    for scale in range(3):
        if scale:
            maps = maps.repeat_interleave(2, 2).repeat_interleave(2, 3)
            maps = normed(leaky(same(maps, net.blocks[2 * scale].conv)))
        maps = normed(leaky(same(maps, net.blocks[2 * scale + 1].conv)))
        expected.append(same(maps, net.to_image[scale], gain=1.0))
    made = net(noise)
    assert [one.shape[-1] for one in made] == [4, 8, 16]
    for one, other in zip(made, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def with_stddev(maps: Tensor, group: int = 2) -> Tensor:
    """One more map: the standard deviation over a group (images i and i + B / group), averaged over everything."""
    others = len(maps) // group
    extra = torch.empty(len(maps), 1, *maps.shape[2:])
    for image in range(others):
        members = maps[image::others]
        spread = ((members - members.mean(0)).square().mean(0) + 1e-8).sqrt().mean()
        extra[image::others] = spread
    return torch.cat([maps, extra], 1)


def joined(kind: str, layer: Any, image: Tensor, maps: Tensor) -> Tensor:
    """The paper's phi: [o; a], [r(o); a], r([o; a])."""
    if kind == "simple":
        return torch.cat([image, maps], 1)
    if kind == "lin_cat":
        return torch.cat([same(image, layer.linear), maps], 1)
    return same(torch.cat([image, maps], 1), layer.linear)


@pytest.mark.parametrize("place", ["every", "last"])
@pytest.mark.parametrize("kind", COMBINES)
def test_the_discriminator_by_hand(kind: str, place: str) -> None:
    net: Any = discriminator(combine=kind, epilogue=MinibatchStddev(group=2, eps=1e-8), epilogue_at=place)
    stir(net)
    images = tuple(torch.randn(4, 3, size, size) for size in (4, 8, 16))
    maps = leaky(same(images[2], net.blocks[0].join.linear))
    for scale in range(3):
        block = net.blocks[scale]
        if scale:
            maps = joined(kind, block.join, images[2 - scale], maps)
        maps = with_stddev(maps) if place == "every" or scale == 2 else maps
        maps = leaky(same(maps, block.conv))
        if scale < 2:
            maps = leaky(same(maps, block.widen))
            maps = (maps[..., ::2, ::2] + maps[..., 1::2, ::2] + maps[..., ::2, 1::2] + maps[..., 1::2, 1::2]) / 4
        assert torch.allclose(net(images).features[scale], maps, atol=1e-5)
    vector = maps.permute(0, 2, 3, 1).flatten(1)
    vector = leaky(vector @ weight(net.head.dense, math.sqrt(2)).T + net.head.dense.bias)
    score = (vector @ weight(net.head.score, 1.0).T + net.head.score.bias).squeeze(1)
    assert torch.allclose(net(images).score, score, atol=1e-5)


def test_one_image_is_judged_as_a_real_image_is() -> None:
    images = torch.randn(4, 3, 16, 16)
    net = discriminator()
    assert torch.equal(net(images).score, net(pyramid(images, 3)).score)


@pytest.mark.parametrize("kind", COMBINES)
def test_every_scale_reaches_the_score_and_learns_from_it(kind: str) -> None:
    """The gradient of each scale, and G's at each of its layers, are not 0: what gives MSG-GAN its name."""
    made = generator()(torch.randn(4, 6))
    given = tuple(image.detach().requires_grad_() for image in made)
    slopes = torch.autograd.grad(discriminator(combine=kind)(given).score.sum(), given)
    assert len(slopes) == 3 and all(slope.abs().max() > 1e-4 for slope in slopes)


def test_parameters_are_those_of_the_authors_networks() -> None:
    """akanimax/BMSG-GAN at depth 7 and 512 numbers of noise (256x256 pixels), its layers written out, as (in, out)."""
    convolutions = [(512, 512)] * 7 + [(512, 256), (256, 256), (256, 128), (128, 128), (128, 64), (64, 64)]
    images = [512, 512, 512, 512, 256, 128, 64]
    expected = 512 * 512 * 16 + 512 + sum(9 * i * o + o for i, o in convolutions) + sum(3 * i + 3 for i in images)
    sizes: dict[str, Any] = {"resolution": 256, "width": 64, "max_width": 512}
    assert count(generator(latent=512, **sizes)) == expected == 23_044_309

    convolutions = [(64, 64)] * 2 + [(128, 128)] * 2 + [(256, 256)] * 2 + [(512, 512), (512, 256)] * 3 + [(513, 512)]
    expected = sum(9 * i * o + o for i, o in convolutions) + 512 * 512 * 16 + 512 + 512 + 1
    expected += sum(3 * o + o for o in (64, 64, 128, 256, 256, 256, 256))
    own = MinibatchStddev(group=4, eps=1e-8)
    ours = discriminator(combine="lin_cat", epilogue=own, epilogue_at="last", **sizes)
    assert count(ours) == expected == 18_733_185


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^\.combine: cat, expected one of simple, lin_cat, cat_lin"):
        discriminator(combine="cat")
    with pytest.raises(ConfigError, match=r"^\.epilogue_at: first, expected one of every, last"):
        discriminator(epilogue_at="first")
    with pytest.raises(ConfigError, match=r"^\.epilogue: MinibatchDiscrimination, .* expected null or MinibatchStddev"):
        discriminator(epilogue=MinibatchDiscrimination(kernels=2, dims=2, scale=0.1, bias=0.0))
    with pytest.raises(ConfigError, match=r"^\.resolution: 20"):
        generator(resolution=20)
    with pytest.raises(ConfigError, match=r"^model\.generator: it makes images of 3 sizes .* Try: game=pyramid"):
        run_of("game=latent")
    with pytest.raises(ConfigError, match=r"^model\.generator: it makes images of one size.* Try: model=msggan"):
        built("game=pyramid")


# Tricks over several scales


class LinearPyramid(nn.Module):
    """D(x) = sum over scales of w_s . x_s: the slope at scale s is |w_s| everywhere."""

    def __init__(self, weights: tuple[Tensor, ...]):
        super().__init__()
        self.weights = nn.ParameterList(weights)
        self.seen: list[tuple[Tensor, ...]] = []

    def forward(self, images: tuple[Tensor, ...], labels: Tensor | None = None) -> DiscriminatorOutput:
        self.seen.append(images)
        parts = [one.flatten(1) @ own for one, own in zip(images, self.weights, strict=True)]
        return DiscriminatorOutput(torch.stack(parts).sum(0))


SLOPES = (3.0, 0.5, 2.0)


def linear() -> LinearPyramid:
    directions = [F.normalize(torch.randn(size**2), dim=0) for size in (1, 2, 4)]
    return LinearPyramid(tuple(slope * one for slope, one in zip(SLOPES, directions, strict=True)))


def context_of(net: nn.Module, trick: Any) -> Context:
    real, fake = (tuple(torch.randn(3, 1, size, size, requires_grad=True) for size in (1, 2, 4)) for _ in range(2))
    pair = pair_of(net, it=trick)
    return Context(pair=pair, real=real, fake=fake, on_real=pair.judge(real), on_fake=pair.judge(fake))


@pytest.mark.parametrize("one_sided", [False, True])
def test_the_gradient_penalty_is_the_mean_over_scales(one_sided: bool) -> None:
    """As in BMSG-GAN's Losses.py: 10 (|w_s| - 1)^2, averaged over s; one-sided, slopes below 1 count for nothing."""
    trick = GradientPenalty(weight=10.0, target=1.0, one_sided=one_sided, every=1)
    found = trick.discriminator_term(context_of(linear(), trick))
    excess = [max(0.0, slope - 1) if one_sided else slope - 1 for slope in SLOPES]
    assert found.item() == pytest.approx(10 * sum(e * e for e in excess) / 3, rel=1e-5)
    assert trick.slope.item() == pytest.approx(sum(SLOPES) / 3, rel=1e-5)


def test_all_scales_of_an_image_are_mixed_in_the_same_share() -> None:
    trick, net = GradientPenalty(weight=10.0, target=1.0, one_sided=False, every=1), linear()
    context = context_of(net, trick)
    trick.discriminator_term(context)
    shares = [((x - fake) / (real - fake)).flatten(1)
              for x, real, fake in zip(net.seen[-1], context.real, context.fake, strict=True)]  # fmt: skip
    for share in shares:
        assert torch.allclose(share, shares[0][:, :1].expand_as(share), atol=1e-3)
    assert shares[0].std() > 0 and shares[0].min() >= 0 and shares[0].max() <= 1


@pytest.mark.parametrize("kind", [R1, R2])
def test_r1_and_r2_are_the_mean_over_scales(kind: type[R1]) -> None:
    """As in msg-stylegan-tf's loss.py: gamma / 2 |w_s|^2, averaged over s."""
    trick = kind(gamma=4.0, every=1, method="exact", share=1.0, epsilon=0.01)
    found = trick.discriminator_term(context_of(linear(), trick))
    assert found.item() == pytest.approx(2 * sum(slope**2 for slope in SLOPES) / 3, rel=1e-5)


def test_penalties_teach_the_discriminator() -> None:
    """d/dw of 10 (|w_s| - 1)^2 / 3 is 20 (|w_s| - 1) w_s / |w_s| / 3."""
    trick, net = GradientPenalty(weight=10.0, target=1.0, one_sided=False, every=1), linear()
    trick.discriminator_term(context_of(net, trick)).backward()
    for own, slope in zip(net.weights, SLOPES, strict=True):
        assert own.grad is not None
        assert torch.allclose(own.grad, 20 / 3 * (slope - 1) * own.detach() / slope, atol=1e-4)


def numbered(first: int, fakes: int) -> tuple[Tensor, ...]:
    """Fakes that hold their number at every pixel of every scale; the larger scale 100 more."""
    number = torch.arange(first, first + fakes).float()[:, None, None, None]
    return number.expand(-1, 1, 2, 2), (number + 100).expand(-1, 1, 4, 4)


def test_a_pool_keeps_the_scales_of_a_fake_together() -> None:
    trick = Replay(size=5, p=0.5)
    trick.bind(pair_of(), numbered(0, 4), numbered(0, 4))
    old = 0
    for step in range(12):
        small, large = trick.replay(numbered(4 * step, 4))
        assert torch.equal(small[:, :, 0, 0] + 100, large[:, :, 0, 0]), "both scales are of the same fake"
        assert small.std((2, 3)).max() == large.std((2, 3)).max() == 0
        old += int((small[:, 0, 0, 0] < 4 * step).sum())
    assert torch.equal(trick.pool_2[:, :, 0, 0] + 100, trick.pool[:, :, 0, 0])
    assert {name for name, _ in trick.named_buffers()} == {"seen", "pool_2", "pool"} and old > 5


def test_all_scales_are_flipped_or_none() -> None:
    images = pyramid(torch.randn(64, 1, 4, 4), 2)
    found = Mirror(p=0.5).view(images)
    flipped = [(one != image).flatten(1).any(1) for one, image in zip(found, images, strict=True)]
    assert torch.equal(*flipped) and 16 < flipped[0].sum() < 48
    for one, image in zip(found, images, strict=True):
        assert torch.equal(one[flipped[0]], image[flipped[0]].flip(3))


def test_each_scale_has_noise_of_its_own() -> None:
    images = pyramid(torch.zeros(4, 1, 64, 64), 2)
    small, large = InstanceNoise(sigma=0.5).view(images)
    assert small.std().item() == pytest.approx(0.5, rel=0.1) and large.std().item() == pytest.approx(0.5, rel=0.1)
    assert not torch.allclose(pyramid(large, 2)[0], small)


# The whole game


def test_resume_is_exact() -> None:
    """With a pool at three scales that is full, an average, and lazy penalties."""
    own = ("tricks.replay.size=5", "tricks.gp.every=2")
    properties.check_resume(tiny("game=pyramid", *own, model="msggan", tricks=TRICKS))


def test_scales_of_shared_fakes_teach_the_generator() -> None:
    """D and G in one joint update, on the fakes of one pass; G's gradient is that of an update on its own."""
    run = run_of("updates.share_fakes=true", tricks=["gp"])
    loop(run, 0, 2)
    assert all(parameter.grad is not None for parameter in pair_in(run).generator.parameters())


def test_rejection_judges_the_scales_that_the_generator_made() -> None:
    run = run_of(tricks=["ema"])
    pair = pair_in(run)
    assert isinstance(run.game, PyramidGame)
    with run.game.drawing() as drawing:
        made = drawing.made(Latent(torch.randn(4, 8)))
    alone = pair.log_odds(largest(made))
    assert pair.log_odds(made).shape == (4,) and not torch.allclose(pair.log_odds(made), alone)


def test_tricks_on_images_that_know_several_scales_train_beside_each_other() -> None:
    """What else acts on images is refused, below; every trick of the package is tried in test_tricks_on_models.py."""
    run = run_of(tricks=["r1", "r2", "replay", "instance_noise", "mirror"])
    loop(run, 0, 1)
    assert run.game.sample().isfinite().all()


@pytest.mark.parametrize("trick", ["dragan", "ada", "diffaugment", "augmentation", "consistency", "dequantize"])
def test_tricks_that_would_act_on_one_scale_are_refused(trick: str) -> None:
    with pytest.raises(ConfigError, match=rf"tricks\.{trick}: needs images of one resolution.*\(rule C51\)"):
        run_of(tricks=[trick])


def test_a_run_leaves_its_pictures_and_can_be_loaded(tmp_path: Path) -> None:
    cfg = composed(*tiny("game=pyramid", "steps=2", "diagnosis=default", model="msggan", tricks=TRICKS))
    folder = ganrun.train(cfg, tmp_path / "run")
    names = {path.name for path in (folder / "samples").iterdir()}
    assert names == {"reals.png", "scales_00000002.png", "step_00000002.png"}
    loaded = ganrun.load(folder, device="cpu")
    assert loaded.sample(3, seed=1).shape == (3, 1, 16, 16)


def test_a_pair_of_pyramids_needs_no_game() -> None:
    """The core's pair takes them as they are: each scale of a fake is cut off from G in D's update, none in G's."""
    made = generator()(torch.randn(4, 6))
    pair = Pair(generator=generator(), discriminator=discriminator(), loss=pair_of().loss, tricks={})
    shape = BatchShape(4, 16)
    real = pyramid(torch.randn(4, 3, 16, 16), 3)
    outcome = pair.discriminator_outcome(Update(player="discriminator", role="discriminator", shape=shape), real, made)
    outcome.terms["adversarial"].backward()
    assert outcome.observed[""].fake.shape == (4, 3, 16, 16)
    pair = Pair(generator=generator(), discriminator=discriminator(), loss=pair_of().loss, tricks={})
    made = pair.generator(torch.randn(4, 6))
    pair.generator_outcome(Update(player="generator", role="generator", shape=shape), None, made).terms[
        "adversarial"
    ].backward()
    assert all(parameter.grad is not None for parameter in pair.generator.parameters())
