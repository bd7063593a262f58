"""The run folder: one run, one owner, nothing lost."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from ganrun.core.errors import ConfigError
from ganrun.record.folder import RunFolder, is_run

HOLD = """
import os, sys, time
from pathlib import Path
from ganrun.record.folder import RunFolder
folder = RunFolder.create(Path(sys.argv[1]))
folder.config.write_text("steps: 1")
child = os.fork() if len(sys.argv) > 2 else 1
if child:
    print(os.getpid(), child, flush=True)
time.sleep(60)
"""


def describe(folder: RunFolder, **changes) -> None:
    settings = {"config": "steps: 3\n", "overrides": ["tricks=[a,b]", "name=x: y"], "seed": 7, "command": ["ganrun"]}
    folder.describe(**(settings | changes))


def hold(path: Path, *more: str) -> tuple[subprocess.Popen, list[int]]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path), *more], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, [int(word) for word in process.stdout.readline().split()]


def test_a_new_folder_says_what_the_run_is(tmp_path):
    folder = RunFolder.create(tmp_path / "a" / "b")
    describe(folder)
    assert folder.checkpoints.is_dir() and folder.samples.is_dir()
    assert yaml.safe_load(folder.config.read_text()) == {"steps": 3}
    assert yaml.safe_load((folder.path / "overrides.yaml").read_text()) == ["tricks=[a,b]", "name=x: y"]
    environment = json.loads((folder.path / "environment.json").read_text())
    assert environment["seed"] == 7 and environment["command"] == ["ganrun"] and environment["torch"]
    assert {"ganrun", "python", "torchvision", "hydra", "numpy", "platform", "cpu", "cuda", "time"} <= set(environment)
    assert not list(folder.path.rglob("*.tmp"))
    folder.close()


def test_no_overrides_are_an_empty_list(tmp_path):
    folder = RunFolder.create(tmp_path / "run")
    describe(folder, overrides=[])
    assert yaml.safe_load((folder.path / "overrides.yaml").read_text()) == []
    folder.close()


def test_a_resumed_run_keeps_what_it_was_before(tmp_path):
    for path, number in ((RunFolder.create, 1), (RunFolder.open, 2), (RunFolder.open, 3)):
        folder = path(tmp_path / "run")
        describe(folder, command=[str(number)])
        folder.close()
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert environment["command"] == ["3"]
    assert [before["command"] for before in environment["before"]] == [["1"], ["2"]]


def test_a_second_run_in_a_folder_is_refused_with_the_command_that_goes_on(tmp_path):
    folder = RunFolder.create(tmp_path / "my run")
    describe(folder)
    folder.close()
    with pytest.raises(ConfigError, match=r"already holds a run.*ganrun resume '.*my run' continues it"):
        RunFolder.create(tmp_path / "my run")


def test_a_folder_that_hydra_made_is_welcome_and_a_foreign_config_is_safe(tmp_path):
    (tmp_path / "made" / ".hydra").mkdir(parents=True)
    RunFolder.create(tmp_path / "made").close()
    (tmp_path / "config.yaml").write_text("mine")
    with pytest.raises(ConfigError):
        RunFolder.create(tmp_path)
    assert (tmp_path / "config.yaml").read_text() == "mine" and not (tmp_path / ".lock").exists()


def test_a_file_and_what_cannot_be_written_are_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/no/run")):
        with pytest.raises(ConfigError, match=r"is a file|cannot be written"):
            RunFolder.create(path)


@pytest.mark.skipif(os.getuid() != 0, reason="needs to drop privileges")
def test_a_read_only_folder_is_refused(tmp_path):
    code = (
        "import os, sys, pathlib\nfrom ganrun.record.folder import RunFolder\n"
        "from ganrun.core.errors import ConfigError\n"
        "os.setuid(65534)\n"
        "try:\n    RunFolder.create(pathlib.Path(sys.argv[1]))\nexcept ConfigError as error:\n    print(error)\n"
    )
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    for parent in (tmp_path, *[one for one in tmp_path.parents if "pytest" in str(one)]):
        parent.chmod(0o755)
    result = subprocess.run([sys.executable, "-c", code, str(locked / "run")], capture_output=True, text=True)
    assert "cannot be written (permission denied)" in result.stdout, result.stderr
    assert not list(locked.iterdir())


def test_what_is_no_run_is_refused_and_the_nearest_run_named(tmp_path):
    folder = RunFolder.create(tmp_path / "day" / "12-00-00-abcd")
    describe(folder)
    folder.close()
    meant = f"Try: {folder.path}"
    for wrong in (tmp_path / "day" / "12-00-00-abce", tmp_path / "day", folder.path / "checkpoints", folder.config):
        with pytest.raises(ConfigError) as refused:
            RunFolder.open(wrong)
        assert meant in str(refused.value) and "config.yaml and checkpoints" in str(refused.value)
    with pytest.raises(ConfigError, match="does not exist"):
        RunFolder.open(Path("/nowhere/at/all"))


def test_a_live_run_holds_its_folder_and_a_killed_one_lets_go(tmp_path):
    process, (pid, _) = hold(tmp_path / "run")
    try:
        with pytest.raises(ConfigError, match=rf"in use by a live run, process {pid}"):
            RunFolder.open(tmp_path / "run")
        with pytest.raises(ConfigError, match=r"already holds a run"):
            RunFolder.create(tmp_path / "run")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    folder = RunFolder.open(tmp_path / "run")
    assert is_run(folder.path)
    with pytest.raises(ConfigError, match=rf"process {os.getpid()}"):  # within one process too
        RunFolder.open(tmp_path / "run")
    folder.close()
    RunFolder.open(tmp_path / "run").close()


def test_a_worker_that_outlives_a_killed_run_does_not_hold_the_folder(tmp_path):
    process, (_, child) = hold(tmp_path / "run", "fork")
    try:
        process.send_signal(signal.SIGKILL)
        process.wait()
        os.kill(child, 0)  # the worker is alive
        deadline = time.monotonic() + 2
        while True:
            try:
                RunFolder.open(tmp_path / "run").close()
                break
            except ConfigError:
                assert time.monotonic() < deadline
    finally:
        os.kill(child, signal.SIGKILL)


def test_what_ganrun_says_goes_to_the_log_until_closed(tmp_path):
    import logging

    folder = RunFolder.create(tmp_path / "run")
    folder.start_log()
    logging.getLogger("ganrun.somewhere").info("hello")
    folder.close()
    logging.getLogger("ganrun.somewhere").warning("too late")
    assert "hello" in folder.log.read_text() and "too late" not in folder.log.read_text()
