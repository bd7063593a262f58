"""YAML files that a person has edited: read within bounds, refused in one line that names file and line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig, OmegaConf
from omegaconf._utils import get_yaml_loader

from ganrun.config.groups import CONF
from ganrun.core.errors import ConfigError

LARGEST = 2**20  # bytes of a file
DEEPEST = 50  # lists and mappings inside each other
WIDEST = 100_000  # values, with every alias counted as what it stands for
REMEDY = "a text editor"


class CheckedFiles(FileConfigSource):
    """Files of configuration as Hydra reads them, those of the user's own checked first."""

    def load_config(self, config_path: str) -> ConfigResult:
        """What is in this file. Raises ConfigError for one of the user's that is no YAML of settings."""
        path = Path(self.path) / self._normalize_file_name(config_path)
        if not path.resolve().is_relative_to(CONF.resolve()):
            load(path)
        return super().load_config(config_path)


CheckedFiles.__name__ = FileConfigSource.__name__  # by which a process of another launcher knows that it is registered


def check_files() -> None:
    """Let Hydra read files through `CheckedFiles`."""
    Plugins.instance()  # registers its own first
    SourcesRegistry.instance().types["file"] = CheckedFiles


def load(path: Path) -> DictConfig:
    """The settings in a YAML file; empty for an empty file. Raises ConfigError naming the file and the line."""
    text = _text(path)
    try:
        _measure(path, text)
        found = yaml.load(text, Loader=get_yaml_loader())
    except yaml.YAMLError as error:
        raise _unreadable(path, error) from error
    except (ValueError, RecursionError, OverflowError) as error:  # such as the 31st of February
        raise ConfigError(str(path), f"cannot be read ({error})", "YAML", REMEDY) from error
    if found is None:
        return OmegaConf.create({})
    if not isinstance(found, dict):
        raise ConfigError(f"{path}, line 1", f"a {type(found).__name__}", "settings, as KEY: VALUE", REMEDY)
    return _settings(path, found)


def _settings(path: Path, found: dict[Any, Any]) -> DictConfig:
    try:
        return OmegaConf.create(found)
    except Exception as error:  # OmegaConf has many ways to refuse a key or a value
        text = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(str(path), text, "settings of plain values", REMEDY) from error


def _text(path: Path) -> str:
    """The text of a regular file of bounded size, which must be UTF-8."""
    if not path.is_file():
        raise ConfigError(str(path), "not a regular file", "a YAML file", "another file")
    try:
        with path.open("rb") as file:
            raw = file.read(LARGEST + 1)
    except OSError as error:
        raise ConfigError(str(path), f"cannot be read ({error.strerror})", "a YAML file", f"chmod +r {path}") from error
    if len(raw) > LARGEST:
        raise ConfigError(str(path), f"more than {LARGEST:,} bytes", "a YAML file of settings", "a smaller file")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        found = f"the byte {raw[error.start]:#04x}, which is not UTF-8"
        raise ConfigError(f"{path}, line {line}", found, "text in UTF-8", "saving it as UTF-8") from error


def _measure(path: Path, text: str) -> None:
    """Raises ConfigError for what would take too much memory or depth once it is built, without building it."""
    sizes: dict[str, int] = {}  # anchor -> values that an alias of it stands for
    for event, size, depth in _nodes(text, sizes):
        if depth > DEEPEST or size > WIDEST:
            found = (
                f"more than {DEEPEST} levels" if depth > DEEPEST else f"aliases that stand for over {WIDEST:,} values"
            )
            place = f"{path}, line {event.start_mark.line + 1}"
            raise ConfigError(place, found, "settings in a few levels", "writing it out plainly")


def _nodes(text: str, sizes: dict[str, int]) -> Iterator[tuple[Any, int, int]]:
    """Each event of the text with how many values stand before it in the outermost open node, and its depth."""
    counts: list[int] = [0]
    anchors: list[str | None] = [None]
    for event in yaml.parse(text, Loader=get_yaml_loader()):
        if isinstance(event, yaml.CollectionStartEvent):
            counts.append(1)
            anchors.append(event.anchor)
        elif isinstance(event, yaml.CollectionEndEvent):
            size, anchor = counts.pop(), anchors.pop()
            counts[-1] += size
            if anchor:
                sizes[anchor] = size
        elif isinstance(event, yaml.ScalarEvent):
            counts[-1] += 1
            if event.anchor:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.AliasEvent):
            counts[-1] += sizes.get(str(event.anchor), 1)
        yield event, sum(counts), len(counts)


def _unreadable(path: Path, error: yaml.YAMLError) -> ConfigError:
    """What YAML's parser says, at its line."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    place = f"{path}, line {mark.line + 1}" if mark else str(path)
    found = getattr(error, "problem", None) or str(error).splitlines()[0]
    return ConfigError(place, f"cannot be read ({found})", "YAML of plain values", REMEDY)
