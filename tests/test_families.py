"""What every trick, loss, model, experiment and YAML node must do. A new part is tested here without new test code."""

import importlib
import inspect
import os
from itertools import combinations
from pathlib import Path
from typing import Any

import properties
import pytest
import torch
from omegaconf import OmegaConf
from support import (
    CONF,
    FIRST,
    PLAIN,
    built,
    command_of,
    composed,
    family,
    host,
    host_of_loss,
    mostly_slow,
    nodes,
    play,
    sets,
    tiny,
)
from torch._dynamo.exc import Unsupported

from ganrun.config.build import build
from ganrun.config.instantiate import OWN, Maker, check_signature
from ganrun.config.unknown import flat
from ganrun.config.validate import resolve
from ganrun.core.errors import ConfigError, ConfigErrors

TRICKS, LOSSES, MODELS, EXPERIMENTS = (family(group) for group in ("tricks", "loss", "model", "experiment"))
SETTINGS = [name for name in TRICKS if sets(name)]
HANDED = {"game": {"pairs", "shape"}, "optim": {"params"}}  # what build.py adds to a node of this group
GROUPS = sorted(path.name for path in CONF.iterdir() if path.is_dir() and path.name != "__pycache__")


def hosted(kind: str, name: str) -> tuple[str, ...]:
    """Overrides of a tiny run with this part in company that the checker accepts."""
    if kind == "loss":
        return host_of_loss(name)
    if kind == "model":
        return tiny(model=name)
    found = host(name)
    assert isinstance(found, tuple), f"no host for {name}: {found}"
    return found


PARTS = [(kind, name) for kind, names in (("tricks", TRICKS), ("loss", LOSSES), ("model", MODELS)) for name in names]
every_part = pytest.mark.parametrize(("kind", "name"), PARTS, ids=["-".join(part) for part in PARTS])
# Tricks have state of their own; of losses and models a few stand for all by default.
STATEFUL = {"loss-began", "loss-wasserstein", "model-cdcgan", "model-stylegan2", "model-translation", "model-progan"}
every_state = pytest.mark.parametrize(
    ("kind", "name"),
    [
        pytest.param(*part, marks=[] if part[0] == "tricks" or "-".join(part) in STATEFUL else pytest.mark.slow)
        for part in PARTS
    ],
    ids=["-".join(part) for part in PARTS],
)


def test_the_families_are_what_the_folders_hold() -> None:
    """A glob one level too deep or too shallow would test three files of two hundred."""
    assert set(GROUPS) >= {"tricks", "loss", "model", "experiment", "dataset", "game", "updates", "optim"}
    for group in GROUPS:
        names = family(group)
        files = [file for _, _, files in os.walk(CONF / group) for file in files if file.endswith(".yaml")]
        assert names and len(names) == len(files), group
    assert len(TRICKS) == len([*(CONF / "tricks").iterdir()]) >= 50
    assert len(LOSSES) == len([*(CONF / "loss").iterdir()]) >= 5
    assert len(MODELS) >= 3 and len(EXPERIMENTS) >= 3 and SETTINGS
    assert {"-".join(part) for part in PARTS} > STATEFUL


# Every part plays, and is kept by a checkpoint


@every_state
def test_resume_is_exact(kind: str, name: str) -> None:
    properties.check_resume(hosted(kind, name))


@every_part
def test_all_state_is_in_the_checkpoint_under_readable_names(kind: str, name: str) -> None:
    properties.check_state_is_kept(hosted(kind, name))


@every_part
def test_no_update_waits_for_the_device(kind: str, name: str) -> None:
    properties.check_no_sync(hosted(kind, name))


@pytest.mark.parametrize(("kind", "name"), mostly_slow(PARTS))
def test_addresses_are_stable(kind: str, name: str) -> None:
    properties.check_addresses(hosted(kind, name))


# A second of capture a player: a few here, every part under slow.
FEW = [("tricks", "gp"), ("loss", "began")]


@pytest.mark.parametrize(("kind", "name"), FEW, ids=["-".join(part) for part in FEW])
def test_updates_compile_without_a_graph_break(kind: str, name: str) -> None:
    properties.check_compiles(hosted(kind, name))


@pytest.mark.slow
@every_part
def test_every_update_compiles_without_a_graph_break(kind: str, name: str) -> None:
    properties.check_compiles(hosted(kind, name))


@pytest.mark.parametrize("name", TRICKS)
def test_the_trick_changes_the_run(name: str) -> None:
    properties.check_changes(hosted("tricks", name), name)


@pytest.mark.parametrize("optim", family("optim"))
def test_resume_is_exact_with_every_optimiser(optim: str) -> None:
    properties.check_resume(tiny(f"optim={optim}"))
    properties.check_no_sync(tiny(f"optim={optim}"))


def test_losses_differ() -> None:
    """With the same networks, seed and tricks, no two losses ask the same."""
    values = {}
    for loss in LOSSES:
        model = host_of_loss(loss)[0].removeprefix("model=")
        rows = play(built(f"loss={loss}", "model.discriminator.norm=layer", model=model, tricks=["gp"]), 0, 2).rows
        values[loss] = [metrics[f"loss/{player}/adversarial"].item() for _, player, metrics in rows]
    for one, other in combinations(LOSSES, 2):
        assert values[one] != values[other], f"{one} and {other} do the same"


# The checks above can fail: each defect is seen by the check that is there for it


BROKEN = [
    ("Forgets", properties.check_resume),
    ("Forgets", properties.check_state_is_kept),
    ("KeepsStateOnTheHost", properties.check_resume),
    ("RebindsState", properties.check_addresses),
    ("ReplacesGradients", properties.check_addresses),
    ("ReplacesWeights", properties.check_addresses),
    ("AsksTheHost", properties.check_no_sync),
    ("Branches", properties.check_compiles),
    ("Branches", properties.check_no_sync),
    ("Masks", properties.check_no_sync),
    ("Lists", properties.check_no_sync),
    ("SeesNothing", lambda overrides: properties.check_changes(overrides, "mine", patience=3)),
    *(
        (name, lambda overrides: properties.check_changes(overrides, "mine", patience=3))
        for name in ("WeighsNothing", "ChoosesAll", "BeginsIdly", "RebuildsNothing")
    ),
]
CHECKS = [properties.check_resume, properties.check_state_is_kept, properties.check_addresses, properties.check_no_sync]


def with_trick(target: str) -> tuple[str, ...]:
    return (*tiny(), "plugins=[broken_tricks]", f"+tricks.mine._target_=broken_tricks.{target}")


@pytest.mark.parametrize(("target", "check"), BROKEN, ids=[f"{name}-{i}" for i, (name, _) in enumerate(BROKEN)])
def test_a_broken_trick_is_seen(target: str, check: Any) -> None:
    with pytest.raises((AssertionError, Unsupported)):  # the second is what torch says of a graph break
        check(with_trick(target))


def test_a_whole_trick_passes() -> None:
    for check in CHECKS:
        check(with_trick("LeCamLike"))
    properties.check_changes(with_trick("LeCamLike"), "mine")


# Experiments and company

# A lesson fails on purpose: it is of no paper, and says how it is mended.
COMMANDS = [(name, which) for name in EXPERIMENTS for which in ("Here", "Mended" if "lesson" in name else "Paper")]


def trial(experiment: str) -> list[str]:
    """The experiment with small networks, on data that are here."""
    overrides = [f"experiment={experiment}", "engine.device=cpu", "engine.workers=0", "game.grid=4"]
    cfg = composed(f"experiment={experiment}")
    if "download" in cfg.dataset:
        overrides += ["dataset=digits", *(["dataset.classes=[3]"] if cfg.dataset.classes else [])]
    if "text" in cfg.model:
        overrides += ["dataset.size=60", "dataset.held_out=0"]
    if "first" in cfg.model.generator:
        overrides.append(f"model.generator.first={FIRST}")
    if "width" in cfg.model.generator:
        overrides += [f"model.{role}.width=8" for role in ("generator", "discriminator")]
    return overrides


@pytest.mark.parametrize("name", mostly_slow(EXPERIMENTS))
def test_every_experiment_plays(name: str) -> None:
    run = build(composed(*trial(name)))
    rows = play(run, 0, 2).rows
    assert {player for _, player, _ in rows} == {"generator", "discriminator"}
    assert all(torch.isfinite(value) for _, _, metrics in rows for value in metrics.values())
    assert all(PLAIN.fullmatch(name) for _, _, metrics in rows for name in [*metrics, *run.game.log_metrics()])


def test_known_company() -> None:
    """The checker's verdicts that users meet first."""
    for pair in (("soft_labels", "one_sided_smoothing"), ("gp", "clip")):
        with pytest.raises(ConfigError):
            built(tricks=list(pair))
    for pair in (("soft_labels", "flip"), ("soft_labels", "noisy_labels"), ("gp", "ema"), ("n_critic", "head_start")):
        assert isinstance(host(*pair), tuple), pair


def test_wasserstein_alone_is_refused_with_a_remedy() -> None:
    with pytest.raises(ConfigErrors, match=r"loss .*needs something that bounds the slope.*Try: adding gp"):
        built("loss=wasserstein")


def test_every_contradiction_is_told_at_once() -> None:
    with pytest.raises(ConfigErrors) as refusal:
        built("loss=wasserstein", tricks=["soft_labels", "one_sided_smoothing", "flip"])
    lines = refusal.value.lines
    assert len(lines) >= 4 and all("Try: " in line for line in lines), lines


# YAML


FILES = sorted(path.relative_to(CONF) for path in CONF.rglob("*.yaml"))
NODES = [
    (str(path), where, node)
    for path in FILES
    for where, node in nodes(OmegaConf.to_container(OmegaConf.load(CONF / path)), str(path.with_suffix("")))
]


def test_every_file_that_names_a_part_was_read() -> None:
    naming = [path for path in FILES if "_target_" in (CONF / path).read_text()]
    assert len(naming) >= 40 and {str(path) for path in naming} == {path for path, _, _ in NODES}


@pytest.mark.parametrize(("path", "where", "node"), NODES, ids=[where for _, where, _ in NODES])
def test_every_node_binds_to_its_signature(path: str, where: str, node: dict[str, Any]) -> None:
    """No key missing, none too many; references count as given, and so do choices that stand inside."""
    part = imported(node["_target_"])
    given = {str(key): value for key, value in node.items() if key not in ("_target_", "defaults")}
    given |= {key.partition("@")[2]: None for one in node.get("defaults", ()) if one != "_self_" for key in one}
    check_signature(part, given, where, known=HANDED.get(Path(path).parts[0], set()))


@pytest.mark.parametrize("target", sorted({node["_target_"] for _, _, node in NODES}))
def test_every_part_is_admitted_and_takes_keywords_only(target: str) -> None:
    """Numbers have their home in YAML: parts of ours have no positional argument, and name what they take."""
    if not target.startswith("ganrun."):
        assert target.startswith((*(f"{root}." for root in OWN), "hydra_plugins."))
        return
    parameters = inspect.signature(imported(target)).parameters.values()
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters), target


def imported(target: str) -> type:
    module, _, name = target.rpartition(".")
    return getattr(importlib.import_module(module), name)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_says_all_that_it_sets_and_sets_what_exists(name: str) -> None:
    """Whatever way its file sets them: keys, a node such as a schedule, or a choice of another group."""
    before, after = (flat(OmegaConf.to_container(composed(f"tricks=[{chosen}]"))) for chosen in ("", name))
    changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    changed = {key for key in changed if key.split(".")[0] != "tricks"}
    assert changed, "sets what already is"
    assert not [key for key in changed if not any(within(key, mine) for mine in sets(name))]
    for mine in sets(name):
        assert any(within(key, mine) for key in after), f"{mine} is not there"
        assert any(within(key, mine) or within(mine, key) for key in before), f"{mine} is a setting of no part"
    overlay = OmegaConf.to_container(OmegaConf.load(CONF / "tricks" / f"{name}.yaml"))
    assert isinstance(overlay, dict)
    written = [key for key in flat(overlay) if key.split(".")[0] not in ("tricks", "defaults")]
    assert all(any(within(key, mine) for mine in sets(name)) for key in written)
    assert "defaults" in overlay or all(any(within(key, mine) for key in written) for mine in sets(name))


def within(key: str, node: str) -> bool:
    return key == node or key.startswith(f"{node}.")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_sets_what_exists(name: str) -> None:
    """A key that no chosen part has would be merged without complaint. A number may become a schedule, and be one."""
    overlay = OmegaConf.to_container(OmegaConf.load(CONF / "experiment" / f"{name}.yaml"))
    assert isinstance(overlay, dict)
    there = flat(OmegaConf.to_container(composed(*chosen_by(overlay.pop("defaults")))))
    written = flat(overlay) if overlay else {}
    scheduled = {mine.removesuffix("._target_") for mine in there}
    assert not [key for key in written if key not in scheduled and not any(within(key, mine) for mine in there)]


def chosen_by(defaults: list[Any]) -> list[str]:
    """What an experiment's list of defaults chooses, as overrides: groups, another experiment, single tricks."""
    groups = [one for one in defaults if isinstance(one, dict)]
    choices = [f"{key.split('/')[-1]}={value}" for one in groups for key, value in one.items()]
    names = [one for one in defaults if isinstance(one, str)]
    tricks = [name.removeprefix("/tricks/") for name in names if name.startswith("/tricks/")]
    choices += [f"experiment={name}" for name in names if "/" not in name]
    choices += [f"tricks=[{','.join(tricks)}]"] * bool(tricks)
    return [choice.replace("'", "").replace(" ", "") for choice in choices]


@pytest.mark.parametrize(("name", "which"), mostly_slow(COMMANDS))
def test_what_an_experiment_tells_to_type_is_accepted(name: str, which: str) -> None:
    """Its two networks are made; the data of the paper may not be here, so their size is told."""
    overrides = command_of(name, which)
    cfg = composed(*overrides)
    cfg.dataset.class_count, cfg.dataset.channels = 10, cfg.dataset.channels or 3  # as measured of data that are here
    if cfg.dataset.text is not None:
        cfg.dataset.text_size, cfg.dataset.word_count = 1024, 50 if cfg.dataset.text == "words" else 0
    if "first" in cfg.model.generator:
        cfg.model.generator.first = OmegaConf.create(FIRST)
        cfg.model.generator.first.resolution = cfg.dataset.resolution // 4
    assert overrides[0].startswith("experiment=")
    settings = resolve(cfg)
    for net in ("generator", "discriminator"):
        assert next(Maker()(settings["model"][net], f"model.{net}").parameters()).numel()


@pytest.mark.parametrize("path", FILES, ids=str)
def test_every_file_begins_by_saying_what_it_is(path: Path) -> None:
    lines = (CONF / path).read_text().splitlines()
    comments = [line for line in lines[:2] if line.startswith("# ") and "@package" not in line]
    assert comments, path


@pytest.mark.parametrize("name", TRICKS)
def test_a_trick_is_named_as_its_file(name: str) -> None:
    """So that `~tricks.NAME` and `tricks.NAME.key` mean what `tricks=[NAME]` chose."""
    node = OmegaConf.load(CONF / "tricks" / f"{name}.yaml")
    tricks = node.tricks if "tricks" in node else node
    assert list(tricks) == [name]


@pytest.mark.parametrize("name", TRICKS[::9])
def test_settings_for_a_trick_that_is_not_selected_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"not selected: {name}"):
        built(f"+tricks.{name}.weight=1")
