"""A network as it is exported: tensors in, tensors out, plain weights, evaluation mode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ganrun.core.context import UNCONDITIONAL, Condition, DiscriminatorOutput, Latent, Role
from ganrun.core.errors import ConfigError
from ganrun.core.facts import Fact
from ganrun.core.from_images import reads_image
from ganrun.core.game import Game
from ganrun.core.images import largest
from ganrun.core.pair import Pair
from ganrun.core.seeding import reseed
from ganrun.core.traits import Traits
from ganrun.core.trick import Trick

Outputs = Tensor | tuple[Tensor, ...]
FEW = 4  # images of the example that a network is traced with; neither 0 nor 1, of which tracers make constants


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """An input or output of an exported network: its name, its shape without the batch, its type and its values."""

    name: str
    shape: tuple[int, ...]
    kind: str  # float32 or int64
    values: str  # which they are, in words
    below: int = 0  # of whole numbers: how many there are, from 0 on

    @property
    def size(self) -> str:
        """The shape with the batch, as documentation writes it: [N, 1, 32, 32]."""
        return f"[{', '.join(['N', *map(str, self.shape)])}]"


class Exported(nn.Module):
    """A network as a function of tensors alone, in float32: images of a generator; scores, then heads, of a D."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, *given: Tensor) -> Outputs:
        """Noise [N, Z] or images [N, C, H, W], and labels [N] where the network reads them -> images, or scores [N]."""
        made = self.net(given[0], given[1] if len(given) > 1 else None)
        if not isinstance(made, DiscriminatorOutput):
            return largest(made).float()
        outputs = (made.score.float(), *(head.float() for head in made.heads.values()))
        return outputs if len(outputs) > 1 else outputs[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is exported of a run: a network with plain weights, beside the one that it was made from."""

    role: Role
    pair_name: str
    network: Exported  # a copy whose weights are plain, in evaluation mode
    original: Exported  # the run's own, also in evaluation mode
    averaged: bool  # whether a trick gives another generator to sample from
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    pair: Pair
    prior: Any  # draws noise: (count, Z) -> [count, Z]

    def draw(self, count: int) -> tuple[Tensor, ...]:
        """New inputs as in training, from torch's generator: noise [count, Z] or images, and labels [count]."""
        given = [self._drawn(port, count) for port in self.inputs]
        if hasattr(self.original.net, "latent"):
            latent: Latent = self.pair.tricks.fold(Trick.latent, Latent(given[0], self._condition(given)))
            given[0] = latent.noise
        return tuple(given)

    def _condition(self, given: Sequence[Tensor]) -> Condition:
        if len(given) < 2:
            return UNCONDITIONAL
        kind = {"labels": "labels", "text": "text" if self.inputs[1].kind == "int64" else "embedding"}
        return Condition(**{kind[self.inputs[1].name]: given[1]})

    def _drawn(self, port: Port, count: int) -> Tensor:
        if port.kind == "int64":
            return torch.randint(port.below, (count, *port.shape))
        return self.prior(count, *port.shape) if port.name == "noise" else torch.rand(count, *port.shape) * 2 - 1

    @torch.no_grad()
    def draws_at_sampling(self) -> bool:
        """Whether the outputs depend on random numbers that the network draws at every call."""
        given = self.draw(FEW)
        one, other = (run_seeded(self.network, given, seed) for seed in (0, 1))
        return any(not torch.equal(a, b) for a, b in zip(one, other, strict=True))


def subject_of(game: Game, settings: Mapping[str, Any], role: Role, pair_name: str) -> Subject:
    """The network of this role in this pair, the first one without a name. Raises ConfigError for an unknown pair."""
    pairs = game.named_pairs()
    if pair_name and pair_name not in pairs:
        raise ConfigError("pair", f"there is no {pair_name}", " or ".join(pairs), f"pair={next(iter(pairs))}")
    name = pair_name or next(iter(pairs))
    pair = pairs[name]
    trained: nn.Module = getattr(pair, role)
    net: nn.Module = pair.tricks.fold(Trick.sampler, trained) if role == "generator" else trained
    network, inputs = Exported(plain(net)).eval(), inputs_of(net, settings, role)
    subject = partial(
        Subject, role=role, pair_name=name, network=network, original=Exported(net.eval()),
        averaged=net is not trained, inputs=inputs, pair=pair, prior=getattr(game, "prior", torch.randn),
    )  # fmt: skip
    return subject(outputs=_outputs(subject(outputs=()), net))


def inputs_of(net: nn.Module, settings: Mapping[str, Any], role: Role) -> tuple[Port, ...]:
    """What this network reads. Raises ConfigError for a generator that reads an image beside its noise."""
    data, classes = settings["dataset"], int(getattr(net, "classes", 0))
    images = Port(
        name="images",
        shape=(data["channels"], data["resolution"], data["resolution"]),
        kind="float32",
        values="[-1, 1]",
    )
    first, reads = images, classes
    if role == "discriminator":
        reads = classes if Fact.CLASS_HEAD not in getattr(net, "traits", Traits()).provides else 0  # or only names them
    elif hasattr(net, "latent"):
        prior = settings["game"].get("prior", "normal")
        first = Port(name="noise", shape=(int(net.latent),), kind="float32", values=f"drawn as game.prior={prior} says")  # type: ignore[arg-type]
    if (given := blank(net, 1)).dim() == 2:
        return first, _text(given, data)
    if role == "generator" and getattr(net, "conditional", False) and not classes:
        raise ConfigError("network", "this generator reads an image", "noise, labels and sentences alone",
                          "network=discriminator")  # fmt: skip
    if role == "discriminator" and reads_image(net):
        return images, replace(images, name="inputs")  # what the images were made from
    labels = Port(name="labels", shape=(), kind="int64", values=f"0 to {classes - 1}", below=classes)
    return (first, labels) if reads else (first,)


def blank(net: nn.Module, count: int) -> Tensor:
    """Conditions that a network can read: labels of class 0 [count], or what it says itself, such as sentences."""
    made: Tensor = net.blank(count) if hasattr(net, "blank") else torch.zeros(count, dtype=torch.int64)  # type: ignore
    return made


def _text(given: Tensor, data: Mapping[str, Any]) -> Port:
    """Sentences as a network reads them: the words by number [L], or what another encoder made of them [E]."""
    if given.is_floating_point():
        return Port(name="text", shape=tuple(given.shape[1:]), kind="float32", values="rows of dataset.text")
    words = f"numbers of words, from 1 on in the order of dataset.words, below {data['word_count']}; 0 after the end"
    return Port(name="text", shape=tuple(given.shape[1:]), kind="int64", values=words, below=data["word_count"])


@torch.no_grad()
def _outputs(subject: Subject, net: nn.Module) -> tuple[Port, ...]:
    made = run_seeded(subject.network, subject.draw(FEW), 0)
    shapes = [tuple(tensor.shape[1:]) for tensor in made]
    if subject.role == "generator":
        bounded = getattr(net, "range", (-1.0, 1.0)) == (-1.0, 1.0)
        values = "[-1, 1]" if bounded else "meant to be in [-1, 1], not bounded: clamp them before they are shown"
        name = "images" if subject.inputs[0].name == "noise" else "translated"  # one name for one tensor, in ONNX
        return (Port(name=name, shape=shapes[0], kind="float32", values=values),)
    heads = net(*_as_read(subject.draw(FEW))).heads
    scores = f"as loss={type(subject.pair.loss).__name__} reads them"
    named = zip(["score", *heads], shapes, [scores, *["a head of the network"] * len(heads)], strict=True)
    return tuple(Port(name=name, shape=shape, kind="float32", values=values) for name, shape, values in named)


def _as_read(given: tuple[Tensor, ...]) -> tuple[Tensor, Tensor | None]:
    return given[0], given[1] if len(given) > 1 else None


def run_seeded(network: Any, given: tuple[Tensor, ...], seed: int) -> tuple[Tensor, ...]:
    """The outputs of a network, always as a tuple, with torch's generator seeded before: images or scores [N, ...]."""
    reseed(seed, "export")
    made = network(*given)
    return (made,) if isinstance(made, Tensor) else tuple(made)


def plain(net: nn.Module) -> nn.Module:
    """A copy in evaluation mode whose weights are what the layers compute with: no spectral norm, no scale is left.

    torch's own `remove_parametrizations` would change the class that a copy shares with its original.
    """
    copy = deepcopy(net).eval().requires_grad_(False)
    for layer in list(copy.modules()):
        if parametrize.is_parametrized(layer):
            values = {name: getattr(layer, name).detach().clone() for name in layer.parametrizations}  # type: ignore[union-attr]
            layer.__class__ = parametrize.type_before_parametrizations(layer)
            del layer.parametrizations
            for name, value in values.items():
                layer.register_parameter(name, nn.Parameter(value, requires_grad=False))
    return copy
