"""The wheel is all that a user needs: built for real, installed away from the source, and made to train."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

import ganrun

ROOT = Path(__file__).parent.parent
PACKAGES = ("ganrun", "hydra_plugins")  # the second is where Hydra finds our launcher
TINY = ["steps=2", "batch=8", "model.generator.width=8", "model.discriminator.width=8"]


def run(*command: str | Path, cwd: Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    gone = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    env = {k: v for k, v in os.environ.items() if k not in gone}
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done


def source_files(*folders: str) -> list[str]:
    """Every source file of these folders, by its path from the root."""
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    return [path.relative_to(ROOT).as_posix() for path in files if "__pycache__" not in path.parts]


def in_the_wheel(path: str) -> str:
    """Where the wheel has a source file: `conf` is inside the package there."""
    return f"ganrun/{path}" if path.startswith("conf/") else path


def contents(wheel: Path) -> dict[str, bytes]:
    """The wheel's files but for those that describe it."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if not name.split("/")[0].endswith(".dist-info")]
        return {name: archive.read(name) for name in names}


def build_in(source: Path, kind: str, folder: Path) -> Path:
    """A `wheel` or an `sdist` of this source tree."""
    run(sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", folder, cwd=source)
    (built,) = folder.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_in(ROOT, "wheel", tmp_path_factory.mktemp("wheel"))


def install(wheel: Path, folder: Path, *arguments: str, borrow: bool = False) -> Path:
    """A new environment with the wheel in it; the path of its folder of programs.

    With `borrow` it has the packages of the running environment as well.
    """
    venv.create(folder, with_pip=False, symlinks=True)
    programs = folder / "bin"
    if borrow:
        (site,) = folder.glob("lib/python*/site-packages")
        (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    uv_bin = Path(sysconfig.get_path("scripts")) / "uv"
    run(uv_bin, "pip", "install", "--python", programs / "python", *arguments, wheel, cwd=folder, timeout=1800)
    return programs


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel alone in a new environment, which borrows the dependencies of the running one."""
    return install(wheel, tmp_path_factory.mktemp("installed"), "--no-deps", borrow=True)


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    folder = tmp_path / "an empty folder"
    folder.mkdir()
    return folder


def trains_two_steps(programs: Path, empty: Path) -> None:
    run(programs / "ganrun", *TINY, cwd=empty, timeout=300)
    (metrics,) = (empty / "outputs").rglob("metrics.jsonl")
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert any(line.get("step") == 2 for line in lines), lines


def test_wheel_holds_every_source_file_and_nothing_else(wheel):
    assert set(contents(wheel)) == set(map(in_the_wheel, source_files(*PACKAGES, "conf")))


def test_wheel_holds_the_configuration_inside_the_package(wheel):
    packed = [name for name in contents(wheel) if name.startswith("ganrun/conf/")]
    assert "ganrun/conf/config.yaml" in packed
    groups = {name.split("/")[2] for name in packed if name.count("/") > 2 and name.endswith(".yaml")}
    assert {"model", "loss", "dataset", "tricks", "optim", "engine", "log", "experiment"} <= groups


def test_sdist_holds_the_configuration_and_builds_the_same_wheel(wheel, tmp_path):
    with tarfile.open(build_in(ROOT, "sdist", tmp_path)) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (source,) = (tmp_path / "unpacked").iterdir()
    for path in source_files(*PACKAGES, "conf"):
        assert (source / path).read_bytes() == (ROOT / path).read_bytes(), path
    assert contents(build_in(source, "wheel", tmp_path / "again")) == contents(wheel)


def test_editable_install_finds_the_configuration(empty, tmp_path):
    """The source tree, not a copy: a YAML file that is added there can be chosen at once."""
    source = tmp_path / "source"
    for folder in (*PACKAGES, "conf"):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    programs = install(source, tmp_path / "editable", "--no-deps", "--no-build-isolation", "--editable", borrow=True)
    (source / "conf" / "loss" / "added_later.yaml").write_text("# Added later.\nloss: 1\n")
    listed = run(programs / "ganrun", "list", "losses", cwd=empty).stdout
    assert "hinge" in listed and "added_later" in listed
    where = run(programs / "python", "-c", "from ganrun.config.groups import CONF; print(CONF)", cwd=empty).stdout
    assert Path(where.strip()) == source / "conf"


def test_wheel_states_its_licence_and_no_address(wheel):
    archive = zipfile.ZipFile(wheel)
    (metadata,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
    text = archive.read(metadata).decode()
    assert "License-Expression: MIT" in text
    assert f"\nVersion: {ganrun.__version__}\n" in text
    assert not [line for line in text.splitlines() if line.startswith("Requires-Dist") and " @ " in line]


def test_imported_package_is_the_wheels(installed, empty):
    where = run(installed / "python", "-c", "import ganrun; print(ganrun.__file__)", cwd=empty).stdout
    assert Path(where.strip()).is_relative_to(installed.parent)


@pytest.mark.parametrize("program", [["ganrun"], ["python", "-m", "ganrun"]], ids=["ganrun", "python -m"])
def test_version_and_help(installed, empty, program):
    command = [installed / program[0], *program[1:]]
    assert ganrun.__version__ in run(*command, "--version", cwd=empty).stdout
    assert "outputs" in run(*command, "--help", cwd=empty).stdout
    assert list(empty.iterdir()) == []


def test_wheel_trains_away_from_the_source(installed, empty):
    trains_two_steps(installed, empty)


@pytest.mark.slow
def test_wheel_trains_with_dependencies_of_its_own(wheel, empty, tmp_path):
    programs = install(wheel, tmp_path / "fresh")
    trains_two_steps(programs, empty)
    shutil.rmtree(tmp_path / "fresh")


def test_every_source_file_is_in_git_or_could_be():
    """No ignore rule swallows a part of the package, as `data/` would swallow ganrun/data."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    ignored = subprocess.run(
        ["git", "check-ignore", *source_files(*PACKAGES, "conf")], cwd=ROOT, capture_output=True, text=True
    )
    assert (ignored.returncode, ignored.stdout) == (1, ""), ignored.stderr
