"""What holds for every trick: it works under any name in the list, and needs images of one scale where it must."""

from functools import cache
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf, open_dict
from support import CONF, MODELS, PLAIN, composed, family, host, play, tiny, trick_of
from torch import Tensor, nn

from ganrun.config.build import build
from ganrun.config.combination import diagnostics
from ganrun.config.instantiate import Maker
from ganrun.core.context import BatchShape, Condition, DiscriminatorOutput, Latent, Update
from ganrun.core.errors import ConfigError
from ganrun.core.facts import Fact
from ganrun.core.images import Images
from ganrun.core.pair import Pair
from ganrun.core.traits import Level, Traits
from ganrun.core.trick import Trick
from ganrun.losses.targets import NonSaturating

OTHER = "renamed"  # a name in the list that no file has
TRICKS = family("tricks")
CODE = [name for name in TRICKS if "ganrun.core.trick.Setting" not in (CONF / "tricks" / f"{name}.yaml").read_text()]


def renamed(name: str, *overrides: str, **settings: Any) -> DictConfig:
    """The configuration of a tiny run in which this trick has another name in the list, and these settings."""
    cfg = composed(*overrides)
    with open_dict(cfg):
        nodes = {OTHER if key == name else key: node for key, node in cfg.tricks.items()}
        cfg.tricks = nodes
        cfg.tricks[OTHER] = OmegaConf.merge(cfg.tricks[OTHER], settings)
    return cfg


def hosted(name: str) -> tuple[str, ...]:
    found = host(name)
    assert isinstance(found, tuple), found
    return found


@cache
def node_of(name: str) -> dict[str, Any]:
    """A trick's settings, as its YAML file has them."""
    cfg = OmegaConf.to_container(composed(*tiny(model=MODELS.get(name, "dcgan"), tricks=[name])), resolve=True)
    assert isinstance(cfg, dict)
    found: dict[str, Any] = cfg["tricks"][name]
    return found


def fresh(name: str) -> Trick:
    """This trick, in no pair yet."""
    return Maker().a(Trick, node_of(name), f"tricks.{name}")


# Another name in the list


def test_the_family_is_not_empty() -> None:
    assert len(CODE) >= 45 and len(TRICKS) > len(CODE)


@pytest.mark.parametrize("name", CODE)
def test_a_trick_works_under_another_name(name: str) -> None:
    run = build(renamed(name, *hosted(name)))
    assert type(trick_of(run, OTHER)) is type(fresh(name))
    assert not [one for one in run.diagnostics if f"tricks.{name}" in one.sentence]
    metrics = {key for _, _, row in play(run, 0, 1).rows for key in row}
    assert metrics and not [key for key in metrics if f"/{name}" in key]
    assert all(map(PLAIN.fullmatch, metrics)), metrics
    assert not [key for key in run.game.state_dict() if f"tricks.{name}" in key]


REFUSALS: dict[str, tuple[str, dict[str, Any], str]] = {
    "constructor": ("gp", {"weight": -1.0}, "renamed.weight: -1.0, expected a number of at least 0"),
    "remedy": ("soft_labels", {"real": [1.0, 0.9]}, "renamed.real: [1.0, 0.9], expected a low and a high number. "
               "Try: 'tricks.renamed.real=[0.9,1.0]'"),
    "choice": ("spectral_norm", {"role": "generators"}, "renamed.role: generators, expected one of generator, "
               "discriminator, both. Try: tricks.renamed.role=generator"),
    "itself": ("info_codes", {"categories": [], "continuous": 0}, "renamed: no codes, expected categories, continuous "
               "codes or both. Try: 'tricks.renamed.categories=[10]'"),
    "modify": ("self_attention", {"at": 7}, "renamed.at: 7, but the maps of model.generator (dcgan)"),
    "modify itself": ("info_codes", {"categories": [30]}, "renamed: 20 numbers of noise, and the last 32"),
    "bind": ("consistency", {"shift": 16}, "renamed.shift: 16 pixels, and images of 16, expected less than the image. "
             "Try: tricks.renamed.shift=1"),
    "bind of features": ("feature_matching", {"layer": 99}, "renamed.layer: 99, and D shows"),
    "on_data": ("semi_supervised", {"labelled": 5000}, "renamed.labelled: 5000, and a class has"),
    "diagnostics": ("noisy_labels", {"p": 0.6}, "renamed: p = 0.6 teaches D the inverse, or nothing. "
                    "Try: tricks.renamed.p=0.05 (rule C10)"),
    "set twice": ("checkpoint_swap", {}, "renamed and tricks.throttle: each sets the steps that a player skips"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refusal_names_the_place_in_the_list(case: str) -> None:
    name, settings, message = REFUSALS[case]
    cfg = renamed(name, *hosted(name), **settings)
    if case == "set twice":
        with open_dict(cfg):
            cfg.tricks.throttle = composed(*hosted("throttle")).tricks.throttle
    with pytest.raises(ConfigError) as refusal:
        build(cfg)
    assert str(refusal.value).startswith(f"tricks.{message}")
    assert f"tricks.{name}" not in str(refusal.value)


def test_a_need_names_the_place_in_the_list() -> None:
    cfg = renamed("gp", *tiny("model.discriminator.norm=batch", tricks=["gp"]))
    with pytest.raises(ConfigError, match=r"^tricks\.renamed: needs a discriminator that scores each image"):
        build(cfg)


# Images of one scale


class Pyramids:
    """A game in which an image is a pyramid, as a part: all that the usual one provides but one fact."""

    traits = Traits(provides=frozenset(set(Fact) - {Fact.SINGLE_SCALE}))


def acts_on_images(trick: Trick) -> bool:
    """Whether a trick changes images, or takes gradients with respect to them."""
    hooks = [getattr(type(trick), hook) is not getattr(Trick, hook) for hook in ("view", "reals", "replay")]
    return any(hooks) or trick.differentiates


def needs(name: str) -> bool:
    return Fact.SINGLE_SCALE in fresh(name).traits.needs


@pytest.mark.parametrize("name", TRICKS)
def test_what_acts_on_images_of_one_scale_says_so_and_is_refused_on_several(name: str) -> None:
    trick = fresh(name)
    assert needs(name) or not acts_on_images(trick) or tried(name), "or it is tried on several, below"
    assert name in CODE or not needs(name), "a trick that sets layers needs nothing of the images"
    found = [one for one in diagnostics({"game": Pyramids(), f"tricks.{name}": trick}) if one.id == "C51"]
    assert len(found) == needs(name)
    for one in found:
        assert one.level is Level.ERROR and one.sentence.startswith(f"tricks.{name}: needs images of one resolution")


class PyramidGenerator(nn.Module):
    """Images of 4x4 pixels, of 8x8, ..., each from the same noise."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(6, size**2) for size in (4, 8, 16)])

    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Images:
        return tuple(layer(noise).view(len(noise), 1, size, size) for layer, size in zip(self.layers, (4, 8, 16)))  # noqa: B905


class PyramidDiscriminator(nn.Module):
    """A score and a class from all scales."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(size**2, 5) for size in (4, 8, 16)])
        self.score, self.classes = nn.Linear(5, 1), nn.Linear(5, 3)

    def forward(self, images: Images, labels: Tensor | None = None) -> DiscriminatorOutput:
        assert isinstance(images, tuple)
        hidden = sum(layer(image.flatten(1)) for layer, image in zip(self.layers, images, strict=True))
        assert isinstance(hidden, Tensor)
        return DiscriminatorOutput(self.score(hidden).flatten(), (hidden,), {"class": self.classes(hidden)})


def train_on_pyramids(trick: Trick) -> dict[str, Tensor]:
    """Bind this trick to pyramids, and make an update of each player; returns the terms of both."""
    generator, shape = PyramidGenerator(), BatchShape(6, 16)
    pair = Pair(generator=generator, discriminator=PyramidDiscriminator(), loss=NonSaturating(), tricks={"it": trick})
    condition, latent = Condition(labels=torch.arange(6) % 3), Latent(torch.randn(6, 6))
    real, fake = (tuple(image.detach() for image in generator(torch.randn(6, 6))) for _ in range(2))
    pair.bind(real, fake, condition)
    pair.tricks.each(Trick.begin, pair, 0)
    terms = {}
    for role in ("discriminator", "generator"):
        update = Update(player=role, role=role, shape=shape, due=pair.tricks.due(0))
        outcome = getattr(pair, f"{role}_outcome")(update, real, generator(latent.noise), condition=condition,
                                                   latent=latent)  # fmt: skip
        torch.stack([*outcome.terms.values()]).sum().backward()
        pair.tricks.each(Trick.before, pair, role)
        pair.tricks.each(Trick.after, pair, role)
        terms |= {f"{role}/{name}": term for name, term in outcome.terms.items()}
    return terms


def tried(name: str) -> bool:
    """Whether the networks here have what a trick needs otherwise: no layers to rebuild, no styles, no data set."""
    return type(fresh(name)).modify is Trick.modify and name not in ("path_length", "semi_supervised")


@pytest.mark.parametrize("name", [name for name in CODE if tried(name)])
def test_tricks_train_on_pyramids_exactly_where_they_need_no_single_scale(name: str) -> None:
    if needs(name):
        with pytest.raises((AttributeError, TypeError, ValueError)):
            train_on_pyramids(fresh(name))
    else:
        assert all(term.isfinite().all() for term in train_on_pyramids(fresh(name)).values())


def test_both_kinds_are_tried_on_pyramids() -> None:
    kinds = [needs(name) for name in CODE if tried(name)]
    assert kinds.count(True) >= 7 and kinds.count(False) >= 20
