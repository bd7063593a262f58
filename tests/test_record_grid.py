"""Grids: what is seen is what was made."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from ganrun.core.errors import EnvironmentFailed
from ganrun.record.grid import DOT, FAKES, GAP, PLOT, grid, save_png


@pytest.mark.parametrize("count", [1, 2, 3, 7, 16, 64])
@pytest.mark.parametrize(("channels", "shown"), [(1, 1), (2, 3), (3, 3), (4, 3)])
def test_every_image_is_in_its_place(count, channels, shown):
    levels = torch.linspace(-1, 1, count)
    picture = grid(levels[:, None, None, None].expand(count, channels, 32, 32))
    side = 64 + GAP  # enlarged twice
    columns, rows = (picture.shape[1] - GAP) // side, (picture.shape[0] - GAP) // side
    assert picture.dtype == np.uint8 and picture.shape == (rows * side + GAP, columns * side + GAP, shown)
    assert abs(columns - rows) <= 1 or count < 4
    assert columns * rows >= count > columns * (rows - 1)
    for index, level in enumerate(levels.tolist()):
        top, left = GAP + index // columns * side, GAP + index % columns * side
        tile = picture[top : top + 64, left : left + 64, : min(channels, 3)]
        assert (tile == round((level + 1) * 127.5)).all() or math.isclose(tile[0, 0, 0], (level + 1) * 127.5, abs_tol=1)
        assert (picture[top - GAP : top] == 0).all() and (picture[:, left - GAP : left] == 0).all()


def test_values_out_of_range_are_clamped_and_nan_is_grey():
    values = torch.tensor([-9.0, 9.0, math.nan, math.inf]).reshape(1, 1, 2, 2).expand(1, 1, 2, 2)
    tile = grid(values)[GAP:-GAP, GAP:-GAP, 0]
    assert tile.shape == (64, 64)
    assert [tile[0, 0], tile[0, -1], tile[-1, 0], tile[-1, -1]] == [0, 255, 128, 255]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_any_precision_layout_and_graph(dtype):
    images = torch.zeros(5, 3, 8, 8, dtype=dtype, requires_grad=True).to(memory_format=torch.channels_last)
    assert grid(images, rows=1).shape == (64 + 2 * GAP, 5 * (64 + GAP) + GAP, 3)
    assert grid(torch.zeros(2, 3, 100, 50)).shape == (100 + 2 * GAP, 2 * (50 + GAP) + GAP, 3)


def test_points_are_drawn_where_they_are_on_the_axes_of_the_reals():
    reals = torch.tensor([[-1.0, -1.0], [1.0, 1.0], [1.0, -1.0], [-1.0, 1.0]])[:, :, None, None]

    def orange(x: float, y: float) -> tuple[float, float]:
        picture = grid(torch.tensor([[x, y]])[:, :, None, None], reals=reals)
        assert picture.shape == (PLOT, PLOT, 3)
        rows, columns = np.nonzero((picture == FAKES).all(-1))
        return columns.mean(), rows.mean()

    middle = (PLOT - 1) / 2
    assert orange(0.0, 0.0) == pytest.approx((middle, middle), abs=1)
    assert orange(1.25, 0.0) == pytest.approx((PLOT - 1 - DOT / 2, middle), abs=1)
    right, up = orange(1.0, 1.0)
    assert right > middle > up  # y grows upwards
    assert orange(999.0, -999.0) == pytest.approx((PLOT - 1 - DOT / 2, PLOT - 1 - DOT / 2), abs=1)
    assert grid(reals).shape == (PLOT, PLOT, 3) and grid(reals * math.nan).shape == (PLOT, PLOT, 3)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_png_holds_the_same_pixels(tmp_path, channels):
    picture = np.random.default_rng(0).integers(0, 256, (9, 7, channels), dtype=np.uint8)
    save_png(tmp_path / "a.png", picture)
    assert (np.asarray(Image.open(tmp_path / "a.png")).reshape(picture.shape) == picture).all()
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    with pytest.raises(EnvironmentFailed, match="cannot save"):
        save_png(tmp_path / "missing" / "a.png", picture)
