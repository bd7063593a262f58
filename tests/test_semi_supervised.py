"""K+1 classes: the identities of log-sum-exp, who is labelled, what is kept out, and the networks of Improved GAN."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from data_formats import images, write_idx, write_mnist
from support import composed, drawn, pair_in, play, tiny, trick_of
from torch import Tensor

from ganrun.config.build import build
from ganrun.core.context import Progress, Targets
from ganrun.core.errors import ConfigError, ConfigErrors
from ganrun.data.datasets.benchmarks import Mnist
from ganrun.data.datasets.bundled import Digits
from ganrun.data.datasets.held_out import hold_out
from ganrun.losses.targets import Minimax
from ganrun.tricks.semi_supervised import error

SMALL = ("model.generator.width=4", "model.discriminator.width=4", "model.generator.latent=8")
SEMI = (*SMALL, "model.discriminator.classes=10", "tricks.semi_supervised.labelled=3")


def run_of(*overrides: str, tricks: tuple[str, ...] = ("semi_supervised",), loss: str = "minimax") -> Any:
    return build(composed(*tiny(f"loss={loss}", model="improved", tricks=tricks), *SEMI, *overrides))


def logits_of(run: Any, images: Tensor) -> tuple[Tensor, Tensor]:
    made = pair_in(run).discriminator.eval()(images)
    return made.score, made.heads["class"]


# Identities


def test_the_score_is_the_logit_of_real_among_k_plus_one_classes() -> None:
    """p(fake) = 1 / (1 + sum of exp): softmax over K logits and a 0."""
    run = run_of()
    score, logits = logits_of(run, torch.randn(5, 1, 16, 16))
    together = torch.cat([logits, torch.zeros(5, 1)], 1).softmax(1)
    assert torch.allclose(score.sigmoid(), 1 - together[:, -1], atol=1e-6)
    assert torch.allclose(logits.softmax(1), together[:, :-1] / together[:, :-1].sum(1, keepdim=True), atol=1e-6)


def test_twice_the_papers_unsupervised_loss_is_ours() -> None:
    """loss_unl of train_cifar_feature_matching.py, term by term."""
    real, fake = torch.randn(7) * 4, torch.randn(7) * 4
    theirs = -0.5 * real.mean() + 0.5 * F.softplus(real).mean() + 0.5 * F.softplus(fake).mean()
    ours = Minimax().discriminator(real, fake, Targets.clean(real, fake))
    assert ours.item() == pytest.approx(2 * theirs.item(), abs=1e-5)
    theirs_of_g = -F.softplus(fake).mean().item()  # train_cifar_minibatch_discrimination.py
    assert Minimax().generator(fake, None, Targets.clean(fake, fake)).item() == pytest.approx(theirs_of_g, abs=1e-5)


def test_the_term_is_the_papers_cross_entropy_on_labelled_images() -> None:
    """loss_lab = -mean l[y] + mean log-sum-exp, times the weight; the adversarial term is on log-sum-exp."""
    run = run_of(
        "tricks.semi_supervised.weight=3", "model.discriminator.dropout=0", "model.discriminator.input_dropout=0"
    )
    trick, pair = trick_of(run, "semi_supervised"), pair_in(run)
    seen: list[tuple[Tensor, Tensor]] = []
    pair.discriminator.register_forward_hook(lambda net, given, made: seen.append((given[0], made.heads["class"])))
    run.engine.begin(Progress(0))
    update = run.updates(run.game, 0)[0]
    outcome = run.game.outcome(update, drawn(run, update)[0], {})
    (_, real), (_, fake), (images, logits) = seen
    places = [next(i for i, kept in enumerate(trick.images) if torch.equal(kept, image)) for image in images]
    labels = trick.labels[places]
    expected = -logits[range(4), labels].mean() + logits.exp().sum(1).log().mean()
    assert outcome.terms["semi_supervised"].item() == pytest.approx(3 * expected.item(), abs=1e-4)
    unsupervised = (
        -real.logsumexp(1).mean() + F.softplus(real.logsumexp(1)).mean() + F.softplus(fake.logsumexp(1)).mean()
    )
    assert outcome.terms["adversarial"].item() == pytest.approx(unsupervised.item(), abs=1e-4)


# Who is labelled, and what is kept out


def test_the_seed_chooses_the_labelled_images_of_each_class() -> None:
    run, again, other = run_of(), run_of(), run_of("tricks.semi_supervised.seed=5")
    trick = trick_of(run, "semi_supervised")
    assert torch.bincount(trick.labels).tolist() == [3] * 10
    assert torch.equal(trick.images, trick_of(again, "semi_supervised").images)
    assert not torch.equal(trick.images, trick_of(other, "semi_supervised").images)
    images, labels = run.dataset.bulk()
    for image, label in zip(trick.images, trick.labels, strict=True):
        found = (images.float() / 127.5 - 1 == image).flatten(1).all(1).nonzero().flatten()
        assert label in labels[found]


def test_held_out_images_are_never_trained_on() -> None:
    whole = Digits(channels=1, resolution=16, classes=None)
    data, again = (hold_out(whole, share) for share in (300, 300 / 1797))
    assert (len(data), len(data.test), len(whole)) == (1497, 300, 1797) and whole.test is None
    kept, out = ({image.numpy().tobytes() for image in part.bulk()[0]} for part in (data, data.test))
    assert not kept & out and len(kept | out) == len({image.numpy().tobytes() for image in whole.bulk()[0]})
    assert torch.equal(data.test.labels, again.test.labels)


def test_the_test_error_is_measured_where_the_host_waits() -> None:
    run = run_of("dataset.held_out=100")
    assert run.source.held_out().images.shape == (100, 1, 16, 16)
    found = run.game.log_metrics()
    test = run.dataset.test
    _, logits = logits_of(run, test.bulk()[0].float() / 127.5 - 1)
    wrong = (logits.argmax(1) != test.labels).float().mean().item()
    assert found == {"tricks/semi_supervised/test_error": pytest.approx(wrong, abs=1e-6)}
    assert pair_in(run).discriminator.training is False  # as the line above left it
    pair_in(run).discriminator.train()
    run.game.log_metrics()
    assert pair_in(run).discriminator.training and run_of().game.log_metrics() == {}


def test_the_error_by_hand() -> None:
    class Says(torch.nn.Module):
        def forward(self, images: Tensor) -> Any:
            return type("Made", (), {"heads": {"class": images.flatten(1)}})()

    images = torch.eye(4).view(4, 1, 2, 2)
    assert error(Says(), images, torch.tensor([0, 1, 2, 0])) == pytest.approx(0.25)


def test_the_figure_reaches_the_summary(tmp_path: Any) -> None:
    import json

    from ganrun.run.session import Session
    from ganrun.run.signals import Signals

    cfg = composed(*tiny("loss=minimax", model="improved", tricks=("semi_supervised",)), *SEMI, "dataset.held_out=50",
                   "steps=2", "log.every=1", "objective=tricks/semi_supervised/test_error")  # fmt: skip
    session = Session(signals=Signals())
    assert session.start(cfg, tmp_path / "run", overrides=[]) == 0
    final = json.loads((tmp_path / "run" / "summary.json").read_text())["final"]
    found = final["tricks/semi_supervised/test_error"]
    assert 0 <= found <= 1 and session.objective == found


# Refusals


def test_what_cannot_be_learnt_from_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"labelled: 500, and a class has \d+ images, expected up to \d+. Try: .*labelled="
    ):
        run_of("tricks.semi_supervised.labelled=500")
    with pytest.raises(ConfigError, match=r"discriminator.classes: 7, but the data have 10 classes"):
        run_of("model.discriminator.classes=7")
    with pytest.raises(ConfigError, match="no labels, and semi_supervised learns from some"):
        _without_labels()
    for refused in (("model.discriminator.classes=1",), ()):
        with pytest.raises(
            ConfigErrors, match=r"semi_supervised: needs a (discriminator whose score|loss whose targets)"
        ):
            run_of(*refused, loss="minimax" if refused else "hinge")


def _without_labels() -> None:
    run = run_of()
    run.dataset.labels = None
    run.game.on_data(run.data.sources)


# Networks


def test_published_sizes() -> None:
    """train_cifar_feature_matching.py at 32x32x3, weights counted by hand; D has biases, G's norms have."""
    pair = pair_in(build(composed("model=improved", "dataset.channels=3", "model.discriminator.classes=10")))
    w = 96
    convs = 9 * (3 * w + w * w + w * w + w * 2 * w + 3 * 4 * w * w) + 2 * 4 * w * w
    assert sum(p.numel() for p in pair.discriminator.parameters()) == convs + 2 * w * 10 + 3 * w + 6 * 2 * w + 10
    weights = 100 * 8192 + 25 * (512 * 256 + 256 * 128 + 128 * 3)
    assert sum(p.numel() for p in pair.generator.parameters()) == weights + 2 * (512 + 256 + 128)


def test_the_last_features_are_the_mean_of_each_map() -> None:
    """What G is to match: 192 numbers, of 6x6 maps at 32x32."""
    net = pair_in(build(composed("model=improved", "dataset.resolution=32", "engine.device=cpu"))).discriminator
    seen: list[tuple[Tensor, Tensor]] = []
    net.blocks[-1].pool.register_forward_hook(lambda layer, given, made: seen.append((given[0], made)))
    output = net(torch.randn(2, 1, 32, 32))
    ((maps, pooled),) = seen
    assert maps.shape == (2, 192, 6, 6) and torch.allclose(output.features[-1], maps.mean((2, 3))) and not output.heads
    assert pooled is output.features[-1]


def test_resuming_finds_the_same_labelled_images() -> None:
    import properties

    overrides = (*tiny("loss=minimax", model="improved", tricks=("semi_supervised",)), *SEMI)
    properties.check_resume(overrides)


# It learns


@pytest.mark.slow
def test_ten_labels_a_class_teach_digits() -> None:
    """With 100 labels of 1,437 images; a D that guesses errs on 90 percent, and these are only its first steps."""
    run = build(composed("experiment=semi_supervised", "steps=400", "engine.device=cpu", "engine.precision=fp32",
                         "engine.workers=0", "optim.decay.delay=400"))  # fmt: skip
    play(run, 0, 400)
    assert run.game.log_metrics()["tricks/semi_supervised/test_error"] < 0.5


def test_a_known_data_set_tests_on_its_own_test_split(tmp_path: Any) -> None:
    """Read when it is asked for, of the same classes and size."""
    write_mnist(tmp_path, count=30)
    write_idx(tmp_path / "MNIST" / "raw" / "t10k-images-idx3-ubyte.gz", images(30, 28, 28, seed=1))
    split: dict[str, Any] = {"root": str(tmp_path), "download": False, "channels": 1, "resolution": 16}
    data = Mnist(split="train", classes=[1, 2], **split)
    test = Mnist(split="test", classes=[1, 2], **split)
    assert data.test is not None and torch.equal(data.test.images, test.images) and test.test is None
    assert not torch.equal(data.images[:1], test.images[:1]) and data.test.classes == ("1", "2")
    fewer = hold_out(data, 2)
    assert len(fewer) == len(data) - 2 and len(fewer.test) == 2 and fewer.test.test is None and data.test is not None
