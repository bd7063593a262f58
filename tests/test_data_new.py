"""Data sets that are made, not read: shapes with known factors, stacked digits, and random numbers by position."""

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from data_formats import write_mnist
from test_data_sets import build, refusal

from ganrun.core.context import BatchShape
from ganrun.data.datasets.counter_rng import splitmix, uniform
from ganrun.data.datasets.shapes_rendering import COLOURS, REACH, SHAPES, ShapeFactors, coverage, draw
from ganrun.data.sources.open import open_source

PLACES = {"upper": 0, "top": 0, "lower": 2, "bottom": 2}


def one(shape: str, *, colour: str = "red", scale: float = 0.4, rotation: float = 0, x: float = 0.5, y: float = 0.5):
    columns = (list(SHAPES).index(shape), list(COLOURS).index(colour), scale, rotation, x, y)
    return ShapeFactors(*(np.array([column]) for column in columns))


def cover(shape: str, resolution: int = 64, **settings) -> np.ndarray:
    """How much of each pixel a shape covers. [R, R]"""
    return coverage(one(shape, **settings), resolution)[0]


# ---- random numbers by position


def test_splitmix_gives_the_published_numbers():
    """The first of seed 1234567, as in the reference of Vigna's splitmix64.c."""
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert splitmix(1234567, np.arange(4)).tolist() == expected


def test_rows_do_not_depend_on_how_many_there_are():
    few, many = uniform(3, "a", rows=10, columns=4), uniform(3, "a", rows=20_000, columns=4)
    assert np.array_equal(few, many[:10]) and not np.array_equal(few, uniform(4, "a", rows=10, columns=4))
    assert not np.array_equal(few, uniform(3, "b", rows=10, columns=4))
    assert many.min() >= 0 and many.max() < 1
    assert many.mean(0) == pytest.approx([0.5] * 4, abs=0.01) and many.var(0) == pytest.approx([1 / 12] * 4, abs=0.002)
    assert np.abs(np.corrcoef(many.T) - np.eye(4)).max() < 0.03


# ---- drawing, in closed form


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rotation", [0, 17, 45])
def test_the_area_of_every_shape_is_its_scale_squared(shape, rotation):
    for scale, tolerance in ((0.4, 0.01), (0.15, 0.03)):
        area = float(cover(shape, 128, scale=scale, rotation=rotation).mean())
        assert area == pytest.approx(scale**2, rel=tolerance)


def test_a_square_on_the_pixels_is_exact():
    """Of 16 of 64 pixels, centred: whole pixels inside, none outside."""
    expected = np.zeros((64, 64), np.float32)
    expected[24:40, 24:40] = 1
    assert np.allclose(cover("square", scale=16 / 64), expected, atol=1e-5)


def test_an_edge_through_a_pixel_covers_its_part():
    """A square of 16.5 pixels reaches a quarter of a pixel further on each side."""
    row = cover("square", scale=16.5 / 64)[32]
    assert row[23] == pytest.approx(0.25, abs=1e-4) and row[40] == pytest.approx(0.25, abs=1e-4)
    assert row[22] == 0 and row[24] == 1 and row.sum() == pytest.approx(16.5, abs=1e-3)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_turn_of_90_degrees_turns_the_picture(shape):
    upright = cover(shape, rotation=0)
    assert np.allclose(cover(shape, rotation=90), np.rot90(upright), atol=1e-4)  # anticlockwise
    assert np.allclose(cover(shape, rotation=-90), np.rot90(upright, -1), atol=1e-4)
    assert np.allclose(cover(shape, rotation=30), cover(shape, rotation=30 + SHAPES[shape][1]), atol=1e-4)
    assert np.abs(cover(shape, rotation=SHAPES[shape][1] / 2) - upright).max() > 0.3  # it is seen to turn


def test_an_ellipse_turned_by_90_degrees_is_transposed():
    lying = cover("ellipse")
    assert np.allclose(cover("ellipse", rotation=90), lying.T, atol=1e-4)
    assert (lying.max(0) > 0.5).sum() == pytest.approx(2 * (lying.max(1) > 0.5).sum(), abs=1)  # twice as wide as high


def test_triangle_and_star_point_up():
    for shape in ("triangle", "star"):
        rows = np.flatnonzero(cover(shape).max(1) > 0.5)
        assert (cover(shape)[rows[1]] > 0.5).sum() <= 4, shape
    widths = (cover("triangle") > 0.5).sum(1)
    side = 0.4 * 2 / 3**0.25 * 64  # of an equilateral triangle of that area
    assert widths.max() == pytest.approx(side, abs=2) and np.argmax(widths) > 32


def test_a_translation_by_whole_pixels_leaves_the_shape_unchanged():
    centred = cover("star", scale=0.3, rotation=10)
    moved = cover("star", scale=0.3, rotation=10, x=0.5 + 5 / 64, y=0.5 - 9 / 64)
    assert np.allclose(np.roll(centred, (-9, 5), (0, 1)), moved, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_no_shape_reaches_beyond_its_reach(shape):
    for rotation in range(0, 180, 15):
        rows, columns = np.nonzero(cover(shape, 256, rotation=rotation) > 0.51)
        away = np.hypot((rows + 0.5) / 256 - 0.5, (columns + 0.5) / 256 - 0.5)
        assert away.max() <= REACH * 0.4 + 0.5 / 256


@pytest.mark.parametrize("colour", COLOURS)
def test_the_colour_at_the_centre_is_exact(colour):
    image = draw(one("star", colour=colour), channels=3, resolution=33)[0]
    assert tuple(image[:, 16, 16]) == COLOURS[colour] and not image[:, 0, 0].any()


# ---- the data set


def test_the_factors_are_those_of_the_picture():
    """Place, size and colour measured from the pixels."""
    shapes = build("shapes", size=200, resolution=64)
    assert shapes.factor_names == ("shape", "colour", "scale", "rotation", "x", "y")
    assert shapes.factors.shape == (200, 6) and torch.equal(shapes.factors[:, 0].long(), shapes.labels)
    images, at = shapes.bulk()[0].float() / 255, (torch.arange(64) + 0.5) / 64
    _, colour, scale, _, x, y = shapes.factors.T
    cover = images.amax(1)
    assert (cover.mean((1, 2)).sqrt() - scale).abs().max() < 0.01
    mass = cover.sum((1, 2))
    assert ((cover.sum(1) * at).sum(1) / mass - x).abs().max() < 0.01
    assert ((cover.sum(2) * at).sum(1) / mass - y).abs().max() < 0.01
    palette = torch.tensor(list(COLOURS.values())) / 255
    assert torch.equal(images.amax((2, 3)).round(), palette[colour.long()])


def test_no_shape_is_cut_by_the_edge_however_large():
    shapes = build("shapes", size=300, resolution=64, scales=[0.5, 0.5])
    areas = shapes.bulk()[0].amax(1).float().mean((1, 2)) / 255
    assert areas.tolist() == pytest.approx([0.25] * 300, rel=0.01)
    assert shapes.factors[:, 4:].min() >= REACH * 0.5 and shapes.factors[:, 4:].max() <= 1 - REACH * 0.5


def test_factors_are_spread_and_independent():
    shapes = build("shapes", size=20_000)
    assert torch.bincount(shapes.labels).min() > 3700 and torch.bincount(shapes.factors[:, 1].long()).min() > 2600
    scale, rotation, x, y = shapes.factors.T[2:]
    assert (scale.min(), scale.max()) == (pytest.approx(0.15, abs=1e-3), pytest.approx(0.3, abs=1e-3))
    periods = torch.tensor([period for _, period in SHAPES.values()])[shapes.labels]
    assert (rotation / periods).min() >= 0 and 0.999 < (rotation / periods).max() <= 1
    free = torch.stack([*shapes.factors.T[:3], rotation / periods, x, y])
    assert (torch.corrcoef(free) - torch.eye(6)).abs().max() < 0.03


def test_captions_say_what_the_factors_say():
    shapes = build("shapes", size=400)
    assert len(shapes.captions) == 400 and 300 < len(set(shapes.captions)) < 400
    for index, caption in enumerate(shapes.captions):
        shape, colour, scale, _, x, y = shapes.factors[index].tolist()
        size, ink, kind = re.match(r"a ([\w-]+) (\w+) (\w+),", caption).groups()
        assert (ink, kind) == (list(COLOURS)[int(colour)], list(SHAPES)[int(shape)])
        assert size == ("small", "medium-sized", "large")[min(int((scale - 0.15) / 0.05), 2)]
        where = re.search(r"(?:at|in) the (\w+) ?(\w+)?$", caption).groups()
        row = next((PLACES[word] for word in where if word in PLACES), 1)
        column = 0 if "left" in where else 2 if "right" in where else 1
        edge = REACH * 0.3
        assert (row, column) == tuple(min(int(3 * (v - edge) / (1 - 2 * edge)), 2) for v in (y, x))


def test_a_caption_by_hand():
    shapes = build("shapes", size=1)
    shapes._factors = one("triangle", scale=0.16, rotation=30, x=0.3, y=0.3)
    assert shapes.caption(0) == "a small red triangle, at the upper left"  # noise is left the rotation
    shapes._factors = one("square", colour="blue", scale=0.22, rotation=89.8)
    assert shapes.caption(0) == "a medium-sized blue square, in the centre"


def test_an_image_depends_on_the_seed_and_its_index_only():
    few, many = build("shapes", size=30), build("shapes", size=300)
    for index in (0, 7, 29):
        assert torch.equal(few.image(index), many.image(index)) and few.caption(index) == many.caption(index)
    some, labels = many.bulk()
    assert all(torch.equal(some[index], many.image(index)) for index in range(300))
    assert torch.equal(labels[:30], few.labels)
    assert not torch.equal(build("shapes", size=30, seed=1).bulk()[0], few.bulk()[0])


def test_any_resolution_shows_the_same_shapes():
    small, large = (build("shapes", size=40, resolution=r).bulk()[0].float() for r in (24, 96))
    assert (torch.nn.functional.avg_pool2d(large, 4) - small).abs().mean() < 1.0  # of 255


def test_grey_shapes_are_the_same_in_white_without_a_colour():
    grey, colour = build("shapes", size=50, channels=1), build("shapes", size=50)
    assert torch.equal(grey.bulk()[0][:, 0], colour.bulk()[0].amax(1))
    assert grey.factor_names == ("shape", "scale", "rotation", "x", "y")
    assert torch.equal(grey.factors, colour.factors[:, [0, 2, 3, 4, 5]])
    assert all(not set(COLOURS) & set(caption.replace(",", "").split()) for caption in grey.captions)


def test_combinations_that_are_left_out_never_occur_and_change_no_other_image():
    full, some = (
        build("shapes", size=300),
        build("shapes", size=300, leave_out=["red star", "green star", "blue cross"]),
    )
    gone = [i for i, caption in enumerate(full.captions) if re.search(r"(red|green) star|blue cross", caption)]
    assert len(gone) > 10 and not any(re.search(r"(red|green) star|blue cross", one) for one in some.captions)
    assert [i for i in range(300) if full.captions[i] != some.captions[i]] == gone
    assert torch.equal(full.factors[:, [0, 2, 3, 4, 5]], some.factors[:, [0, 2, 3, 4, 5]])
    assert "Try: 'dataset.leave_out=[red star]'" in refusal("shapes", leave_out=["star"])
    every = [f"{colour} star" for colour in COLOURS]
    assert "star in every colour" in refusal("shapes", leave_out=every)


def test_shapes_keep_classes_with_their_factors():
    full, some = build("shapes", size=300), build("shapes", size=300, classes=["star", "square"])
    assert some.classes == ("star", "square") and set(some.labels.tolist()) == {0, 1}
    rows = ((full.labels == 0) | (full.labels == 4)).nonzero().flatten()
    assert torch.equal(some.factors, full.factors[rows]) and torch.equal(some.bulk()[0], full.bulk()[0][rows])
    assert [some.caption(i) for i in range(5)] == [full.captions[row] for row in rows[:5]]
    assert "Try: 'dataset.classes=[triangle]'" in refusal("shapes", classes=["triangel"])


@pytest.mark.parametrize(
    "settings, line",
    [
        ({"size": 0}, "dataset.size: 0 images, expected at least 1. Try: dataset.size=10000"),
        ({"resolution": 4}, "dataset.resolution: 4, expected at least 8"),
        ({"resolution": 0}, "dataset.resolution: 0, expected a number of pixels"),
        ({"channels": 2}, "dataset.channels: 2, expected 1 (grey) or 3 (colour)"),
        ({"scales": [0.3, 0.15]}, "dataset.scales: [0.3, 0.15], expected the least and the largest"),
        ({"scales": [0.1, 0.9]}, "dataset.scales: [0.1, 0.9]"),
        ({"scales": [0.0, 0.3]}, "dataset.scales: [0.0, 0.3]"),
        ({"scales": [0.3]}, "dataset.scales: [0.3]"),
    ],
)
def test_impossible_shapes_are_refused(settings, line):
    assert refusal("shapes", **settings).startswith(line)


# ---- stacked digits


def test_a_stacked_label_is_its_three_digits():
    """Each channel is a digit of the set, and the label writes their three labels."""
    digits, stacked = build("digits", resolution=16), build("stacked_digits", resolution=16, size=200)
    kinds = {
        image.numpy().tobytes(): int(label) for image, label in zip(digits.images[:, 0], digits.labels, strict=True)
    }
    for index in range(200):
        r, g, b = (kinds[channel.contiguous().numpy().tobytes()] for channel in stacked.image(index))
        assert stacked.label(index) == 100 * r + 10 * g + b
    assert stacked.classes == tuple(str(mode) for mode in range(1000))


def test_a_thousand_modes_are_all_there_about_evenly():
    stacked = build("stacked_digits", resolution=8)
    counts = torch.bincount(stacked.labels, minlength=1000)
    assert len(stacked) == 60_000 and len(counts) == 1000 and int(counts.min()) > 20 and int(counts.max()) < 130
    share = torch.bincount(build("digits", resolution=8).labels) / 1797
    for power in (1, 10, 100):  # each channel has the digits in the shares of the set
        found = torch.bincount(stacked.labels // power % 10) / 60_000
        assert (found - share).abs().max() < 0.005


def test_a_stacked_image_depends_on_the_seed_and_its_index_only():
    few, many = (build("stacked_digits", resolution=16, size=size) for size in (50, 500))
    images, labels = many.bulk()
    assert torch.equal(few.bulk()[0], images[:50]) and torch.equal(few.labels, labels[:50])
    assert all(torch.equal(many.image(index), images[index]) for index in (0, 49, 499))
    assert not torch.equal(build("stacked_digits", resolution=16, size=50, seed=1).labels, few.labels)


def test_stacked_digits_keep_classes():
    full, some = build("stacked_digits", size=5000), build("stacked_digits", size=5000, classes=[123, 7])
    assert some.classes == ("123", "7") and set(some.labels.tolist()) == {0, 1}
    assert torch.equal(some.bulk()[0], full.bulk()[0][(full.labels == 123) | (full.labels == 7)])
    assert "no class 1000" in refusal("stacked_digits", size=100, classes=[1000])


@pytest.mark.parametrize(
    "settings, line",
    [
        ({"size": 0}, "dataset.size: 0 images, expected at least 1"),
        ({"channels": 1}, "dataset.channels: 1 for three stacked digits, expected 3. Try: dataset.channels=3"),
        ({"resolution": 512}, "dataset.resolution: 512, expected at most 256"),
        ({"resolution": -1}, "dataset.resolution: -1, expected a number of pixels"),
    ],
)
def test_impossible_stacks_are_refused(settings, line):
    assert refusal("stacked_digits", **settings).startswith(line)


def test_stacked_mnist_stacks_the_digits_of_the_files(tmp_path: Path):
    pixels, labels = write_mnist(tmp_path)
    stacked = build("stacked_mnist", root=str(tmp_path), size=100)
    known = {image.tobytes(): int(label) for image, label in zip(pixels, labels, strict=True)}
    assert len(stacked) == 100 and stacked.image(0).shape == (3, 32, 32)
    for index in range(100):
        inner = stacked.image(index)[:, 2:30, 2:30].contiguous().numpy()
        assert stacked.label(index) == int("".join(str(known[channel.tobytes()]) for channel in inner))
    assert build("stacked_mnist", root=str(tmp_path), size=9, resolution=64).image(3).shape == (3, 64, 64)
    assert len(build("stacked_mnist", root=str(tmp_path), size=100, classes=[stacked.label(0)])) >= 1
    assert "dataset.size: 0 images" in refusal("stacked_mnist", root=str(tmp_path), size=0)


# ---- in other processes


def digest(name: str) -> str:
    images, labels = build(name, size=300).bulk()
    return hashlib.sha256(images.numpy().tobytes() + labels.numpy().tobytes()).hexdigest()


def test_two_processes_make_the_same_images():
    names = ["shapes", "stacked_digits"]
    code = f"from test_data_new import digest; print(*map(digest, {names}))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parent)
    assert result.stdout.split() == [digest(name) for name in names], result.stderr


@pytest.mark.parametrize("name", ["shapes", "stacked_digits"])
def test_streamed_and_resident_agree(name):
    dataset, cpu = build(name, size=50, resolution=16), torch.device("cpu")
    first, second = (open_source(dataset, seed=0, device=cpu, workers=w, memory=m) for w, m in ((0, 1.0), (1, 0.0)))
    for _ in range(4):
        a, b = first.draw(BatchShape(20, 16)), second.draw(BatchShape(20, 16))
        assert torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels)
    second.close()
