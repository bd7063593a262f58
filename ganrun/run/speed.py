"""How fast a run trains on this machine, and where a step goes. The run is trained for it, and thrown away."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from ganrun.config.build import Run
from ganrun.core.captured import Captured
from ganrun.core.compiled import Compiled
from ganrun.core.context import Context, Progress
from ganrun.core.trick import Trick
from ganrun.record.atomic import environment
from ganrun.record.folder import RunFolder
from ganrun.record.progress import Display
from ganrun.record.recorder import Recorder
from ganrun.run.callbacks import Record
from ganrun.run.turns import ENDLESS, Turns, wait

SECONDS = 30.0  # that all of it takes, about, where the run has as many steps
WARM = 2  # steps that are not counted: the first calls of everything, and what is compiled
SHARES = {"speed": 0.5, "parts": 0.2, "terms": 0.3}  # of that time
REST = "all else"
TERMS = ("discriminator_term", "generator_term")


@dataclass
class Speed:
    """What was measured, over turns of a few steps."""

    step: float  # seconds
    images: int  # in a batch
    moment: str  # of the game, where it has one
    parts: dict[str, float]  # of a step, in seconds
    terms: dict[str, float] = field(default_factory=dict)  # trick -> the seconds of a step that its term costs


def measure(run: Run, *, seconds: float = SECONDS, tell: Callable[[float], None] = lambda share: None) -> Speed:
    """Train this run in turns for about these seconds, at most as many steps as it has.

    It logs as a run does, into a folder that is removed; samples, measures and checkpoints are left out. `tell` is
    given the share of the time that is over. Raises Stopped where a guard of the run ends it.
    """
    with ExitStack() as stack:
        record = _recording(run, stack)
        trial = _Trial(Turns(run, [record]), seconds, tell)
        step, steps, spent = trial.pace("speed"), trial.steps, trial.spent
        with _watched(run, record) as parts:
            trial.pace("parts")
        steps, spent = trial.steps - steps, trial.spent - spent  # of the steps in which parts were timed
        found = {name: own * step * steps / spent for name, own in parts.seconds(steps, spent / steps).items()}
        return Speed(step, run.game.shape.images, run.game.moment, found, trial.terms(step))


def _recording(run: Run, stack: ExitStack) -> Record:
    """The callback that logs, as a run has it; what it writes is removed, and its display goes nowhere."""
    with environment("cannot write what a run logs into a temporary folder"):
        scratch = Path(stack.enter_context(TemporaryDirectory(prefix="ganrun-")))
    folder = stack.enter_context(closing(RunFolder.create(scratch / "run")))
    layers = {name: player.layers(name) for name, player in run.engine.players.items()}
    recorder = stack.enter_context(closing(Recorder(folder, every=run.settings["log"]["every"], layers=layers)))
    nowhere = Console(file=stack.enter_context(Path(os.devnull).open("w")), force_terminal=False)  # noqa: SIM115
    return Record(run, recorder, stack.enter_context(Display(steps=ENDLESS, console=nowhere)), Progress())


class _Trial:
    """The turns of a run, within a time and a number of steps."""

    def __init__(self, turns: Turns, seconds: float, tell: Callable[[float], None]):
        self.turns, self.seconds, self.tell = turns, seconds, tell
        self.over, self.steps = 0.0, WARM
        self.spent = 0.0  # seconds of the steps that count
        self.most = turns.run.settings["steps"]
        self.lazy = max([1, *(trick.every for trick in _terms(turns.run).values())])  # steps: the longest period
        self.turn = 1  # steps
        turns.seconds(WARM)
        self.began = time.monotonic()  # compiling takes longer than all that follows
        self.turn = self._turn(self.timed(1))

    def _turn(self, step: float) -> int:
        """The steps of a turn: a sixtieth of the time, and the period of lazy terms where that is not too long."""
        fitting = int(self.seconds / 10 / step)
        wanted = max(self.lazy, int(self.seconds / 60 / step))
        return max(1, min(wanted, fitting, self.most // 10))

    def timed(self, steps: int) -> float:
        """The seconds of this number of steps."""
        self.steps += steps
        self.tell(min(1.0, (time.monotonic() - self.began) / self.seconds))
        seconds = self.turns.seconds(steps)
        self.spent += seconds
        return seconds

    def rounds(self, part: str) -> Iterator[None]:
        """As many rounds as fit into this part's share of time and steps: at least one."""
        self.over += SHARES[part]
        last = self.most * self.over
        yield
        while time.monotonic() - self.began < self.seconds * self.over and self.steps + self.turn <= last:
            yield

    def pace(self, part: str) -> float:
        """The seconds of a step, lazy terms included."""
        paces = [self.timed(self.turn) / self.turn for _ in self.rounds(part)]
        return median(paces) if self.turn >= self.lazy else fmean(paces)

    def terms(self, step: float) -> dict[str, float]:
        """For each trick with a term, by how many seconds a step gets shorter without it."""
        tricks = {} if isinstance(self.turns.run.engine, Captured | Compiled) else _terms(self.turns.run)
        spared = dict[str, list[float]]()
        for _ in self.rounds("terms") if tricks else ():
            for name, trick in tricks.items():
                with_it = self.timed(self.turn)
                with _muted(trick):
                    without = self.timed(self.turn)
                spared.setdefault(name, []).append((with_it - without) / with_it)
        return {name: step * max(0.0, median(shares)) for name, shares in spared.items()}


def _terms(run: Run) -> dict[str, Trick]:
    """The tricks that add terms to the loss of a player, which can be left out for a while."""
    found = {}
    for pair_name, pair in run.game.named_pairs().items():
        for name, trick in pair.tricks.items():
            assert isinstance(trick, Trick)
            has = any(getattr(type(trick), hook) is not getattr(Trick, hook) for hook in TERMS)
            if has and not trick.replaces:
                found[f"{name} of {pair_name}" if len(run.game.pairs) > 1 else name] = trick
    return found


@contextmanager
def _muted(trick: Any) -> Iterator[None]:
    """The terms of this trick are 0 and cost nothing."""

    def nothing(context: Context) -> Tensor:
        return torch.zeros((), device=context.on_fake.score.device)

    instead = {hook: nothing for hook in TERMS if getattr(type(trick), hook) is not getattr(Trick, hook)}
    with ExitStack() as stack:
        for name, value in {**instead, "differentiates": False, "paired": False}.items():
            stack.enter_context(_replaced(trick, name, value))
        yield


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """An attribute of this object is another for a while."""
    own = vars(owner)
    missing = name not in own
    before = own.get(name)
    own[name] = value
    try:
        yield
    finally:
        if missing:
            del own[name]
        else:
            own[name] = before


class _Parts:
    """Seconds spent in named calls, without those of the named calls that they make."""

    def __init__(self, device: torch.device):
        self.device, self.spent, self._inner = device, dict[str, float](), [0.0]

    def of(self, name: str | Callable[..., str], call: Callable) -> Callable:
        """The same function, timed. A name may follow from its arguments."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            wait(self.device)
            began = time.perf_counter()
            self._inner.append(0.0)
            try:
                return call(*args, **kwargs)
            finally:
                wait(self.device)
                took = time.perf_counter() - began
                own = took - self._inner.pop()
                self._inner[-1] += took
                key = name if isinstance(name, str) else name(*args)
                self.spent[key] = self.spent.get(key, 0.0) + own

        return timed

    def seconds(self, steps: int, step: float) -> dict[str, float]:
        """The seconds of each part of a step, of which a whole one takes `step`; the largest first."""
        found = {name: spent / steps for name, spent in self.spent.items()}
        rest = max(0.0, step - sum(found.values()))
        return dict(sorted(found.items(), key=lambda part: -part[1])) | {REST: rest}


def _passes(run: Run) -> list[tuple[Any, str, Any]]:
    """What of an update's passes can be timed: all of them together where they are compiled or recorded as one."""
    if isinstance(run.engine, Captured):
        return [(run.engine, "run", lambda update, *_: f"{update.player}: update")]
    if isinstance(run.engine, Compiled):
        return [(run.engine, "learn", lambda update, *_: f"{update.player}: forward, loss and backward")]
    return [
        (run.engine, "learn", lambda update, *_: f"{update.player}: backward"),
        (run.game, "outcome", lambda update, *_: f"{update.player}: forward and loss"),
    ]


@contextmanager
def _watched(run: Run, record: Record) -> Iterator[_Parts]:
    """Every part of a step is timed for a while."""
    parts = _Parts(run.device)
    watched: list[tuple[Any, str, Any]] = [
        (record, "after_step", "logging"),
        (run.data, "draw", "data"),
        *_passes(run),
        (run.game, "before", "tricks on gradients and weights"),
        (run.game, "after", "tricks on gradients and weights"),
    ]
    for player in run.engine.players.values():
        watched += [(player.optimizer, "step", "optimisers"), (player, "norms", "logging")]
    with ExitStack() as stack:
        for owner, name, title in watched:
            stack.enter_context(_replaced(owner, name, parts.of(title, getattr(owner, name))))
        yield parts
