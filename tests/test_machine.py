"""Which arithmetic is fast here, read from what the processor says of itself; optimisers that import no compiler."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from properties import check_compiles
from support import tiny

from ganrun import machine
from ganrun.machine import computes_in_bf16

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
    assert computes_in_bf16("auto", CPU, 32) is faster
    assert computes_in_bf16("auto", CPU, 1) is False  # points are no images
    assert computes_in_bf16("bf16", CPU, 32) is True
    assert computes_in_bf16("fp32", CPU, 32) is False


def test_this_machine_has_a_name() -> None:
    assert machine.processor_name().strip()


# Optimisers without the compiler


CODE = """
import sys, torch
from torch import nn
from ganrun.machine import spare_compiler
kind = getattr(torch.optim, sys.argv[1])
spare_compiler(kind)
def trained(steps):
    net = nn.Linear(3, 2)
    nn.init.ones_(net.weight)
    optimizer = kind(net.parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        net(torch.ones(4, 3)).square().sum().backward()
        optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())
    return net.weight.detach().clone()
torch.manual_seed(0)
before = trained(2)
assert torch.is_grad_enabled()
assert "torch._dynamo" not in sys.modules, "the compiler was imported"
import torch._dynamo
torch.manual_seed(0)
assert torch.equal(trained(2), before), "with the compiler it is the method itself"
"""


OTHERS = [pytest.param(name, marks=pytest.mark.slow) for name in ("SGD", "AdamW", "RMSprop", "NAdam", "Adadelta")]


@pytest.mark.parametrize("optimizer", ["Adam", *OTHERS])
def test_an_optimiser_steps_without_the_compiler(optimizer: str) -> None:
    done = subprocess.run([sys.executable, "-c", CODE, optimizer], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


class Own(torch.optim.SGD):
    """An optimiser of a user's, whose step another version of torch could have written."""

    def step(self, closure: object = None) -> None:  # type: ignore[override]
        """No import of the compiler in it."""


def test_methods_that_do_not_import_the_compiler_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    step = vars(Own)["step"]
    monkeypatch.delitem(sys.modules, "torch._dynamo", raising=False)
    monkeypatch.setattr(torch.optim.Optimizer, "zero_grad", lambda self: None)
    zero_grad = vars(torch.optim.Optimizer)["zero_grad"]
    machine.spare_compiler(Own)
    assert vars(Own)["step"] is step and vars(torch.optim.Optimizer)["zero_grad"] is zero_grad


@pytest.mark.slow
def test_an_update_compiles_after_the_compiler_was_spared() -> None:
    """And so does an optimiser's step."""
    machine.spare_compiler(torch.optim.SGD)
    check_compiles(tiny())
    net, optimizer = torch.nn.Linear(2, 1), None
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    net.weight.grad, net.bias.grad = torch.ones(1, 2), torch.ones(1)
    before = net.weight.detach().clone()
    torch.compile(optimizer.step, backend="eager")()
    assert torch.equal(net.weight.detach(), before - 0.5)
