"""The weights of stage I, for a new run of stage II; later they are in its own checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from ganrun.config.build import Run
from ganrun.core.errors import ConfigError
from ganrun.run.load import load


def begin_with_first_stage(run: Run) -> None:
    """Put the trained generator of `game.stage1` into the game of a new run; nothing where the game has one stage.

    It is the averaged one where that run keeps an average. Raises ConfigError where no run is named, and where its
    generator has other layers than its settings say.
    """
    generator: Any = next(iter(run.game.named_pairs().values())).generator
    if not hasattr(generator, "first"):
        return
    path = run.settings["game"].get("stage1")
    if path is None:
        remedy = "game.stage1=RUN, a run of experiment=stackgan_stage1"
        raise ConfigError("game.stage1", "not set", "a run of stage I", remedy)
    trained = load(Path(path), plugins=run.settings["plugins"], device=str(run.device)).generator
    first: nn.Module = generator.first.net
    try:
        first.load_state_dict(trained.state_dict())
    except RuntimeError as error:
        found = f"{path} has a generator of other layers than its settings say ({str(error).splitlines()[-1].strip()})"
        remedy = "a stage I without tricks that change the layers of its generator"
        raise ConfigError("game.stage1", found, "one of the layers that model.generator.first says", remedy) from error
