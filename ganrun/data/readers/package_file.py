"""Files that an installed package brings, found without importing it: the import alone may take seconds."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from ganrun.core.errors import ConfigError


def package_file(package: str, name: str, *, title: str, inside: str) -> Path:
    """The file `name` in the folder `inside` of a package, which users install as `title`.

    Raises ConfigError when it is not there.
    """
    spec = find_spec(package)
    path = Path(next(iter((spec and spec.submodule_search_locations) or [""]))) / inside / name
    if not os.path.isfile(path):
        raise ConfigError(".", f"{title}'s {name} is missing", title, f"installing {title} again")
    return path
