"""The hand-written pages agree with the files they describe: experiments and their minutes, links, commands."""

import re
from pathlib import Path

import pytest
from support import CONF

from ganrun.config.overlays import names

ROOT = CONF.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
MINUTES = re.compile(r"\((?P<time>[^()]*minutes?) on 2 CPU cores\)")


def minutes(name: str) -> str:
    """How long an experiment takes here, as its file says."""
    found = MINUTES.search((CONF / "experiment" / f"{name}.yaml").read_text())
    assert found, name
    return found["time"]


def test_every_experiment_is_listed_once_with_its_minutes() -> None:
    page = (ROOT / "docs" / "which-experiment.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \|", page, re.MULTILINE)
    assert sorted(name for name, _ in rows) == names("experiment")
    assert {name: time for name, time in rows if time != minutes(name)} == {}
    assert f"There are {len(rows)}." in page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_files_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_name_tricks_and_experiments_that_exist(page: Path) -> None:
    text = page.read_text()
    tricks = {name for some in re.findall(r"tricks=\[([a-z0-9_,]+)\]", text) for name in some.split(",") if name}
    experiments = {name for some in re.findall(r"experiment=([a-z0-9_,]+)", text) for name in some.split(",")}
    own = {"quieter"}  # of the README's plug-in
    assert tricks - own <= set(names("tricks"))
    assert experiments <= set(names("experiment"))
