"""Tricks inside the networks: closed forms, what they refuse, and that runs with them resume, copy and sample."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from typing import Any

import pytest
import torch
import yaml
from omegaconf import DictConfig, OmegaConf
from support import drawn, progress
from torch import nn
from torch.nn.utils import parametrize
from torch.utils._python_dispatch import TorchDispatchMode

from ganrun.config.build import Run, build
from ganrun.config.compose import compose
from ganrun.config.groups import CONF
from ganrun.core.context import Progress
from ganrun.core.engine import chain_of
from ganrun.core.errors import ConfigError
from ganrun.core.facts import Fact
from ganrun.core.seeding import reseed
from ganrun.core.traits import Level
from ganrun.models import base, dcgan
from ganrun.models.epilogues import MinibatchDiscrimination, MinibatchStddev
from ganrun.run.state import restore, state_of
from ganrun.tricks.layers import Attention, SteadyDropout
from ganrun.tricks.norms import PixelwiseNorm, Reference, VirtualNorm
from ganrun.tricks.reparametrisation import Spectral, fan_in

TRICKS = (
    *("minibatch_discrimination", "minibatch_stddev", "virtual_batch_norm", "self_attention", "pixel_norm"),
    *("layer_norm", "instance_norm", "group_norm", "no_norm", "generator_dropout"),
    *("equalized_lr", "weight_norm", "spectral_norm", "orthogonal_init", "xavier_init", "normal_init"),
)
# Those whose state is more than weights, or that draw.
STATEFUL = ("minibatch_discrimination", "virtual_batch_norm", "weight_norm", "spectral_norm", "generator_dropout")
MODELS = {
    "dcgan": ["model.generator.width=4", "model.discriminator.width=4"],
    "mlp": ["model=mlp", "model.generator.hidden=[16,16]", "model.discriminator.hidden=[16,16]"],
    "keep_calm": ["model=keep_calm", "model.generator.width=4", "model.discriminator.width=4"],
}
TINY = ["dataset.resolution=16", "batch=4", "engine.device=cpu", "game.grid=4", "engine.precision=fp32"]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def make(tricks: str, *overrides: str, model: str = "dcgan", loss: str = "nonsaturating") -> Run:
    """A run with these tricks, small; attention where a network of 16 pixels has maps."""
    cfg = composed(f"loss={loss}", *TINY, *MODELS[model])
    for name in filter(None, tricks.split(",")):
        file = CONF / "tricks" / f"{name}.yaml"
        node = OmegaConf.load(file)
        cfg = OmegaConf.merge(cfg, node if "@package _global_" in file.read_text() else {"tricks": node})
    small = ["tricks.self_attention.at=8"] if "self_attention" in tricks else []
    for override in (*small, *overrides):
        key, _, value = override.partition("=")
        OmegaConf.update(cfg, key, yaml.safe_load(value))
    assert isinstance(cfg, DictConfig)
    return build(cfg)


@cache
def _composed(*overrides: str) -> DictConfig:
    return compose(["model=dcgan", "tricks=[]", *overrides])


def composed(*overrides: str) -> Any:
    """A configuration without tricks. Composing takes longer than all else here, so tricks are merged by hand."""
    cfg = deepcopy(_composed(*overrides))
    OmegaConf.set_struct(cfg, False)
    return cfg


def play(run: Run, first: int, last: int, *, sampling: bool = False) -> None:
    for step in range(first, last):
        reseed(0, "train", step=step)
        run.engine.begin(Progress(step))
        for update in run.updates(run.game, step):
            run.engine.run(update, drawn(run, update))
        if sampling:
            run.game.sample()


def nets(run: Run) -> tuple[Any, Any]:
    pair = run.game.pairs["main"]
    return pair.generator, pair.discriminator


# Properties of all of them ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STATEFUL)
def test_resume_is_exact_and_sampling_does_not_disturb(name):
    """3 steps, saved, loaded elsewhere, and 3 more are 6 steps, bit for bit, with samples drawn on the way or not."""
    straight, first, second = (make(f"{name},ema") for _ in range(3))
    play(straight, 0, 6)
    grid = straight.game.sample()
    play(first, 0, 3, sampling=True)
    file = io.BytesIO()
    torch.save(state_of(first, progress(first, 3)), file)
    file.seek(0)
    restore(second, torch.load(file, weights_only=True), "here")
    play(second, 3, 6)
    drawn = second.game.sample()
    for (key, one), other in zip(straight.game.state_dict().items(), second.game.state_dict().values(), strict=True):
        assert torch.equal(one, other), key
    assert torch.equal(drawn, grid)  # the same step, the same grid


class NoSync(TorchDispatchMode):
    """Refuses what makes the host wait for the device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert not any(word in str(func) for word in ("_local_scalar_dense", "nonzero", "masked_select")), func
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("model", ["mlp", "keep_calm"])  # test_families.py has all tricks on a DCGAN
@pytest.mark.parametrize("name", TRICKS)
def test_no_sync_and_steady_addresses_in_bf16(name, model):
    try:
        run = make(f"{name},ema", "engine.precision=bf16", model=model)
    except ConfigError as error:
        assert len(error.lines) == 1 and "model" in error.lines[0]
        assert model == "mlp" and name in ("virtual_batch_norm", "self_attention", "instance_norm", "group_norm")
        return
    before = {key: value.data_ptr() for key, value in run.game.state_dict().items()}
    reseed(0, "train")
    run.engine.begin(Progress(0))
    for update in run.updates(run.game, 0):
        fakes = {}
        for one, batches in zip(chain_of(update), drawn(run, update), strict=True):
            with NoSync():
                outcome = run.game.outcome(one, batches, fakes)
            fakes = outcome.fakes
    play(run, 0, 2)
    assert {key: value.data_ptr() for key, value in run.game.state_dict().items()} == before
    assert run.game.sample().isfinite().all()
    assert all(p.isfinite().all() for p in run.game.parameters())


@pytest.mark.parametrize("name", TRICKS)
def test_average_of_generator_computes_what_a_copy_does(name):
    """EMA copies the generator when bound; before the first update the two are the same function."""
    run = make(f"{name},ema")
    generator, average = nets(run)[0], run.game.pairs["main"].tricks["ema"].average
    noise = torch.randn(4, 100)
    torch.manual_seed(1)
    one = generator.eval()(noise)
    torch.manual_seed(1)
    assert torch.allclose(one, average(noise), atol=1e-6)
    assert not {p.data_ptr() for p in generator.state_dict().values()} & {
        p.data_ptr() for p in average.state_dict().values()
    }


@pytest.mark.parametrize("name", [t for t in TRICKS if t not in ("generator_dropout", "pixel_norm", "normal_init")])
def test_gradient_penalty_through_them(name):
    """The gradient of D's slope reaches every weight, in bf16 too, except what only batch norm forbids."""
    more = ["tricks.virtual_batch_norm.role=both"] if name == "virtual_batch_norm" else []
    norms = ("layer_norm", "instance_norm", "group_norm", "no_norm", "virtual_batch_norm")
    free = [] if name in norms else ["model.discriminator.norm=none"]
    run = make(f"{name},gp", *more, *free, "engine.precision=bf16", loss="wasserstein")
    play(run, 0, 2)
    for key, p in nets(run)[1].named_parameters():
        assert p.grad is not None and p.grad.isfinite().all(), key
        dead = key.endswith("head.score.bias") or "bias" in key or "gamma" in key or "attention" in key
        assert dead or p.grad.abs().max() > 0, key


@pytest.mark.parametrize("name", ["layer_norm", "instance_norm", "group_norm", "no_norm"])
def test_norm_settings_reach_the_discriminator(name):
    judge = nets(make(name))[1]
    kinds = {type(layer) for layer in judge.modules()} & {nn.BatchNorm2d, nn.GroupNorm}
    assert kinds == (set() if name == "no_norm" else {nn.GroupNorm})
    groups = {"layer_norm": 1, "instance_norm": 8, "group_norm": 8}  # gcd(32, 8)
    if name in groups:
        assert judge.blocks[1].norm.num_groups == groups[name]
    assert Fact.PER_SAMPLE not in judge.traits.invalidates


# Minibatch layers ---------------------------------------------------------------------------------------------------


def test_stddev_by_hand():
    """Groups interleave; within one, the population deviation of each feature, averaged over features."""
    layer = MinibatchStddev(group=4, eps=1e-8)
    maps = torch.zeros(8, 2, 3, 3)
    maps[1::2, 0] = torch.tensor([0.0, 2.0, 0.0, 2.0])[:, None, None]  # odd images: deviation 1 in one map of two
    vectors = layer(maps).unflatten(1, (3, 3, 3)).permute(0, 3, 1, 2)  # folded channels last
    assert layer.fit((2, 3, 3)) == 27
    assert torch.equal(vectors[:, :2], maps)
    assert torch.allclose(vectors[1::2, 2], torch.tensor(0.5 + 0.5e-4), atol=1e-6)
    assert torch.allclose(vectors[::2, 2], torch.tensor(1e-4), atol=1e-8)  # sqrt(eps), with a finite gradient
    same = torch.ones(4, 2, 3, 3, requires_grad=True)
    layer(same).sum().backward()
    assert same.grad is not None and same.grad.isfinite().all()
    units = layer(torch.tensor([[1.0], [3.0], [1.0], [3.0]]))
    assert torch.allclose(units[:, 1], torch.tensor(1.0))


def test_discrimination_by_hand():
    layer = MinibatchDiscrimination(kernels=2, dims=3, scale=0.05, bias=-1.0)
    assert layer.fit((4,)) == 6
    with torch.no_grad():
        layer.log_scale.copy_(torch.randn(2, 3) * 0.1)
    x = torch.randn(5, 4)
    out = layer(x)
    assert torch.equal(out[:, :4], x)
    theta, scale = layer.theta.tolist(), layer.log_scale.tolist()
    for b in range(2):
        norms = [math.sqrt(sum(theta[a][b][c] ** 2 for a in range(4))) for c in range(3)]
        for i in range(5):
            total = -1.0
            for j in range(5):
                if j != i:
                    gaps = [
                        sum((x[i, a] - x[j, a]).item() * theta[a][b][c] for a in range(4)) / norms[c]
                        for c in range(3)
                    ]  # fmt: skip
                    total += math.exp(-sum(abs(g) * math.exp(scale[b][c]) for c, g in enumerate(gaps)))
            assert out[i, 4 + b].item() == pytest.approx(total, abs=1e-5)


def test_discrimination_of_equal_images_counts_the_others():
    layer = MinibatchDiscrimination(kernels=3, dims=2, scale=0.05, bias=0.0)
    layer.fit((2, 2, 2))
    out = layer(torch.randn(1, 2, 2, 2).expand(7, -1, -1, -1))
    assert torch.allclose(out[:, 8:], torch.tensor(6.0))


def test_discrimination_calibrates_to_reals():
    """As in the paper's code: the nearest other image is 2 away on average, and outputs are 0 on average."""
    layer = MinibatchDiscrimination(kernels=4, dims=5, scale=0.05, bias=-1.0)
    layer.fit((6,))
    x = 30 * torch.randn(8, 6)
    layer.calibrate(x)
    distances = layer._distances(x) + 1e9 * torch.eye(8)[:, :, None]
    assert torch.allclose(distances.amin(1).mean(0), torch.tensor(2.0), rtol=1e-4)
    assert torch.allclose(layer(x)[:, 6:].mean(0), torch.zeros(4), atol=1e-6)
    layer.calibrate(torch.ones(3, 6))  # no distance at all
    assert layer.log_scale.isfinite().all()


@pytest.mark.parametrize("name", ["minibatch_discrimination", "minibatch_stddev"])
@pytest.mark.parametrize("model", ["dcgan", "mlp", "keep_calm"])
def test_minibatch_layers_read_the_batch(name, model):
    """A score depends on its batch mates, the features do not; the traits say so."""
    run = make(name, "model.discriminator.norm=none", "model.discriminator.dropout=0", model=model)
    judge = nets(run)[1].eval()
    assert Fact.ALONE in judge.traits.invalidates and Fact.PER_SAMPLE not in judge.traits.invalidates
    if name == "minibatch_discrimination":  # calibrated when bound
        layer = judge.head.epilogue
        assert layer.bias.abs().max() > 0 and not torch.allclose(layer.bias, torch.tensor(-1.0))
    one = run.source.draw(run.game.shape).images
    other = torch.cat([one[:1], torch.randn_like(one[1:])])
    (score, features, _), (changed, same, _) = judge(one), judge(other)
    assert score[0] != changed[0]
    assert torch.allclose(features[-1][0], same[-1][0], atol=1e-6)


def test_minibatch_layers_warn_beside_a_penalty_and_check_the_batch():
    run = make("minibatch_stddev,gp", "model.discriminator.norm=none")
    assert [(f.id, f.level) for f in run.diagnostics] == [("C12", Level.WARNING)]
    with pytest.raises(
        ConfigError, match=r"groups of 4 images do not divide a batch of 6.*Try: batch=8 or .*group=2.*C13"
    ):
        make("minibatch_stddev", "batch=6")
    play(make("minibatch_stddev", "batch=6", "force=[C13]"), 0, 1)
    with pytest.raises(ConfigError, match=r"compares images, and the batch has one. Try: batch=2"):
        make("minibatch_discrimination", "batch=1", "model.discriminator.norm=none", "model.generator.norm=none")
    with pytest.raises(
        ConfigError, match=r"^model.discriminator.epilogue.group: 1; tricks.minibatch_stddev sets .*, expected a whole"
    ):
        make("minibatch_stddev", "model.discriminator.epilogue.group=1")
    with pytest.raises(ConfigError, match="epilogue"):
        make("minibatch_stddev,minibatch_discrimination")


# Norms --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3, 4, 5), (3,)])
def test_virtual_norm_is_the_papers_blend(shape):
    """mu and E[x^2] blended with weights 1 / (R + 1) and R / (R + 1), in the paper's own form."""
    batch = (nn.BatchNorm2d if len(shape) == 3 else nn.BatchNorm1d)(3)
    with torch.no_grad():
        batch.weight.copy_(torch.randn(3))
        batch.bias.copy_(torch.randn(3))
    layer = VirtualNorm(like=batch, eps=1e-5).double()
    layer.ahead = 6
    x = 2 + 3 * torch.randn(6 + 2, *shape, dtype=torch.double)
    made = layer(x)
    assert torch.allclose(made[:6], batch.double()(x[:6]))  # the reference gets ordinary batch norm
    dims = (0, 2, 3)[: len(shape)]
    view = (3, *[1] * (len(shape) - 1))
    for i in (6, 7):
        own = x[i : i + 1]
        first = own.mean(dims) / 7 + x[:6].mean(dims) * 6 / 7
        second = own.square().mean(dims) / 7 + x[:6].square().mean(dims) * 6 / 7
        normal = (x[i] - first.view(view)) / (second - first.square() + 1e-5).sqrt().view(view)
        assert torch.allclose(made[i], normal * layer.weight.view(view) + layer.bias.view(view))


@pytest.mark.parametrize("model", ["dcgan", "keep_calm"])
def test_virtual_batch_norm_makes_images_independent(model):
    run = make("virtual_batch_norm,ema", "tricks.virtual_batch_norm.role=both", model=model)
    play(run, 0, 2)
    generator, judge = nets(run)
    assert not [m for net in (generator, judge) for m in net.modules() if "BatchNorm" in type(m).__name__]
    assert Fact.PER_SAMPLE not in judge.traits.invalidates
    noise = torch.randn(5, 100)
    images = generator(noise)
    assert images.shape[0] == 5
    for i in range(5):  # whatever its company, in training and when sampling
        assert torch.allclose(generator(noise[i : i + 1]), images[i : i + 1], atol=1e-5)
        assert torch.allclose(generator.eval()(noise[i : i + 1]), images[i : i + 1], atol=1e-5)
        generator.train()
    judge.eval()  # no dropout
    score, features, _ = judge(images)
    assert [len(f) for f in (score, *features)] == [5] * (1 + len(features))
    assert torch.allclose(judge(images[2:3]).score, score[2:3], atol=1e-4)


def test_virtual_batch_norm_keeps_its_reference():
    """The first latents for G, drawn as the game draws them; the first reals for D. Neither changes."""
    run = make("virtual_batch_norm", "tricks.virtual_batch_norm.role=both", "game.prior=uniform")
    generator, judge = nets(run)
    assert torch.equal(judge.reference.batch, run.source.examples(4).images)
    assert generator.reference.batch.shape == (4, 100) and generator.reference.batch.abs().max() <= 1
    state = deepcopy(run.game.state_dict())
    assert {"pairs.main.generator.reference.batch", "pairs.main.discriminator.reference.batch"} <= set(state)
    play(run, 0, 2)
    other = make("virtual_batch_norm", "tricks.virtual_batch_norm.role=both", "batch=8", "seed=1")
    assert other.game.pairs["main"].generator.reference.batch.shape == (8, 100)
    other.game.load_state_dict(state)  # another batch size; the reference stays what it was
    assert torch.equal(nets(other)[0].reference.batch, generator.reference.batch)
    noise = torch.randn(3, 100)
    run.game.load_state_dict(state)
    assert torch.equal(nets(other)[0](noise), generator(noise))
    moved = deepcopy(generator)
    with torch.no_grad():
        moved.reference.batch.neg_()
    assert not torch.equal(moved(noise), generator(noise))
    assert Reference().state_dict() == {}


def test_reference_is_not_compared_with_the_batch():
    """Minibatch layers of a D with virtual batch norm see only the images without the reference (C14)."""
    tricks = "virtual_batch_norm,minibatch_stddev"
    judge = nets(make(tricks, "tricks.virtual_batch_norm.role=discriminator"))[1]
    seen: list[int] = []
    judge.head.epilogue.register_forward_hook(lambda _, given, made: seen.append(len(given[0])))
    judge(torch.randn(8, 1, 16, 16))
    assert seen == [8]


def test_virtual_batch_norm_needs_batch_norm():
    with pytest.raises(ConfigError) as refused:
        make("virtual_batch_norm", "model.generator.norm=none", "model.discriminator.norm=layer",
             "tricks.virtual_batch_norm.role=both")  # fmt: skip
    assert refused.value.lines == [
        f"tricks.virtual_batch_norm: model.{role} (dcgan) has no batch norm to replace. "
        f"Try: model.{role}.norm=batch (rule C16)"
        for role in ("generator", "discriminator")
    ]
    with pytest.raises(
        ConfigError, match=r"tricks.virtual_batch_norm.role: critic, expected one of generator, discriminator, both"
    ):
        make("virtual_batch_norm", "tricks.virtual_batch_norm.role=critic")
    make("virtual_batch_norm,gp", "tricks.virtual_batch_norm.role=discriminator")  # batch norm would be refused


def test_pixel_norm_by_hand():
    maps = 5 * torch.randn(2, 6, 3, 3)
    made = PixelwiseNorm(eps=1e-8)(maps)
    assert torch.allclose(made.square().mean(1), torch.ones(2, 3, 3), atol=1e-5)
    assert torch.allclose(made * (maps.square().mean(1, keepdim=True) + 1e-8).sqrt(), maps, atol=1e-5)
    assert torch.equal(PixelwiseNorm(eps=1e-8)(torch.zeros(1, 2, 1, 1)), torch.zeros(1, 2, 1, 1))
    for model in MODELS:
        generator, judge = nets(make("pixel_norm", model=model))
        assert all(isinstance(block[-1], PixelwiseNorm) for block in generator.blocks)
        for _, net in (("generator", generator), ("to_image", generator.to_image), ("discriminator", judge)):
            assert net is generator or not [m for m in net.modules() if isinstance(m, PixelwiseNorm)]
        assert not [m for m in generator.modules() if "BatchNorm" in type(m).__name__]
        hidden = torch.randn(3, 100)
        for block in generator.blocks:
            hidden = block(hidden)
            alive = hidden.square().sum(1) > 0  # a pixel may be silent in all maps
            assert torch.allclose(hidden.square().mean(1)[alive], torch.tensor(1.0), atol=1e-2)


# Layers -------------------------------------------------------------------------------------------------------------


def test_attention_by_hand():
    layer = Attention(channels=16)
    maps = torch.randn(2, 16, 4, 4)
    assert torch.equal(layer(maps), maps)  # gamma is 0
    with torch.no_grad():
        layer.gamma.fill_(0.7)
    made = layer(maps)
    f, g, h, o = (c.weight[:, :, 0, 0] for c in (layer.query, layer.key, layer.value, layer.output))
    assert (f.shape, g.shape, h.shape, o.shape) == ((2, 16), (2, 16), (8, 16), (16, 8))
    for b in range(2):
        keys = torch.einsum("oc,chw->ohw", g, maps[b]).unfold(1, 2, 2).unfold(2, 2, 2).amax((3, 4)).flatten(1)
        values = torch.einsum("oc,chw->ohw", h, maps[b]).unfold(1, 2, 2).unfold(2, 2, 2).amax((3, 4)).flatten(1)
        for y in range(4):
            for x in range(4):
                shares = ((f @ maps[b, :, y, x]) @ keys).softmax(0)
                expected = maps[b, :, y, x] + 0.7 * (o @ (values @ shares))
                assert torch.allclose(made[b, :, y, x], expected, atol=1e-5)


def test_attention_in_any_layout_and_twice_differentiable():
    layer = Attention(channels=8)
    with torch.no_grad():
        layer.gamma.fill_(1.0)
    maps = torch.randn(2, 8, 6, 6)
    made = layer(maps)
    assert torch.allclose(layer.to(memory_format=torch.channels_last)(maps.to(memory_format=torch.channels_last)), made,
                          atol=1e-5)  # fmt: skip
    with torch.autocast("cpu", torch.bfloat16):
        assert (layer(maps).float() - made).abs().max() < 0.2
    layer.double()
    torch.autograd.gradgradcheck(layer, torch.randn(1, 8, 2, 2, dtype=torch.double, requires_grad=True))


def test_attention_finds_its_size():
    for model, at, places in (
        ("dcgan", 4, (0, 1)),
        ("dcgan", 8, (1, 0)),
        ("keep_calm", 16, (2, 0)),
        ("keep_calm", 8, (0, 1)),
    ):
        run = make("self_attention", f"tricks.self_attention.at={at}", model=model)
        for net, place in zip(nets(run), places, strict=True):
            found = [i for i, block in enumerate(net.blocks) if hasattr(block, "attention")]
            assert found == [place], (model, at)
    with pytest.raises(ConfigError) as refused:
        make("self_attention", "tricks.self_attention.at=16")
    assert refused.value.lines == [
        "tricks.self_attention.at: 16, but the maps of model.generator (dcgan) are not of that size, "
        "expected one of 4, 8. Try: tricks.self_attention.at=8"
    ]
    with pytest.raises(ConfigError, match=r"model.generator \(mlp\) has no feature maps.*model=dcgan"):
        make("self_attention", model="mlp")


@pytest.mark.parametrize(("model", "count"), [("dcgan", 2), ("mlp", 2), ("keep_calm", 3)])
def test_generator_dropout_stays_on(model, count):
    run = make("generator_dropout", model=model)
    generator, judge = nets(run)
    layers = [m for m in generator.modules() if isinstance(m, SteadyDropout)]
    assert len(layers) == count and layers[0] is generator.blocks[0].steady_dropout
    assert Fact.STEADY in judge.traits.provides - (judge.traits.invalidates if model == "dcgan" else frozenset())
    layer = layers[0].eval()
    made = layer(torch.ones(100_000))
    assert (made == 0).float().mean().item() == pytest.approx(0.5, abs=0.01) and made.max() == 2
    grid = run.game.sample()
    assert torch.equal(grid, run.game.sample())  # a grid shows what training changed, and nothing else
    for steady in layers:
        steady.p = 0.0
    assert not torch.equal(grid, run.game.sample())  # on when sampling
    for setting, text in (("p=1.0", "0 < p < 1"), ("blocks=0", "at least 1")):
        with pytest.raises(ConfigError, match=text):
            make("generator_dropout", f"tricks.generator_dropout.{setting}")


# Weights ------------------------------------------------------------------------------------------------------------


def test_sigma_of_a_known_matrix():
    torch.manual_seed(3)
    left, right = (torch.linalg.qr(torch.randn(n, n, dtype=torch.double))[0] for n in (4, 6))
    matrix = left @ torch.diag(torch.tensor([5.0, 2.0, 1.0, 0.5], dtype=torch.double)) @ right[:4]
    layer = nn.Linear(6, 4).double()
    spectral = Spectral(matrix, axis=0, iterations=1, warm_up=0, eps=1e-12).double()
    with torch.no_grad():
        layer.weight.copy_(matrix)
    parametrize.register_parametrization(layer, "weight", spectral)
    for _ in range(40):
        layer(torch.zeros(1, 6, dtype=torch.double))
    assert torch.allclose(layer.weight, matrix / 5)
    assert torch.linalg.matrix_norm(layer.weight, 2).item() == pytest.approx(1)
    assert torch.allclose((spectral.u @ left[:, 0]).abs(), torch.tensor(1.0, dtype=torch.double))


def test_one_power_iteration_a_training_call():
    """Algorithm 1: v <- W^T u, u <- W v, both to length 1; sigma = u^T W v; gradients take u and v as given."""
    matrix = torch.randn(3, 5)
    spectral = Spectral(matrix, axis=0, iterations=1, warm_up=2, eps=1e-12)
    u = spectral.u.clone()
    v = matrix.T @ u / (matrix.T @ u).norm()
    u = matrix @ v / (matrix @ v).norm()
    weight = matrix.clone().requires_grad_()
    made = spectral(weight)
    assert torch.allclose(made, matrix / (u @ matrix @ v), atol=1e-6)
    assert torch.allclose(spectral.u, u, atol=1e-6) and torch.allclose(spectral.v, v, atol=1e-6)
    again = spectral.eval()(weight)
    assert torch.equal(again, made) and torch.allclose(spectral.u, u, atol=1e-6)  # none when sampling
    spectral.train()
    other = spectral(weight)  # moves u and v in place before the first call's gradient
    grad = torch.randn(3, 5)
    (made * grad).sum().backward(retain_graph=True)
    sigma = u @ matrix @ v
    expected = grad / sigma - (grad * matrix).sum() / sigma**2 * torch.outer(u, v)
    assert torch.allclose(weight.grad, expected, atol=1e-5)
    assert not torch.equal(other, made)


@pytest.mark.parametrize("model", list(MODELS))
def test_spectral_norm_of_networks(model):
    """Every dense layer and convolution of D, transposed ones by their outputs; G's only when set."""
    run = make("spectral_norm", "tricks.spectral_norm.role=both", "tricks.spectral_norm.iterations=100",
               "model.discriminator.norm=none", model=model)  # fmt: skip
    assert not run.diagnostics
    play(run, 0, 1)
    for net in nets(run):
        for key, layer in base.weighted(net):
            axis = 1 if isinstance(layer, nn.ConvTranspose2d) else 0
            sigma = torch.linalg.matrix_norm(layer.weight.movedim(axis, 0).flatten(1), 2).item()
            assert sigma == pytest.approx(1, abs=0.02), key
    plain = make("spectral_norm", model=model)
    assert not [m for m in nets(plain)[0].modules() if isinstance(m, Spectral)]
    keys = [key for key in plain.game.state_dict() if key.startswith("pairs.main.discriminator.head")]
    assert "pairs.main.discriminator.head.score.parametrizations.weight.original" in keys
    assert "pairs.main.discriminator.head.score.parametrizations.weight.0.u" in keys


def test_spectral_norm_iterates_in_both_players_updates_only():
    run = make("spectral_norm", "model.discriminator.norm=none")
    judge = nets(run)[1]
    vector = judge.blocks[1].conv.parametrizations.weight[0].v
    run.game.sample()
    reseed(0, "train")
    run.engine.begin(Progress(0))
    for update in run.updates(run.game, 0):
        before = vector.clone()
        run.engine.run(update, drawn(run, update))
        assert not torch.equal(vector, before), update.player
    frozen = vector.clone()
    judge.eval()(torch.randn(2, 1, 16, 16))
    assert torch.equal(vector, frozen)


def test_spectral_norm_with_other_parts():
    """It bounds a Wasserstein critic; clipping as well is refused; norms in D and late layers are pointed out."""
    quiet = make("spectral_norm", "model.discriminator.norm=none", loss="wasserstein")
    assert not quiet.diagnostics
    with pytest.raises(ConfigError, match="C2"):
        make("spectral_norm", "tricks.spectral_norm.role=generator", loss="wasserstein")
    with pytest.raises(
        ConfigError, match=r"tricks.spectral_norm: needs a discriminator whose weights nothing else confines"
    ):
        make("spectral_norm,clip")
    make("spectral_norm,gp", "model.discriminator.norm=none")
    assert [f.id for f in make("spectral_norm").diagnostics] == ["C42"]
    found = make("spectral_norm,self_attention", "model.discriminator.norm=none").diagnostics
    assert [f.id for f in found] == ["C43"] and "blocks.0.attention.query" in found[0].sentence
    assert not make("self_attention,spectral_norm", "model.discriminator.norm=none").diagnostics
    with pytest.raises(ConfigError, match=r"tricks.spectral_norm and tricks.weight_norm: each sets the form"):
        make("spectral_norm,weight_norm")
    with pytest.raises(ConfigError, match=r"tricks.spectral_norm.iterations: 0, expected a whole number"):
        make("spectral_norm", "tricks.spectral_norm.iterations=0")


@pytest.mark.parametrize("model", list(MODELS))
def test_equalized_weights(model):
    """Raw weights are N(0, 1); what layers use is He's constant times that."""
    run = make("equalized_lr", model=model)
    for net in nets(run):
        layers = list(base.weighted(net))
        for i, (key, layer) in enumerate(layers):
            raw = layer.parametrizations.weight.original
            gain = 1.0 if i == len(layers) - 1 else math.sqrt(2)
            assert torch.allclose(layer.weight, raw * gain / math.sqrt(fan_in(layer)), atol=1e-6), key
            assert layer.bias is None or not layer.bias.any()
        everything = torch.cat([layer.parametrizations.weight.original.flatten() for _, layer in layers])
        assert everything.std().item() == pytest.approx(1, abs=0.05)
        assert everything.mean().item() == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize("layer", [nn.Linear(64, 256), nn.Conv2d(32, 64, 4, 2, 1), nn.ConvTranspose2d(64, 64, 4, 2, 1)])
def test_fan_in_counts_the_inputs_of_an_output(layer):
    with torch.no_grad():
        layer.weight.normal_(0, 1 / math.sqrt(fan_in(layer)))
        layer.bias.zero_()
        shape = (64, 64) if isinstance(layer, nn.Linear) else (16, layer.in_channels, 16, 16)
        made = layer(torch.randn(shape))
    inner = made if made.dim() == 2 else made[:, :, 2:-2, 2:-2]
    assert inner.std().item() == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize("model", list(MODELS))
def test_weight_norm_changes_form_not_function(model):
    plain, normed = make("", model=model), make("weight_norm", model=model)
    for one, other in zip(nets(plain), nets(normed), strict=True):
        for (key, a), (_, b) in zip(base.weighted(one), base.weighted(other), strict=True):
            assert torch.allclose(a.weight, b.weight, atol=1e-6), key
            length, direction = b.parametrizations.weight.original0, b.parametrizations.weight.original1
            outputs = a.weight.shape[1 if isinstance(a, nn.ConvTranspose2d) else 0]
            assert length.numel() == outputs
            with torch.no_grad():
                direction.mul_(3)
                assert torch.allclose(a.weight, b.weight, atol=1e-6)  # only its direction counts
                length.mul_(2)
                assert torch.allclose(2 * a.weight, b.weight, atol=1e-6)


def test_starts():
    """Orthogonal: W W^T = I; Glorot: uniform within its bound; normal: N(0, 0.02). Biases 0, gains untouched."""
    wide = ["model.generator.width=16", "model.discriminator.width=16", "model.discriminator.norm=none"]
    wide += [f"model.{role}.init.kind=default" for role in ("generator", "discriminator")]  # biases that are not 0
    for name in ("orthogonal_init", "xavier_init", "normal_init"):
        for net in nets(make(name, *wide)):
            for key, layer in base.weighted(net):
                weight = layer.weight.detach()
                if name == "orthogonal_init":
                    matrix = weight.flatten(1)
                    matrix = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
                    assert torch.allclose(matrix @ matrix.T, torch.eye(len(matrix)), atol=1e-5), key
                elif name == "xavier_init":
                    taps = weight[0, 0].numel()
                    bound = math.sqrt(6 / (taps * (weight.shape[0] + weight.shape[1])))
                    assert 0.9 * bound < weight.abs().max().item() <= bound * (1 + 1e-6), key
                else:
                    assert weight.std().item() == pytest.approx(0.02, rel=0.15), key
                    assert abs(weight.mean().item()) < 0.003
                assert layer.bias is None or not layer.bias.any()


def test_starts_under_other_forms():
    """A start given after a form is the start that layers use; two starts are refused."""
    for form in ("weight_norm", "spectral_norm"):
        run = make(f"{form},orthogonal_init", "model.discriminator.norm=none")
        matrix = nets(run)[1].blocks[1].conv.weight.flatten(1)
        assert torch.allclose(matrix @ matrix.T, torch.eye(len(matrix)), atol=1e-4), form
    with pytest.raises(ConfigError, match=r"equalized_lr and tricks.orthogonal_init: each sets the initial weights"):
        make("equalized_lr,orthogonal_init")
    with pytest.raises(ConfigError, match=r"each sets the initial weights"):
        make("xavier_init,normal_init")


def test_many_at_once():
    """They compose, with the average and a penalty, on the network that has most of them."""
    tricks = "minibatch_stddev,self_attention,pixel_norm,generator_dropout,equalized_lr,no_norm,gp,ema"
    run = make(tricks, "engine.precision=bf16", loss="wasserstein")
    play(run, 0, 2)
    assert run.game.sample().isfinite().all()
    assert isinstance(nets(run)[0], dcgan.Generator)


def test_shapes_leave_no_trace():
    run = make("virtual_batch_norm,spectral_norm", "tricks.virtual_batch_norm.role=both")
    for net in nets(run):
        before = deepcopy(net.state_dict())
        made = base.shapes(net)
        assert [tuple(s) for s in made] in ([(8, 4, 4), (4, 8, 8)], [(4, 8, 8), (8, 4, 4)])
        assert all(torch.equal(a, b) for a, b in zip(before.values(), net.state_dict().values(), strict=True))
