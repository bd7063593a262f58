"""Walks: paths against closed forms, their ends, and the files that they become."""

import math
import re
import sys
from pathlib import Path

import imageio.v3
import numpy as np
import pytest
import torch
from PIL import Image
from support import tiny
from test_draw import refused

import ganrun
from ganrun.cli.main import main
from ganrun.core.context import Condition, Latent
from ganrun.record.grid import grid
from ganrun.run.interpolation import lerp, path, slerp
from ganrun.run.walk import Walk


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("runs")
    kinds = {
        "plain": tiny("steps=3", tricks=["ema"]),
        "classes": tiny("steps=3", model="cgan", tricks=["ema"]),
        "codes": tiny("steps=3", "model.generator.latent=20", model="infogan", tricks=["uniform_latent", "info_codes"]),
        "toy": tiny("steps=3", "dataset=ring", "model.generator.output=linear", model="mlp"),
    }
    return {name: ganrun.train(ganrun.compose(words), home / name) for name, words in kinds.items()}


def walk_of(run, drawing, **settings) -> Walk:
    usual = {"rows": 3, "frames": None, "loops": False, "seed": 0}
    return Walk(game=run.game, drawing=drawing, **usual | settings)


# Paths


def test_slerp_turns_evenly_and_keeps_the_norm() -> None:
    """In the plane, from (2, 0) to 2 (cos 1.2, sin 1.2): at the share t it is at the angle 1.2 t."""
    a, b = torch.tensor([2.0, 0.0]), 2 * torch.tensor([math.cos(1.2), math.sin(1.2)])
    for t in (0.0, 0.25, 0.5, 1.0):
        expected = 2 * torch.tensor([math.cos(1.2 * t), math.sin(1.2 * t)])
        assert torch.allclose(slerp(a, b, torch.tensor([t])), expected, atol=1e-6)


def test_slerp_keeps_norms_in_many_dimensions_where_lerp_loses_them() -> None:
    torch.manual_seed(0)
    a, b = torch.nn.functional.normalize(torch.randn(2, 50, 64), dim=-1) * 8
    for t in torch.linspace(0, 1, 7)[:, None]:
        assert torch.allclose(slerp(a, b, t).norm(dim=-1), torch.full((50,), 8.0), atol=1e-4)
    assert lerp(a, b, torch.tensor([0.5])).norm(dim=-1).mean() < 0.8 * 8
    half = slerp(a, 3 * b, torch.tensor([0.5]))
    assert torch.allclose(half.norm(dim=-1), torch.full((50,), 16.0), atol=1e-4), "norms go linearly"


def test_slerp_of_parallel_opposite_and_zero_vectors_is_finite() -> None:
    a, zero = torch.tensor([1.0, 2.0]), torch.zeros(2)
    half = torch.tensor([0.5])
    assert torch.allclose(slerp(a, a, half), a) and torch.allclose(slerp(a, 2 * a, half), 1.5 * a)
    assert torch.allclose(slerp(a, -a, half), zero, atol=1e-6)
    assert slerp(zero, a, half).isfinite().all()


@pytest.mark.parametrize("way", ["slerp", "lerp"])
def test_a_path_has_its_stops_at_its_ends(way: str) -> None:
    torch.manual_seed(0)
    stops = torch.randn(2, 3, 5)
    there = path(stops, 7, loops=False, way=way)
    assert there.shape == (2, 7, 5)
    assert all(torch.allclose(there[:, frame], stops[:, stop], atol=1e-5) for frame, stop in ((0, 0), (3, 1), (6, 2)))
    around = path(stops, 6, loops=True, way=way)
    assert all(torch.allclose(around[:, 2 * stop], stops[:, stop], atol=1e-5) for stop in range(3))
    halfway = path(stops[:, [2, 0]], 3, loops=False, way=way)[:, 1]
    assert torch.allclose(around[:, 5], halfway, atol=1e-5), "the last frame leads back to the first"


# What is walked


def test_a_walk_begins_and_ends_with_the_samples_of_its_noises(runs) -> None:
    run = ganrun.load(runs["plain"])
    with run.game.drawing() as drawing:
        walk = walk_of(run, drawing)
        made = [walk.images(latent) for latent in walk.between_noises(2, "slerp")]
        walk._reseed("noise")
        ends = drawing.noise(6).unflatten(0, (3, 2))
        assert len(made) == 10
        for frame, noise in ((made[0], ends[:, 0]), (made[-1], ends[:, 1])):
            assert torch.allclose(frame, drawing.images(Latent(noise)), atol=1e-5)
        norms = torch.stack([latent.noise.norm(dim=-1) for latent in walk.between_noises(2, "slerp")])
        assert (norms >= ends.norm(dim=-1).min(1).values - 1e-4).all()


def test_codes_stay_what_they_are_between_noises_and_vary_along_a_code(runs) -> None:
    run = ganrun.load(runs["codes"])
    with run.game.drawing() as drawing:
        walk = walk_of(run, drawing)
        noises = torch.stack([latent.noise for latent in walk.between_noises(2, "lerp")])
        assert (noises[..., 8:] == noises[0, :, 8:]).all() and not torch.equal(noises[0, :, :8], noises[-1, :, :8])
        along = walk.along_code("code_0")
        latents = run.game.traversals(along[0].noise)["code_0"]
        assert len(along) == 10
        for column, latent in enumerate(along):
            assert torch.allclose(latent.noise, latents[:, column])
        (there, back) = (walk_of(run, drawing, loops=True, frames=18).along_code("code_1")[i] for i in (4, 14))
        assert torch.allclose(there.noise, back.noise, atol=1e-6), "there and back again"


def test_a_walk_between_classes_has_each_class_at_its_stop(runs) -> None:
    run = ganrun.load(runs["classes"])
    with run.game.drawing() as drawing:
        latents = walk_of(run, drawing, frames=5).between_classes([4, 7, 1])
        for frame, label in ((0, 4), (2, 7), (4, 1)):
            plain = Latent(latents[0].noise, Condition(labels=torch.full((3,), label)))
            assert torch.allclose(drawing.images(latents[frame]), drawing.images(plain), atol=1e-5)
        halfway = latents[1].condition.labels
        assert halfway is not None and halfway[0, 4] == halfway[0, 7] == 0.5


def test_a_generator_that_mixes_no_classes_switches_and_says_so(runs, tmp_path: Path, monkeypatch, capsys) -> None:
    from ganrun.models import cgan

    monkeypatch.setattr(cgan.Generator, "mixes_labels", False)
    run = ganrun.load(runs["classes"])
    with run.game.drawing() as drawing:
        latents = walk_of(run, drawing, frames=5).between_classes([4, 7])
    assert [int(latent.condition.labels[0]) for latent in latents] == [4, 4, 4, 7, 7]
    assert main(["walk", str(runs["classes"]), "between=classes", f"out={tmp_path / 'a.png'}"]) == 0
    assert "one after another, as this generator mixes none" in capsys.readouterr().out


# Files


def frames_of(run: Path, count: int, rows: int, *, loops: bool) -> list[np.ndarray]:
    loaded = ganrun.load(run)
    with loaded.game.drawing() as drawing:
        walk = walk_of(loaded, drawing, rows=rows, frames=count, loops=loops)
        return [grid(walk.images(latent)) for latent in walk.between_noises(4, "slerp")]


def test_a_gif_opens_again_with_its_frames_and_loops(runs, tmp_path: Path, capsys) -> None:
    out = tmp_path / "a.gif"
    assert main(["walk", str(runs["plain"]), "frames=12", "rows=4", "fps=10", f"out={out}"]) == 0
    assert capsys.readouterr().out == f"12 frames between 4 noises by slerp, of step 3: {out}\n"
    expected = frames_of(runs["plain"], 12, 4, loops=True)
    with Image.open(out) as file:
        assert (file.n_frames, file.size, file.info["loop"], file.info["duration"]) == (12, (134, 134), 0, 100)
        for number, frame in enumerate(expected):
            file.seek(number)
            assert np.abs(np.asarray(file.convert("L"), int) - frame[..., 0]).max() <= 1


@pytest.mark.parametrize("rows", [1, 4])
def test_an_mp4_opens_again_with_its_frames(runs, tmp_path: Path, rows: int) -> None:
    out = tmp_path / "a.mp4"
    assert main(["walk", str(runs["plain"]), "frames=12", f"rows={rows}", f"out={out}"]) == 0
    read = imageio.v3.imread(out, plugin="FFMPEG")
    expected = frames_of(runs["plain"], 12, rows, loops=True)
    assert read.shape == (12, *expected[0].shape[:2], 3)
    for frame, found in zip(expected, read, strict=True):
        assert np.abs(found.astype(int) - frame).mean() < 6
    assert imageio.v3.immeta(out, plugin="FFMPEG")["fps"] == 20
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_odd_sizes_are_filled_up_in_an_mp4(tmp_path: Path) -> None:
    from ganrun.record.moving import save_mp4

    save_mp4(tmp_path / "a.mp4", [np.full((35, 51, 1), value, np.uint8) for value in (0, 200, 90)], 5)
    read = imageio.v3.imread(tmp_path / "a.mp4", plugin="FFMPEG")
    assert read.shape == (3, 36, 52, 3) and np.abs(read[1, :30, :46].astype(int) - 200).mean() < 3


def test_a_strip_has_a_row_for_each_walk(runs, tmp_path: Path) -> None:
    out = tmp_path / "a.png"
    assert main(["walk", str(runs["plain"]), "frames=5", "rows=3", "stops=4", f"out={out}"]) == 0
    picture = np.asarray(Image.open(out))
    assert picture.shape == (3 * 66 + 2, 5 * 66 + 2)
    loaded = ganrun.load(runs["plain"])
    with loaded.game.drawing() as drawing:
        walk = walk_of(loaded, drawing, frames=5)
        last = walk.images(walk.between_noises(4, "slerp")[-1])
    assert (picture[:, -68:] == grid(last, 3)[..., 0]).all()


def test_points_are_drawn_on_axes_that_stay(runs, tmp_path: Path) -> None:
    assert main(["walk", str(runs["toy"]), "frames=3", f"out={tmp_path / 'a.gif'}"]) == 0
    with Image.open(tmp_path / "a.gif") as file:
        assert file.size == (512, 512) and file.n_frames == 3


def test_without_a_place_it_is_a_gif_in_the_runs_folder(runs) -> None:
    assert main(["walk", str(runs["codes"]), "code=code_1", "frames=4"]) == 0
    assert [path.name for path in (runs["codes"] / "drawn").iterdir()] == ["walk_step_3_code_1_seed_0.gif"]
    assert "is there already" in refused("walk", str(runs["codes"]), "code=code_1", "frames=4")


@pytest.mark.parametrize(
    ("run", "words", "line"),
    [
        ("plain", "out=a.avi", r"out: a.avi, expected a file that ends in .gif, .mp4 or .png. Try: out=a.gif"),
        ("plain", "frames=1", r"frames: 1, expected a whole number from 2 to 10000"),
        ("plain", "frames=1001 out=a.png", r"frames: 1,001 in one picture, expected 1,000 at most. Try: out=walk.mp4"),
        ("plain", "between=classes", r"between: classes, but this run is not conditional"),
        ("plain", "code=code_0", r"code: code_0, but no trick of this run puts codes into the noise"),
        ("codes", "code=code_7", r"code: there is no code_7, expected code_0, code_1, code_2. Try: code=code_0"),
        ("codes", "interpolation=slerp", r"interpolation: slerp, but the noise of this run fills a cube"),
        ("codes", "code=code_0 stops=3", r"stops: 3, in a walk along a code, .*Try: leaving stops out"),
        ("codes", "code=code_0 between=noise", r"code: code_0, with between=noise, expected one of them"),
        ("codes", "truncation=0.5", r"truncation: 0.5, but the noise of this run is uniform"),
        ("classes", "between=classes classes=[3]", r"between: classes, but there is one, expected at least two"),
        ("classes", "between=classes interpolation=lerp", r"interpolation: lerp, in a walk between classes"),
    ],
)
def test_refusals(runs, tmp_path: Path, monkeypatch, run: str, words: str, line: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert re.match(line, refused("walk", str(runs[run]), *words.split()))
    assert not list(tmp_path.iterdir())


def test_without_what_writes_mp4_it_says_what_to_install(runs, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    line = refused("walk", str(runs["plain"]), f"out={tmp_path / 'a.mp4'}")
    assert line.startswith("out: an MP4, but imageio_ffmpeg is not installed")
    assert line.endswith("Try: pip install 'ganrun[video]', or out=walk.gif")
    assert not list(tmp_path.iterdir())
