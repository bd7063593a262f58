"""The command line as a user meets it: quick answers, what a run says and what it leaves."""

import fcntl
import json
import os
import pty
import re
import shlex
import struct
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path

import pytest
import yaml
from commands import ROOT, TINY, Nursery, checkpoints, config, environment, fresh, refusal

from ganrun.cli.main import ERASE, loading_torch
from ganrun.version import __version__

QUICK = 1.5  # seconds that an answer without work may take, on a machine that does nothing else
HEAVY = ("torch", "torchvision", "sklearn", "tensorboard")


def imported(importtime: str) -> set[str]:
    """The top-level modules among what -X importtime tells."""
    return {line.rsplit("|", 1)[1].strip().split(".")[0] for line in importtime.splitlines() if "|" in line}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--help"], 0, ["usage:", "ganrun resume", "soft_labels", "wgan_gp_toy", "outputs/"]),
        (["--version"], 0, [f"ganrun {__version__}"]),
        (["model=dcgann"], 2, ["model: there is no dcgann", "cgan, dcgan, deep_conv", "Try: model=dcgan"]),
        (["tricks=[ema,soft_lables]"], 2, ["no soft_lables", "noisy_labels", "Try: 'tricks=[ema,soft_labels]'"]),
        (["stepz=3"], 2, ["stepz: there is no such setting", "Try: steps="]),
        (["trian"], 2, ["trian", "train, resume, explain, check, speed, list, help", "Try: ganrun train"]),
        (["resume", "nowhere"], 2, ["nowhere: does not exist"]),
        (["resume"], 2, ["resume: no run named"]),
        (["steps=abc"], 2, ["steps: 'abc', expected a whole number"]),
        (["list", "tricks"], 0, ["soft_labels", "Salimans et al. 2016"]),
        (["explain", "losss=hinge"], 2, ["losss: there is no such setting", "Try: loss="]),
        (["explain", "-m", "seed=1,2"], 2, ["explain: a sweep, expected one run"]),
        (["check", "-m", "seed=1,2"], 2, ["check: a sweep, expected one run", "Try: ganrun check"]),
        (["check", "losss=hinge"], 2, ["losss: there is no such setting", "Try: loss="]),
        (["speed", "-m", "seed=1,2"], 2, ["speed: a sweep, expected one run", "Try: ganrun speed"]),
        (["speed", "losss=hinge"], 2, ["losss: there is no such setting", "Try: loss="]),
        (["dataset.path=x"], 2, ["dataset.path: there is no such setting"]),
        (["~model"], 2, ["~model: a run without model"]),
        (["log.keep=none"], 2, ["log.keep: 'none', expected a whole number from 2 up"]),
        (["steps=7", "--info", "searchpath"], 0, ["conf"]),
        (["--cfg", "job"], 0, ["steps: 3000", "_target_: ganrun.models.cdcgan.Generator", "soft_labels"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_answers_without_work_are_quick_and_need_no_torch(arguments, code, words, tmp_path):
    if arguments == ["--cfg", "job"]:
        arguments = [*arguments, "tricks=[soft_labels]"]
    traced = fresh(*arguments, folder=tmp_path, python=["-X", "importtime"])  # first: it may have to compile
    assert "ganrun" in imported(traced.err) and not imported(traced.err) & set(HEAVY)
    ended = fresh(*arguments, folder=tmp_path)
    assert ended.code == code and ended.cpu < QUICK, ended
    assert [word for word in words if word not in ended.out + ended.err] == []
    assert len(ended.err.splitlines()) == (1 if code else 0)
    assert not list(tmp_path.iterdir())


def test_help_fits_a_terminal_and_names_every_choice(nursery: Nursery, tmp_path):
    text = nursery.run("--help", folder=tmp_path).out
    for group in ("model", "loss", "dataset", "tricks", "optim", "updates", "experiment"):
        for path in (ROOT / "conf" / group).glob("*.yaml"):
            assert re.search(rf"\b{path.stem}\b", text), path
    assert max(map(len, text.splitlines())) <= 120
    examples = [shlex.split(line)[1:] for line in text.splitlines() if line.startswith("  ganrun")]
    assert len(examples) >= 5


def test_the_examples_of_the_help_compose(nursery: Nursery, tmp_path):
    lines = nursery.run("--help", folder=tmp_path).out.split("examples:\n")[1].split("\n\n")[0].splitlines()
    for line in lines:
        arguments = shlex.split(re.split(r"   +(?! )", line.strip())[0])[1:]
        arguments = [a for a in arguments if a != "-m" and "],[" not in a and not a.startswith("seed=1,")]
        ended = nursery.run(*arguments, "--cfg", "job", folder=tmp_path)
        assert ended.code == 0 and "model:" in ended.out, (line, ended)


@pytest.mark.parametrize("where", ["first", "last"])
def test_options_may_stand_anywhere(nursery: Nursery, where, tmp_path):
    words = ["steps=7", "--cfg", "job", "batch=9"] if where == "last" else ["--cfg", "job", "steps=7", "batch=9"]
    shown = yaml.safe_load(nursery.run(*words, folder=tmp_path).out)
    assert shown["steps"] == 7 and shown["batch"] == 9


@pytest.mark.parametrize("words", ["--help", "--cfg job"])
def test_a_reader_that_has_seen_enough_is_no_error(words, tmp_path):
    command = f"{shlex.quote(sys.executable)} -m ganrun {words} | head -n 1"
    ended = subprocess.run(command, shell=True, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert ended.stderr == "" and len(ended.stdout.splitlines()) == 1


# A run


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a space in its name."""
    path = tmp_path_factory.mktemp("cli") / "my runs"
    path.mkdir()
    return path


@pytest.fixture(scope="module")
def ended(nursery: Nursery, place):
    return nursery.run("steps=5", "log.every=2", "log.samples=2", "log.checkpoint=2", *TINY, folder=place)


def test_a_run_ends_with_where_everything_is(ended, place):
    assert ended.code == 0 and ended.err == ""
    rows = {line[:12].strip(): line[12:] for line in ended.out.splitlines() if not line.startswith("step")}
    assert list(rows) == ["run", "samples", "checkpoint", "curves", "resume"]
    run = place / ended.run
    assert (place / shlex.split(rows["samples"])[0]) == run / "samples" / "step_00000005.png"
    assert (place / shlex.split(rows["checkpoint"])[0]) == checkpoints(run)[-1]
    assert shlex.split(rows["curves"]) == ["tensorboard", "--logdir", str(ended.run)]


def test_plain_lines_where_there_is_no_terminal(ended):
    lines = [line for line in ended.out.splitlines() if line.startswith("step")]
    assert lines and "\x1b" not in ended.out and "\r" not in ended.out
    assert re.match(r"step 5/5 .*images/s .*left .*loss D \S+ G \S+ .*D\(x\) \S+ .*D\(G\(z\)\) \S+$", lines[-1])


def test_what_a_run_leaves(ended, place):
    run = place / ended.run
    assert re.fullmatch(r"outputs/\d{4}-\d\d-\d\d/\d\d-\d\d-\d\d-[0-9a-f]{4}", ended.run.as_posix())
    grids = sorted(path.name for path in (run / "samples").iterdir())
    assert grids == ["reals.png", "step_00000002.png", "step_00000004.png", "step_00000005.png"]
    assert [path.name[:13] for path in checkpoints(run)] == ["step_00000004", "step_00000005"]
    assert [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()] == [2, 4, 5]
    assert config(run)["steps"] == 5 and config(run)["dataset"]["resolution"] == 16
    assert "${" not in (run / "config.yaml").read_text() and "hydra" not in config(run)
    assert yaml.safe_load((run / "overrides.yaml").read_text())[:2] == ["steps=5", "log.every=2"]
    record = json.loads((run / "environment.json").read_text())
    assert record["seed"] == 0 and record["torch"] and record["ganrun"] == __version__
    assert "step 5/5" in (run / "run.log").read_text() and list(run.glob("events.out.tfevents.*"))
    assert not list(run.rglob("*.tmp"))


def test_the_commands_that_it_prints_work_when_pasted(ended, nursery: Nursery, place):
    line = next(line for line in ended.out.splitlines() if line.startswith("resume"))
    command = shlex.split(line)[1:]
    assert command[:2] == ["ganrun", "resume"]
    again = nursery.run(*command[1:], folder=place)
    assert again.code == 0 and "has all its steps already" in again.out
    pasted = again.out.split("To go on: ganrun ")[1]
    more = nursery.run(*shlex.split(pasted), folder=place)
    assert more.code == 0 and "step 10/10" in more.out and more.err == ""


def test_a_folder_of_ones_own(nursery: Nursery, place):
    ended = nursery.run("steps=1", *TINY, "hydra.run.dir='its own'", folder=place)
    assert ended.code == 0 and ended.run == Path("its own") and checkpoints(place / "its own")
    line = refusal(nursery.run("steps=1", *TINY, "hydra.run.dir='its own'", folder=place))
    assert "already holds a run" in line and f"ganrun resume '{place / 'its own'}'" in line


def test_two_runs_of_one_second_get_two_folders(nursery: Nursery, tmp_path):
    def both() -> list[Path]:
        started = [nursery.start("steps=1", *TINY, folder=tmp_path) for _ in range(2)]
        return [process.wait().run for process in started]

    pairs = [both() for _ in range(3)]
    assert all(one != other for one, other in pairs)
    assert any(one.name[:8] == other.name[:8] for one, other in pairs), "none of the pairs began in one second"
    assert len({checkpoints(tmp_path / run)[-1].name for pair in pairs for run in pair}) == 1  # the same run each time


def test_the_kinds_of_name_that_people_give(nursery: Nursery, tmp_path):
    """The run's folder ends in it, made safe for a path, as that is what TensorBoard calls the run."""
    endings = {"2024": "-2024", "my_run": "-my_run", "3.5": "-3.5", "a/b": "-a_b", "'two words'": "-two_words"}
    for name, ending in endings.items():
        ended = nursery.run("steps=1", f"name={name}", *TINY, folder=tmp_path)
        assert ended.code == 0, ended
        assert str(config(tmp_path / ended.run)["name"]) == name.strip("'") and ended.run.name[13:] == ending


def test_a_terminal_gets_a_live_display(nursery: Nursery, tmp_path):
    screen, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 110, 0, 0))
    seen: list[bytes] = []

    def read() -> None:
        try:
            while data := os.read(screen, 65536):
                seen.append(data)
        except OSError:  # nobody has the terminal any more
            return

    reader = threading.Thread(target=read)
    reader.start()
    arguments = ("steps=60", "log.every=5", *TINY)
    started = nursery.start(*arguments, folder=tmp_path, terminal=os.ttyname(terminal), TERM="xterm-256color")
    ended = started.wait()
    time.sleep(0.1)
    os.close(terminal)
    reader.join(10)
    os.close(screen)
    text = b"".join(seen).decode(errors="replace")
    assert ended.code == 0, text
    assert "\x1b[?25l" in text and "\x1b[?25h" in text  # the cursor hidden, and shown again
    assert "\x1b[2K" in text or "\x1b[1A" in text  # lines drawn anew
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "")
    assert "images/s" in plain and "D(G(z))" in plain and "━" in plain
    assert [line[:12].strip() for line in plain.splitlines()[-5:]] == [
        "run",
        "samples",
        "checkpoint",
        "curves",
        "resume",
    ]


def test_a_terminal_is_told_at_once_that_torch_is_loading(monkeypatch, capsys):
    """The line is erased afterwards; where there is no terminal, nothing is printed."""
    for terminal, expected in ((True, f"ganrun: loading PyTorch ...{ERASE}"), (False, "")):
        monkeypatch.setattr(sys.stdout, "isatty", lambda terminal=terminal: terminal)
        with pytest.raises(ImportError), loading_torch():
            raise ImportError
        assert capsys.readouterr().out == expected


def test_python_m_ganrun_in_a_fresh_process(tmp_path):
    """It imports what a run needs and nothing else: no compiler, no scikit-learn, no second TensorBoard writer."""
    ended = fresh("train", "steps=2", *TINY, folder=tmp_path, python=["-X", "importtime"])
    modules = {line.rsplit("|", 1)[1].strip() for line in ended.err.splitlines() if "|" in line}
    assert ended.code == 0 and checkpoints(tmp_path / ended.run) and "torch" in modules
    assert not modules & {"torch._dynamo", "torch._inductor", "sympy", "sklearn", "scipy", "torchvision", "pandas"}
    ended = fresh("train", "steps=1", *TINY, folder=tmp_path)
    assert ended.code == 0 and ended.err == ""
