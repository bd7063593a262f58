"""What this machine's processor is good at."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

CPUINFO = Path("/proc/cpuinfo")


def name() -> str:
    """What the processor calls itself."""
    return _field("model name") or platform.processor() or platform.machine()


def multiplies_bf16_faster() -> bool:
    """Whether networks run faster in bf16 than in fp32.

    AMX does, and AVX512-BF16 on AMD's processors. Intel's without AMX, or where a virtual machine hides it, have the
    instructions and gain nothing: a DCGAN of 32x32 ran at 0.8 of its speed in fp32.
    """
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    return torch.cpu._is_amx_tile_supported() or _field("vendor_id") != "GenuineIntel"


def _field(key: str) -> str:
    """The first value under this key of what Linux says of its processors; empty elsewhere."""
    lines = CPUINFO.read_text().splitlines() if CPUINFO.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")
