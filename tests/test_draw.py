"""Samples of a finished run: seeds, truncation, classes, checkpoints; and the files of `ganrun sample`."""

import math
import os
import re
import resource
import shlex
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support import built, family, pair_in, tiny

import ganrun
from ganrun.cli.main import main
from ganrun.core.context import Condition, Latent
from ganrun.core.errors import ConfigError
from ganrun.core.from_noise import FromNoise
from ganrun.core.growth import Phase, growths
from ganrun.core.images import at_resolution, scales
from ganrun.games.truncation import NOISES, TruncatedStyles, truncated_normal
from ganrun.models.conditional import one_hot
from ganrun.record.grid import grid, to_pixels
from ganrun.run.draw import first_of, latents

CONDITIONAL = ("cgan", "cdcgan", "acgan", "projection", "biggan")
WITH_CLASSES = {name: () for name in CONDITIONAL} | {
    name: ("model.generator.classes=10", "model.discriminator.classes=10")
    for name in ("resnet", "r3gan", "stylegan2", "progan")
}


def trained(folder: Path, *overrides: str, model: str = "dcgan", tricks: tuple[str, ...] = ("ema",)) -> Path:
    """A tiny run of three steps."""
    return ganrun.train(ganrun.compose(tiny(*overrides, "steps=3", model=model, tricks=tricks)), folder)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of digits, one by class, one of points of the plane, and one that translates."""
    home = tmp_path_factory.mktemp("runs")
    toy = ("dataset=ring", "model.generator.output=linear")
    return {
        "plain": trained(home / "plain", "log.best=loss/generator/total", "log.checkpoint=1", "log.keep=3"),
        "classes": trained(home / "classes", "'dataset.classes=[3,7,9]'".strip("'"), model="cgan"),
        "toy": trained(home / "toy", *toy, model="mlp"),
        "cycle": trained(home / "cycle", model="translation", tricks=()),
    }


def game(model: str = "dcgan", *overrides: str) -> FromNoise:
    found = built(*overrides, model=model).game
    assert isinstance(found, FromNoise)
    return found


def refused(*words: str) -> str:
    """What `main` says of a command that it refuses."""
    import io
    from contextlib import redirect_stderr

    with redirect_stderr(io.StringIO()) as said:
        assert main(list(words)) == 2
    (line,) = said.getvalue().splitlines()
    return line.removeprefix("ganrun: error: ")


# Seeds


def test_the_first_of_many_samples_are_those_of_few(runs) -> None:
    run = ganrun.load(runs["classes"])
    many = run.sample(150, seed=4)
    for few in (1, 64, 100):
        assert torch.allclose(run.sample(few, seed=4), many[:few], atol=1e-5)
    assert not torch.allclose(run.sample(64, seed=5), many[:64], atol=1e-2)
    assert not torch.equal(many[:64], many[64:128]), "batches of their own noise"


def test_the_noise_of_a_sample_does_not_depend_on_its_class() -> None:
    one = game("cgan")
    with one.drawing() as drawing:
        drawn = [
            latents(one, drawing, 3, seed=1, condition=given).noise
            for given in (Condition(), Condition(labels=torch.tensor([4, 5])))
        ]
    assert torch.equal(*drawn)


# Truncation


@pytest.mark.parametrize("threshold", [0.5, 1.0, 2.0])
def test_truncated_noise_has_the_moments_of_a_truncated_normal(threshold: float) -> None:
    torch.manual_seed(0)
    noise = truncated_normal(2000, 50, threshold, torch.device("cpu"))
    density = math.exp(-(threshold**2) / 2) / math.sqrt(2 * math.pi)
    variance = 1 - 2 * threshold * density / math.erf(threshold / math.sqrt(2))
    assert noise.abs().max() <= threshold
    assert noise.var().item() == pytest.approx(variance, rel=0.02) and abs(noise.mean().item()) < 0.01
    assert truncated_normal(3, 4, 0.0, torch.device("cpu")).abs().max() == 0


@pytest.mark.parametrize("overrides", [(), WITH_CLASSES["stylegan2"]], ids=["plain", "by class"])
def test_styles_are_truncated_towards_their_mean(overrides: tuple[str, ...]) -> None:
    """Against a calculation by hand, in which the mean is that of other noises."""
    net = pair_in(built(*overrides, model="stylegan2")).generator.eval()
    noise, labels = torch.randn(3, net.latent), torch.tensor([0, 4, 4]) if overrides else None
    with torch.no_grad():
        means = []
        for label in [0, 4, 4] if overrides else [None]:
            given = None if label is None else torch.full((4 * NOISES,), label)
            means.append(net.styles(torch.randn(4 * NOISES, net.latent), given)[:, :1].mean(0))
        means = torch.stack(means)
        styles = net.styles(noise, labels)
        for psi in (0.0, 0.7, 1.0):
            expected = net.synthesis(means + psi * (styles - means))
            found = TruncatedStyles(net, torch.randn, psi)(noise, labels)
            assert (found - expected).square().mean().sqrt() < 0.03 * expected.std(), psi
            shares = None if labels is None else one_hot(labels, 10)
            assert torch.allclose(TruncatedStyles(net, torch.randn, psi)(noise, shares), found, atol=1e-5)
        assert torch.allclose(net(noise, labels), found, atol=1e-5), "1 changes nothing"
        still = TruncatedStyles(net, torch.randn, 0.0)(noise, labels)
    assert torch.allclose(still[1], still[2], atol=1e-5)
    assert overrides == () or not torch.allclose(still[0], still[1], atol=1e-3), "a mean for each class"


def test_truncation_narrows_samples_and_is_refused_where_it_means_nothing(runs) -> None:
    run = ganrun.load(runs["plain"])
    narrow, wide = run.sample(64, truncation=0.3), run.sample(64)
    assert narrow.std(0).mean() < 0.5 * wide.std(0).mean()
    for prior in ("uniform", "unit_uniform", "spherical"):
        with (
            pytest.raises(ConfigError, match=rf"truncation: 0.5, but the noise of this run is {prior}"),
            game("dcgan", f"game.prior={prior}").drawing(0.5),
        ):
            pass
    with game("stylegan2", "game.prior=spherical").drawing(0.5) as drawing:
        assert isinstance(drawing.generator, TruncatedStyles)


# Classes


@pytest.mark.parametrize("model", WITH_CLASSES)
def test_shares_of_classes_generalise_labels(model: str) -> None:
    one = game(model, *WITH_CLASSES[model])
    assert one.classes == 10 and one.mixes_labels
    labels = torch.tensor([2, 5, 5])
    with torch.no_grad(), one.drawing() as drawing:
        noise = drawing.noise(3)
        for module in drawing.generator.modules():  # gains and biases of classes are alike at first
            if isinstance(module, torch.nn.Embedding):
                module.weight.normal_()
        by_label = drawing.images(Latent(noise, Condition(labels=labels)))
        by_share = drawing.images(Latent(noise, Condition(labels=one_hot(labels, 10))))
        half = one_hot(labels, 10) / 2 + one_hot(torch.tensor([7, 7, 7]), 10) / 2
        between = drawing.images(Latent(noise, Condition(labels=half)))
    assert torch.allclose(by_label, by_share, atol=1e-4)
    assert not torch.allclose(between, by_label, atol=1e-4)


def test_all_models_that_have_classes_are_tried() -> None:
    assert set(WITH_CLASSES) <= set(family("model"))


# Which checkpoint


def test_a_checkpoint_is_chosen_by_step_or_as_the_best(runs) -> None:
    last = ganrun.load(runs["plain"])
    assert [ganrun.load(runs["plain"], checkpoint=step).step for step in (1, 2, 3)] == [1, 2, 3] and last.step == 3
    second = ganrun.load(runs["plain"], checkpoint=2).sample(4)
    assert not torch.equal(second, last.sample(4))
    import json

    best = json.loads((runs["plain"] / "summary.json").read_text())["best"]["step"]
    assert ganrun.load(runs["plain"], checkpoint="best").step == best
    with pytest.raises(ConfigError, match=r"checkpoint: none of step 7 .*one of 1, 2, 3\. Try: checkpoint=3$"):
        ganrun.load(runs["plain"], checkpoint=7)
    with pytest.raises(ConfigError, match=r"keeps no best checkpoint .*Try: checkpoint=last$"):
        ganrun.load(runs["classes"], checkpoint="best")
    with pytest.raises(ConfigError, match=r"checkpoint: 'worst', expected last, best or a step"):
        ganrun.load(runs["classes"], checkpoint="worst")


# Files


def test_the_three_formats_hold_the_same_samples(runs, tmp_path: Path, capsys) -> None:
    run, many = str(runs["classes"]), "count=9"
    for kind, out in (("grid", "a.png"), ("npz", "a.npz"), ("png", "pngs")):
        assert main(["sample", run, many, "seed=2", f"format={kind}", f"out={tmp_path / out}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"9 samples of step 3: {tmp_path / out}" for out in ("a.png", "a.npz", "pngs")]
    labels = [0, 0, 0, 1, 1, 1, 2, 2, 2]
    images = ganrun.load(run).sample(9, labels=labels, seed=2)
    with np.load(tmp_path / "a.npz") as found:
        assert found["images"].dtype == np.uint8 and found["images"].shape == (9, 16, 16, 1)
        assert (found["images"] == to_pixels(images)).all()
        assert found["labels"].tolist() == labels and found["classes"].tolist() == ["3", "7", "9"]
    assert (np.asarray(Image.open(tmp_path / "a.png")) == grid(images, 3)[..., 0]).all()
    files = sorted((tmp_path / "pngs").iterdir())
    assert [file.name for file in files] == [f"{i:06d}_{'379'[label]}.png" for i, label in enumerate(labels)]
    for file, pixels in zip(files, to_pixels(images), strict=True):
        assert (np.asarray(Image.open(file)) == pixels[..., 0]).all()


def test_an_array_of_samples_is_a_data_set(runs, tmp_path: Path) -> None:
    assert main(["sample", str(runs["classes"]), "count=9", "format=npz", f"out={tmp_path / 'a.npz'}"]) == 0
    again = built("dataset=array", f"dataset.path={tmp_path / 'a.npz'}", "dataset.held_out=0").source.dataset
    assert len(again) == 9 and len(again.classes) == 3 and again.resolution == 16


def test_classes_are_named_as_the_data_name_them(runs, tmp_path: Path) -> None:
    assert main(["sample", str(runs["classes"]), "classes=[9,3]", "count=4", "format=npz", f"out={tmp_path}"]) == 0
    with np.load(tmp_path / "samples.npz") as found:
        assert found["labels"].tolist() == [2, 2, 0, 0]
    assert refused("sample", str(runs["classes"]), "classes=[4]").startswith("classes: no class 4, expected some of 3,")
    line = refused("sample", str(runs["plain"]), "classes=[4]")
    assert line == "classes: this run is not conditional, expected no classes. Try: leaving classes out"


def test_points_become_an_array_or_a_scatter(runs, tmp_path: Path) -> None:
    run = str(runs["toy"])
    assert main(["sample", run, "count=70", "format=npz", f"out={tmp_path / 'a.npz'}"]) == 0
    with np.load(tmp_path / "a.npz") as found:
        assert set(found) == {"points"}
        assert np.allclose(found["points"], ganrun.load(run).sample(70)[:, :, 0, 0])
    assert main(["sample", run, f"out={tmp_path / 'a.png'}"]) == 0
    assert Image.open(tmp_path / "a.png").size == (512, 512)
    expected = "format: png, but the samples are points of the plane, expected npz or grid. Try: format=npz"
    assert refused("sample", run, "format=png") == expected


def test_without_a_place_they_go_into_the_runs_folder_and_nothing_is_overwritten(runs, capsys) -> None:
    run = runs["plain"]
    assert main(["sample", str(run), "seed=9"]) == 0
    path = run / "drawn" / "samples_step_3_count_64_seed_9.png"
    assert capsys.readouterr().out == f"64 samples of step 3: {path}\n"
    before = path.read_bytes()
    line = refused("sample", str(run), "seed=9")
    assert "is there already" in line
    again = re.search(r"Try: (\S+)$", line)
    assert again and main(["sample", str(run), "seed=9", *shlex.split(again[1])]) == 0
    assert sorted(p.name for p in path.parent.iterdir()) == [path.name, f"{path.stem}_2.png"]
    assert path.read_bytes() == before == path.with_stem(f"{path.stem}_2").read_bytes()


def test_what_cannot_be_written_is_refused_before_anything_is_drawn(runs, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    run = str(runs["plain"])
    assert "is a file" in refused("sample", run, f"out={tmp_path / 'file' / 'x' / 'a.png'}")
    assert "is there already" in refused("sample", run, "format=png", f"out={tmp_path / 'full'}")
    assert "for a file that ends in .npz" in refused("sample", run, "format=npz", f"out={tmp_path / 'a.png'}")
    assert "expected 10,000 at most" in refused("sample", run, "count=10001")
    assert refused("sample", str(runs["cycle"])).startswith("images: not set, and this run makes images from images")
    assert "no noise to draw from" in refused("walk", str(runs["cycle"]))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "full"]


@pytest.mark.parametrize("kind", ["grid", "npz", "png"])
def test_a_full_disk_leaves_nothing(runs, tmp_path: Path, kind: str, capsys) -> None:
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limit[1]))
    try:
        code = main(["sample", str(runs["plain"]), "count=3", f"format={kind}", f"out={tmp_path / 'made'}"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, before)
    assert code == 4 and "made" in capsys.readouterr().err
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_an_interruption_leaves_nothing(runs, tmp_path: Path) -> None:
    """Ctrl-C, once the first file is there."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    seen: list[Path] = []

    def interrupt() -> None:
        deadline = time.monotonic() + 30
        while not seen and time.monotonic() < deadline:
            seen.extend(tmp_path.glob(".made.*.tmp/000000.png"))
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    try:
        thread.start()
        code = main(["sample", str(runs["plain"]), "count=100000", "format=png", f"out={tmp_path / 'made'}"])
        thread.join()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert code == 130 and seen and not list(tmp_path.iterdir())


@pytest.mark.parametrize(("model", "sizes"), [("progan", (4, 8, 16)), ("msggan", (4, 8, 16))])
def test_samples_are_drawn_at_a_resolution_that_the_run_makes(
    model: str, sizes: tuple[int, ...], tmp_path: Path
) -> None:
    """Of MSG-GAN the scale, of ProGAN what its layers of that resolution make, and the run is as it was after."""
    more = ("game.stabilise=0.004", "game.fade=0.004", "game.repeats=1") if model == "progan" else ()
    settings = tiny("batch=4", "steps=6", "dataset.resolution=16", *more, model=model, tricks=())
    run = ganrun.train(ganrun.compose(settings), tmp_path / "run")
    loaded = ganrun.load(run, device="cpu")
    assert loaded.game.resolutions == sizes
    for size in sizes:
        out = tmp_path / f"{size}.npz"
        assert main(["sample", str(run), "count=3", "format=npz", f"resolution={size}", f"out={out}"]) == 0
        made = torch.from_numpy(np.load(out)["images"]).permute(0, 3, 1, 2)
        assert made.shape[2:] == (size, size)
        with loaded.game.drawing() as drawing, torch.no_grad():
            latent = first_of(latents(loaded.game, drawing, 0, seed=0), 3)
            for one in growths(drawing.generator):
                one.turn(Phase(size))
            all_of_them = scales(drawing.generator(latent.noise, None))
            for one in growths(drawing.generator):
                one.turn(Phase(16))
            whole = scales(drawing.generator(latent.noise, None))[-1]
        wanted = all_of_them[sizes.index(size)] if model == "msggan" else at_resolution(all_of_them[-1], size)
        assert size == 16 or (at_resolution(whole, size) - wanted).abs().max() > 0.02, "not the largest in small"
        assert ((wanted.clamp(-1, 1) + 1) * 127.5 - made).abs().max() < 0.51
    assert loaded.game.resolutions == sizes, "the run is as it was"
    line = refused("sample", str(run), "resolution=32")
    assert line == "resolution: 32, in which this run makes no images, expected 4 or 8 or 16. Try: resolution=16"
    assert "with resolution" in refused("sample", str(run), "resolution=4", "reject=true")
