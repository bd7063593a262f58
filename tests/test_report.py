"""The page of `ganrun report`: what it ranks by, what it compares, and that nothing in a run's folder can change it."""

import json
import os
import shutil
import statistics
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hostile import fifo
from PIL import Image
from reported import METRIC, copied, embedded, summarised, trained

from ganrun.cli.main import main
from ganrun.cli.report import main as report
from ganrun.core.errors import ConfigError
from ganrun.report import charts
from ganrun.report.curves import POINTS, Curves, default_metric, table, thinned
from ganrun.report.page import estimate_text, page
from ganrun.report.pictures import sizes, small, spread
from ganrun.report.ranking import Estimate, boards, student_t
from ganrun.report.run import ReportedRun, find_runs, natural, read_run
from ganrun.report.settings import split

VOID = {"meta", "link", "img", "input", "br", "hr"}
T = {1: 12.7062, 2: 4.30265, 4: 2.77645, 9: 2.26216, 30: 2.04227}  # 97.5 % quantiles as printed tables have them
HOSTILE = "<img src=x onerror=alert(1)>\"'&</script><script>alert(2)</script>"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("report") / "original")


@pytest.fixture
def sweep(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two batch sizes, of which 32 is the better, with three seeds and two; and a run that never ended."""
    monkeypatch.chdir(tmp_path)
    for number, (batch, seed, quality) in enumerate(
        [(16, 0, 5.0), (16, 1, 7.0), (32, 0, 1.0), (32, 1, 2.0), (32, 2, 3.0)]
    ):
        copied(original, tmp_path / "sweeps" / str(number), quality=quality, batch=batch, seed=seed)
    (copied(original, tmp_path / "sweeps" / "10", batch=64, seed=0) / "summary.json").unlink()
    return Path("sweeps")


def written(*words: str) -> str:
    assert report(list(words)) == 0
    return Path("report.html").read_text()


class Structure(HTMLParser):
    """The elements of a page, each with its attributes; checks that they are closed in order."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []  # the texts of the cells of each table row
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th") and self.rows:
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] = " ".join((self.rows[-1][-1] + data).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


# The ranking


@pytest.mark.parametrize("freedom", T)
def test_the_quantile_is_that_of_printed_tables(freedom: int) -> None:
    assert student_t(freedom) == pytest.approx(T[freedom], rel=1e-5)


def test_mean_and_interval_by_hand() -> None:
    found = Estimate.of([("0", 1.0), ("1", 2.0), ("2", 6.0)])
    assert found and found.mean == 3.0 and found.seeds == 3
    assert found.half == pytest.approx(4.30265 * np.sqrt(7.0) / np.sqrt(3), rel=1e-5)  # s^2 = (4 + 1 + 9) / 2
    assert Estimate.of([("0", 4.0)]) == Estimate(4.0, None, 1)
    assert Estimate.of([]) is None


def test_repeating_a_seed_adds_no_certainty() -> None:
    once = Estimate.of([("0", 1.0), ("1", 3.0)])
    assert Estimate.of([("0", 0.5), ("0", 1.5), ("1", 3.0), ("1", 3.0)]) == once
    assert once and once.half == pytest.approx(12.7062 * statistics.stdev([1, 3]) / 2**0.5, rel=1e-5)


def test_the_interval_holds_the_mean_in_95_of_100_draws() -> None:
    random = np.random.default_rng(0)
    hits = 0
    for draw in random.normal(2.0, 3.0, (2000, 4)):
        found = Estimate.of([(str(seed), float(value)) for seed, value in enumerate(draw)])
        assert found and found.half
        hits += abs(found.mean - 2.0) <= found.half
    assert 0.935 < hits / 2000 < 0.965


def test_runs_that_differ_in_the_seed_alone_are_one_row(sweep: Path) -> None:
    quality, rest = boards([read_run(path) for path in find_runs([str(sweep)])])
    assert (quality.figure, quality.is_quality, rest.figure) == (METRIC, True, None)
    assert [(row.rank, row.label, [run.seed for run in row.runs]) for row in quality.rows] == [
        (1, "batch=32", ["0", "1", "2"]),
        (2, "batch=16", ["0", "1"]),
    ]
    assert [row.estimate.mean for row in quality.rows if row.estimate] == [2.0, 6.0]
    assert estimate_text(quality.rows[0].estimate) == "2.0 ± 2.5"  # 4.30 * 1 / sqrt(3) = 2.48
    assert [(row.rank, row.label) for row in rest.rows] == [(None, "batch=64")]


def run(name: str, **more: object) -> ReportedRun:
    settings = {"seed": 0, "objective": "score/real", "dataset._target_": "a.Digits", "batch": name}
    return ReportedRun(path=Path(name), settings=settings | more.pop("settings", {}), **more)  # type: ignore


def test_objectives_rank_where_there_is_no_quality_and_either_way() -> None:
    runs = [
        run(name, summary={"step": 4, "objective": value}) for name, value in {"a": 2.0, "b": 1.0, "c": 1.0}.items()
    ]
    for higher, expected in ((False, [(1, "b"), (1, "c"), (3, "a")]), (True, [(1, "a"), (2, "b"), (2, "c")])):
        (board,) = boards(runs, higher=higher)
        assert [(row.rank, row.runs[0].name) for row in board.rows] == expected
        assert (board.figure, board.is_quality) == ("score/real", False)


def test_only_what_compares_is_ranked_together() -> None:
    """Another data set, or another number of samples, gives another ranking."""
    entry = {"last": 1.0, "best": 1.0, "best_step": 1, "reals": 0.1}
    few, many = ({"quality": entry | {"metric": metric}} for metric in ("metrics/quality_500", "metrics/quality_1k"))
    runs = [
        run("a", summary=few),
        run("b", summary=few, settings={"dataset._target_": "a.Ring"}),
        run("c", summary=many),
    ]
    assert sorted((b.figure, b.rows[0].runs[0].name, len(b.rows)) for b in boards(runs)) == [
        ("metrics/quality_1k", "c", 1), ("metrics/quality_500", "a", 1), ("metrics/quality_500", "b", 1),
    ]  # fmt: skip


@pytest.mark.parametrize("last", [None, "x", float("nan"), True, [1], 10**400])
def test_a_quality_that_is_no_number_ranks_nothing(last: object) -> None:
    (board,) = boards([run("a", summary={"quality": {"metric": METRIC, "last": last}})])
    assert board.figure is None and board.rows[0].rank is None


# Settings


def test_settings_that_differ_and_those_in_common() -> None:
    one = {"seed": 0, "tricks": ["ema"], "tricks.ema._target_": "t.EMA", "tricks.ema.decay": 0.9, "lr": 1}
    other = {"seed": 0, "tricks": ["ema", "flip"], "tricks.ema._target_": "t.EMA", "tricks.ema.decay": 0.99, "lr": 1,
             "tricks.flip._target_": "t.Flip", "tricks.flip.p": 0.1}  # fmt: skip
    common, differing = split([one, other])
    assert common == {"seed": 0, "lr": 1, "tricks.ema._target_": "t.EMA"}
    assert differing == ["tricks", "tricks.ema.decay"]  # that flip has a p follows from its being there
    assert "tricks.flip.p" in split([one, other, other | {"tricks.flip.p": 0.5}])[1]
    assert split([{"a": 1}, {"a": 1, "b": 2}])[1] == ["b"]


def test_axes_of_numbers_choices_and_rank() -> None:
    values = {"a": (1e-4, True), "b": (1e-3, False), "c": (1e-2, True)}
    runs = [
        run(name, summary={"quality": {"metric": METRIC, "last": last}}, settings={"batch": 1, "lr": lr, "flag": flag})
        for (name, (lr, flag)), last in zip(values.items(), (3.0, 2.0, 1.0), strict=True)
    ]
    (board,) = boards(runs)
    assert [row.runs[0].name for row in board.rows] == ["c", "b", "a"]
    rate, flag, rank = charts.axes(board.rows, ["lr", "flag"], board.figure)
    assert rate.crossings == [0, charts.TALL / 2, charts.TALL]  # logarithmic: 0.01 is on top
    assert flag.crossings[0] == flag.crossings[2] != flag.crossings[1]
    assert rank.crossings == [charts.TALL, charts.TALL / 2, 0] and rank.labels[0] == (0, "3")
    assert charts.chosen_axes(board.rows, ["lr", "twin", "flag"])[:1] == ["lr"]
    assert charts.colours(board)[0] == charts.colour(0) and charts.colours(board)[2] == charts.colour(1)


# Curves


def test_thinned_curves_keep_ends_and_extremes() -> None:
    values = np.random.default_rng(0).normal(size=100_000)
    values[777], values[55_555] = 99.0, -99.0
    kept = thinned(values.tolist(), 2000)
    assert len(kept) <= 2000 and kept == sorted(set(kept)) and {0, 99_999, 777, 55_555} <= set(kept)
    assert thinned([1.0, 2.0], 4) == [0, 1] and thinned([], 4) == []


def test_all_curves_of_a_page_are_bounded(tmp_path: Path) -> None:
    names = [f"loss/{i}" for i in range(10)] + [f"weight_gradient/{i}" for i in range(400)]
    lines = [json.dumps({"step": step, "time": 1.0, **dict.fromkeys(names, step / 3)}) for step in range(300)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    curves = Curves.read(tmp_path / "metrics.jsonl")
    drawn, left_out = table([curves] * 20, names)
    counts = [len(values) for one in drawn for _, _, values in one["curves"]]
    assert sum(counts) <= POINTS and left_out > 0 and min(counts[:10]) >= 40
    (alone,), none = table([curves], names)
    assert none == 0 and all(len(values) == 300 or number > 9 for number, _, values in alone["curves"])
    assert alone["steps"][0] == list(range(300))


def test_quality_is_shown_first_else_a_loss() -> None:
    names = ["loss/discriminator/total", "loss/generator/total", "metrics/quality_500"]
    assert default_metric(names, None) == "metrics/quality_500"
    assert default_metric(names, "loss/discriminator/total") == "loss/discriminator/total"
    assert default_metric(names[:2], "metrics/quality_500") == "loss/generator/total"
    assert default_metric([], None) is None


def test_damaged_lines_are_skipped_and_told(sweep: Path) -> None:
    path = sweep / "0" / "metrics.jsonl"
    lines = path.read_text().splitlines()
    nested = "[" * 100_000
    path.write_text("\n".join([lines[0], "{", '{"step": -1}', '{"step": 2, "a": "x"}', nested, lines[0], *lines[1:]]))
    found = read_run(sweep / "0")
    assert found.curves.steps == [1, 2, 3, 4]
    assert found.problems == ["metrics.jsonl: 5 damaged lines skipped (line 2, 3, 4, 5, 6)"]
    assert "5 damaged lines skipped" in written(str(sweep))


# The page


def test_the_page_stands_alone_and_is_well_formed(sweep: Path) -> None:
    text = written(str(sweep))
    page = Structure(text)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {a["href"] for a in page.all("a")} <= {f"#{name}" for name in ids}
    assert all(str(image["src"]).startswith("data:image/") and image["alt"] for image in page.all("img"))
    assert not any("src" in script for script in page.all("script")) and page.all("link") == [
        {"rel": "icon", "href": "data:,"}
    ]
    assert (
        "url(" not in text
        and "@import" not in text
        and text.count("http") == text.count("http://www.w3.org/2000/svg") + text.count("http-equiv")
    )
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    scrolled = [div for div in page.all("div") if div.get("class") == "scroll"]
    assert scrolled and all(div["aria-label"] and div["tabindex"] == "0" for div in scrolled)
    assert len(page.all("caption")) == len(page.all("table"))
    assert page.all("label")[0]["for"] == page.all("select")[0]["id"]


def test_the_page_ranks_compares_and_tells(sweep: Path) -> None:
    summarised(sweep / "2", diagnostics=[{"rule": "C9", "level": "W", "sentence": "labels are too soft"}])
    text = written(str(sweep))
    rows = [row for row in Structure(text).rows if len(row) == 8 and row[0] in ("1", "2")]
    assert [(row[0], row[1], row[2], row[4]) for row in rows] == [
        ("1", "batch=32", "2.0 ± 2.5", "3"),
        ("2", "batch=16", "6 ± 13", "2"),
    ]
    assert "Best: batch=32, quality 2.0 ± 2.5 over 3 seeds. Its interval and that of the next overlap" in text
    assert "Real images against real ones have 0.5" in text
    assert "unfinished" in text and "ganrun resume sweeps/10" in text and text.count("ganrun resume") == 1
    assert "labels are too soft (rule C9)" in text
    data = embedded(text)
    assert [row["label"] for row in data["rows"]] == ["batch=32", "batch=16", "batch=64"]
    first = data["metrics"].index(METRIC)
    curves = {
        (run["row"], run["seed"]): values
        for run in data["runs"]
        for metric, _, values in run["curves"]
        if metric == first
    }
    assert curves[1, "1"] == [10.0, 9.0, 8.0, 7.0] and len(curves) == 5
    images = [str(image["alt"]) for image in Structure(text).all("img")]
    assert "Samples of batch=32, seed 0, at step 4" in images
    assert len(images) == 6 * 5  # of each run four in the strip and the best


def test_a_single_run_and_one_without_anything(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    copied(original, tmp_path / "one", quality=3.0)
    text = written("one")
    assert "<h1>1 run</h1>" in text and "Quality 3." in text and 'class="parallel"' not in text
    shutil.rmtree(tmp_path / "one")
    (tmp_path / "bare" / "checkpoints").mkdir(parents=True)
    (tmp_path / "bare" / "config.yaml").write_text("steps: 3\n")
    bare = written("bare")
    assert "Nothing to rank by" in bare and "before its first log" in bare and "No run has recorded" in bare


def test_the_same_folders_give_the_same_bytes(sweep: Path) -> None:
    first = written(str(sweep))
    os.utime(sweep / "3" / "config.yaml", (1, 1))
    assert written(str(sweep / "10"), str(sweep), str(sweep / "0"), "better=lower") == first
    assert sorted(path.name for path in Path().iterdir()) == ["report.html", "sweeps"]


def test_runs_are_found_once_in_natural_order(sweep: Path) -> None:
    assert [path.name for path in find_runs([str(sweep), f"{sweep}/3", "."])] == ["0", "1", "2", "3", "4", "10"]
    assert sorted(["b10", "b9", "b"], key=natural) == ["b", "b9", "b10"]


# What nobody's run has written


def test_hostile_names_and_settings_stay_texts(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bad = HOSTILE.replace("/", "_")
    for number, name in enumerate([f"{bad}0", "1\n\x1b[31m\u202e", os.fsdecode(b"2\xff")]):
        folder = copied(
            original,
            tmp_path / "runs" / name,
            quality=1.0,
            typed=[f"name={HOSTILE}{number}"],
            name=HOSTILE + str(number),
        )
        summarised(folder, diagnostics=[{"rule": HOSTILE, "level": HOSTILE, "sentence": HOSTILE}, 3], quality={
            "metric": HOSTILE, "last": 1.0, "best": 1, "best_step": 10**30, "reals": None})  # fmt: skip
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        (folder / "metrics.jsonl").write_text("".join(json.dumps({**line, HOSTILE: 1.0}) + "\n" for line in lines))
        (folder / "stderr.log").write_text(HOSTILE)
        (folder / "summary.json").rename(folder / "kept") if number == 2 else None
    text = written("runs")
    page = Structure(text)
    assert len(page.all("script")) == 2 and len(page.all("img")) == 15
    assert "alert(1)" in text and "<img src=x" not in text and "</script><script>alert" not in text
    assert not any("onerror" in attributes for _, attributes in page.elements)
    assert "\x1b" not in text and "\u202e" not in text and "\\x1b[31m\\u202e" in text
    assert HOSTILE in embedded(text)["metrics"]


BOMB = "a: &a [1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(12)
)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.yaml", BOMB),
        ("config.yaml", "[" * 100_000),
        ("config.yaml", "- 1\n"),
        ("config.yaml", "a: !!python/object:x.Y {}"),
        ("config.yaml", "a: 2026-02-31"),
        ("summary.json", "[" * 100_000),
        ("summary.json", '{"quality": [], "diagnostics": {}, "step": true}'),
        ("summary.json", "\xff"),
        ("overrides.yaml", "- {}\n"),
        ("environment.json", '{"time": 5, "before": [1, {"time": "x"}]}'),
        ("metrics.jsonl", "\0" * 5000),
        ("samples/step_00000004.png", "no picture"),
        ("stderr.log", "\x80" * 10),
    ],
    ids=lambda text: str(text)[:30].replace("\n", " "),
)
def test_one_damaged_file_costs_no_more_than_itself(sweep: Path, name: str, content: str) -> None:
    (sweep / "1" / name).write_bytes(content.encode("latin-1"))
    text = written(str(sweep))
    Structure(text)
    assert "6 runs of" in text and "batch=32" in text


@pytest.mark.parametrize(
    "name", ["config.yaml", "summary.json", "metrics.jsonl", "overrides.yaml", "samples/step_00000001.png"]
)
def test_a_pipe_is_not_waited_for(sweep: Path, name: str) -> None:
    fifo(sweep / "1" / name)
    assert "6 runs of" in written(str(sweep))


def test_pictures_are_small_and_a_bomb_is_none(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (530, 530, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    size = sizes(20)
    frame, grid = (small(tmp_path / "noise.png", 1, *one) for one in (size.frame, size.grid))
    assert frame and grid and (frame.width, grid.height) == (148, 380)
    worst = 20 * (size.frames * len(frame.address) + len(grid.address))
    assert worst < 3_500_000  # of noise in colour; the page has 5 MB
    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")
    assert small(tmp_path / "bomb.png", 1, *size.grid) is None
    assert small(tmp_path, 1, *size.grid) is None and small(tmp_path / "none.png", 1, *size.grid) is None
    assert spread(list(range(100)), 8)[0::7] == [0, 99] and len(set(spread(list(range(100)), 8))) == 8


# The command


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "report: no folder named, expected folders of runs, or of a sweep. Try: ganrun report outputs"),
        (["nowhere"], "nowhere: does not exist, expected the folder of a run"),
        (["file"], "file: is no folder"),
        (["empty"], "empty: holds no run, expected"),
        (["x" * 300], "File name too long"),
        (["sweeps", "out=a.pdf"], "out: 'a.pdf', expected the name of a file that ends in .html. Try: out=report.html"),
        (["sweeps", "out=no/a.html"], "out: there is no folder no, expected a folder that exists. Try: out=a.html"),
        (["sweeps", "out=mine.html"], "out: mine.html exists and is no report"),
        (["sweeps", "out=empty.html"], "out: empty.html exists and is no report"),
        (["sweeps", "better=up"], "better: 'up', expected lower or higher"),
        (["sweeps", f"out={'x' * 250}.html"], "expected the name of a file that ends in .html"),
    ],
)  # fmt: skip
def test_refusals(sweep: Path, words: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").write_text("")
    Path("mine.html").write_text("<p>mine")
    for folder in ("empty", "empty.html"):
        Path(folder).mkdir()
    before = sorted(Path().iterdir())
    assert main(["report", *words]) == 2
    told = capsys.readouterr().err
    assert line in told and len(told.splitlines()) == 1 and sorted(Path().iterdir()) == before


def test_an_earlier_report_is_replaced_and_a_full_disk_leaves_it(sweep: Path, monkeypatch, capsys) -> None:
    assert main(["report", "sweeps"]) == 0
    assert "6 runs in report.html (" in capsys.readouterr().out
    before = Path("report.html").read_bytes()

    def full(source: str, target: str) -> None:
        raise OSError(28, "No space left on device")

    shutil.rmtree(sweep / "4")
    monkeypatch.setattr("ganrun.record.atomic.os.replace", full)
    assert main(["report", "sweeps"]) == 4
    assert "cannot write report.html: No space left on device" in capsys.readouterr().err
    assert Path("report.html").read_bytes() == before and len(list(Path().iterdir())) == 2
    monkeypatch.undo()


def test_a_configuration_is_never_built(sweep: Path) -> None:
    """A report reads texts: what a configuration names is not imported."""
    path = sweep / "1" / "config.yaml"
    path.write_text(path.read_text() + "evil:\n  _target_: os.mkdir\n  path: made\n")
    written(str(sweep))
    assert not Path("made").exists()
    with pytest.raises(ConfigError):
        find_runs(["made"])


def test_pages_of_many_runs_stay_small(original: Path, tmp_path: Path) -> None:
    runs = [read_run(copied(original, tmp_path / str(n), quality=n / 7, batch=n // 2, seed=n % 2)) for n in range(20)]
    assert len(page(runs).encode()) < 5_000_000
