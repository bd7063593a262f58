"""What there is to choose: the YAML files of the package and of the user. Needs neither torch nor Hydra."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import NamedTuple

from ganrun.core.errors import ConfigError, for_shell, nearest


def conf_folder() -> Path:
    """The package's own YAML files: `ganrun/conf` in an installed wheel, `conf` beside `ganrun` in a checkout."""
    package = Path(__file__).parents[1]
    packaged = package / "conf"
    return packaged if (packaged / "config.yaml").is_file() else package.parent / "conf"  # not what git left behind


CONF = conf_folder()
# Commands for what training left; each is the module of its name in ganrun/cli.
AFTER_TRAINING: tuple[str, ...] = ("sample", "walk", "export", "evaluate", "report", "diagnose", "rescue")
COMMANDS = ("train", "resume", "explain", "check", "speed", "list", "help", *AFTER_TRAINING)
MOST = 10_000  # files and folders of a group; in a folder with more, none is looked for
NESTED = re.compile(r"^  - /(\w+)@(\w+): (\w+)", re.MULTILINE)  # in a file: group, place in it, and choice
HOME = re.compile(r"^~(?=/|$)|(?<=^file://)~(?=/)")  # where a value is a path below the user's own folder


def expand_home(text: str) -> str:
    """A value in which `~` stands for the user's own folder, as in a shell. No setting but a path begins with `~/`."""
    return HOME.sub(lambda _: os.path.expanduser("~"), text)


def own_folder(name: str) -> Path:
    """A folder of the user's with configuration. Raises ConfigError where there is none."""
    folder = Path(expand_home(name))
    if not name or not os.path.isdir(folder):
        found, close = f"no folder {name}".strip(), nearest(folder.name, _folders(folder.parent))
        remedy = f"--config-dir {for_shell(str(folder.parent / close))}" if close else "leaving --config-dir out"
        raise ConfigError("--config-dir", found, "a folder that holds YAML files in groups", remedy)
    return folder


def _yaml_files(folder: Path, group: str) -> list[str]:
    """The YAML files of a group in this folder, relative to the group and without their ending.

    None of a folder that holds so much that it is no group, such as one of images beside groups.
    """
    looked, found = 0, []
    for place, inside, files in os.walk(folder / group):  # leaves out what cannot be read
        looked += len(inside) + len(files)
        if looked > MOST:
            return []
        names = [os.path.relpath(os.path.join(place, file), folder / group) for file in files if file.endswith(".yaml")]
        found += [name.removesuffix(".yaml") for name in names]
    return found


def _is_folder(path: Path) -> bool:
    """Whether this is a folder; no name that is too long for a file system is one."""
    try:
        return path.is_dir()
    except OSError:
        return False


def _folders(place: Path) -> list[str]:
    try:
        return [path.name for path in place.iterdir() if path.is_dir()]
    except OSError:
        return []


class Inside(NamedTuple):
    """A place in options of a group where another option of it stands."""

    choice: str  # what stands there otherwise
    options: list[str]  # that have this place


class Choices:
    """The groups and their options, as found in the folders that hold configuration."""

    def __init__(self, folders: Iterable[Path] = ()):
        self.folders = (CONF, *filter(_is_folder, folders))
        groups = {name for folder in self.folders for name in _folders(folder)}
        self.groups = {name for name in groups if self.options(name)}

    def options(self, group: str) -> list[str]:
        """The names that may be chosen in this group."""
        return sorted({name for folder in self.folders for name in _yaml_files(folder, group)})

    def default(self, group: str) -> str:
        """The default of this group; in a group of the user's own, its first option."""
        found = re.search(rf"^  - {group}: (\w+)$", (CONF / "config.yaml").read_text(encoding="utf-8"), re.MULTILINE)
        return found[1] if found else self.options(group)[0]

    def is_setting(self, trick: str) -> bool:
        """Whether this trick's file sets what belongs to other parts."""
        files = [folder / "tricks" / f"{trick}.yaml" for folder in self.folders]
        return any(
            "@package _global_" in path.read_text(encoding="utf-8", errors="replace")
            for path in files
            if path.is_file()
        )

    def inside(self, group: str) -> dict[str, Inside]:
        """The places in this group's options where another option of it stands, such as `a` of `unpaired`."""
        found: dict[str, Inside] = {}
        for folder, name in product(self.folders, self.options(group)):
            path = folder / group / f"{name}.yaml"
            text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
            for other, place, choice in NESTED.findall(text):
                if other == group:
                    found.setdefault(place, Inside(choice, [])).options.append(name)
        return found

    def check(self, group: str, choice: object, key: str) -> None:
        """Refuse what is not an option of this group, or is one twice. `key` is what was typed, such as GROUP@PLACE."""
        options = self.options(group)
        if choice in (None, "") and group != "experiment":
            remedy = f"{key}=[]" if group == "tricks" else f"{key}={self.default(group)}"
            raise ConfigError(key, "no choice", ", ".join(options), remedy)
        names = [str(name) for name in choice] if isinstance(choice, list) else [str(choice)]
        for position, name in enumerate(names):
            if name in names[:position]:
                raise ConfigError(key, f"{name} twice", "each once", written(key, dict.fromkeys(names)))
            if name not in options and choice is not None:
                close = nearest(name, options)
                better = [close if other == name else other for other in names]
                remedy = written(key, better) if close else f"ganrun --help, which lists every {group}"
                raise ConfigError(key, f"there is no {name}", ", ".join(options), remedy)


def written(group: str, names: Iterable[str]) -> str:
    """How a choice is typed in a shell."""
    listed = ",".join(names)
    return f"'{group}=[{listed}]'" if group == "tricks" else f"{group}={listed}"
