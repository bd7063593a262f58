"""Data sets in a data set, by name: `dataset@dataset.a=mnist_5k`. Composed, recorded, opened again, refused."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf
from support import composed

import ganrun
from ganrun.config.accepted import accepts
from ganrun.config.build import open_data
from ganrun.config.groups import Choices
from ganrun.config.instantiate import Maker
from ganrun.config.overrides import replacing
from ganrun.core.errors import ConfigError
from ganrun.data.datasets.bundled import Digits
from ganrun.data.datasets.mnist_5k import Mnist5k

TWO = ("dataset=unpaired", "dataset@dataset.a=mnist_5k", "dataset@dataset.b=digits")


def refusal(*overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        open_data(composed(*overrides), Maker())
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_two_data_sets_are_chosen_by_name_and_share_their_shape() -> None:
    cfg = composed(*TWO, "dataset.a.classes=[3]", "dataset.resolution=16", "dataset.channels=3")
    both = open_data(cfg, Maker())
    assert (both.channels, both.resolution) == (3, 16)
    kinds = {name: data.part(data.labels[:0]).kind for name, data in both.streams.items()}
    assert kinds == {"a": Mnist5k.__name__, "b": Digits.__name__}
    assert both.a.classes == ("3",) and len(both.a) + len(both.a.test) == 500
    recorded = cfg.dataset
    assert recorded.a._target_.endswith("Mnist5k") and recorded.a.resolution == recorded.b.resolution == 16
    again = OmegaConf.create(OmegaConf.to_yaml(cfg, resolve=True))
    assert open_data(again, Maker()).fingerprint() == both.fingerprint()


def test_without_a_shape_each_has_its_own_and_both_must_agree() -> None:
    assert open_data(composed(*TWO), Maker()).resolution == 32
    line = refusal("dataset=unpaired", "dataset@dataset.a=mnist_5k", "dataset@dataset.b=photos")
    assert line.startswith("dataset.channels: 1 in a (Mnist5k) and 3 in b (Photos), expected the same. Try: dataset.c")
    line = refusal(*TWO, "dataset.b.resolution=16")
    assert line == (
        "dataset.resolution: 32 in a (Mnist5k) and 16 in b (Digits), expected the same. Try: dataset.resolution=16"
    )
    settings = OmegaConf.to_container(composed("experiment=cyclegan", *TWO, "dataset.channels=1"), resolve=True)
    settings["dataset"]["resolution"] = 32
    assert accepts(settings, "dataset.resolution=16"), "what is offered sets both"


def test_inputs_and_targets_are_chosen_by_name_too() -> None:
    both = open_data(
        composed("dataset=paired", "dataset@dataset.input=digits", "dataset@dataset.target=digits"), Maker()
    )
    assert both.inputs is not None and len(both) + len(both.test) == 1797 and both.content is not None
    line = refusal("dataset=paired", "dataset@dataset.input=digits", "dataset@dataset.target=mnist_5k")
    assert line.startswith("dataset: 1,797 images (Digits) for 5,000 (Mnist5k), expected as many of both")


def test_they_may_stand_in_a_file_of_the_users_own(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /model: translation\n  - override /game: cycle\n"
        "  - override /dataset: unpaired\n  - override /dataset@dataset.a: digits\n"
        "  - override /dataset@dataset.b: mnist_5k\ndataset: {resolution: 16, a: {classes: [1, 2]}}\n"
    )
    cfg = ganrun.compose(["experiment=mine"], folders=[tmp_path])
    assert open_data(cfg, Maker()).a.classes == ("1", "2")
    again = ganrun.compose(
        ["experiment=mine", "dataset@dataset.a=mnist_5k", "dataset.a.classes=null"], folders=[tmp_path]
    )
    assert again.dataset.a._target_.endswith("Mnist5k") and again.dataset.b._target_.endswith("Mnist5k")


def test_what_is_chosen_later_replaces_what_was() -> None:
    words = ["dataset=unpaired", "dataset@dataset.a=mnist_5k", "dataset.a.classes=[1]", "dataset.b.path=x"]
    assert replacing(words, ["dataset@dataset.a=digits"]) == [words[0], words[3], "dataset@dataset.a=digits"]
    assert replacing(words, ["dataset=digits"]) == ["dataset=digits"]


def test_the_places_are_read_from_the_files() -> None:
    found = Choices().inside("dataset")
    assert found.keys() == {"a", "b", "input", "target"} and found["a"] == ("folder", ["unpaired"])
    assert Choices().inside("loss") == {}


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["dataset=unpaired", "dataset@dataset.a=mnist5k"],
         r"dataset@dataset\.a: there is no mnist5k, .*Try: dataset@dataset\.a=mnist_5k$"),
        (["dataset=unpaired", "dataset.a=mnist_5k"],
         r"dataset\.a: mnist_5k, expected the choice of a dataset, as dataset@dataset\.a=NAME\. Try: dataset@d"),
        (["dataset=unpaired", "dataset/a=mnist_5k"], r"dataset/a: mnist_5k, .*Try: dataset@dataset\.a=mnist_5k$"),
        (["dataset=unpaired", "dataset@a=mnist_5k"], r"dataset@a: mnist_5k, .*Try: dataset@dataset\.a=mnist_5k$"),
        (["dataset=unpaired", "dataset.b=null"], r"dataset\.b: null, .*Try: dataset@dataset\.b=folder$"),
        (["dataset=digits", "dataset@dataset.a=mnist_5k"],
         r"dataset@dataset\.a: the dataset that is chosen has no other one at a, expected one that has: unpaired\. "
         r"Try: dataset=unpaired dataset@dataset\.a=mnist_5k$"),
        (["dataset@dataset.c=mnist_5k"], r"dataset@dataset\.c: .* no other one at c, .*Try: dataset=paired data"),
        (["loss@loss.a=hinge"], r"loss@loss\.a: the loss that is chosen has no other one at a, expected one loss\."),
        (["dataset.a.path=x"], r"dataset\.a\.path: there is no such setting with this dataset, .*Try: dataset=unp"),
        (["dataset=unpaired", "~dataset@dataset.a"], r"~dataset@dataset\.a: .*Try: dataset@dataset\.a=mnist_5k$"),
        (["dataset=unpaired", "dataset@dataset.a=unpaired", "dataset.b.path=x"],
         r"dataset\.a: ganrun\.data\.datasets\.unpaired\.Unpaired, expected a Dataset "),
    ],
)  # fmt: skip
def test_what_names_no_place_or_no_data_set_is_refused_in_one_line(overrides: list[str], line: str) -> None:
    with pytest.raises(ConfigError, match=f"^{line}") as caught:
        open_data(ganrun.compose(overrides), Maker())
    assert "\n" not in str(caught.value)
