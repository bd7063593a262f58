"""`ganrun evaluate`: of runs and of pictures, against held-out reals, with a classifier of the data's own labels."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import TINY, Nursery, refusal

from ganrun.metrics.classifier import Classified, accepted, classifier, classify
from ganrun.metrics.frechet import frechet_distance
from ganrun.run.evaluation import Reference, SampleSet, opened

torch.set_num_threads(1)
SMALL = [word for word in TINY if word not in ("dataset.held_out=0",)]


@pytest.fixture(scope="module")
def place(nursery: Nursery, tmp_path_factory) -> Path:
    """A folder with a run of threes and sevens at 16 pixels, some of them as pictures, and noise."""
    folder = tmp_path_factory.mktemp("evaluate")
    assert nursery.run("steps=2", *SMALL, "dataset.classes=[3,7]", "hydra.run.dir=run", folder=folder).code == 0
    data = opened(["dataset=digits", "dataset.resolution=16", "dataset.classes=[3,7]", "dataset.held_out=0.1"])
    images, _ = data.part(torch.arange(100)).bulk()
    np.save(folder / "reals.npy", images.numpy())
    np.save(folder / "noise.npy", np.random.default_rng(0).integers(0, 256, (100, 1, 16, 16), dtype=np.uint8))
    return folder


def evaluate(nursery: Nursery, place: Path, *words: str) -> str:
    ended = nursery.run("evaluate", *words, folder=place, XDG_CACHE_HOME=str(place / "cache"))
    assert ended.code == 0 and ended.err == "", ended
    return ended.out


def test_a_run_is_evaluated_and_its_classifier_is_kept(nursery: Nursery, place: Path) -> None:
    out = evaluate(nursery, place, "run", "samples=60", "out=first")
    assert out.splitlines()[0] == "run at step 2: 60 samples against 36 held-out images of Digits"
    (kept,) = (place / "cache" / "ganrun").iterdir()
    written = kept.read_bytes()
    again = evaluate(nursery, place, "run", "samples=60", "out=again")
    assert again == out.replace("first", "again") and kept.read_bytes() == written
    kept.write_bytes(written[:100])  # damaged: it is made anew
    assert evaluate(nursery, place, "run", "samples=60", "out=third") == out.replace("first", "third")
    assert len(kept.read_bytes()) == len(written)
    first, second = (json.loads((place / name / "evaluation.json").read_text()) for name in ("first", "again"))
    assert first == second
    assert sum(first["classes"].values()) == pytest.approx(1)
    assert first["metrics"]["quality"] > 5 > first["of_reals"]["quality"]
    assert (place / "first" / "nearest.png").is_file()


def test_pictures_of_another_program_are_told_from_reals(nursery: Nursery, place: Path) -> None:
    against = ("against=digits", "dataset.resolution=16", "dataset.classes=[3,7]")
    figures = {}
    for name in ("reals", "noise"):
        evaluate(nursery, place, f"{name}.npy", *against, "samples=100", f"out=of_{name}")
        figures[name] = json.loads((place / f"of_{name}" / "evaluation.json").read_text())["metrics"]
    assert figures["reals"]["quality"] < 2 and figures["noise"]["quality"] > 20
    assert figures["reals"]["accepted"] > 0.85 > 0.5 > figures["noise"]["accepted"]
    assert figures["reals"]["copying"] < -3 and figures["reals"]["memorised"] == 1  # they are training images
    assert figures["noise"]["memorised"] == 0


def test_training_images_are_compared_with_where_that_is_asked_for(nursery: Nursery, place: Path) -> None:
    """As papers compute FID. The reals in the samples' place are then the held-out ones; without any there are none."""
    evaluate(nursery, place, "run", "samples=60", "out=held_out")
    out = evaluate(nursery, place, "run", "samples=60", "reals=train", "out=trained")
    lines = out.splitlines()
    assert lines[0] == "run at step 2: 60 samples against 60 training images of Digits"
    assert lines[1].split() == ["measure", "samples", "held-out", "images", "better"]
    one, other = (json.loads((place / name / "evaluation.json").read_text()) for name in ("trained", "held_out"))
    assert one["reals"] == 60 and one["of_reals"] and one["metrics"]["quality"] != other["metrics"]["quality"]
    assert one["metrics"]["copying"] == other["metrics"]["copying"] and one["classes"] == other["classes"]
    judged = ("accepted", "confidence", "fid_classifier")  # by images that the classifier has not learnt from
    assert [one["metrics"][name] for name in judged] == [other["metrics"][name] for name in judged]
    where = ("against=digits", "dataset.held_out=0", "dataset.resolution=16", "dataset.classes=[3,7]", "reals=train")
    evaluate(nursery, place, "reals.npy", *where, "samples=100", "out=none_held_out")
    found = json.loads((place / "none_held_out" / "evaluation.json").read_text())
    assert found["of_reals"] == {} and found["reals"] == 100
    assert not {"copying", "memorised", *judged} & set(found["metrics"]) and found["classes"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "evaluate: no run, folder of pictures or array file named, expected one run, folder of pictures or "),
        (["nowhere"], "evaluate: nothing is at nowhere, expected a run, a folder of pictures or an array file"),
        (["reals.npy"], "against: no data set to compare the pictures with, expected the name of one. "
                        "Try: ganrun evaluate reals.npy against=mnist_5k"),
        (["reals.npy", "against=mnist_6k"], "dataset: there is no mnist_6k, expected "),
        (["reals.npy", "against=digits", "dataset.held_out=0"], "dataset.held_out: no image is held out"),
        (["run", "reals=all"], "reals: 'all', expected held_out or train"),
        (["run", "samples=3"], "samples: 3, expected a whole number from 50 to 100000"),
        (["run", "out=run"], "out: run: it is not empty, expected a new or an empty folder. Try: out=run_2"),
        (["run", "checkpoint=77"], "checkpoint: "),
    ],
)  # fmt: skip
def test_refusals(nursery: Nursery, place: Path, words: list[str], line: str) -> None:
    ended = nursery.run("evaluate", *words, folder=place, XDG_CACHE_HOME=str(place / "cache"))
    assert refusal(ended).startswith(line)


def test_acceptance_is_by_the_least_confident_reals() -> None:
    """Of confidences 0.01 to 1.00 the 5 % quantile lies at 0.0595 by linear interpolation."""
    reals = Classified(torch.zeros(100), torch.arange(1, 101) / 100, torch.zeros(100, 64))
    fakes = Classified(torch.zeros(4), torch.tensor([0.05, 0.059, 0.06, 0.9]), torch.zeros(4, 64))
    assert accepted(reals, fakes) == 0.5
    assert accepted(reals, reals) == 0.95


def test_a_picture_of_each_class_is_seen_as_such(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    data = opened(["dataset=digits", "dataset.classes=[0,1,4]", "dataset.held_out=0.1"])
    reference = Reference(data, 150)
    chosen = torch.cat([(data.labels == label).nonzero()[:20, 0] for label in range(3)])
    images, labels = data.part(chosen).bulk()
    found = reference.evaluate(SampleSet(images=images / 127.5 - 1, wanted=labels, source="x"), "digits")
    assert found.metrics["asked_class_seen"] > 0.97
    assert all(share == pytest.approx(1 / 3, abs=0.05) for share in found.classes.values())


def test_features_are_those_before_the_last_layer() -> None:
    net = classifier(3, 5).eval()
    images = torch.rand(4, 3, 32, 32) * 2 - 1
    found = classify(net, images)
    logits = net(images).softmax(1)
    assert torch.equal(found.classes, logits.argmax(1)) and found.features.shape == (4, 64)
    assert torch.allclose(net[-1](found.features).softmax(1), logits, atol=1e-6)
    assert frechet_distance(found.features, found.features) == pytest.approx(0, abs=1e-6)


def test_where_nothing_can_be_kept_the_classifier_serves_once(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    reference = Reference(opened(["dataset=digits", "dataset.classes=[0,1]", "dataset.held_out=0.1"]), 36)
    assert reference.net is not None and not list(tmp_path.glob("**/*.pt"))


@pytest.mark.slow
def test_stacked_images_are_told_apart_channel_by_channel(tmp_path: Path, monkeypatch) -> None:
    """400 training images are in about 330 of 1,000 modes, and samples of one mode alone are log 1,000 away."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    data = opened(["dataset=stacked_digits", "dataset.size=3000", "dataset.resolution=16", "dataset.held_out=60"])
    reference = Reference(data, 60)
    assert reference.net is None and len(list((tmp_path / "ganrun").iterdir())) == 1
    images, labels = data.part(torch.arange(400)).bulk()
    samples = SampleSet(images=images / 127.5 - 1, wanted=None, source="x")
    found = reference.evaluate(samples, "stacked")
    assert found.metrics["modes"] == pytest.approx(len(labels.unique()), abs=6) and found.classes == {}
    assert found.of_reals["modes"] == pytest.approx(330, abs=15)
    one = SampleSet(images=samples.images[:1].repeat(60, 1, 1, 1), wanted=None, source="x")
    alone = reference.measured(one)
    assert alone["modes"] == 1 and alone["reverse_kl"] == pytest.approx(np.log(1000), abs=1)
    assert found.metrics["reverse_kl"] < 2
