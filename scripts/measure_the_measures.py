"""Degrades real images and prints what the measures of ganrun/metrics make of them: docs/measures.md holds the result.

    scripts/measure_the_measures.py [dataset=shapes dataset.size=1500 ...] [--images 500] [--draws 100] [--seed 0]

Three disjoint random sets of real images are drawn: reals, held-out reals, and those that are degraded and take the
place of fakes. Each kind of damage comes in two doses. Exit code 1 unless each is seen at z >= 20, growing with the
dose, in one space at least, and unless |z| is at most 2 in 95 % of the comparisons of reals with other reals, over
all spaces. Settings choose the data as those of `ganrun` do. Grey images have no hue to turn.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ganrun.config.build import open_data
from ganrun.config.compose import compose
from ganrun.config.instantiate import Maker
from ganrun.core.seeding import generator
from ganrun.data.transforms.value_range import to_units
from ganrun.metrics.copying import copying
from ganrun.metrics.features import features, standardised
from ganrun.metrics.frechet import frechet_distance
from ganrun.metrics.mmd import TwoSample, kid
from ganrun.metrics.neighbours import neighbourhoods
from ganrun.metrics.quality import compare, quality
from ganrun.metrics.variety import closest_pair, duplicates, spread_ratio

SEEN = 20.0  # the z at which damage counts as seen
USUAL, SHARE = 2.0, 0.95  # the |z| below which this share of draws of reals against reals must lie
CELLS = 3  # of the C_T test
Features = dict[str, Tensor]


def blur(images: Tensor, sigma: float, seed: int) -> Tensor:
    """Gaussian blur of a standard deviation in pixels. [N, C, H, W]"""
    reach = math.ceil(3 * sigma)
    line = torch.exp(-torch.arange(-reach, reach + 1.0).square() / (2 * sigma**2))
    kernel = (line / line.sum()).expand(images.shape[1], 1, 1, -1)
    padded = F.pad(images, (reach,) * 4, mode="reflect")
    rows = F.conv2d(padded, kernel, groups=images.shape[1])
    return F.conv2d(rows, kernel.transpose(2, 3), groups=images.shape[1])


def noise(images: Tensor, dose: float, seed: int) -> Tensor:
    """Independent Gaussian noise of a standard deviation in 255ths of the range. [N, C, H, W]"""
    return images + dose / 127.5 * torch.randn(images.shape, generator=generator(seed, "noise"))


def checkerboard(images: Tensor, dose: float, seed: int) -> Tensor:
    """Every other pixel lighter and the others darker, by a number of 255ths of the range. [N, C, H, W]"""
    rows, columns = (torch.arange(size) for size in images.shape[2:])
    return images + dose / 127.5 * (1 - 2 * ((rows[:, None] + columns) % 2))


def dropped(images: Tensor, dose: float, seed: int) -> Tensor:
    """The brightest share of the images replaced by repeating the others: modes are missing. [N, C, H, W]"""
    order = images.flatten(1).mean(1).argsort()[: round(len(images) * (1 - dose))]
    return images[order.repeat(math.ceil(1 / (1 - dose)))[: len(images)]]


def few(images: Tensor, count: float, seed: int) -> Tensor:
    """The first images of a number, repeated. [N, C, H, W]"""
    return images[torch.arange(len(images)) % int(count)]


def shuffled(images: Tensor, cut: float, seed: int) -> Tensor:
    """Each image cut into a grid of patches, which are put together in a random order. [N, C, H, W]"""
    n, side = int(cut), images.shape[2] // int(cut)
    patches = images[..., : n * side, : n * side].unflatten(2, (n, side)).unflatten(4, (n, side))
    patches = patches.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)  # [N, n * n, C, side, side]
    order = torch.rand(len(images), n * n, generator=generator(seed, "patches")).argsort(1)
    patches = patches[torch.arange(len(images))[:, None], order].unflatten(1, (n, n))
    return patches.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)


def hue(images: Tensor, degrees: float, seed: int) -> Tensor:
    """Colours turned around the grey axis. [N, 3, H, W]"""
    turn, side = math.radians(degrees), math.sqrt(1 / 3) * math.sin(math.radians(degrees))
    like, unlike = (1 + 2 * math.cos(turn)) / 3, (1 - math.cos(turn)) / 3
    low, high = unlike - side, unlike + side
    matrix = torch.tensor([[like, low, high], [high, like, low], [low, high, like]])
    return torch.einsum("dc,nchw->ndhw", matrix, images)


def warp(images: Tensor, dose: float, seed: int) -> Tensor:
    """Each image shifted locally by a smooth random field, of a standard deviation in 32nds of a side. [N, C, H, W]"""
    coarse = torch.randn(len(images), 2, 4, 4, generator=generator(seed, "warp")) * dose / 16
    field = F.interpolate(coarse, size=images.shape[2:], mode="bicubic", align_corners=True)
    still = F.affine_grid(torch.eye(2, 3).expand(len(images), 2, 3), list(images.shape), align_corners=False)
    return F.grid_sample(images, still + field.permute(0, 2, 3, 1), "bicubic", "reflection", align_corners=False)


Damage = Callable[[Tensor, float, int], Tensor]
DAMAGE: dict[str, tuple[Damage, tuple[float, float], str]] = {
    "blur": (blur, (0.7, 1.4), "{:g} px"),
    "noise": (noise, (10, 30), "{:g} of 255"),
    "checkerboard": (checkerboard, (8, 24), "{:g} of 255"),
    "brightest dropped": (dropped, (0.25, 0.5), "{:.0%}"),
    "few distinct images": (few, (30, 10), "{:g}"),
    "patches shuffled": (shuffled, (2, 4), "{0:g}x{0:g}"),
    "hue turned": (hue, (45, 90), "{:g} degrees"),
    "warped": (warp, (2, 4), "{:g} of 32"),
}


def split(images: Tensor, count: int, seed: int, draw: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """The indices of reals, of those to degrade, and of held-out reals: disjoint. [count] each, the last or fewer"""
    order = torch.randperm(len(images), generator=generator(seed, "split", step=draw))
    return order[:count], order[count : 2 * count], order[2 * count : 3 * count]


def among_reals(known: Features, count: int, draws: int, seed: int) -> tuple[list[str], bool]:
    """Lines on the z of reals against other reals in each space, and whether it is small often enough."""
    z: dict[str, list[float]] = {name: [] for name in known}
    for draw in range(draws):
        one, other, _ = split(known["pixels"], count, seed, draw)
        tests = compare(*({name: values[rows] for name, values in known.items()} for rows in (one, other)), seed=draw)
        for name, test in tests.items():
            z[name].append(test.z)
    lines, all_small = [], 0
    for name, values in z.items():
        small = sum(abs(value) <= USUAL for value in values)
        mean, largest = sum(values) / draws, max(values)
        lines.append(f"* {name}: |z| at most {USUAL:g} in {small} of {draws}; mean {mean:.2f}, largest {largest:.1f}")
        all_small += small
    return lines, all_small >= SHARE * draws * len(z)


def seen(tests: dict[str, TwoSample]) -> str:
    """The cells of the first table: z in each space, and quality."""
    return " | ".join([*(f"{test.z:.1f}" for test in tests.values()), f"{quality(tests):.1f}"])


def seen_in(doses: list[dict[str, TwoSample]]) -> str:
    """The spaces that see both doses at z of 20 or more and the larger one better; empty where none does."""
    smaller, larger = doses
    return ", ".join(name for name in smaller if SEEN <= smaller[name].z < larger[name].z)


def others(reals: Features, fakes: Features, held: Features) -> str:
    """The cells of the second table: the other measures, in the space of random convolutions."""
    name = "convolutions"
    real, fake = standardised(reals[name], fakes[name])
    real, new = standardised(reals[name], held[name])
    shares = " | ".join(f"{share:.2f}" for share in neighbourhoods(real, fake))
    pairs = duplicates(fake, within=closest_pair(real)).pairs
    c_t = copying(real, new, fake, cells=CELLS)
    distances = f"{frechet_distance(real, fake):.0f} | {kid(real, fake):.2f}"
    return f"{distances} | {shares} | {spread_ratio(real, fake):.2f} | {pairs} | {c_t:.1f}"


def damage_table(images: Tensor, known: Features, count: int, seed: int) -> tuple[list[str], list[str], dict[str, str]]:
    """The rows of both tables, and for each kind of damage the spaces that see it grow with the dose."""
    real, spoil, held = split(images, count, seed)
    reals, plain, new = ({name: values[rows] for name, values in known.items()} for rows in (real, spoil, held))
    first = [f"| none | | {seen(compare(reals, plain))} |"]
    second = [f"| none | | {others(reals, plain, new)} |", f"| copies of the reals | | {others(reals, reals, new)} |"]
    spaces = {}
    for kind, (damage, doses, unit) in DAMAGE.items():
        if damage is hue and images.shape[1] != 3:
            continue
        both = []
        for dose in doses:
            fakes = features(damage(images[spoil], dose, seed))
            both.append(compare(reals, fakes))
            first.append(f"| {kind} | {unit.format(dose)} | {seen(both[-1])} |")
            second.append(f"| {kind} | {unit.format(dose)} | {others(reals, fakes, new)} |")
        spaces[kind] = seen_in(both)
    return first, second, spaces


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="of the data set; mnist_5k without any")
    parser.add_argument("--images", type=int, default=500, help="reals, and as many fakes")
    parser.add_argument("--draws", type=int, default=100, help="comparisons of reals with reals")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    dataset = open_data(compose(options.settings), Maker())
    images = to_units(next(iter(dataset.streams.values())).bulk()[0])
    known = features(images)
    first, second, spaces = damage_table(images, known, options.images, options.seed)
    lines, quiet = among_reals(known, options.images, options.draws, options.seed)
    print("| damage | dose | pixels | spectrum | convolutions | quality |\n|---|---|---|---|---|---|")
    print("\n".join(first), end="\n\n")
    columns = ["Fréchet", "KID", "precision", "recall", "density", "coverage", "spread", "duplicates", "C_T"]
    print(f"| damage | dose | {' | '.join(columns)} |\n|---|---|{'---|' * len(columns)}")
    print("\n".join(second), end="\n\n")
    print(f"Both doses seen at z of {SEEN:g} or more, the larger one better, in:\n")
    print("\n".join(f"* {kind}: {names or 'no space'}" for kind, names in spaces.items()), end="\n\n")
    print(f"{options.images} reals against {options.images} other reals:\n")
    print("\n".join(lines))
    return 0 if quiet and all(spaces.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
