"""`ganrun check`, and the same in short before a run: what is found, that remedies mend it; nothing is changed."""

import contextlib
import io
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import Nursery
from support import built, composed, everything, family, host, loop, tiny

import ganrun
from ganrun.cli import main as cli
from ganrun.config.accepted import accepted, accepts
from ganrun.config.build import Run, build
from ganrun.core.errors import ConfigError
from ganrun.record.results import found_before
from ganrun.run import check
from ganrun.run.check import before, examine, looked_at, rehearse

STATEFUL = ["ema", "spectral_norm", "replay", "instance_noise", "ada"]


def small(*overrides: str, model: str = "dcgan", tricks: Sequence[str] = ()) -> tuple[str, ...]:
    """A run of a second or less whose settings are not unusual: eight images a batch."""
    return tiny("batch=8", *overrides, model=model, tricks=tricks)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def state(run: Run) -> dict[str, torch.Tensor]:
    """Every tensor of a run, its positions in the data, its random numbers and the gradients it holds."""
    found = everything(run) | {"generator": torch.get_rng_state()}
    found |= {f"seen {name}": torch.tensor(seen) for name, seen in run.data.seen.items()}
    found |= {f"gradient {name}": p.grad for name, p in run.game.named_parameters() if p.grad is not None}
    return found | {f"trains {name}": torch.tensor(p.requires_grad) for name, p in run.game.named_parameters()}


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert not [name for name in one if not torch.equal(one[name], other[name])]


def modes(run: Run) -> list[bool]:
    return [module.training for module in run.game.modules()]


@pytest.mark.parametrize(
    "overrides",
    [
        small(tricks=STATEFUL),
        small("engine.memory=0", tricks=["ema"]),
        small(model="translation"),
        small(model="cgan"),
    ],
    ids=["tricks with state", "streamed", "two pairs", "conditional"],
)
def test_a_check_changes_nothing_and_the_run_trains_to_the_same_weights(overrides: tuple[str, ...]) -> None:
    checked, plain = build(composed(*overrides)), build(composed(*overrides))
    loop(checked, 0, 1), loop(plain, 0, 1)  # so that optimisers and tricks have state
    kept, training = state(checked), modes(checked)
    assert examine(checked).sections.keys() >= {"rates"}
    assert_same(kept, state(checked))
    assert training == modes(checked)
    loop(checked, 1, 3), loop(plain, 1, 3)
    assert_same(everything(plain), everything(checked))
    checked.data.close(), plain.data.close()


def test_a_run_that_is_looked_at_before_is_the_same_run(tmp_path: Path, capsys) -> None:
    """Also one with a finding, whose remedies are tried. A resumed run does not say it again."""
    words = small("steps=3", "log.every=1", *few(tmp_path), tricks=["ema", "spectral_norm"])
    lines = {}
    for name, findings in (("true", 1), ("false", 0)):
        chosen = (*without(words, "diagnosis"), f"diagnosis.before={name}")
        run = ganrun.train(composed(*chosen), tmp_path / name)
        lines[name] = [timeless(json.loads(line)) for line in (run / "metrics.jsonl").read_text().splitlines()]
        told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("finding: few_images")]
        assert len(told) == (run / "run.log").read_text().count("finding: ") == findings
    assert len(lines["false"]) == 3 and lines["true"] == lines["false"]
    assert "finding" not in ganrun_("resume", str(tmp_path / "true"), "steps=4")[1]
    (line,) = map(json.loads, (tmp_path / "true" / "findings.jsonl").read_text().splitlines())
    assert (line["step"], line["finding"], line["failure"]) == (0, "few_images", False) and line["remedies"]
    assert "few_images: " in ganrun_("diagnose", str(tmp_path / "true"))[1]


def timeless(line: dict[str, float]) -> dict[str, float]:
    return {key: value for key, value in line.items() if "time" not in key and "per_second" not in key}


def test_a_probe_that_fails_ends_no_run(monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    run = built("diagnosis=default")
    monkeypatch.setattr(check.networks, "probe", lambda *_: 1 / 0)
    assert before(run) == []
    assert "a probe failed (ZeroDivisionError" in caplog.text and "diagnosis=none" in caplog.text


def test_nothing_is_looked_at_where_it_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "examine", lambda *_, **__: pytest.fail("it was"))
    assert before(built()) == []


# Findings, and that their remedies mend them


def few(folder: Path, count: int = 60, **more: np.ndarray) -> list[str]:
    """A data set of a few random pictures, as overrides."""
    images = np.random.default_rng(0).integers(0, 256, (count, 16, 16)).astype(np.uint8)
    np.savez(folder / "few.npz", **({"images": images} | more))
    return ["dataset=array", f"dataset.path={folder}/few.npz", "dataset.held_out=0"]


def alike(count: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Pictures whose brightness is their class, of three."""
    drawn = np.random.default_rng(0)
    labels = np.arange(count) % 3
    return (drawn.integers(0, 80, (count, 16, 16)) + 80 * labels[:, None, None]).astype(np.uint8), labels


def overrides_of(name: str, folder: Path) -> tuple[str, ...]:
    """A run that must have this finding."""
    images, labels = alike()
    cgan: dict = {"model": "cgan", "tricks": ["ema"]}
    match name:
        case "few_images":
            return small(*few(folder), tricks=["ema"])
        case "data_out_of_range":
            return small(*few(folder, images=images), "dataset.range=[0,65535]")
        case "labels_at_chance":
            shuffled = np.random.default_rng(1).permutation(labels)
            return small(*few(folder, images=images, labels=shuffled), **cgan)
        case "classes_imbalanced":
            kept = (labels < 2) | (np.arange(300) < 15)
            return small(*few(folder, images=images[kept], labels=labels[kept]), **cgan)
        case "dead_channels":
            return small(*few(folder, images=np.stack([images, 0 * images, images], 1)))
        case "labels_unread":
            return small(model="acgan", tricks=["ema"])
        case "batch_coupling":
            return small("force=[C1]", tricks=["gp", "ema"])
        case "rate_too_high":
            return small("optim.discriminator.lr=0.1")
    assert name == "rate_too_low"
    return small("optim.generator.lr=1e-11")


CASES = ("batch_coupling", "few_images", "data_out_of_range", "labels_at_chance", "classes_imbalanced", "dead_channels",
         "labels_unread", "rate_too_high", "rate_too_low")  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_finding_names_a_remedy_that_composes_and_mends_it(name: str, tmp_path: Path) -> None:
    mends(name, tmp_path, slice(1))


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_all_remedies_of_a_finding_compose_and_mend_it(name: str, tmp_path: Path) -> None:
    mends(name, tmp_path, slice(None))


def mends(name: str, folder: Path, which: slice) -> None:
    """The run that must have this finding has it, and with each of these remedies it has not."""
    overrides = overrides_of(name, folder)
    found = examine(build(composed(*overrides)), rehearsal="rate" in name).findings
    (finding,) = [finding for finding in found if finding.name == name]
    assert finding.remedies and finding.meaning.endswith(".") and finding.evidence
    for remedy in finding.remedies[which]:
        mended = build(composed(*without(overrides, remedy), remedy))
        assert name not in [one.name for one in examine(mended, rehearsal="rate" in name).findings], remedy


def without(overrides: Sequence[str], remedy: str) -> list[str]:
    """The overrides less those that the remedy replaces, as the report leaves them out."""
    key = remedy.partition("=")[0]
    return [word for word in overrides if not f"{word.partition('=')[0]}.".startswith(f"{key}.")]


def test_a_setting_that_is_far_from_usual_goes_back_to_the_recipe_of_the_run(nursery: Nursery, tmp_path: Path) -> None:
    quiet = ("dataset=digits", "engine.device=cpu", "metrics=none")
    typed = ("experiment=modern", "batch=4", "optim.generator.lr=1", *quiet)
    rate = "optim.generator.lr={_target_:ganrun.core.schedule.Cosine,start:0.004,end:0.0,steps:1}"
    shown = nursery.run("check", *typed, "steps=1", folder=tmp_path)
    assert rate in shown.out and "batch=32" in shown.out, shown
    assert nursery.run(*typed, "steps=1", "hydra.run.dir=run", folder=tmp_path).code == 0
    (line,) = [one for one in found_before(tmp_path / "run") if one["finding"] == "unusual_settings"]
    assert line["remedies"] == [rate, "batch=32"]


def test_a_healthy_run_has_no_findings_and_says_so() -> None:
    examined = examine(built("batch=8"))
    assert examined.findings == []
    assert list(examined.sections) == ["data", "networks", "rates"] and all(examined.sections.values())


def test_a_loss_that_is_not_finite_is_found() -> None:
    run = built("optim.discriminator.lr=1e15", "optim.generator.lr=1e15", "model.discriminator.norm=none")
    assert [finding.name for finding in examine(run).findings] == ["not_finite", "unusual_settings"]


def test_streamed_images_are_looked_at_for_a_while_and_the_same_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    streamed, resident = built("engine.memory=0"), built()
    monkeypatch.setattr(check, "READING", 0.0)
    images, labels = looked_at(streamed.source)
    assert len(images) == check.AT_ONCE and labels is not None
    assert torch.equal(images, looked_at(resident.source)[0][: check.AT_ONCE])
    streamed.data.close()


def test_a_rehearsal_is_bounded_in_steps_and_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    run = built("steps=100")
    assert rehearse(run, steps=3).updates == 6
    monkeypatch.setattr(check, "REHEARSING", 0.0)
    assert rehearse(run).updates == 2  # a joint one


# What the checker accepts


@pytest.fixture(scope="module")
def settings() -> dict:
    return dict(built(tricks=["ema"]).settings)


REMEDIES = {  # whether the checker accepts it
    "loss=hinge": True,
    "loss=nonsaturating": False,  # it is that already
    "loss=wasserstein": False,  # its slope is not bounded
    "loss=nothing": False,
    "tricks=[ema,diffaugment]": True,
    "tricks=[ema]": False,
    "tricks=[ema,gp]": False,  # batch norm
    "tricks=[ema,no_norm]": True,
    "tricks=[nothing]": False,
    "~tricks.ema": True,
    "~tricks.gp": False,
    "model.discriminator.norm=layer": True,
    "model.discriminator.norm=sideways": False,
    "model.discriminator.nothing=1": False,
    "model=mlp": True,
    "model=cgan": True,
    "optim.generator.lr=1e-4": True,
    "optim.generator.lr=-1": False,
    "experiment=hinge": False,  # not without Hydra
    "dataset.classes=[3,7]": True,
    "dataset.resolution=32": True,
}


@pytest.mark.parametrize("remedy", REMEDIES)
def test_a_remedy_is_one_where_the_checker_accepts_another_run(remedy: str, settings: dict) -> None:
    generators = torch.get_rng_state()
    assert accepts(settings, remedy) is REMEDIES[remedy]
    assert torch.equal(torch.get_rng_state(), generators)


@pytest.mark.slow
@pytest.mark.parametrize("remedy", [remedy for remedy, fits in REMEDIES.items() if fits])
def test_what_the_checker_accepts_composes_and_builds(remedy: str) -> None:
    build(composed(*without(small(tricks=["ema"]), remedy), remedy))


def test_remedies_keep_their_order(settings: dict) -> None:
    remedies = ["loss=hinge", "loss=wasserstein", "model=mlp"]
    assert accepted(settings, remedies) == ("loss=hinge", "model=mlp")


# The command


def ganrun_(*arguments: str) -> tuple[int, str, str]:
    """Exit code, output and errors of `ganrun` in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main(arguments)
    return code, out.getvalue(), err.getvalue()


def test_the_command_says_that_all_is_well_and_leaves_nothing(tmp_path: Path) -> None:
    code, out, err = ganrun_("check", *small())
    assert code == 0 and not err and list(tmp_path.iterdir()) == []
    assert "1,797 images" in out and "findings\n  none: nothing was found" in out
    assert max(map(len, out.splitlines())) <= 100


def test_the_command_tells_findings_with_commands_and_exits_with_3(tmp_path: Path) -> None:
    code, out, _ = ganrun_("check", *small("force=[C1]", "tricks.gp.weight=5", tricks=["gp", "ema"]))
    assert code == 3 and "  batch_coupling: gp penalises the slope of D" in out and "    coupling 0." in out
    commands = [line for line in out.splitlines() if line.startswith(("    try ", "    or "))]
    assert commands[0].endswith(" model.discriminator.norm=layer") and commands[-1].endswith(" '~tricks.gp'")
    assert "tricks.gp: needs a discriminator that scores each image on its own" in " ".join(out.split())
    assert list(tmp_path.iterdir()) == []


def test_a_finding_that_only_warns_exits_with_0(tmp_path: Path) -> None:
    code, out, _ = ganrun_("check", *small(*few(tmp_path), tricks=["ema"]))
    assert code == 0 and "few_images" in out and "tricks=[ema,diffaugment]" in out
    assert "'tricks=[ema]'" not in out  # what the remedy replaces is left out


def test_settings_are_refused_as_training_refuses_them() -> None:
    for word in ("loss=wasserstein", "objective=nothing/here"):
        code, out, err = ganrun_("check", *small(), word)
        assert code == 2 and not out and all(line.startswith("ganrun: error: ") for line in err.splitlines())


# Families


@pytest.mark.slow
@pytest.mark.parametrize("experiment", [name for name in family("experiment") if not name.startswith("lesson_")])
def test_no_experiment_has_a_finding(experiment: str) -> None:
    try:
        run = build(composed(f"experiment={experiment}", "engine.device=cpu"))
    except ConfigError as error:
        pytest.skip(str(error))  # its data are not there
    assert [finding.line for finding in examine(run).findings] == []
    run.data.close()


def test_the_families_are_there() -> None:
    assert len(family("experiment")) > 20 and len(family("tricks")) > 40 and len(family("model")) > 10


@pytest.mark.slow
@pytest.mark.parametrize("trick", family("tricks"))
def test_every_trick_is_as_before_and_remedies_are_accepted(trick: str) -> None:
    overrides = host(trick)
    if isinstance(overrides, str):
        pytest.skip(overrides)
    run = build(composed(*overrides))
    kept = state(run)
    found = examine(run).findings
    assert_same(kept, state(run))
    assert not [finding for finding in found if finding.failure]


@pytest.mark.slow
@pytest.mark.parametrize("model", family("model"))
def test_every_model_is_as_before(model: str) -> None:
    run = built(model=model)
    kept = state(run)
    examine(run)
    assert_same(kept, state(run))


@pytest.mark.slow
def test_a_check_of_the_default_run_takes_3_seconds_and_a_run_1(capsys) -> None:
    """On one core that has nothing else to do; here with as much again for a machine that is shared."""
    run = build(composed("engine.device=cpu"))
    examine(run)
    clock = time.process_time()
    before(run)
    assert time.process_time() - clock < 1
    clock = time.monotonic()
    examine(run)
    assert time.monotonic() - clock < 6


@pytest.mark.gpu
@pytest.mark.parametrize("tricks", [["ema"], STATEFUL])
def test_a_check_on_a_gpu_changes_nothing(tricks: list[str]) -> None:
    run = build(composed(*without(small(tricks=tricks), "engine.device"), "engine.device=cuda"))
    loop(run, 0, 1)
    kept = state(run) | {"generator of the device": torch.cuda.get_rng_state()}
    assert not [finding for finding in examine(run).findings if finding.failure]
    assert_same(kept, state(run) | {"generator of the device": torch.cuda.get_rng_state()})
