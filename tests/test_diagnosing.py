"""Runs that are watched while they train: what they show, keep and say, and that training stays what it was."""

import csv
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import TINY, Nursery, points_of, refusal, same_state

from ganrun.cli.diagnose import bars
from ganrun.config.compose import compose
from ganrun.config.validate import resolve
from ganrun.diagnosis.rules.balance import DiscriminatorWins
from ganrun.diagnosis.watch import Change
from ganrun.report.diagnosis_page import COLOURS, coloured
from ganrun.run.diagnoses import _shown
from ganrun.run.rescue import is_better

SMALL = [word for word in TINY if word != "diagnosis=none"]
LOST = (
    "optim.generator.lr=1e-9",
    "optim.discriminator.lr=1e-3",
    "log.every=25",
    "log.checkpoint=250",
    "log.keep=4",
    "log.samples=400",
)
STEPS = 525


def run(nursery: Nursery, folder: Path, name: str, *more: str, steps: int = STEPS, code: int = 0) -> Path:
    ended = nursery.run(f"steps={steps}", *SMALL, *LOST, f"hydra.run.dir={name}", *more, folder=folder)
    assert ended.code == code, ended
    (folder / f"{name}.txt").write_text(ended.out + ended.err)
    return folder / name


def found(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "findings.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def whole(nursery: Nursery, tmp_path_factory) -> Path:
    """A run whose G does not move, so that D wins."""
    return run(nursery, tmp_path_factory.mktemp("diagnosing"), "whole")


def test_the_failure_is_found_with_figures_and_remedies(whole: Path) -> None:
    (won,) = [line for line in found(whole) if line["finding"] == "discriminator_wins"]
    assert 200 < won["step"] <= STEPS and won["state"] == "found" and won["failure"]
    assert won["evidence"]["distance"] > 0.6 and len(won["remedies"]) == 3
    assert "discriminator_wins" in json.loads((whole / "summary.json").read_text())["findings"]
    out = (whole.parent / "whole.txt").read_text()
    assert f"step {won['step']}: discriminator_wins: D tells every real" in out and " Try: " in out
    assert "findings    discriminator_wins" in out and "ganrun diagnose whole" in out
    assert [list(point)[:2] for point in points_of(whole)["findings/discriminator_wins"]] == [[won["step"], 1.0]]


def test_every_remedy_is_a_command_that_is_accepted(nursery: Nursery, whole: Path) -> None:
    (won,) = [line for line in found(whole) if line["finding"] == "discriminator_wins"]
    for number, remedy in enumerate(won["remedies"]):
        ended = nursery.run("--cfg", "job", *SMALL, *LOST, *remedy.split(), folder=whole.parent)
        assert ended.code == 0, (number, ended)


def test_not_one_bit_of_training_changes(nursery: Nursery, whole: Path) -> None:
    without = run(nursery, whole.parent, "without", "diagnosis=none")
    assert same_state(whole, without) == []
    assert not (without / "findings.jsonl").exists()
    rows = [[json.loads(line) for line in (one / "metrics.jsonl").read_text().splitlines()] for one in (whole, without)]
    clock = ("time", "training/images_per_second")
    own = [{k: v for k, v in row.items() if not k.startswith("diagnosis/") and k not in clock} for row in rows[0]]
    assert own == [{k: v for k, v in row.items() if k not in clock} for row in rows[1]]


def test_a_resumed_run_finds_what_it_would_have(nursery: Nursery, whole: Path) -> None:
    parted = run(nursery, whole.parent, "parted", steps=300)
    assert nursery.run("resume", str(parted), f"steps={STEPS}", folder=whole.parent).code == 0
    assert found(parted) == found(whole)


def test_what_is_wrong_before_the_first_step_is_named_at_the_end(nursery: Nursery, whole: Path) -> None:
    """Nothing in training ends it, a resumed run knows it, and the remedy that is printed mends it."""
    words = ("dataset.range=[0,65535]", "diagnosis.before=true")
    path = run(nursery, whole.parent, "unscaled", *words, steps=60)
    assert json.loads((path / "summary.json").read_text())["findings"][0] == "data_out_of_range"
    resumed = nursery.run("resume", "unscaled", "steps=90", folder=whole.parent)
    assert "findings    data_out_of_range" in resumed.out and resumed.code == 0
    (line,) = [line for line in found(path) if line["finding"] == "data_out_of_range"]
    assert line["remedies"][0] == "dataset.range=[0,255]"
    mended = run(nursery, whole.parent, "scaled", line["remedies"][0], "diagnosis.before=true", steps=60)
    assert "data_out_of_range" not in json.loads((mended / "summary.json").read_text())["findings"]


def test_what_a_kill_cut_off_is_found_again_and_once(nursery: Nursery, whole: Path) -> None:
    """All checkpoints but the first are gone, so that what was found after it is found anew."""
    cut = whole.parent / "cut"
    shutil.copytree(whole, cut)
    (cut / "summary.json").unlink()
    first, *newer = sorted((cut / "checkpoints").glob("step_*.pt"))
    for one in newer:
        one.unlink()
    assert first.name.startswith("step_00000250.") and len(newer) >= 2
    assert found(whole)[-1]["step"] > 250, "nothing is found after the first checkpoint"
    assert nursery.run("resume", str(cut), folder=whole.parent).code == 0
    assert found(cut) == found(whole)


def test_of_small_batches_a_resumed_run_records_what_it_would_have(nursery: Nursery, whole: Path) -> None:
    """The checkpoint lies between two logs, so that it holds what the images since the last log were."""
    words = ("batch=2", "log.every=10", "log.checkpoint=25", "log.samples=1000")
    one = run(nursery, whole.parent, "small", *words, steps=40)
    parted = whole.parent / "small_cut"
    shutil.copytree(one, parted)
    (parted / "summary.json").unlink()
    for newest in (parted / "checkpoints").glob("step_00000040.*.pt"):
        newest.unlink()
    resumed = nursery.run("resume", str(parted), folder=whole.parent)
    assert resumed.code == 0 and "step 25" in resumed.out + resumed.err
    rows, again = ([json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
                   for path in (one, parted))  # fmt: skip
    ours, theirs = ({row["step"]: row["diagnosis/distance"] for row in some} for some in (rows, again))
    assert ours == theirs and list(ours) == [10, 20, 30, 40]


def test_a_collapse_ends_a_run_that_is_to_end_there(nursery: Nursery, whole: Path) -> None:
    ended = run(nursery, whole.parent, "ended", "diagnosis.on_collapse=stop", steps=2000, code=3)
    line = (whole.parent / "ended.txt").read_text().splitlines()[-1]
    assert line.startswith("ganrun: error: step 500: discriminator_wins: ") and "Try: " in line
    last = json.loads((ended / "metrics.jsonl").read_text().splitlines()[-1])
    assert "on_collapse=stop" in line and last["step"] == 500


def test_numbers_that_are_not_finite_are_a_finding(nursery: Nursery, whole: Path) -> None:
    broken = run(nursery, whole.parent, "broken", "loss=least_squares", "optim.discriminator.lr=1e9", code=3)
    last = found(broken)[-1]
    assert last["finding"] == "not_finite" and last["step"] <= 25
    assert "Try: " in (whole.parent / "broken.txt").read_text()
    shown = nursery.run("diagnose", "broken", folder=whole.parent)
    assert shown.code == 3 and "not_finite, since step" in shown.out


def test_a_run_rolls_back_after_numbers_that_are_not_finite(nursery: Nursery, whole: Path) -> None:
    """D's rate rises beyond all bounds, so that half of it is too much as well: after three attempts the run ends."""
    rising = "optim.discriminator.lr={_target_:ganrun.core.schedule.Linear,start:1e-4,end:1e10,steps:30}"
    words = ("loss=least_squares", rising, "diagnosis.on_nonfinite=rollback", "log.checkpoint=1", "log.every=1")
    back = run(nursery, whole.parent, "back", *words, steps=60, code=3)
    out = (whole.parent / "back.txt").read_text()
    assert (
        out.count("\nstep ") >= 3
        and out.count(": going on from the newest checkpoint with half the learning rates") >= 3
    )
    assert '"optim.decay=0.125"' in (back / "overrides.yaml").read_text()
    steps = [json.loads(line)["step"] for line in (back / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, len(steps) + 1))
    assert [line["finding"] for line in found(back)].count("not_finite") == 1  # earlier ones were before the checkpoint


def test_a_loss_that_leaves_every_scale_is_not_passed_over(nursery: Nursery, whole: Path) -> None:
    high = run(nursery, whole.parent, "high", "optim.generator.lr=1e4", "optim.discriminator.lr=1e4", steps=250)
    assert "gradient_explodes" in json.loads((high / "summary.json").read_text())["findings"]
    assert "findings    gradient_explodes" in (whole.parent / "high.txt").read_text()


def test_diagnose_prints_what_the_run_found(nursery: Nursery, whole: Path) -> None:
    shown = nursery.run("diagnose", "whole", folder=whole.parent)
    assert shown.code == 3 and shown.err == ""
    assert f"whole: step {STEPS} of {STEPS}" in shown.out
    assert "discriminator_wins, since step" in shown.out and "diagnosis/distance " in shown.out
    (won,) = [line for line in found(whole) if line["finding"] == "discriminator_wins"]
    words = [line.partition("try  ")[2] for line in shown.out.splitlines() if "try  " in line]
    assert won["remedies"][0] in [one.replace("'", "") for one in words]
    command = shown.out.split("again with the likeliest remedy\n  ")[1].splitlines()[0]
    assert command.startswith("ganrun steps=") and command.endswith(won["remedies"][0])


def test_the_page_holds_all_of_it_and_is_the_same_again(nursery: Nursery, whole: Path) -> None:
    pages = []
    for _ in range(2):
        shown = nursery.run("diagnose", "whole", "out=page.html", folder=whole.parent)
        assert shown.code == 3 and "page: page.html" in shown.out
        pages.append((whole.parent / "page.html").read_text())
    assert pages[0] == pages[1] and "http" not in pages[0].replace("http-equiv", "")
    for part in (
        "discriminator_wins",
        "Gradient norms of each layer",
        "Where D&#39;s score",
        "nearest training",
        "04_to_image",
    ):
        assert part in pages[0] or part.replace("&#39;", "'") in pages[0], part
    refused = nursery.run("diagnose", "whole", "out=whole/config.yaml", folder=whole.parent)
    assert "ends in .html" in refusal(refused)


def test_colours_go_from_dark_to_bright() -> None:
    row = coloured(np.array([[0.0, 0.5, 1.0, 2.0]]))
    assert row.shape == (1, 4, 3) and row.dtype == np.uint8
    assert (row[0, 0] == COLOURS[0]).all() and (row[0, 2] == COLOURS[-1]).all() and (row[0, 3] == row[0, 2]).all()
    assert (row[0, 1] == ((COLOURS[1] + COLOURS[2]) / 2).round()).all()


def test_a_chart_of_one_line_has_the_course() -> None:
    assert bars(np.array([0.0, 1.0, 2.0, 7.0])) == "▁▂▃█"
    assert bars(np.ones(3)) == "▁▁▁" and len(bars(np.arange(1000.0))) == 40


def test_diagnose_reads_a_run_that_was_not_watched(nursery: Nursery, whole: Path) -> None:
    plain = run(nursery, whole.parent, "plain", "diagnosis=none", "optim.generator.lr=0.5", steps=400)
    shown = nursery.run("diagnose", str(plain), folder=whole.parent)
    assert shown.code in (0, 3) and "loss/generator/total" in shown.out and "diagnosis/" not in shown.out


def test_a_finding_that_is_over_has_nothing_to_try_and_one_that_is_not_has() -> None:
    settings = resolve(compose(["model=dcgan"]))
    found = Change(step=300, rule=DiscriminatorWins(), pair="", found=True, evidence={"distance": 1.0})
    changes = [found, found._replace(step=600, found=False), found._replace(step=900)]
    over, lasts = _shown(changes, settings, [])
    assert (over.began, over.ended, over.finding.remedies) == (300, 600, ())
    assert (lasts.began, lasts.ended) == (900, None) and lasts.finding.remedies
    assert over.finding.evidence == lasts.finding.evidence == {"distance": 1.0}


def test_a_folder_without_a_log_is_refused(nursery: Nursery, whole: Path, tmp_path: Path) -> None:
    assert "Try: " in refusal(nursery.run("diagnose", str(tmp_path), folder=tmp_path))
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "config.yaml").write_bytes((whole / "config.yaml").read_bytes())
    assert "no log in it yet" in refusal(nursery.run("diagnose", "copy", folder=tmp_path))
    assert math.isfinite(found(whole)[0]["step"])


def test_rescue_tries_remedies_until_one_helps(nursery: Nursery, whole: Path) -> None:
    run(nursery, whole.parent, "fast", "optim.generator.lr=1e4", "optim.discriminator.lr=1e4", steps=250)
    done = nursery.run("rescue", "fast", "tries=2", folder=whole.parent)
    assert done.code == 0, done
    assert "helped: optim.generator.lr=0.0002 optim.discriminator.lr=0.0002" in done.out
    with (whole.parent / "fast-rescue" / "sweep.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["exit_code"] == "0" and row["findings"] == "" and row["optim.generator.lr"] == "0.0002"
    again = nursery.run("rescue", "fast", "tries=2", folder=whole.parent)
    assert again.code == 0 and "done" in again.out


@pytest.mark.slow
def test_rescue_puts_its_tries_where_it_is_told(nursery: Nursery, whole: Path) -> None:
    done = nursery.run("rescue", "whole", "tries=1", "out=tried", folder=whole.parent)
    assert done.code in (0, 3) and (whole.parent / "tried" / "0" / "config.yaml").is_file()


def test_a_run_without_a_failure_needs_no_rescue(nursery: Nursery, whole: Path) -> None:
    sound = run(nursery, whole.parent, "short", "diagnosis=none", "optim.generator.lr=2e-4", steps=30)
    assert "shows no failure" in refusal(nursery.run("rescue", str(sound), folder=whole.parent))


def test_a_run_with_no_better_quality_or_coverage_has_not_helped(tmp_path: Path) -> None:
    for name, quality, coverage in (
        ("failed", 66.0, 0.2),
        ("worse", 70.0, 0.25),
        ("better", 40.0, 0.1),
        ("covering", 70.0, 0.6),
        ("unmeasured", None, None),
    ):
        (tmp_path / name).mkdir()
        entry = {} if quality is None else {"quality": {"metric": "metrics/quality_500", "last": quality}}
        summary = {"step": 1, "final": {"metrics/coverage_500": coverage}, **entry}
        (tmp_path / name / "summary.json").write_text(json.dumps(summary))
    names = ("worse", "better", "covering", "unmeasured")
    found = {name: is_better(tmp_path / name, tmp_path / "failed") for name in names}
    assert found == {"worse": False, "better": True, "covering": True, "unmeasured": True}
