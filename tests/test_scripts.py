"""The scripts make their environment once, repair it, and stay out of the way. Real processes on a small project."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uv

ROOT = Path(__file__).parent.parent
# Every program that the scripts may use; python3 and uv come on top where a test wants them.
TOOLS = ("sh", "awk", "cat", "cksum", "date", "dirname", "flock", "mkdir", "mv", "readlink", "rm", "sed", "sha256sum")
# A lock in small: the real one's own lines for what builds and tests a package without dependencies.
BUILDS = ("editables", "hatchling", "packaging", "pathspec", "pluggy", "setuptools", "tomlkit", "trove-classifiers")
TESTS = ("execnet", "iniconfig", "pygments", "pytest", "pytest-xdist")
PYPROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "ganrun"
version = "0"
requires-python = ">=3.11"
[project.scripts]
ganrun = "ganrun.cli.main:main"
[tool.pytest.ini_options]
testpaths = ["tests"]
"""
CLI = """
import os, sys
def main():
    print(os.getcwd(), *sys.argv[1:], sep="|")
    return 7 if "fail" in sys.argv else 0
"""
TEST = """
import ganrun, pathlib
def test_it(): pathlib.Path("here").touch()
"""


def make_project(folder: Path) -> Path:
    for name in ("scripts", "tests", "ganrun"):
        (folder / name).mkdir(parents=True)
    for name in ("ganrun", "test", "environment.sh"):
        shutil.copy(ROOT / "scripts" / name, folder / "scripts" / name)
    blocks = re.split(r"\n(?=\S)", (ROOT / "requirements.lock").read_text())
    (folder / "requirements.lock").write_text("\n".join(b for b in blocks if b.split("==")[0] in BUILDS + TESTS) + "\n")
    (folder / "pyproject.toml").write_text(PYPROJECT)
    (folder / "ganrun" / "__init__.py").touch()
    (folder / "ganrun" / "cli").mkdir()
    (folder / "ganrun" / "cli" / "__init__.py").touch()
    (folder / "ganrun" / "cli" / "main.py").write_text(CLI)
    (folder / "tests" / "test_it.py").write_text(TEST)
    return folder


def make_bin(folder: Path, *, python: str | None = None, with_uv: bool = False) -> Path:
    """A PATH of our own, so that it is known whether there is a Python, and a uv."""
    folder.mkdir(parents=True)
    for tool in TOOLS:
        if found := shutil.which(tool):
            (folder / tool).symlink_to(found)
    if python:
        (folder / "python3").write_text(f"#!/bin/sh\n{python}\n")
        (folder / "python3").chmod(0o755)
    if with_uv:
        (folder / "uv").symlink_to(uv.find_uv_bin())
    return folder


BASE_PYTHON = f'exec "{sys._base_executable}" "$@"'
# The real interpreter, which answers that it is an older one.
OLD_PYTHON = f"""exec "{sys._base_executable}" -c 'import sys
sys.version_info = (3, 9, 2, "final", 0)
exec(sys.argv[-1])' "$@" """


@pytest.fixture(scope="module")
def bins(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("bins")
    return {
        "uv": make_bin(base / "uv", python=BASE_PYTHON, with_uv=True),
        "pip": make_bin(base / "pip", python=BASE_PYTHON),
        "old": make_bin(base / "old", python=OLD_PYTHON),
        "old with uv": make_bin(base / "old with uv", python=OLD_PYTHON, with_uv=True),
        "none": make_bin(base / "none"),
    }


def environ(path: Path) -> dict[str, str]:
    gone = ("PYTHONPATH", "VIRTUAL_ENV", "GANRUN_PYTHON", "UV_PYTHON")
    return {k: v for k, v in os.environ.items() if k not in gone} | {"PATH": str(path)}


def call(script: Path, *args: str, path: Path, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    env = environ(path) | more
    return subprocess.run([script, *args], env=env, cwd=cwd, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module", params=["uv", "pip"])
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, bins: dict[str, Path]
) -> Iterator[tuple[Path, subprocess.CompletedProcess[str]]]:
    """A project after its first call, made by either installer, in a folder with spaces in its name."""
    base = tmp_path_factory.mktemp(f"made by {request.param}")
    project = make_project(base / "a project")
    yield project, call(project / "scripts" / "ganrun", "steps=2", "a b", path=bins[request.param], cwd=base)
    shutil.rmtree(base)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_project(tmp_path / "project")


def test_first_call_makes_the_environment_and_runs_in_the_callers_folder(made):
    project, first = made
    assert first.returncode == 0, first.stderr
    assert first.stdout == f"{project.parent}|steps=2|a b\n"
    assert "making the environment" in first.stderr
    assert "environment is ready after" in first.stderr


def test_ready_environment_needs_no_python_uv_or_pip_and_says_nothing(made, bins):
    project, _ = made
    again = call(project / "scripts" / "ganrun", path=bins["none"], cwd=project.parent)
    assert (again.returncode, again.stderr) == (0, "")


def test_exit_code_and_symlink_pass_through(made, bins, tmp_path):
    project, _ = made
    (tmp_path / "link").symlink_to(project / "scripts" / "ganrun")
    again = call(tmp_path / "link", "fail", path=bins["none"], cwd=tmp_path)
    assert (again.returncode, again.stdout, again.stderr) == (7, f"{tmp_path}|fail\n", "")


def test_test_script_runs_pytest_in_the_root(made, bins, tmp_path):
    project, _ = made
    ran = call(project / "scripts" / "test", "-k", "it", path=bins["none"], cwd=tmp_path)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "1 passed" in ran.stdout.splitlines()[-1]
    assert (project / "here").exists()


def test_overhead_is_below_300_ms(made, bins):
    project, _ = made

    def fastest(program: Path) -> float:
        def once() -> float:
            began = time.perf_counter()
            assert call(program, path=bins["none"], cwd=project).returncode == 0
            return time.perf_counter() - began

        return min(once() for _ in range(5))

    assert fastest(project / "scripts" / "ganrun") - fastest(project / ".venv" / "bin" / "ganrun") < 0.3


def test_changed_lock_is_brought_up_to_date(made, bins, request):
    project, _ = made
    site = next((project / ".venv").glob("lib/python*/site-packages"))
    (site / "mine.py").touch()
    with (project / "requirements.lock").open("a") as lock:
        lock.write("# changed\n")
    installer = bins[request.node.callspec.params["made"]]
    changed = call(project / "scripts" / "ganrun", path=installer, cwd=project)
    assert changed.returncode == 0, changed.stderr
    assert "up to date" in changed.stderr
    assert (site / "mine.py").exists(), "what a user installed beside it stays"
    assert call(project / "scripts" / "ganrun", path=installer, cwd=project).stderr == ""


@pytest.mark.parametrize("when", ["at once", "half way"])
def test_killed_while_it_makes_the_environment_is_repaired(project, bins, when):
    script = [project / "scripts" / "ganrun"]
    process = subprocess.Popen(script, env=environ(bins["uv"]), stderr=subprocess.DEVNULL, start_new_session=True)
    awaited = ".venv/.ganrun" if when == "at once" else ".venv/lib/python*/site-packages/*.dist-info"
    deadline = time.monotonic() + 60
    while not any(project.glob(awaited)) and time.monotonic() < deadline:
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (project / ".venv" / ".ganrun" / "ready").exists()
    again = call(*script, path=bins["uv"], cwd=project)
    assert again.returncode == 0, again.stderr
    assert "removing the unfinished" in again.stderr


def test_two_at_once_make_it_once(project, bins):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    script = project / "scripts" / "ganrun"
    both = [subprocess.Popen([script], env=environ(bins["uv"]), cwd=project, **pipes) for _ in range(2)]
    said = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert [out for out, _ in said] == [f"{project}\n"] * 2
    assert sorted("making the environment" in err for _, err in said) == [False, True]


def test_wrong_hash_is_refused_and_the_right_one_then_installed(project, bins):
    lock = project / "requirements.lock"
    good = lock.read_text()
    lock.write_text(re.sub(r"sha256:[0-9a-f]{4}", "sha256:0000", good))
    bad = call(project / "scripts" / "ganrun", path=bins["uv"], cwd=project)
    assert (bad.returncode, bad.stdout) == (4, "")
    assert "could not be made" in bad.stderr.splitlines()[-1]
    lock.write_text(good)
    assert call(project / "scripts" / "ganrun", path=bins["uv"], cwd=project).returncode == 0


def test_moved_checkout_gets_an_environment_of_its_own(project, bins, tmp_path):
    assert call(project / "scripts" / "ganrun", path=bins["uv"], cwd=tmp_path).returncode == 0
    copy = shutil.copytree(project, tmp_path / "copy", symlinks=True)
    shutil.rmtree(project)
    moved = call(copy / "scripts" / "ganrun", path=bins["uv"], cwd=tmp_path)
    assert moved.returncode == 0, moved.stderr
    assert str(project) not in (copy / ".venv" / "bin" / "ganrun").read_text()


def test_environment_of_somebody_else_is_kept(project, bins):
    (project / ".venv").mkdir()
    (project / ".venv" / "precious").touch()
    made = call(project / "scripts" / "ganrun", path=bins["uv"], cwd=project)
    assert made.returncode == 0, made.stderr
    assert [p.name for p in project.glob(".venv.kept-*/*")] == ["precious"]


@pytest.mark.parametrize("which, found", [("old", "Python 3.9.2 (python3)"), ("none", "no Python")])
def test_python_too_old_or_missing_is_refused_in_one_line(project, bins, which, found):
    before = sorted(project.rglob("*"))
    refused = call(project / "scripts" / "ganrun", path=bins[which], cwd=project)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert len(refused.stderr.splitlines()) == 1
    assert f"found {found}, expected Python 3.11 or newer. Try: " in refused.stderr
    assert sorted(project.rglob("*")) == before


def test_named_python_is_used(project, bins, tmp_path):
    named = make_bin(tmp_path / "a bin", python=BASE_PYTHON) / "python3"
    made = call(project / "scripts" / "ganrun", path=bins["old with uv"], cwd=project, GANRUN_PYTHON=str(named))
    assert made.returncode == 0, made.stderr


def test_lock_names_no_address_and_every_version_has_its_hashes():
    text = (ROOT / "requirements.lock").read_text()
    assert not re.search(r"https?:|file:|--index|--find-links|\+cpu|(?m:^-e|^/)", text)
    blocks = re.findall(r"^([a-z0-9-]+)==\S+(.*(?:\n    --hash=sha256:[0-9a-f]{64}.*)*)", text, re.MULTILINE)
    assert {"torch", "torchvision", "hydra-core", "pytest", "hatchling"} <= {name for name, _ in blocks}
    assert [name for name, rest in blocks if "--hash" not in rest] == []
