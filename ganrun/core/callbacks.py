"""What happens after updates and steps: recording, grids, checkpoints, and whatever watches a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from ganrun.core.context import Batches, BatchShape, Progress, UpdateResult


class Data(Protocol):
    """What the loop needs of the data."""

    def ready(self, interrupted: Callable[[], bool]) -> bool:
        """Wait for the data of a step, as far as they can be foretold. False when `interrupted` ended the wait."""

    def draw(self, shapes: Mapping[str, BatchShape]) -> Batches:
        """The next batch of each of these streams, [B, C, H, W] each. Advances them."""


class Callback:
    """Acts after each step, when all its updates are done and before the next seeds its randomness anew.

    It therefore may draw random numbers, and must leave parameters, buffers and gradients alone: no callback changes
    a bit of the weights. What it must remember belongs into its state, which every checkpoint holds.
    """

    name: str  # under which its state is kept
    form: Any = dict[str, Any]  # of its state, as `ganrun.record.stored.misfit` compares it

    def after_step(self, now: Progress, results: Sequence[UpdateResult], *, last: bool) -> None:
        """React to a step. `results` are its updates in order; `last` says that the run ends here.

        Raises Stopped to end the run.
        """

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs, as tensors and plain values."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
