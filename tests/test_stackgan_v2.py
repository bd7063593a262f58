"""StackGAN++: networks, losses and colours by hand, the authors' parameter counts, exact resume."""

import io
from contextlib import redirect_stdout
from itertools import pairwise
from pathlib import Path
from typing import Any

import properties
import pytest
import torch
import torch.nn.functional as F
from support import built, composed, drawn, loop, mostly_slow, pair_in, play, tiny, update_of
from torch import Tensor, nn

import ganrun
from ganrun.cli.main import main
from ganrun.config.build import Run, build
from ganrun.core.context import ALONE, Latent
from ganrun.core.errors import ConfigError
from ganrun.core.images import pyramid, scales
from ganrun.games.pyramid import colour_consistency, moments
from ganrun.games.text import kl_divergence, mismatched
from ganrun.games.text_pyramid import TextPyramidGame
from ganrun.models.stackgan_v2 import Discriminator, Generator
from ganrun.models.text import TextEncoder

SMALL = ("batch=4", "steps=4", "game.grid=8", "engine.device=cpu", "engine.precision=fp32", "metrics=none",
         "diagnosis=none", "dataset.size=60", "model.text.embed=4", "model.generator.noise=4", "model.generator.code=4",
         "model.generator.width=4", "model.generator.residuals=1", "model.discriminator.width=4",
         "model.discriminator.code=4")  # fmt: skip
RUN = ("experiment=stackgan_v2", "dataset.resolution=32", *SMALL)
INIT = {"kind": "normal", "scale": 0.5, "gain_scale": 0.5}
SMOOTH = 1e-5  # of batch norm


def given(size: int = 5) -> TextEncoder:
    return TextEncoder(kind="given", words=0, length=size, embed=1, units=1)


def generator(**changed: Any) -> Generator:
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "text": given(), "noise": 3, "code": 2, "augmentation": "glu", "channels": 3, "resolution": 32, "scales": 3,
        "width": 8, "residuals": 2, "norm": "batch", "output": "tanh", "init": INIT}  # fmt: skip
    return Generator(**settings | changed)


def discriminator(**changed: Any) -> Discriminator:
    torch.manual_seed(1)
    settings: dict[str, Any] = {
        "text": given(), "code": 2, "channels": 3, "resolution": 32, "scales": 3, "width": 4, "norm": "batch",
        "slope": 0.2, "unconditional": True, "output": "linear", "init": INIT}  # fmt: skip
    return Discriminator(**settings | changed)


def count(net: nn.Module, *without: str) -> int:
    return sum(p.numel() for name, p in net.named_parameters() if not name.startswith(without or ("-",)))


# The generator


class Weights:
    """The weights of a network in the order in which its layers act, each once."""

    def __init__(self, *modules: nn.Module):
        self.layers = [layer for module in modules for layer in module.modules() if not [*layer.children()]]
        self.layers = [layer for layer in self.layers if [*layer.parameters(recurse=False)]]

    def next(self) -> Any:
        return self.layers.pop(0)

    def conv(self, maps: Tensor) -> Tensor:
        """A convolution of 3x3 that keeps the size, and batch norm."""
        return self.norm(F.conv2d(maps, self.next().weight, padding=1))

    def norm(self, values: Tensor) -> Tensor:
        layer = self.next()
        axes = [axis for axis in range(values.dim()) if axis != 1]
        apart = values - values.mean(axes, keepdim=True)
        shape = [1, -1, *[1] * (values.dim() - 2)]
        scaled = apart / (apart.square().mean(axes, keepdim=True) + SMOOTH).sqrt()
        return scaled * layer.weight.view(shape) + layer.bias.view(shape)


def glu(values: Tensor) -> Tensor:
    half = values.shape[1] // 2
    return values[:, :half] * values[:, half:].sigmoid()


def doubled(maps: Tensor) -> Tensor:
    return maps.repeat_interleave(2, 2).repeat_interleave(2, 3)


def by_hand(net: Generator, noise: Tensor, text: Tensor) -> list[Tensor]:
    """INIT_STAGE_G, NEXT_STAGE_G and GET_IMAGE_G of the authors' model.py, in training."""
    hidden = glu(text @ net.augmentation.dense.weight.T + net.augmentation.dense.bias)
    mean, log_variance = hidden[:, :2], hidden[:, 2:]
    code = mean + (log_variance / 2).exp() * noise[:, 3:]
    own = Weights(net.blocks)
    flat = glu(own.norm(torch.cat([noise[:, :3], code], 1) @ own.next().weight.T))
    maps, made = glu(own.conv(doubled(flat.view(-1, 4, 4, 16).permute(0, 3, 1, 2)))), []
    for stage in range(3):
        if stage:
            wide = code[:, :, None, None].expand(-1, -1, *maps.shape[2:])
            maps = glu(own.conv(torch.cat([maps, wide], 1)))
            for _ in range(2):
                maps = maps + own.conv(glu(own.conv(maps)))
            maps = glu(own.conv(doubled(maps)))
        made.append(F.conv2d(maps, net.to_image[stage].weight, padding=1).tanh())
    assert not own.layers, "every layer acted"
    return made


def test_the_generator_is_that_of_the_authors() -> None:
    net, noise, text = generator(), torch.randn(6, 5), torch.randn(6, 5)
    made = net(noise, text)
    assert [one.shape for one in made] == [(6, 3, 8, 8), (6, 3, 16, 16), (6, 3, 32, 32)] and net.latent == 5
    for ours, theirs in zip(made, by_hand(net, noise, text), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-4)


def test_the_code_reaches_every_stage() -> None:
    """Without what it has at the beginning, the smallest image does not depend on the sentence, and the others do."""
    net, noise, text = generator(), torch.randn(6, 5), torch.randn(6, 5)
    with torch.no_grad():
        net.blocks[0].dense.weight[:, 3:] = 0
    same = [torch.allclose(*both) for both in zip(net(noise, text), net(noise, text + 1), strict=True)]
    assert same == [True, False, False]


# The discriminators


def test_each_scale_has_a_discriminator_of_its_own() -> None:
    """Another image at one scale changes its score alone, of image and sentence and of the image alone."""
    net, text = discriminator().eval(), torch.randn(5, 5)
    images = list(pyramid(torch.randn(5, 3, 32, 32), 3))
    before = net(tuple(images), text)
    assert before.score.shape == before.alone.shape == (5, 1, 1, 3) and len(before.features) == 1 + 2 + 3
    for scale in range(3):
        other = [torch.randn_like(one) if number == scale else one for number, one in enumerate(images)]
        after = net(tuple(other), text)
        for found, was in ((after.score, before.score), (after.alone, before.alone)):
            assert (found != was).flatten(1).any(0).tolist() == [number == scale for number in range(3)]
    without = net(tuple(images), text + 1)
    assert without.score.ne(before.score).all() and torch.equal(without.alone, before.alone)
    assert torch.equal(net(images[-1], text).score, before.score), "one image has the scales that a real has"


def parts(run: Run, text: Tensor, wrong: Tensor, real: Tensor, made: tuple[Tensor, ...]) -> list[dict[str, Tensor]]:
    """For each scale what the authors' trainer.py adds up, by name, from D's own scores of this scale."""
    net, bce = pair_in(run).discriminator, F.binary_cross_entropy_with_logits
    right, other, fake = net(pyramid(real, 3), text), net(pyramid(real, 3), wrong), net(made, text)
    found = []
    for scale in range(3):
        one = {name: out.score[..., scale] for name, out in (("real", right), ("wrong", other), ("fake", fake))}
        alone = {"real": right.alone[..., scale], "fake": fake.alone[..., scale]}
        ones, zeros = torch.ones(4, 1, 1), torch.zeros(4, 1, 1)
        conditional = bce(one["real"], ones) + (bce(one["wrong"], zeros) + bce(one["fake"], zeros)) / 2
        found.append({"adversarial": conditional, ALONE: bce(alone["real"], ones) + bce(alone["fake"], zeros),
                      "of G": bce(one["fake"], ones), "of G, alone": bce(alone["fake"], ones)})  # fmt: skip
    return found


def test_losses_are_the_mean_over_scales_of_each_discriminators_own() -> None:
    """Conditional on matched, mismatched and made pairs, unconditional on images, for both players."""
    run = build(composed(*RUN, "updates.share_fakes=false", "game.colour=2.0"))
    game, pair = run.game, pair_in(run)
    assert isinstance(game, TextPyramidGame)
    (batches,) = drawn(run, update_of(run, "discriminator"))
    text, real = batches["images"].condition.text, batches["images"].images
    assert text is not None
    torch.manual_seed(5)
    made = pair.generator(torch.randn(4, 8), text)
    own = parts(run, text, mismatched(text), real, made)
    for player, names in (
        ("discriminator", {"adversarial": "adversarial", ALONE: ALONE}),
        ("generator", {"adversarial": "of G", ALONE: "of G, alone"}),
    ):
        torch.manual_seed(5)
        terms = game.outcome(update_of(run, player), batches, {}).terms  # type: ignore[arg-type]
        for name, theirs in names.items():
            assert torch.allclose(terms[name], torch.stack([one[theirs] for one in own]).mean(), atol=1e-5)
        more = set(terms) - set(names)
        assert more == ({"kl", "colour"} if player == "generator" else set())
    assert torch.allclose(terms["kl"], 0.2 * kl_divergence(*pair.generator.moments(text)))  # type: ignore[operator]
    assert torch.allclose(terms["colour"], 2 * colour_consistency(made)) and terms["colour"] > 0


# Colours


def test_colours_of_neighbouring_scales_are_compared_pixel_by_pixel() -> None:
    """Means and covariances by loops; 1 and 5 times the mean squares of their differences, summed over neighbours."""
    torch.manual_seed(0)
    made = tuple(torch.rand(2, 3, size, size) for size in (2, 4, 8))
    total = 0.0
    for small, large in pairwise(made):
        for one, other in zip(small, large, strict=True):
            means = [[float(channel.mean()) for channel in image] for image in (one, other)]
            pixels = [image.flatten(1).T.tolist() for image in (one, other)]
            spread = [[[sum((p[i] - mean[i]) * (p[j] - mean[j]) for p in points) / len(points) for j in range(3)]
                       for i in range(3)] for mean, points in zip(means, pixels, strict=True)]  # fmt: skip
            total += sum((a - b) ** 2 for a, b in zip(*means, strict=True)) / 3 / 2
            total += 5 * sum((spread[0][i][j] - spread[1][i][j]) ** 2 for i in range(3) for j in range(3)) / 9 / 2
    assert colour_consistency(made).item() == pytest.approx(total, rel=1e-4)
    assert torch.allclose(moments(made[1])[1][0], torch.cov(made[1][0].flatten(1), correction=0), atol=1e-6)
    assert colour_consistency(pyramid(torch.ones(2, 3, 8, 8), 3)) == 0


def test_the_smaller_scale_is_not_pulled_to_the_larger() -> None:
    made = tuple(torch.rand(2, 3, size, size, requires_grad=True) for size in (2, 4, 8))
    colour_consistency(made).backward()
    assert made[0].grad is None and made[1].grad is not None and made[2].grad is not None
    alone = tuple(one.detach().requires_grad_() for one in made)
    colour_consistency(alone[:2]).backward()
    assert torch.equal(alone[1].grad, made[1].grad), "as a larger scale it learns, as a smaller one it does not"  # type: ignore[arg-type]


def test_colours_are_a_setting_of_every_game_of_pyramids() -> None:
    run = built("game.colour=3.0", "game.grid=4", "updates.share_fakes=false", model="msggan")
    terms = play(run, 0, 1).rows[-1][2]
    assert terms["loss/generator/colour"] >= 0
    with pytest.raises(ConfigError, match=r"^game\.colour: -1"):
        built("game.colour=-1", model="msggan")


# Networks of the paper's size: counted from the layers of StackGAN-v2/code/model.py with text of 1024 numbers


def up(inputs: int, outputs: int) -> int:
    return 9 * inputs * outputs + 2 * outputs


def test_parameters_are_those_of_the_authors() -> None:
    """G_NET, D_NET64, D_NET128 and D_NET256 of birds_3stages.yml: GF_DIM 64, DF_DIM 64, R_NUM 2."""
    with torch.device("meta"):
        net = generator(text=given(1024), noise=100, code=128, resolution=256, width=64)
        whole = discriminator(text=given(1024), code=128, resolution=256, width=64)
    ca, n = 1024 * 512 + 512, 1024
    first = 228 * n * 16 * 2 + 2 * n * 16 * 2 + sum(up(n // 2**i, n // 2**i) for i in range(4))  # twice n / 2^(i+1)
    later = sum(up(g + 128, 2 * g) + 2 * (up(g, 2 * g) + up(g, g)) + up(g, g) for g in (64, 32))
    images = 9 * 3 * (64 + 32 + 16)
    assert count(net) == ca + first + later + images == 21_239_696
    d, joint = 64, up(8 * 64 + 128, 8 * 64) + 2 * (16 * 8 * 64 + 1)
    trunk = 16 * (3 * d + 2 * d * d + 8 * d * d + 32 * d * d) + 2 * (2 * d + 4 * d + 8 * d)
    down32 = 16 * 8 * d * 16 * d + 2 * 16 * d
    down64 = 16 * 16 * d * 32 * d + 2 * 32 * d
    sizes = [
        trunk,
        trunk + down32 + up(16 * d, 8 * d),
        trunk + down32 + down64 + up(32 * d, 16 * d) + up(16 * d, 8 * d),
    ]
    assert count(whole, "compress") == sum(sizes) + 3 * joint == 95_827_206


# The whole game


def test_resume_is_exact() -> None:
    properties.check_resume((*RUN, "game.colour=1.0", "tricks=[orthogonal_init,ema,r1]", "tricks.r1.every=2",
                             "model.discriminator.norm=none"))  # fmt: skip


def test_a_picture_shows_all_scales_of_each_sentence() -> None:
    run = build(composed(*RUN))
    game: Any = run.game
    shown, whole = game.pictures()["scales"], game.sample()
    assert shown.shape == (8, 3, 3, 32, 32) and torch.equal(shown[:, 2], whole)
    wide = build(composed(*RUN, "game.grid=16")).game
    assert torch.equal(wide.pictures()["scales"][:, 2], wide.sample()[::2]), "of more, some from every sentence"
    with game.drawing() as drawing:
        made = scales(drawing.made(game.latent(torch.randn(3, 8))))
    assert [one.shape[-1] for one in made] == [8, 16, 32]


def test_penalties_are_the_mean_over_the_discriminators() -> None:
    """As if each of them had its own, at its own mix of reals and fakes."""
    run = build(composed(*RUN, "model.discriminator.norm=none", "tricks=[gp]", "tricks.gp.weight=6"))
    torch.manual_seed(0)
    pair, (batches,) = pair_in(run), drawn(run, update_of(run, "discriminator"))[:1]
    torch.manual_seed(3)
    found = run.game.outcome(update_of(run, "discriminator"), batches, {}).terms["gp"]
    torch.manual_seed(3)
    latent, fake = run.game._fakes(run.game.shape, batches["images"].condition)  # type: ignore[attr-defined]
    assert isinstance(latent, Latent)
    real, share = pyramid(batches["images"].images, 3), torch.rand(4, 1, 1, 1)
    mixed = tuple(torch.lerp(b.detach(), a, share).requires_grad_() for a, b in zip(real, fake, strict=True))
    score = pair.judge(mixed, batches["images"].condition).score
    slopes = [torch.autograd.grad(score[..., s].sum(), mixed[s], retain_graph=True)[0].flatten(1).norm(dim=1)
              for s in range(3)]  # fmt: skip
    expected = torch.stack([6 * (slope - 1).square().mean() for slope in slopes]).mean()
    assert torch.allclose(found, expected, rtol=1e-3)


@pytest.mark.parametrize("trick", mostly_slow(["top_k", "soft_labels", "mirror", "feature_matching"], 4))
def test_tricks_train_beside_it(trick: str) -> None:
    more = ["tricks.top_k.interval=1", "tricks.top_k.decay=0.5"] if trick == "top_k" else []
    run = build(composed(*RUN, f"tricks=[{trick}]", "model.discriminator.norm=none", *more))
    loop(run, 0, 3)
    assert run.game.sample().isfinite().all()


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (
            ["model.scales=5"],
            r"model.generator.scales: 5, of 32 pixels, expected at most 3\. Try: dataset.resolution=128",
        ),
        (["model.scales=1"], "model.generator.scales: 1, expected a whole number from 2 to 5"),
        (["game=text"], "model.generator: it makes images of 3 sizes at once, .*Try: game=text_pyramid"),
        (["game=pyramid", "~game.kl"], "model.generator: it reads sentences"),
        (["game.prior=uniform"], "game.prior: uniform, but a part of the noise"),
        (["game.colour=-1"], "game.colour: -1, expected a number of at least 0"),
        (["tricks=[diffaugment]"], r"tricks\.diffaugment: needs images of one resolution"),
    ],
)
def test_what_does_not_fit_is_refused(overrides: list[str], line: str) -> None:
    with pytest.raises(ConfigError, match=f"^({line})"):
        build(composed(*RUN, *overrides))


def test_other_models_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^model.generator: it makes images of one size, .*Try: model=stackgan_v2"):
        build(composed(*tiny("game=text_pyramid", model="stackgan")))
    with pytest.raises(ConfigError, match=r"^model.generator: it reads no sentences"):
        built("game=text_pyramid", model="msggan")


# Sentences at sampling


def asked(command: str, *words: str) -> str:
    """The line that a command prints."""
    with redirect_stdout(io.StringIO()) as out:
        assert main([command, *words]) == 0
    return out.getvalue()


@pytest.mark.slow
def test_a_run_leaves_its_pictures_and_draws_from_sentences(tmp_path: Path) -> None:
    run = ganrun.train(composed(*RUN), tmp_path / "run")
    names = {path.name for path in (run / "samples").iterdir()}
    assert {"reals.png", "scales_00000004.png", "step_00000004.png", "captions.txt"} <= names
    out = tmp_path / "one.png"
    asked("sample", str(run), "text=a small red star", "count=4", f"out={out}", "device=cpu")
    assert out.with_suffix(".txt").read_text().splitlines()[3] == "3\ta small red star"
    walk = ["text=[a small red star,a large blue square]", "rows=2", "frames=3", f"out={tmp_path}/walk.png"]
    assert "between 2 sentences" in asked("walk", str(run), *walk) and (tmp_path / "walk.png").is_file()
    assert ganrun.load(run, device="cpu").sample(2, seed=1).shape == (2, 3, 32, 32)
