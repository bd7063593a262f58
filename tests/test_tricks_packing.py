"""PacGAN: packs by hand, the layers that read them, and what packs are refused with."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from support import SIZES, LinearDiscriminator, built, drawn, pair_in, pair_of, play, update_of
from torch import Tensor, nn

from ganrun.core.context import BatchShape, DiscriminatorOutput
from ganrun.core.errors import ConfigError
from ganrun.core.facts import Fact
from ganrun.core.traits import Level, Traits
from ganrun.run.rejection import check
from ganrun.tricks.packing import PacGan, _readers


class Dense(nn.Module):
    """D(x) = w . x with one dense layer; shows the image as its only feature."""

    channels, resolution = 1, 2
    traits = Traits(provides=LinearDiscriminator.traits.provides | {Fact.ONE_IMAGE})

    def __init__(self, images: int = 1):
        super().__init__()
        self.score = nn.Linear(4 * images, 1, bias=False)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> DiscriminatorOutput:
        flat = images.flatten(1)
        return DiscriminatorOutput(self.score(flat).squeeze(1), (flat,), {"twice": 2 * flat})


def packed(images: int) -> nn.Module:
    return PacGan(images=images).modify(Dense(), "discriminator")


@pytest.mark.parametrize("images", [2, 3])
def test_every_image_has_the_score_of_its_pack(images: int) -> None:
    torch.manual_seed(0)
    net, shown = packed(images), torch.randn(6, 1, 2, 2)
    weight = net.score.weight.view(images, 4)  # type: ignore[union-attr, operator]
    by_hand = torch.stack([sum(weight[i] @ shown[start + i].flatten() for i in range(images))  # type: ignore[misc]
                           for start in range(0, 6, images)])  # fmt: skip
    found = net(shown)
    torch.testing.assert_close(found.score, by_hand.repeat_interleave(images))
    assert found.features[0].shape == (6, 4 * images) and torch.equal(found.heads["twice"], 2 * found.features[0])
    assert torch.equal(found.features[0][0], shown[:images].flatten())


def test_the_last_pack_goes_on_with_the_first_images() -> None:
    net, shown = packed(2), torch.randn(3, 1, 2, 2)
    assert torch.equal(net(shown).score, net(torch.cat([shown, shown[:1]])).score[:3])
    assert torch.equal(packed(3)(shown[:1]).features[0], shown[:1].flatten(1).repeat(1, 3))


def test_weights_are_those_of_the_network_and_the_output_keeps_its_variance() -> None:
    torch.manual_seed(1)
    net = Dense()
    before = net.score.weight.detach().clone()
    after = PacGan(images=4).modify(net, "discriminator").score.weight.view(4, 4)  # type: ignore[union-attr, operator]
    assert torch.equal(after[0] * 2, before[0]), "over the root of 4"
    for of_image in after:
        torch.testing.assert_close(of_image.sort().values * 2, before[0].sort().values)
    assert after.square().sum().item() == pytest.approx(before.square().sum().item())


def test_the_gradient_is_that_of_the_mean_over_packs() -> None:
    """Loss functions take the mean over images; every pack counts once in it."""
    net = packed(2)
    shown = torch.randn(4, 1, 2, 2)
    net(shown).score.square().mean().backward()
    plain = Dense(2)
    with torch.no_grad():
        plain.score.weight.copy_(net.score.weight)  # type: ignore[union-attr, arg-type]
    plain(shown.view(2, 2, 2, 2)).score.square().mean().backward()
    torch.testing.assert_close(net.score.weight.grad, plain.score.weight.grad)  # type: ignore[union-attr]


READ = {
    "dcgan": ["blocks.0.conv"],
    "mlp": ["blocks.0.dense"],
    "resnet": ["blocks.down1.residual.inner.conv", "blocks.down1.residual.shortcut.conv"],
}


@pytest.mark.parametrize("model", READ)
def test_the_layers_that_read_the_image_are_found(model: str) -> None:
    assert model in SIZES
    assert _readers(pair_in(built(model=model)).discriminator) == READ[model]


def test_a_copy_of_the_network_packs_too() -> None:
    net, shown = packed(2), torch.randn(4, 1, 2, 2)
    assert torch.equal(deepcopy(net)(shown).score, net(shown).score)


def test_of_a_generator_it_changes_nothing() -> None:
    net = nn.Linear(2, 2)
    assert PacGan(images=2).modify(net, "generator") is net and not net._forward_hooks


@pytest.mark.parametrize(("batch", "remedy"), [(5, "batch=6"), (2, "batch=4"), (3, "batch=4")])
def test_a_batch_is_made_of_packs(batch: int, remedy: str) -> None:
    (found,) = PacGan(images=2).diagnostics(BatchShape(batch, 8))
    assert (found.id, found.level) == ("C13", Level.ERROR) and found.sentence.endswith(f"Try: {remedy}")
    assert not [*PacGan(images=2).diagnostics(BatchShape(4, 8))]


@pytest.mark.parametrize("trick", ["r1", "gp", "info_codes", "virtual_batch_norm"])
def test_what_asks_about_single_images_is_refused(trick: str) -> None:
    more = {"virtual_batch_norm": "tricks.virtual_batch_norm.role=both"}.get(trick, "steps=6")
    with pytest.raises(ConfigError, match=r"tricks\.pacgan takes that away"):
        built("model.generator.latent=20", more, tricks=["pacgan", trick])


def test_a_form_that_another_trick_gave_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"tricks\.pacgan: another trick gave"):
        built("model.discriminator.norm=none", tricks=["spectral_norm", "pacgan"])
    run = built("model.discriminator.norm=none", tricks=["pacgan", "spectral_norm"])
    assert play(run, 0, 1).rows


def test_an_auto_encoder_and_rejection_are_refused() -> None:
    with pytest.raises(ConfigError, match="rebuilds the image"):
        built("loss=ebgan", model="ebgan", tricks=["pacgan"])
    with pytest.raises(ConfigError, match="several images together, by its trick mine"):
        check(pair_of(discriminator=Dense(), mine=PacGan(images=2)))


def test_a_run_scores_packs() -> None:
    """Batch 4, packs of 2: two scores, each for two images."""
    run = built(tricks=["pacgan"])
    update = update_of(run, "discriminator")
    (result,) = run.engine.run(update, drawn(run, update))
    seen = result.observed["main"]
    assert seen.fake_score.shape == (4,) and len(seen.fake_score.unique()) == 2
