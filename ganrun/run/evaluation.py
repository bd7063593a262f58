"""Evaluating samples once: of a run, or pictures that another program made, against a data set's held-out reals."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from ganrun.config.build import open_data
from ganrun.config.compose import compose
from ganrun.config.instantiate import Maker
from ganrun.config.resume import reopen
from ganrun.core.context import Batch
from ganrun.core.errors import ConfigError
from ganrun.core.from_images import FromImages
from ganrun.core.seeding import generator
from ganrun.data.datasets.base import Dataset, DataSets
from ganrun.data.transforms.value_range import to_units
from ganrun.metrics.classifier import Classified, accepted, classifier, classify, resized, train
from ganrun.metrics.comparison import Comparison, joined, spaces
from ganrun.metrics.copying import Memorised, copying
from ganrun.metrics.features import LEAST, pixels
from ganrun.metrics.frechet import frechet_distance
from ganrun.metrics.published import HELD_OUT, TRAIN
from ganrun.metrics.requested import Requested, check
from ganrun.metrics.stacked import StackedModes, channels_of, digits_of
from ganrun.run.cache import cache_folder, keep
from ganrun.run.load import LoadedRun
from ganrun.run.measuring import CHUNK
from ganrun.run.published import Seen, networks
from ganrun.run.translating import Translating

MOST = 10_000  # training images that a classifier learns from, and that samples may be copies of
COMPARED = 5_000  # samples, and reals, of which every pair is compared
CELLS = 3  # of the three-sample test
SHOWN = 16  # samples beside their nearest training images
VERSION = 1  # of classifiers that are kept
CPU = torch.device("cpu")
NONE: Mapping[str, str | None] = {}  # no files of weights
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class SampleSet:
    """Samples to evaluate."""

    images: Tensor  # [N, C, H, W] in [-1, 1]
    wanted: Tensor | None  # [N] the classes that they were made for; None without any
    source: str  # in words


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What was measured of samples, and of real images in their place: those that samples are not compared with."""

    source: str
    against: str
    samples: int
    reals: int
    metrics: Mapping[str, float]
    of_reals: Mapping[str, float]  # the floor: what the same measures are of other reals; empty where there are none
    classes: Mapping[str, float]  # the share of samples of each class, by its name; empty without labels
    nearest: Tensor | None  # [2 K, C, H, W] samples, then the training image nearest to each

    def plain(self) -> dict[str, Any]:
        """All but the pictures, as JSON holds it."""
        return {
            "source": self.source, "against": self.against, "samples": self.samples, "reals": self.reals,
            "metrics": dict(self.metrics), "of_reals": dict(self.of_reals), "classes": dict(self.classes),
        }  # fmt: skip


class Reference:
    """A data set that samples are compared with: its held-out reals, or as papers do, those that were trained on."""

    def __init__(
        self,
        data: Dataset,
        count: int,
        progress: Progress = lambda *_: None,
        *,
        weights: Mapping[str, str | None] = NONE,
        device: torch.device = CPU,
        train: bool = False,
        swd: bool = False,
        ms_ssim: bool = False,
    ):
        """At most `count` held-out images, or with `train` training images.

        `weights` are files of published networks, by kind; they use this device. Raises ConfigError where none are held
        out to compare with, for images too small for `swd` or `ms_ssim`, and for weights as `published.networks` does.
        """
        if data.test is None and not train:
            found, remedy = "no image is held out, so there is nothing to compare with", "dataset.held_out=0.1"
            raise ConfigError("dataset.held_out", found, "some", remedy)
        check(data.resolution, swd=swd, ms_ssim=ms_ssim)
        published = networks(weights, "{}", channels=data.channels, resolution=data.resolution)
        self.data, self.progress, self.train = data, progress, train
        self.trained = some(data, MOST)
        self.held_out = None if data.test is None else some(data.test, count)
        self.reals = some(data, count) if train or self.held_out is None else self.held_out
        modes = getattr(data, "modes", None)
        mixture = None if modes is None else (modes, data.sigma)  # type: ignore[attr-defined]
        labels = self.reals.labels
        near = None if labels is None else labels[:COMPARED]
        self.comparison = Comparison(_spaces(self.reals.images[:COMPARED]), labels=near, mixture=mixture)
        labelled = labels is not None and self.are_images
        self.net = self._classifier() if labelled and not data.stacked else None
        self.stacked = self._stacked_modes() if labelled and data.stacked else None
        judged = self.net is not None and self.held_out is not None  # images that the classifier has not learnt from
        self._judged = classify(self.net, self.held_out.images) if judged else None  # type: ignore[arg-type, union-attr]
        against = TRAIN if train else HELD_OUT
        self.seen = Seen(published, self.reals.images, device, against)
        self.requested = Requested(self.reals.images, swd=swd, ms_ssim=ms_ssim, against=against)

    @property
    def are_images(self) -> bool:
        """Whether the data are images and not points."""
        return min(self.reals.images.shape[2:]) >= LEAST

    def evaluate(self, samples: SampleSet, against: str) -> Evaluation:
        """Measure samples, and other reals in their place. Raises ConfigError for images of another shape."""
        count = len(samples.images)
        classes: dict[str, float] = {}
        if (found := self._classified(samples.images)) is not None:
            shares = found.classes.bincount(minlength=len(self.data.classes)) / count
            classes = dict(zip(self.data.classes, shares.tolist(), strict=True))
        return Evaluation(
            source=samples.source, against=against, samples=count, reals=len(self.reals.images), classes=classes,
            metrics=self.measured(samples) | self.seen.measure(samples.images) | self._copies(samples.images)
            | self.requested.measure(samples.images, samples.wanted),
            of_reals=self._floor(count, by_class=samples.wanted is not None),
            nearest=beside_nearest(samples.images[:SHOWN], self.trained.images) if self.are_images else None,
        )  # fmt: skip

    def _floor(self, count: int, *, by_class: bool) -> dict[str, float]:
        """The same measures of at most `count` reals that samples are not compared with; empty where there are none."""
        others = self.held_out if self.train else self.trained
        if others is None:
            return {}
        images = others.images[:count]
        labels = others.labels[:count] if by_class and others.labels is not None else None
        found = self.measured(SampleSet(images=images, wanted=None, source="real images")) | self.seen.floor(images)
        return found | self.requested.measure(images, labels)

    def measured(self, samples: SampleSet) -> dict[str, float]:
        """All measures of samples but for copying, by name; what compares pairs, of the first 5,000."""
        wanted = None if samples.wanted is None else samples.wanted[:COMPARED]
        found = self.comparison.measure(_spaces(samples.images[:COMPARED]), wanted)
        found |= self.stacked.measure(samples.images) if self.stacked is not None else {}
        judged = self._classified(samples.images)
        if judged is not None and self._judged is not None:
            found |= {
                "accepted": accepted(self._judged, judged),
                "confidence": judged.confidence.median().item(),
                "fid_classifier": frechet_distance(self._judged.features, judged.features),
            }
        if judged is not None and samples.wanted is not None:
            found["asked_class_seen"] = (judged.classes == samples.wanted).double().mean().item()
        return found

    def _classified(self, images: Tensor) -> Classified | None:
        return None if self.net is None else classify(self.net, images)

    def _copies(self, images: Tensor) -> dict[str, float]:
        """The share of copies and the three-sample test in pixels; nothing for points, or without enough images."""
        if self.held_out is None or not self.are_images or min(len(images), len(self.trained.images)) < 20 * CELLS:
            return {}
        sets = (self.trained.images, self.held_out.images, images[:COMPARED])
        train, test, fakes = (pixels(some.float()) for some in sets)
        return {"memorised": Memorised(train, test).share(fakes), "copying": copying(train, test, fakes, cells=CELLS)}

    def _stacked_modes(self) -> StackedModes:
        """The modes of stacked images, by a classifier of the channels of training images."""
        base, names = self.data.stacked, self.data.classes
        assert self.data.labels is not None and self.trained.labels is not None
        numbers = torch.tensor([int(name) for name in names])[self.trained.labels]
        digits = digits_of(numbers, self.data.channels, base).flatten()[:MOST]
        net = self._trained(channels_of(self.trained.images)[:MOST], digits, base)
        return StackedModes(net, self.data.labels, names, base)

    def _classifier(self) -> nn.Sequential:
        """A classifier of the training images."""
        assert self.trained.labels is not None
        return self._trained(self.trained.images, self.trained.labels, len(self.data.classes))

    def _trained(self, images: Tensor, labels: Tensor, classes: int) -> nn.Sequential:
        """A classifier of images [N, C, H, W]: the one that is kept for these data, or a new one, which is kept."""
        channels = images.shape[1]
        key = f"{VERSION}/{self.data.fingerprint()}/{channels}/{classes}/{torch.__version__}"
        path = cache_folder() / f"classifier_{blake2b(key.encode(), digest_size=8).hexdigest()}.pt"
        net = classifier(channels, classes).eval()
        if _restored(net, path):
            return net
        progress = partial(self.progress, "classifier")
        net = train(resized(images), labels, 0, classes=classes, progress=progress)
        _keep(net, path)
        return net


def samples_of_run(run: LoadedRun, count: int, seed: int) -> SampleSet:
    """New samples of a run's generator, averaged where the run keeps an average; of equally many of each class."""
    wanted = torch.arange(count) % run.game.classes if run.game.classes else None
    return SampleSet(images=run.sample(count, wanted, seed), wanted=wanted, source=_named(run))


def translations_of_run(run: LoadedRun, data: DataSets, count: int) -> tuple[SampleSet, dict[str, float]]:
    """Translations of at most this many held-out images in the first direction, and the measures of all directions.

    `data` are those of the run. Raises ConfigError where none of them are held out.
    """
    assert isinstance(run.game, FromImages)
    if any(one.test is None for one in data.streams.values()):
        found, remedy = "no image is held out, so there is none to translate", "dataset.held_out=0.1"
        raise ConfigError("dataset.held_out", found, "some", remedy)
    translating, first = Translating(run.game, data.streams, run.device, count), next(iter(run.game.plans))
    source = f"{_named(run)}, {first}" if run.game.plans.keys() - {first} else _named(run)
    return SampleSet(images=translating.made(first).cpu(), wanted=None, source=source), translating.measure()


def _named(run: LoadedRun) -> str:
    return f"{run.path} at step {run.step:,}"


def beside_nearest(images: Tensor, trained: Tensor) -> Tensor:
    """Samples, then the training image nearest to each in 16x16 pixels. [K, C, H, W], [N, C, H, W] -> [2 K, C, H, W]"""
    near = torch.cdist(pixels(images.float()).double(), pixels(trained.float()).double()).argmin(1)
    return torch.cat([images, trained[near]])


def data_of_run(path: Path, plugins: Sequence[str]) -> DataSets:
    """The data set that a run was trained on. Raises ConfigError where it cannot be opened."""
    cfg, _ = reopen(path, [f"plugins=[{','.join(plugins)}]"] if plugins else [])
    return open_data(cfg, Maker(list(cfg.plugins)))


def opened(overrides: Sequence[str]) -> DataSets:
    """The data set that these overrides choose. Raises ConfigError."""
    return open_data(compose(list(overrides)), Maker())


def samples_of_files(path: Path, like: Dataset, count: int, seed: int) -> SampleSet:
    """At most this many pictures of a folder, an archive or an array file, at the size of these data.

    Raises ConfigError for what holds no images.
    """
    kind = "array" if path.suffix.lower() in (".npy", ".npz", ".h5", ".hdf5") else "folder"
    shape = [f"dataset.channels={like.channels}", f"dataset.resolution={like.resolution}"]
    where = f'dataset.path="{path}"'
    pictures = opened([f"dataset={kind}", where, "dataset.held_out=0", *shape])
    assert isinstance(pictures, Dataset)
    batch = some(pictures, count, seed)
    return SampleSet(images=batch.images, wanted=None, source=f"{len(batch.images):,} pictures of {path}")


def some(data: Dataset, most: int, seed: int = 0) -> Batch:
    """At most this many images, the same each time. [N, C, H, W] in [-1, 1] on the CPU"""
    order = torch.randperm(len(data), generator=generator(seed, "evaluation"))[:most]
    chosen = data.part(order)
    return Batch(to_units(chosen.bulk()[0]), chosen.condition)


def _spaces(images: Tensor) -> dict[str, Tensor]:
    if len(images) < 2:
        raise ConfigError("samples", f"{len(images)} of them", "two or more", "samples=1000")
    size = CHUNK if len(images) % CHUNK != 1 else CHUNK + 1  # no batch of one image alone
    return joined(map(spaces, images.split(size)))


def _restored(net: nn.Module, path: Path) -> bool:
    """Whether weights that were kept have been put into the network; what cannot be read is made anew."""
    try:
        net.load_state_dict(torch.load(path, weights_only=True))
    except (OSError, EOFError, RuntimeError, ValueError, TypeError, KeyError, AttributeError, UnpicklingError):
        return False  # missing, cut short, or something else
    return all(bool(one.isfinite().all()) for one in net.state_dict().values())


def _keep(net: nn.Module, path: Path) -> None:
    """Keep the weights for the next time; where nothing can be written, they are made again then."""
    buffer = io.BytesIO()
    torch.save(net.state_dict(), buffer)
    keep(path, buffer.getbuffer())
