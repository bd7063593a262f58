"""engine.compile: updates that are compiled are those that are not, or are refused with the reason."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from support import SIZES, build, built, composed, everything, family, host, host_of_loss, tiny

from ganrun.config.build import Run
from ganrun.config.engines import COMPILERS
from ganrun.core.compiled import Compiled
from ganrun.core.context import Progress
from ganrun.core.engine import Eager, chain_of
from ganrun.core.errors import ConfigError
from ganrun.core.seeding import reseed
from ganrun.core.trick import Trick

FRESH, COMPILE = "updates.share_fakes=false", "engine.compile=true"
STEADY = ("+optim.generator.eps=0.01", "+optim.discriminator.eps=0.01")  # at 1e-8 Adam turns rounding into steps
needs_a_compiler = pytest.mark.skipif(not any(map(shutil.which, COMPILERS)), reason="no C++ compiler")


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Updates are traced whole and differentiated ahead of time, as for the compiler, and then run by torch itself."""
    monkeypatch.setattr(Compiled, "backend", "aot_eager")
    monkeypatch.setattr("ganrun.config.engines.COMPILERS", (sys.executable,))  # none is called
    yield
    torch._dynamo.reset()


def trained(overrides: tuple[str, ...], steps: int = 2, nudge: float = 0.0) -> tuple[Run, list[torch.Tensor]]:
    """A run after some steps, and what each of its updates measured; each weight may be changed by a share of it."""
    run, values = build(composed(*overrides)), []
    noise = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in run.game.parameters() if nudge else ():
            weight.mul_(1 + nudge * torch.randn(weight.shape, generator=noise).to(weight.device))
    for step in range(steps):
        reseed(0, "train", step=step)
        run.engine.begin(Progress(step, step * run.game.shape.images))
        for update in run.updates(run.game, step):
            results = run.engine.run(update, [run.data.draw(run.game.wanted(one)) for one in chain_of(update)])
            values += [result.values for result in results]
    return run, values


def compare(overrides: tuple[str, ...], tolerance: float) -> None:
    """Train this run compiled and not; all that they measure and hold is equal."""
    overrides = (*overrides, *(() if any("share_fakes" in one for one in overrides) else (FRESH,)))
    (plain, expected), (compiled, found) = trained(overrides), trained((*overrides, COMPILE))
    assert type(plain.engine) is Eager and type(compiled.engine) is Compiled and len(found) == len(expected) >= 3
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(everything(compiled), everything(plain), rtol=tolerance, atol=tolerance)


FEW = {("tricks", "r1"), ("tricks", "replay"), ("loss", "relativistic"), ("model", "dcgan")}
FAMILY = [
    pytest.param(kind, name, marks=[] if (kind, name) in FEW else pytest.mark.slow)
    for kind, names in (("tricks", family("tricks")), ("loss", family("loss")), ("model", SIZES))
    for name in names
]


@pytest.mark.parametrize(("kind", "name"), FAMILY)
def test_every_part_is_traced_whole(kind: str, name: str, traced: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """One graph without a break, double backward and random draws too, and what it is without."""
    if name == "weight_norm":  # what stands for the compiler makes a view there that cannot be
        monkeypatch.setattr(Compiled, "backend", "inductor")
    found = {"tricks": host, "loss": host_of_loss, "model": lambda model: tiny(model=model)}[kind](name)
    assert isinstance(found, tuple), found
    compare((*found, *(STEADY[:1] if name == "sgd_discriminator" else STEADY)), 1e-5)


def test_the_family_is_whole() -> None:
    assert {parameter.values for parameter in FAMILY} >= FEW and len(FAMILY) > 90


def test_a_step_is_traced_once(traced: None) -> None:
    """Nothing that changes from step to step is compiled into the graph: two players, two graphs."""
    overrides = tiny(
        "loss=wasserstein", "model.discriminator.norm=none", tricks=["gp", "instance_noise", "ema", "lr_decay"]
    )
    torch._dynamo.utils.counters.clear()
    trained((*overrides, FRESH, COMPILE), steps=5)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2


@needs_a_compiler
def test_the_compiler_itself() -> None:
    """Machine code: equal to rounding. Points, as their networks are compiled soonest."""
    overrides = ("experiment=toys_wgan_gp", "batch=16", "model.generator.hidden=[8]", "model.discriminator.hidden=[8]")
    small = (*overrides, *STEADY, "dataset.size=1000", "metrics=none", "diagnosis=none")
    compare(small, 1e-5)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "engine.compile: true, and D's update shares its fakes with G's.*Try: updates.share_fakes=false"),
        ([FRESH, "engine.ranks=2"], "engine.compile: true, and 2 processes.*Try: engine.ranks=1"),
    ],
)
def test_what_cannot_be_compiled_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        built(*overrides, COMPILE)


def test_a_machine_without_a_compiler_is_told_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(ConfigError, match=r"no C\+\+ compiler \(g\+\+, clang\+\+, c\+\+\).*Try: engine.compile=false"):
        built(FRESH, COMPILE)
    monkeypatch.setenv("CXX", "my-compiler")
    with pytest.raises(ConfigError, match=r"no C\+\+ compiler \(my-compiler\)"):
        built(FRESH, COMPILE)


def test_generated_code_that_finds_itself_wrong_is_told_in_one_line() -> None:
    """As torch 2.11 does on a GPU, of strides of its own kernels: at run time, by an assertion."""

    def fails(*args: Any) -> None:
        raise AssertionError("expected size 32==32, stride 256==1 at dim=1\nError in op: convolution")

    run: Any = built(FRESH, COMPILE)
    run.engine._graph = fails
    (update, *_) = run.updates(run.game, 0)
    with pytest.raises(ConfigError, match=r"cannot be compiled \(expected size 32==32, stride 256==1 at dim=1\)"):
        run.engine.run(update, [run.data.draw(run.game.wanted(update))])


class Waits(Trick):
    """Asks the device for a number in the midst of an update."""

    def view(self, images: torch.Tensor) -> torch.Tensor:
        return images * 2 if images.sum().item() > 0 else images


def test_a_part_that_cannot_be_traced_is_named_in_one_line(traced: None, monkeypatch: pytest.MonkeyPatch) -> None:
    run: Any = built(FRESH, COMPILE, tricks=["instance_noise"])
    monkeypatch.setattr(type(run.game.pairs["main"].tricks["instance_noise"]), "view", Waits.view)
    (update, *_) = run.updates(run.game, 0)
    run.engine.begin(Progress())
    with pytest.raises(ConfigError, match=r"engine.compile: true, and this run cannot be compiled \(.*\)") as refused:
        run.engine.run(update, [run.data.draw(run.game.wanted(update))])
    (line,) = refused.value.lines
    assert line.endswith(", expected false") and "\n" not in line
