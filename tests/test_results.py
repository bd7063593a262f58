"""How a run came out: its quality, its windows, and its minutes without the time between interruptions."""

import json
from pathlib import Path

import pytest

from ganrun.core.errors import ConfigError
from ganrun.record.results import Quality, minutes, starts, trained_minutes, windows


def test_minutes_by_hand() -> None:
    """Started at 0, a log each minute until 180; resumed at 1000, logs until 1120; resumed at 2000, and killed."""
    times = [60.0, 120.0, 180.0, 1060.0, 1120.0]
    assert trained_minutes([0.0, 1000.0, 2000.0], times) == 3 + 2
    assert trained_minutes([0.0], times) == 1120 / 60
    assert trained_minutes([], times) == (1120 - 60) / 60
    assert trained_minutes([1000.0], times) == (180 - 60 + 120) / 60  # what tells of the first start is gone
    assert trained_minutes([5.0], []) is None
    assert trained_minutes([500.0, 700.0], [60.0, 800.0]) == 100 / 60  # a start whose run logged nothing


def test_minutes_of_a_folder(tmp_path: Path) -> None:
    assert minutes(tmp_path) is None
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "time": 1800000120.0}\n')
    before = {"time": "2027-01-15T09:00:00+01:00"}  # 1,800,000,000 seconds since 1970
    (tmp_path / "environment.json").write_text(json.dumps({"time": "2027-01-15T12:00:00+01:00", "before": [before]}))
    assert minutes(tmp_path) == 2.0
    assert starts({"time": "2027-01-15T09:00:00", "before": [{"time": 3}, 4, before]}) == [1_800_000_000.0]
    (tmp_path / "metrics.jsonl").unlink()
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(ConfigError, match=r"metrics\.jsonl: (is no regular file|cannot be read)"):
        minutes(tmp_path)


def test_windows_in_order(tmp_path: Path) -> None:
    lines = [
        '{"step": 1, "time": 2.5, "a": 1, "b": null}',
        '{"step": 1}',
        '{"step": 2, "a": true}',
        '{"step": 3, "a": 1e999}',
        '{"step": 4, "time": "x", "b": 7}',
        '{"step"',
    ]
    (tmp_path / "m").write_text("\n".join(lines))
    damaged: list[int] = []
    found = list(windows(tmp_path / "m", damaged))
    assert [(one.step, one.time, dict(one)) for one in found] == [
        (1, 2.5, {"a": 1.0, "b": None}), (3, None, {"a": None}), (4, None, {"b": 7.0}),
    ]  # fmt: skip
    assert damaged == [2, 3, 6]
    assert list(windows(tmp_path / "nothing")) == []


def test_a_line_without_an_end_is_read_in_pieces(tmp_path: Path) -> None:
    (tmp_path / "m").write_text('{"step": 1}\n' + "x" * 3_000_000 + '\n{"step": 2}\n')
    damaged: list[int] = []
    assert [one.step for one in windows(tmp_path / "m", damaged)] == [1, 2] and damaged


def test_quality_of_a_summary() -> None:
    entry = {"metric": "metrics/quality_500", "last": 12.3, "best": 10, "best_step": 2500, "reals": 0.4}
    expected = Quality(metric="metrics/quality_500", last=12.3, best=10.0, best_step=2500, reals=0.4)
    assert Quality.of({"quality": entry}) == expected
    assert (
        Quality.of({}) is None and Quality.of({"quality": 3}) is None and Quality.of({"quality": {"last": 3}}) is None
    )
    odd = Quality.of({"quality": {"metric": "m", "last": float("inf"), "best": "x", "best_step": 2.5, "reals": True}})
    assert odd == Quality(metric="m", last=None, best=None, best_step=None, reals=None)
