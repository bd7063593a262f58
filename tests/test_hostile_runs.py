"""Run folders that no run has written: refused in one line that names the file, or the checkpoint before it is used."""

import json
import logging
import os
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import lines_of, points_of
from hostile import STEPS, edited, fifo, finished, newest, resumed, rewritten

from ganrun.config.build import Run, build
from ganrun.config.resume import reopen
from ganrun.core.errors import ConfigError
from ganrun.record.checkpoint import Checkpoints
from ganrun.record.stored import FILES
from ganrun.run.load import load
from ganrun.run.session import FORMS
from ganrun.run.state import unfit

NAN = float("nan")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished(tmp_path_factory.mktemp("hostile") / "run", "tricks=[ema,checkpoint_swap]")


@pytest.fixture
def run(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "run"))


def moments(state: dict) -> dict:
    return state["optimizers"]["generator"]["state"][0]


# What a checkpoint may not be: changes of its state, each with the right digest.
STATES = {
    "no step": lambda s: s.pop("step"),
    "a step in words": lambda s: s.update(step="x"),
    "a step below 0": lambda s: s.update(step=-1),
    "a list as game": lambda s: s.update(game=[1]),
    "no callbacks": lambda s: s.pop("callbacks"),
    "a window of words": lambda s: s["callbacks"]["record"].update(window={"loss": "x"}),
    "a best of nothing": lambda s: s["callbacks"]["checkpoints"].update(best={"step": 1}),
    "a position of another stream": lambda s: s.update(seen={"videos": 3}),
    "a weight of another shape": lambda s: s["game"].update({next(iter(s["game"])): torch.ones(1)}),
    "weights of another kind": lambda s: s["game"].update(
        {k: v.double() for k, v in s["game"].items() if isinstance(v, torch.Tensor) and v.dtype == torch.float32}
    ),
    "NaN weights": lambda s: next(v for v in s["game"].values() if getattr(v, "dim", int)()).fill_(NAN),
    "a moment that is too small": lambda s: moments(s).update(exp_avg=torch.ones(1)),  # read past its end, it crashed
    "a sparse moment": lambda s: moments(s).update(exp_avg=moments(s)["exp_avg"].to_sparse()),
    "a moment too many": lambda s: moments(s).update(more=torch.ones(1)),
    "a moment of no parameter": lambda s: s["optimizers"]["generator"]["state"].update({99: moments(s)}),
    "other parameters": lambda s: s["optimizers"]["generator"]["param_groups"][0].update(params=[0]),
    "no optimiser": lambda s: s["optimizers"].pop("generator"),
}  # fmt: skip


@pytest.fixture(scope="module")
def built(original: Path) -> Run:
    """The run as a resume builds it, before anything is restored."""
    return build(reopen(original, [])[0])


def chosen(run: Path, built: Run) -> int:
    """The step of the checkpoint that a resume would use."""
    return Checkpoints(run / "checkpoints", keep=2).load(unfit=partial(unfit, built, forms=FORMS))["step"]


def test_the_newest_is_used_where_nothing_is_wrong_with_it(run: Path, built: Run) -> None:
    assert chosen(run, built) == STEPS[1]
    rewritten(run, lambda s: None)
    assert chosen(run, built) == STEPS[1]


@pytest.mark.parametrize("name", STATES)
def test_a_checkpoint_that_is_not_of_this_run_gives_way_to_the_one_before(run: Path, built: Run, name: str, caplog):
    rewritten(run, STATES[name])
    with caplog.at_level(logging.WARNING, logger="ganrun"):
        assert chosen(run, built) == STEPS[0]
    assert f"{newest(run)} " in caplog.text and caplog.text.count("using the one before it") == 1


def test_it_trains_on_from_the_one_before(run: Path) -> None:
    rewritten(run, STATES["a moment that is too small"])
    assert resumed(run, "steps=5") == 0
    assert [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()] == [1, 2, 3, 4, 5]


def test_a_trick_refuses_a_state_that_it_cannot_be_in(run: Path) -> None:
    states = ({"away": "nobody", "swapped": False}, {"away": "", "swapped": True})
    for state in states:
        rewritten(
            run, lambda s, state=state: s["game"].update({k: state for k in s["game"] if k.endswith("_extra_state")})
        )
        with pytest.raises(ConfigError, match=r"does not fit \(no player"):
            resumed(run, "steps=5")


def test_settings_of_an_optimiser_come_from_the_configuration(run: Path) -> None:
    """A checkpoint says what moments are, not how they are used."""
    rewritten(run, lambda s: s["optimizers"]["generator"]["param_groups"][0].update(betas="x", fused=7, lr=None))
    assert resumed(run, "steps=5") == 0


def link(path: Path, target: str) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(target)


PLACES = {
    "a link to nothing": lambda path: link(path, "nothing"),
    "a link to itself": lambda path: link(path, path.name),
    "a pipe": fifo,
    "a folder": lambda path: (path.unlink(missing_ok=True), path.mkdir()),
    "a device": lambda path: link(path, "/dev/zero"),
}


@pytest.mark.parametrize("kind", PLACES)
def test_what_is_no_file_is_neither_waited_for_nor_read(run: Path, built: Run, kind: str) -> None:
    """In the place of every file of a run by turns; in that of a checkpoint the one before it is used."""
    for name in FILES:
        copy = Path(shutil.copytree(run, run.with_name(f"run {name}")))
        PLACES[kind](copy / name)
        with pytest.raises(ConfigError) as refused:
            resumed(copy, "steps=5")
        assert name in str(refused.value) or name == "config.yaml", (name, refused.value)
        assert len(refused.value.lines) == 1
    PLACES[kind](newest(run))
    assert chosen(run, built) == STEPS[0]


TEXTS = {
    "environment.json": ["", "{", "[]", "[1, 2]", "null", "3", '"x"', "[" * 100_000, b"\xff\xfe"],
    "overrides.yaml": ["- {}\n", "- 3\n", "a: b\n", "- [\n", b"\xff\xfe", "- " + "[" * 100_000],
    "config.yaml": [
        "", "3", "- 1", "a: b", "{{{", "\t", "!!python/object:os.system x", b"\xff\xfe\x00", "model: [1]", "[" * 3000,
        "a: &a [1]\nb: *a", "model: 1\nmodel: 2\n",
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_a_file_of_another_shape_is_refused_by_name(run: Path, name: str) -> None:
    for content in TEXTS[name]:
        (run / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(ConfigError) as refused:
            resumed(run, "steps=5")
        assert len(refused.value.lines) == 1 or name == "config.yaml", refused.value


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("plugins",), 3), (("plugins",), [1]), (("tricks",), [1]), (("tricks", "ema"), "x"), (("engine",), 3),
        (("log",), None), (("dataset",), [1]), (("force",), [[]]), (("model", "generator"), 3), (("updates",), None),
        (("optim",), "x"), (("game",), {}), (("engine", "data_timeout"), "x"),
    ],
)  # fmt: skip
def test_a_setting_of_another_kind_is_refused(run: Path, where: tuple, value: object) -> None:
    edited(run, where, value)
    with pytest.raises(ConfigError):
        resumed(run, "steps=5")


def test_a_run_that_was_killed_before_its_summary_is_completed(run: Path) -> None:
    """What comes after the last checkpoint: the final metrics in the event file, and summary.json."""
    before, points = json.loads((run / "summary.json").read_text()), points_of(run)
    (run / "summary.json").unlink()
    assert resumed(run) == 0
    after = json.loads((run / "summary.json").read_text())
    del before["final"]["training/images_per_second"]
    assert after == before and points_of(run) == points


def test_a_run_that_was_killed_before_its_first_checkpoint_records_each_step_once(run: Path) -> None:
    before, points = lines_of(run), points_of(run)
    for path in (run / "checkpoints").iterdir():
        path.unlink()
    (run / "summary.json").unlink()
    assert resumed(run) == 0
    assert lines_of(run) == before and points_of(run) == points


def test_what_is_only_told_or_only_shown_is_written_anew(run: Path) -> None:
    """A summary that is not whole, and event files of other names."""
    for content in ("", "{", "[1]", '{"step": "x"}'):
        (run / "summary.json").write_text(content)
        assert resumed(run) == 0 and json.loads((run / "summary.json").read_text())["step"] == STEPS[1]
    for name in ("events.out.tfevents.1x.host", "events.out.tfevents.", f"events.out.tfevents.{'9' * 40}.host"):
        (run / name).touch()
    assert resumed(run, "steps=5") == 0


def test_files_that_are_gone_or_cut_are_named_and_a_run_may_go_on_without_them(tmp_path: Path, caplog) -> None:
    from PIL import Image

    (tmp_path / "pictures").mkdir()
    for number in range(12):
        pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{number:02d}.png")
    data = (f"dataset.path={tmp_path / 'pictures'}", "dataset.resolution=16")
    run = finished(tmp_path / "run", "dataset=folder", *data)
    (tmp_path / "pictures" / "03.png").unlink()
    with pytest.raises(ConfigError, match=r"1 of 12 files are gone .*: 03.png,.* dataset\.skip_bad=true"):
        resumed(run, "steps=5")
    whole = (tmp_path / "pictures" / "05.png").read_bytes()
    (tmp_path / "pictures" / "05.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConfigError, match=r"05.png is cut.*dataset\.skip_bad=true"):
        resumed(run, "steps=5")
    with caplog.at_level(logging.WARNING, logger="ganrun"):
        assert resumed(run, "steps=5", "dataset.skip_bad=true") == 0
    assert "2 of 12 files are gone or cannot be read: 03.png, 05.png" in caplog.text
    Image.fromarray(255 - pixels).save(tmp_path / "pictures" / "99.png")
    with pytest.raises(ConfigError, match="not those that this run was trained on"):
        resumed(run, "steps=6")


def test_nan_weights_alone_are_refused_for_training_and_for_samples(run: Path) -> None:
    rewritten(run, STATES["NaN weights"])
    min((run / "checkpoints").glob("step_*.pt")).unlink()
    for use in (lambda: resumed(run, "steps=5"), lambda: load(run)):
        with pytest.raises(ConfigError, match="not finite"):
            use()


def test_a_lock_that_is_a_link_writes_nowhere_else(run: Path) -> None:
    (run.parent / "mine").write_text("mine")
    os.unlink(run / ".lock")
    (run / ".lock").symlink_to(run.parent / "mine")
    with pytest.raises(ConfigError):
        resumed(run, "steps=5")
    assert (run.parent / "mine").read_text() == "mine"
