"""StackGAN: losses and encoders by hand, the authors' parameter counts, stage II on a frozen stage I, exact resume."""

import io
import re
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import properties
import pytest
import torch
import torch.nn.functional as F
from support import built, composed, loop, pair_of, play, update_of
from torch import Tensor, nn

import ganrun
from ganrun.cli.main import main
from ganrun.config.build import Run, build
from ganrun.core.context import ALONE, BatchShape, Condition, DiscriminatorOutput, Update
from ganrun.core.errors import ConfigError
from ganrun.games.text import kl_divergence, mismatched
from ganrun.losses.relativistic import Relativistic
from ganrun.losses.targets import LeastSquares, NonSaturating
from ganrun.models import stackgan
from ganrun.models.text import ACTIVATIONS, Augmentation, TextEncoder
from ganrun.record.grid import to_pixels
from ganrun.run.draw import draw

SMALL = ("batch=4", "steps=4", "game.grid=8", "engine.device=cpu", "engine.precision=fp32", "metrics=none",
         "diagnosis=none", "dataset.size=60", "game.kl=2", "model.text.kind=gru", "model.text.embed=4",
         "model.text.units=6", "model.generator.noise=4",
         "model.generator.code=4", "model.generator.width=4", "model.discriminator.width=4",
         "model.discriminator.code=4")  # fmt: skip
FIRST = ("experiment=stackgan_stage1", "dataset.resolution=16", *SMALL)
SECOND = ("experiment=stackgan_stage2", "dataset.resolution=32", "model.generator.residuals=1", *SMALL)
INIT = {"kind": "normal", "scale": 0.02, "gain_scale": 0.02}


@pytest.fixture(scope="module")
def stage1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ganrun.train(composed(*FIRST), tmp_path_factory.mktemp("stages") / "first")


# Sentences


def encoder(kind: str, **more: Any) -> TextEncoder:
    torch.manual_seed(0)
    return TextEncoder(**{"kind": kind, "words": 9, "length": 5, "embed": 3, "units": 4} | more)


TEXT = torch.tensor([[3, 1, 4, 1, 5], [2, 7, 0, 0, 0], [8, 0, 0, 0, 0]])


def test_the_recurrent_network_is_that_of_torch() -> None:
    """The state behind the last word, whatever fills the sentence up."""
    ours, theirs = encoder("gru"), nn.GRU(3, 4, batch_first=True)
    with torch.no_grad():
        theirs.weight_ih_l0.copy_(ours.input.weight)
        theirs.weight_hh_l0.copy_(ours.state.weight)
        theirs.bias_ih_l0.copy_(ours.input.bias)
        theirs.bias_hh_l0.copy_(ours.state.bias)
    for row, vector in zip(TEXT, ours(TEXT), strict=True):
        words = row[row > 0][None]
        assert torch.allclose(theirs(ours.table(words))[1][0, 0], vector, atol=1e-6)
    assert ours(ours.blank(2)).eq(0).all() and encoder("gru").input.weight.abs().max() <= 0.5


def test_a_bag_is_the_mean_of_its_words() -> None:
    bag = encoder("bag")
    for row, vector in zip(TEXT, bag(TEXT), strict=True):
        assert torch.allclose(bag.table(row[row > 0]).mean(0), vector)
    assert torch.allclose(bag(TEXT.flip(1)), bag(TEXT)) and bag(bag.blank(2)).eq(0).all()


def test_given_vectors_stay_as_they_are() -> None:
    given = encoder("given", words=0)
    rows = torch.randn(2, 5)
    assert given(rows) is rows and given.size == 5 and not list(given.parameters())
    assert encoder("gru")(rows) is rows  # a vector between those of two sentences


# Conditioning augmentation


def test_the_divergence_is_the_closed_form() -> None:
    """Of normal distributions with these means and variances from N(0, 1), by torch's own formula."""
    mean, log_variance = torch.randn(6, 3), torch.randn(6, 3)
    theirs = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, (log_variance / 2).exp()), torch.distributions.Normal(0.0, 1.0)
    )
    assert torch.allclose(kl_divergence(mean, log_variance), theirs.mean(), atol=1e-6)
    assert kl_divergence(torch.zeros(2, 3), torch.zeros(2, 3)) == 0


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_codes_have_the_mean_and_the_variance_that_the_layer_says(activation: str) -> None:
    torch.manual_seed(0)
    augmentation = Augmentation(inputs=5, code=3, activation=activation)
    vector = torch.randn(1, 5)
    mean, log_variance = augmentation.moments(vector)
    hidden = {
        "relu": F.relu,
        "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
        "glu": lambda x: x[:, :6] * x[:, 6:].sigmoid(),
        "none": lambda x: x,
    }[activation](augmentation.dense(vector))
    assert torch.equal(mean, hidden[:, :3]) and torch.equal(log_variance, hidden[:, 3:])
    codes = augmentation(vector.expand(20000, -1), torch.randn(20000, 3))
    assert torch.allclose(codes.mean(0), mean[0], atol=0.05)
    assert torch.allclose(codes.var(0), log_variance[0].exp(), rtol=0.05)
    assert torch.equal(augmentation(vector, torch.zeros(1, 3)), mean)


# The game


def test_no_caption_is_its_own_mismatch() -> None:
    rows = torch.tensor([[1, 2], [1, 2], [3, 0], [1, 2], [4, 4]])
    assert mismatched(rows).tolist() == [[3, 0], [3, 0], [1, 2], [4, 4], [1, 2]]
    torch.manual_seed(0)
    many = torch.randint(3, (50, 2))
    assert mismatched(many).ne(many).any(1).all()
    floats = torch.randn(7, 4)
    assert torch.equal(mismatched(floats), floats.roll(-1, 0))
    assert torch.equal(mismatched(torch.ones(3, 2)), torch.ones(3, 2))  # nothing else is there


class Judge(nn.Module):
    """D(x, c) = mean of x times mean of c, and of the image alone its mean."""

    channels, resolution = 1, 2

    def __init__(self, alone: bool):
        super().__init__()
        self.weight, self.alone = nn.Parameter(torch.ones(())), alone

    def forward(self, images: Tensor, text: Tensor) -> DiscriminatorOutput:
        mean = images.flatten(1).mean(1)
        return DiscriminatorOutput(self.weight * mean * text.mean(1), heads={ALONE: mean} if self.alone else {})


@pytest.mark.parametrize("alone", [False, True])
def test_the_discriminator_minimises_three_parts_of_which_two_are_halved(alone: bool) -> None:
    """StackGAN-Pytorch, miscc/utils.py: real + (fake + wrong) / 2, each the mean of cross-entropies."""
    torch.manual_seed(0)
    real, fake, right = torch.randn(4, 1, 2, 2), torch.randn(4, 1, 2, 2), torch.randn(4, 3)
    condition = Condition(embedding=right, mismatch=mismatched(right))
    pair = pair_of(Judge(alone))
    update = Update(player="discriminator", role="discriminator", shape=BatchShape(4, 2))
    outcome = pair.discriminator_outcome(update, real, fake, condition=condition)
    bce = F.binary_cross_entropy_with_logits

    def score(images: Tensor, text: Tensor) -> Tensor:
        return images.flatten(1).mean(1) * text.mean(1)

    ones, zeros, wrong = torch.ones(4), torch.zeros(4), right.roll(-1, 0)
    on_fake = (bce(score(fake, right), zeros) + bce(score(real, wrong), zeros)) / 2
    assert torch.allclose(outcome.terms["adversarial"], bce(score(real, right), ones) + on_fake)
    mean = outcome.metrics["score/mismatch"]
    assert torch.allclose(mean, score(real, wrong).mean()) and "probability/mismatch" in outcome.metrics
    assert (ALONE in outcome.terms) == alone
    made = pair.generator_outcome(update, None, fake, condition=condition)
    assert torch.allclose(made.terms["adversarial"], bce(score(fake, right), ones)) and set(made.terms) >= {
        "adversarial"
    }
    if alone:
        whole = bce(real.flatten(1).mean(1), ones) + bce(fake.flatten(1).mean(1), zeros)
        assert torch.allclose(outcome.terms[ALONE], whole)
        assert torch.allclose(made.terms[ALONE], bce(fake.flatten(1).mean(1), ones))


def test_mismatches_work_with_losses_that_compare() -> None:
    real, right = torch.randn(4, 1, 2, 2), torch.randn(4, 3)
    condition = Condition(embedding=right, mismatch=mismatched(right))
    update = Update(player="discriminator", role="discriminator", shape=BatchShape(4, 2))
    for loss in (LeastSquares(), Relativistic(), NonSaturating()):
        outcome = pair_of(Judge(False), loss).discriminator_outcome(update, real, -real, condition=condition)
        assert outcome.terms["adversarial"].isfinite()


def test_the_generator_also_minimises_twice_the_divergence() -> None:
    run = build(composed(*FIRST, "updates.share_fakes=false"))
    batch = run.data.examples(4)["images"]
    update = update_of(run, "generator")
    terms = run.game.outcome(update, {"images": batch}, {}).terms
    moments = run.game.pair.generator.moments(batch.condition.text)  # type: ignore[union-attr]
    assert torch.allclose(terms["kl"], 2 * kl_divergence(*moments)) and set(terms) == {"adversarial", "kl"}
    assert "kl" not in build(composed(*FIRST, "game.kl=0")).game.outcome(update, {"images": batch}, {}).terms


def test_samples_without_a_sentence_have_captions_of_the_data() -> None:
    run = build(composed(*FIRST))
    game: Any = run.game
    known = {tuple(row) for row in run.dataset.streams["images"].text.tolist()}  # type: ignore[union-attr]
    latent = game.latent(torch.randn(5, 8))
    assert {tuple(row) for row in latent.condition.text.tolist()} <= known
    assert {tuple(row) for row in game.grid_text.tolist()} <= known and game.rows == 2
    assert torch.equal(game.grid[:4], game.grid[4:]) and torch.equal(game.grid_text[:1], game.grid_text[3:4])
    assert len(torch.unique(game.grid_text, dim=0)) == 2
    text = torch.ones(5, game.grid_text.shape[1], dtype=torch.int64)
    assert game.latent(torch.randn(5, 8), Condition(labels=torch.zeros(5), text=text)).condition.tensor is text


@pytest.mark.parametrize("kind", ["bag", "given"])
def test_other_encoders_train(kind: str, tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.random.default_rng(0).normal(size=(60, 7)))
    more = [f"dataset.text={tmp_path / 'rows.npy'}"] if kind == "given" else []
    run = build(composed(*FIRST, f"model.text.kind={kind}", *more))
    rows = play(run, 0, 2).rows
    assert all(value.isfinite() for _, _, metrics in rows for value in metrics.values())
    assert run.game.sample().shape == (8, 3, 16, 16)


# Sentences at sampling


def asked(command: str, *words: str) -> str:
    """The line that a command prints."""
    with redirect_stdout(io.StringIO()) as out:
        assert main([command, *words]) == 0
    return out.getvalue()


def test_samples_are_drawn_for_sentences(stage1: Path, tmp_path: Path) -> None:
    out = tmp_path / "one.png"
    asked("sample", str(stage1), "text=a small red star", "count=4", f"out={out}", "device=cpu")
    assert out.is_file() and out.with_suffix(".txt").read_text().splitlines()[3] == "3\ta small red star"
    asked("sample", str(stage1), "text=[a small star,a large star]", "count=6", "format=npz", f"out={tmp_path}/two.npz")
    both = np.load(tmp_path / "two.npz")["images"]
    loaded = ganrun.load(stage1, device="cpu")
    assert loaded.vocabulary is not None
    text = loaded.vocabulary.encode(["a small star"] * 3 + ["a large star"] * 3)
    assert np.array_equal(to_pixels(draw(loaded.game, 6, seed=0, condition=Condition(text=text))), both)
    assert both.shape == (6, 16, 16, 3) and not np.array_equal(both[:3], both[3:])
    assert (stage1 / "samples" / "captions.txt").read_text().startswith("row 1: a ")


def test_a_walk_goes_from_sentence_to_sentence(stage1: Path, tmp_path: Path) -> None:
    words = ["text=[a small red star,a large blue square]", "rows=2", "frames=3", f"out={tmp_path}/walk.png"]
    assert "between 2 sentences" in asked("walk", str(stage1), *words) and (tmp_path / "walk.png").is_file()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["sample", "text=a smal star"], "text: 'smal' is in no caption, .*Try: 'text=a small star'"),
        (["walk", "text=[a star]"], "text: one sentence, expected two or more"),
        (["sample", "text=a star", "reject=true"], "reject: set, with text"),
    ],
)
def test_sentences_that_cannot_be_drawn_are_refused(stage1: Path, words: list[str], line: str) -> None:
    with redirect_stderr(io.StringIO()) as error:
        code = main([words[0], str(stage1), *words[1:]])
    assert code == 2 and re.search(line, error.getvalue()), error.getvalue()


# Networks of the paper's size: counted from the layers of StackGAN-Pytorch/code/model.py with text of 1024 numbers


def count(net: nn.Module, *without: str) -> int:
    return sum(p.numel() for name, p in net.named_parameters() if not name.startswith(without or ("-",)))


def given(size: int = 1024) -> TextEncoder:
    return TextEncoder(kind="given", words=0, length=size, embed=1, units=1)


def first(resolution: int = 64, width: int = 128) -> stackgan.Generator:
    return stackgan.Generator(
        text=given(), noise=100, code=128, augmentation="relu", channels=3, resolution=resolution, width=width,
        norm="batch", output="tanh", init=INIT,
    )  # fmt: skip


def discriminator(resolution: int, unconditional: bool, width: int = 64) -> stackgan.Discriminator:
    return stackgan.Discriminator(
        text=given(), code=128, channels=3, resolution=resolution, width=width, norm="batch", slope=0.2,
        unconditional=unconditional, output="linear", init=INIT,
    )  # fmt: skip


def up(inputs: int, outputs: int) -> int:
    return 9 * inputs * outputs + 2 * outputs


def test_parameters_are_those_of_the_authors_stage_one() -> None:
    ca, n = 1024 * 256 + 256, 1024
    dense = 228 * n * 16 + 2 * n * 16
    ups = up(n, n // 2) + up(n // 2, n // 4) + up(n // 4, n // 8) + up(n // 8, n // 16)
    assert count(first()) == ca + dense + ups + 9 * 64 * 3
    d = 64
    trunk = 16 * (3 * d + 2 * d * d + 8 * d * d + 32 * d * d) + 2 * (2 * d + 4 * d + 8 * d)
    head = up(8 * d + 128, 8 * d) + 16 * 8 * d + 1
    assert count(discriminator(64, unconditional=False), "compress") == trunk + head


def test_parameters_are_those_of_the_authors_stage_two() -> None:
    net = stackgan.SecondGenerator(
        text=given(), first=first(), noise=100, code=128, augmentation="relu", channels=3, resolution=256, width=128,
        residuals=4, norm="batch", output="tanh", init=INIT,
    )  # fmt: skip
    g, ca = 128, 1024 * 256 + 256
    encode = 27 * g + 16 * (2 * g * g + 8 * g * g) + 2 * (2 * g + 4 * g)
    residual = 4 * 2 * up(4 * g, 4 * g)
    ups = up(4 * g, 2 * g) + up(2 * g, g) + up(g, g // 2) + up(g // 2, g // 4)
    assert count(net) == ca + encode + up(128 + 4 * g, 4 * g) + residual + ups + 27 * g // 4
    d = 64
    trunk = 16 * 3 * d + sum(16 * 2 * (d * 2**i) ** 2 + 2 * d * 2 ** (i + 1) for i in range(5))
    trunk += up(32 * d, 16 * d) + up(16 * d, 8 * d)
    heads = up(8 * d + 128, 8 * d) + 2 * (16 * 8 * d + 1)
    assert count(discriminator(256, unconditional=True), "compress") == trunk + heads


# Stage II


def second(stage1: Path, *overrides: str) -> Run:
    return build(composed(*SECOND, f"game.stage1={stage1}", *overrides))


def test_stage_two_begins_with_the_averaged_generator_of_stage_one(stage1: Path, tmp_path: Path) -> None:
    folder = ganrun.train(composed(*SECOND, f"game.stage1={stage1}"), tmp_path / "second")
    of_first, of_second = ganrun.load(stage1, device="cpu"), ganrun.load(folder, device="cpu")
    theirs = of_first.generator.state_dict()
    frozen = of_second.generator.first.net  # type: ignore[union-attr]
    assert all(torch.equal(theirs[name], value) for name, value in frozen.state_dict().items()) and len(theirs) > 10
    assert of_second.settings["model"]["generator"]["first"] == of_first.settings["model"]["generator"]
    stage1.rename(stage1.with_name("elsewhere"))
    try:  # the run of stage II holds all that it needs
        assert ganrun.load(folder, device="cpu").sample(2).shape == (2, 3, 32, 32)
        resumed = ganrun.load(folder, device="cpu")
        assert resumed.step == 4
    finally:
        stage1.with_name("elsewhere").rename(stage1)


def test_stage_one_does_not_change(stage1: Path) -> None:
    run = second(
        stage1, "tricks=[ema,spectral_norm,historical_averaging,weight_decay]", "model.discriminator.norm=none"
    )
    generator: Any = run.game.named_pairs()["main"].generator
    before = {name: value.clone() for name, value in generator.first.net.state_dict().items()}
    loop(run, 0, 2)
    after = generator.first.net.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert any(key.endswith("generator.first.net.to_image.conv.weight") for key in run.game.state_dict())
    trained = {id(p) for player in run.engine.players.values() for p in player.parameters}
    assert not trained & {id(p) for p in generator.first.net.parameters()} and trained


def test_resume_is_exact_in_stage_two(stage1: Path) -> None:
    properties.check_resume((*SECOND, f"game.stage1={stage1}"))
    properties.check_no_sync((*SECOND, f"game.stage1={stage1}"))


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["game.stage1=null"], "model.generator.first: not set, expected .* Try: game.stage1=RUN"),
        (["game.stage1=nowhere"], "game.stage1: nowhere cannot be opened"),
        (["dataset.resolution=16"], "model.generator.resolution: 16 pixels, from the 16 of stage I.*resolution=64"),
        (["model.generator.noise=5"], "model.generator.noise: 5, but stage I has 4, .* Try: model.generator.noise=4"),
        (["dataset.seed=1"], r"game.stage1: .* captions of other words"),
        (["dataset.channels=1"], r"game.stage1: .* captions of other words"),
        (["model=stackgan"], "game.stage1: .* model.generator has no first stage, .*model=stackgan_stage2"),
        (["game.prior=uniform"], "game.prior: uniform, but a part of the noise"),
        (["model.text.kind=given"], "model.text.kind|model.generator.text.kind: given, but dataset.text is words"),
        (["dataset.text=null"], r"model.generator.text.length|game.stage1: .* captions of other words"),
    ],
)
def test_what_does_not_fit_is_refused(stage1: Path, overrides: list[str], line: str) -> None:
    chosen = [o for o in SECOND if not (overrides[0] == "model=stackgan" and "residuals" in o)]
    with pytest.raises(ConfigError, match=f"^({line})"):
        build(composed(*chosen, f"game.stage1={stage1}", *overrides))


def test_models_and_games_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^model.generator: it reads no sentences.* Try: game=latent"):
        built("game=text")
    with pytest.raises(ConfigError, match=r"^model.generator.text.length: 0, as no captions are read"):
        build(composed(*FIRST, "dataset.text=null"))


@pytest.mark.slow
def test_sentences_and_pictures_are_compared_by_classifiers(stage1: Path) -> None:
    """Of a run that has learnt nothing, so that all but the numbers of the real images are near chance."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
    from judge_shapes import evaluate

    found = evaluate(stage1, samples=1, seed=0, reals=200, others=60)
    assert found["samples"] == 3 * 7 * 5 and {"colour", "shape", "size", "all_three", "size_by_chance"} <= found.keys()
    assert found["colour_of_reals"] > found["colour_by_chance"] and found["all_three"] < 0.5  # type: ignore[operator]
