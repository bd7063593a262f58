"""Stage II of a run in two stages: what the generator of stage I is, read from the run that trained it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ganrun.config.resume import reopen
from ganrun.config.validate import resolve
from ganrun.core.errors import ConfigError

PLACE = "game.stage1"


def add_first_stage(settings: dict[str, Any]) -> None:
    """Write the generator of the run that `game.stage1` names into these settings, as `model.generator.first`.

    From then on they say what it is, without that run. Raises ConfigError for a folder that is no run, for a model
    without a first stage, and for a run on other captions.
    """
    run, generator = settings["game"].get("stage1"), settings["model"]["generator"]
    if run is None or generator.get("first") is not None:
        return
    if "first" not in generator:
        found = f"{run}, but model.generator has no first stage"
        raise ConfigError(PLACE, found, "null for this model", "model=stackgan_stage2")
    try:
        theirs = resolve(reopen(Path(run), [f"plugins=[{','.join(settings['plugins'])}]"])[0])
    except ConfigError as error:
        found, remedy = f"{run} cannot be opened ({error.where}: {error.found})", "ganrun experiment=stackgan_stage1"
        raise ConfigError(PLACE, found, "the folder of a run of stage I", f"{remedy}, which trains one") from error
    _check_captions(run, theirs["dataset"], settings["dataset"])
    generator["first"] = theirs["model"]["generator"]


def _check_captions(run: str, theirs: dict[str, Any], mine: dict[str, Any]) -> None:
    """Both stages read the same words by the same numbers, or rows of the same length."""
    for key, what in (("words", "words"), ("text_size", "length")):
        if theirs.get(key) != mine[key]:
            found = f"{run} was trained on captions of other {what} ({_cut(theirs.get(key))}, here {_cut(mine[key])})"
            raise ConfigError(PLACE, found, "the same captions", "the dataset.* of that run, but for resolution")


def _cut(value: Any) -> str:
    text = str(value) or "none"
    return text if len(text) <= 30 else f"{text[:27]}..."
