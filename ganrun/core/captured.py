"""An engine that records the kernels of each update as a CUDA graph, which one call replays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from operator import is_not
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from ganrun.core.compiled import Compiled
from ganrun.core.context import Batches, Observed, Progress, Update, UpdateResult
from ganrun.core.engine import Eager, Player
from ganrun.core.errors import ConfigError
from ganrun.core.game import Game
from ganrun.core.schedule import Scheduled

WARM_UP = 3  # updates of each kind that run as they are: libraries choose kernels, optimisers make their state
KINDS = 64  # of which graphs are kept; the oldest is forgotten
PLAIN = (bool, int, float, str)
OWN = set(vars(torch.nn.Module())) - {"training"}  # what torch keeps in every module


class Held:
    """What the parts of a game hold beside the tensors of torch's layers, as far as a recorded update depends on it.

    Plain numbers and words are read once, while an update is recorded; a tensor that is replaced by another one, in
    place of being written to, would be read where it was.
    """

    def __init__(self, game: Game):
        parts = (part for part in game.modules() if not isinstance(part, Scheduled))
        self.parts = [part for part in parts if type(part).__module__.partition(".")[0] != "torch"]
        self._places = [some for part in self.parts for some in (vars(part), part._buffers)]
        self._names: list[list[str]] = []
        self._found: list[Any] = []
        self._size = 0  # names in all places
        self._replaced = 0  # how often a tensor was
        self._key: Hashable = None

    def key(self) -> Hashable:
        """The same as the last time where nothing of that has changed."""
        if (size := sum(map(len, self._places))) != self._size:
            self._size, self._names = size, [[name for name in place if name not in OWN] for place in self._places]
        found = [place.get(name) for place, names in zip(self._places, self._names, strict=True) for name in names]
        if len(found) != len(self._found) or any(map(is_not, found, self._found)):
            new, old = tensors(found), tensors(self._found)
            self._replaced += len(new) != len(old) or any(map(is_not, new, old))
            self._found = found
            self._key = self._replaced, tuple(value for value in found if type(value) in PLAIN)
        return self._key


class Recording:
    """Records what is given to one stream, which computes nothing of it yet: graphs, and calls between them."""

    def __init__(self, stream: torch.cuda.Stream, pool: Any):
        self.pieces: list[Callable[[], object]] = []
        self._stream, self._pool = stream, pool

    def begin(self) -> None:
        """Record from here on."""
        graph = torch.cuda.CUDAGraph()
        self._open = torch.cuda.graph(graph, pool=self._pool, stream=self._stream)
        self._open.__enter__()
        self.pieces.append(graph.replay)

    def end(self) -> None:
        """Record no more."""
        self._open.__exit__(None, None, None)

    def between(self, call: Callable[[], object]) -> None:
        """Have this called, in each replay, between what was recorded before and what is recorded after."""
        self.end()
        self.pieces.append(call)
        self.begin()


@dataclass(frozen=True)
class Recorded:
    """One update, the tensors it reads its batches from, and those it writes."""

    pieces: Sequence[Callable[[], object]]
    given: list[Tensor]
    results: Sequence[UpdateResult]

    def replay(self, batches: list[Tensor]) -> list[UpdateResult]:
        """The update on these batches, [N, ...] each. What it measured is copied, as the next replay overwrites it."""
        if self.given:  # an update may need no images of the data
            torch._foreach_copy_(self.given, batches)
        for piece in self.pieces:
            piece()
        return [copied(result) for result in self.results]


class Captured(Eager):
    """Runs the first updates of each kind as `Eager` does, then records one, and replays it from there on.

    A kind is an update, the same in all that chooses its kernels (`Update`), with batches of one form, in a game whose
    parts hold the same plain numbers and words, and tensors (`Held`). What follows the step lies in tensors, as
    gradients and the optimiser's state do, which stay where they are. Random numbers are those of `Eager`: a replay
    begins where the device's generator is. An optimiser that cannot be recorded steps between two graphs.
    """

    def __init__(self, *args: Any, **more: Any):
        super().__init__(*args, **more)
        self.keep_addresses = True
        self.replays = 0  # updates that were replayed so far
        for player in self.players.values():
            player.make_capturable()
        self._held = Held(self.game)
        self._ran: Counter[Hashable] = Counter()
        self._recorded: dict[Hashable, Recorded] = {}
        self._stream = torch.cuda.Stream(self.device)
        self._pool = torch.cuda.graph_pool_handle()  # one for all: no two replays overlap
        self._recording: Recording | None = None

    def begin(self, now: Progress) -> None:
        """Set every number that follows the step."""
        super().begin(now)
        self._key = self._held.key()

    def restored(self) -> None:
        """Forget what was recorded, which reads and writes where the optimisers' state was."""
        self._ran.clear()
        self._recorded.clear()

    def run(self, update: Update, batches: Sequence[Batches]) -> list[UpdateResult]:
        """As `Eager.run`. Raises ConfigError for an update that cannot be recorded."""
        leaves = tree_leaves(batches)
        kind = (update, tuple(leaf.shape if isinstance(leaf, Tensor) else leaf for leaf in leaves), self._key)
        if kind not in self._recorded:
            self._ran[kind] += 1
            forget_oldest(self._ran, self._recorded)
            if self._ran[kind] <= WARM_UP:
                return self._aside(update, batches)
            self._recorded[kind] = self._record(update, batches)
        self.replays += 1
        return self._recorded[kind].replay(tensors(leaves))

    def _aside(self, update: Update, batches: Sequence[Batches]) -> list[UpdateResult]:
        """Run the update as it is, on the stream on which it will be recorded."""
        usual = torch.cuda.current_stream(self.device)
        self._stream.wait_stream(usual)
        with torch.cuda.stream(self._stream):
            results = super().run(update, batches)
        usual.wait_stream(self._stream)
        return results

    def _record(self, update: Update, batches: Sequence[Batches]) -> Recorded:
        """Record the update, which computes nothing yet."""
        given = tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, list(batches))
        self._recording = Recording(self._stream, self._pool)
        self._recording.begin()
        try:
            results = super().run(update, given)
            self._recording.end()
        except RuntimeError as error:
            with suppress(RuntimeError):  # what failed has ended the recording, of which this tells again
                self._recording.end()
            found = f"an update of {update.player} cannot be recorded ({str(error).splitlines()[0]})"
            raise ConfigError("engine.capture", found, "false") from error
        pieces, self._recording = self._recording.pieces, None
        return Recorded(pieces, tensors(tree_leaves(given)), results)

    def _step(self, player: Player) -> None:
        if self._recording is None or player.capturable:
            super()._step(player)
        else:
            self._recording.between(player.optimizer.step)


class CapturedCompiled(Captured, Compiled):
    """Records updates that were compiled."""


def forget_oldest(*kept: dict) -> None:
    """Keep the newest kinds alone: of a part whose plain numbers change at each step, no two updates are alike."""
    for one in kept:
        while len(one) > KINDS:
            del one[next(iter(one))]


def tensors(leaves: Sequence[Any]) -> list[Tensor]:
    """Those of the leaves that are tensors, [N, ...] each."""
    return [leaf for leaf in leaves if isinstance(leaf, Tensor)]


def copied(result: UpdateResult) -> UpdateResult:
    """The same, in memory of its own."""
    observed = {
        pair: Observed(*(None if value is None else value.clone() for value in found))  # type: ignore[arg-type]
        for pair, found in result.observed.items()
    }
    return replace(result, values=result.values.clone(), observed=observed)
