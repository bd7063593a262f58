"""What must survive any change: who may import whom, where names live, how long the loop is."""

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from support import CONF, family, nodes

from ganrun.core.train import train

ROOT = CONF.parent
PACKAGE = ROOT / "ganrun"
SOURCES = sorted(path for folder in (PACKAGE, ROOT / "hydra_plugins") for path in folder.rglob("*.py"))

# Which rooms a room may import, beside the standard library, third parties and ganrun/version.py.
ROOMS: dict[str, set[str]] = {
    "core": set(),
    "machine": {"core"},
    "models": {"core"},
    "losses": {"core"},
    "games": {"core"},
    "tricks": {"core", "models"},  # of models only what SHOWN names
    "data": {"core"},
    "metrics": {"core", "data"},
    "diagnosis": {"core", "data", "metrics"},
    "record": {"core", "machine"},
    "config": {"core", "data", "machine", "record"},  # builds parts by their dotted names, and imports none
    "run": {"config", "core", "data", "diagnosis", "machine", "metrics", "record", "report"},
    "report": {"core", "record"},  # reads what runs have left; opens no run
    "cli": {"run", "report", "config", "core", "data", "diagnosis", "machine", "metrics", "record"},
    "": {"cli", "run", "config"},  # the public face and `python -m ganrun`
    "version": set(),
    "hydra_plugins": {"run"},
}
# The same within `data`: bytes become arrays, arrays become images, images a data set, a data set batches.
DATA_ROOMS: dict[str, set[str]] = {
    "readers": set(),
    "transforms": set(),
    "datasets": {"readers", "transforms"},
    "sources": {"datasets", "transforms"},
}
# Where Hydra and its DictConfig may be known, and why. Beyond these, configuration is plain data and objects.
BORDER = {
    "ganrun/__init__.py": "names the type that it takes and returns",
    "config/overrides.py": "reads what was typed with the parsers of Hydra",
    "config/folder_made.py": "is called by Hydra before it makes a folder",
    "config/hydra_packages.py": "names the packages of Hydra's launchers and sweepers",
    "config/hydra_task.py": "is what Hydra calls",
    "run/hydra_job.py": "is what a launcher of Hydra calls in its own process",
    "config/nested.py": "refuses what was typed, as Hydra's parsers give it",
    "config/compose.py": "composes with Hydra and turns its errors into one line",
    "config/gate.py": "refuses what Hydra may not instantiate before it does",
    "config/yaml_files.py": "reads the files of configuration for Hydra, within bounds",
    "config/remedies.py": "composes what a setting is when it is left alone",
    "config/resume.py": "reads a run's own configuration again",
    "config/compatibility.py": "composes two thousand combinations of files without asking Hydra for each",
    "config/compatibility_games.py": "composes an experiment of each game with every trick",
    "config/overlays.py": "chooses files of configuration without asking Hydra",
    "config/validate.py": "turns what was composed into plain data",
    "config/build.py": "turns plain data into objects",
    "config/accepted.py": "tries overrides on the settings of a run",
    "cli/check.py": "names the type that it takes to `build`",
    "cli/speed.py": "names the type that it takes to `build`",
    "cli/explain.py": "names the refusals of Hydra while it composes",
    "cli/main.py": "takes what Hydra composed to a session",
    "run/follow.py": "reads the configuration that the first process of a run has sent",
    "run/session.py": "takes what it was given to build; names the type only",
    "hydra_plugins/ganrun_processes.py": "is a launcher, Hydra's own kind of plug-in",
}
PARTS = ("models", "losses", "games", "tricks", "data", "metrics", "record")  # what the core must not know

# Where the parts of a configuration group live. Singular for a choice, plural for what there is to choose from.
HOMES = {
    "dataset": "ganrun.data",
    "game": "ganrun.games",
    "loss": "ganrun.losses",
    "model": "ganrun.models",
    "tricks": "ganrun.tricks",
    "updates": "ganrun.core.updates",
    "optim": "torch.optim",
    "engine": None,  # numbers only: config/build.py reads them
    "log": None,  # numbers only: run/ and record/ read them
    "metrics": None,  # numbers only: run/measuring.py reads them
    "diagnosis": None,  # numbers only: run/ reads them
    "experiment": None,  # choices among the others
    "hydra": "hydra_plugins",  # Hydra's own group
}
SHARED = ("ganrun.core.trick.Setting", "ganrun.core.schedule.")  # parts that any group may name
CARRIED = {"tricks": ("ganrun.models.epilogues.",)}  # layers that a trick's file puts into a model's settings
# Tricks that add layers must know how a network is built of blocks; they know no architecture.
SHOWN = {"tricks": ("ganrun.models.base", "ganrun.models.layers", "ganrun.models.epilogues")}


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, anywhere in it, those for type checkers only included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def module_of(path: Path) -> str:
    """The dotted name of a file's module."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    """The room of a module: the first folder or file below `ganrun`; empty for its own files."""
    first, *rest = module.split(".")
    return first if first != "ganrun" else (rest[0] if rest and rest[0] != "__main__" else "")


MODULES = {module_of(path): path for path in SOURCES}


def known(path: Path) -> set[str]:
    """The modules of the project that a file imports."""
    return {name for name in imports(path) if name in MODULES and name not in ("ganrun", module_of(path))}


def test_the_sources_were_found() -> None:
    assert len(SOURCES) > 100 and {room_of(module) for module in MODULES} == set(ROOMS)


def test_the_top_holds_packages_and_what_is_for_all() -> None:
    files = {path.name for path in PACKAGE.glob("*.py")}
    assert files == {"__init__.py", "__main__.py", "machine.py", "version.py"}


def test_every_room_says_what_belongs_in_it() -> None:
    """The first line of its docstring, which also says what does not."""
    for folder in sorted(path.parent for path in PACKAGE.rglob("__init__.py") if path.parent != PACKAGE):
        line = (ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or "").splitlines()[0]
        assert len(line) > 40 and re.search(r"\b(no|nothing|neither|never)\b", line, re.IGNORECASE), folder


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_imports_go_one_way(room: str) -> None:
    for module, path in MODULES.items():
        if room_of(module) == room:
            others = {room_of(name) for name in known(path)} - {room, "version"}
            assert others <= ROOMS[room], f"{module} imports {sorted(others - ROOMS[room])}"


@pytest.mark.parametrize("room", sorted(DATA_ROOMS))
def test_imports_within_data_go_one_way(room: str) -> None:
    for module, path in MODULES.items():
        if module.startswith(f"ganrun.data.{room}."):
            others = {name.split(".")[2] for name in known(path) if name.count(".") > 2} & set(DATA_ROOMS) - {room}
            assert others <= DATA_ROOMS[room], f"{module} imports {sorted(others - DATA_ROOMS[room])}"


def test_no_module_imports_itself_through_others() -> None:
    """No cycle, also none hidden by an import within a function or for type checkers only."""
    assert not cycles({module: known(path) for module, path in MODULES.items()})


def cycles(graph: dict[str, set[str]]) -> list[str]:
    """The modules that can be reached from themselves."""
    reached = {module: set(direct) for module, direct in graph.items()}
    for _ in graph:
        before = sum(map(len, reached.values()))
        for module in graph:
            reached[module] |= set().union(*(reached[other] for other in reached[module]))
        if sum(map(len, reached.values())) == before:
            break
    return [module for module in graph if module in reached[module]]


def test_a_cycle_is_found() -> None:
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}, "e": set()}) == ["a", "b", "c"]


def test_only_the_border_knows_hydra() -> None:
    hydra = re.compile(r"(hydra|omegaconf)(\.|$)")
    knowing = {path for path in SOURCES if any(hydra.match(name) for name in imports(path))}
    border = {ROOT / name if name.startswith(("ganrun/", "hydra_")) else PACKAGE / name for name in BORDER}
    assert knowing == border


def test_a_session_knows_a_type_of_the_configuration_and_no_more() -> None:
    asked = [name for name in imports(PACKAGE / "run" / "session.py") if name.startswith(("hydra", "omegaconf"))]
    assert asked == ["omegaconf", "omegaconf.DictConfig"]


def test_tricks_know_how_networks_are_built_and_no_architecture() -> None:
    for module, path in MODULES.items():
        others = {name for name in known(path) if name.startswith("ganrun.models.")} if "tricks" in module else set()
        assert all(name.startswith(SHOWN["tricks"]) for name in others), module


@pytest.mark.parametrize("group", ["model", "loss", "tricks", "dataset", "experiment"])
def test_the_core_names_no_choice(group: str) -> None:
    """Remedies that name a part, such as `model=mlp`, come from the compatibility checker."""
    naming = re.compile(rf"\b{group}=\w")
    files = [path for path in SOURCES if path.parent.name == "core"]
    assert len(files) > 12
    assert not [(path.name, text) for path in files for text in strings(path) if naming.search(text)]


def test_a_network_needs_no_configuration_library() -> None:
    """In a process of its own: importing the parts brings neither Hydra nor TensorBoard."""
    code = (
        "import sys, ganrun.tricks.penalties, ganrun.tricks.averaging, ganrun.losses.targets, ganrun.models.dcgan\n"
        "import ganrun.games.latent, ganrun.core.train, ganrun.core.engine\n"
        "print([name for name in ('hydra', 'omegaconf', 'tensorboard', 'sklearn', 'rich') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert result.stdout.strip() == "[]", result.stderr


# No branch on a trick's name


def strings(path: Path) -> Iterator[str]:
    """The string literals of a file that are not docstrings."""
    tree = ast.parse(path.read_text())
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    firsts = [node.body[0] for node in ast.walk(tree) if isinstance(node, documented)]
    docs = {id(first.value) for first in firsts if isinstance(first, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node.value


def names_a_trick(text: str) -> bool:
    """Whether a literal is a trick's name or a dotted path with one in it. A sentence that advises one is neither."""
    return any(re.fullmatch(rf"([\w.]+\.)?{name}(\.[\w.]+)?", text) for name in family("tricks"))


def test_a_name_is_recognised() -> None:
    assert names_a_trick("ema") and names_a_trick("tricks.gp.weight") and names_a_trick("tricks.flip")
    assert not names_a_trick("adding gp to tricks, or clip") and not names_a_trick("emanate")


def test_nothing_that_runs_a_contest_names_a_trick() -> None:
    """The step has no branch on a trick: neither the core, nor the games, nor what builds and keeps a run."""
    rooms = ("core", "games", "record", "config", "run", "cli", "machine")
    files = [path for module, path in MODULES.items() if room_of(module) in rooms]
    for_people = ("help.py", "compose.py", "groups.py", "overrides.py", "combination.py")  # which give examples
    files = [path for path in files if path.name not in for_people]
    options = {("explain.py", "weight_decay")}  # an option of PyTorch's optimisers, which a trick is named after
    assert {"pair.py", "engine.py", "train.py", "build.py", "session.py"} <= {path.name for path in files}
    found = {(path.name, text) for path in files for text in strings(path) if names_a_trick(text)}
    assert found <= options


def test_no_flag_of_the_configuration_is_asked_for_in_a_step() -> None:
    for path in SOURCES:
        if path.parent.name in ("core", "games", "losses", "tricks", "models"):
            names = {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
            assert not names & {"cfg", "config", "conf", "settings", "DictConfig"}, path


def test_what_reads_data_asks_for_files_by_functions_that_do_not_raise() -> None:
    """Those of pathlib raise for a name that is too long, and for a folder that may not be read."""
    asking = re.compile(r"(?<!entry)(?<!info)\.(exists|is_dir|is_file)\(\)")
    paths = [path for path in SOURCES if "data" in path.parts]
    assert len(paths) > 20
    assert [path for path in paths if asking.search(path.read_text())] == []


def test_the_loop_fits_on_a_page() -> None:
    assert len(inspect.getsource(train).splitlines()) <= 60


# Folders


def test_every_group_has_a_home() -> None:
    groups = {path.name for path in CONF.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert groups == set(HOMES)
    for home in filter(None, HOMES.values()):
        place = ROOT / home.replace(".", "/")
        assert home == "torch.optim" or place.is_dir() or place.with_suffix(".py").is_file(), home


@pytest.mark.parametrize("group", sorted(HOMES))
def test_the_parts_of_a_group_live_in_its_home(group: str) -> None:
    targets = [
        node["_target_"]
        for path in (CONF / group).rglob("*.yaml")
        for _, node in nodes(OmegaConf.to_container(OmegaConf.load(path), resolve=False), "")
    ]
    home = HOMES[group]
    own = [target for target in targets if home or not target.startswith(SHARED)]  # a schedule is a number
    assert bool(own) == (home is not None)
    assert all(target.startswith((f"{home}.", *SHARED, *CARRIED.get(group, ()))) for target in targets), targets


def test_every_trick_and_loss_of_the_package_has_a_file_that_chooses_it() -> None:
    for group, base in (("tricks", "Trick"), ("loss", "Loss")):
        chosen = " ".join(path.read_text() for path in (CONF / group).glob("*.yaml"))
        folder = PACKAGE / str(HOMES[group]).split(".")[1]
        classes = [
            (path.stem, node.name)
            for path in folder.glob("*.py")
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.ClassDef) and any(isinstance(b, ast.Name) and b.id == base for b in node.bases)
        ]
        assert classes
        for module, name in classes:
            alone = re.search(rf"\.{module}\.{name}\b", chosen)
            sources = " ".join(path.read_text() for path in folder.glob("*.py"))
            assert alone or re.search(rf"^class \w+\({name}\)", sources, re.M), f"no YAML chooses {module}.{name}"


# House rules


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_house_rules(path: Path) -> None:
    """A docstring, no `global`, a size that can be read."""
    tree = ast.parse(path.read_text())
    assert path.stat().st_size == 0 or ast.get_docstring(tree), "the first line names the idea"
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Global)]
    assert len(path.read_text().splitlines()) <= 300


def test_constructors_of_parts_default_nothing_that_a_paper_chose() -> None:
    """YAML is the only home of numbers, so the saved configuration is the whole truth."""
    allowed = {("Linear", "delay")}  # no paper's number: where it is not wanted, it is not there
    for path in SOURCES:
        if path.parent.name not in ("tricks", "losses", "games") and path.name not in ("updates.py", "schedule.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                assert {(node.name, name) for name in defaulted(node)} <= allowed, node.name


def defaulted(node: ast.ClassDef) -> list[str]:
    """The keyword arguments of a class's constructor that have a default."""
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            arguments = item.args
            named = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
            return [argument.arg for argument, default in named if default is not None]
    return []
