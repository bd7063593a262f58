"""ProGAN: its networks by hand, fades, the schedule of the authors' code, and runs that grow, stop and go on."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import properties
import pytest
import torch
import torch.nn.functional as F
from commands import Nursery, same_state
from PIL import Image
from support import EAGER, built, composed, family, loop, mostly_slow, pair_in, pair_of, play, trick_of
from torch import Tensor, nn

import ganrun
from ganrun.config.build import Run, build
from ganrun.core.context import UNCONDITIONAL, Batch, BatchShape, Progress
from ganrun.core.errors import ConfigError, ConfigErrors
from ganrun.core.growth import Growth, Phase, growths
from ganrun.core.images import at_resolution
from ganrun.games.growing import Course, GrowingGame
from ganrun.models.epilogues import MinibatchStddev
from ganrun.models.progan import Discriminator, Generator
from ganrun.record.grid import LINE, text_of
from ganrun.run.state import restore, state_of

PAPER = {"channels": 3, "resolution": 1024, "width": 16, "max_width": 512}
SMALL = {"channels": 1, "resolution": 16, "width": 4, "max_width": 8}
LIKE = {"norm": "none", "activation": "leaky_relu", "slope": 0.2, "output": "linear"}
TRICKS = ["gp", "drift", "minibatch_stddev", "spherical_latent", "pixel_norm", "equalized_lr", "ema"]
RECIPE = ("loss=wasserstein", "game.reset=true", "updates.share_fakes=false")


def generator(classes: int = 0, **sizes: Any) -> Generator:
    return Generator(latent=sizes.pop("latent", 6), classes=classes, **(SMALL | LIKE | sizes))


def discriminator(classes: int = 0, group: int = 2, **sizes: Any) -> Discriminator:
    epilogue = MinibatchStddev(group=group, eps=1e-8)
    return Discriminator(classes=classes, epilogue=epilogue, **(SMALL | LIKE | sizes))


def run_of(*overrides: str, tricks: list[str] = TRICKS) -> Run:
    """16x16 digits in batches of 4; by default a resolution is trained, and fades in, for 4 steps."""
    course = ("game.stabilise=0.016", "game.fade=0.016")
    chosen = {one.split("=")[0] for one in overrides}
    given = [one for one in (*RECIPE, *course) if one.split("=")[0] not in chosen]
    return built(*given, *overrides, model="progan", tricks=tricks)


def game_of(run: Run) -> GrowingGame:
    assert isinstance(run.game, GrowingGame)
    return run.game


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


# Networks


def test_parameters_are_those_of_the_authors_networks() -> None:
    """Their code prints these of 1024x1024; the paper's table 2 rounds both to 23.1 M."""
    with torch.device("meta"):
        made, judge = generator(latent=512, **PAPER), discriminator(group=4, **PAPER)
        labelled, naming = generator(10, latent=512, **PAPER), discriminator(10, group=4, **PAPER)
    assert (count(made), count(judge)) == (23_079_115, 23_087_249)
    layers = [count(block) for block in made.blocks]
    assert layers[:4] == [4_194_816, 2_359_808, 2_359_808, 2_359_808] and layers[-2:] == [4_624, 2_320]
    assert [count(one) for one in judge.blocks][-2:] == [2_364_416, 4_194_816] and count(judge.head) == 513
    assert count(labelled) - count(made) == 10 * 512 * 16 and count(naming) - count(judge) == 10 * 513


def test_weights_begin_as_theirs() -> None:
    """He's constant: sqrt(2 / fan in); that of their first dense layer has a gain of sqrt(2) / 4; of images, 1."""
    torch.manual_seed(0)
    net = generator(latent=64, width=32, max_width=128)
    first, second, image = net.blocks[0].conv.weight, net.blocks[2].conv.weight, net.to_image[0].conv.weight
    assert first.std().item() == pytest.approx(math.sqrt(2) / 4 / math.sqrt(64), rel=0.02)
    assert second.std().item() == pytest.approx(math.sqrt(2 / (9 * 128)), rel=0.02)
    assert image.std().item() == pytest.approx(1 / math.sqrt(128), rel=0.2)


def doubled(maps: Tensor) -> Tensor:
    return maps.repeat_interleave(2, 2).repeat_interleave(2, 3)


def halved(maps: Tensor) -> Tensor:
    return (maps[:, :, ::2, ::2] + maps[:, :, 1::2, ::2] + maps[:, :, ::2, 1::2] + maps[:, :, 1::2, 1::2]) / 4


def act(maps: Tensor) -> Tensor:
    return torch.where(maps > 0, maps, 0.2 * maps)


def conv(state: dict[str, Tensor], name: str, maps: Tensor) -> Tensor:
    weight, bias = state[f"{name}.conv.weight"], state[f"{name}.conv.bias"]
    return F.conv2d(maps, weight, bias, padding=weight.shape[-1] // 2)


def made_by_hand(net: Generator, noise: Tensor, scale: int, alpha: float) -> Tensor:
    """Table 2 and figure 2, layer by layer: scale 0 is 4x4."""
    state = net.state_dict()
    maps = torch.einsum("bz,zchw->bchw", noise, state["blocks.0.conv.weight"])
    maps = act(conv(state, "blocks.1", act(maps + state["blocks.0.conv.bias"][:, None, None])))
    image = conv(state, "to_image.0", maps)
    for one in range(1, scale + 1):
        maps = act(conv(state, f"blocks.{2 * one}", doubled(maps)))
        maps = act(conv(state, f"blocks.{2 * one + 1}", maps))
        high = conv(state, f"to_image.{one}", maps)
        image = (1 - alpha) * doubled(image) + alpha * high if one == scale else high
    return image


def judged_by_hand(net: Discriminator, images: Tensor, scale: int, alpha: float) -> Tensor:
    """The same backwards, with the standard deviation in pairs of images i, i + B/2 at 4x4."""
    state, top = net.state_dict(), len(net.from_image) - 1
    maps = act(conv(state, f"from_image.{top - scale}", images))
    for one in range(scale, 0, -1):
        number = 2 * (top - one)
        maps = halved(act(conv(state, f"blocks.{number + 1}", act(conv(state, f"blocks.{number}", maps)))))
        if one == scale:
            low = act(conv(state, f"from_image.{top - scale + 1}", halved(images)))
            maps = (1 - alpha) * low + alpha * maps
    pairs = maps.unflatten(0, (2, -1))
    spread = ((pairs[0] - pairs[1]).abs() / 2).square().add(1e-8).sqrt().mean((1, 2, 3)).repeat(2)
    maps = torch.cat([maps, spread[:, None, None, None].expand(-1, 1, 4, 4)], 1)
    maps = act(conv(state, f"blocks.{2 * top}", maps))
    weight = state[f"blocks.{2 * top + 1}.dense.weight"].unflatten(1, (4, 4, -1)).permute(0, 3, 1, 2)
    vector = act(torch.einsum("bchw,ochw->bo", maps, weight) + state[f"blocks.{2 * top + 1}.dense.bias"])
    return (vector @ state["head.score.weight"].T + state["head.score.bias"]).squeeze(1)


@pytest.mark.parametrize(("scale", "alpha"), [(0, 1.0), (1, 0.25), (1, 1.0), (2, 0.7), (2, 1.0)])
@torch.no_grad()
def test_networks_at_a_resolution_by_hand(scale: int, alpha: float) -> None:
    torch.manual_seed(scale)
    made, judge = generator().double(), discriminator().double()
    for growth in (made.growth, judge.growth):
        growth.turn(Phase(4 << scale, alpha))
    for parameter in (*made.parameters(), *judge.parameters()):
        parameter.add_(torch.randn_like(parameter) * 0.1)  # biases too
    noise = torch.randn(4, 6, dtype=torch.double)
    images = made(noise)
    assert images.shape == (4, 1, 4 << scale, 4 << scale)
    assert torch.allclose(images, made_by_hand(made, noise, scale, alpha), atol=1e-7)  # alpha is a float32
    output = judge(images)
    assert torch.allclose(output.score, judged_by_hand(judge, images, scale, alpha), atol=1e-7)
    assert torch.equal(judge.head(output.features[-1]).squeeze(1), output.score)


def test_at_0_nothing_has_changed_and_at_1_the_shortcut_is_gone() -> None:
    made, judge, noise, images = generator(), discriminator(), torch.randn(4, 6), torch.rand(4, 1, 16, 16) * 2 - 1
    for size in (8, 16):
        outputs = []
        for phase in (Phase(size // 2), Phase(size, 0.0)):
            made.growth.turn(phase)
            judge.growth.turn(phase)
            outputs.append((made(noise), judge(halved(images) if phase.resolution < 16 else images).score))
        (low, below), (high, above) = outputs
        assert torch.equal(doubled(low), high)
        if size == 16:
            assert torch.equal(below, above)
    made.growth.turn(Phase(16))
    judge.growth.turn(Phase(16))
    judge(made(noise)).score.sum().backward()
    assert made.to_image[1].conv.weight.grad is None and judge.from_image[1].conv.weight.grad is None
    plain = made(noise)
    made.growth.phase = Phase(16, 0.5)  # blends, with a weight that is still 1
    assert torch.equal(made(noise), plain)


def test_samples_have_the_full_size_and_larger_images_are_averaged() -> None:
    made, judge, noise = generator(), discriminator(), torch.randn(4, 6)
    made.growth.turn(Phase(4))
    judge.growth.turn(Phase(4))
    small = made(noise)
    shown = made.eval()(noise)
    assert torch.equal(shown, doubled(doubled(small)))
    assert torch.allclose(judge(shown).score, judge(small).score, atol=1e-6)


def test_what_epilogues_fit_is_told() -> None:
    with pytest.raises(ConfigError, match=r"model\.discriminator\.epilogue: MinibatchDiscrimination, which makes"):
        run_of(tricks=["minibatch_discrimination"])


# Schedule


def lod(kimg: float, *, full: int, start: int, training: float, transition: float) -> float:
    """The level of detail as the authors' code has it: 0 at the full resolution."""
    phase = math.floor(kimg / (training + transition))
    left = math.log2(full) - math.floor(math.log2(start)) - phase
    left -= max(kimg - phase * (training + transition) - training, 0.0) / transition
    return max(left, 0.0)


@pytest.mark.parametrize(("start", "training", "transition"), [(4, 600, 600), (8, 800, 400), (4, 100, 700), (64, 1, 1)])
def test_phases_are_those_of_the_authors_code(start: int, training: int, transition: int) -> None:
    course = Course(start=start, full=64, stabilise=1000 * training, fade=1000 * transition)
    edges = [n * (training + transition) + more for n in range(6) for more in (0, training)]
    for kimg in [*range(0, 6000, 35), *edges]:
        level = lod(kimg, full=64, start=start, training=training, transition=transition)
        size, alpha = course(1000 * kimg)
        assert size == 64 // 2 ** math.floor(level), kimg
        assert 1 - alpha == pytest.approx(level - math.floor(level), abs=1e-9), kimg


@pytest.mark.parametrize(("stabilise", "fade"), [(0, 100), (100, 0)])
def test_either_part_of_a_phase_may_be_left_out(stabilise: int, fade: int) -> None:
    course = Course(start=4, full=16, stabilise=stabilise, fade=fade)
    assert [course(images).resolution for images in (0, 50, 100, 150, 200, 10**9)] == (
        [4, 8, 8, 16, 16, 16] if fade else [4, 4, 8, 8, 16, 16]
    )
    assert Course(start=16, full=16, stabilise=0, fade=0)(5) == Phase(16)


def test_reals_fade_too() -> None:
    game = game_of(run_of())
    images = torch.rand(4, 1, 16, 16)
    for growth in growths(game):
        growth.turn(Phase(8, 0.25))
    assert game.shape == BatchShape(4, 8, True) and game.moment == "8x8, 25% faded in"
    small = halved(images)
    (found,) = game.prepared({"images": Batch(images)}, game.shape).values()
    assert torch.allclose(found.images, 0.75 * doubled(halved(small)) + 0.25 * small, atol=1e-6)
    assert found.condition == UNCONDITIONAL


def test_batches_rates_and_the_schedule_of_a_run() -> None:
    """4x4 in batches of 8 at the full rate, larger ones in batches of 4 at half of it; looked up at even steps."""
    rates = ("game.rates=[1.0,0.5]", "optim.generator.lr=0.25")
    run = run_of("game.batches=[8,4]", "game.repeats=2", "game.fade=0.032", *rates)
    game, seen, now = game_of(run), [], Progress()
    for _ in range(15):
        run.engine.begin(now)
        seen.append((*game.phase, game.shape.images, run.engine.players["generator"].learning_rate, len(game.anew)))
        now = Progress(now.step + 1, now.images + game.shape.images)
    assert seen == [
        *[(4, 1.0, 8, 0.25, 0)] * 4,  # at 0, 8, 16 and 24 images
        *[(8, 0.5, 4, 0.125, 2), (8, 0.5, 4, 0.125, 0)],  # 32: half of the fade is over; both start anew
        *[(8, 0.75, 4, 0.125, 0)] * 2,  # 40
        *[(8, 1.0, 4, 0.125, 2), *[(8, 1.0, 4, 0.125, 0)] * 5],  # 48: faded in; 56; 64 is not more than 48 + 16
        (16, 0.25, 4, 0.125, 2),  # 72
    ]
    assert [shape.images for shape in game.shapes] == [8, 4, 4]


# Optimisers, copies, resume


def test_optimisers_start_anew_when_a_fade_begins_and_ends() -> None:
    """Steps of 4 images; the first that fade are 20 and 52, the first that do not any more 32 and 64."""
    run = run_of("loss=nonsaturating", tricks=[])
    ages, beginnings = [], []
    for step in range(18):
        loop(run, step, step + 1)
        kept = run.engine.players["discriminator"].optimizer.state.values()
        ages.append(max(int(one["step"]) for one in kept))
        beginnings += [step] * bool(game_of(run).anew)
    assert beginnings == [5, 8, 13, 16]
    assert ages == [1, 2, 3, 4, 5, 1, 2, 3, 1, 2, 3, 4, 5, 1, 2, 3, 1, 2]
    run = run_of("loss=nonsaturating", "game.reset=false", tricks=[])
    loop(run, 0, 7)
    assert {int(one["step"]) for one in run.engine.players["generator"].optimizer.state.values()} == {7}


def test_an_optimiser_that_starts_anew_does_what_a_new_one_does() -> None:
    weights = []
    for forgets in (False, True):
        run = run_of(tricks=["gp"])
        player = run.engine.players["generator"]
        start = [p.detach().clone() for p in player.parameters]
        if forgets:
            loop(run, 0, 3)
            with torch.no_grad():
                torch._foreach_copy_(player.parameters, start)
            player.forget()
        for parameter in player.parameters:
            parameter.grad = torch.full_like(parameter, 0.5)
        player.optimizer.step()
        weights.append(torch.cat([p.detach().flatten() for p in player.parameters]))
    assert torch.equal(*weights)


def test_an_optimiser_that_does_not_begin_at_0_is_refused() -> None:
    nadam = ("optim.generator._target_=torch.optim.NAdam",)
    with pytest.raises(ConfigError, match=r"^optim\.generator: NAdam, whose state begins at other.*game\.reset=false"):
        run_of(*nadam, tricks=["gp"])
    assert run_of(*nadam, "game.reset=false", tricks=["gp"])


def test_copies_that_tricks_keep_grow_along() -> None:
    run = run_of(tricks=["gp", "ema", "historical_averaging", "checkpoint_swap"])
    loop(run, 0, 6)
    found = growths(run.game)
    assert len(found) > 6 and {one.phase for one in found} == {Phase(8, 0.25)}
    assert {(one.size.item(), one.alpha.item()) for one in found} == {(8, 0.25)}
    average = trick_of(run, "ema").average
    average.train()
    assert average(torch.randn(2, average.latent)).shape == (2, 1, 8, 8)


@pytest.mark.parametrize("step", mostly_slow([6, 5, 13, 8], 4))
def test_a_run_goes_on_from_any_step_bit_for_bit(step: int) -> None:
    """Before the first step of a fade, within it, and before the first without: no optimiser starts anew twice."""
    more = ("game.batches=[4,4]", "game.rates=[1.0,0.5]")
    whole, again = run_of(*more), run_of(*more)
    play(whole, 0, step)
    saved = properties.round_trip(state_of(whole, Progress(step, 4 * step)))
    phase, grid = game_of(whole).phase, whole.game.sample()
    play(whole, step, step + 3)
    properties.scramble(again)
    restore(again, saved, "test")
    assert game_of(again).phase == phase and torch.equal(again.game.sample(), grid)
    play(again, step, step + 3)
    assert not properties.differences(properties.everything(whole), properties.everything(again))


@pytest.mark.slow
def test_a_forgotten_phase_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail."""
    monkeypatch.setattr(Growth, "_load_from_state_dict", nn.Module._load_from_state_dict)
    with pytest.raises(AssertionError):
        test_a_run_goes_on_from_any_step_bit_for_bit(6)


# Combinations


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"start": 6}, r"^\.start: 6, expected one of 4, 8, 16 \(pixels\)\. Try: \.start=4"),
        ({"start": 32}, r"^\.start: 32, expected one of 4, 8, 16"),
        ({"stabilise": 0, "fade": 0}, r"^\.stabilise: 0, and \.fade is 0.*Try: \.start=16"),
        ({"fade": -1}, r"^\.fade: -1"),
        ({"batches": [0]}, r"^\.batches: 0, expected a whole number at least 1"),
        ({"rates": [-1.0]}, r"^\.rates: -1"),
        ({"repeats": 0}, r"^\.repeats: 0"),
    ],
)
def test_what_cannot_grow_is_refused(settings: dict[str, Any], line: str) -> None:
    pair = pair_of(discriminator(), generator=generator())
    usual = {"start": 4, "stabilise": 1, "fade": 1, "batches": None, "rates": None, "repeats": 1, "reset": True}
    shape = BatchShape(4, 16)
    with pytest.raises(ConfigError, match=line):
        GrowingGame(pairs={"main": pair}, shape=shape, prior="normal", grid=4, **(usual | settings))


def test_every_batch_is_checked_before_the_run() -> None:
    with pytest.raises(ConfigError, match=r"groups of 4 images do not divide a batch of 6"):
        run_of("game.batches=[4,6,4]", tricks=["gp", "minibatch_stddev"])


def test_networks_of_one_size_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.generator: dcgan, which has one size.*Try: model=progan, or"):
        built("game=growing")


def test_tricks_that_keep_images_are_refused_where_these_grow() -> None:
    with pytest.raises(ConfigErrors, match=r"tricks\.replay: needs images of the same size.*rule C52"):
        built(model="progan", tricks=["replay"])
    loop(built("game.start=16", model="progan", tricks=["replay"]), 0, 1)
    norms = [f"model.{role}.norm=batch" for role in ("generator", "discriminator")]
    with pytest.raises(ConfigErrors, match=r"virtual_batch_norm: needs images of the same size"):
        built(*norms, model="progan", tricks=["virtual_batch_norm"])


@pytest.mark.parametrize("trick", mostly_slow(family("tricks"), 25))
def test_every_trick_trains_or_is_refused_with_a_reason(trick: str) -> None:
    try:
        run = built("game.stabilise=0.004", "game.fade=0.008", *EAGER.get(trick, ()), model="progan", tricks=[trick])
    except ConfigError as refusal:
        assert all(len(line) > 30 for line in refusal.lines), refusal.lines
        return
    loop(run, 0, 5)
    assert run.game.sample().isfinite().all() and list(pair_in(run).tricks) == [trick]


ABLATION = {
    "no growing": ("game.start=16",),
    "no pixel norm": ("tricks=[gp,drift,minibatch_stddev,spherical_latent,equalized_lr,ema]",),
    "no equalised rate": ("tricks=[gp,drift,minibatch_stddev,spherical_latent,pixel_norm,ema]",),
    "no leaky ReLU": ("model.generator.activation=relu",),
    "no smoothing": ("tricks=[gp,drift,minibatch_stddev,spherical_latent,pixel_norm,equalized_lr]",),
    "no repeats": ("game.repeats=1",),
    "no reset": ("game.reset=false",),
    "that of Gulrajani et al.": (
        "tricks=[gp]", "model.generator.norm=batch", "model.generator.activation=relu", "model.generator.output=tanh",
        "model.discriminator.norm=layer",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", mostly_slow(list(ABLATION), 7))
def test_the_switches_of_the_paper_are_settings(name: str) -> None:
    sizes = ("model.generator.width=4", "model.discriminator.width=4", "dataset=digits", "dataset.resolution=16")
    course = ("game.stabilise=0.004", "game.fade=0.008", "batch=4", "game.grid=4", "engine.device=cpu")
    run = build(composed("experiment=progan", *sizes, *course, *ABLATION[name]))
    rows = play(run, 0, 3).rows
    assert len(rows) == 6 and all(value.isfinite() for _, _, metrics in rows for value in metrics.values())


def test_classes_are_asked_for_and_named() -> None:
    """As in the authors' code: the label beside the noise, logits beside the score. Odena et al. 2017."""
    run = run_of("model.generator.classes=10", "game.grid=40", tricks=["gp", "auxiliary_classifier", "ema"])
    rows = play(run, 0, 6).rows
    assert {"loss/generator/auxiliary_classifier", "loss/discriminator/auxiliary_classifier"} <= {
        name for _, _, metrics in rows for name in metrics
    }
    assert run.game.sample().shape == (40, 1, 16, 16) and run.game.classes == 10
    made = pair_in(run).generator
    noise = torch.randn(1, 8).expand(2, -1)
    assert not torch.equal(*made(noise, torch.tensor([3, 4])))


# Runs


def test_a_run_that_ends_in_a_fade_can_be_looked_at(tmp_path: Path) -> None:
    """Grids, measures and findings meet images of the full size; the log and each picture say where the run was."""
    cfg = composed(
        "experiment=progan", "dataset=digits", "dataset.resolution=16", "dataset.held_out=60", "metrics.every=6",
        "metrics.samples=50", "steps=6", "log.every=2", "batch=8", "game.grid=8", "engine.device=cpu",
        "engine.workers=0", "model.generator.width=4", "model.discriminator.width=4", "game.stabilise=0.016",
        "game.fade=0.064", f"tricks=[{','.join(TRICKS)}]",
    )  # fmt: skip
    folder = ganrun.train(cfg, tmp_path / "run")
    row = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    assert (row["growing/resolution"], row["growing/alpha"]) == (8.0, 0.375)
    assert math.isfinite(row["metrics/quality_50"]) and row["training/learning_rate/generator"] == pytest.approx(2e-3)
    assert text_of(folder / "samples" / "step_00000006.png", "moment") == "8x8, 38% faded in"
    picture = Image.open(folder / "samples" / "step_00000006.png")
    words = np.asarray(picture.convert("L"))[-LINE:]
    assert picture.height == Image.open(folder / "samples" / "reals.png").height + LINE, "reals have their full size"
    assert (words > 128).sum() > 50 and words[:, 120:].max() == 0, "a line below the grid says it too"
    assert "8x8, 38% faded in" in (folder / "run.log").read_text()
    loaded = ganrun.load(folder, device="cpu")
    images = loaded.sample(5, seed=1)
    assert images.shape == (5, 1, 16, 16) and torch.equal(images, doubled(halved(images)))
    assert not torch.allclose(at_resolution(images, 8), doubled(at_resolution(images, 4)), atol=1e-4)


@pytest.mark.slow
def test_a_run_that_is_stopped_in_a_fade_goes_on_bit_for_bit(nursery: Nursery, tmp_path: Path) -> None:
    words = (
        "experiment=progan", "dataset=digits", "dataset.resolution=16", "metrics=none", "diagnosis=none", "batch=4",
        "game.grid=4", "engine.device=cpu", "engine.workers=0", "model.generator.width=4",
        "model.discriminator.width=4", "game.stabilise=0.008", "game.fade=0.032",
    )  # fmt: skip
    assert nursery.run(*words, "steps=6", "hydra.run.dir=run", folder=tmp_path).code == 0
    assert nursery.run("resume", "run", "steps=14", folder=tmp_path).code == 0
    assert nursery.run(*words, "steps=14", "hydra.run.dir=whole", folder=tmp_path).code == 0
    assert same_state(tmp_path / "run", tmp_path / "whole") == []
