"""A closed display, a full disk behind it, an encoding that is too small: none of them ends a run."""

import io
import os
import sys
from pathlib import Path

import pytest
from commands import TINY, Nursery, checkpoints

from ganrun.core.errors import EnvironmentFailed
from ganrun.record.screen import Screen, check_printed, unbreakable


def test_a_run_goes_on_when_nothing_can_be_printed(nursery: Nursery, tmp_path: Path) -> None:
    ended = nursery.start("steps=4", "log.every=1", *TINY, "hydra.run.dir=run", folder=tmp_path, terminal="/dev/full")
    assert ended.wait().code == 0
    assert len(checkpoints(tmp_path / "run")) == 1 and (tmp_path / "run" / "summary.json").exists()


def test_an_answer_that_cannot_be_printed_is_the_machine_s_failure(nursery: Nursery, tmp_path: Path) -> None:
    for words in (["--help"], ["--version"], ["list", "tricks"], ["--cfg", "job"]):
        assert nursery.start(*words, folder=tmp_path, terminal="/dev/full").wait().code == 4, words


def test_what_nobody_reads_is_dropped_and_what_cannot_be_encoded_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    for stream in (os.fdopen(writing, "w"), open("/dev/full", "w"), io.StringIO()):  # noqa: SIM115
        if isinstance(stream, io.StringIO):
            stream.close()
        monkeypatch.setattr(sys, "stdout", stream)
        with unbreakable():
            for _ in range(3):
                print("a line", flush=True)
            assert isinstance(sys.stdout, Screen) and sys.stdout.problem is not None
            if getattr(stream, "name", "") == "/dev/full":
                with pytest.raises(EnvironmentFailed, match="standard output: No space left on device"):
                    check_printed()
            else:
                check_printed()
        assert sys.stdout is stream
    small = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    Screen(small).write("é")
    small.flush()
    assert small.buffer.getvalue() == b"\\xe9"  # type: ignore[attr-defined]


def test_a_closed_standard_output_is_no_place_for_a_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    """With `>&-` the next file that is opened gets the number of standard output, and prints go into it."""
    kept = os.dup(1)
    os.close(1)
    try:
        monkeypatch.setattr(sys, "stdout", None)
        with unbreakable():
            print("nowhere")
            assert os.fstat(1).st_rdev == os.stat(os.devnull).st_rdev
    finally:
        os.dup2(kept, 1)
        os.close(kept)
