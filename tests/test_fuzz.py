"""Random command lines are answered or refused in the one form; and the driver that says so can find a fault."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from commands import environment

SCRIPT = Path(__file__).parents[1] / "scripts" / "fuzz.py"
ERROR = "ganrun: error: "


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fuzz", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz"] = module  # where dataclasses look for their own module
    spec.loader.exec_module(module)
    return module


def drive(draws: int, seed: int) -> str:
    command = [sys.executable, str(SCRIPT), "--draws", str(draws), "--seed", str(seed), "--jobs", "2"]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment())
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_a_few_random_command_lines() -> None:
    rows = [line.split() for line in drive(8, 7).splitlines() if line]
    assert rows[-1][0] == "all" and int(rows[-1][1]) == 8 and int(rows[-1][2]) > 2 and rows[-1][3] == "0"


@pytest.mark.slow
def test_two_thousand_random_command_lines() -> None:
    drive(2000, 0)


def test_draws_cover_every_file_and_follow_from_the_seed(script: ModuleType) -> None:
    drawer, again, other = (script.Drawer(seed) for seed in (0, 0, 1))
    assert [drawer.draw(n) for n in range(20)] == [again.draw(n) for n in range(20)]
    assert drawer.draw(3) != other.draw(3)
    files = {key.partition("@")[2] for key in drawer.keys}
    assert {"dcgan", "soft_labels", "folder", "adam", "hinge", "cycle"} <= files and len(drawer.keys) > 500
    drawn = [drawer.draw(number) for number in range(600)]
    assert {draw.kind for draw in drawn} == {*drawer.kinds, "two faults"}
    assert any(draw.arguments[-1] == "explain" for draw in drawn) and any("explain" not in d.arguments for d in drawn)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, ""),
        ({"code": 1, "err": "Traceback (most recent call last):\nKeyError: 'x'\n"}, "exit code 1: KeyError"),
        ({"code": 0, "err": "Traceback\n"}, "a traceback"),
        ({"code": -11}, "exit code -11"),
        ({"code": 4}, "exit code 4"),
        ({"work": 6.0}, "6.0 s of work"),
        ({"hung": True}, "hangs"),
        ({"left": ("/x/outputs",)}, "left behind: outputs"),
        ({"err": ""}, "no reason given"),
        ({"err": f"{ERROR}a: b, expected c. Try: d\n{ERROR}e: f, expected g. Try: h\n"}, "2 lines for 1 faults"),
        ({"err": f"{ERROR}a: b, expected c. Try: d\nand more\n"}, "more is printed"),
        ({"out": "step 1"}, "more is printed"),
        ({"err": f"{ERROR}a: b. Try: c\n"}, "not in the one form"),
        ({"err": f"{ERROR}a: b, expected c\n"}, "not in the one form"),
        ({"err": f"{ERROR}a: b, expected c. Try: dataset.path=it's\n"}, "the shell cannot read"),
        ({"err": f"{ERROR}a: b, expected c. Try: dataset.path=photos (1)\n"}, ""),  # reads as one word, then prose
        ({"err": f"{ERROR}a: b, expected c. Try: 'dataset.path=photos (1)'\n"}, "Hydra cannot read"),
        ({"err": f"{ERROR}a: b, expected c. Try: loss=hinge (with a.b=none), or less\n"}, ""),
    ],
)
def test_the_driver_finds_what_is_wrong(script: ModuleType, change: dict, words: str) -> None:
    draw = script.Draw(number=0, kind="text", arguments=("explain", "steps=0"))
    fine = {"code": 2, "out": "", "err": f"{ERROR}steps: 0, expected more. Try: steps=3\n", "work": 0.5}
    found = list(script.faults(draw, script.Answer(**fine | change)))
    assert words in "; ".join(found) if words else not found
