"""An engine that compiles updates: objective and gradients together, one graph for each kind of update."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import torch

from ganrun.core.context import Batches, Fakes, Outcome, Update
from ganrun.core.engine import Eager
from ganrun.core.errors import ConfigError

GRAPHS = 256  # different updates of a run: each with its player, shape, lazy tricks, and labels or not


class Compiled(Eager):
    """Compiles an update from its batch to its gradients, with torch's inductor; the optimiser is fused already.

    Together, because a penalty that differentiates twice is one graph with its gradients, which networks that are
    compiled on their own refuse. Random numbers are those of `Eager`.
    """

    notes = ("engine.compile: torch compiles the first update of each kind, for half a minute or more",)
    backend: ClassVar[str] = "inductor"
    _graph: Any = None

    def learn(self, update: Update, batches: Batches, fakes: Mapping[str, Fakes] = MappingProxyType({})) -> Outcome:
        """Add the gradients of this update's objective. Raises ConfigError for what torch cannot compile."""
        import torch._dynamo as dynamo  # takes half a second to import, which other runs need not wait for

        if self._graph is None:
            logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # warns where there is no GPU
            options: dict[str, Any] | None = {"fallback_random": True} if self.backend == "inductor" else None
            self._graph = torch.compile(super().learn, fullgraph=True, backend=self.backend, options=options)
        with dynamo.config.patch(trace_autograd_ops=True, recompile_limit=GRAPHS):
            try:
                outcome: Outcome = self._graph(update, batches, dict(fakes))
            except (dynamo.exc.TorchDynamoException, torch._inductor.exc.InductorError, AssertionError) as error:
                raise refusal(error) from error
        return outcome


def refusal(error: Exception) -> ConfigError:
    """The error for an update that cannot be compiled, with the first line of torch's reason."""
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return ConfigError("engine.compile", f"true, and this run cannot be compiled ({reason})", "false")
