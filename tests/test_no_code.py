"""No file makes code run: payloads in YAML, tried against every way in; each would leave a mark if it ran."""

import itertools
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from commands import TINY, Nursery, refusal
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from ganrun.config.build import build
from ganrun.config.compose import compose, hydra_run
from ganrun.config.gate import GatedLoader, check_hydra, instantiable
from ganrun.core.errors import ConfigError

EVIL = "open('MARK', 'w').write('ran')\nclass Part:\n    def __init__(self, **kw): pass\n"
CALL = "{_target_: sympy.sympify, a: \"open('MARK', 'w')\"}"
OPEN = "{_target_: builtins.open, file: MARK, mode: w}"
# Name -> the body of an experiment. MARK is a path that only its code would make.
PAYLOADS = {
    "sympy": f"hydra: {{callbacks: {{x: {CALL}}}}}",
    "builtins.open": f"hydra: {{callbacks: {{x: {OPEN}}}}}",
    "eval": "hydra: {callbacks: {x: {_target_: builtins.eval, _args_: [\"open('MARK', 'w')\"]}}}",
    "a method of ours": "hydra: {callbacks: {x: {_target_: ganrun.run.sweep.Processes._start, _args_: [antigravity], "
    "stdin: -3, errors: -3}}}",
    "a class of ours": "hydra: {callbacks: {x: {_target_: ganrun.record.events.EventFile, folder: ., purge_step: 1}}}",
    "Hydra's call": f"hydra: {{callbacks: {{x: {{_target_: hydra.utils.call, config: {OPEN}}}}}}}",
    "Hydra's locate": "hydra: {callbacks: {x: {_target_: hydra._internal.utils._locate, path: evil.Part}}}",
    "an argument of ours": f"hydra: {{callbacks: {{made: {{x: {OPEN}}}}}}}",
    "a reference": f"hydra: {{callbacks: {{x: '${{hidden}}'}}}}\nhidden: {OPEN}",
    "a reference to a name": "hydra: {callbacks: {x: {_target_: '${name}', file: MARK, mode: w}}}\nname: builtins.open",
    "a reference to all": f"hydra: {{callbacks: '${{hidden}}'}}\nhidden: {{x: {OPEN}}}",
    "made by a resolver": "hydra: {callbacks: {x: '${oc.create:${text}}'}}\n"
    "text: '{_target_: builtins.open, file: MARK, mode: w}'",
    "the launcher": "hydra: {launcher: {_target_: builtins.open, file: MARK, mode: w}}",
    "below the launcher": f"hydra: {{launcher: {{x: {OPEN}}}}}",
    "the sweeper": "hydra: {sweeper: {_target_: builtins.open, file: MARK, mode: w}}",
    "the sweeper's parameters": f"hydra: {{sweeper: {{params: {{x: {OPEN}}}}}}}",
    "a factory of logging": "hydra: {job_logging: {version: 1, handlers: {x: {'()': builtins.open, file: MARK, "
    "mode: w}}, root: {handlers: [x]}}}",
    "a class of logging": "hydra: {hydra_logging: {version: 1, handlers: {x: {class: evil.Part}}, root: "
    "{handlers: [x]}}}",
    "an import of logging": "hydra: {job_logging: {version: 1, handlers: {x: {class: logging.StreamHandler, "
    "stream: 'ext://evil.Part'}}, root: {handlers: [x]}}}",
    "a log file": "hydra: {job_logging: {version: 1, handlers: {x: {class: logging.FileHandler, filename: MARK}}, "
    "root: {handlers: [x]}}}",
    "a compiler": "hydra: {job: {env_set: {CXX: ./evil.sh}}}",
    "a plug-in": "plugins: [evil]",
    "a plug-in of Python's": "plugins: [subprocess]\ntricks: {ema: {_target_: subprocess.Popen, args: [touch, MARK]}}",
    "a class by its place": "tricks: {ema: {_target_: evil.Part}}",
    "a class of ours in a setting": "loss: {_target_: ganrun.record.events.EventFile, folder: ., purge_step: 1}",
    "a class of ours below a setting": "tricks: {ema: {decay: {_target_: ganrun.record.events.EventFile, folder: ., "
    "purge_step: 1}}}",
    "a rate": "optim: {decay: {_target_: ganrun.record.events.EventFile, folder: ., purge_step: 1}}",
    "a beta": "optim: {generator: {betas: [0.5, {_target_: ganrun.record.events.EventFile, folder: ., "
    "purge_step: 1}]}}",
    "YAML's own": "name: !!python/object/apply:os.system ['touch MARK']",
}
WAYS = {
    "train": (),
    "--cfg job": ("--cfg", "job"),
    "explain": ("explain",),
    "check": ("check",),
    "speed": ("speed",),
    "-m": ("-m", "seed=1,2"),
    "--info": ("--info", "config"),
}
SHOWS = ("--cfg job", "--info")  # print what a run would be refused for


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "evil.py").write_text(EVIL.replace("MARK", str(tmp_path / "MARK")))
    (tmp_path / "evil.sh").write_text(f"#!/bin/sh\ntouch {tmp_path}/MARK\n")
    (tmp_path / "evil.sh").chmod(0o755)
    return tmp_path


def put(place: Path, payload: str) -> None:
    text = f"# @package _global_\n{PAYLOADS[payload].replace('MARK', str(place / 'MARK'))}\n"
    (place / "conf" / "experiment" / "evil.yaml").write_text(text)


def marks(place: Path) -> list[str]:
    """What is there now and was not before."""
    return sorted(path.name for path in place.iterdir() if path.name not in ("conf", "evil.py", "evil.sh"))


def tried(nursery: Nursery, place: Path, way: str) -> None:
    """The payload is refused in lines, or only printed; nothing ran."""
    words = (*WAYS[way], *TINY, "steps=1", "--config-dir=conf", "experiment=evil")
    ended = nursery.run(*words, folder=place, PYTHONPATH=str(place))
    assert marks(place) == [], (way, ended)
    assert ended.code == 2 or (way in SHOWS and ended.code == 0), (way, ended)
    assert "Traceback" not in ended.err, (way, ended)
    if ended.code == 2:
        assert all(line.startswith("ganrun: error: ") for line in ended.err.splitlines()), (way, ended)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_payload_in_an_experiment_is_refused(place: Path, payload: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, where it would run as well."""
    put(place, payload)
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(str(place))
    with pytest.raises(ConfigError):
        build(compose([*TINY, "experiment=evil"], [place / "conf"])).data.close()
    assert marks(place) == []


SAMPLE = [*PAYLOADS][:: len(PAYLOADS) // len(WAYS)]  # one for each way, at least


@pytest.mark.parametrize(("payload", "way"), [*zip(SAMPLE, WAYS, strict=False)])
def test_a_payload_does_not_run_from_the_shell(nursery: Nursery, place: Path, payload: str, way: str) -> None:
    """A sample; the next test tries all."""
    put(place, payload)
    tried(nursery, place, way)


@pytest.mark.slow
@pytest.mark.parametrize(("payload", "way"), [*itertools.product(PAYLOADS, WAYS)])
def test_no_payload_runs_by_any_way_in(nursery: Nursery, place: Path, payload: str, way: str) -> None:
    put(place, payload)
    tried(nursery, place, way)


@pytest.fixture(scope="module")
def run(nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A finished run."""
    folder = tmp_path_factory.mktemp("run")
    assert nursery.run(*TINY, "steps=1", "hydra.run.dir=run", folder=folder).code == 0
    yield folder / "run"


@pytest.mark.parametrize("payload", ["a plug-in of Python's", "a class of ours below a setting", "a beta"])
def test_a_payload_in_the_folder_of_a_run_does_not_run(
    nursery: Nursery, place: Path, run: Path, payload: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither on resume nor when the run is loaded."""
    import ganrun

    shutil.copytree(run, place / "run")
    text = PAYLOADS[payload].replace("MARK", str(place / "MARK"))
    cfg = OmegaConf.merge(OmegaConf.load(place / "run" / "config.yaml"), OmegaConf.create(text))
    (place / "run" / "config.yaml").write_text(OmegaConf.to_yaml(cfg))
    before = files(place / "run")
    assert refusal(nursery.run("resume", "run", "steps=2", folder=place, PYTHONPATH=str(place)))
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(str(place))
    with suppress(ConfigError):  # optimisers are not made to load a run
        ganrun.load("run")
    assert marks(place) == ["run"] and before == files(place / "run")


def files(run: Path) -> dict[Path, bytes]:
    """What a run's folder holds, but for the number of the process that last had it."""
    return {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != ".lock"}


# What must still work


def test_what_was_typed_counts() -> None:
    """Environment variables and plug-ins that the user typed."""
    assert compose(["plugins=[my_package]"]).plugins == ["my_package"]
    check_hydra(hydra_of("+hydra.job.env_set.CXX=g++"), ["+hydra.job.env_set.CXX=g++"])
    with pytest.raises(ConfigError, match=r"hydra\.job\.env_set\.CXX"):
        check_hydra(hydra_of("+hydra.job.env_set.CXX=g++"), [])


@pytest.mark.parametrize("logging", ["none", "default", "stdout", "disabled"])
def test_hydras_own_choices_are_admitted(logging: str) -> None:
    for words in ([f"hydra/job_logging={logging}"], ["hydra/launcher=basic"], ["hydra/sweeper=basic"]):
        check_hydra(hydra_of(*words), words)


def test_what_an_installed_sweeper_registers_is_admitted() -> None:
    """As Optuna's does: its class, and those of its samplers."""
    sampler = {"_target_": "optuna.samplers.TPESampler", "seed": None}
    ConfigStore.instance().store(group="hydra/sweeper/test_only", name="tpe", node=sampler, provider="test")
    try:
        assert "optuna.samplers.TPESampler" in instantiable()
    finally:
        del ConfigStore.instance().repo["hydra"]["sweeper"]["test_only"]
    assert "optuna.samplers.TPESampler" not in instantiable()


def test_references_without_an_end_are_refused() -> None:
    nodes = {"hydra": {"callbacks": {"x": "${a}"}}, "a": {"b": "${b}", "c": "${b}"}, "b": {"b": "${a}", "c": "${a}"}}
    cfg = OmegaConf.create(nodes)
    with pytest.raises(ConfigError, match="without an end"):
        check_hydra(cfg, [])


def hydra_of(*overrides: str):
    """A composed configuration with Hydra's part."""
    import hydra

    from ganrun.config.groups import CONF

    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra.compose("config", list(overrides), return_hydra_config=True)


def test_the_payloads_are_payloads(place: Path) -> None:
    """They parse, and the module that they name would leave a mark."""
    assert len(PAYLOADS) > 25
    for name, text in PAYLOADS.items():
        if "!!python" not in text:
            assert isinstance(yaml.safe_load(text), dict), name
    exec((place / "evil.py").read_text())
    assert marks(place) == ["MARK"]


def test_a_single_run_is_composed_once_and_as_hydra_would_compose_it(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GANRUN_TAG", "")
    composing, gate = ConfigLoaderImpl.load_configuration, GatedLoader.load_configuration
    made: list[list[str]] = []
    answers: list[tuple[str, str]] = []

    def counted(loader, config_name, overrides, *more):
        made.append(list(overrides))
        return composing(loader, config_name, overrides, *more)

    def compared(loader, **asked):
        ours, hydras = gate(loader, **asked), composing(loader, **asked)
        answers.append((OmegaConf.to_yaml(ours), OmegaConf.to_yaml(hydras)))
        return ours

    monkeypatch.setattr(ConfigLoaderImpl, "load_configuration", counted)
    monkeypatch.setattr(GatedLoader, "load_configuration", compared)
    for typed in (["steps=3", "model=mlp"], ["steps=3", "hydra.mode=RUN"]):  # the second as `explain` and `check` do
        hydra_run(typed, lambda cfg: None)
        assert made == [typed]
        (_, _), (ours, hydras) = answers
        assert "mode: RUN" in ours and ours == hydras
        made.clear()
        answers.clear()
