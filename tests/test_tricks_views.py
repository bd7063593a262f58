"""What D sees: noise, mirrors, augmentation, fakes of the past. Closed forms, and hand matrices for every transform."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ganrun.config.build import build
from ganrun.config.combination import diagnostics
from ganrun.config.compose import compose
from ganrun.core.context import BatchShape, Context, DiscriminatorOutput, Progress, Update
from ganrun.core.errors import ConfigError
from ganrun.core.facts import Fact
from ganrun.core.loss import Loss
from ganrun.core.pair import Pair
from ganrun.core.schedule import Cosine, Linear, Product, Scheduled, schedule
from ganrun.core.traits import Level
from ganrun.core.trick import Trick
from ganrun.losses.margins import Hinge
from ganrun.losses.targets import LeastSquares, NonSaturating
from ganrun.tricks import ada_pipeline as ap
from ganrun.tricks.ada import Ada
from ganrun.tricks.augment import (
    DiffAugment,
    Mirror,
    cut_out,
    scale_contrast,
    scale_saturation,
    shift_brightness,
    translate,
)
from ganrun.tricks.labels import Flip
from ganrun.tricks.noise import GeneratorNoise, InstanceNoise
from ganrun.tricks.replay import Replay

TINY = [
    *("dataset.resolution=16", "batch=4", "steps=6", "game.grid=4", "engine.device=cpu", "engine.precision=fp32"),
    *("model.generator.width=4", "model.discriminator.width=4", "model.generator.latent=8"),
]


@pytest.fixture(autouse=True)
def _one_seed_and_one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def built(*overrides: str) -> Any:
    return build(compose([*TINY, *overrides]))


class Sum(nn.Module):
    """D(x) = the sum of its pixels."""

    def forward(self, images: Tensor, labels: Tensor | None = None) -> DiscriminatorOutput:
        return DiscriminatorOutput(images.flatten(1).sum(1))


def pair_of(loss: Loss | None = None, **tricks: Trick) -> Any:
    return Pair(generator=nn.Identity(), discriminator=Sum(), loss=loss or NonSaturating(), tricks=tricks)


def default(name: str, *overrides: str) -> Trick:
    """A trick as its YAML has it."""
    trick = built(f"tricks=[{name}]", *overrides).game.pairs["main"].tricks[name]
    assert isinstance(trick, Trick)
    return trick


SHAPE = BatchShape(4, 16)


# Noise


@pytest.mark.parametrize(
    ("sigma", "last"),
    [
        (0.1, 0.1),
        (Linear(start=0.1, end=0.0, steps=9), 0.0),
        (Linear(start=0.3, end=0.02, steps=9, delay=4), 0.02),
        (Cosine(start=0.1, end=0.05, steps=3), 0.05),
        (Product(schedule(0.5), Linear(start=1.0, end=0.5, steps=2)), 0.25),
    ],
)
def test_noise_that_stays_is_warned_of(sigma: float, last: float) -> None:
    trick = InstanceNoise(sigma=sigma)
    assert trick.sigma.schedule.final == pytest.approx(last)
    found = list(trick.diagnostics(SHAPE))
    assert [(f.id, f.level) for f in found] == [("C29", Level.NOTE)] * (last > 0)
    assert not found or f"{last:g}" in found[0].sentence


def test_the_default_noise_goes_without_a_warning() -> None:
    assert not list(default("instance_noise").diagnostics(SHAPE))


@pytest.mark.parametrize("sigma", [-0.1, Linear(start=0.1, end=-0.1, steps=5)])
@pytest.mark.parametrize("kind", [InstanceNoise, GeneratorNoise])
def test_a_negative_deviation_is_refused(kind: type, sigma: float) -> None:
    with pytest.raises(ConfigError, match="sigma"):
        kind(sigma=sigma)


class Zeros(nn.Module):
    """A generator of two blocks that give black maps of 10,000 pixels: what comes out is noise."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(nn.Sequential(), nn.Flatten())  # a row of layers, and a block of another kind

    def forward(self, noise: Tensor) -> Tensor:
        return self.blocks(torch.zeros(1, 10_000))


def test_generator_noise_is_behind_every_block_in_training_only() -> None:
    trick = GeneratorNoise(sigma=0.3)
    net = trick.modify(Zeros(), "generator")
    assert net(torch.zeros(1)).std().item() == pytest.approx(0.3 * math.sqrt(2), rel=0.05)
    assert len([m for m in net.modules() if isinstance(m, Scheduled)]) == 2
    assert net.eval()(torch.zeros(1)).abs().max() == 0
    untouched = Zeros()
    assert trick.modify(untouched, "discriminator") is untouched
    assert not [m for m in untouched.modules() if isinstance(m, Scheduled)]


def test_generator_noise_leaves_names_in_checkpoints_alone_and_fades_in_copies_too() -> None:
    plain, noisy = built("tricks=[ema]"), built("tricks=[ema,generator_noise]")
    assert list(plain.game.state_dict()) == list(noisy.game.state_dict())
    noisy.game.begin(Progress(1000))
    sigmas = [m.value.item() for m in noisy.game.modules() if isinstance(m, Scheduled) and "Linear" in str(m.schedule)]
    assert sigmas == [pytest.approx(0.05)] * 4  # two blocks of G, and of its average
    with pytest.raises(ConfigError, match=r"^\.: model\.generator has no row of blocks"):
        GeneratorNoise(sigma=0.1).modify(nn.Identity(), "generator")


# Mirror


def test_a_mirror_image_is_exact_and_half_of_them_are() -> None:
    images = torch.randn(4000, 2, 3, 5)
    seen = Mirror(p=0.5).view(images)
    mirrored = (seen == images.flip(3)).flatten(1).all(1)
    kept = (seen == images).flatten(1).all(1)
    assert (mirrored ^ kept).all() and mirrored.float().mean().item() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("name", ["mirror", "diffaugment", "ada"])
def test_points_have_no_picture_to_move(name: str) -> None:
    trick = default(name)
    assert [f.level for f in trick.diagnostics(BatchShape(4, 1))] == [Level.ERROR] and not list(
        trick.diagnostics(SHAPE)
    )


@pytest.mark.parametrize("p", [0.0, 1.0, 2.0])
def test_a_mirror_that_always_or_never_acts_is_refused(p: float) -> None:
    with pytest.raises(ConfigError, match=r"^\.p: "):
        Mirror(p=p)


# DiffAugment


def each(*values: float) -> Tensor:
    return torch.tensor(values).view(-1, 1, 1, 1)


def test_colours_by_hand() -> None:
    red = torch.tensor([0.9, 0.3, 0.0]).view(1, 3, 1, 1).expand(2, 3, 2, 2)  # grey 0.4
    torch.testing.assert_close(
        shift_brightness(red, each(0.5, 0))[:, :, 0, 0], red[:, :, 0, 0] + each(0.5, 0)[:, :, 0, 0]
    )
    bleached = scale_saturation(red, each(0, 2))[:, :, 0, 0]
    torch.testing.assert_close(bleached, torch.tensor([[0.4, 0.4, 0.4], [1.4, 0.2, -0.4]]))
    grey = torch.randn(2, 1, 4, 4)
    torch.testing.assert_close(scale_saturation(grey, each(0, 2)), grey)  # one channel: nothing to bleach
    half = torch.cat([torch.zeros(2, 1, 1, 2), torch.ones(2, 1, 1, 2)], 2)  # mean 0.5 over everything but the batch
    torch.testing.assert_close(
        scale_contrast(half, each(0.5, 3)).flatten(1)[:, ::2], torch.tensor([[0.25, 0.75], [-1.0, 2]])
    )


def test_a_translation_moves_by_whole_pixels_and_0_comes_in() -> None:
    images = torch.randn(3, 2, 5, 6)
    seen = translate(images, torch.tensor([[0], [2], [-1]]), torch.tensor([[0], [-3], [1]]))
    expected = torch.zeros_like(images)
    expected[0] = images[0]
    expected[1, :, 2:, :3] = images[1, :, :3, 3:]
    expected[2, :, :4, 1:] = images[2, :, 1:, :5]
    assert torch.equal(seen, expected)


def test_a_hole_is_where_it_is_and_what_lies_outside_does_nothing() -> None:
    seen = cut_out(torch.ones(2, 1, 4, 4), torch.tensor([[1], [-1]]), torch.tensor([[2], [3]]), 2, 2)
    expected = torch.ones(2, 1, 4, 4)
    expected[0, :, 1:3, 2:4] = 0
    expected[1, :, :1, 3:] = 0
    assert torch.equal(seen, expected)


def diffaugment(*policy: str) -> DiffAugment:
    return DiffAugment(policy=list(policy), brightness=0.5, saturation=[0.0, 2.0], contrast=[0.5, 1.5],
                       translation=0.125, cutout=0.5)  # fmt: skip


def test_translations_reach_an_eighth_of_the_size_and_no_further() -> None:
    dot = torch.zeros(2000, 1, 16, 16)
    dot[:, :, 8, 8] = 1
    where = diffaugment("translation").view(dot).amax((0, 1)).nonzero()
    assert where.tolist() == [[y, x] for y in range(6, 11) for x in range(6, 11)]


def test_holes_are_centred_anywhere() -> None:
    """Half of the side, the centre on any of 17 corners of pixels: 8 rows when inside, down to 4 at a border."""
    gone = (diffaugment("cutout").view(torch.ones(4000, 1, 16, 16)) == 0)[:, 0]
    rows, columns = gone.any(2).sum(1), gone.any(1).sum(1)
    assert rows.min() == 4 and rows.max() == 8 and torch.equal(gone.flatten(1).sum(1), rows * columns)
    share = (9 * 8 + 2 * (4 + 5 + 6 + 7)) / 17
    assert rows.float().mean().item() == pytest.approx(share, rel=0.02) == columns.float().mean().item()


def test_colours_fill_their_ranges_and_each_image_has_its_own() -> None:
    """Of a two-valued grey image: the mean changes by U(-0.5, 0.5), the half range is scaled by U(0.5, 1.5)."""
    images = torch.tensor([0.2, 0.4]).view(1, 1, 1, 2).expand(5000, 1, 1, 2)
    seen = diffaugment("colour").view(images).flatten(1)
    shift, stretch = seen.mean(1) - 0.3, (seen[:, 1] - seen[:, 0]) / 0.2
    for found, low, high in ((shift, -0.5, 0.5), (stretch, 0.5, 1.5)):
        assert low - 1e-5 < found.min() < low + 0.02 and high - 0.02 < found.max() < high + 1e-5
        assert found.mean().item() == pytest.approx((low + high) / 2, abs=0.02) and len(set(found.tolist())) > 4000


def test_the_policy_is_what_acts_and_gradients_pass_twice() -> None:
    images = torch.randn(4, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    trick = diffaugment("colour", "translation", "cutout")

    def seen(x: Tensor) -> Tensor:
        torch.manual_seed(1)
        return trick.view(x).square().mean((1, 2, 3))

    assert torch.autograd.gradcheck(seen, images[:, :, :3, :3], fast_mode=True)
    (slope,) = torch.autograd.grad(seen(images).sum(), images, create_graph=True)
    slope.square().sum().backward()
    assert images.grad is not None and images.grad.abs().sum() > 0
    bright = diffaugment("translation").view(torch.ones(50, 3, 8, 8))
    assert set(bright.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize(
    "setting", ["policy=[colours]", "policy=[]", "translation=0", "cutout=2", "saturation=[2.0]", "contrast=[1.5,0.5]"]
)
def test_an_augmentation_that_cannot_be_is_refused(setting: str) -> None:
    with pytest.raises(ConfigError, match=setting.split("=")[0]):
        built("tricks=[diffaugment]", f"tricks.diffaugment.{setting}")


def test_a_misspelt_policy_gets_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="colour"):
        diffaugment("color")


# ADA: the transforms


def number(value: float, count: int = 1) -> Tensor:
    return torch.full((count,), float(value))


FILTER = torch.tensor(ap.SYM6, dtype=torch.float64)


def test_the_filter_is_an_orthogonal_wavelet() -> None:
    """sum h = sqrt 2; sum h_k h_{k + 2 d} = 1 for d = 0, else 0; six moments vanish at half the sampling rate."""
    assert FILTER.sum().item() == pytest.approx(math.sqrt(2))
    for d in range(6):
        assert (FILTER[2 * d :] * FILTER[: 12 - 2 * d]).sum().item() == pytest.approx(float(d == 0), abs=1e-11)
    k = torch.arange(12, dtype=torch.float64)
    for moment in range(6):
        assert ((-1) ** k * k**moment * FILTER).sum().item() == pytest.approx(0, abs=1e-6 * 11**moment)


A, B = 1 / 3, -2 / 3
LOW_PASS = (FILTER / math.sqrt(2)).float()


@pytest.mark.parametrize(
    ("found", "rows"),
    [
        (ap.moved(number(2), number(-3)), [[1, 0, -2], [0, 1, 3], [0, 0, 1]]),
        (ap.scaled(number(2), number(-1)), [[0.5, 0, 0], [0, -1, 0], [0, 0, 1]]),
        (ap.turned(number(math.pi / 6)), [[3**0.5 / 2, 0.5, 0], [-0.5, 3**0.5 / 2, 0], [0, 0, 1]]),
        (ap.quarter_turned(number(3)), [[0, -1, 0], [1, 0, 0], [0, 0, 1]]),
        (ap.brightened(number(0.3)), [[1, 0, 0, 0.3], [0, 1, 0, 0.3], [0, 0, 1, 0.3], [0, 0, 0, 1]]),
        (ap.contrasted(number(2)), [[2, 0, 0, 0], [0, 2, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]]),
        # I - 2 v v^T with v = (1, 1, 1) / sqrt 3
        (ap.luma_flipped(number(1)), [[A, B, B, 0], [B, A, B, 0], [B, B, A, 0], [0, 0, 0, 1]]),
        # a third of a turn around grey sends red to green, green to blue, blue to red
        (ap.hue_turned(number(2 * math.pi / 3)), [[0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]]),
        # v v^T + 0 (I - v v^T): all grey
        (ap.saturated(number(0)), [[1 / 3, 1 / 3, 1 / 3, 0]] * 3 + [[0, 0, 0, 1]]),
        (ap.saturated(number(4)), [[3, -1, -1, 0], [-1, 3, -1, 0], [-1, -1, 3, 0], [0, 0, 0, 1]]),
    ],
)  # fmt: skip
def test_each_transform_is_its_matrix_by_hand(found: Tensor, rows: list[list[float]]) -> None:
    torch.testing.assert_close(found[0], torch.tensor(rows, dtype=torch.float32), atol=1e-6, rtol=0)


def test_what_does_nothing_is_the_identity() -> None:
    for found in (ap.moved(number(0), number(0)), ap.scaled(number(1), number(1)), ap.turned(number(0)),
                  ap.quarter_turned(number(0)), ap.brightened(number(0)), ap.contrasted(number(1)),
                  ap.luma_flipped(number(0)), ap.hue_turned(number(0)), ap.saturated(number(1))):  # fmt: skip
        torch.testing.assert_close(found[0], torch.eye(len(found[0])), atol=1e-7, rtol=0)


def test_a_product_acts_in_the_order_of_its_list() -> None:
    """Mirrored, then moved by 2 to the right: the inverse takes 3 back to 1, then to -1."""
    inverse = ap.product([ap.scaled(number(-1), number(1)), ap.moved(number(2), number(0))])[0]
    assert (inverse @ torch.tensor([3.0, 0, 1])).tolist() == [-1, 0, 1]


def test_blitting_copies_pixels_exactly() -> None:
    images = torch.randn(2, 3, 6, 6)
    assert torch.equal(ap.blit(images, ap.scaled(number(-1, 2), number(1, 2))), images.flip(3))
    for quarters in range(4):  # clockwise, as y points down
        turned = ap.blit(images, ap.quarter_turned(number(quarters, 2)))
        assert torch.equal(turned, images.rot90(-quarters, (2, 3)))
    moved = ap.blit(images, ap.moved(number(2, 2), number(-1, 2)))
    assert torch.equal(moved[:, :, :5, 2:], images[:, :, 1:, :4])
    assert torch.equal(moved[:, :, :5, :2], images[:, :, 1:, 1:3].flip(3)), "the image mirrored comes in"
    assert torch.equal(moved[:, :, 5:, 2:], images[:, :, 4:5, :4])


def by_hand(image: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    """Appendix B.1 by loops in float64: mirror the image, then upsample, warp, downsample. [H, W] -> [H, W]"""
    (height, width), taps, around = image.shape, np.array(ap.SYM6) / math.sqrt(2), 40
    fine = np.zeros((2 * (height + 2 * around), 2 * (width + 2 * around)))
    fine[::2, ::2] = np.pad(image, around, mode="reflect")
    for axis in (0, 1):  # the sixth tap is the middle
        fine = np.apply_along_axis(lambda line: np.convolve(line, 2 * taps)[5:-6], axis, fine)
    rows, columns = (np.arange(2 * (size + 5)) - (size - 1) - 5 for size in (height, width))
    warped = np.zeros((len(rows), len(columns)))
    for i, y in enumerate(rows):
        for j, x in enumerate(columns):
            across, down, _ = inverse @ (x, y, 2)  # translations are in pixels of the image
            across, down = across + width - 1 + 2 * around, down + height - 1 + 2 * around
            left, top = math.floor(across), math.floor(down)
            a, b = across - left, down - top
            upper, lower = ((1 - a) * fine[line, left] + a * fine[line, left + 1] for line in (top, top + 1))
            warped[i, j] = (1 - b) * upper + b * lower
    for axis in (0, 1):
        warped = np.apply_along_axis(lambda line: np.convolve(line, taps[::-1])[11:-11:2], axis, warped)
    return warped


def test_geometry_is_the_resampling_of_the_paper_to_the_last_row() -> None:
    """Any warp, borders and what lies beyond them included; not the mirror image of what was upsampled."""
    inverse = ap.product(
        [ap.moved(number(2.3), number(-4.7)), ap.turned(number(0.7)), ap.scaled(number(0.8), number(1.4))]
    )
    image = torch.rand(13, 18)
    seen = ap.resample(image[None, None], inverse, LOW_PASS)[0, 0]
    np.testing.assert_allclose(seen.numpy(), by_hand(image.double().numpy(), inverse[0].double().numpy()), atol=1e-5)


@pytest.mark.parametrize("size", [(32, 32), (8, 24), (17, 9)])
def test_a_tiny_shift_gives_the_image_back_at_its_borders_too(size: tuple[int, int]) -> None:
    """The filter is orthogonal: nothing is lost between upsampling and downsampling."""
    images = torch.rand(2, 3, *size) * 2 - 1
    seen = ap.resample(images, ap.moved(number(1e-6, 2), number(1e-6, 2)), LOW_PASS)
    assert not torch.equal(seen, images), "it was resampled"
    torch.testing.assert_close(seen, images, atol=1e-5, rtol=0)


def test_blitting_and_geometry_are_one_warp() -> None:
    """The product of their matrices, applied once, as in the authors' code; blitting alone copies pixels."""
    images, p, pipeline = torch.rand(6, 3, 16, 16), torch.tensor(0.9), ada(groups=["blit", "geometry"]).pipeline
    torch.manual_seed(3)
    both = pipeline.blits(images, p) + pipeline.geometry(images, p)
    torch.manual_seed(3)
    assert torch.equal(pipeline(images, p), ap.resample(images, ap.product(both), LOW_PASS))
    alone = ada(groups=["blit"]).pipeline(images, torch.tensor(1.0))
    assert not torch.equal(alone, images) and torch.isin(alone, images).all()


COS, SIN = math.cos(0.4), math.sin(0.4)
Source = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def hill(x: Tensor, y: Tensor) -> Tensor:
    """A smooth picture that no transform below takes to a border."""
    return torch.exp(-((x - 3) ** 2 / 30 + (y + 2) ** 2 / 18))


@pytest.mark.parametrize(
    ("inverse", "source", "error"),
    [
        (ap.moved(number(1.3), number(-0.45)), lambda x, y: (x - 1.3, y + 0.45), 5e-3),
        (ap.moved(number(2), number(3)), lambda x, y: (x - 2, y - 3), 1e-4),
        (ap.scaled(number(1.3), number(0.8)), lambda x, y: (x / 1.3, y / 0.8), 8e-3),
        (ap.turned(number(0.4)), lambda x, y: (x * COS + y * SIN, y * COS - x * SIN), 1e-2),
        # The filter is not quite symmetric, and mirrored against itself a tenth of a pixel off for slow waves.
        (ap.scaled(number(-1), number(1)), lambda x, y: (-x, y), 2.5e-2),
        (ap.turned(number(math.pi)), lambda x, y: (-x, -y), 2.5e-2),
    ],
)
def test_geometry_moves_a_smooth_picture_where_it_should(inverse: Tensor, source: Source, error: float) -> None:
    axis = torch.arange(32) - 15.5
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    seen = ap.resample(hill(x, y)[None, None], inverse, LOW_PASS)[0, 0]
    assert (seen - hill(*source(x, y)))[3:-3, 3:-3].abs().max() < error


def test_geometry_that_does_nothing_leaves_an_image_as_it_is_beside_one_that_is_transformed() -> None:
    images = torch.randn(2, 3, 16, 16)
    seen = ap.resample(images, ap.moved(torch.tensor([0.0, 1.0]), number(0, 2)), LOW_PASS)
    assert torch.equal(seen[0], images[0]) and not torch.allclose(seen[1], images[1], atol=0.1)


def test_beyond_its_borders_an_image_is_mirrored_endlessly() -> None:
    flat = torch.full((1, 1, 16, 16), 0.7)
    far = ap.product([ap.moved(number(500), number(-900)), ap.scaled(number(0.05), number(0.05))])
    torch.testing.assert_close(ap.resample(flat, far, LOW_PASS), flat, atol=1e-3, rtol=0)
    assert ap.mirrored(torch.tensor([-3.0, 2, 3, 5, 9, 11]), 3).tolist() == [-3, 2, 3, 1, -3, -1]


def test_colours_of_three_channels_and_of_one() -> None:
    images = torch.randn(1, 3, 2, 2)
    colour = ap.product([ap.brightened(number(0.1)), ap.saturated(number(3)), ap.contrasted(number(2))])
    flat = torch.cat([images[0].flatten(1), torch.ones(1, 4)])
    torch.testing.assert_close(ap.recolour(images, colour)[0].flatten(1), (colour[0] @ flat)[:3])
    grey = torch.randn(1, 1, 2, 2)  # what equal channels would become
    torch.testing.assert_close(ap.recolour(grey, colour), ap.recolour(grey.expand(1, 3, 2, 2), colour)[:, :1])
    torch.testing.assert_close(ap.recolour(grey, colour), 2 * grey + 0.1)
    torch.testing.assert_close(ap.recolour(grey, ap.luma_flipped(number(1))), -grey)
    torch.testing.assert_close(ap.recolour(grey, ap.hue_turned(number(1))), grey)


def ada(**settings: Any) -> Ada:
    control: dict[str, Any] = {
        "start": 0.0,
        "target": 0.6,
        "interval": 4,
        "images": 500_000,
        "groups": ["blit", "geometry", "colour"],
    }
    space = {"move": 0.125, "scale": 0.2, "turn": 1.0, "stretch": 0.2, "shift": 0.125}
    colour = {"brightness": 0.2, "contrast": 0.5, "hue": 1.0, "saturation": 1.0}
    return Ada(**(control | space | colour | settings))


@pytest.mark.parametrize("channels", [1, 3])
def test_at_p_0_nothing_changes_and_at_p_1_everything(channels: int) -> None:
    images = torch.randn(64, channels, 16, 16)
    assert torch.equal(ada().view(images), images)
    changed = ada(start=1.0).view(images)
    assert not (changed == images).flatten(1).all(1).any() and changed.isfinite().all()


def share_of_changes(matrices: list[Tensor]) -> list[float]:
    return [(m != torch.eye(m.shape[-1])).flatten(1).any(1).float().mean().item() for m in matrices]


def test_each_transform_comes_with_its_probability() -> None:
    """p = 0.4: mirrors and luma flips do nothing half of the time, right angles a quarter; two turns share one p."""
    images, p, pipeline = torch.zeros(20_000, 3, 64, 64), torch.tensor(0.4), ada().pipeline
    turn = 1 - math.sqrt(1 - 0.4)
    unmoved = 1 / 16**2  # U(-8, 8) rounds to 0, both ways
    for matrices, expected in (
        (pipeline.blits(images[..., :1, :1].expand(-1, -1, 64, 64), p), [0.2, 0.3, 0.4 * (1 - unmoved)]),
        (pipeline.geometry(images, p), [0.4, turn, 0.4, turn, 0.4]),
        (pipeline.colours(images, p), [0.4, 0.4, 0.2, 0.4, 0.4]),
    ):
        assert share_of_changes(matrices) == [pytest.approx(one, abs=0.015) for one in expected]


def test_each_transform_has_its_spread() -> None:
    images, p, pipeline = torch.zeros(20_000, 3, 16, 32), torch.tensor(1.0), ada().pipeline
    size, before, ratio, _, shift = pipeline.geometry(images, p)
    assert size[:, 0, 0].log2().std().item() == pytest.approx(0.2, rel=0.03)
    assert torch.equal(size[:, 0, 0], size[:, 1, 1]), "the same both ways"
    assert ratio[:, 0, 0].log2().std().item() == pytest.approx(0.2, rel=0.03)
    torch.testing.assert_close(ratio[:, 0, 0] * ratio[:, 1, 1], torch.ones(20_000))
    assert shift[:, 0, 2].std().item() == pytest.approx(0.125 * 32, rel=0.03), "a share of the width"
    assert shift[:, 1, 2].std().item() == pytest.approx(0.125 * 16, rel=0.03), "a share of the height"
    angle = torch.atan2(before[:, 0, 1], before[:, 0, 0])
    assert angle.std().item() == pytest.approx(math.pi / math.sqrt(3), rel=0.03), "U(-pi, pi)"
    moves = pipeline.blits(images, p)[2]
    assert moves[:, 0, 2].abs().max() == 4 and moves[:, 1, 2].abs().max() == 2
    assert torch.equal(moves, moves.round())
    *_, contrast, bright = pipeline.colours(images, p)
    assert contrast[:, 0, 0].log2().std().item() == pytest.approx(0.5, rel=0.03)
    assert bright[:, 0, 3].std().item() == pytest.approx(0.2, rel=0.03)


def test_gradients_pass_through_the_pipeline_twice() -> None:
    images = torch.randn(2, 3, 16, 16, requires_grad=True)
    weight = torch.ones((), requires_grad=True)
    seen = ada(start=0.9).view(images)
    (slope,) = torch.autograd.grad((weight * seen.square()).sum(), images, create_graph=True)
    (by_weight,) = torch.autograd.grad(slope.square().sum() / 2, weight)
    torch.testing.assert_close(by_weight, slope.square().sum())  # the slope is linear in the weight


# ADA: its probability


def shown(pair: Pair, scores: list[float]) -> None:
    """What D's update tells: these scores of reals."""
    score = torch.tensor(scores)
    context = Context(
        pair=pair, real=score, fake=score, on_real=DiscriminatorOutput(score), on_fake=DiscriminatorOutput(score)
    )
    pair.tricks.each(Trick.observe, context)


def test_p_changes_by_exactly_its_step_every_fourth_update() -> None:
    """4 updates of 5 reals change p by 20 / 1000; r_t is the mean sign of all 20."""
    trick = ada(images=1000, start=0.5)
    pair = pair_of(ada=trick)
    for _ in range(3):
        shown(pair, [3.0, 1.0, 0.1, -2.0, -7.0])  # mean sign 1/5
        assert trick.p.item() == 0.5
    shown(pair, [1.0] * 5)
    assert trick.r_t.item() == pytest.approx((3 / 5 + 1) / 4) and trick.p.item() == pytest.approx(0.48)  # 0.4 < 0.6
    for _ in range(4):
        shown(pair, [1.0] * 4 + [-1.0])
    assert trick.r_t.item() == pytest.approx(0.6, abs=1e-6)
    for _ in range(8):
        shown(pair, [1.0] * 5)
    before = trick.p.item()
    for _ in range(4):
        shown(pair, [1.0] * 5)
    assert trick.r_t.item() == 1 and trick.p.item() == pytest.approx(before + 0.02)
    found = {key: value.item() for key, value in pair.metrics().items()}
    assert found == {"tricks/ada/p": trick.p.item(), "tricks/ada/r_t": 1}


@pytest.mark.parametrize(("score", "end"), [(2.0, 1.0), (-2.0, 0.0)])
def test_p_stays_a_probability(score: float, end: float) -> None:
    trick = ada(images=10, start=0.5, interval=1)
    pair = pair_of(ada=trick)
    for _ in range(10):
        shown(pair, [score] * 4)
    assert trick.p.item() == end


@pytest.mark.parametrize(
    ("loss", "flip", "sure", "unsure"),
    [(NonSaturating, False, 0.1, -0.1), (NonSaturating, True, -0.1, 0.1), (Hinge, False, 0.1, -0.1),
     (LeastSquares, False, 0.6, 0.4), (LeastSquares, True, 0.4, 0.6)],
)  # fmt: skip
def test_the_sign_is_what_the_loss_and_the_coding_make_of_a_score(
    loss: type, flip: bool, sure: float, unsure: float
) -> None:
    for score, r_t in ((sure, 1), (unsure, -1)):
        trick = ada(interval=1)
        shown(pair_of(loss(), ada=trick, **({"flip": Flip()} if flip else {})), [score] * 3)
        assert trick.r_t.item() == r_t


def test_colours_need_one_channel_or_three() -> None:
    images = torch.zeros(2, 1, 16, 16)
    with pytest.raises(ConfigError, match="2 channels"):
        pair_of(ada=ada()).bind(images.expand(2, 2, 16, 16), images)
    pair_of(ada=ada(groups=["blit"])).bind(images.expand(2, 2, 16, 16), images)


@pytest.mark.parametrize("setting", ["start=1.5", "interval=0", "images=0", "groups=[]", "groups=[color]"])
def test_an_impossible_ada_is_refused(setting: str) -> None:
    with pytest.raises(ConfigError, match=rf"tricks\.ada\.{setting.split('=')[0]}"):
        built("tricks=[ada]", f"tricks.ada.{setting}")


def test_only_one_trick_augments() -> None:
    found = diagnostics({"tricks.ada": ada(), "loss": NonSaturating(), "tricks.diffaugment": diffaugment("colour")})
    assert any(f.id == "C8" and "tricks.ada and tricks.diffaugment" in f.sentence for f in found)


# Replay


def one_by_one(pool: list[float], seen: int, size: int, fakes: list[float], p: float) -> list[float]:
    """CycleGAN's pool, an image at a time, from the same random numbers."""
    draws, places = torch.rand(len(fakes)).tolist(), torch.randint(size, (len(fakes),)).tolist()
    found = []
    for i, fake in enumerate(fakes):
        if seen + i < size:
            pool[seen + i] = fake
            found.append(fake)
        elif draws[i] < p:
            found.append(pool[places[i]])
            pool[places[i]] = fake
        else:
            found.append(fake)
    return found


@pytest.mark.parametrize(("size", "batch"), [(3, 8), (5, 4), (50, 64), (1, 2), (50, 1)])
def test_the_pool_does_what_one_image_at_a_time_would(size: int, batch: int) -> None:
    trick, pool = Replay(size=size, p=0.5), [0.0] * size
    trick.bind(pair_of(), torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1))
    for update in range(12):
        fakes = torch.arange(update * batch, (update + 1) * batch).float()
        torch.manual_seed(update)
        found = trick.replay(fakes.view(-1, 1, 1, 1)).flatten().tolist()
        torch.manual_seed(update)
        assert found == one_by_one(pool, update * batch, size, fakes.tolist(), 0.5)
        assert trick.pool.flatten().tolist() == pool and trick.seen.item() == (update + 1) * batch


def test_half_of_what_d_sees_is_from_the_pool() -> None:
    trick, old = Replay(size=50, p=0.5), 0
    trick.bind(pair_of(), torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1))
    for update in range(100):
        fakes = torch.arange(update * 40, (update + 1) * 40).float().view(-1, 1, 1, 1)
        found = trick.replay(fakes)
        old += int((found != fakes).sum()) * (update >= 2)
    assert old / (98 * 40) == pytest.approx(0.5, abs=0.03)


def test_a_pool_does_without_labels_and_mixes_generators() -> None:
    assert Fact.UNLABELLED in Replay.traits.needs and Fact.CURRENT in Replay.traits.invalidates
    for size, p in ((0, 0.5), (5, 0.0), (5, 1.1)):
        with pytest.raises(ConfigError, match=r"^\.(size|p): "):
            Replay(size=size, p=p)


def test_only_the_discriminator_sees_the_pool() -> None:
    """The generator needs the gradient of its own fakes."""
    trick = Replay(size=4, p=1.0)
    pair = pair_of(replay=trick)
    old, new = torch.full((4, 1, 2, 2), -1.0), torch.ones(4, 1, 2, 2)
    pair.bind(old, old)
    update = Update(player="discriminator", role="discriminator", shape=BatchShape(4, 2))
    pair.discriminator_outcome(update, old, old)
    metrics = pair.discriminator_outcome(update, old, new).metrics
    assert -4 <= metrics["score/fake"].item() < 4, "some are old: places are drawn with repetition"
    term = pair.generator_outcome(
        Update(player="generator", role="generator", shape=BatchShape(4, 2)), None, new
    ).terms["adversarial"]
    assert term.item() == pytest.approx(math.log1p(math.exp(-4)))
