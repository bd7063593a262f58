"""Sweeps: each job a process of its own, none of which can end the others; a table, and an exit code."""

import io
import json
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
import yaml
from commands import PATIENCE, TINY, Nursery, Started, checkpoints, config, same_state
from rich.console import Console

from ganrun.core.errors import ConfigError
from ganrun.record.folder import RunFolder
from ganrun.run.sweep import Job, JobOutcome, Processes, reason
from ganrun.run.sweep_table import print_table

BOOM = """
import os, signal, sys
from ganrun.core.trick import Trick

class Boom(Trick):
    def __init__(self, *, how: str):
        super().__init__()
        self.how = how
        if how == "exit":
            sys.exit(7)
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)

    def replay(self, fake):
        if self.how == "raise":
            raise KeyError("a mistake of mine")
        return fake
"""
SWEEP = ("-m", *TINY)
LONG = 4 * PATIENCE


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a trick that fails as it is told."""
    (tmp_path / "boom.py").write_text(BOOM)
    (tmp_path / "conf" / "tricks").mkdir(parents=True)
    (tmp_path / "conf" / "tricks" / "boom.yaml").write_text("boom:\n  _target_: boom.Boom\n  how: 'no'\n")
    return tmp_path


def folders(place: Path) -> list[Path]:
    """The folders of the jobs of the only sweep here."""
    (sweep,) = place.glob("sweeps/*/*")
    return sorted(path for path in sweep.iterdir() if path.is_dir())


def table(out: str) -> dict[int, str]:
    """What the table says of each job."""
    rows = out[out.index("\njob  ended") :].split("\n\n")[0]
    return {int(row.split()[0]): " ".join(row.split()) for row in re.split(r"\n(?= *\d+  \S)", rows)[1:]}


def test_settings_of_what_a_sweep_chooses_are_those_of_its_jobs(nursery: Nursery, place: Path):
    """Before any work the sweep is refused where one of its jobs would not have them."""
    setting = "tricks.instance_noise.sigma.end=0.05"
    ended = nursery.run(*SWEEP, "steps=1", "tricks=[instance_noise],[ema]", setting, folder=place, patience=LONG)
    assert ended.code == 2 and not ended.out and not (place / "sweeps").exists(), ended
    assert "tricks.instance_noise.sigma.end: instance_noise is not among the tricks" in ended.err
    words = (*SWEEP, "steps=1", "tricks=[instance_noise],[instance_noise,ema]", setting)
    ended = nursery.run(*words, folder=place, patience=LONG)
    assert ended.code == 0 and "2 of 2 jobs done" in ended.out, ended
    assert [config(path)["tricks"]["instance_noise"]["sigma"]["end"] for path in folders(place)] == [0.05, 0.05]


def test_jobs_that_fail_leave_the_others_alone(nursery: Nursery, place: Path):
    arguments = (*SWEEP, "steps=2", "--config-dir", "conf", "plugins=[boom]", "hydra.launcher.jobs=2")
    hows = "tricks.boom.how=raise,exit,kill,'no',3"  # the last is refused: not a name
    ended = nursery.run(*arguments, "tricks=[boom]", hows, folder=place, patience=LONG)
    assert ended.code == 5, ended
    rows = table(ended.out)
    assert "failed with a bug (exit code 1)" in rows[0] and "KeyError: 'a mistake of mine'" in rows[0]
    assert "(exit code 7)" in rows[1]
    assert "killed by SIGKILL (out of memory?)" in rows[2]
    assert "done in" in rows[3] and "tricks.boom.how=" in rows[3]
    assert "refused (exit code 2)" in rows[4] and "tricks.boom.how: 3, expected a name" in rows[4]
    assert "1 of 5 jobs done, 4 failed" in ended.out and "every job: " in ended.out
    assert "Traceback" not in ended.out + ended.err
    found = folders(place)
    assert [path.name for path in found] == ["0", "2", "3"]  # the others left nothing
    assert [len(checkpoints(path)) for path in found] == [0, 0, 1]
    assert "a mistake of mine" in (found[0] / "stderr.log").read_text()
    assert config(found[2])["tricks"]["boom"]["how"] == "no"
    assert "hydra" not in (found[2] / "overrides.yaml").read_text()
    assert ended.out.splitlines()[-1] == f"to compare: ganrun report {found[0].parent.relative_to(place)}"
    listed = json.loads((found[0].parent / "sweep.json").read_text())
    assert [job["exit_code"] for job in listed] == [1, 7, -9, 0, 2] and listed[3]["minutes"] > 0
    assert listed[0]["minutes"] is None and (found[0].parent / "sweep.csv").read_text().startswith("job,ended,")
    two = [line for line in ended.out.splitlines() if line.startswith("job ")][:2]
    assert {line[:7] for line in two} == {"job 0: ", "job 1: "}, two  # two at a time, in whichever order


def test_what_is_wrong_with_every_job_is_refused_once(nursery: Nursery, tmp_path: Path):
    ended = nursery.run(*SWEEP, "loss=wasserstein", "seed=1,2,3,4,5,6,7,8", folder=tmp_path, patience=LONG)
    assert ended.code == 2 and "loss (Wasserstein): needs" in ended.err
    assert len(ended.err.splitlines()) == 1 and not list(tmp_path.iterdir())
    assert ended.out.count("(sweeps/") == 1  # only the first was started to find out


def test_a_reason_without_a_remedy_of_its_own_is_the_same_of_every_job(nursery: Nursery, tmp_path: Path):
    """Each job fills the remedy in, and so does who finds out about the others."""
    ended = nursery.run(*SWEEP, "optim.decay=-1", "seed=1,2", folder=tmp_path, patience=LONG)
    assert ended.code == 2 and ended.err.count("optim.decay: -1, expected a number from 0 up") == 1, ended
    assert ended.err.rstrip().endswith("Try: optim.decay=1.0")


def children(process: Started) -> list[psutil.Process]:
    return [child for child in psutil.Process(process.pid).children(recursive=True) if child.is_running()]


def ends_in_order(nursery: Nursery, place: Path, stop, *more: str) -> tuple[int, str]:
    """Start two long jobs one after the other, stop the sweep in the midst of the first; nothing may stay alive."""
    arguments = (*SWEEP, "steps=1000000", "log.every=5", "seed=1,2", *more)
    process = nursery.start(*arguments, folder=place)
    process.until(lambda: list(place.glob("sweeps/*/*/0/metrics.jsonl")), LONG)
    jobs = children(process)
    assert len(jobs) == 1
    stop(process)
    ended = process.wait(LONG)
    psutil.wait_procs(jobs, 10)
    assert not any(job.is_running() for job in jobs)
    (job,) = folders(place)
    assert len(checkpoints(job)) == 1 and len((job / "metrics.jsonl").read_text().splitlines()) >= 1
    return ended.code, ended.out


def test_sigterm_ends_the_job_in_order_and_the_sweep(nursery: Nursery, tmp_path: Path):
    code, out = ends_in_order(nursery, tmp_path, lambda process: process.send(signal.SIGTERM))
    assert code == 143
    rows = table(out)
    assert "interrupted (exit code 143)" in rows[0] and "not started" in rows[1]


@pytest.mark.slow
def test_the_same_command_again_keeps_goes_on_and_starts(nursery: Nursery, place: Path):
    """One job done, one interrupted, one never started, one folder that holds another run; then all once more."""
    sweep = (*SWEEP, "steps=20", "log.every=10", "--config-dir", "conf", "plugins=[boom]", "tricks=[boom]")
    sweep = (*sweep, "objective=score/real", "hydra.launcher.jobs=2")
    whole = nursery.run(*sweep, "seed=1,2,3", "hydra.sweep.dir=whole", folder=place, patience=LONG)
    assert whole.code == 0, whole
    for number in (0, 1):
        shutil.copytree(place / "whole" / str(number), place / "here" / str(number))
    second = place / "here" / "1"  # as a kill after the last checkpoint leaves it
    (second / "summary.json").unlink()
    again = nursery.run(*sweep, "seed=1,2,3", "hydra.sweep.dir=here", folder=place, patience=LONG)
    assert again.code == 0, again
    rows = table(again.out)
    assert "done before, kept" in rows[0] and "resumed, done in" in rows[1] and rows[2].startswith("2 done in")
    assert [same_state(place / "whole" / n, place / "here" / n) for n in "012"] == [[], [], []]
    objectives = [[json.loads((place / at / n / "summary.json").read_text())["objective"] for n in "012"]
                  for at in ("whole", "here")]  # fmt: skip
    assert objectives[0] == objectives[1]
    other = nursery.run(*sweep, "seed=1,2,4", "hydra.sweep.dir=here", folder=place, patience=LONG)
    assert other.code == 5 and "done before, kept" in table(other.out)[1]
    assert "here/2: holds the run of" in table(other.out)[2] and "seed=3" in table(other.out)[2]


def test_a_job_imports_nothing_from_the_current_folder(tmp_path: Path, monkeypatch):
    """`python -m` looks there first: a torch.py or secrets.py that lies there would run."""
    (tmp_path / "this.py").write_text("print('mine')")
    monkeypatch.chdir(tmp_path)
    process = Processes._start("this", stdin=subprocess.PIPE, errors=subprocess.DEVNULL)
    assert process.communicate()[0].startswith(b"The Zen of Python")


@pytest.mark.parametrize("step", [None, 2, 3])
def test_what_an_earlier_sweep_has_left_of_a_job(tmp_path: Path, step: int | None):
    job = Job(number=0, overrides=["steps=3", "hydra.job.chdir=false"], folder=str(tmp_path / "0"))
    assert job.found() == "missing"
    folder = RunFolder.create(tmp_path / "0")
    folder.describe(config="steps: 3\n", overrides=["steps=3", "steps=3"], seed=0, command=[])
    folder.close()
    if step is not None:
        (tmp_path / "0" / "summary.json").write_text(json.dumps({"step": step}))
    assert job.found() == ("done" if step == 3 else "unfinished")
    with pytest.raises(ConfigError, match=r"0: holds the run of steps=3, expected that of this job"):
        Job(number=0, overrides=["steps=4"], folder=str(tmp_path / "0")).found()


@pytest.mark.slow
def test_ctrl_c_reaches_the_whole_group(nursery: Nursery, tmp_path: Path):
    code, out = ends_in_order(nursery, tmp_path, lambda process: process.send_group(signal.SIGINT))
    assert code == 130 and "interrupted (exit code 130)" in table(out)[0]


@pytest.mark.slow
def test_a_sweep_that_is_killed_takes_its_job_along(nursery: Nursery, tmp_path: Path):
    code, _ = ends_in_order(nursery, tmp_path, lambda process: process.send(signal.SIGKILL))
    assert code == -signal.SIGKILL


@pytest.mark.slow
def test_two_ctrl_c_leave_nothing_alive(nursery: Nursery, tmp_path: Path):
    def twice(process: Started) -> None:
        process.send(signal.SIGINT)
        time.sleep(0.02)
        process.send(signal.SIGINT)

    code, _ = ends_in_order(nursery, tmp_path, twice)
    assert code == 130


@pytest.mark.slow
def test_six_jobs_are_six_folders_under_one(nursery: Nursery, tmp_path: Path):
    tricks = "tricks=[],[soft_labels],[soft_labels,flip]"
    ended = nursery.run(*SWEEP, "steps=2", tricks, "seed=1,2", "hydra.launcher.jobs=2", folder=tmp_path, patience=LONG)
    assert ended.code == 0, ended
    found = [(list(config(path)["tricks"]), config(path)["seed"]) for path in folders(tmp_path)]
    assert found == [(t, s) for t in ([], ["soft_labels"], ["soft_labels", "flip"]) for s in (1, 2)]
    assert "6 of 6 jobs done, 0 failed" in ended.out and len(table(ended.out)) == 6
    assert all(len(checkpoints(path)) == 1 for path in folders(tmp_path))
    alone = nursery.run("steps=2", "tricks=[soft_labels,flip]", "seed=2", *TINY, folder=tmp_path)
    assert same_state(tmp_path / alone.run, folders(tmp_path)[5]) == []


@pytest.mark.slow
def test_odd_overrides_and_folders_survive_the_way_to_a_job(nursery: Nursery, tmp_path: Path):
    arguments = (
        "steps=1",
        "name='two words'",
        "~tricks.ema",
        "hydra.sweep.dir='my \\'own\\' sweep'",
        "hydra.job.chdir=false",
    )
    subdir = "hydra.sweep.subdir=seed_${seed}"
    ended = nursery.run(*SWEEP, *arguments, subdir, "seed=1,2", folder=tmp_path, patience=LONG)
    assert ended.code == 0, ended
    for seed in (1, 2):
        settings = config(tmp_path / "my 'own' sweep" / f"seed_{seed}")
        assert settings["name"] == "two words" and settings["tricks"] == {} and settings["seed"] == seed


# Hydra's own ways


def test_the_launcher_of_hydra_still_works(nursery: Nursery, tmp_path: Path):
    ended = nursery.run(*SWEEP, "steps=1", "seed=1,2", "name=mine", "hydra/launcher=basic", folder=tmp_path)
    assert ended.code == 0, ended
    assert [(path.name, config(path)["seed"]) for path in folders(tmp_path)] == [("0-mine", 1), ("1-mine", 2)]
    assert yaml.safe_load((folders(tmp_path)[0].parent / "multirun.yaml").read_text())["hydra"]["mode"] == "MULTIRUN"


def test_under_the_launcher_of_hydra_a_refusal_is_still_one(nursery: Nursery, tmp_path: Path):
    ended = nursery.run(*SWEEP, "steps=1", "loss=hinge,wasserstein", "hydra/launcher=basic", folder=tmp_path)
    assert ended.code == 2 and "ganrun: error: loss (Wasserstein)" in ended.err and "Traceback" not in ended.err
    assert [config(path)["loss"]["_target_"] for path in folders(tmp_path)] == ["ganrun.losses.margins.Hinge"]


def test_under_the_launcher_of_hydra_a_signal_ends_every_job(nursery: Nursery, tmp_path: Path):
    process = nursery.start(*SWEEP, "steps=1000000", "log.every=5", "seed=1,2", "hydra/launcher=basic", folder=tmp_path)
    process.until(lambda: list(tmp_path.glob("sweeps/*/*/0/metrics.jsonl")))
    process.send(signal.SIGTERM)
    assert process.wait().code == 143
    (job,) = folders(tmp_path)
    assert len(checkpoints(job)) == 1


@pytest.mark.slow
def test_a_sweeper_that_optimises_gets_the_objective(nursery: Nursery, tmp_path: Path):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    optuna = (
        "hydra/sweeper=optuna",
        "hydra.sweeper.n_trials=3",
        "hydra.sweeper.n_jobs=1",
        "hydra.sweeper.direction=minimize",
    )
    figure, rate = "objective=loss/discriminator/adversarial", "optim.discriminator.lr=choice(0,0.0001,0.01)"
    ended = nursery.run(*SWEEP, "steps=20", figure, rate, *optuna, folder=tmp_path, patience=LONG)
    assert ended.code == 0, ended
    best = yaml.safe_load(next(tmp_path.glob("sweeps/*/*/optimization_results.yaml")).read_text())
    finals = [yaml.safe_load((path / "summary.json").read_text())["objective"] for path in folders(tmp_path)]
    assert len(finals) == 3 and best["best_value"] == min(finals)


# The table


OUTCOMES = [
    JobOutcome(job=Job(number=0, overrides=["tricks=[]", "steps=9"], folder="sweeps/x/0"), code=0, seconds=12),
    JobOutcome(
        job=Job(number=1, overrides=["tricks=[soft_labels,flip]", "steps=9"], folder="sweeps/x/1"),
        code=2,
        message="tricks.soft_labels: needs a loss that asks the discriminator for labels (1 for real, 0 for fake); "
        "loss (Hinge) is not one. Try: loss=nonsaturating\nsecond: reason [bold]",
    ),
    JobOutcome(job=Job(number=2, overrides=["tricks=[ema]", "steps=9"], folder="sweeps/x/2"), code=-9, seconds=3),
    JobOutcome(job=Job(number=3, overrides=["tricks=[gp]", "steps=9"], folder="sweeps/x/3"), code=None),
]


@pytest.mark.parametrize(("columns", "lines"), [(80, 18), (160, 14)])
def test_the_table_fits_and_says_everything(columns: int, lines: int):
    console = Console(width=columns, file=io.StringIO())
    assert print_table(OUTCOMES, console) == 3
    out = console.file.getvalue()
    assert max(len(line.rstrip()) for line in out.splitlines()) <= columns and "\x1b" not in out
    words = " ".join(out.split())
    for part in ("done in 12 s", "refused (exit code 2)", "SIGKILL", "not started", "tricks=[soft_labels,flip]",
                 "Try: loss=nonsaturating", "[bold]", "every job: steps=9",
                 "1 of 4 jobs done, 2 failed, 1 not started"):  # fmt: skip
        assert part in words, part
    assert words.count("steps=9") == 1 and len(out.splitlines()) <= lines


def test_why_a_job_failed():
    assert reason("a warning\nganrun: error: one\nganrun: error: two\n") == "one\ntwo"
    assert reason("Traceback\n  File\nKeyError: 3\n") == "KeyError: 3"
    assert reason("") == ""


def test_nothing_of_the_job_is_left_to_chance():
    job = Job(number=1, overrides=["a=b c"], folder="it's \\ here", options=("--config-dir", "x"))
    assert job.arguments == ["--config-dir", "x", "a=b c", "hydra.run.dir='it\\'s \\\\ here'"]
