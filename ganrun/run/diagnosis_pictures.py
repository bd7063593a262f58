"""Pictures that explain findings: where D's score of a fake rises, and the training images nearest to samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ganrun.core.errors import ConfigError
from ganrun.core.from_noise import FromNoise
from ganrun.core.modes import evaluating
from ganrun.data.datasets.base import Dataset
from ganrun.record.grid import grid
from ganrun.report.diagnosis_page import Illustration, coloured
from ganrun.run.evaluation import beside_nearest, data_of_run, some
from ganrun.run.load import LoadedRun, load

SHOWN = 8  # samples
LOOKED_AT = 5000  # training images, at most
GRADIENT = (
    "Samples, and below each the size of the gradient of D's score with respect to every pixel, the largest of each "
    "image bright. It is what G learns from: dark all over, or specks in the corners, say that little is to be learnt."
)
NEAREST = (
    "Samples, and below each the training image that is nearest to it in 16x16 pixels: the same picture is a copy."
)


def illustrations(path: Path, plugins: Sequence[str]) -> Iterator[Illustration]:
    """The pictures for which this run has what they need: a checkpoint, images from noise alone, its data."""
    with suppress(ConfigError):
        run = load(path, plugins=plugins, device="cpu")
        if run.game.classes or not isinstance(run.game, FromNoise):
            return
        samples = run.sample(SHOWN, seed=1)
        yield Illustration(title="Where D's score of a fake rises", note=GRADIENT, image=_gradients(run, samples))
        data = data_of_run(path, plugins)
        if isinstance(data, Dataset) and samples.shape[-1] > 1:
            image = grid(beside_nearest(samples, some(data, LOOKED_AT).images), 2)
            yield Illustration(title="The nearest training images", note=NEAREST, image=image)


def _gradients(run: LoadedRun, samples: Tensor) -> np.ndarray:
    """Samples above the gradient of D's score.

    uint8 [H, W, 3]
    """
    images = samples.clone().requires_grad_()
    with evaluating(run.discriminator), torch.enable_grad():
        score = run.discriminator(images, None).score
        (gradient,) = torch.autograd.grad(score.float().sum(), images)
    size = gradient.norm(dim=1)
    size = size / size.amax((1, 2), keepdim=True).clamp(min=1e-30)
    below = torch.from_numpy(coloured(size.numpy())).permute(0, 3, 1, 2) / 127.5 - 1  # [N, 3, H, W]
    above = samples.expand(-1, 3, -1, -1) if samples.shape[1] == 1 else samples[:, :3]
    return grid(torch.cat([above, below]), 2)
