"""Configuration nodes become objects: which classes may be named, and how wrong keys and values are refused."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import torch
from omegaconf import OmegaConf
from support import built, composed, tiny

from ganrun.config.build import build
from ganrun.config.instantiate import Maker, check_types
from ganrun.config.types import Within, fits
from ganrun.core.errors import ConfigError
from ganrun.core.schedule import Linear, Schedule
from ganrun.losses.margins import Hinge

LINEAR = {"_target_": "ganrun.core.schedule.Linear", "start": 1.0, "end": 0.0, "steps": 10}


def refused(node: Any, *plugins: str) -> str:
    with pytest.raises(ConfigError) as refusal:
        Maker(plugins)(node, "here")
    (line,) = refusal.value.lines
    return line


# Which classes a configuration may name


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "subprocess.Popen",
        "builtins.eval",
        "builtins.exec",
        "torch.load",
        "torch.hub.load",
        "torch.nn.Linear",  # harmless, and still none of ours
        "pickle.loads",
        "importlib.import_module",
        "ganrunner.Evil",
        "torch.optimal.Evil",
        "hydra.utils.instantiate",
        "hydra.utils.get_method",
        "__main__.anything",
        "",
        "os",
    ],
)
def test_a_target_outside_the_roots_is_refused(target: str) -> None:
    line = refused({"_target_": target, "command": "true"})
    assert line.startswith("here: ") and "may not be built from a configuration" in line


@pytest.mark.parametrize(
    "target",
    [
        "ganrun.run.session.sys.exit",
        "ganrun.record.folder.os.system",
        "ganrun.record.checkpoint.os.system",
        "ganrun.record.checkpoint.torch.load",
        "ganrun.run.sweep.subprocess.Popen",
        "ganrun.config.instantiate.importlib.import_module",
        "ganrun.config.instantiate.importlib",
        "ganrun.cli.main.Path",  # a class, of another package
        "ganrun.config.compose.OmegaConf",
        "ganrun.run.session.torch.nn.Linear",
        "ganrun.cli.main.main",  # a function of ours
        "ganrun.core.schedule.schedule",
        "ganrun.core.schedule",  # a module
        "ganrun.core.schedule.Nothing",
        "ganrun.nothing.Nothing",
        "torch.optim.Optimizer.__init__",
        "torch.optim.adam.adam",  # a function
        "torch.optim.lr_scheduler",
        "torch.optim.adam.torch.load",
        "torch.optim.optimizer.defaultdict",
        "ganrun..core.schedule.Linear",
        "ganrun.",
        "torch.optim.",
    ],
)
def test_a_way_out_of_the_roots_is_refused(target: str) -> None:
    """Modules import others; a dotted name may lead through them. What counts is where a class was defined."""
    line = refused({"_target_": target})
    assert line.startswith("here: ")


@pytest.mark.parametrize("target", [None, 3, ["os.system"], {"a": 1}])
def test_a_target_that_is_no_name_is_refused(target: Any) -> None:
    refused({"_target_": target})


def test_a_refused_target_leaves_no_trace(tmp_path: Path) -> None:
    """In a process of its own: neither the call nor an import happens."""
    trace = tmp_path / "trace"
    (tmp_path / "evil.py").write_text(f"open({str(trace)!r}, 'w')\nclass Part: ...\n")
    code = (
        "from ganrun.config.instantiate import Maker\nfrom ganrun.core.errors import ConfigError\n"
        f"for node in ({{'_target_': 'evil.Part'}}, {{'_target_': 'os.mkdir', 'path': {str(trace)!r}}}):\n"
        "    try:\n        Maker()(node, 'here')\n    except ConfigError:\n        print('refused')\n"
    )
    root = Path(__file__).parent.parent
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=tmp_path,
                            env={"PYTHONPATH": f"{root}:{tmp_path}"})  # fmt: skip
    assert result.stdout.split() == ["refused", "refused"], result.stderr
    assert not trace.exists()


def test_a_plugin_that_the_user_named_is_admitted() -> None:
    part = Maker(["broken_tricks"])({"_target_": "broken_tricks.LeCamLike"}, "here")
    assert type(part).__name__ == "LeCamLike"
    line = refused({"_target_": "broken_tricks.LeCamLike"})
    assert "'plugins=[broken_tricks]' if that module is yours" in line
    assert "not a class" in refused({"_target_": "broken_tricks.torch"}, "broken_tricks")
    refused({"_target_": "broken_tricks_too.Evil"}, "broken_tricks")


def test_torchs_optimisers_are_admitted() -> None:
    parameters = [torch.zeros(1, requires_grad=True)]
    found = Maker()({"_target_": "torch.optim.Adam", "lr": 1e-3, "betas": [0.5, 0.9]}, "here", params=parameters)
    assert isinstance(found, torch.optim.Adam) and tuple(found.defaults["betas"]) == (0.5, 0.9)


# Keys


def test_nodes_inside_nodes_lists_and_plain_values() -> None:
    found = Maker()({"a": [LINEAR, 3, "x"], "b": {"c": LINEAR}, "d": None}, "here")
    assert isinstance(found["a"][0], Linear) and found["a"][1:] == [3, "x"] and isinstance(found["b"]["c"], Linear)
    assert found["d"] is None and found["a"][0](5) == 0.5


def test_a_key_that_the_part_has_not_names_the_nearest() -> None:
    line = refused({**LINEAR, "delai": 3})
    assert line == (
        "here.delai: Linear has no such setting, expected start, end, steps, delay. "
        "Try: here.delay, or '~here.delai', if another choice has left it there"
    )


def test_a_missing_key_is_named() -> None:
    line = refused({key: value for key, value in LINEAR.items() if key != "end"})
    assert line == "here.end: not set, expected a value: Linear needs it"


@pytest.mark.parametrize(
    ("override", "place"),
    [
        ("+loss.weight=3", "loss.weight"),
        ("+tricks.flip.p=0.5", "tricks.flip.p"),
        ("+tricks.ema.decya=0.9", "tricks.ema.decya"),
        ("+model.generator.widht=3", "model.generator.widht"),
        ("+optim.generator.momentun=0.9", "optim.generator.momentun"),
        ("+game.nosie=3", "game.nosie"),
        ("+updates.critic=3", "updates.critic"),
    ],
)
def test_a_key_too_many_is_refused_everywhere(override: str, place: str) -> None:
    """By every part, those without any setting included: torch's own constructor would take anything by its looks."""
    with pytest.raises(ConfigError, match=rf"^{place}: \w+ has no such setting"):
        built(override, tricks=["ema", "flip"])


def test_what_the_builder_hands_over_cannot_be_set() -> None:
    with pytest.raises(ConfigError, match=r"game\.pair"):
        built("+game.pair=3")
    with pytest.raises(ConfigError, match=r"optim\.generator\.params"):
        built("+optim.generator.params=[]")


def test_a_path_to_a_nested_part_is_told() -> None:
    assert refused({"a": [{"b": {"_target_": "os.system"}}]}).startswith("here.a[0].b: ")


# Values


@pytest.mark.parametrize(
    ("override", "place"),
    [
        ("tricks.gp.weight=much", "tricks.gp.weight"),
        ("tricks.gp.weight=null", "tricks.gp.weight"),
        ("tricks.gp.weight=true", "tricks.gp.weight"),
        ("tricks.gp.weight=[1]", "tricks.gp.weight"),
        ("updates.discriminator=1.5", "updates.discriminator"),
        ("updates.discriminator=true", "updates.discriminator"),
        ("updates.share_fakes=1", "updates.share_fakes"),
        ("updates.share_fakes=maybe", "updates.share_fakes"),
        ("model.generator.width=wide", "model.generator.width"),
        ("game.prior=3", "game.prior"),
        ("game.prior=gamma", "game.prior"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused(override: str, place: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{place}: "):
        built(override, "model.discriminator.norm=layer", tricks=["gp"])


@pytest.mark.parametrize("override", ["optim.generator.lr=-1e-4", "optim.discriminator.betas=[0.5,1.5]"])
def test_a_number_that_the_optimiser_cannot_have_is_refused(override: str) -> None:
    betas = r"discriminator\.betas: \[0\.5, 1\.5\], expected what Adam takes"
    with pytest.raises(ConfigError, match=rf"^optim\.(generator\.lr: -0.0001, expected|{betas})"):
        built(override)


@pytest.mark.parametrize("lr", ["fast", "null", "true", "[1]"])
def test_a_learning_rate_that_is_no_number_is_refused(lr: str) -> None:
    with pytest.raises(ConfigError, match=r"^optim\.generator"):
        built(f"optim.generator.lr={lr}")


@pytest.mark.parametrize("node", ["{_target_: ganrun.losses.margins.Hinge}", "{value: 1}"])
def test_a_rate_that_is_another_part_is_refused(node: str) -> None:
    with pytest.raises(ConfigError, match=r"^optim\.generator"):
        built(f"optim.generator.lr={node}")


def test_a_schedule_that_falls_below_nothing_is_refused() -> None:
    node = "{_target_: ganrun.core.schedule.Linear, start: 1.0e-3, end: -1.0, steps: 3}"
    with pytest.raises(ConfigError, match=r"^optim\.generator"):
        built(f"optim.generator.lr={node}")


@pytest.mark.parametrize(
    ("place", "target"),
    [
        ("loss", "ganrun.tricks.labels.Flip"),
        ("game", "ganrun.losses.margins.Hinge"),
        ("model.generator", "ganrun.core.schedule.Linear"),
        ("dataset", "ganrun.losses.margins.Hinge"),
        ("tricks.flip", "ganrun.losses.margins.Hinge"),
        ("optim.generator", "torch.optim.lr_scheduler.StepLR"),
    ],
)
def test_a_part_of_the_wrong_kind_is_refused(place: str, target: str) -> None:
    """A class of ours in a place that it is not made for: told before it is built."""
    cfg = composed(*tiny(tricks=["flip"]))
    OmegaConf.update(cfg, f"{place}._target_", target)
    with pytest.raises(ConfigError, match=rf"^{place}: {target}, expected a \w+"):
        build(cfg)


def test_a_part_that_refuses_is_told_with_its_place() -> None:
    assert refused({**LINEAR, "steps": 0}) == "here.steps: 0, expected a whole number at least 1"


@pytest.mark.parametrize(
    ("betas", "words"),
    [
        ("[0,0.9]", ""),  # whole numbers are numbers
        ("[0.5]", "a list of 2, each a number"),
        ("[0.5,0.9,0.99]", "a list of 2, each a number"),
        ("[]", "a list of 2"),
        ("null", "a list of 2"),
        ("[.inf,0.9]", "a list of 2"),
        ("[2,0.9]", "what Adam takes"),
    ],
)
def test_the_betas_are_two_numbers_that_adam_takes(betas: str, words: str) -> None:
    """Counts and kinds by the annotation, ranges by the optimiser itself: the setting is named, not the part."""
    if not words:
        assert built(f"optim.generator.betas={betas}").engine.players["generator"].optimizer.defaults["betas"] == (
            0,
            0.9,
        )
        return
    with pytest.raises(ConfigError, match=rf"^optim\.generator\.betas: .*, expected {words}"):
        built(f"optim.generator.betas={betas}")


def test_what_an_abstract_class_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^loss: ganrun\.core\.loss\.Loss is abstract, expected "):
        built("loss._target_=ganrun.core.loss.Loss")


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        (1, float, True),
        (1.0, int, False),
        (True, int, False),
        (True, float, False),
        (1, bool, False),
        (True, bool, True),
        ("a", Literal["a", "b"], True),
        ("c", Literal["a", "b"], False),
        (None, int | None, True),
        (None, int, False),
        (1, float | Schedule, True),
        (Linear(start=1.0, end=0.0, steps=1), float | Schedule, True),
        (Hinge(), float | Schedule, False),
        ([1, 2.0], list[float], True),
        ([1, "2"], list[float], False),
        ((1, 2), Sequence[int], True),
        ("12", Sequence[int], False),
        (3, list[int], False),
        ({"a": 1}, Mapping[str, Any], True),
        (3, Mapping[str, Any], False),
        ("x", Any, True),
        (3, str, False),
        (True, str | None, False),
        (float("nan"), float, False),
        (float("inf"), float | None, False),
        (2**63, int, False),
        (10**400, float, False),
        ((1.0, 2.0), tuple[float, float], True),
        ((1.0,), tuple[float, float], False),
        ((1.0, 2.0, 3.0), tuple[float, ...], True),
        (5, Annotated[int, Within(1, 5)], True),
        (6, Annotated[int, Within(1, 5)], False),
        (True, Annotated[int, Within(0, 5)], False),
        (0.5, Annotated[int, Within(0, 5)], False),
        (0.5, Annotated[float, Within(0)] | Mapping, True),
    ],
)
def test_what_fits_an_annotation(value: Any, hint: Any, expected: bool) -> None:
    assert fits(value, hint) is expected


def test_types_are_checked_by_name() -> None:
    with pytest.raises(ConfigError, match=r"^here\.steps: 'ten', expected a whole number$"):
        check_types(Linear, {"start": 1.0, "end": 0.0, "steps": "ten"}, "here")
