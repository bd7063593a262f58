"""`ganrun speed`: what it measures of runs whose times are known, that it leaves nothing, and how it is refused."""

import contextlib
import io
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import PATIENCE, environment
from support import composed, pair_in, tiny, trick_of
from torch import Tensor

from ganrun.cli import main as cli
from ganrun.config.build import Run, build
from ganrun.config.engines import COMPILERS
from ganrun.core.compiled import Compiled
from ganrun.core.context import Context
from ganrun.core.trick import Trick, Tricks
from ganrun.machine import peak_memory
from ganrun.run.speed import REST, Speed, measure
from ganrun.run.turns import Turns

NAP = 0.03  # seconds


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "scratch").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))


def left(folder: Path) -> list[str]:
    return [path.name for name in ("here", "scratch") for path in (folder / name).iterdir()]


class Naps(Trick):
    """A term that costs a nap when it is due, and nothing of the gradient."""

    def __init__(self, every: int = 1):
        super().__init__()
        self.every = every

    def discriminator_term(self, context: Context) -> Tensor:
        time.sleep(NAP)
        return 0 * context.on_fake.score.sum()


def with_naps(*overrides: str, every: int = 1, **more: Any) -> Run:
    run = build(composed(*tiny(*overrides, **more)))
    pair = pair_in(run)
    pair.tricks["naps"] = Naps(every)
    pair.tricks = Tricks(dict(pair.tricks.items()))  # which looks for hooks once
    return run


def found_of(run: Run, seconds: float = 1.0) -> Speed:
    found = measure(run, seconds=seconds)
    assert found.step > 0 and found.images == run.settings["batch"]
    assert sum(found.parts.values()) == pytest.approx(found.step, rel=0.01), "the parts are those of a step"
    return found


def napping(call: Any) -> Any:
    def call_later(*args: Any, **kwargs: Any) -> Any:
        time.sleep(NAP)
        return call(*args, **kwargs)

    return call_later


def test_a_term_costs_what_a_step_is_shorter_without_it() -> None:
    found = found_of(with_naps("steps=60", tricks=["ema"]))
    assert found.terms.keys() == {"naps"}, "ema has no term"
    assert found.terms["naps"] == pytest.approx(NAP, rel=0.3)


def test_a_lazy_term_costs_its_share() -> None:
    run = with_naps("steps=400", every=4)
    found = found_of(run, seconds=3.0)
    assert found.terms["naps"] == pytest.approx(NAP / 4, rel=0.4)


@pytest.mark.parametrize(
    "part", ["data", "optimisers", "discriminator: forward and loss", "tricks on gradients and weights"]
)
def test_a_part_that_takes_its_time_is_seen_where_it_is(part: str) -> None:
    run = build(composed(*tiny("steps=40", tricks=["ema"])))
    plain = found_of(run)
    run = build(composed(*tiny("steps=40", tricks=["ema"])))
    if part == "data":
        run.data.draw = napping(run.data.draw)  # type: ignore[method-assign]
    elif part == "optimisers":
        optimizer = run.engine.players["generator"].optimizer
        optimizer.step = napping(optimizer.step)  # type: ignore[method-assign]
    elif part.startswith("tricks"):
        run.game.after = napping(run.game.after)  # type: ignore[method-assign]
    else:
        pair = pair_in(run)
        pair.discriminator_outcome = napping(pair.discriminator_outcome)  # type: ignore[method-assign]
    found = found_of(run)
    assert found.parts[part] - plain.parts[part] > 0.7 * NAP
    assert max(found.parts, key=lambda name: found.parts[name]) == part


def test_the_run_is_as_it_was_but_for_what_it_learnt() -> None:
    run = build(composed(*tiny("steps=20", "model.discriminator.norm=none", tricks=["r1", "ema"])))
    r1 = trick_of(run, "r1")
    measure(run, seconds=0.5)
    assert "draw" not in vars(run.data) and "learn" not in vars(run.engine) and "outcome" not in vars(run.game)
    assert "discriminator_term" not in vars(r1) and r1.differentiates
    assert all("step" not in vars(player.optimizer) for player in run.engine.players.values())


GAMES = {
    "two pairs": tiny("steps=12", model="translation"),
    "pyramids": tiny("steps=12", model="msggan", tricks=["r1"]),
    "growing": tiny("steps=12", model="progan"),
    "more updates of D": tiny("steps=12", "updates.discriminator=3"),
    "a term in place of the loss": tiny(
        "steps=12", "tricks.feature_matching.instead=true", tricks=["feature_matching"]
    ),
    "streamed": tiny("steps=12", "engine.memory=0"),
    "one step": tiny("steps=1"),
}


@pytest.mark.parametrize("name", GAMES)
def test_every_kind_of_run_is_measured(name: str, tmp_path: Path) -> None:
    run = build(composed(*GAMES[name]))
    found = measure(run, seconds=0.5)
    run.data.close()
    players = {title.partition(":")[0] for title in found.parts if ":" in title}
    assert players == set(run.engine.players) and REST in found.parts
    assert all(seconds >= 0 for seconds in (*found.parts.values(), *found.terms.values()))
    assert bool(found.moment) == (name == "growing")
    assert found.terms.keys() == ({"r1"} if name == "pyramids" else set())
    assert left(tmp_path) == []


def test_it_trains_no_more_steps_than_the_run_has_and_about_as_long_as_it_is_told() -> None:
    run = build(composed(*tiny("steps=1000000")))
    shares: list[float] = []
    began = time.monotonic()
    measure(run, seconds=2.0, tell=shares.append)
    assert 0.9 < time.monotonic() - began < 6 and shares == sorted(shares) and shares[0] >= 0 and shares[-1] <= 1


def test_turns_train_what_one_piece_trains() -> None:
    one, other = (build(composed(*tiny("steps=6", tricks=["ema"]))) for _ in range(2))
    whole, turns = Turns(one), Turns(other)
    whole.train(6)
    assert turns.seconds(2) > 0 and turns.work(3) > 0
    turns.train(1)
    assert turns.now == whole.now == (6, 24)
    for a, b in zip(one.game.state_dict().values(), other.game.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_the_peak_of_memory_sees_a_big_tensor() -> None:
    before = peak_memory(torch.device("cpu"))
    kept = torch.ones(max(before // 4, 2**27))  # four bytes each
    assert peak_memory(torch.device("cpu")) >= kept.numel() * 4
    assert before > 2**26, "PyTorch alone is more than that"


# The command


def ganrun_(*arguments: str) -> tuple[int, str, str]:
    """Exit code, output and errors of `ganrun` in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main(arguments)
    return code, out.getvalue(), err.getvalue()


def test_the_command_prints_a_page_and_leaves_nothing(tmp_path: Path) -> None:
    words = tiny("steps=40", "model.discriminator.norm=none", tricks=["r1", "ema"])
    code, out, err = ganrun_("speed", *words)
    assert code == 0 and not err and left(tmp_path) == []
    lines = out.splitlines()
    titles = [line for line in lines if not line.startswith(" ")]
    assert titles[:4] == ["run", "speed", "memory", "where a step goes"] and titles[4].startswith("of which the terms")
    assert " images/s, " in out and "40 steps take" in out and " MiB at most" in out
    assert "  discriminator: backward" in out and lines[-1].startswith("  r1 ") and max(map(len, lines)) <= 100


def test_what_training_refuses_is_refused() -> None:
    for word in ("loss=wasserstein", "batch=0"):
        code, out, err = ganrun_("speed", *tiny(), word)
        assert code == 2 and not out and all(line.startswith("ganrun: error: ") for line in err.splitlines())


def test_several_processes_are_refused() -> None:
    code, _, err = ganrun_("speed", *tiny("engine.ranks=2"))
    assert code == 2 and "engine.ranks: 2, and `ganrun speed` measures one process, expected 1" in err


def test_a_signal_ends_it_in_a_line_and_nothing_is_left(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ganrun", "speed", *tiny("steps=1000000")]
    started = subprocess.Popen(
        command, cwd=tmp_path / "here", env=environment(TMPDIR=str(tmp_path / "scratch")), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    deadline = time.monotonic() + PATIENCE
    while not list((tmp_path / "scratch").glob("ganrun-*/run/*")):
        assert started.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    started.send_signal(signal.SIGINT)
    out, err = started.communicate(timeout=PATIENCE)
    assert (started.returncode, out) == (130, "")
    assert err == "ganrun: error: interrupted before there was anything to save\n"
    assert left(tmp_path) == []


@pytest.mark.skipif(not any(map(shutil.which, COMPILERS)), reason="no C++ compiler")
def test_passes_that_are_compiled_are_one_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Compiled, "backend", "aot_eager")
    overrides = ("updates.share_fakes=false", "engine.compile=true", "model.discriminator.norm=none")
    found = found_of(build(composed(*tiny(*overrides, tricks=["r1"]))))
    assert "discriminator: forward, loss and backward" in found.parts and not found.terms
    torch._dynamo.reset()
