"""How well images are translated: against what they should become, there and back, and by what they show."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from ganrun.metrics.classifier import predict, resized, train

BESIDE = ("change", "error_unchanged", "content_of_reals")  # what others are compared with: neither way is better
STEPS = 300  # in which a classifier of the target domain is trained


@dataclass(frozen=True, kw_only=True)
class Translated:
    """Images, what a generator made of them, and what is known of them. [N, C, H, W] each"""

    images: Tensor
    made: Tensor
    back: Tensor | None = None  # the translations translated back
    truth: Tensor | None = None  # what the images should become


def distances(one: Translated) -> dict[str, float]:
    """Mean absolute differences in [0, 2], by name.

    `change`: of translations to what they were made from. `cycle`: of images to themselves there and back, which says
    nothing while `change` is 0. `error`: of translations to what they should be; `error_unchanged`: of the images
    themselves to that, which a translation has to beat.
    """
    found = {"change": _distance(one.made, one.images)}
    if one.back is not None:
        found["cycle"] = _distance(one.back, one.images)
    if one.truth is not None:
        found |= {"error": _distance(one.made, one.truth), "error_unchanged": _distance(one.images, one.truth)}
    return found


class Content:
    """A classifier of the target domain's real images: whether translations still show what their images do."""

    def __init__(self, images: Tensor, labels: Tensor):
        """It is trained on these images [N, C, H, W] and labels [N]."""
        self.net: nn.Sequential = train(resized(images), labels, 0, classes=int(labels.max()) + 1, most=STEPS)

    def kept(self, made: Tensor, labels: Tensor) -> float:
        """The share of images [N, C, H, W] that it takes for what their labels [N] say, in [0, 1]."""
        return (predict(self.net, made)[0] == labels).double().mean().item()


def _distance(one: Tensor, other: Tensor) -> float:
    return (one - other).abs().double().mean().item()
