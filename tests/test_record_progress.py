"""What a run says while it trains and when it ends."""

import io
import logging
import subprocess
import sys
import threading

import pytest
from rich.console import Console

from ganrun.record.progress import Display, duration, metrics, summary

MEANS = {
    "loss/discriminator/adversarial": 1.25,
    "loss/discriminator/gp": 0.5,
    "loss/discriminator/total": 1.75,
    "loss/generator/adversarial": 0.5,
    "loss/generator/total": 0.5,
    "probability/real": 0.75,
    "probability/fake": 0.125,
    "score/real": 2.0,
    "score/fake": -3.0,
}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def plain() -> Console:
    return Console(file=io.StringIO(), width=40)


def printed(console: Console) -> list[str]:
    return console.file.getvalue().splitlines()


def test_plain_lines_are_few_and_hold_everything(caplog):
    clock, console = Clock(), plain()
    with caplog.at_level(logging.INFO, logger="ganrun"), Display(steps=1000, console=console, clock=clock) as display:
        for step in range(10, 1001, 10):
            clock.now += 0.5
            display.update(step, MEANS, 1234.5)
    first, *middle, last = printed(console)
    assert first == ("step 10/1,000  1,234 images/s  0:50 left  loss D 1.75 G 0.5  D(x) 0.75  D(G(z)) 0.125")
    assert len(middle) == 4 and last.startswith("step 1,000/1,000") and "0:00 left" in last
    assert [record.getMessage() for record in caplog.records] == printed(console)


def test_a_run_that_is_cut_short_still_says_where_it_was():
    console, clock = plain(), Clock()
    with pytest.raises(KeyboardInterrupt), Display(steps=100, console=console, clock=clock) as display:
        display.update(1, MEANS, 1.0)
        display.update(2, MEANS, 1.0)
        raise KeyboardInterrupt
    assert [line.split("  ")[0] for line in printed(console)] == ["step 1/100", "step 2/100"]


def test_losses_without_probabilities_show_scores():
    console = plain()
    with Display(steps=2, console=console, start=1) as display:
        display.update(2, {key: value for key, value in MEANS.items() if not key.startswith("probability")}, 1.0)
    assert "score of reals 2  of fakes -3" in printed(console)[-1] and "D(x)" not in printed(console)[-1]


def test_time_left_counts_from_where_a_resumed_run_started():
    console, clock = plain(), Clock()
    with Display(steps=1100, console=console, clock=clock, start=1000) as display:
        clock.now = 10.0
        display.update(1050, MEANS, 1.0)
    assert "0:10 left" in printed(console)[0]


def test_on_a_terminal_there_is_a_live_display():
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    threads = threading.active_count()
    with Display(steps=100, console=console) as display:
        display.update(50, MEANS, 99.0)
        text = console.file.getvalue()  # at once, not when the run ends
        assert threading.active_count() == threads  # training has all cores
    for part in ("step 50/100", "99 images/s", "left", "loss D 1.75 G 0.5", "D(x) 0.75", "D(G(z)) 0.125"):
        assert part in text, part


def test_durations():
    assert [duration(s) for s in (0, 59.6, 3599, 3661, float("inf"))] == ["0:00", "1:00", "59:59", "1:01:01", "-:--"]


def test_the_summary_holds_commands_that_can_be_pasted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    console, run = plain(), tmp_path / "my runs" / "a"
    grid, checkpoint = run / "samples" / "s.png", run / "checkpoints" / "c.pt"
    summary(console, folder=run, step=4000, seconds=61, grid=grid, checkpoint=checkpoint)
    lines = printed(console)
    assert "tensorboard --logdir 'my runs/a'" in lines[3] and "ganrun resume 'my runs/a'" in lines[4]
    assert "'my runs/a/samples/s.png'" in lines[1] and "'my runs/a/checkpoints/c.pt'" in lines[2]
    assert len(lines) == 5 and "step 4,000, 1:01" in lines[0]
    console = plain()
    monkeypatch.chdir("/")
    summary(console, folder=run, step=1, seconds=1, grid=None, checkpoint=None)
    assert "none yet" in printed(console)[1]


def test_the_display_does_without_torch():
    code = "import sys, ganrun.record.progress; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_of_several_pairs_the_mean_is_shown() -> None:
    means = {"probability/a_to_b/real": 0.5, "probability/b_to_a/real": 0.75, "probability/a_to_b/fake": 0.25,
             "probability/b_to_a/fake": 0.5, "loss/generator/total": 2.0, "loss/generator/cycle": 1.0}  # fmt: skip
    assert metrics(means) == ["loss G 2", "D(x) 0.625", "D(G(z)) 0.375"]
    assert metrics({"score/left/real": 1.0, "score/right/real": 3.0}) == ["loss ", "score of reals 2"]
    assert metrics({"energy/real": 1.0, "energy/fake": 3.0}) == ["loss ", "energy of reals 1", "of fakes 3"]
