"""docs/tricks.md and docs/compatibility.md are what scripts/docs writes today."""

import importlib.util
import re
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from types import ModuleType

import pytest
import torch

from ganrun.cli.catalog import entries
from ganrun.config.compatibility import CompatibilityChecker, mark, rule_number
from ganrun.config.compatibility_games import GameChecker
from ganrun.config.overlays import names
from ganrun.config.rules import RULES

torch.set_num_threads(1)

ROOT = Path(__file__).parent.parent
TRICKS = names("tricks")


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs", ROOT / "scripts" / "docs.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


docs = load()
PAGES = {name: (ROOT / "docs" / name).read_text() for name in ("tricks.md", "compatibility.md")}


def cells(page: str, heading: str) -> dict[str, list[str]]:
    """A table's rows by trick: what follows the name."""
    part = page.split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines() if line.startswith("|")]
    named = [row[next(i for i, cell in enumerate(row) if cell in TRICKS) :] for row in rows if set(row) & set(TRICKS)]
    return {row[0]: row[1:] for row in named}


def section(name: str) -> str:
    return PAGES["tricks.md"].split(f"\n### {name}\n")[1].split("\n### ")[0].split("\n## ")[0]


def test_every_trick_has_its_section_and_its_row() -> None:
    assert sorted(re.findall(r"^### (\w+)$", PAGES["tricks.md"], re.MULTILINE)) == TRICKS and len(TRICKS) >= 14
    matrix, losses = (cells(PAGES["compatibility.md"], f"Tricks with {other}") for other in ("tricks", "losses"))
    assert list(matrix) == TRICKS == list(losses)
    assert all(len(row) == len(TRICKS) for row in matrix.values())
    assert all(len(row) == len(names("loss")) for row in losses.values())


def test_the_matrix_is_symmetric_and_says_only_rules() -> None:
    matrix = cells(PAGES["compatibility.md"], "Tricks with tricks")
    for (i, one), (j, other) in combinations(enumerate(TRICKS), 2):
        assert matrix[one][j] == matrix[other][i]
        assert re.fullmatch(r"|[EWI]( C\d+)*", matrix[one][j]) and set(re.findall(r"C\d+", matrix[one][j])) <= set(
            RULES
        )
    assert any(cell.startswith("E") for row in matrix.values() for cell in row)


def test_every_trick_has_a_cell_for_every_other_game() -> None:
    table = cells(PAGES["compatibility.md"], "Tricks with games")
    assert list(table) == TRICKS and all(len(row) == len(names("game")) - 1 >= 6 for row in table.values())
    assert any(not cell for row in table.values() for cell in row)


@pytest.mark.parametrize(
    ("game", "trick", "cell"),
    [("pyramid", "diffaugment", "E C51"), ("pyramid", "gp", ""), ("paired", "mirror", "E C55"), ("cycle", "mirror", ""),
     ("growing", "replay", "E C52"), ("text", "replay", "E C24"), ("text", "mode_seeking", "W C24")],
)  # fmt: skip
def test_a_game_adds_its_own_diagnostics(game: str, trick: str, cell: str) -> None:
    tricks = ["diffaugment", "gp", "mirror", "mode_seeking", "replay"]
    assert (
        mark(GameChecker(game, CompatibilityChecker(tricks=tricks, losses=["hinge", "wasserstein"])).cell(trick))
        == cell
    )


@pytest.mark.parametrize("name", TRICKS)
def test_a_section_holds_what_the_trick_says_of_itself(name: str) -> None:
    entry = next(entry for entry in entries("tricks") if entry.name == name)
    text = section(name)
    for part in (entry.what, entry.source, entry.when):
        assert docs.escaped(part) in text
    assert "\n".join(docs.body(entry)) in text


@pytest.mark.parametrize("name", TRICKS)
def test_every_trick_says_when_to_try_it(name: str) -> None:
    """A comment `# When: ...` at the top of its YAML, below the line that says what it is."""
    entry = next(entry for entry in entries("tricks") if entry.name == name)
    assert len(entry.when) > 20, entry.path.name


def test_rules_are_all_there() -> None:
    listed = re.findall(r'<a id="c\d+"></a>(C\d+) ', PAGES["compatibility.md"])
    assert listed == sorted(RULES, key=rule_number) and len(listed) > 20


def test_what_is_not_here_is_said() -> None:
    assert PAGES["tricks.md"].rstrip().endswith(docs.ABSENT) and "unrolled" in docs.ABSENT


def test_the_readme_names_every_trick() -> None:
    table = (ROOT / "README.md").read_text().split("### Tricks\n")[1].split("[docs/tricks.md]")[0]
    assert sorted(re.findall(r"`(\w+)`", table)) == TRICKS


def test_links_lead_somewhere() -> None:
    for page in PAGES.values():
        for rule in re.findall(r"\(compatibility\.md#(c\d+)\)", page):
            assert f'<a id="{rule}"></a>' in PAGES["compatibility.md"]


def test_nothing_of_this_machine_or_hour_is_in_them() -> None:
    for page in PAGES.values():
        assert str(ROOT) not in page and not re.search(r"/tmp|/home|/root|/work\b|\d\d:\d\d|object at 0x", page)


def test_stale_pages_are_seen_and_written(tmp_path: Path) -> None:
    pages = docs.Docs(CompatibilityChecker(tricks=["clip", "ema", "gp"], losses=["hinge", "nonsaturating"])).pages()
    again = docs.Docs(CompatibilityChecker(tricks=["clip", "ema", "gp"], losses=["hinge", "nonsaturating"])).pages()
    assert pages == again
    assert docs.stale(pages, tmp_path) == sorted(pages, reverse=True) == ["tricks.md", "compatibility.md"]
    docs.write(pages, tmp_path / "docs")
    assert docs.stale(pages, tmp_path / "docs") == []
    (tmp_path / "docs" / "tricks.md").write_text(pages["tricks.md"] + "\n")
    assert docs.stale(pages, tmp_path / "docs") == ["tricks.md"]


@pytest.mark.slow
def test_all_of_both_pages_is_fresh() -> None:
    ended = subprocess.run([sys.executable, ROOT / "scripts" / "docs.py", "--check"], capture_output=True, text=True)
    assert ended.returncode == 0, ended


def test_markdown_is_escaped_outside_code() -> None:
    assert docs.escaped("a*b_c `d*e_f` |x|") == r"a\*b\_c `d*e_f` \|x\|"


def test_every_experiment_has_a_row_among_the_systems_or_is_one_of_the_toys() -> None:
    page = (ROOT / "docs" / "systems.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (?:[^|]+ \| ){4}$", page.replace(" |\n", " | \n"), re.MULTILINE)
    toys, lessons = ([name for name in names("experiment") if name.startswith(kind)] for kind in ("toys_", "lesson_"))
    assert toys and lessons and sorted([*rows, *toys, *lessons]) == names("experiment")
    assert all(f"`{name}`" in page for name in toys)
