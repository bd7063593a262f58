"""Which arithmetic is fast here, read from what the processor says of itself."""

from pathlib import Path

import pytest
import torch

from ganrun import machine

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("vendor", "instructions", "tiles", "faster"),
    [
        ("GenuineIntel", True, True, True),
        ("GenuineIntel", True, False, False),
        ("AuthenticAMD", True, False, True),
        ("AuthenticAMD", False, False, False),
        ("", True, False, True),  # not Linux: PyTorch's word
    ],
)
def test_bf16_is_taken_where_it_is_faster(monkeypatch, tmp_path: Path, vendor, instructions, tiles, faster) -> None:
    """What the hardware answers is set by hand: no machine has all these processors."""
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nvendor_id\t: {vendor}\nmodel name\t: A processor\n\nprocessor\t: 1\n")
    monkeypatch.setattr(machine, "CPUINFO", cpuinfo)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: instructions)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: tiles)
    assert machine.multiplies_bf16_faster() is faster
    assert machine.processor_name() == "A processor"
    assert machine.computes_in_bf16("auto", CPU, 32) is faster
    assert machine.computes_in_bf16("auto", CPU, 1) is False  # points are no images
    assert machine.computes_in_bf16("bf16", CPU, 32) is True
    assert machine.computes_in_bf16("fp32", CPU, 32) is False


def test_this_machine_has_a_name() -> None:
    assert machine.processor_name().strip()
