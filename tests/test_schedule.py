"""Numbers that follow the step, and randomness that does."""

import math
from copy import deepcopy
from itertools import product

import pytest
import torch
from support import built, pair_in, play, trick_of

from ganrun.core.context import Progress
from ganrun.core.schedule import ByImages, Constant, Cosine, Linear, Schedule, Scheduled, schedule
from ganrun.core.seeding import derive, generator, reseed


def test_a_constant_is_the_same_at_every_step() -> None:
    assert [Constant(value=0.3)(step) for step in (0, 7, 10**9)] == [0.3] * 3


@pytest.mark.parametrize(("step", "value"), [(0, 1.0), (2, 0.75), (4, 0.5), (8, 0.0), (9, 0.0), (10**9, 0.0)])
def test_a_straight_line_and_then_its_end_for_ever(step: int, value: float) -> None:
    assert Linear(start=1.0, end=0.0, steps=8)(step) == pytest.approx(value, abs=1e-12)


def test_a_delay_comes_before_the_line() -> None:
    line = Linear(start=0.0, end=2.0, steps=10, delay=5)
    assert [line(step) for step in (0, 5, 10, 15, 20)] == [0.0, 0.0, 1.0, 2.0, 2.0]


@pytest.mark.parametrize("fraction", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_half_a_cosine(fraction: float) -> None:
    """end + (start - end) (1 + cos(pi t)) / 2. Loshchilov and Hutter 2017, equation 5."""
    found = Cosine(start=0.4, end=0.1, steps=100)(round(100 * fraction))
    assert found == pytest.approx(0.1 + 0.3 * (1 + math.cos(math.pi * fraction)) / 2)


@pytest.mark.parametrize("steps", [0, -1])
def test_a_schedule_over_no_steps_is_refused(steps: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Linear(start=1.0, end=0.0, steps=steps)


def test_a_configured_number_stands_for_a_constant() -> None:
    line = Linear(start=1.0, end=0.0, steps=8)
    assert schedule(line) is line
    assert isinstance(schedule(3), Schedule) and schedule(3)(5) == 3.0


def test_a_scheduled_number_lives_on_the_device_at_one_address() -> None:
    number = Scheduled(Linear(start=1.0, end=0.0, steps=4))
    address = number().data_ptr()
    found = []
    for step in range(6):
        number.turn(step)
        found.append(number().item())
    assert found == [1.0, 0.75, 0.5, 0.25, 0.0, 0.0] and number().data_ptr() == address


def test_a_scheduled_number_is_a_function_of_the_step_and_not_saved() -> None:
    number = Scheduled(Linear(start=1.0, end=0.0, steps=4))
    assert number.state_dict() == {}
    number.turn(4)
    number.turn(1)
    assert number().item() == 0.75, "it goes back when the step does, as after a resume"


def test_copies_follow_the_step_too() -> None:
    """A copy that a trick made, such as an average of a network, is turned like the original."""
    run = built(tricks=["instance_noise"])
    copy = deepcopy(trick_of(run, "instance_noise"))
    run.game.pairs["main"].add_module("copy", copy)  # type: ignore[union-attr]
    run.game.begin(Progress(1000))
    assert copy.sigma().item() == pytest.approx(0.05)


@pytest.mark.parametrize("shape", [Linear, Cosine])
def test_a_schedule_may_count_images(shape: type[Linear]) -> None:
    """Karras et al. 2018 count thousands of images, as batches change while networks grow."""
    by_steps = shape(start=1.0, end=0.0, steps=600_000, delay=1000)
    by_images = ByImages(schedule=by_steps)
    for images in (0, 1000, 300_000, 601_000, 10**7):
        assert by_images(3, images) == by_steps(images)
    assert by_images.final == 0.0
    number = Scheduled(by_images)
    number.turn(7, 301_000)
    assert number().item() == pytest.approx(by_steps(301_000))


def test_a_rate_by_images_falls_with_the_batch() -> None:
    node = ("optim.generator.lr={_target_: ganrun.core.schedule.ByImages, schedule: "
            "{_target_: ganrun.core.schedule.Linear, start: 1.0e-3, end: 0.0, steps: 16}}")  # fmt: skip
    for batch in (2, 4):
        run = built(node, f"batch={batch}")
        play(run, 0, 3)
        rate = run.engine.players["generator"].optimizer.param_groups[0]["lr"]
        assert rate == pytest.approx(1e-3 * (1 - 2 * batch / 16)), "of the last step, before which two were done"


def test_a_learning_rate_follows_its_schedule() -> None:
    node = "optim.generator.lr={_target_: ganrun.core.schedule.Linear, start: 1.0e-3, end: 0.0, steps: 4}"
    run = built(node)
    for step, rate in enumerate([1e-3, 7.5e-4, 5e-4, 2.5e-4]):
        play(run, step, step + 1)
        assert run.engine.players["generator"].optimizer.param_groups[0]["lr"] == pytest.approx(rate)
    generator = pair_in(run).generator
    before = [p.detach().clone() for p in generator.parameters()]
    play(run, 4, 6)
    moved = [p for p, q in zip(generator.parameters(), before, strict=True) if not torch.equal(p, q)]
    assert not moved, "a rate of 0 moves nothing"


# Randomness


def test_every_seed_stream_rank_and_step_has_its_own_randomness() -> None:
    points = [*product((0, 1), ("a", "b"), (0, 1), range(50))]
    assert len({derive(*point) for point in points}) == len(points)
    assert all(0 <= derive(*point) < 2**63 for point in points)


def test_randomness_is_the_same_in_every_process() -> None:
    """Pinned: a change here would make every run of the past another run."""
    assert derive(0, "train", step=3) == 3504096755539278743 and derive(1, "build") == 6430454654803775147


def test_reseeding_starts_the_same_numbers() -> None:
    reseed(3, "train", step=5)
    first = torch.randn(4)
    torch.randn(9)
    reseed(3, "train", step=5)
    assert torch.equal(torch.randn(4), first)


def test_a_private_generator_leaves_torchs_alone() -> None:
    torch.manual_seed(1)
    expected = torch.randn(3)
    torch.manual_seed(1)
    torch.randn(5, generator=generator(1, "data"))
    assert torch.equal(torch.randn(3), expected)
