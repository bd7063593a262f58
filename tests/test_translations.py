"""`ganrun sample RUN images=FOLDER`, sizes that networks do not take, and measures of translations by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support import built, tiny
from test_draw import refused

import ganrun
from ganrun.cli.main import main
from ganrun.config.build import Run, build
from ganrun.core.errors import ConfigError
from ganrun.core.from_images import FromImages, continued
from ganrun.metrics.comparison import falls_as_samples_get_better
from ganrun.metrics.translation import Content, Translated, distances
from ganrun.run.measuring import Measuring, measured_tags
from ganrun.run.translating import Translating

SIZES = {"a.png": (16, 16), "odd.png": (21, 13), "in/wide.png": (37, 6), "in/tiny.jpg": (5, 4)}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("runs")
    models = {"cycle": "translation", "pairs": "pix2pix", "noise": "dcgan"}
    return {
        name: ganrun.train(ganrun.compose(tiny("steps=1", model=model)), home / name) for name, model in models.items()
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images")
    (path / "in").mkdir()
    for seed, (name, (width, height)) in enumerate(SIZES.items()):
        pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(path / name)
    return path


@pytest.mark.parametrize("name", ["cycle", "pairs"])
def test_a_folder_is_translated_at_its_own_sizes(name: str, runs, folder: Path, tmp_path: Path, capsys) -> None:
    assert main(["sample", str(runs[name]), f"images={folder}", f"out={tmp_path / 'made'}"]) == 0
    direction = {"cycle": "a_to_b", "pairs": "main"}[name]
    assert f"4 images translated ({direction}) by step 1" in capsys.readouterr().out
    made = {str(path.relative_to(tmp_path / "made")): path for path in (tmp_path / "made").rglob("*.png")}
    assert made.keys() == {"a.png", "odd.png", "in/wide.png", "in/tiny.png"}
    assert {key: Image.open(path).size for key, path in made.items()} == {
        key.replace("jpg", "png"): size for key, size in SIZES.items()
    }
    run = ganrun.load(runs[name], device="cpu")
    pixels = torch.from_numpy(np.array(Image.open(folder / "a.png"))).permute(2, 0, 1)[None]
    expected = run.game.translate(direction, pixels / 127.5 - 1)
    found = torch.from_numpy(np.array(Image.open(made["a.png"]))).permute(2, 0, 1)[None]
    assert ((expected + 1) * 127.5 - found).abs().max() < 0.51
    assert torch.equal(expected, run.pair().generator.eval()(pixels / 127.5 - 1)), "the size of training is not padded"


def test_each_direction_has_its_generator(runs, folder: Path, tmp_path: Path) -> None:
    pictures = []
    for direction in ("a_to_b", "b_to_a"):
        out = tmp_path / direction
        assert main(["sample", str(runs["cycle"]), f"images={folder}", f"direction={direction}", f"out={out}"]) == 0
        pictures.append((out / "a.png").read_bytes())
    assert pictures[0] != pictures[1]


def test_images_are_continued_by_their_last_column_and_row() -> None:
    image = torch.arange(15.0).view(1, 1, 3, 5)
    more = continued(image, 4, 8)
    assert more.shape == (1, 1, 8, 8) and torch.equal(more[..., :3, :5], image)
    assert (more[0, 0, :3, 5:] == image[0, 0, :, 4:]).all() and (more[0, 0, 3:, :5] == image[0, 0, 2]).all()
    assert continued(torch.zeros(1, 1, 8, 12), 4, 8).shape == (1, 1, 8, 12)
    assert continued(torch.zeros(1, 1, 4, 9), 1, 1).shape == (1, 1, 4, 9)


@pytest.mark.parametrize(
    ("run", "words", "line"),
    [
        (
            "cycle",
            [],
            "images: not set, and this run makes images from images, expected some to translate. Try: ",
        ),
        ("cycle", ["direction=up"], "direction: up, expected a_to_b or b_to_a. Try: direction=a_to_b"),
        ("pairs", ["direction=a_to_b"], "direction: a_to_b, expected main. Try: direction=main"),
        ("cycle", ["count=3"], "count: 3, but this run makes images from images, expected a run whose images"),
        ("cycle", ["format=npz"], "format: npz, but translations keep their names and sizes, expected png"),
        ("cycle", ["images=nowhere"], "images: nothing is at nowhere in"),
        ("noise", ["images=."], "images: set, but this run makes images from noise, expected a run that translates"),
        ("noise", ["direction=a_to_b"], "direction: set, but this run makes images from noise"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(run: str, words: list[str], line: str, runs) -> None:
    assert refused("sample", str(runs[run]), *words).startswith(line)


def test_a_damaged_image_is_refused_before_any_is_translated(runs, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    whole = (folder / "odd.png").read_bytes()
    (tmp_path / "bad" / "x.png").write_bytes(whole[: len(whole) // 2])
    assert refused("sample", str(runs["cycle"]), f"images={tmp_path / 'bad'}", f"out={tmp_path / 'made'}").startswith(
        "images: 1 of 1 files: "
    )
    assert not (tmp_path / "made").exists()
    (tmp_path / "bad" / "x.png").write_bytes(whole[:60] + bytes(40) + whole[100:])  # begins and ends well
    line = refused("sample", str(runs["cycle"]), f"images={tmp_path / 'bad'}", f"out={tmp_path / 'made'}")
    assert line.startswith("images: ") and "is cut or damaged" in line and not (tmp_path / "made").exists()


# ---- measures


def test_distances_are_mean_absolute_differences() -> None:
    images, made, back, truth = (torch.full((2, 1, 2, 2), value) for value in (0.0, 0.5, 0.25, 0.75))
    truth[0] = 0.5
    assert distances(Translated(images=images, made=made, back=back, truth=truth)) == {
        "change": 0.5, "cycle": 0.25, "error": 0.125, "error_unchanged": 0.625,
    }  # fmt: skip
    assert distances(Translated(images=images, made=made)) == {"change": 0.5}


def test_content_is_what_a_classifier_of_the_target_domain_sees() -> None:
    torch.manual_seed(0)
    labels = torch.arange(120) % 2
    images = torch.randn(120, 1, 32, 32) * 0.1 - 0.5
    images[labels == 1, :, :16] += 1.0
    judge = Content(images, labels)
    assert judge.kept(images, labels) > 0.95 and judge.kept(images, 1 - labels) < 0.05


@pytest.mark.parametrize("model", ["translation", "pix2pix"])
def test_a_run_measures_its_translations(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The right map has no error, an unchanged image that of the data, whatever the networks are."""
    monkeypatch.setattr("ganrun.metrics.translation.STEPS", 100)
    run = built("metrics.every=1", "metrics.samples=50", "dataset.held_out=0.2", model=model)
    translating = translating_of(run)
    found = translating.measure()
    assert list(found) == translating.names() and set(found) < set(measured_tags(run))
    first = "translation/a_to_b/" if model == "translation" else "translation/"
    kept = {name.removeprefix(first): value for name, value in found.items() if name.startswith(first)}
    assert kept.keys() - {"cycle"} == {"change", "error", "error_unchanged", "content", "content_of_reals"}
    assert not falls_as_samples_get_better(f"{first}content") and falls_as_samples_get_better(f"{first}error")
    direction = next(iter(run.game.plans))
    truth = translating._truth(direction)
    run.game.translate = lambda name, images: truth if name == direction else images  # type: ignore[method-assign]
    perfect = translating._measured(direction)
    assert perfect["error"] == 0 and perfect["change"] == pytest.approx(kept["error_unchanged"])
    if model == "translation":  # of pix2pix, 32 images for five classes are too few
        assert min(perfect["content"], kept["content_of_reals"]) > 0.5 > kept["content"]


def translating_of(run: Run) -> Translating:
    assert isinstance(run.game, FromImages)
    return Translating(run.game, {name: one.dataset for name, one in run.data.sources.items()}, run.device)


@pytest.mark.parametrize("name", [pytest.param("cycle", marks=pytest.mark.slow), "pairs"])
def test_a_run_that_translates_is_evaluated_by_translations_of_held_out_images(
    name: str, runs, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ganrun.metrics.translation.STEPS", 20)
    settings = ("dataset.held_out=0.2", "steps=1", "metrics=default", "metrics.every=1", "metrics.samples=5000")
    model = {"cycle": "translation", "pairs": "pix2pix"}[name]
    settings += ("dataset.input.size=300",) if name == "pairs" else ()
    path = ganrun.train(ganrun.compose(tiny(*settings, model=model)), tmp_path / "run")
    assert main(["evaluate", str(path), "samples=5000", f"out={tmp_path / 'out'}"]) == 0
    found = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    logged = json.loads((path / "metrics.jsonl").read_text().splitlines()[-1])
    assert 50 <= found["samples"] == found["reals"] < 5000 and "translations" not in capsys.readouterr().err
    shared = {key for key in found["metrics"] if key.startswith("translation/")}
    assert len(shared) >= 4 and shared == {key for key in logged if key.startswith("translation/")}
    assert f"metrics/quality_{found['samples']}" in logged, "no image is translated twice"


def test_too_few_images_to_translate_are_refused_before_the_first_step() -> None:
    """Of 40 images that are translated 4 are held out, and of the 300 that they are compared with 30."""
    settings = tiny("dataset=unpaired", "dataset@dataset.a=shapes", "dataset@dataset.b=shapes", "dataset.a.size=40",
                    "dataset.b.size=300", "dataset.held_out=0.1", "dataset.resolution=16", "metrics=default",
                    model="translation")  # fmt: skip
    run = build(ganrun.compose(settings))
    with pytest.raises(ConfigError, match=r"^dataset\.held_out: 4 held-out images, expected 6 or more"):
        Measuring(run, None)  # type: ignore[arg-type]


def test_domains_without_a_known_map_have_no_error() -> None:
    run = build(ganrun.compose(tiny("dataset=china_to_flower", "dataset.a.size=60", "dataset.resolution=16",
                                    "dataset.held_out=0.2", model="translation")))  # fmt: skip
    names = translating_of(run).names()
    assert names == [f"translation/{name}/{one}" for name in ("a_to_b", "b_to_a") for one in ("change", "cycle")]


def test_they_are_recorded_with_the_other_measures(tmp_path: Path) -> None:
    settings = ("metrics=default", "metrics.every=1", "metrics.samples=50", "steps=1", "dataset.held_out=0.2")
    folder = ganrun.train(ganrun.compose(tiny(*settings, "dataset.input.size=60", model="pix2pix")), tmp_path / "run")
    line = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    assert {"translation/error", "translation/content", "metrics/quality_12"} <= line.keys()
    assert Measuring.name == "metrics"


# ---- images as people have them


def test_raw_values_mean_what_they_meant_in_training(tmp_path: Path) -> None:
    """A run on 12-bit images in files of 16 bits translates such files; of floats, the range must be beyond doubt."""
    values = np.random.default_rng(0).integers(0, 4096, (3, 16, 16)).astype(np.uint16)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(3):
            Image.fromarray(values[i]).save(tmp_path / name / f"{i}.png")
    settings = [f"dataset.{name}.{key}" for name in "ab" for key in (f"path={tmp_path / name}", "range=[0,4095]")]
    few = ("steps=1", "dataset.held_out=0", "dataset=unpaired", "dataset.resolution=16", "dataset.channels=1")
    run = ganrun.train(ganrun.compose([*tiny(*few, model="translation"), *settings]), tmp_path / "run")
    assert main(["sample", str(run), f"images={tmp_path / 'a'}", f"out={tmp_path / 'made'}"]) == 0
    loaded = ganrun.load(run, device="cpu")
    bright = (torch.from_numpy(values[0] / 4095 * 255).round() / 127.5 - 1).float()
    expected = loaded.game.translate("a_to_b", bright[None, None])
    found = torch.from_numpy(np.array(Image.open(tmp_path / "made" / "0.png")))
    assert ((expected[0, 0] + 1) * 127.5 - found).abs().max() < 0.51
    (tmp_path / "deep").mkdir()
    Image.fromarray(values[0] * 16).save(tmp_path / "deep" / "x.png")
    line = refused("sample", str(run), f"images={tmp_path / 'deep'}")
    assert line.startswith("images: trained on [0,4095], but ") and "values in the range of the run" in line


def test_floats_must_say_how_bright_they_are(runs, tmp_path: Path) -> None:
    clear = np.linspace(-1, 1, 768).reshape(16, 16, 3).astype(np.float32)
    for name, values in (("clear", clear), ("doubtful", clear / 2 + 0.5)):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "x.npy", values)
    assert main(["sample", str(runs["cycle"]), f"images={tmp_path / 'clear'}", f"out={tmp_path / 'made'}"]) == 0
    made = np.array(Image.open(tmp_path / "made" / "x.png"))
    image = ((torch.from_numpy(clear) + 1) * 127.5).round().permute(2, 0, 1)[None] / 127.5 - 1
    expected = ganrun.load(runs["cycle"], device="cpu").game.translate("a_to_b", image)
    assert np.abs((expected[0].permute(1, 2, 0).numpy() + 1) * 127.5 - made).max() < 0.51
    line = refused("sample", str(runs["cycle"]), f"images={tmp_path / 'doubtful'}")
    assert "nothing says which of them is white" in line and line.endswith("taking these out, or another folder")


def test_remedies_of_wrong_folders_can_be_followed(runs, folder: Path, tmp_path: Path) -> None:
    run = str(runs["cycle"])
    (tmp_path / "empty").mkdir()
    assert refused("sample", run, f"images={folder / 'a.png'}").endswith(f"Try: images={folder}")
    assert refused("sample", run, f"images={tmp_path / 'emty'}").endswith(f"Try: images={tmp_path / 'empty'}")
    assert refused("sample", run, f"images={tmp_path / 'empty'}").endswith("Try: a folder that holds some")
    line = refused("sample", run, f"images={folder}", f"out={folder / 'made'}")
    assert "inside the folder that is translated" in line and not (folder / "made").exists()
