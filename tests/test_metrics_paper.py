"""SWD and MS-SSIM as ProGAN's paper has them: against NumPy written from the authors' code, and closed forms."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import TINY, Nursery, refusal
from scipy.ndimage import convolve
from scipy.signal import fftconvolve
from torch import Tensor

from ganrun.core.errors import ConfigError
from ganrun.core.seeding import generator
from ganrun.data.datasets.shapes import Shapes
from ganrun.data.transforms.value_range import to_units
from ganrun.metrics import ms_ssim, sliced_wasserstein
from ganrun.metrics.ms_ssim import random_pairs, scales, similarity, ssim
from ganrun.metrics.requested import Requested, check
from ganrun.metrics.sliced_wasserstein import laplacian, patches, sides, standard, swd

torch.set_num_threads(1)
SMALL = [word for word in TINY if word not in ("dataset.held_out=0", "metrics=none")]


def noise(seed: int, *shape: int, blurred: float = 0.0) -> Tensor:
    """Images of noise in [-1, 1], in part from coarse pixels."""
    drawn = torch.rand(*shape, generator=generator(seed, "noise")) * 2 - 1
    coarse = torch.nn.functional.interpolate(drawn[:, :, ::4, ::4], scale_factor=4)
    return drawn.lerp(coarse, blurred)


# The sliced Wasserstein distance --------------------------------------------------------------------------------------

BINOMIAL = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]) / 256


def numpy_pyramid(images: np.ndarray, levels: int) -> list[np.ndarray]:
    """The pyramid of the authors' code: SciPy's convolution, mirrored at the edges. [N, C, H, W] each"""
    found = [images]
    for _ in range(levels - 1):
        small = convolve(found[-1], BINOMIAL[None, None], mode="mirror")[:, :, ::2, ::2]
        zeros = np.zeros_like(found[-1])
        zeros[:, :, ::2, ::2] = small
        found[-1] = found[-1] - convolve(zeros, 4 * BINOMIAL[None, None], mode="mirror")
        found.append(small)
    return found


def numpy_patches(images: np.ndarray, rng: np.random.Generator, each: int = 128) -> np.ndarray:
    """Patches of 7x7 at random places, standardised channel by channel. [128 N, 49 C]"""
    side, cut = images.shape[-1], []
    for image in images:
        for y, x in rng.integers(0, side - 6, (each, 2)):
            cut.append(image[:, y : y + 7, x : x + 7])
    stacked = np.stack(cut)
    stacked = stacked - stacked.mean((0, 2, 3), keepdims=True)
    return (stacked / stacked.std((0, 2, 3), keepdims=True)).reshape(len(stacked), -1)


def numpy_swd(one: Tensor, other: Tensor) -> list[float]:
    """1,000 times the distance of each level, the largest first, with randomness of its own."""
    rng, count = np.random.default_rng(3), len(sides(one.shape[-1]))
    both = [numpy_pyramid(((images + 1) * 127.5).round().double().numpy(), count) for images in (one, other)]
    found = []
    for levels in zip(*both, strict=True):
        points = [numpy_patches(level, rng) for level in levels]
        directions = rng.standard_normal((points[0].shape[1], 512))
        directions /= np.linalg.norm(directions, axis=0)
        projected = [np.sort(some @ directions, axis=0) for some in points]
        found.append(1000 * np.abs(projected[0] - projected[1]).mean())
    return found


def test_the_pyramid_is_that_of_scipy_and_adds_up_again() -> None:
    images = noise(0, 2, 3, 64, 64).double() * 100
    ours, theirs = laplacian(images, 3), numpy_pyramid(images.numpy(), 3)
    for one, other in zip(ours, theirs, strict=True):
        assert np.allclose(one.numpy(), other, atol=1e-9)
    whole = ours[2]
    for level in ours[1::-1]:
        whole = sliced_wasserstein.doubled(whole) + level
    assert torch.allclose(whole, images)


def test_it_is_the_distance_of_the_authors_code() -> None:
    """On images that differ at one level more than at the other; the two draw different patches and directions."""
    one, other = noise(0, 30, 3, 32, 32), noise(1, 30, 3, 32, 32, blurred=0.9)
    ours, theirs = swd(one, other), numpy_swd(one, other)
    assert list(ours) == [32, 16] and min(theirs) > 20
    assert list(ours.values()) == pytest.approx(theirs, rel=0.06)
    assert ours[32] > 1.5 * swd(one, noise(2, 30, 3, 32, 32))[32]


def test_shifted_normal_points_have_the_distance_of_the_closed_form() -> None:
    """The projections are shifted by |m| u with u a coordinate of a point on the sphere, whose mean is known."""
    points = torch.randn(2000, 8, generator=generator(0, "points"), dtype=torch.float64)
    shift = torch.zeros(8, dtype=torch.float64)
    shift[2] = 3.0
    mean_of_u = math.gamma(4) / (math.sqrt(math.pi) * math.gamma(4.5))
    found = sliced_wasserstein.sliced_wasserstein(points, points + shift, generator(0, "directions"))
    assert found == pytest.approx(3 * mean_of_u, rel=0.07)  # 512 directions: 3.3 % of deviation
    others = torch.randn(2000, 8, generator=generator(1, "points"), dtype=torch.float64)
    again = sliced_wasserstein.sliced_wasserstein(points, others + shift, generator(0, "directions"))
    assert again == pytest.approx(found, rel=0.03)
    with pytest.raises(ConfigError, match=r"^points: 2000 and 1999, expected equally many"):
        sliced_wasserstein.sliced_wasserstein(points, points[1:], generator(0, "directions"))


def test_patches_hold_what_is_in_the_images_and_reach_every_place() -> None:
    """Of images whose pixels are their own numbers; the level is the whole image where there is only one."""
    images = (torch.arange(256.0).view(1, 1, 16, 16) / 127.5 - 1).repeat(8, 2, 1, 1)
    found = patches(images, 0, generator(0, "places"))
    assert found.shape == (1024, 2, 7, 7)
    corner = found[:, :, :1, :1]
    assert torch.equal(found, corner + 16 * torch.arange(7.0).view(7, 1) + torch.arange(7.0))
    assert corner.unique().numel() == 100  # ten by ten places
    flat = standard(torch.zeros(10, 2, 7, 7))
    assert flat.shape == (10, 98) and not flat.any()


def test_levels_end_at_16_pixels_and_at_odd_sides() -> None:
    assert [sides(side) for side in (1024, 48, 50, 16, 15)] == [[1024, 512, 256, 128, 64, 32, 16], [48, 24], [50, 25],
                                                                [16], []]  # fmt: skip
    with pytest.raises(ConfigError, match=r"^images: \[4, 1, 8, 8\] and \[4, 1, 8, 8\], expected .*16 pixels"):
        swd(torch.zeros(4, 1, 8, 8), torch.zeros(4, 1, 8, 8))


# MS-SSIM --------------------------------------------------------------------------------------------------------------


def numpy_ms_ssim(one: np.ndarray, other: np.ndarray, count: int) -> float:
    """TensorFlow's msssim.py in short, with a window in two dimensions and a Fourier convolution. [C, H, W] each"""
    weights, result = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])[:count], 1.0
    weights = weights if count == 5 else weights / weights.sum()
    for number, weight in enumerate(weights):
        size = min(11, one.shape[-1])
        y, x = np.mgrid[:size, :size] - (size - 1) / 2
        window = np.exp(-(x**2 + y**2) / (2 * (1.5 * size / 11) ** 2))
        window = (window / window.sum())[None]
        a, b, aa, bb, ab = (fftconvolve(i, window, mode="valid") for i in (one, other, one**2, other**2, one * other))
        c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
        contrast = (2 * (ab - a * b) + c2) / (aa - a**2 + bb - b**2 + c2)
        whole = (2 * a * b + c1) / (a**2 + b**2 + c1) * contrast
        last = number == count - 1
        result *= max((whole if last else contrast).mean(), 0) ** weight
        one, other = (i.reshape(len(i), i.shape[1] // 2, 2, -1, 2).mean((2, 4)) for i in (one, other))
    return result


@pytest.mark.parametrize("side, count", [(128, 5), (64, 4), (32, 3), (16, 2)])
def test_it_is_the_similarity_of_tensorflows_code(side: int, count: int) -> None:
    one = noise(0, 3, 3, side, side, blurred=0.8)
    other = one.lerp(noise(1, 3, 3, side, side, blurred=0.8), torch.tensor([0.1, 0.5, 0.9]).view(3, 1, 1, 1))
    one, other = ((images + 1) * 127.5 for images in (one, other))
    assert scales(side) == count
    ours = ms_ssim.ms_ssim(one, other)
    theirs = [numpy_ms_ssim(*pair, count) for pair in zip(one.double().numpy(), other.double().numpy(), strict=True)]
    assert ours.tolist() == pytest.approx(theirs, rel=1e-4, abs=1e-6) and ours[0] > 0.9 > 0.5 > ours[2]
    assert ms_ssim.ms_ssim(one, one).tolist() == pytest.approx([1] * 3)


def test_flat_images_differ_in_brightness_alone() -> None:
    """(2 a b + c) / (a^2 + b^2 + c), Wang et al. 2004, equation 6; of three scales to the power of the last weight."""
    flat = torch.tensor([50.0, 200.0]).view(2, 1, 1, 1).expand(2, 1, 32, 32)
    expected = (2 * 50 * 200 + 6.5025) / (50**2 + 200**2 + 6.5025)
    whole, contrast = ssim(flat[:1], flat[1:])
    assert (whole.item(), contrast.item()) == pytest.approx((expected, 1), rel=1e-3)  # float32, of squares of 200
    last = 0.3001 / (0.0448 + 0.2856 + 0.3001)
    assert ms_ssim.ms_ssim(flat[:1], flat[1:]).item() == pytest.approx(expected**last, rel=1e-3)


def test_pairs_are_of_different_images_and_of_one_class_where_that_is_asked_for() -> None:
    pairs = random_pairs(20, None, 0)
    assert pairs.shape == (10_000, 2) and (pairs[:, 0] != pairs[:, 1]).all()
    counts = torch.bincount(pairs[:, 0] * 20 + pairs[:, 1])
    assert (counts > 0).sum() == 380 and counts.max() < 60  # of 26 in the mean
    labels = torch.tensor([0, 0, 1, 2, 2, 2])
    pairs = random_pairs(6, labels, 0)
    assert (labels[pairs[:, 0]] == labels[pairs[:, 1]]).all() and (pairs[:, 0] != pairs[:, 1]).all()
    assert torch.bincount(labels[pairs[:, 0]]).tolist() == [5000, 0, 5000]
    assert len(random_pairs(3, torch.arange(3), 0)) == 0


def test_a_collapse_is_seen_and_one_within_the_classes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two images, each many times: every pair of one class is equal, half of all pairs are."""
    monkeypatch.setattr(ms_ssim, "PAIRS", 2000)
    images = noise(0, 2, 1, 32, 32).repeat_interleave(20, 0)
    labels = torch.arange(2).repeat_interleave(20)
    of_two = ms_ssim.ms_ssim(*(((images[[0, 20]] + 1) * 127.5).round()[:, None])).item()
    assert similarity(images, labels) == pytest.approx(1)
    assert similarity(images) == pytest.approx(19 / 39 + 20 / 39 * of_two, abs=0.03)


# In runs and in `ganrun evaluate` -------------------------------------------------------------------------------------


def test_damage_is_seen_at_its_level_and_reals_are_the_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise of single pixels is at the largest level; images of one kind alone are more alike than all are."""
    monkeypatch.setattr(ms_ssim, "PAIRS", 500)
    images = to_units(Shapes(size=120, seed=0, scales=(0.15, 0.3), channels=3, resolution=32, classes=None).bulk()[0])
    asked = Requested(images[:60], swd=True, ms_ssim=True)
    reals = asked.measure(images[60:])
    assert list(reals) == ["swd_32_held_out", "swd_16_held_out", "swd_mean_held_out", "ms_ssim_3_scales"]
    noisy = swd(images[:60], images[60:] + 0.1 * noise(0, 60, 3, 32, 32))
    seen = {level: noisy[level] / reals[f"swd_{level}_held_out"] for level in (32, 16)}
    assert seen[32] > 3 and seen[32] > 2 * seen[16]
    asked = Requested(images[:60], swd=False, ms_ssim=True)
    alike = asked.measure(images[60:70].repeat(6, 1, 1, 1), torch.arange(10).repeat(6))
    assert alike["ms_ssim_3_scales"] > reals["ms_ssim_3_scales"] + 0.02 and alike["class_ms_ssim_3_scales"] > 0.999
    assert asked.names(labelled=True) == list(alike)
    assert list(asked.measure(images[:5], torch.arange(5))) == ["ms_ssim_3_scales"]  # no class has two


def test_what_images_are_too_small_for_is_refused() -> None:
    check(8, swd=False, ms_ssim=True)
    expected = r"^metrics.swd: true, of 8 pixels, expected 16 pixels or more. Try: metrics.swd=false"
    with pytest.raises(ConfigError, match=expected):
        check(8, swd=True, ms_ssim=False, place="metrics.{}")
    with pytest.raises(ConfigError, match=r"^ms_ssim: true, of 2 pixels, expected 8 pixels or more"):
        check(2, swd=False, ms_ssim=True)


def test_a_run_has_them_where_that_is_asked_for(nursery: Nursery, tmp_path: Path) -> None:
    how = (*SMALL, "metrics.samples=50", "metrics.every=2", "log.best=metrics/swd_mean_50_held_out")
    asked = ("metrics.swd=true", "metrics.ms_ssim=true")
    ended = nursery.run("steps=2", *how, *asked, "hydra.run.dir=run", folder=tmp_path)
    assert ended.code == 0, ended
    line = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    names = {"metrics/swd_16_50_held_out", "metrics/swd_mean_50_held_out", "metrics/ms_ssim_2_scales_50"}
    assert names <= line.keys() and summary["quality"]["floor"].keys() == names
    assert line["metrics/swd_16_50_held_out"] > 3 * summary["quality"]["floor"]["metrics/swd_16_50_held_out"] > 0
    assert summary["best"]["value"] == line["metrics/swd_mean_50_held_out"]


def test_an_evaluation_has_them_where_that_is_asked_for(nursery: Nursery, tmp_path: Path) -> None:
    """Of noise, and of two pictures alone, beside what other pictures of the data have."""
    for name, images in (("data", noise(0, 150, 1, 16, 16, blurred=0.8)), ("noise", noise(1, 60, 1, 16, 16))):
        np.save(tmp_path / f"{name}.npy", ((images + 1) * 127.5).round().byte().numpy())
    against = ("against=array", "dataset.path=data.npy", "dataset.held_out=60")
    words = ("evaluate", "noise.npy", *against, "samples=60", "swd=true", "ms_ssim=true", "out=found")
    ended = nursery.run(*words, folder=tmp_path)
    assert ended.code == 0 and ended.err == "", ended
    found = json.loads((tmp_path / "found" / "evaluation.json").read_text())
    names = ["swd_16_held_out", "swd_mean_held_out", "ms_ssim_2_scales"]
    assert list(found["metrics"])[-3:] == list(found["of_reals"])[-3:] == names
    assert found["metrics"]["swd_16_held_out"] > 3 * found["of_reals"]["swd_16_held_out"]
    assert found["metrics"]["ms_ssim_2_scales"] < found["of_reals"]["ms_ssim_2_scales"]
    rows = [line.split() for line in ended.out.splitlines() if line.startswith(("swd", "ms_ssim"))]
    assert [row[0] for row in rows] == names and {row[-1] for row in rows} == {"lower"}
    ended = nursery.run(*words[:-1], "dataset.resolution=8", folder=tmp_path)
    assert refusal(ended).startswith("swd: true, of 8 pixels, expected 16 pixels or more. Try: swd=false")
