"""R3GAN: published sizes, the start of its blocks, its filters, and its five schedules."""

import math
from typing import Any

import pytest
import torch
from support import built, command_of, composed, pair_in, play, trick_of
from torch import nn

from ganrun.config.build import build
from ganrun.core.context import Progress
from ganrun.core.errors import ConfigError
from ganrun.core.schedule import Cosine, HalfLife, Staircase, at, is_scheduled
from ganrun.models import r3gan

FORM: dict[str, Any] = {"channels": 3, "resolution": 32, "width": 768, "full_width": 32, "blocks": 2, "expansion": 2,
                        "group": 16, "slope": 0.2, "output": "linear"}  # fmt: skip


def networks(**changed: Any) -> tuple[r3gan.Generator, r3gan.Discriminator]:
    settings = FORM | {"classes": 0} | changed
    return r3gan.Generator(latent=64, **settings), r3gan.Discriminator(**settings)


def small(**changed: Any) -> tuple[r3gan.Generator, r3gan.Discriminator]:
    return networks(**{"width": 16, "full_width": 8, "blocks": 1, "group": 2, **changed})


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def test_published_sizes() -> None:
    """20.8M in G and 21.3M in D: those of CIFAR-10, which is class-conditional there. Huang et al. 2024, table 4."""
    with torch.device("meta"):
        generator, discriminator = networks(classes=10)
    assert (round(count(generator) / 1e6, 1), round(count(discriminator) / 1e6, 1)) == (20.8, 21.3)


def test_sizes_by_hand() -> None:
    """Eight blocks of 768 -> 1536 in 96 groups of 16 -> 768, two biases each; bases of 4x4; 1x1 convolutions."""
    with torch.device("meta"):
        (generator, discriminator), (labelled, projecting) = networks(), networks(classes=10)
    blocks = 8 * (2 * 768 * 1536 + 9 * 16 * 1536 + 2 * 1536)
    assert count(generator) == blocks + 16 * 768 + 64 * 768 + 768 * 3
    assert count(discriminator) == blocks + 3 * 768 + 16 * 768 + 768
    assert count(labelled) == count(generator) + 64 * 768 + 10 * 64
    assert count(projecting) == count(discriminator) - 768 + 768**2 + 10 * 768


def test_ffhq_256_has_fewer_channels_at_larger_scales() -> None:
    """768 up to 32 pixels, then 384, 192 and 96, in groups of 16. train.py, preset FFHQ-256."""
    with torch.device("meta"):
        generator, discriminator = networks(resolution=256)
    widths = [m.reduce.out_channels for m in generator.modules() if isinstance(m, r3gan.Residual)]
    assert widths == [768] * 8 + [384] * 2 + [192] * 2 + [96] * 2
    assert widths[::-1] == [m.reduce.out_channels for m in discriminator.modules() if isinstance(m, r3gan.Residual)]
    groups = [m.mix.groups for m in generator.modules() if isinstance(m, r3gan.Residual)]
    assert groups == [96] * 8 + [48] * 2 + [24] * 2 + [12] * 2


@pytest.mark.parametrize(("channels", "resolution"), [(1, 8), (2, 16), (3, 32), (4, 64), (3, 128)])
@pytest.mark.parametrize("classes", [0, 3])
def test_every_size_of_image(channels: int, resolution: int, classes: int) -> None:
    generator, discriminator = small(channels=channels, resolution=resolution, classes=classes)
    labels = torch.tensor([0, 2]) if classes else None
    images = generator(torch.randn(2, 64), labels)
    assert images.shape == (2, channels, resolution, resolution) and generator.range == (-math.inf, math.inf)
    output = discriminator(images, labels)
    assert output.score.shape == (2,)
    assert [f.shape[-1] for f in output.features] == [
        *[2 ** (k - 1) for k in range(resolution.bit_length() - 1, 2, -1)],
        4,
    ]


def test_nothing_is_normalised() -> None:
    names = {type(m).__name__ for net in small() for m in net.modules()}
    assert not [name for name in names if "Norm" in name]


def test_a_block_starts_as_nothing_and_with_the_papers_variance() -> None:
    """Fixup: W3 = 0; W1 and W2 have gain sqrt(2 / (1 + 0.2^2)) * L^(-1/4) over the root of their inputs. L = 8 here."""
    generator, discriminator = networks(width=128, group=32)
    gain = math.sqrt(2 / 1.04) * 8**-0.25
    blocks = [m for net in (generator, discriminator) for m in net.modules() if isinstance(m, r3gan.Residual)]
    assert len(blocks) == 16
    for block in blocks:
        maps = torch.randn(1, 128, 4, 4)
        assert torch.equal(block(maps), maps)
        assert block.expand.weight.std().item() == pytest.approx(gain / math.sqrt(128), rel=0.03)
        assert block.mix.weight.std().item() == pytest.approx(gain / math.sqrt(9 * 32), rel=0.03)
        assert not block.expand.bias.any() and not block.mix.bias.any() and block.reduce.bias is None  # type: ignore[union-attr]


def test_a_block_adds_what_its_three_layers_say() -> None:
    """By hand on one pixel: x + W3 f(W2 f(W1 x + b1) + b2) with f leaky."""
    block = r3gan.Residual(width=1, expansion=2, group=1, slope=0.5, blocks=1)
    with torch.no_grad():
        block.expand.weight.copy_(torch.tensor([1.0, -1.0]).view(2, 1, 1, 1))
        block.expand.bias.copy_(torch.tensor([1.0, 0.0]))  # type: ignore[union-attr]
        block.mix.weight.zero_()
        block.mix.weight[:, 0, 1, 1] = torch.tensor([2.0, 4.0])
        block.reduce.weight.copy_(torch.tensor([1.0, 10.0]).view(1, 2, 1, 1))
    # x = 3: W1 x + b1 = (4, -3) -> (4, -1.5); W2: (8, -6) -> (8, -3); W3: 8 - 30 = -22
    assert block(torch.full((1, 1, 1, 1), 3.0)).item() == pytest.approx(3 - 22)


def test_sizes_change_by_bilinear_interpolation() -> None:
    """Inside, what PyTorch's own bilinear interpolation gives; at the border the outside counts as 0."""
    maps = torch.randn(2, 3, 8, 8)
    padded = nn.functional.pad(maps, (1, 1, 1, 1))
    up = nn.functional.interpolate(padded, scale_factor=2.0, mode="bilinear")[..., 2:-2, 2:-2]
    assert torch.allclose(r3gan.Resample(up=True)(maps), up, atol=1e-6)
    weights = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    down = (padded.unfold(2, 4, 2).unfold(3, 4, 2) * torch.outer(weights, weights)).sum((-1, -2))
    assert down.shape == (2, 3, 4, 4) and torch.allclose(r3gan.Resample(up=False)(maps), down, atol=1e-6)


def test_noise_weighs_a_learnt_basis() -> None:
    basis = r3gan.Basis(inputs=2, width=3)
    noise = torch.tensor([[1.0, -2.0]])
    expected = basis.weigh.weight @ noise[0]
    assert torch.allclose(basis(noise)[0], expected[:, None, None] * basis.maps)


def test_classes_change_images_and_scores() -> None:
    generator, discriminator = small(classes=3)
    noise = torch.randn(1, 64).expand(3, 64)
    images = generator(noise, torch.arange(3))
    assert not torch.allclose(images[0], images[1])
    one = images[:1].expand(3, -1, -1, -1)
    scores = discriminator(one, torch.arange(3)).score
    answers = discriminator.head[:-1](discriminator.blocks(one[:1]))
    assert torch.allclose(scores, discriminator.head.asked.table.weight @ answers[0], rtol=1e-4)
    assert (generator.classes, discriminator.classes) == (3, 3)


def test_with_classes_the_whole_run_is_conditional() -> None:
    """Fakes have the labels of the reals that they are compared with, and the grid has a row for each class."""
    run = built("model.generator.classes=10", "loss=relativistic", "game.grid=40", model="r3gan", tricks=["r1", "r2"])
    rows = play(run, 0, 2).rows
    assert all(value.isfinite() for _, _, metrics in rows for value in metrics.values())
    assert run.game.sample().shape == (40, 1, 16, 16)
    with pytest.raises(ConfigError, match="classes"):
        built("model.generator.classes=7", "loss=relativistic", model="r3gan")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"group": 5}, r"group: 5, which does not divide the 32"),
        ({"resolution": 28}, "one of 8, 16, 32, 64, 128, 256"),
        ({"channels": 5}, "channels"),
    ],
)
def test_what_cannot_be_made_is_refused(changed: dict[str, int], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        small(**changed)


# Schedules


def test_five_schedules() -> None:
    """From R3GAN's first to its last numbers by half a cosine: at the middle of the run, half way."""
    paper = [numbers for numbers in command_of("r3gan", "Paper") if numbers.startswith(("optim.", "tricks."))]
    run = build(composed("experiment=r3gan", *paper, "steps=100", "batch=4", "game.grid=1", "engine.device=cpu"))
    pair, player = pair_in(run), run.engine.players["discriminator"]
    tricks = {name: trick_of(run, name) for name in ("r1", "r2", "augmentation", "ema")}
    found = {}
    for step in (0, 50, 100, 10**6):
        run.engine.begin(Progress(step))
        group = player.optimizer.param_groups[0]
        found[step] = (float(group["lr"]), *group["betas"], tricks["r1"].weight().item(), tricks["r2"].weight().item(),
                       tricks["augmentation"].p().item(), 1 - tricks["ema"].weight().item())  # fmt: skip
    assert found[0] == pytest.approx((2e-4, 0.0, 0.9, 0.05, 0.05, 0.0, 0.0))
    half_life = 0.5 ** (4 / 2.5e6)
    assert found[50] == pytest.approx((1.25e-4, 0.0, 0.945, 0.0275, 0.0275, 0.275, half_life), rel=1e-5)
    assert found[100] == pytest.approx((5e-5, 0.0, 0.99, 0.005, 0.005, 0.55, 0.5 ** (4 / 5e6)), rel=1e-5)
    assert found[10**6] == found[100]
    assert pair.loss.paired


def test_r1_and_r2_weigh_half_of_gamma() -> None:
    """The paper's penalties are gamma / 2 times E |grad D|^2: on D(x) = w . x, gamma / 2 * |w|^2."""
    from support import pair_of

    from ganrun.core.context import BatchShape, Latent, Update
    from ganrun.losses.relativistic import Relativistic
    from ganrun.tricks.penalties import R1, R2

    exact = {"every": 1, "method": "exact", "share": 1.0, "epsilon": 0.01}
    pair = pair_of(loss=Relativistic(), r1=R1(gamma=0.05, **exact), r2=R2(gamma=0.005, **exact))  # |w| = 5
    update = Update(player="discriminator", role="discriminator", shape=BatchShape(2, 2))
    outcome = pair.discriminator_outcome(
        update, torch.randn(2, 1, 2, 2), torch.randn(2, 1, 2, 2), latent=Latent(torch.zeros(2, 4))
    )
    assert outcome.terms["r1"].item() == pytest.approx(0.05 / 2 * 25)
    assert outcome.terms["r2"].item() == pytest.approx(0.005 / 2 * 25)


def test_any_number_of_an_optimiser_may_follow_the_step() -> None:
    """Adam's second beta, turned before every step: three steps match three of Adam with that beta set by hand."""
    moving = "{_target_: ganrun.core.schedule.Linear, start: 0.5, end: 0.9, steps: 4}"
    run = built(f"optim.generator.betas=[0.1,{moving}]")
    optimizer = run.engine.players["generator"].optimizer
    seen = []
    for step in range(6):
        play(run, step, step + 1)
        seen.append(optimizer.param_groups[0]["betas"])
    assert seen == [(0.1, pytest.approx(value)) for value in (0.5, 0.6, 0.7, 0.8, 0.9, 0.9)]
    constant = built("optim.generator.betas=[0.1,0.5]")
    play(constant, 0, 2)
    again = built(f"optim.generator.betas=[0.1,{moving}]")
    play(again, 0, 2)
    weights = [next(pair_in(one).generator.parameters()) for one in (constant, again)]
    assert not torch.equal(*weights)


def test_which_numbers_are_scheduled() -> None:
    line = Cosine(start=1.0, end=0.0, steps=2)
    assert (
        is_scheduled(line) and is_scheduled([0.0, line]) and not is_scheduled([0.0, 0.9]) and not is_scheduled("adam")
    )
    assert at([0.5, line], 1) == (0.5, pytest.approx(0.5)) and at(3, 7) == 3 and at(line, 2) == pytest.approx(0)


def test_half_of_what_was_averaged_is_forgotten_after_a_half_life() -> None:
    """decay^(images / batch) = 1/2. Of no images, no memory."""
    decay = HalfLife(images=640.0, batch=32)(0)
    assert decay ** (640 / 32) == pytest.approx(0.5)
    assert HalfLife(images=0.0, batch=32)(5) == 0.0


def test_a_staircase() -> None:
    stairs = Staircase(start=1e-4, factor=0.5, every=10, least=3e-5)
    assert [stairs(step) for step in (0, 9, 10, 19, 20, 10**12)] == pytest.approx([1e-4, 1e-4, 5e-5, 5e-5, 3e-5, 3e-5])
    for wrong in ({"every": 0}, {"factor": 0.0}, {"factor": 1.5}):
        with pytest.raises(ValueError):
            Staircase(**({"start": 1.0, "factor": 0.5, "every": 1, "least": 0.0} | wrong))


# Augmentation


def test_augmentation_happens_as_often_as_its_probability() -> None:
    """With p = 0 nothing; with cutout alone at p = 0.25, about a quarter of the images lose a square."""
    run = built("tricks.augmentation.p=0.0", tricks=["augmentation"])
    images = torch.ones(400, 1, 16, 16)
    trick = trick_of(run, "augmentation")
    assert torch.equal(trick.view(images), images)
    alone = built("tricks.augmentation.p=0.25", "tricks.augmentation.groups=[blit]", tricks=["augmentation"])
    torch.manual_seed(0)
    cut = trick_of(alone, "augmentation").view(images)
    assert 0.18 < (cut != 1).flatten(1).any(1).float().mean().item() < 0.32
    assert set(cut.unique().tolist()) <= {0.0, 1.0}


def test_colours_change_with_a_share_of_that_probability() -> None:
    run = built("tricks.augmentation.p=0.8", "tricks.augmentation.groups=[colour]", "tricks.augmentation.cutout=0",
                tricks=["augmentation"])  # fmt: skip
    trick = trick_of(run, "augmentation")
    images = torch.rand(4000, 1, 8, 8)
    torch.manual_seed(0)
    untouched = ((trick.view(images) - images).abs() < 1e-5).flatten(1).all(1).float().mean().item()
    # Of one channel, brightness, contrast and luma flips show, the last half of the time: 0.6 * 0.6 * 0.8; hue and
    # saturation leave grey alone.
    assert untouched == pytest.approx(0.6 * 0.6 * 0.8, abs=0.03)
