"""Measures of samples without trained weights: closed forms, counts by hand, and other people's implementations."""

import math
from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.stats import chi2, mannwhitneyu, norm
from sklearn.cluster import KMeans
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from ganrun.core.errors import ConfigError
from ganrun.core.seeding import generator
from ganrun.metrics.copying import Memorised, cell_centres, copying, mann_whitney, relative
from ganrun.metrics.features import CLIP, ROUNDING, SPACES, features, pixels, spectrum, standardised
from ganrun.metrics.frechet import frechet_distance
from ganrun.metrics.mmd import TwoSample, kid, rbf_gram, squared_mmd, two_sample
from ganrun.metrics.neighbours import neighbourhoods
from ganrun.metrics.quality import compare, quality
from ganrun.metrics.variety import closest_pair, duplicates, spread_ratio

TWO = norm.cdf(2)  # the share of a normal distribution below two deviations
LARGEST = chi2.ppf(TWO, 1) - 1  # what that share of the values stays below where samples do not overlap, times N
# torch-fidelity 0.4.0 (fid_statistics_to_metric, mmd2 with kernel_poly) and prdc 0.2 on `known_pair`:
FID_OF_TORCH_FIDELITY = 1.536145575964193
KID_OF_TORCH_FIDELITY = 0.2591664578736479
PRDC = (0.9666666666666667, 0.6833333333333333, 1.36, 0.95)


def points(seed: int, rows: int, columns: int = 8, shift: float = 0.0) -> Tensor:
    """Normal points that any version of NumPy draws alike. [rows, columns], float64"""
    return torch.from_numpy(np.random.RandomState(seed).randn(rows, columns) + shift)


def known_pair() -> tuple[Tensor, Tensor]:
    """The two samples of which prdc and torch-fidelity gave the figures above. [60, 8] each"""
    drawn = np.random.RandomState(0)
    return torch.from_numpy(drawn.randn(60, 8)), torch.from_numpy(0.8 * drawn.randn(60, 8) + 0.3)


# Features -------------------------------------------------------------------------------------------------------------


def test_a_wave_is_one_frequency_of_the_spectrum() -> None:
    """cos(2 pi 3 x / 32) has the power N / 4 = 256 at (0, 3) of an orthonormal transform of N = 1,024 pixels."""
    wave = torch.cos(2 * math.pi * 3 * torch.arange(32.0) / 32).expand(1, 3, 32, 32)
    power = spectrum(wave).exp().view(32, 17) - ROUNDING
    assert power[16, 3].item() == pytest.approx(256, rel=1e-4)
    assert power.sum().item() == pytest.approx(256, rel=1e-4)


def test_pixels_are_antialiased_and_the_spectrum_of_noise_is_flat() -> None:
    """A checkerboard is grey at half its size; white noise of variance v has the power v at every frequency."""
    board = 1 - 2 * ((torch.arange(64)[:, None] + torch.arange(64)) % 2).float()
    assert pixels(board.expand(1, 1, 64, 64)).view(16, 16)[2:-2, 2:-2].abs().max() < 1e-3
    noise = 0.3 * torch.randn(500, 1, 64, 64, generator=generator(0, "noise"))
    assert (spectrum(noise).exp().mean(0) / 0.09 - 1).abs().max() < 0.35  # four frequencies of 500 images: 3 % twice


def test_features_are_a_function_of_each_image_alone_and_leave_torch_alone() -> None:
    images = torch.rand(260, 3, 32, 32, generator=generator(0, "test")) * 2 - 1  # more than go through at once
    before = torch.get_rng_state()
    found = features(images)
    assert torch.equal(before, torch.get_rng_state())
    alone = features(images[-2:])
    for name in SPACES:
        assert found[name].dtype == torch.float64
        assert torch.allclose(found[name][-2:], alone[name], rtol=1e-4, atol=1e-4)
    assert not torch.equal(found["convolutions"][0], found["convolutions"][1])


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(4, 1, 32, 32, dtype=torch.uint8),
        torch.zeros(1, 1, 32, 32),
        torch.zeros(4, 1, 7, 32),
        torch.zeros(4, 32, 32),
        torch.full((3, 1, 8, 8), math.nan),
    ],
    ids=["bytes", "one image", "too small", "no channels", "NaN"],
)
def test_images_that_cannot_be_measured_are_refused(images: Tensor) -> None:
    with pytest.raises(ConfigError, match=r"^images: .*, expected "):
        features(images)


def test_standardised_by_hand() -> None:
    """Reals (0, 2, 4) have mean 2 and deviation 2; a constant feature has the floor, and what is far is clipped."""
    reals = torch.tensor([[0.0, 7.0], [2.0, 7.0], [4.0, 7.0]])
    real, fake = standardised(reals, torch.tensor([[5.0, 7.1], [100.0, 8.0]]))
    floor = 0.1 * math.sqrt((2**2 + 0) / 2)
    assert real.tolist() == [[-1, 0], [0, 0], [1, 0]]
    assert fake[0].tolist() == pytest.approx([1.5, 0.1 / floor], rel=1e-4)
    assert fake[1].tolist() == [CLIP, CLIP]


# Two samples ----------------------------------------------------------------------------------------------------------


def test_the_kernel_is_the_one_of_scikit_learn_with_the_median_distance() -> None:
    sample = points(0, 40)
    median = torch.pdist(sample).square().median().item()
    np.testing.assert_allclose(rbf_gram(sample), rbf_kernel(sample, gamma=1 / (2 * median)), atol=1e-12)


def test_the_statistic_is_a_loop_over_pairs() -> None:
    gram, first = rbf_gram(points(0, 9)), torch.tensor([[True] * 4 + [False] * 5, [False, True] * 4 + [False]])
    for marks, value in zip(first, squared_mmd(gram, first), strict=True):
        one, other = (torch.nonzero(some).flatten().tolist() for some in (marks, ~marks))
        terms = [
            np.mean([gram[i, j] for i in some for j in some if i != j]) if some is also
            else -2 * np.mean([gram[i, j] for i in some for j in also])
            for some, also in ((one, one), (other, other), (one, other))
        ]  # fmt: skip
        assert value.item() == pytest.approx(sum(terms), abs=1e-14)


@pytest.mark.parametrize(("seed", "shift", "above"), [(2, 0.8, True), (3, 0.0, False)])
def test_the_z_is_on_the_scale_of_all_permutations(seed: int, shift: float, above: bool) -> None:
    """Of 4 against 4 there are 70 ways to split: their mean is 0, and drawn ways have their quantiles."""
    reals, fakes = points(1, 4), points(seed, 4, shift=shift)
    gram = rbf_gram(torch.cat([reals, fakes]))
    ways = torch.tensor([[i in way for i in range(8)] for way in combinations(range(8), 4)])
    values = squared_mmd(gram, ways)
    assert len(values) == 70 and abs(values.mean().item()) < 1e-15
    found = two_sample(reals, fakes, permutations=20_000)
    assert found.mmd == pytest.approx(values[0].item())
    ranked = values.sort().values.tolist()
    assert bool(values[0] > 0) is above
    half = ranked[68] / 2 if above else -ranked[1] / 2  # of 70, 68 stay below the first, and 2 are not above the second
    assert found.z == pytest.approx(values[0].item() / half, rel=1e-6)
    assert ranked[65] / ranked[68] <= found.floor / 2 <= ranked[67] / ranked[68]


def test_z_is_within_2_as_often_as_a_normal_number() -> None:
    """Among points of heavy tails the statistic is skewed, which its standard deviation would not tell."""
    heavy = [torch.from_numpy(np.random.RandomState(i).standard_cauchy((60, 2))) for i in range(300)]
    z = np.array([two_sample(one[:30], one[30:], permutations=500).z for one in heavy])
    assert abs(np.mean(np.abs(z) <= 2) - (2 * TWO - 1)) < 0.036  # three standard errors
    assert abs(np.mean(z > 2) - (1 - TWO)) < 0.026 and abs(np.mean(z < -2) - (1 - TWO)) < 0.026


def test_equal_distributions_stay_below_the_floor_in_95_of_100() -> None:
    tests = [two_sample(points(2 * i, 30, 3), points(2 * i + 1, 30, 3), permutations=200) for i in range(200)]
    assert 0.9 <= np.mean([test.z <= test.floor for test in tests]) <= 0.99
    assert abs(np.mean([test.z for test in tests])) < 0.25  # three standard errors
    shifted = two_sample(points(0, 30, 3), points(1, 30, 3, shift=2.0))
    assert shifted.z > 10 and 1 < shifted.floor < 3


def test_the_largest_z_of_samples_that_do_not_overlap() -> None:
    """Two points, N times each: the statistic is 2 (1 - k), and (1 - k) (chi^2 - 1) / N under permutations, nearly."""
    found = two_sample(torch.zeros(500, 3), torch.ones(500, 3), permutations=2000)
    assert found.mmd == pytest.approx(2 * (1 - math.exp(-0.5)))
    assert found.z == pytest.approx(2 * 500 * 2 / LARGEST, rel=0.05)
    assert found.floor == pytest.approx(2 * (chi2.ppf(0.95, 1) - 1) / LARGEST, rel=0.1)


def test_a_seed_decides_and_no_difference_is_0() -> None:
    reals, fakes = points(0, 20), points(1, 20)
    assert two_sample(reals, fakes, seed=1) == two_sample(reals, fakes, seed=1) != two_sample(reals, fakes, seed=2)
    assert two_sample(torch.ones(5, 3), torch.ones(5, 3)) == TwoSample(0.0, 0.0, 0.0)
    collapsed = two_sample(reals[:10], torch.zeros(40, 8))  # more than half of the distances are 0
    assert math.isfinite(collapsed.z) and collapsed.z > 5


def test_kid_by_loops_and_by_torch_fidelity() -> None:
    reals, fakes = known_pair()
    assert kid(reals, fakes) == pytest.approx(KID_OF_TORCH_FIDELITY, rel=1e-9)
    x, y = reals[:5], fakes[:7]
    value = sum(((x[i] @ x[j]).item() / 8 + 1) ** 3 for i in range(5) for j in range(5) if i != j) / 20
    value += sum(((y[i] @ y[j]).item() / 8 + 1) ** 3 for i in range(7) for j in range(7) if i != j) / 42
    value -= 2 * sum(((x[i] @ y[j]).item() / 8 + 1) ** 3 for i in range(5) for j in range(7)) / 35
    assert kid(x, y) == pytest.approx(value, rel=1e-12)


# Fréchet distance -----------------------------------------------------------------------------------------------------


def test_frechet_is_that_of_sqrtm_and_of_torch_fidelity() -> None:
    reals, fakes = known_pair()
    s, t = np.cov(reals, rowvar=False), np.cov(fakes, rowvar=False)
    means = (reals.mean(0) - fakes.mean(0)).square().sum().item()
    assert frechet_distance(reals, fakes) == pytest.approx(means + np.trace(s + t - 2 * sqrtm(s @ t).real), rel=1e-9)
    assert frechet_distance(reals, fakes) == pytest.approx(FID_OF_TORCH_FIDELITY, rel=1e-9)


def test_frechet_of_scaled_and_moved_samples_in_closed_form() -> None:
    """Of x and a x + b: |m - (a m + b)|^2 + (1 - a)^2 tr S. Also with far fewer samples than features."""
    for rows, columns in ((50, 4), (10, 300)):
        sample = points(3, rows, columns)
        expected = (sample.mean(0) * -1.5 - 1).square().sum() + 1.5**2 * sample.var(0).sum()
        assert frechet_distance(sample, 2.5 * sample + 1) == pytest.approx(expected.item(), rel=1e-9)
        assert frechet_distance(sample, sample) == pytest.approx(0, abs=1e-9)
        assert frechet_distance(sample.float(), sample.float().flip(0)) == pytest.approx(0, abs=1e-9)


# Neighbours -----------------------------------------------------------------------------------------------------------


def test_neighbourhoods_are_those_of_prdc_and_of_a_loop() -> None:
    reals, fakes = known_pair()
    assert tuple(neighbourhoods(reals, fakes)) == pytest.approx(PRDC, abs=1e-12)
    reals, fakes, k = reals[:20], fakes[:13], 3
    radius = NearestNeighbors(n_neighbors=k + 1).fit(reals).kneighbors(reals)[0][:, k]
    of_fakes = NearestNeighbors(n_neighbors=k + 1).fit(fakes).kneighbors(fakes)[0][:, k]
    inside = [[math.dist(x, y) <= r for x, r in zip(reals, radius, strict=True)] for y in fakes]
    found = neighbourhoods(reals, fakes, k=k)
    assert found.precision == pytest.approx(np.mean([any(balls) for balls in inside]))
    assert found.density == pytest.approx(sum(map(sum, inside)) / (k * 13))
    assert found.coverage == pytest.approx(np.mean([any(balls) for balls in zip(*inside, strict=True)]))
    near = [any(math.dist(x, y) <= r for y, r in zip(fakes, of_fakes, strict=True)) for x in reals]
    assert found.recall == pytest.approx(np.mean(near))


def test_neighbourhoods_of_copies_of_few_and_of_strangers() -> None:
    """Ten copies of one real: precise, and in none of the other reals' balls. Balls of radius 0 hold what is equal."""
    reals = points(0, 40)
    first = reals[0].tolist()
    one = neighbourhoods(reals, reals[:1].repeat(10, 1), k=3)
    assert one.precision == 1 and one.recall == 1 / 40
    assert one.coverage == sum(math.dist(x, first) <= r for x, r in radii_of(reals, 3)) / 40
    assert neighbourhoods(reals, reals) == neighbourhoods(reals, reals.flip(0))
    assert tuple(neighbourhoods(reals, reals + 1000)) == (0, 0, 0, 0)


def radii_of(sample: Tensor, k: int) -> list[tuple[list[float], float]]:
    rows = sample.tolist()
    return [(x, sorted(math.dist(x, y) for y in rows)[k]) for x in rows]


# Variety --------------------------------------------------------------------------------------------------------------


def test_spread_by_hand() -> None:
    """A line of 0, 1, 2: distances 1, 1, 2, mean 4 / 3. Half as long: 1 / 2; collapsed: 0."""
    line = torch.tensor([[0.0], [1.0], [2.0]])
    assert spread_ratio(line, line / 2) == pytest.approx(0.5)
    assert spread_ratio(line, torch.zeros(4, 1)) == 0
    with pytest.raises(ConfigError, match=r"^reals: all equal"):
        spread_ratio(torch.zeros(4, 1), line)


def test_the_birthday_test_finds_how_many_are_distinct() -> None:
    """Draws from 200 distinct points: N (N - 1) / 2 pairs over those that are equal is about 200."""
    distinct = points(0, 200)
    drawn = distinct[torch.randint(200, (400,), generator=generator(0, "test"))]
    found = duplicates(drawn, within=0)
    counts = [int((drawn == point).all(1).sum()) for point in distinct]
    assert found.pairs == sum(count * (count - 1) // 2 for count in counts)
    assert found.support == 400 * 399 / 2 / found.pairs == pytest.approx(200, rel=0.2)
    nearest = closest_pair(distinct)
    assert nearest == pytest.approx(min(math.dist(x, y) for x, y in combinations(distinct.tolist(), 2)))
    assert duplicates(distinct, within=nearest) == (1, 200 * 199 / 2)
    assert duplicates(distinct, within=nearest / 2) == (0, math.inf)


# Copies ---------------------------------------------------------------------------------------------------------------


def test_the_u_statistic_is_that_of_scipy() -> None:
    one, other = torch.tensor([0.0, 0.0, 1.0, 2.5, 7.0]), torch.tensor([0.0, 2.0, 2.5, 3.0, 4.0, 5.0])
    u = mannwhitneyu(one, other).statistic
    assert mann_whitney(one, other) == pytest.approx((u - 15) / math.sqrt(5 * 6 * 12 / 12))
    assert mann_whitney(other, one) == -mann_whitney(one, other)


def test_cells_are_those_of_k_means() -> None:
    groups = torch.cat([points(i, 30, 2, shift=10.0 * i) for i in range(3)])
    fitted = KMeans(3, n_init=10, random_state=0).fit(groups.numpy()).cluster_centers_
    for seed in range(20):
        centres = cell_centres(groups, 3, seed)
        if torch.cdist(centres, torch.from_numpy(fitted)).min(0).values.max() < 1e-9:
            return
    raise AssertionError("no start leads to the three groups")


def test_copies_are_told_from_new_samples_and_from_misfits() -> None:
    """With one cell the test is Mann and Whitney's on nearest distances; with three, the weighted mean over cells."""
    train, test, new = (points(i, 300, 3) for i in range(3))
    copies = train[:150] + 1e-3 * points(3, 150, 3)
    away = new[:150] + 2
    assert abs(copying(train, test, new, cells=3)) < 2.5
    assert copying(train, test, copies, cells=3) < -5 and copying(train, test, away, cells=1) > 5
    reach = [NearestNeighbors(n_neighbors=1).fit(train).kneighbors(x)[0][:, 0] for x in (new, test)]
    u = mannwhitneyu(*reach).statistic
    expected = (u - 300 * 300 / 2) / math.sqrt(300 * 300 * 601 / 12)
    assert copying(train, test, new, cells=1) == pytest.approx(expected)
    centres = cell_centres(train, 3, 0)
    of_new, of_test = (torch.cdist(x, centres).argmin(1).numpy() for x in (new, test))
    total = 0.0
    for cell in range(3):
        a, b = reach[0][of_new == cell], reach[1][of_test == cell]
        u = mannwhitneyu(a, b).statistic
        total += len(b) * (u - len(a) * len(b) / 2) / math.sqrt(len(a) * len(b) * (len(a) + len(b) + 1) / 12)
    assert copying(train, test, new, cells=3) == pytest.approx(total / 300)


def test_copying_needs_enough_fakes() -> None:
    with pytest.raises(ConfigError, match=r"^cells: 1, expected cells with 20 fakes"):
        copying(points(0, 50), points(1, 50), points(2, 19), cells=1)
    with pytest.raises(ConfigError, match=r"^cells: 51, expected 1 to 50"):
        copying(points(0, 50), points(1, 50), points(2, 50), cells=51)


def test_memorised_are_those_nearer_to_one_training_image_than_new_reals_are() -> None:
    """Blurred samples are near to all training images and so are no copies, though C_T takes them for such."""
    train, test, new = (points(i, 300, 20) for i in range(3))
    memory = Memorised(train, test)
    reach = NearestNeighbors(n_neighbors=50).fit(train).kneighbors(test)[0]
    np.testing.assert_allclose(relative(test, train), reach[:, 0] / reach.mean(1))
    assert memory.bound == pytest.approx(np.quantile(reach[:, 0] / reach.mean(1), 0.01))
    copies, blurred = train[:150] + 0.1 * points(3, 150, 20), new / 2
    assert memory.share(new) < 0.05 and memory.share(blurred) < 0.05 and memory.share(copies) == 1
    assert memory.share(torch.cat([copies, blurred])) == pytest.approx((150 + 300 * memory.share(blurred)) / 450)
    assert copying(train, test, blurred, cells=1) < -5


def test_of_few_training_images_half_are_around_a_fake() -> None:
    train = torch.tensor([[0.0], [1.0], [3.0], [7.0], [20.0]], dtype=torch.float64)
    assert relative(train[:1] + 0.1, train).tolist() == pytest.approx([0.1 / ((0.1 + 0.9 + 2.9) / 3)])
    assert relative(train[:1], train).tolist() == [0.0]
    assert Memorised(train[:1], train[1:]).share(train[:2]) == 0.5  # of a single image too, which one of two repeats


# Together -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("measure", [two_sample, kid, frechet_distance, neighbourhoods, spread_ratio, standardised])
def test_features_that_do_not_fit_are_refused(measure) -> None:  # type: ignore[no-untyped-def]
    for other in (points(0, 9, 7), torch.zeros(9), points(0, 1), torch.full((9, 8), math.inf)):
        with pytest.raises(ConfigError, match=r"^features: .*, expected "):
            measure(points(0, 9), other)


def test_quality_is_the_largest_z_over_its_floor() -> None:
    tests = {"a": TwoSample(8.0, 2.0, 0.1), "b": TwoSample(6.0, 1.2, 0.1), "c": TwoSample(0.0, 0.0, 0.0)}
    assert quality(tests) == 5
    with pytest.raises(ConfigError, match=r"^spaces: a, expected a, b"):
        compare({"a": points(0, 9), "b": points(0, 9)}, {"a": points(0, 9)})
