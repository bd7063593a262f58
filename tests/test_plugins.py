"""A user's own parts: a package and a folder of YAML, named on the command line, never taken from a file."""

from pathlib import Path

import pytest
from commands import TINY, Nursery, config, refusal, same_state

from ganrun.config.groups import Choices

CODE = """
import torch
from ganrun.core.trick import Trick

class Shift(Trick):
    '''Everything D sees is a little brighter.'''

    def __init__(self, *, by: float):
        super().__init__()
        self.by = by
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def view(self, images):
        return images + self.by

    def observe(self, context):
        self.seen.add_(len(context.fake))

    def metrics(self):
        return {"seen": self.seen.float()}
"""
YAML = "# Brighter.\nmy_trick:\n  _target_: my_package.shifts.Shift\n  by: 0.25\n"
USE = ("--config-dir", "my_conf", "plugins=[my_package]", "tricks=[my_trick]")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a user's package and configuration."""
    make_package(tmp_path)
    (tmp_path / "my_conf" / "tricks").mkdir(parents=True)
    (tmp_path / "my_conf" / "tricks" / "my_trick.yaml").write_text(YAML)
    return tmp_path


def make_package(folder: Path) -> None:
    (folder / "my_package").mkdir()
    (folder / "my_package" / "__init__.py").write_text("")
    (folder / "my_package" / "shifts.py").write_text(CODE)


def test_a_trick_in_the_current_folder(nursery: Nursery, place: Path):
    ended = nursery.run("steps=2", *TINY, *USE, "tricks.my_trick.by=0.5", folder=place)
    assert ended.code == 0 and ended.err == "", ended
    assert config(place / ended.run)["tricks"] == {"my_trick": {"_target_": "my_package.shifts.Shift", "by": 0.5}}
    assert '"tricks/my_trick/seen": ' in (place / ended.run / "metrics.jsonl").read_text()


def test_a_trick_on_the_path_of_python(nursery: Nursery, place: Path, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    arguments = ("steps=1", *TINY, "--config-dir", str(place / "my_conf"), *USE[2:])
    assert "my_package cannot be imported" in refusal(nursery.run(*arguments, folder=elsewhere), elsewhere)
    assert nursery.run(*arguments, folder=elsewhere, PYTHONPATH=str(place)).code == 0


def test_mistakes_with_parts_of_ones_own(nursery: Nursery, place: Path):
    def line(*arguments: str) -> str:
        return refusal(nursery.run(*arguments, folder=place))

    own = USE[:2]
    assert "Try: 'tricks=[my_trick]'" in line(*own, "plugins=[my_package]", "tricks=[my_trik]")
    assert "Try: 'tricks=[ema,my_trick]'" in line(*own, "plugins=[my_package]", "tricks.my_trick.by=1")
    assert "Try: tricks.my_trick.by=" in line(*USE, "tricks.my_trick.bye=1")
    assert "tricks.my_trick.by: 'x', expected a number" in line(*USE, "tricks.my_trick.by=x")
    assert "Try: 'plugins=[my_package]'" in line(*own, "tricks=[my_trick]")
    assert "there is no my_trick" in line("tricks=[my_trick]")
    (place / "my_package" / "shifts.py").write_text("class Shift: pass\n")
    assert "Shift" in line(*USE)
    (place / "my_package" / "shifts.py").write_text("import no_such_thing\n")
    assert "no_such_thing" in line(*USE)
    assert not (place / "outputs").exists()


def test_on_resume_code_is_named_again(nursery: Nursery, place: Path):
    assert nursery.run("steps=2", *TINY, *USE, "hydra.run.dir=run", folder=place).code == 0
    line = refusal(nursery.run("resume", "run", "steps=4", folder=place))
    assert "this run used my_package" in line and "Try: 'plugins=[my_package]'" in line
    resumed = nursery.run("resume", "run", "steps=4", "plugins=[my_package]", folder=place)
    assert resumed.code == 0 and resumed.err == "", resumed
    assert nursery.run("steps=4", *TINY, *USE, "hydra.run.dir=whole", folder=place).code == 0
    assert same_state(place / "run", place / "whole") == []


def test_a_recipe_of_ones_own(nursery: Nursery, place: Path):
    (place / "my_conf" / "experiment").mkdir()
    (place / "my_conf" / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /tricks: [ema, my_trick]\nsteps: 1\nbatch: 3\n"
        "plugins: [my_package]\ntricks:\n  my_trick: {by: 0.125}\n"
    )
    arguments = ("--config-dir=my_conf", "experiment=mine", *(word for word in TINY if word != "batch=4"))
    line = refusal(nursery.run(*arguments, folder=place))
    assert line.startswith("plugins: my_package, which only a file names") and "Try: 'plugins=[my_package]'" in line
    ended = nursery.run(*arguments, "plugins=[my_package]", folder=place)
    assert ended.code == 0, ended
    settings = config(place / ended.run)
    assert list(settings["tricks"]) == ["ema", "my_trick"] and settings["tricks"]["my_trick"]["by"] == 0.125
    assert settings["batch"] == 3


def test_a_search_path_of_hydra_serves_as_well(nursery: Nursery, place: Path):
    search = f"hydra.searchpath=[file://{place}/my_conf]"
    ended = nursery.run("steps=1", *TINY, search, *USE[2:], folder=place)
    assert ended.code == 0, ended


def test_a_folder_of_very_many_files_beside_groups_is_no_group(place: Path) -> None:
    photos = place / "my_conf" / "photos"
    photos.mkdir()
    (photos / "a.yaml").write_text("a: 1\n")
    assert "photos" in Choices([place / "my_conf"]).groups
    for number in range(10_000):
        (photos / f"{number}.png").touch()
    choices = Choices([place / "my_conf"])
    assert "photos" not in choices.groups and "my_trick" in choices.options("tricks")
