"""A finished run, ready to draw samples from, without the data it was trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from ganrun.config.blank import blank_batches
from ganrun.config.build import Run, assemble, build, load_plugins, placed_on
from ganrun.config.instantiate import Maker
from ganrun.config.resume import reopen
from ganrun.config.types import Called
from ganrun.config.validate import resolve
from ganrun.core.context import Condition, Progress
from ganrun.core.errors import ConfigError, for_shell
from ganrun.core.game import Game
from ganrun.core.pair import Pair
from ganrun.core.seeding import generators_kept, the_same_each_time
from ganrun.core.trick import Trick
from ganrun.data.transforms.vocabulary import Vocabulary
from ganrun.machine import find_device
from ganrun.record.checkpoint import Checkpoints
from ganrun.record.stored import record
from ganrun.run.draw import draw
from ganrun.run.state import restore, restore_game, unfit, unfit_game

Which = str | int  # of a run's checkpoints: "last", "best", or a step


@dataclass(kw_only=True)
class RunForm:
    """What every command takes that opens a run: which checkpoint, on which device, and the modules it used."""

    checkpoint: Annotated[int | str, Called("last, best or a step")] = "last"
    device: str = "auto"
    plugins: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedRun:
    """The networks of a run as one of its checkpoints holds them, ready to sample."""

    path: Path
    settings: Mapping[str, Any]  # the recorded configuration, plain data
    step: int
    game: Game
    device: torch.device

    def pair(self, name: str = "") -> Pair:
        """The pair of this name; the first without one. Raises KeyError for a name that the game does not have."""
        pairs = self.game.named_pairs()
        return pairs[name] if name else next(iter(pairs.values()))

    @property
    def generator(self) -> nn.Module:
        """The first pair's generator: with averaged weights where the run keeps an average."""
        net: nn.Module = self.pair().tricks.fold(Trick.sampler, self.pair().generator)
        return net

    @property
    def discriminator(self) -> nn.Module:
        """The first pair's discriminator."""
        return self.pair().discriminator

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes that samples are made for, by label; empty for a run that is not conditional."""
        counted = (record(self.path / "environment.json") or {}).get("classes")
        names = tuple(counted) if isinstance(counted, dict) else ()
        numbers = tuple(map(str, range(self.game.classes)))
        return names if len(names) == self.game.classes else numbers

    @property
    def vocabulary(self) -> Vocabulary | None:
        """The words of the captions of the data; None for a run whose networks read no words."""
        data = self.settings["dataset"]
        return Vocabulary(data["words"].split(), data["text_size"]) if data.get("word_count") else None

    def sample(
        self,
        n: int,
        labels: Sequence[int] | Tensor | int | None = None,
        seed: int = 0,
        *,
        truncation: float | None = None,
    ) -> Tensor:
        """New samples, the same for the same seed. [n, C, H, W] in [-1, 1] on the CPU

        `labels` [n], or one for all, say of which classes; without them every class is as likely. `truncation` as in
        `ganrun sample`. The first of many are those of few. Raises ConfigError for labels that the run does not have,
        and for a truncation that means nothing there. Leaves torch's random generators as they were.
        """
        if n < 1:
            raise ConfigError("sample", f"n={n}", "at least 1 image")
        with generators_kept(self.device):
            condition = Condition(labels=self._labels(n, labels))
            return draw(self.game, n, seed=seed, condition=condition, truncation=truncation)

    def _labels(self, n: int, labels: Sequence[int] | Tensor | int | None) -> Tensor | None:
        """The labels to draw, [n] int64; None for any. Raises ConfigError for labels that the run does not have."""
        if labels is None:
            return None
        if not self.game.classes:
            raise ConfigError("labels", "this run is not conditional", "no labels", "sample(n)")
        given = torch.full((n,), labels) if isinstance(labels, int) else torch.as_tensor(labels)
        if given.shape != (n,) or int(given.min()) < 0 or int(given.max()) >= self.game.classes:
            expected = f"[{n}] of 0 to {self.game.classes - 1}"
            raise ConfigError("labels", f"{list(given.shape)}, from {given.min()} to {given.max()}", expected)
        return given.long()


def load(
    path: str | Path, *, plugins: Sequence[str] = (), device: str = "auto", checkpoint: Which = "last"
) -> LoadedRun:
    """The networks of the run in this folder. Opens no data set.

    `checkpoint` is "last", the newest that is whole, "best", by the metric of `log.best`, or a step. `plugins` are the
    modules of yours that the run used: a file alone never makes code run. Raises ConfigError for a folder that is not a
    run, holds no checkpoint, or not the one that is asked for.
    """
    path, where = Path(path).expanduser(), find_device(device)
    settings, game = untrained(path, plugins, where)
    saved = _saved(path, settings, partial(unfit_game, game), checkpoint)
    restore_game(game, saved, str(path))
    game.begin(Progress(saved["step"], saved["images"]))
    return LoadedRun(path=path, settings=settings, step=saved["step"], game=game, device=where)


def untrained(path: Path, plugins: Sequence[str], device: torch.device) -> tuple[dict[str, Any], Game]:
    """The settings of the run in this folder, and its game before it has learnt anything. Opens no data set.

    Raises ConfigError for a folder that is not a run.
    """
    cfg, _ = reopen(path, [f"plugins=[{','.join(plugins)}]"] if plugins else [])
    load_plugins(list(cfg.plugins))
    settings = resolve(cfg)
    game = placed_on(assemble(settings, Maker(cfg.plugins)).game, device)
    with the_same_each_time(device):
        game.bind(blank_batches(settings, game, device))
    return settings, game


def load_run(path: Path, overrides: list[str] | None = None) -> tuple[Run, int]:
    """The whole run in this folder, data and optimisers too, and the step it had reached. Raises ConfigError."""
    run = build(reopen(path, overrides or [])[0])
    return run, restore(run, _saved(path, run.settings, partial(unfit, run), "last"), str(path)).step


def _saved(
    path: Path, settings: Mapping[str, Any], unfit: Callable[[dict[str, Any]], str | None], which: Which
) -> dict[str, Any]:
    """The state in the checkpoint that is asked for. Raises ConfigError where there is none such."""
    checkpoints = Checkpoints(path / "checkpoints", keep=settings["log"]["keep"])
    if checkpoints.latest() is None:
        raise ConfigError(
            str(path), "no checkpoint in it yet", "a run that has saved one", f"ganrun resume {for_shell(str(path))}"
        )
    if which == "last":
        return checkpoints.load(unfit=unfit)
    step = _best(checkpoints.load(unfit=unfit), path) if which == "best" else which
    if not isinstance(step, int):
        raise ConfigError("checkpoint", repr(which), "last, best or a step", "checkpoint=last")
    file = checkpoints.at(step)
    if file is None:
        kept = ", ".join(map(str, checkpoints.steps()))
        raise ConfigError("checkpoint", f"none of step {step} in {path}", f"last, best or one of {kept}",
                          f"checkpoint={min(checkpoints.steps(), key=lambda kept: abs(kept - step))}")  # fmt: skip
    return checkpoints.load(file, unfit=unfit)


def _best(newest: Mapping[str, Any], path: Path) -> int:
    """The step of the best checkpoint, as the newest records it. Raises ConfigError for a run that keeps none."""
    kept = newest["callbacks"].get("checkpoints")
    best = kept.get("best") if isinstance(kept, Mapping) else None
    step = best.get("step") if isinstance(best, Mapping) else None
    if type(step) is not int:
        found = f"best, but {path} keeps no best checkpoint (log.best names no metric)"
        raise ConfigError("checkpoint", found, "last or a step", "checkpoint=last")
    return step
