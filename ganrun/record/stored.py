"""Reading back what a run's folder holds: every file is checked for what it is before anything uses it."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ganrun.core.errors import ConfigError

MOST = 2**26  # bytes of a file that is read as text; a run writes far less
FILES = ("config.yaml", "overrides.yaml", "environment.json", "summary.json", "data_files.json", "metrics.jsonl",
         "findings.jsonl", "run.log", ".lock")  # fmt: skip
FOLDERS = ("checkpoints", "samples")
FORMS = {
    "environment.json": dict[str, Any],
    "overrides.yaml": list[str],
    "summary.json": dict[str, Any],
    "data_files.json": list[str],
}


class Unusable(Exception):
    """A file that is not what a run writes; the text says why."""


def check_kinds(run: Path) -> None:
    """Raises ConfigError unless what a run's folder holds by name are files and folders, not pipes or devices."""
    for name in (*FILES, *FOLDERS):
        path, wanted = run / name, stat.S_ISREG if name in FILES else stat.S_ISDIR
        try:
            kind = path.stat().st_mode
        except FileNotFoundError:
            if path.is_symlink():
                raise ConfigError(str(path), "is a link to nothing", "what the run wrote", "deleting it") from None
            continue
        except OSError as error:
            raise _foreign(path, f"cannot be read ({error.strerror})") from error
        if not wanted(kind):
            raise _foreign(path, "is no regular file" if name in FILES else "is no folder")


def content(path: Path) -> bytes:
    """The bytes of a regular file: a pipe would be waited for. Raises FileNotFoundError, and Unusable."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Unusable(f"cannot be read ({error.strerror})") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Unusable("is no regular file")
    with os.fdopen(descriptor, "rb") as file:
        try:
            return file.read()
        except OSError as error:
            raise Unusable(f"cannot be read ({error.strerror})") from error


def text(path: Path) -> str | None:
    """The text of a file of a run; None where there is none. Raises ConfigError for what is no text."""
    try:
        if path.stat().st_size > MOST:
            raise Unusable(f"has more than {MOST >> 20} MiB")
        return content(path).decode()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _foreign(path, f"cannot be read ({error.strerror})") from error
    except (Unusable, UnicodeDecodeError) as error:
        raise _foreign(path, str(error) if isinstance(error, Unusable) else "is not UTF-8") from error


def record(path: Path) -> Any:
    """What overrides.yaml or one of the JSON files holds; None where there is none.

    Raises ConfigError for what the run cannot have written.
    """
    found = text(path)
    if found is None:
        return None
    try:
        value = _listed(found) if path.suffix == ".yaml" else json.loads(found)
    except (ValueError, RecursionError) as error:
        raise _foreign(path, "is no JSON") from error
    if (place := misfit(value, FORMS[path.name])) is not None:
        raise _foreign(path, f"holds something else{f' at {place}' if place else ''}")
    return value


def summarised(path: Path) -> int | None:
    """The step that a run's summary tells of; None when it has none, or one that is not whole."""
    try:
        step = (record(path) or {}).get("step")
    except ConfigError:
        return None
    return step if type(step) is int else None


def _listed(yaml: str) -> list[Any]:
    """A list as `RunFolder.describe` writes it: JSON behind a dash in each line."""
    lines = [line for line in yaml.splitlines() if line.strip() not in ("", "[]")]
    if not all(line.startswith("- ") for line in lines):
        raise ValueError("no list")
    return [json.loads(line.removeprefix("- ")) for line in lines]


def _foreign(path: Path, found: str) -> ConfigError:
    return ConfigError(str(path), found, "what the run wrote", "deleting it" if path.name in FORMS else "a copy of it")


def misfit(value: Any, form: Any, where: str = "") -> str | None:
    """The place at which a plain value is not of this form; None where it is.

    A form is Any, a type, `list[FORM]`, `dict[KEY, FORM]`, a mapping from each required key to its form,
    or a tuple of forms of which one must fit.
    """
    if form is Any:
        return None
    if isinstance(form, tuple):
        places = [misfit(value, one, where) for one in form]
        return None if None in places else places[0]
    if isinstance(form, Mapping):
        if not isinstance(value, dict) or form.keys() - value.keys():
            return where if not isinstance(value, dict) else _below(where, min(form.keys() - value.keys()))
        return _first(misfit(value[key], inner, _below(where, key)) for key, inner in form.items())
    origin, inner = getattr(form, "__origin__", form), getattr(form, "__args__", ())
    if type(value) is not origin and not (origin is float and type(value) is int):
        return where
    if origin is list and inner:
        return _first(misfit(item, inner[0], f"{where}[{index}]") for index, item in enumerate(value))
    if origin is dict and inner:
        return _first(
            place
            for key, item in value.items()
            for place in (misfit(key, inner[0], _below(where, key)), misfit(item, inner[1], _below(where, key)))
        )
    return None


def _first(places: Iterator[str | None]) -> str | None:
    return next((place for place in places if place is not None), None)


def _below(where: str, key: Any) -> str:
    return f"{where}.{key}" if where else str(key)
