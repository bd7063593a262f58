"""What processes that train together exchange: sums of tensors, differentiable as often as wanted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ganrun.core.errors import EnvironmentFailed


class ProcessLost(EnvironmentFailed):
    """Another process of this run has ended, or cannot be reached."""


@contextmanager
def _reached() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError) as error:  # ValueError: there is no group any more
        raise ProcessLost(f"another process of this run has ended ({str(error).splitlines()[0][:120]})") from error


_counted: ContextVar[list[int] | None] = ContextVar("counted", default=None)


@contextmanager
def counted() -> Iterator[list[int]]:
    """Within, nothing is exchanged: the bytes of each tensor that would be are listed."""
    sizes: list[int] = []
    before = _counted.set(sizes)
    try:
        yield sizes
    finally:
        _counted.reset(before)


def sum_in_place(values: Tensor) -> Tensor:
    """The sum over all processes of values shaped alike, in place. Raises ProcessLost. [N, ...] -> [N, ...]"""
    if (sizes := _counted.get()) is not None:
        sizes.append(values.nbytes)
        return values
    with _reached():
        dist.all_reduce(values)
    return values


def largest_of_all(values: Tensor) -> Tensor:
    """The largest over all processes, in place, on the host. Raises ProcessLost. [] -> []"""
    with _reached():
        dist.all_reduce(values, op=dist.ReduceOp.MAX)
    return values


class Sum(torch.autograd.Function):
    """The sum over all processes. The slope of the sum of all their losses is again a sum over all processes."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        """[N, ...] -> [N, ...]."""
        return sum_in_place(values.detach().contiguous().clone())

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        """[N, ...] -> [N, ...]."""
        summed: Tensor = Sum.apply(slope)
        return summed


@torch.no_grad()
def average(groups: Sequence[Sequence[Tensor]], world: int) -> None:
    """Replace tensors [N, ...] by their means over all processes, in place, in one exchange. Raises ProcessLost."""
    tensors = [tensor for group in groups for tensor in group]
    flat = sum_in_place(torch.cat([tensor.reshape(-1).float() for tensor in tensors])).div_(world)
    pieces = flat.split([tensor.numel() for tensor in tensors])
    torch._foreach_copy_(tensors, [piece.view(tensor.shape) for piece, tensor in zip(pieces, tensors, strict=True)])
