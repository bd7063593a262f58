"""Pictures that explain findings: where D's score of a fake rises, and the training images nearest to samples."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ganrun.config.build import open_data
from ganrun.config.instantiate import Maker
from ganrun.config.resume import reopen
from ganrun.core.errors import ConfigError
from ganrun.core.modes import evaluating
from ganrun.data.sources.open import open_streams
from ganrun.metrics.features import pixels
from ganrun.record.grid import grid
from ganrun.report.diagnosis_page import Illustration, coloured
from ganrun.run.load import LoadedRun, load

SHOWN = 8  # samples
LOOKED_AT = 5000  # training images, at most


def illustrations(path: Path, plugins: list[str]) -> Iterator[Illustration]:
    """The pictures for which this run has what they need: a checkpoint, no labels, and its data where they were."""
    with suppress(ConfigError):
        run = load(path, plugins=plugins, device="cpu")
        if run.game.classes:
            return
        samples = run.sample(SHOWN, seed=1)
        yield Illustration(title="Where D's score of a fake rises", note=GRADIENT, image=_gradients(run, samples))
        yield Illustration(title="The nearest training images", note=NEAREST, image=_nearest(path, plugins, samples))


GRADIENT = (
    "Samples, and below each the size of the gradient of D's score with respect to every pixel, the largest of each "
    "image bright. It is what G learns from: dark all over, or specks in the corners, say that little is to be learnt."
)
NEAREST = (
    "Samples, and below each the training image that is nearest to it in 16x16 pixels: the same picture is a copy."
)


def _gradients(run: LoadedRun, samples: Tensor) -> np.ndarray:
    """Samples above the gradient of D's score.

    uint8 [H, W, 3]
    """
    images = samples.clone().requires_grad_()
    with evaluating(run.discriminator):
        score = run.discriminator(images, None).score
        (gradient,) = torch.autograd.grad(score.float().sum(), images)
    size = gradient.norm(dim=1)
    size = size / size.amax((1, 2), keepdim=True).clamp(min=1e-30)
    below = torch.from_numpy(coloured(size.numpy())).permute(0, 3, 1, 2) / 127.5 - 1  # [N, 3, H, W]
    above = samples.expand(-1, 3, -1, -1) if samples.shape[1] == 1 else samples[:, :3]
    return grid(torch.cat([above, below]), 2)


def _nearest(path: Path, plugins: list[str], samples: Tensor) -> np.ndarray:
    """Samples above what is nearest to them.

    uint8 [H, W, 1] or [H, W, 3]. Raises ConfigError where the data cannot be opened.
    """
    cfg, _ = reopen(path, [f"plugins=[{','.join(plugins)}]"] if plugins else [])
    data = open_data(cfg, Maker(plugins))
    streams = open_streams(data, seed=0, device=torch.device("cpu"), workers=0, memory=2.0, timeout=60.0)
    try:
        trained = next(iter(streams.sources.values())).examples(LOOKED_AT).images
    finally:
        streams.close()
    near = torch.cdist(pixels(samples.float()).double(), pixels(trained.float()).double()).argmin(1)
    return grid(torch.cat([samples, trained[near]]), 2)
