"""What a refusal offers can be typed; `~` is the user's own folder; edited files are read within bounds."""

import random
import shlex
import time
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

import ganrun
from ganrun.cli.main import _command_first, _run_in
from ganrun.config.overrides import hydras_order, read_overrides
from ganrun.config.remedies import remedied
from ganrun.config.validate import SETTINGS
from ganrun.config.yaml_files import load
from ganrun.core.errors import ConfigError, for_shell, typed

ODD = "ab1 .,:=[]{}()'\"\\$`!~é\t#&|;<>*?/-+@%^_0e"


def read(text: str) -> object:
    """The value that the shell and Hydra read from KEY=VALUE as it is typed."""
    (word,) = shlex.split(text)
    return OverridesParser.create().parse_overrides([word])[0].value()


def test_any_text_is_typed_so_that_it_is_read_back() -> None:
    """What the shell and Hydra do to quotes, brackets and backslashes is undone; `\\${` is OmegaConf's own escape."""
    draw = random.Random(0)
    for _ in range(300):
        text = "".join(draw.choice(ODD) for _ in range(draw.randint(0, 8)))
        assert str(read(typed("a.b", text))).replace("\\${", "${") == text
    for text in ("true", "NULL", "nan", "12", "1e5", "it's", "photos (1)", "{x}", "a, b", "end\\"):
        assert read(typed("name", text)) == text
    for value in (None, True, 3, 0.5, [1, "a b", None], []):
        assert read(typed("name", value)) == value


@pytest.mark.parametrize(
    ("remedy", "shown"),
    [
        (".hidden=[240,240]", "'.hidden=[240,240]'"),
        (".path=my photos (1)", "'.path=\"my photos (1)\"'"),
        ("plugins=[a] if that module is yours", "'plugins=[a]' if that module is yours"),
        ("loss=hinge or 'optim.betas=[0.0,0.9]'", "loss=hinge or 'optim.betas=[0.0,0.9]'"),
        ("a=${b.c}, or leaving it out", "'a=${b.c}', or leaving it out"),
        ("leaving it out", "leaving it out"),
    ],
)
def test_every_setting_in_a_remedy_is_quoted_for_the_shell(remedy: str, shown: str) -> None:
    where = remedy.partition("=")[0] if remedy.startswith(".") else "somewhere"
    assert str(ConfigError(where, "x", "y", remedy)) == f"{where}: x, expected y. Try: {shown}"


def test_a_refusal_offers_what_the_setting_is_otherwise() -> None:
    refusal = ConfigError("steps", "0", "a whole number")
    assert remedied(refusal, ["experiment=dcgan_digits", "steps=0"]).remedy.startswith("steps=")
    assert remedied(ConfigError("log.best", "[1]", "a name"), ["log.best=[1]"]).remedy == "log.best=quality"
    assert for_shell("a=b") == "a=b" and for_shell("a=[b]") == "'a=[b]'"


def test_every_setting_that_no_part_checks_has_a_kind() -> None:
    cfg = ganrun.compose()
    top = [key for key in cfg if not hasattr(cfg[key], "keys") and key not in ("force", "plugins")]
    inner = [f"{group}.{key}" for group in ("log", "engine") for key in cfg[group]]
    assert len(inner) > 8 and [key for key in [*map(str, top), *inner] if key not in SETTINGS] == []


# The user's own folder


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("hydra.run.dir=~/out", "/h/out"),
        ("dataset.path='~/my photos'", "/h/my photos"),
        ("hydra.searchpath=[file://~/conf,~/more]", ["file:///h/conf", "/h/more"]),
        ("a={path:~/x}", {"path": "/h/x"}),
        ("name='a~/x'", "a~/x"),
        ("name=~", "/h"),
    ],
)
def test_a_tilde_is_expanded_in_every_value_that_is_typed(argument, value, monkeypatch) -> None:
    monkeypatch.setenv("HOME", "/h")
    assert read_overrides([argument])[0].value() == value
    assert read_overrides(["~tricks.ema"])[0].is_delete()


def test_a_tilde_is_expanded_in_a_sweep_and_in_files(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (sweep,) = read_overrides(["dataset.path=~/a,~/b"])
    assert sweep.input_line == f"dataset.path={tmp_path}/a,{tmp_path}/b"
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /dataset: folder\ndataset:\n  path: ~/pics\n"
    )
    assert ganrun.compose(["experiment=mine"], folders=["~/conf"]).dataset.path == f"{tmp_path}/pics"


# Commands


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["experiment=modern", "explain"], ["explain", "experiment=modern"]),
        (["steps=9", "resume", "out"], ["resume", "steps=9", "out"]),
        (["steps=9", "explain", "steps=3"], ["explain", "steps=9", "steps=3"]),  # the last one counts
        (["--config-dir", "list", "steps=1"], ["--config-dir", "list", "steps=1"]),
        (["steps=1"], ["steps=1"]),
    ],
)
def test_a_command_is_found_wherever_it_stands(arguments, expected) -> None:
    assert _command_first(arguments) == expected


def test_an_option_takes_no_override_for_its_value() -> None:
    """Also one that may stand without a value."""
    assert hydras_order(["steps=3", "--info", "-m"], ["steps=3"], ["steps=3"]) == ["steps=3", "--info", "-m"]


def test_the_run_of_resume_is_found_among_its_settings() -> None:
    assert _run_in(["steps=9", "out"]) == Path("out")
    with pytest.raises(ConfigError, match="no run named"):
        _run_in(["steps=9"])


# Files


def deep(levels: int) -> bytes:
    return b"a: " + b"[" * levels + b"]" * levels


def bomb(levels: int) -> bytes:
    lines = ["a0: &a0 [x,x,x,x,x,x,x,x,x,x]"]
    lines += [f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]" for i in range(1, levels)]
    return "\n".join(lines).encode()


BAD_FILES = {
    "a python tag": (b"a: 1\nb: !!python/object/apply:os.system [true]\n", ", line 2: cannot be read"),
    "a tab": (b"a:\n\tb: 1\n", ", line 2: cannot be read"),
    "Latin-1": ("a: 1\nb: é\n".encode("latin-1"), ", line 2: the byte 0xe9, which is not UTF-8"),
    "UTF-16": ("a: 1\n".encode("utf-16"), ", line 1: the byte 0xff"),
    "bytes": (bytes(range(256)), ": "),
    "a key twice": (b"a: 1\nb: 2\na: 3\n", ", line 3: cannot be read (found duplicate key a)"),
    "deep lists": (deep(3000), ", line 1: more than 50 levels"),
    "deep and never closed": (b"a: " + b"[" * 9000, ", line 1: more than 50 levels"),
    "a bomb of aliases": (bomb(9), "aliases that stand for over 100,000 values"),
    "a list": (b"- a\n- b\n", ", line 1: a list, expected settings"),
    "a bare word": (b"word\n", ", line 1: a str, expected settings"),
    "a large file": (b"#" * 2**21, ": more than 1,048,576 bytes"),
    "an alias of itself": (b"a: &a [*a]\n", ": "),
    "a key that is a list": (b"? [a, b]\n: 1\n", ": "),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_that_is_no_yaml_of_settings_is_refused_at_its_line(name: str, tmp_path: Path) -> None:
    content, words = BAD_FILES[name]
    path, began = tmp_path / "mine.yaml", time.process_time()
    path.write_bytes(content)
    with pytest.raises(ConfigError) as refusal:
        load(path)
    (line,) = refusal.value.lines
    assert line.startswith(str(path)) and words in line and ". Try: " in line and ", expected " in line
    assert time.process_time() - began < 5


def test_a_bad_file_is_refused_where_hydra_would_read_it(tmp_path: Path) -> None:
    (tmp_path / "loss").mkdir()
    for content, words in ((b"- a\n", "mine.yaml, line 1: a list"), (bomb(9), "mine.yaml, line ")):
        (tmp_path / "loss" / "mine.yaml").write_bytes(content)
        with pytest.raises(ConfigError, match=words):
            ganrun.compose(["loss=mine"], folders=[tmp_path])
    (tmp_path / "loss" / "mine.yaml").write_text("_target_: ganrun.losses.margins.Hinge\n")
    assert ganrun.compose(["loss=mine"], folders=[tmp_path]).loss._target_.endswith("Hinge")
