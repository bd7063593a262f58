"""`ganrun explain` says what a run would be and leaves nothing behind; `ganrun list` says what there is."""

import contextlib
import inspect
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import built, pair_in
from torch import nn

from ganrun.cli import main as cli
from ganrun.cli.catalog import CONF, KINDS, entries, read
from ganrun.cli.explain import HOOKS, described, ranges
from ganrun.cli.trace import trace
from ganrun.config.rules import RULES
from ganrun.core.errors import ConfigError
from ganrun.core.trick import Trick

SMALL = ("model=dcgan", "model.generator.width=4", "model.discriminator.width=4", "dataset=digits",
         "dataset.held_out=0", "dataset.resolution=16", "batch=4", "game.grid=4", "engine.device=cpu",
         "engine.precision=fp32", "steps=3")  # fmt: skip


def ganrun(*arguments: str) -> tuple[int, list[str], list[str]]:
    """Exit code and lines of `ganrun` in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main(arguments)
    return code, out.getvalue().splitlines(), err.getvalue().splitlines()


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def section(lines: list[str], title: str) -> list[str]:
    """The lines below a title, up to the next."""
    start = next(i for i, line in enumerate(lines) if line.startswith(title))
    end = next((i for i in range(start + 1, len(lines)) if not lines[i].startswith(" ")), len(lines))
    return [" ".join(line.split()) for line in lines[start:end]]


def test_it_tells_the_networks_layer_by_layer_with_right_numbers() -> None:
    code, lines, err = ganrun("explain", *SMALL, "tricks=[]")
    assert code == 0 and not err
    judge = section(lines, "discriminator")
    # 16x16 to 4x4 in two convolutions of 4x4 without biases: 1 -> 4 -> 8 channels, then 128 numbers to one.
    assert "blocks.0.conv Conv2d 4 stride 2 4 x 8 x 8 64" in judge
    assert "blocks.1.conv Conv2d 4 stride 2 8 x 4 x 4 512" in judge
    assert "blocks.1.norm BatchNorm2d 8 x 4 x 4 16" in judge
    assert "head.score Linear 1 128" in judge
    assert judge[0] == "discriminator (dcgan): 720 parameters"


@pytest.mark.parametrize(
    "trick", ["spectral_norm", "weight_norm", "self_attention", "minibatch_discrimination", "no_norm"]
)
def test_the_layers_have_all_parameters_between_them(trick: str) -> None:
    """Those that a trick adds, or makes another layer's weight from, too."""
    _, lines, _ = ganrun(
        "explain", *SMALL, f"tricks=[{trick}]", *["tricks.self_attention.at=8"] * (trick == "self_attention")
    )
    for role in ("generator", "discriminator"):
        head, _, *layers = section(lines, role)
        counts = [
            int(m[1].replace(",", "")) for layer in layers if (m := re.search(r"(?:x \d+|\D \d+) ([\d,]+)$", layer))
        ]
        assert f"{sum(counts):,} parameters" in head, (head, layers)


def test_it_tells_tricks_at_their_hooks_in_the_order_of_the_list() -> None:
    _, lines, _ = ganrun("explain", *SMALL, "tricks=[noisy_labels,soft_labels,flip,instance_noise,ema]")
    tricks = section(lines, "tricks")
    assert "targets D noisy_labels, soft_labels" in tricks and "encode D and G flip" in tricks
    where = [
        next(i for i, line in enumerate(tricks) if line.startswith(hook))
        for hook in ("bind", "view", "targets", "encode", "after", "sampler")
    ]
    assert where == sorted(where)
    _, lines, _ = ganrun("explain", *SMALL, "tricks=[soft_labels,noisy_labels]")
    assert "targets D soft_labels, noisy_labels" in section(lines, "tricks")


def test_it_tells_terms_updates_and_diagnostics() -> None:
    _, lines, _ = ganrun("explain", *SMALL, "model.discriminator.norm=none", "tricks=[gp,n_critic]", "loss=wasserstein")
    terms = section(lines, "what each player minimises")
    assert terms[1:3] == ["discriminator adversarial + gp", "generator adversarial"]
    assert "every step D x4, D*, G" in section(lines, "the updates of a step")
    assert section(lines, "warnings and notes") == ["warnings and notes", "none"]
    _, lines, _ = ganrun("explain", *SMALL, "tricks=[noisy_labels,n_critic]", "tricks.noisy_labels.p=0.3")
    said = " ".join(section(lines, "warnings and notes"))
    assert "warning" in said and "(rule C10)" in said and "(rule C11)" in said


def test_it_tells_a_head_start() -> None:
    _, lines, _ = ganrun("explain", *SMALL, "tricks=[head_start]", "tricks=[head_start]", "updates.head_start_steps=2")
    updates = section(lines, "the updates of a step")
    assert updates[1:3] == ["steps 1 to 2 D*, G x10", "steps 3 on D*, G"]


def test_a_note_on_a_hasty_discriminator_and_none_when_labels_are_soft() -> None:
    hard = ganrun("explain", *SMALL, "tricks=[n_critic]")[1]
    soft = ganrun("explain", *SMALL, "tricks=[n_critic,one_sided_smoothing]")[1]
    assert "(rule C28)" in " ".join(" ".join(hard).split()) and not any("C28" in line for line in soft)


def test_it_writes_nothing_and_fits_a_page(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()  # one that was there
    for overrides in ((), ("loss=wasserstein",), ("model=nothing",), ("-m", "seed=1,2"), ("--multi", "seed=1,2"),
                      ("hydra.mode=MULTIRUN", "seed=1,2"), ("hydra.run.dir=elsewhere",), ("hydra.run.dir=empty",),
                      ("hydra.output_subdir=.hydra",), ("steps=0",)):  # fmt: skip
        code, lines, err = ganrun("explain", *SMALL, *overrides)
        assert (code, bool(lines), bool(err)) in ((0, True, False), (2, False, True)), (overrides, code, lines, err)
        assert [path.name for path in tmp_path.rglob("*")] == ["empty"], overrides
        assert max(map(len, lines), default=0) <= 100 and not any(line != line.rstrip() for line in lines)


def test_refusals_are_those_of_training() -> None:
    wrong = [*SMALL, "loss=wasserstein", "tricks=[soft_labels,one_sided_smoothing]"]
    explained, trained = ganrun("explain", *wrong), ganrun(*wrong)
    assert explained == trained and explained[0] == 2 and len(explained[2]) >= 3
    explained, trained = ganrun("explain", *SMALL, "log.keep=1"), ganrun(*SMALL, "log.keep=1")
    assert explained == trained and explained[0] == 2 and len(explained[2]) == 1


def test_a_falling_learning_rate_is_told() -> None:
    """`optim.decay` is no player, so it has no rate of its own to be checked."""
    code, lines, err = ganrun("explain", *SMALL, "tricks=[lr_decay]")
    assert code == 0 and not err and any("0.0002 at first" in line for line in lines)


def test_every_hook_is_listed_once() -> None:
    """A hook that is added to `Trick` must get its place in the order."""
    own = {name for name, value in vars(Trick).items() if inspect.isfunction(value) and not name.startswith("_")}
    listed = [hook for hooks in HOOKS.values() for hook, _ in hooks]
    assert sorted(hook.__name__ for hook in listed) == sorted(own - {"diagnostics"} - set(dir(nn.Module)))
    assert all(getattr(Trick, hook.__name__) is hook for hook in listed) and len(listed) >= 13


@pytest.mark.parametrize(("steps", "seen", "total", "words"), [
    (range(1, 11), 10, 10, "every step"),
    (range(1, 11), 10, 50, "every step of the first 10"),
    ([1, 2, 3], 10, 10, "steps 1 to 3"),
    (range(4, 11), 10, 10, "steps 4 on"),
    ([1, 5, 6, 9], 20, 20, "steps 1, 5 to 6, 9"),
    ([1, 4, 7, 10], 10, 10, "steps 1, 4, 7 ... 4 of the first 10"),
])  # fmt: skip
def test_step_numbers_in_words(steps: list[int], seen: int, total: int, words: str) -> None:
    assert ranges(list(steps), seen, total) == words


def test_an_empty_step_in_words() -> None:
    assert described([]) == "no update"


# What a run records about its own combination


def test_force_marks_the_record(tmp_path: Path) -> None:
    assert ganrun(*SMALL, "tricks=[gp]", "force=[C1]", "hydra.run.dir=run")[0] == 0
    said = [line for line in (tmp_path / "run" / "run.log").read_text().splitlines() if "(rule" in line]
    assert len(said) == 1 and re.search(r" WARNING forced: tricks\.gp: needs a .*Try: .*\(rule C1\)$", said[0])
    for name in ("environment.json", "summary.json"):
        record = json.loads((tmp_path / "run" / name).read_text())
        assert record["forced"] == ["C1"] and [one["rule"] for one in record["diagnostics"]] == ["C1"]


def test_a_run_that_nothing_is_said_about_is_not_marked(tmp_path: Path) -> None:
    assert ganrun(*SMALL, "tricks=[]", "force=[C1]", "hydra.run.dir=run")[0] == 0
    record = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert record["forced"] == [] and record["diagnostics"] == []


@pytest.mark.parametrize(("force", "said"), [
    ("[C99]", "there is no rule C99"), ("[gp]", "there is no rule gp"),
    ("[C21]", "C21 cannot be forced"), ("C1", "a list of rules"),
])  # fmt: skip
def test_force_takes_rules_that_exist(force: str, said: str) -> None:
    code, out, err = ganrun(*SMALL, f"force={force}")
    assert code == 2 and not out and len(err) == 1 and said in err[0]


def test_every_rule_in_the_code_has_its_sentence() -> None:
    """And every rule that can be forced is somewhere in the code."""
    files = [path for path in (CONF.parent / "ganrun").rglob("*.py") if path.name != "rules.py"]
    used = {rule for path in files for rule in re.findall(r'"(C\d+)"', path.read_text())}
    levels = {
        pair for path in files for pair in re.findall(r'Diagnostic\(\s*"(C\d+)",\s*Level\.([EWN])', path.read_text())
    }
    assert len(used) > 15 and used <= RULES.keys(), used - RULES.keys()
    assert len(levels) > 5
    for rule, level in levels:
        assert level.replace("N", "I") in RULES[rule].levels, (rule, level)


# ganrun list


def test_it_lists_every_choice_of_every_kind() -> None:
    for kind, group in KINDS.items():
        files = sorted(path.stem for path in (CONF / group).rglob("*.yaml"))
        code, lines, _ = ganrun("list", kind)
        told = [line.split()[0] for line in lines if re.match(r"  \S", line)]
        assert code == 0 and files and told == files, kind
    assert {"tricks", "models", "losses", "datasets", "experiments"} <= set(KINDS)


@pytest.mark.parametrize(
    ("kind", "offered"), [("trikcs", "tricks"), ("modles", "models"), ("experimnet", "experiments")]
)
def test_a_misspelt_kind_gets_the_nearest(kind: str, offered: str) -> None:
    code, out, err = ganrun("list", kind)
    assert code == 2 and not out and len(err) == 1 and f"ganrun list {offered}" in err[0]


def test_a_misspelt_command_gets_the_nearest() -> None:
    assert "ganrun explain" in ganrun("explian")[2][0]


def test_it_lists_the_user_s_own(tmp_path: Path) -> None:
    (tmp_path / "conf" / "tricks").mkdir(parents=True)
    (tmp_path / "conf" / "tricks" / "mine.yaml").write_text(
        "# Mine alone. Nobody et al. 1999.\n# When: never.\nmine: {}\n"
    )
    for arguments in (("--config-dir", "conf", "tricks"), ("tricks", "--config-dir=conf")):
        lines = ganrun("list", *arguments)[1]
        assert any(
            line.split() == ["mine", "Mine", "alone.", "(yours)", "Nobody", "et", "al.", "1999"] for line in lines
        )
    assert ganrun("list", "--config-dir", "nowhere")[0] == 2


def test_a_file_s_comments_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    first = "# @package _global_\n# Does this; and that. Miller et al. 2020, section 3.\n"
    path.write_text(f"{first}# When: D wins,\n#   too soon.\nx: 1  # no\n")
    entry = read(path, "x")
    assert (entry.what, entry.source) == ("Does this; and that.", "Miller et al. 2020, section 3")
    assert entry.when == "D wins, too soon."
    path.write_text("x: 1\n")
    assert read(path, "x").what == ""


def test_lines_are_short_enough_and_there() -> None:
    for group in KINDS.values():
        for entry in entries(group):
            assert 10 < len(entry.what) < 160, entry.name


def test_listing_takes_no_torch_and_no_hydra(tmp_path: Path) -> None:
    script = (
        "import sys; from ganrun.cli.main import main; code = main(['list', 'tricks']); "
        "print([m for m in ('torch', 'hydra') if m in sys.modules]); raise SystemExit(code)"
    )
    environment = os.environ | {"PYTHONPATH": str(CONF.parent)}
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    assert ended.returncode == 0 and ended.stdout.splitlines()[-1] == "[]", ended


def test_refused_is_a_value_error() -> None:
    assert issubclass(ConfigError, ValueError)


def test_each_player_is_tried_with_as_many_images_as_its_updates_have() -> None:
    run = built("updates.generator_batch=2", "updates.share_fakes=false")
    drawn: list[int] = []
    pair_in(run).generator.register_forward_hook(lambda net, given, images: drawn.append(len(images)))
    trace(run)
    assert drawn == [run.settings["batch"], 2 * run.settings["batch"]]
