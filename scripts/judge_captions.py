"""How often the caption that a sample was made for is found among 100, by encoders trained on real pairs.

    scripts/judge_captions.py RUN [--samples 1000] [--steps 1500] [--encoder bag] [--json]

R-precision of text to image (Xu et al. 2018, AttnGAN, section 4: 100 captions, the right one and 99 others of random
images, R = 1), without a download. RUN was trained on data with captions, such as `dataset=emoji dataset.text=words`.
Two encoders, a convolutional network of images and a bag of words or a recurrent network of captions, are trained here
on the pairs that RUN was trained on, so that an image is nearer to its own caption than to the others of its batch.
Captions that are held out are asked for first: no network has seen these pairs. What held-out real images reach is the
ceiling, and what the encoders can tell at all; chance is 1 of 100. Samples for captions of training, and the reals they
belong to, come after. Without held-out images a fifth is kept from the encoders, but was not from RUN.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from judge_shapes import show
from torch import Tensor, nn

from ganrun.core.context import Condition
from ganrun.core.seeding import generator, reseed
from ganrun.data.datasets.base import Dataset
from ganrun.data.transforms.value_range import to_units
from ganrun.data.transforms.vocabulary import Vocabulary
from ganrun.metrics.classifier import resized
from ganrun.models.text import TextEncoder
from ganrun.run.draw import draw
from ganrun.run.evaluation import data_of_run
from ganrun.run.load import load

CANDIDATES = 100
BATCH, RATE = 128, 1e-3
SIZE = 64  # numbers by which an image and a caption are compared
TEMPERATURE = 0.07  # at first; learnt, as in CLIP, Radford et al. 2021
MOST = 10_000  # pairs to learn from


@dataclass(frozen=True, slots=True)
class Pairs:
    """Real images with their captions, and what a run's networks read of these."""

    images: Tensor  # [N, C, 32, 32] in [-1, 1]
    captions: Sequence[str]
    words: Tensor  # [N, L] int64, as the encoders here read them
    condition: Condition  # as the run reads them, [N, ...]


class Encoders(nn.Module):
    """An image and a caption as points on one sphere, near to each other when they belong together."""

    def __init__(self, channels: int, vocabulary: Vocabulary, kind: str):
        super().__init__()
        self.image = nn.Sequential(
            nn.Conv2d(channels, 32, 5, stride=2, padding=2), nn.ReLU(), nn.Conv2d(32, 64, 5, stride=2, padding=2),
            nn.ReLU(), nn.Dropout(0.3), nn.Flatten(), nn.Linear(64 * 8 * 8, SIZE),
        )  # fmt: skip
        self.text = TextEncoder(kind=kind, words=vocabulary.size, length=vocabulary.length, embed=SIZE, units=SIZE)
        self.sentence = nn.Sequential(nn.Linear(SIZE, SIZE), nn.ReLU(), nn.Linear(SIZE, SIZE))
        self.scale = nn.Parameter(torch.tensor(-math.log(TEMPERATURE)))

    def of_images(self, images: Tensor) -> Tensor:
        """[N, C, 32, 32] -> [N, 64] of length 1"""
        return F.normalize(self.image(images))

    def of_captions(self, words: Tensor) -> Tensor:
        """[N, L] int64 -> [N, 64] of length 1"""
        return F.normalize(self.sentence(self.text(words)))

    def loss(self, images: Tensor, words: Tensor) -> Tensor:
        """The contrastive loss, both ways; the same caption of another image is no wrong one. [B, ...], [B, L] -> []"""
        scores = self.scale.clamp(max=math.log(100)).exp() * self.of_images(images) @ self.of_captions(words).T
        same = (words[:, None] == words).all(2) & ~torch.eye(len(words), dtype=torch.bool)
        scores, right = scores.masked_fill(same, -torch.inf), torch.arange(len(words))
        return (F.cross_entropy(scores, right) + F.cross_entropy(scores.T, right)) / 2


def trained(pairs: Pairs, vocabulary: Vocabulary, *, steps: int, kind: str, seed: int) -> Encoders:
    """Encoders of these pairs, trained on random shifts of up to two pixels."""
    with torch.random.fork_rng(devices=[]):
        reseed(seed, "judge")
        net = Encoders(pairs.images.shape[1], vocabulary, kind)
        optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=0.05)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(steps):
            chosen = torch.randperm(len(pairs.images))[:BATCH]
            dx, dy = torch.randint(-2, 3, (2,)).tolist()
            loss = net.loss(pairs.images[chosen].roll((dx, dy), (2, 3)), pairs.words[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
    return net.eval()


def retrieved(images: Tensor, right: Tensor, captions: Tensor, seed: int = 0) -> Tensor:
    """Whether each image is nearest to its own caption, of that and 99 random others. [N, D], [N], [K, D] -> [N]

    `right` are the numbers of the images' captions, all of which differ. Of fewer than 100 captions all are candidates.
    One of several that are equally near counts as its share.
    """
    scores, drawn = images @ captions.T, generator(seed, "candidates")
    own = scores.gather(1, right[:, None])
    shuffled = torch.rand(scores.shape, generator=drawn).scatter_(1, right[:, None], torch.inf)
    others = scores.gather(1, shuffled.argsort(1)[:, : min(CANDIDATES, len(captions)) - 1])
    equal = (others == own).sum(1) + 1
    return torch.where((others > own).any(1), 0.0, 1 / equal)


def evaluate(path: Path, samples: int, seed: int, steps: int = 1500, kind: str = "bag") -> dict[str, object]:
    """The measurements by name."""
    run, data = load(path), data_of_run(path, [])
    assert isinstance(data, Dataset) and data.captions, f"the data of {path} have no captions"
    return {"step": run.step} | judged(
        data, lambda condition, count: draw(run.game, count, seed=seed, condition=condition),
        samples=samples, seed=seed, steps=steps, kind=kind,
    )  # fmt: skip


def judged(
    data: Dataset, made: Callable[[Condition, int], Tensor], *, samples: int, seed: int, steps: int, kind: str
) -> dict[str, object]:
    """What `evaluate` says of these data, and of what is `made` for conditions of a number of them [N, C, H, W]."""
    train, held_out = _split(data, seed)
    vocabulary = Vocabulary.of([*train.captions, *held_out.captions])
    known, new = (_pairs(part, vocabulary) for part in (train, held_out))
    net = trained(known, vocabulary, steps=steps, kind=kind, seed=seed)
    found: dict[str, object] = {"samples": samples, "candidates": min(CANDIDATES, len(set(new.captions)))}
    for end, pairs in (("", new), ("_of_training_captions", known)):
        rows = torch.arange(samples) % len(pairs.captions)
        images = resized(made(pairs.condition.each(partial(_at, rows=rows)), samples))
        found[f"retrieval{end}"] = _share(net, pairs, images, rows, seed)
        found[f"retrieval_of_reals{end}"] = _share(net, pairs, pairs.images, torch.arange(len(pairs.images)), seed)
        found[f"retrieval_by_chance{end}"] = round(1 / min(CANDIDATES, len(set(pairs.captions))), 4)
    return found


def _at(given: Tensor, rows: Tensor) -> Tensor:
    return given[rows]


@torch.no_grad()
def _share(net: Encoders, pairs: Pairs, images: Tensor, rows: Tensor, seed: int) -> float:
    """The share of images [N, C, 32, 32] whose caption, that of pair `rows` [N], is found among those of all pairs."""
    numbers: dict[str, int] = {}
    for caption in pairs.captions:
        numbers.setdefault(caption, len(numbers))
    first = [pairs.captions.index(caption) for caption in numbers]
    right = torch.tensor([numbers[pairs.captions[row]] for row in rows.tolist()])
    features = torch.cat([net.of_images(chunk) for chunk in images.split(500)])
    return round(retrieved(features, right, net.of_captions(pairs.words[first]), seed).mean().item(), 4)


def _split(data: Dataset, seed: int) -> tuple[Dataset, Dataset]:
    """Pairs to learn from, and others."""
    order = torch.randperm(len(data), generator=generator(seed, "split"))
    if data.test is not None:
        return data.part(order[:MOST]), data.test
    fifth = len(data) // 5
    return data.part(order[fifth:][:MOST]), data.part(order[:fifth])


def _pairs(data: Dataset, vocabulary: Vocabulary) -> Pairs:
    captions = list(data.captions)
    return Pairs(resized(to_units(data.bulk()[0])), captions, vocabulary.encode(captions), data.condition)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--samples", type=int, default=1000, help="of held-out captions, and of those of training")
    parser.add_argument("--steps", type=int, default=1500, help="of training the encoders")
    parser.add_argument("--encoder", choices=("bag", "gru"), default="bag", help="of captions")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = evaluate(arguments.run, arguments.samples, arguments.seed, arguments.steps, arguments.encoder)
    show(found, as_json=arguments.json)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
