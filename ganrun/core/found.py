"""What is found in a network once: walking its modules at every step costs more than many a trick."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from torch import Tensor, nn

T = TypeVar("T")


class Found(Generic[T]):
    """The result of a search through a network's modules, kept until it is asked of another network.

    The search must return what stays in place, such as parameters. A copy of this searches the network of its own.
    """

    def __init__(self, search: Callable[[nn.Module], T]):
        self._search = search
        self._of: tuple[nn.Module, T] | None = None

    def __call__(self, net: nn.Module) -> T:
        """What the search finds in this network."""
        if self._of is None or self._of[0] is not net:
            self._of = net, self._search(net)
        return self._of[1]

    def __deepcopy__(self, memo: dict) -> Found[T]:
        return Found(self._search)


def parameters(net: nn.Module) -> list[Tensor]:
    """The parameters of a network in its order. [N, ...] each"""
    return list(net.parameters())


def buffers(net: nn.Module) -> list[Tensor]:
    """The buffers of a network in its order. [N, ...] each"""
    return list(net.buffers())


def modules(net: nn.Module) -> list[nn.Module]:
    """The modules of a network in depth order, itself first."""
    return list(net.modules())
