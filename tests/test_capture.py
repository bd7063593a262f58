"""engine.capture: updates that are recorded and replayed are those that are not, or are refused with the reason.

`scripts/test -m gpu tests/test_capture.py` where there is a GPU; that no part waits for the host and that all that an
update reads and writes stays where it is holds on a CPU too, for which test_families.py looks.
"""

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import properties
import pytest
import torch
import torch.nn.functional as F
from support import build, built, composed, everything, pair_in, play, progress, tiny
from test_compile import COMPILE, FRESH, STEADY, trained
from test_meta import EVERYTHING, overrides_of
from torch.utils._pytree import tree_leaves

from ganrun.config.build import Run
from ganrun.config.engines import engine_of
from ganrun.core.captured import KINDS, WARM_UP, Captured, CapturedCompiled, Held, copied, forget_oldest
from ganrun.core.compiled import Compiled
from ganrun.core.context import Observed, Update, UpdateResult
from ganrun.core.engine import Eager, Player
from ganrun.core.errors import ConfigError
from ganrun.core.ranks import ALONE, Rank
from ganrun.core.schedule import Constant
from ganrun.core.trick import Trick
from ganrun.run.state import restore, state_of

CAPTURE, EAGER = "engine.capture=true", "engine.capture=false"
STEPS = WARM_UP + 9  # the fourth of a kind records; it and those after it are replayed
WITH_EPS = {"sgd_discriminator": 1, "gan": 0}  # players whose optimiser has it, where SGD trains one or both
NUDGE = 1e-7  # of each weight: a rounding of float32
Trained = tuple[Run, list[torch.Tensor]]
CASES = [pytest.param(*one, id="-".join(one)) for one in EVERYTHING]


def on_gpu(*overrides: str) -> tuple[str, ...]:
    """Overrides of a run on a GPU, in float32 and with an optimiser that does not turn rounding into steps."""
    theirs = (one for one in overrides if not one.startswith(("engine.device", "engine.precision")))
    return (*theirs, "engine.device=cuda", "engine.precision=fp32")


def steady_of(kind: str, name: str) -> tuple[str, ...]:
    """Overrides of a run with this part and an optimiser that does not turn rounding into steps."""
    return (*overrides_of(kind, name), *(f"+{one}" for one in STEADY[: WITH_EPS.get(name, 2)]))


def assert_alike(found: Trained, expected: Trained) -> None:
    """What two runs measured, and hold at the end, is the same to 1e-4 of 1."""
    assert len(found[1]) == len(expected[1]) > WARM_UP
    for i, (one, other) in enumerate(zip(found[1], expected[1], strict=True)):
        assert gap(one, other) <= 1e-4, f"measure {i}: {gap(one, other)}, beyond 1e-4"
    held = [on_host(run) for run, _ in (found, expected)]
    assert held[0].keys() == held[1].keys()
    for name, value in held[1].items():
        assert gap(held[0][name], value) <= 1e-4, f"{name}: {gap(held[0][name], value)}, beyond 1e-4"


def gap(one: torch.Tensor, other: torch.Tensor) -> float:
    """The largest difference, as a share of 1 or of the number itself. [N, ...] twice"""
    if not other.numel():
        return 0.0
    one, other = one.double(), other.double()
    return ((one - other).abs() / other.abs().clamp_min(1)).max().item()


def on_host(run: Run) -> dict[str, torch.Tensor]:
    """Every tensor of a run: counts of an optimiser lie on the device only where updates are recorded."""
    return {name: value.cpu() for name, value in everything(run).items()}


@contextmanager
def repeatable() -> Iterator[None]:
    """Convolutions and products are those of float32, and sum in the same order each time; rounding turns no unit on.

    At the kink of a ReLU, or of a distance, it would: of 1e-7 of the weights `experiment=hinge` makes 0.3 of what it
    measures in 12 steps, and without kinks 1e-6.
    """
    cudnn, before = torch.backends.cudnn, torch.are_deterministic_algorithms_enabled()
    with (
        cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
        mock.patch.object(F, "leaky_relu", smooth_leaky_relu),
        mock.patch.object(F, "relu", smooth_relu),
        mock.patch.object(F, "l1_loss", F.smooth_l1_loss),
    ):
        torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before)


def smooth_relu(values: torch.Tensor, inplace: bool = False) -> torch.Tensor:
    """ReLU without its kink. [...] -> [...]"""
    return F.silu(values)


def smooth_leaky_relu(values: torch.Tensor, slope: float = 0.01, inplace: bool = False) -> torch.Tensor:
    """Leaky ReLU without its kink. [...] -> [...]"""
    return slope * values + (1 - slope) * F.silu(values)


@pytest.mark.gpu
@pytest.mark.parametrize(("kind", "name"), CASES)
def test_every_part_is_replayed_as_it_is_computed(kind: str, name: str) -> None:
    """Every trick, loss, model and experiment, with the game it needs; random numbers are the same too."""
    overrides = on_gpu(*steady_of(kind, name))
    with repeatable():
        plain, captured = (trained((*overrides, one), STEPS) for one in (EAGER, CAPTURE))
    assert type(captured[0].engine) is Captured and captured[0].engine.replays >= 1
    assert_alike(captured, plain)


@pytest.mark.parametrize("name", ["hinge", "wgan_gp"])
def test_rounding_is_told_from_another_computation(name: str) -> None:
    """What a GPU is compared by, on a CPU: weights that differ by a rounding, and another rate."""
    theirs = (one for one in steady_of("experiment", name) if not one.startswith("engine.precision"))
    overrides = (*theirs, "engine.precision=fp32")  # some CPUs would take bf16, whose rounding is larger
    with repeatable():
        plain, rounded = (trained(overrides, STEPS, nudge=nudge) for nudge in (0.0, NUDGE))
        other = trained((*overrides, "optim.generator.lr=1e-3"), STEPS)
    assert_alike(rounded, plain)
    with pytest.raises(AssertionError, match="beyond"):
        assert_alike(other, plain)


@pytest.mark.gpu
def test_a_state_that_is_put_back_is_recorded_anew() -> None:
    """As after a rollback: the optimisers' state lies elsewhere, and nothing writes where it was."""
    overrides = on_gpu(*tiny(tricks=["ema"]), *STEADY)
    with repeatable():
        plain, captured = (build(composed(*overrides, one)) for one in (EAGER, CAPTURE))
        for run in (plain, captured):
            play(run, 0, STEPS)
            saved = properties.round_trip(state_of(run, progress(run, STEPS)))
            play(run, STEPS, STEPS + 2)
            restore(run, saved, "test")
            play(run, STEPS, 2 * STEPS)
    torch.testing.assert_close(on_host(captured), on_host(plain), rtol=1e-4, atol=1e-4)


@pytest.mark.gpu
def test_compiled_updates_are_recorded_too() -> None:
    overrides = on_gpu(*tiny(), *STEADY, FRESH)
    with repeatable():
        (_, expected), (both, found) = (
            trained((*overrides, EAGER), STEPS),
            trained((*overrides, COMPILE, CAPTURE), STEPS),
        )
    assert type(both.engine) is CapturedCompiled and both.engine.replays > 0
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.gpu
def test_it_is_what_a_gpu_does_unless_told_otherwise() -> None:
    def engine(*more: str) -> type:
        return type(build(composed(*(one for one in tiny() if not one.startswith("engine.device")), *more)).engine)

    assert engine("engine.device=cuda") is Captured and engine("engine.device=cpu") is Eager
    assert engine("engine.device=cuda", EAGER) is Eager
    assert engine("engine.device=cuda", COMPILE, FRESH) is Compiled


@pytest.mark.gpu
def test_numbers_that_follow_the_step_are_followed() -> None:
    """A rate and a weight by tensors, betas by steps between two graphs, a share of the batch by graphs of its own."""
    falling = "{_target_: ganrun.core.schedule.Linear, start: 1.0, end: 0.1, steps: 10}"
    betas = "[{_target_: ganrun.core.schedule.Linear, start: 0.5, end: 0.9, steps: 10},0.99]"
    numbers = (f"optim.decay={falling}", f"tricks.instance_noise.sigma={falling}", f"optim.generator.betas={betas}")
    share = ("tricks.top_k.interval=6", "tricks.top_k.decay=0.5", "tricks.top_k.floor=0.5")  # all six steps, then half
    overrides = on_gpu(*tiny(*numbers, *share, tricks=["instance_noise", "top_k", "ema"]), *STEADY)
    with repeatable():
        (_, expected), (captured, found) = (trained((*overrides, one), STEPS) for one in (EAGER, CAPTURE))
    assert captured.engine.replays == 2 * (6 - WARM_UP)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


FAILS = """
import torch
from support import build, composed, play
from test_capture import CAPTURE, Waits, on_gpu, tiny
from ganrun.core.captured import WARM_UP

run = build(composed(*on_gpu(*tiny(tricks=["instance_noise"])), CAPTURE))
type(run.game.pairs["main"].tricks["instance_noise"]).view = Waits.view
play(run, 0, WARM_UP)
print("warm", flush=True)
play(run, WARM_UP, WARM_UP + 1)
"""


class Waits(Trick):
    """Asks the device for a number in the midst of an update."""

    def view(self, images: torch.Tensor) -> torch.Tensor:
        return images * 2 if images.sum().item() > 0 else images


@pytest.mark.gpu
def test_an_update_that_waits_for_the_host_is_named_in_one_line() -> None:
    """In a process of its own, as what fails so leaves the device's generator in the midst of it."""
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", FAILS],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "warm\n", done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "ConfigError: engine.capture" in line]
    assert re.search(r"engine.capture: an update of \w+ cannot be recorded \(.*\), expected false", line)


def test_numbers_of_a_part_tell_kinds_of_updates_apart() -> None:
    """What an update reads from the host and what is on the device: the share of a batch, and no scheduled weight."""
    run = built(tricks=["top_k", "instance_noise"])
    held, tricks = Held(run.game), pair_in(run).tricks
    assert tricks["top_k"] in held.parts and tricks["instance_noise"].sigma not in held.parts
    assert run.game in held.parts and not [part for part in held.parts if type(part).__module__.startswith("torch")]
    before = held.key()
    tricks["instance_noise"].sigma.turn(3)
    assert held.key() == before
    tricks["top_k"].share = 0.5
    assert held.key() != before


def test_a_tensor_that_is_replaced_makes_another_kind() -> None:
    """As a trick of the user's may do; one that is written to stays the same."""
    run = built(tricks=["instance_noise"])
    held, trick = Held(run.game), pair_in(run).tricks["instance_noise"]
    trick.register_buffer("seen", torch.zeros(3))
    trick.kept = torch.zeros(2)
    before = held.key()
    trick.seen.add_(1)
    trick.kept.add_(1)
    assert held.key() == before
    keys = {before}
    for name in ("seen", "kept"):
        setattr(trick, name, getattr(trick, name) + 1)
        keys.add(held.key())
    assert len(keys) == 3


@pytest.mark.parametrize(("kind", "name"), [
    pytest.param(*one, marks=() if number % 12 == 0 else pytest.mark.slow) for number, one in enumerate(EVERYTHING)
])  # fmt: skip
def test_no_part_replaces_its_tensors_at_each_step(kind: str, name: str) -> None:
    """Or none of its updates would ever be recorded. Those of a network that grows may, when it does."""
    run = build(composed(*overrides_of(kind, name)))
    held, keys = Held(run.game), []
    for step in range(STEPS):
        play(run, step, step + 1)
        keys.append(held.key())
    assert Counter(keys).most_common(1)[0][1] > WARM_UP


def test_the_engine_of_a_device_and_its_settings() -> None:
    """No device is touched: which class it is."""
    settings = built().settings

    def chosen(device: str, rank: Rank = ALONE, **engine: object) -> type[Eager]:
        return engine_of({**settings, "engine": {**settings["engine"], **engine}}, rank, torch.device(device))

    assert settings["engine"]["capture"] == "auto"
    assert chosen("cuda") is Captured and chosen("cpu") is Eager and chosen("cuda", capture=False) is Eager
    assert chosen("cuda", Rank(0, 2)) is Eager and chosen("cuda", ranks=2) is Eager
    assert chosen("cuda", compile=True) is Compiled
    assert chosen("cuda", compile=True, capture=True) is CapturedCompiled


def test_an_optimiser_is_recorded_where_nothing_but_its_rate_follows_the_step() -> None:
    betas = "[{_target_: ganrun.core.schedule.Linear, start: 0.5, end: 0.9, steps: 10},0.99]"
    players = built(f"optim.generator.betas={betas}").engine.players
    plain = Player(players["discriminator"].networks, ByHand(players["discriminator"].parameters), Constant(value=0.1))
    for player in (*players.values(), plain):
        player.make_capturable()
    assert [player.capturable for player in (*players.values(), plain)] == [True, False, False]
    (group,) = players["discriminator"].optimizer.param_groups
    assert group["capturable"] and isinstance(group["lr"], torch.Tensor)
    assert (
        not players["generator"].optimizer.param_groups[0]["capturable"]
        and plain.optimizer.param_groups[0]["lr"] == 0.1
    )


class ByHand(torch.optim.Optimizer):
    """An optimiser of the user's that knows nothing of graphs."""

    def __init__(self, params: list[torch.nn.Parameter]):
        super().__init__(params, {"lr": 0.1})


def test_an_engine_is_told_of_a_state_that_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    run, told = built(), []
    saved = properties.round_trip(state_of(run, progress(run, 0)))
    monkeypatch.setattr(Eager, "restored", lambda engine: told.append(engine))
    restore(run, saved, "test")
    assert told == [run.engine]


def test_what_a_replay_would_overwrite_is_copied() -> None:
    one = torch.randn(4)
    seen = Observed(one[:1], one[1:2], real=None, real_score=one[2:3])
    update = Update(player="d", role="discriminator", shape=(1, 1, False))  # type: ignore[arg-type]
    kept = copied(UpdateResult(update=update, names=("a",), values=one[3:], observed={"main": seen}))
    expected = one.clone()
    one.zero_()
    found = kept.observed["main"]
    assert found.real is None and found.real_score is not None
    assert torch.equal(torch.cat([found.fake, found.fake_score, found.real_score, kept.values]), expected)


def test_the_oldest_kinds_are_forgotten() -> None:
    ran, recorded = Counter(range(KINDS + 3)), dict.fromkeys("ab", 1)
    forget_oldest(ran, recorded)
    assert list(ran) == list(range(3, KINDS + 3)) and list(recorded) == ["a", "b"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "engine.capture: true, and the device is cpu.*Try: engine.capture=auto"),
        (["engine.ranks=2", "device"], "engine.capture: true, and 2 processes.*Try: engine.ranks=1"),
        ([COMPILE, "device"], "engine.compile: true, and D's update shares its fakes.*Try: updates.share_fakes=false"),
    ],
)
def test_what_cannot_be_captured_is_refused(
    overrides: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device of CUDA is taken for granted: the refusal comes before anything is placed there."""
    if "device" in overrides:
        monkeypatch.setattr("ganrun.config.build.find_device", lambda name: torch.device("cuda"))
    with pytest.raises(ConfigError, match=message):
        built(CAPTURE, *(one for one in overrides if one != "device"))


@pytest.mark.parametrize("name", ["default", "cdcgan", "pix2pix"])
def test_batches_are_tensors_whose_place_is_known(name: str) -> None:
    """What an update is given is made of tensors and of nothing else, or a replay would not see it change."""
    overrides = {"default": tiny(), "cdcgan": tiny(model="cdcgan")}.get(name) or overrides_of("experiment", name)
    run = build(composed(*overrides))
    (update, *_) = run.updates(run.game, 0)
    leaves = tree_leaves([run.data.draw(run.game.wanted(update))])
    assert any(isinstance(leaf, torch.Tensor) for leaf in leaves)
    assert all(leaf is None or isinstance(leaf, torch.Tensor) for leaf in leaves)
