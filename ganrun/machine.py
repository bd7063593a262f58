"""What this machine is and can do: processor, allocator, device and precision. Knows nothing of GANs."""

from __future__ import annotations

import ctypes
import platform
import resource
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import torch

from ganrun.core.errors import ConfigError

CPUINFO = Path("/proc/cpuinfo")
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
BIG = 2**31 - 1  # bytes; mallopt takes an int
COMPILER = "torch._dynamo"


def processor_name() -> str:
    """The processor's model name."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def device_name(device: torch.device) -> str:
    """The model name of what computes: of a GPU, or of the processor."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else processor_name()


def multiplies_bf16_faster() -> bool:
    """Whether networks run faster in bf16 than in fp32 on this processor.

    AMX does, and AVX512-BF16 on AMD's processors. Intel's without AMX, or where a virtual machine hides it, have the
    instructions and gain nothing: a DCGAN of 32x32 ran at 0.8 of its speed in fp32.
    """
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    return torch.cpu._is_amx_tile_supported() or _cpuinfo("vendor_id") != "GenuineIntel"


def _cpuinfo(key: str) -> str:
    """The first value under this key of Linux's list of processors; empty elsewhere."""
    lines = CPUINFO.read_text().splitlines() if CPUINFO.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")


def keep_big_blocks() -> bool:
    """Let glibc serve blocks of any size from the heap and return none to the system; elsewhere nothing happens.

    Without it every step pays page faults for its activations: 22 % of a DCGAN's step at 32x32.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, BIG)) and bool(mallopt(M_TRIM_THRESHOLD, BIG))


def spare_compiler(kind: type[torch.optim.Optimizer]) -> None:
    """Let optimisers of this class work without `torch._dynamo`: its import takes seconds, and only compiling needs it.

    PyTorch 2.11 to 2.15 import it whenever these methods are called, to tell the compiler to leave them out. Each is
    replaced by one that calls what it wraps for as long as nothing else has imported the compiler, and the method
    itself from then on. A method that another version of PyTorch writes otherwise stays as it is.
    """
    for name in ("add_param_group", "zero_grad", "state_dict", "load_state_dict", "step"):
        owner = next((base for base in kind.__mro__ if name in vars(base)), object)
        method = vars(owner).get(name)
        code, plain = getattr(method, "__code__", None), getattr(method, "__wrapped__", None)
        if plain is not None and code is not None and COMPILER in code.co_names and COMPILER not in sys.modules:
            setattr(owner, name, _without_compiler(method, plain, is_step=name == "step"))


def _without_compiler(method: Any, plain: Callable[..., Any], *, is_step: bool) -> Callable[..., Any]:
    """`method`, or what it wraps while the compiler is not imported; a step sets the gradient mode as `method` does."""

    @wraps(method)
    def call(self: torch.optim.Optimizer, *args: Any, **kwargs: Any) -> Any:
        if COMPILER in sys.modules:
            return method(self, *args, **kwargs)
        with torch.set_grad_enabled(self.defaults["differentiable"] if is_step else torch.is_grad_enabled()):
            return plain(self, *args, **kwargs)

    return call


def find_device(name: str) -> torch.device:
    """The device of this name: `auto` takes a GPU when there is one. Raises ConfigError when it does not exist."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError("engine.device", repr(name), "auto, cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise ConfigError("engine.device", repr(name), "auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = f"{name}, but PyTorch sees {torch.cuda.device_count()} CUDA devices"
        raise ConfigError("engine.device", found, "a device that is there", "engine.device=cpu")
    return device


def computes_in_bf16(precision: str, device: torch.device, resolution: int) -> bool:
    """Whether updates run under bf16 autocast. `auto`: where that is faster, for images of more than one pixel.

    Raises ConfigError for a precision other than auto, bf16 and fp32.
    """
    if precision not in ("auto", "bf16", "fp32"):
        raise ConfigError("engine.precision", repr(precision), "auto, bf16 or fp32")
    if precision != "auto":
        return precision == "bf16"
    faster = torch.cuda.is_bf16_supported() if device.type == "cuda" else multiplies_bf16_faster()
    return faster and resolution > 1


def peak_memory(device: torch.device) -> int:
    """The most bytes that this process has had at once: of a GPU's memory by tensors, else of the machine's in all."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
