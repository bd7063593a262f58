"""The verdict on real images before a run: what they are, in figures, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from ganrun.core.errors import literal
from ganrun.data.transforms.value_range import ValueRange, likely_range
from ganrun.diagnosis.finding import Finding
from ganrun.diagnosis.images import Agreement, agreement, class_counts, copies, dead_channels, of_one_value

ROUNDING = 1e-3  # by which values may be outside [-1, 1]
NARROW = 1.0  # of [-1, 1], half: values that differ by less than this, or as much as images of [0, 1] do
COPIES = 0.25  # share of images that are copies of another one
CONSTANT = 0.01  # share of images of one value
FEW = 500  # images. Karras et al. 2020 (ADA) and Zhao et al. 2020 (DiffAugment) augment far more than these
RARE = 0.1  # a class with less than this share of the largest one's images. Cui et al. 2019: long-tailed from 10 on
CHANCE = 0.01  # p of the agreement of labels above which they may as well be random
ENOUGH = 100  # images from which the agreement of labels is judged


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFacts:
    """What one stream of real images is, as far as it was looked at."""

    count: int  # images to train on
    channels: int
    resolution: int  # pixels
    span: ValueRange  # of values where -1 and 1 are the ends
    looked_at: int  # images that the following is about
    copies: int  # images that are the same as an earlier one
    of_one_value: int  # images with one value in each channel
    dead_channels: tuple[int, ...]  # of one value in all images
    classes: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()  # images of each class, of all images
    agreement: Agreement | None = None  # of labels of neighbours; None without labels, and for one class


def look(images: Tensor, labels: Tensor | None, *, span: ValueRange, all_labels: Tensor | None = None,
         count: int | None = None, classes: Sequence[str] = ()) -> DataFacts:  # fmt: skip
    """The facts of images [N, C, H, W] and their labels [N], which may be some of `count`.

    `all_labels` [count] are those of all images, whose classes are counted; without them, `labels` are.
    """
    pictures = images.shape[-1] > 1  # points are neither copies nor of one value by accident
    whole = labels if all_labels is None else all_labels
    several = labels is not None and len(classes) > 1 and pictures
    return DataFacts(
        count=len(images) if count is None else count,
        channels=images.shape[1],
        resolution=images.shape[-1],
        span=span,
        looked_at=len(images),
        copies=copies(images) if pictures else 0,
        of_one_value=of_one_value(images) if pictures else 0,
        dead_channels=tuple(dead_channels(images)) if pictures else (),
        classes=tuple(classes),
        counts=() if whole is None else tuple(class_counts(whole.cpu(), len(classes))),
        agreement=agreement(images, labels) if several and labels is not None else None,
    )


def described(facts: DataFacts) -> list[str]:
    """The facts as lines for a reader."""
    span, size = facts.span, f"{facts.channels} x {facts.resolution} x {facts.resolution}"
    lines = [f"{facts.count:,} images of {size}, values from {span.low:.3g} to {span.high:.3g}, mean {span.mean:.3g}"]
    if facts.counts:
        lines.append(f"{_several(len(facts.counts), 'class')} of {min(facts.counts):,} to {max(facts.counts):,} images")
    found = [f"{_several(facts.copies, 'copy')}, {facts.of_one_value or 'none'} of one value"] * (facts.resolution > 1)
    if (known := facts.agreement) is not None:
        found.append(f"the most similar image has the same label for {known.share:.0%} (by chance {known.chance:.0%})")
    return lines + [f"{facts.looked_at:,} were looked at: {'; '.join(found)}"] * bool(found)


def findings(
    facts: DataFacts, *, labels_read: bool, augmented: bool, tricks: Sequence[str],
    ends: tuple[float, float] | None = None,
) -> list[Finding]:  # fmt: skip
    """What is wrong with these images for a run whose networks read labels or not, and see augmented images or not.

    `tricks` are the run's; `ends` are the raw values that became -1 and 1, None where that is not a setting.
    """
    found = [*_values(facts, ends), *_number(facts, augmented, tricks), *_sameness(facts)]
    return found + (list(_labels(facts)) if labels_read else [])


def _values(facts: DataFacts, ends: tuple[float, float] | None) -> Iterator[Finding]:
    low, high, mean = facts.span
    outside = low < -1 - ROUNDING or high > 1 + ROUNDING
    if facts.resolution > 1 and (outside or high - low <= NARROW + ROUNDING):
        why = "lie outside [-1, 1]" if outside else "fill half of [-1, 1] or less"
        yield Finding(
            name="data_out_of_range",
            failure=True,
            meaning=f"The values of the images {why}, so D can tell every fake by its values alone.",
            evidence={"least": low, "largest": high, "mean": mean},
            remedies=() if ends is None else (f"dataset.range={_usual(facts.span, ends)}", "dataset.range=null"),
        )


def _usual(span: ValueRange, ends: tuple[float, float]) -> str:
    """The usual range that these values fill before they are scaled, as it is typed."""
    low, high = ends
    raw = ValueRange(*(round(low + (value + 1) / 2 * (high - low), 6) for value in span))
    return "[{:.6g},{:.6g}]".format(*likely_range(raw))


def _number(facts: DataFacts, augmented: bool, tricks: Sequence[str]) -> Iterator[Finding]:
    if facts.count < FEW and facts.resolution > 1 and not augmented:
        yield Finding(
            name="few_images",
            meaning="D can learn so few images by heart, and then it teaches G nothing.",
            evidence={"images": facts.count},
            remedies=tuple(with_trick(tricks, name) for name in ("diffaugment", "ada", "mirror")),
        )


def _sameness(facts: DataFacts) -> Iterator[Finding]:
    if facts.copies > COPIES * facts.looked_at:
        yield Finding(
            name="copies_in_data",
            meaning="Many images are exact copies of others: they count several times, and images that are trained on "
            "may be among those that are held out.",
            evidence={"copies": facts.copies, "images": facts.looked_at},
        )
    if facts.of_one_value > CONSTANT * facts.looked_at:
        yield Finding(
            name="images_of_one_value",
            meaning="Some images have one value everywhere, such as black ones, and G learns to make these too.",
            evidence={"of_one_value": facts.of_one_value, "images": facts.looked_at},
        )
    if facts.dead_channels and len(facts.dead_channels) < facts.channels:
        yield Finding(
            name="dead_channels",
            meaning="Some channels have one value in all images, such as an opaque alpha channel; any deviation of G "
            "there tells D that an image is fake.",
            evidence={f"channel_{channel}": 1.0 for channel in facts.dead_channels},
            remedies=("dataset.channels=3", "dataset.channels=1")[facts.channels < 4 :],
        )


def _labels(facts: DataFacts) -> Iterator[Finding]:
    if facts.counts and min(facts.counts) < RARE * max(facts.counts):
        often = [name for name, n in zip(facts.classes, facts.counts, strict=True) if n >= RARE * max(facts.counts)]
        yield Finding(
            name="classes_imbalanced",
            meaning="Some classes have less than a tenth of the images of the largest; their samples will be poor.",
            evidence={"smallest": min(facts.counts), "largest": max(facts.counts)},
            remedies=(f"dataset.classes={literal(often)}",) * (len(often) > 1),
        )
    known = facts.agreement
    if known is not None and facts.looked_at >= ENOUGH and known.p > CHANCE:
        yield Finding(
            name="labels_at_chance",
            meaning="Images that look alike share a label no more often than under shuffled labels: the labels may "
            "belong to other images.",
            evidence={"agreement": known.share, "chance": known.chance, "p": known.p},
            remedies=("model=dcgan", "model=mlp"),
        )


def with_trick(tricks: Sequence[str], name: str) -> str:
    """The override that adds a trick to these."""
    return f"tricks=[{','.join([*tricks, name])}]"


def _several(count: int, noun: str) -> str:
    """A number with its noun: 1 class, 10 classes, no copies."""
    plural = {"class": "classes", "copy": "copies"}[noun]
    return f"{count:,} {noun if count == 1 else plural}" if count else f"no {plural}"
