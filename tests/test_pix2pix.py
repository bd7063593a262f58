"""pix2pix: losses by hand, the authors' networks, shared and fresh fakes, conditions, exact resume, refusals."""

import json
from pathlib import Path

import properties
import pytest
import torch
import torch.nn.functional as F
from support import MATES, SIZES, built, composed, family, loop, mostly_slow, update_of
from torch import Tensor, nn

import ganrun
from ganrun.config.build import Run, build
from ganrun.core.context import Batch, BatchShape, Condition, Update
from ganrun.core.errors import ConfigError
from ganrun.core.pair import Pair
from ganrun.core.trick import Trick
from ganrun.games.paired import PairedGame
from ganrun.losses.targets import NonSaturating
from ganrun.models import pix2pix

SMALL = (
    "experiment=pix2pix", "steps=4", "batch=2", "game.grid=2", "engine.device=cpu", "engine.precision=fp32",
    "dataset.resolution=16", "dataset.input.size=40", "model.generator.width=2", "model.generator.halvings=4",
    "model.discriminator.width=2", "model.discriminator.halvings=1",
)  # fmt: skip


def run_of(*overrides: str) -> Run:
    return build(composed(*SMALL, *overrides))


def unet(**settings: object) -> pix2pix.Generator:
    usual: dict = {"channels": 3, "resolution": 16, "width": 2, "halvings": 4, "norm": "none", "slope": 0.2}
    return pix2pix.Generator(**{**usual, "scale": 0.3, **settings})


def judge_of(**settings: object) -> pix2pix.Discriminator:
    usual: dict = {"channels": 3, "resolution": 16, "width": 2, "halvings": 1, "conditional": True, "norm": "instance"}
    return pix2pix.Discriminator(**{**usual, "slope": 0.2, "output": "linear", "scale": 0.1, **settings})


# Networks


@pytest.mark.parametrize("norm", ["batch", "instance"])
@pytest.mark.parametrize(
    ("channels", "side", "halvings", "in_d", "of_g", "of_d"),
    [(3, 256, 8, 3, 54_413_955, 2_768_705), (1, 256, 8, 3, 54_407_809, 2_764_609), (1, 64, 6, 2, 29_237_889, 662_337)],
)
def test_parameters_are_those_of_the_authors_networks(
    norm: str, channels: int, side: int, halvings: int, in_d: int, of_g: int, of_d: int
) -> None:
    """Their code prints 54.414 M and 2.769 M for colour; for grey 54.408 M and 2.765 M, of 64 pixels 29.238 M and
    0.662 M (issue 1152 of pytorch-CycleGAN-and-pix2pix)."""
    size: dict = {"channels": channels, "resolution": side, "width": 64, "norm": norm}
    with torch.device("meta"):
        generator, judge = unet(**size, halvings=halvings), judge_of(**size, halvings=in_d)
    assert sum(p.numel() for p in generator.parameters()) == of_g
    assert sum(p.numel() for p in judge.parameters()) == of_d


def test_the_unet_joins_maps_of_one_size() -> None:
    """Written out for three halvings, to 2 pixels: each decoder block is joined with the encoder's map of its size."""
    torch.manual_seed(0)
    net, image = unet(halvings=3).eval(), torch.rand(2, 3, 16, 16) * 2 - 1
    down, up, last = [block.conv for block in net.encoder], [block.conv for block in net.blocks], net.to_image.conv
    assert [tuple(conv.weight.shape[:2]) for conv in down] == [(2, 3), (4, 2), (8, 4)]
    assert [tuple(conv.weight.shape[:2]) for conv in (*up, last)] == [(8, 4), (8, 2), (4, 3)]
    half = down[0](image)
    quarter = down[1](F.leaky_relu(half, 0.2))
    bottom = down[2](F.leaky_relu(quarter, 0.2))
    assert bottom.shape == (2, 8, 2, 2)
    first = up[0](bottom.relu())
    second = up[1](torch.cat([quarter, first], 1).relu())
    expected = last(torch.cat([half, second], 1).relu()).tanh()
    assert torch.allclose(net(image), expected, atol=1e-6)


def test_neither_the_first_nor_the_innermost_maps_have_a_norm() -> None:
    net = unet(norm="instance")
    assert [hasattr(block, "norm") for block in net.encoder] == [False, True, True, False]
    assert all(hasattr(block, "norm") for block in net.blocks) and not hasattr(net.to_image, "norm")
    assert [hasattr(block, "norm") for block in judge_of(halvings=2).blocks] == [False, True, True]


def test_skips_carry_detail_past_the_bottom() -> None:
    """A change of one pixel reaches the output even when the innermost maps are cut off."""
    net = unet(norm="none").eval()
    image = torch.rand(1, 3, 16, 16)
    other = image.clone()
    other[0, 0, 3, 3] += 0.5
    net.blocks[0].register_forward_hook(lambda *given: torch.zeros_like(given[2]))
    assert (net(image) - net(other)).abs().max() > 1e-3


@pytest.mark.parametrize(("halvings", "pixels"), [(3, 70), (2, 34), (1, 16)])
def test_a_patch_has_the_papers_size(halvings: int, pixels: int) -> None:
    """70 and 16 pixels in section 3.2.2; of the image and of the input beside it."""
    judge = judge_of(channels=1, resolution=128, norm="none", halvings=halvings)
    image, given = (torch.zeros(1, 1, 128, 128, requires_grad=True) for _ in range(2))
    scores = judge(image, given).score
    scores[0, 0, scores.shape[2] // 2, scores.shape[3] // 2].backward()
    for one in (image, given):
        touched = one.grad[0, 0].ne(0).nonzero()  # type: ignore[index]
        assert (touched.max(0).values - touched.min(0).values + 1).tolist() == [pixels, pixels]


def test_d_sees_the_input_unless_it_is_told_not_to() -> None:
    image, given = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16)
    assert not torch.equal(judge_of()(image, given).score, judge_of()(image, given.flip(0)).score)
    alone = judge_of(conditional=False)
    assert torch.equal(alone(image, given).score, alone(image).score)
    assert sum(p.numel() for p in judge_of().parameters()) - sum(p.numel() for p in alone.parameters()) == 3 * 16 * 2


# Losses


class Affine(nn.Module):
    """G(x) = scale x + shift."""

    channels, resolution, range = 3, 16, (-1.0, 1.0)

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.tensor(0.5)), nn.Parameter(torch.tensor(0.1))

    def forward(self, image: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.scale * image + self.shift


def game_of(l1: float = 100.0, *, conditional: bool = True) -> PairedGame:
    pair = Pair(generator=Affine(), discriminator=judge_of(conditional=conditional), loss=NonSaturating(), tricks={})
    return PairedGame(pairs={"main": pair}, shape=BatchShape(3, 16), l1=l1, grid=2)


def batch_of() -> Batch:
    torch.manual_seed(0)
    return Batch(torch.rand(3, 3, 16, 16) * 2 - 1, Condition(image=torch.rand(3, 3, 16, 16) * 2 - 1))


@pytest.mark.parametrize("conditional", [True, False])
def test_both_players_minimise_what_the_paper_says(conditional: bool) -> None:
    """Equations 1 to 4 with -log D for G (section 3.3), written out: G(x) = x/2 + 0.1."""
    game, batch = game_of(conditional=conditional), batch_of()
    target, given = batch.images, batch.condition.image
    made = 0.5 * given + 0.1
    d = game.pair.discriminator
    on_real, on_fake = (d(one, given if conditional else None).score for one in (target, made))
    assert on_real.dim() == 4 and on_real.shape[1] == 1, "a score for each patch"
    outcome = game.outcome(Update(player="generator", role="generator", shape=game.shape), {"images": batch}, {})
    assert outcome.terms["l1"].item() == pytest.approx(100 * (made - target).abs().mean().item(), rel=1e-5)
    assert outcome.terms["adversarial"].item() == pytest.approx(F.softplus(-on_fake).mean().item(), rel=1e-5)
    assert set(outcome.terms) == {"l1", "adversarial"}
    update = Update(player="discriminator", role="discriminator", shape=game.shape)
    outcome = game.outcome(update, {"images": batch}, {})
    expected = F.softplus(-on_real).mean() + F.softplus(on_fake).mean()
    assert outcome.terms["adversarial"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert set(outcome.terms) == {"adversarial"}


def test_shared_fakes_teach_what_fresh_ones_do() -> None:
    """The authors make fakes once in a step; without noise that changes nothing: terms and gradients agree."""
    game, batch = game_of(), batch_of()
    player = Update(player="generator", role="generator", shape=game.shape, given_fakes=True)
    joint = Update(player="discriminator", role="discriminator", shape=game.shape, then=player)
    assert game.wanted(player) == {} and game.wanted(joint).keys() == {"images"}
    shared = game.outcome(joint, {"images": batch}, {}).fakes
    fresh = Update(player="generator", role="generator", shape=game.shape)
    slopes = []
    for terms in (game.outcome(player, {}, shared).terms, game.outcome(fresh, {"images": batch}, {}).terms):
        slopes.append(torch.autograd.grad(sum(terms.values()), list(game.pair.generator.parameters())))
    assert all(torch.allclose(one, other) for one, other in zip(*slopes, strict=True))


def test_a_weight_of_zero_leaves_l1_out() -> None:
    game = game_of(l1=0.0)
    update = Update(player="generator", role="generator", shape=game.shape)
    assert set(game.outcome(update, {"images": batch_of()}, {}).terms) == {"adversarial"}
    with pytest.raises(ConfigError, match=r"^\.l1: -1"):
        game_of(l1=-1)


# The whole game


@pytest.mark.parametrize("more", [(), ("tricks=[ema,generator_dropout]", "engine.memory=0", "engine.workers=1")])
def test_resume_is_exact(more: tuple[str, ...]) -> None:
    """With resident pairs, and with pairs that a worker reads."""
    properties.check_resume((*SMALL, *more))


def test_an_update_can_be_captured() -> None:
    properties.check_no_sync(SMALL)
    properties.check_addresses(SMALL)
    properties.check_state_is_kept(SMALL)
    properties.check_elsewhere((*SMALL, "updates.share_fakes=false"))


def test_dropout_is_noise_at_sampling_too_in_the_first_three_blocks() -> None:
    run = run_of()
    generator = run.game.named_pairs()["main"].generator.eval()
    assert [hasattr(block, "steady_dropout") for block in generator.blocks] == [True, True, True]
    given = torch.rand(2, 3, 16, 16)
    drawn = [run.game.draw(2, Condition(image=given)) for _ in range(2)]
    assert not torch.equal(*drawn)
    assert torch.equal(run.game.sample(), run.game.sample()), "a grid shows what training changed, and nothing else"


def test_a_run_leaves_inputs_outputs_and_targets(tmp_path: Path) -> None:
    folder = ganrun.train(composed(*SMALL, "log.every=2", "metrics.samples=50", "dataset.held_out=6"), tmp_path / "run")
    names = {path.name for path in (folder / "samples").iterdir()}
    assert {"pairs_00000004.png", "reals.png", "step_00000004.png"} == names
    line = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    assert {"loss/generator/l1", "loss/generator/adversarial", "probability/real", "metrics/quality_6"} <= line.keys()
    loaded = ganrun.load(folder, device="cpu")
    assert loaded.sample(3, seed=1).shape == (3, 3, 16, 16)
    again = run_of("dataset.held_out=6")
    shown = again.game
    shown.load_state_dict(loaded.game.state_dict())
    (pairs,) = shown.pictures().values()
    batch = again.data.examples(2)["images"]
    assert torch.equal(pairs[:, 0], batch.condition.image) and torch.equal(pairs[:, 2], batch.images)


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["game=cycle", "dataset=outlines_to_shapes"], "model.discriminator: it sees an image beside the one that"),
        (
            ["dataset=shapes"],
            "dataset: images of Shapes alone, expected each with the image .* Try: dataset=paired_shapes",
        ),
        (
            ["model.generator.halvings=5"],
            "model.generator.halvings: 5, which do not divide 16 pixels, expected whole maps",
        ),
        (["model.generator.halvings=1"], "model.generator.halvings: 1, expected a whole number from 2 to 16"),
        (["model.discriminator.halvings=3"], "model.discriminator.halvings: 3, which leave maps of 2 pixels"),
        (["tricks=[diffaugment]"], "tricks.diffaugment: needs a discriminator that sees each image alone.*C55"),
        (["tricks=[replay]"], "tricks.replay: needs a discriminator that sees each image alone.*C55"),
    ],
)
def test_what_does_not_fit_is_refused(overrides: list[str], line: str) -> None:
    small = [one for one in SMALL if not one.startswith("dataset.") or overrides[0].startswith(("model", "tricks"))]
    with pytest.raises(ConfigError, match=f"^{line}"):
        build(composed(*small, *overrides, "dataset.resolution=16"))


def test_a_discriminator_of_images_alone_takes_what_moves_them() -> None:
    run = run_of("model.discriminator.conditional=false", "tricks=[replay,diffaugment]")
    loop(run, 0, 2)
    assert run.game.sample().isfinite().all()


@pytest.mark.parametrize("trick", mostly_slow(family("tricks"), of=6))
def test_every_trick_trains_or_is_refused_with_a_reason(trick: str) -> None:
    try:
        run = run_of(f"tricks=[{trick}]")
    except ConfigError as refusal:
        assert all(len(line) > 30 for line in refusal.lines), refusal.lines
        return
    loop(run, 0, 2)
    assert run.game.sample().isfinite().all()


def test_penalties_and_consistency_are_of_images_beside_their_input() -> None:
    """gp moves between target and output, and D sees the input beside each point between."""
    run, seen = run_of("tricks=[gp]"), []
    judge = run.game.named_pairs()["main"].discriminator
    judge.register_forward_pre_hook(lambda net, given: seen.append(given[1]))
    (batches,) = [run.data.draw(run.game.wanted(update_of(run, "discriminator")))]
    run.game.outcome(update_of(run, "discriminator"), batches, {})
    assert len(seen) == 3 and all(torch.equal(one, batches["images"].condition.image) for one in seen)
    assert run.game.named_pairs()["main"].tricks.at(Trick.discriminator_term)


def test_the_family_tests_know_the_model() -> None:
    assert "pix2pix" in SIZES and MATES["pix2pix"] and built(model="pix2pix").game.needs_inputs
