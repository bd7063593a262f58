"""Words of commands that follow training: operands and settings, refused in one line each."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest

from ganrun.cli.words import one_operand, read_words
from ganrun.config.types import Within
from ganrun.core.errors import ConfigError


@dataclass
class Form:
    out: str
    count: Annotated[int, Within(1)] = 64
    classes: list[int] | None = None
    truncation: float = 1.0


def read(*words: str) -> tuple[list[str], Form]:
    return read_words("sample", words, Form, "ganrun sample RUN out=FOLDER")


def test_operands_and_settings_may_stand_in_any_order() -> None:
    operands, form = read("count=3", "runs/a", "out='my folder'", "classes=[3,4]", "truncation=1", "runs/b")
    assert operands == ["runs/a", "runs/b"]
    assert form == Form(out="my folder", count=3, classes=[3, 4], truncation=1.0)


def test_a_path_with_an_equals_sign_that_exists_is_an_operand(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "lr=0.1").mkdir()
    monkeypatch.chdir(tmp_path)
    assert read("lr=0.1", "out=x")[0] == ["lr=0.1"]


def test_home_is_expanded_in_operands_and_values(monkeypatch) -> None:
    monkeypatch.setenv("HOME", "/h")
    operands, form = read("~/run", "out=~/x")
    assert operands == ["/h/run"] and form.out == "/h/x"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["count=3"], "out: not set, expected a value. Try: ganrun sample RUN out=FOLDER"),
        (["out=x", "cuont=3"], 
         "cuont: sample has no such setting, expected out, count, classes, truncation. Try: count=..."),
        (["out=x", "count=0"], "count: 0, expected a whole number from 1 up"),
        (["out=x", "count=1,2"], "count: 'count=1,2' for sample, expected KEY=VALUE. Try: count=VALUE"),
        (["out=x", "count=1", "count=2"], "count: set twice, expected once. Try: count=2"),
        (["out=x", "classes=3"], "classes: 3, expected a list, each a whole number or null. Try: 'classes=[3]'"),
        (["out=x", "a=["], "a=[: cannot be read, expected KEY=VALUE. Try: 'a=[]'"),
    ],
)  # fmt: skip
def test_refusals(words: list[str], line: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        read(*words)
    assert str(refusal.value) == line


@pytest.mark.parametrize(("operands", "found"), [([], "no run named"), (["a", "b"], "2 of them: a b")])
def test_one_operand(operands: list[str], found: str) -> None:
    with pytest.raises(ConfigError, match=f"sample: {found}, expected one run. Try: ganrun sample RUN"):
        one_operand("sample", operands, "run", "ganrun sample RUN")


def test_a_name_that_no_file_can_have_is_refused() -> None:
    with pytest.raises(ConfigError, match="sample: a name too long for a file, expected one run"):
        one_operand("sample", ["outputs/" + "x" * 300], "run", "ganrun sample RUN")
