"""One update in several processes: each has a block of the batch, and draws and statistics are those of the whole.

Parts are written as for one process. What they draw has a row for each image, or none: every process draws the rows of
all images, from the same seed, and keeps its own. What looks at more than one image asks for `mean`, `total`, `whole`
or `on_the_whole`; with one process these do nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ganrun.core.collective import Sum
from ganrun.core.errors import ConfigError
from ganrun.core.ranks import Rank

SIZES = (torch.rand, torch.randn, torch.randint)
LIKE = (torch.rand_like, torch.randn_like, torch.randint_like)
IN_PLACE = (Tensor.uniform_, Tensor.normal_, Tensor.random_, Tensor.exponential_)
REFUSED = (torch.randperm, torch.multinomial, torch.bernoulli, torch.normal, torch.poisson, Tensor.bernoulli_,
           F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout, F.rrelu)  # fmt: skip


class Shared(TorchFunctionMode):
    """What torch draws in here, a row for each image, is this process's part of what one process would draw.

    A number of rows that is a multiple of the images counts as that many batches behind each other. With `norms`,
    batch norm takes the statistics of the whole batch.
    """

    def __init__(self, rank: Rank, images: int, *, norms: bool):
        """`images` are those of this process."""
        super().__init__()
        self.rank, self.images, self.norms = rank, images, norms
        self.apart = False  # whether draws are those of all processes alike

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call one of torch's functions, or what stands for it here. Raises ConfigError for what cannot be shared."""
        kwargs = kwargs or {}
        if func in (F.batch_norm, torch.batch_norm) and self.norms:
            return batch_norm(func, *args, **kwargs)
        if self.apart or kwargs.get("generator") is not None:
            return func(*args, **kwargs)
        if func in SIZES:
            return self._sized(func, args, kwargs)
        if func in LIKE and args[0].dim():
            return self._mine(func(self._all(args[0]), *args[1:], **kwargs), len(args[0]))
        if func in IN_PLACE and args[0].dim():
            drawn = func(self._all(args[0]), *args[1:], **kwargs)
            return args[0].copy_(self._mine(drawn, len(args[0])))
        if func is F.dropout:
            return self._dropout(*args, **kwargs)
        if func in REFUSED:
            found = f"{self.rank.world}, and a part draws with torch's {func.__name__}, which cannot be shared out"
            raise ConfigError("engine.ranks", found, "parts that draw with rand, randn or randint", "engine.ranks=1")
        return func(*args, **kwargs)

    def _sized(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """Numbers of a given size, which comes last, as one argument or several."""
        kwargs, before, size = dict(kwargs), args, kwargs.pop("size", None)
        if size is None and func is torch.randint:
            before, size = args[:-1], args[-1]
        elif size is None:
            before, size = (), args[0] if args and not isinstance(args[0], int) else args
        size = tuple(size)
        if not size:
            drawn: Tensor = func(*before, size, **kwargs)
            return drawn
        return self._mine(func(*before, (size[0] * self.rank.world, *size[1:]), **kwargs), size[0])

    def _dropout(self, values: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        if not training or not p or not values.dim():
            return F.dropout(values, p, training, inplace)
        kept = F.dropout(self._all(values).fill_(1), p)
        return values * self._mine(kept, len(values))

    def _all(self, values: Tensor) -> Tensor:
        """New memory for the rows of all processes, in the order in which these values lie. [b, ...] -> [B, ...]"""
        shape = [len(values) * self.rank.world, *values.shape[1:]]
        strides = torch.empty_like(values).stride()  # of dense memory, where these values are not
        order = sorted(range(values.dim()), key=lambda axis: -strides[axis])
        memory = values.detach().new_empty([shape[axis] for axis in order])
        return memory.permute([order.index(axis) for axis in range(values.dim())])

    def _mine(self, drawn: Tensor, rows: int) -> Tensor:
        """The rows of this process. [B, ...] -> [b, ...]"""
        blocks = rows // self.images if rows and rows % self.images == 0 else 1
        parted = drawn.unflatten(0, (blocks, self.rank.world, rows // blocks))
        return parted[:, self.rank.number].flatten(0, 1)


_open: list[Shared] = []  # the innermost is last; a list, as torch traces through no ContextVar


def _now() -> Shared | None:
    return _open[-1] if _open else None


@contextmanager
def sharing(rank: Rank, images: int, *, norms: bool) -> Iterator[None]:
    """Within, parts compute this process's share of an update, `images` of its images."""
    if rank.world == 1:
        yield
        return
    with Shared(rank, images, norms=norms) as mode:
        _open.append(mode)
        try:
            yield
        finally:
            _open.pop()


def mean(values: Tensor) -> Tensor:
    """The mean over all processes of what each has, differentiable: of means, that of the batch. [N, ...] or []"""
    mode = _now()
    return values if mode is None else _summed(values) / mode.rank.world


def total(values: Tensor) -> Tensor:
    """The sum over all processes of what each has, differentiable. [N, ...] or [] -> the same"""
    return values if _now() is None else _summed(values)


def processes() -> int:
    """How many processes share this update."""
    mode = _now()
    return 1 if mode is None else mode.rank.world


def whole(values: Tensor) -> Tensor:
    """The rows of all processes in the order of their images, differentiable. [b, ...] -> [B, ...]"""
    mode = _now()
    if mode is None:
        return values
    blocks = [torch.zeros_like(values)] * mode.rank.world
    blocks[mode.rank.number] = values
    return _summed(torch.cat(blocks))


def mine(values: Tensor) -> Tensor:
    """Of the rows of all processes those of this one, [B, ...] -> [b, ...]. Raises ConfigError for an odd number."""
    mode = _now()
    if mode is None:
        return values
    share, rest = divmod(len(values), mode.rank.world)
    if rest:
        found = f"{mode.rank.world}, which do not divide the {len(values)} images that a part of this run looks at"
        raise ConfigError("engine.ranks", found, "a number that does", "engine.ranks=1")
    return values.narrow(0, mode.rank.number * share, share)


@contextmanager
def apart() -> Iterator[None]:
    """Within, every process draws the same numbers: those of the whole batch."""
    mode = _now()
    if mode is None:
        yield
        return
    before, mode.apart = mode.apart, True
    try:
        yield
    finally:
        mode.apart = before


def on_the_whole(function: Callable[[Sequence[Tensor]], Sequence[Tensor]], given: Sequence[Tensor]) -> list[Tensor]:
    """What a function makes of the rows of all processes, of which this one keeps its own. [b, ...] each

    Every process computes it, with the same random numbers.
    """
    if _now() is None:
        return list(function(given))
    gathered = [whole(one) for one in given]
    with apart():
        return [mine(one) for one in function(gathered)]


def _summed(values: Tensor) -> Tensor:
    """The sum over all processes: in float32 at least, but for whole numbers. [...] -> [...]"""
    if values.is_floating_point() and values.element_size() < 4:
        return _summed(values.float()).to(values.dtype)
    if torch.is_grad_enabled() and values.requires_grad:
        summed: Tensor = Sum.apply(values)
        return summed
    return Sum.forward(None, values)


def batch_norm(func: Any, values: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Batch norm by the statistics of the whole batch, in float32. Ioffe & Szegedy 2015. [B, C, ...] -> the same

    Takes what `torch.nn.functional.batch_norm` or `torch.batch_norm` takes.
    """
    names: tuple[str, ...] = ("running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
    if func is torch.batch_norm:
        names = ("weight", "bias", "running_mean", "running_var", "training", "momentum", "eps", "cudnn_enabled")
    given = {"training": False, "momentum": 0.1, "eps": 1e-5} | dict(zip(names, args, strict=False)) | kwargs
    if not given["training"]:
        normal: Tensor = func(values, *args, **kwargs)
        return normal
    with torch.autocast(values.device.type, enabled=False):
        x = values.float()
        axes, shape = [0, *range(2, x.dim())], (1, -1, *[1] * (x.dim() - 2))
        own = torch.stack([x.mean(axes), x.var(axes, unbiased=False)])
        means, variances = whole(own[None]).unbind(1)  # [processes, C] each
        middle = means.mean(0)
        variance = variances.mean(0) + means.var(0, unbiased=False)
        _remember(given, middle, variance, processes() * x.numel() // x.shape[1])
        normal = (x - middle.view(shape)) * torch.rsqrt(variance + given["eps"]).view(shape)
        if given.get("weight") is not None:
            normal = normal * given["weight"].view(shape) + given["bias"].view(shape)
        return normal.to(values.dtype)


@torch.no_grad()
def _remember(given: dict[str, Any], mean: Tensor, variance: Tensor, count: int) -> None:
    """Move the running statistics, the variance as that of a sample of `count` numbers. [C] each"""
    if given.get("running_mean") is None:
        return
    given["running_mean"].lerp_(mean, given["momentum"])
    given["running_var"].lerp_(variance * (count / max(count - 1, 1)), given["momentum"])
