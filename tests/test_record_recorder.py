"""The recorder's numbers, against hand calculation, read back with TensorBoard's own reader."""

import json
import math
import os
import random

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import crc32c as reference
from torch.utils._python_dispatch import TorchDispatchMode

from ganrun.core.errors import EnvironmentFailed, Stopped
from ganrun.record.columns import summed, tagged
from ganrun.record.crc import crc32c
from ganrun.record.events import exactly, layout, thirds
from ganrun.record.folder import RunFolder
from ganrun.record.recorder import Recorder

LAYERS = {
    "generator": {"project": ["gradient/generator/project.weight", "gradient/generator/project.bias"]},
    "discriminator": {
        "0": ["gradient/discriminator/0.weight"],
        "head": ["gradient/discriminator/head.weight", "gradient/discriminator/head.bias"],
    },
}


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder.create(tmp_path / "run")
    yield folder
    folder.close()


def tensors(metrics: dict[str, float]) -> dict[str, torch.Tensor]:
    return {key: torch.tensor(value) for key, value in metrics.items()}


def discriminator(number: float, **more: float) -> dict[str, torch.Tensor]:
    return tensors(
        {
            "loss/discriminator/adversarial": number,
            **{f"loss/discriminator/{name}": value for name, value in more.items()},
            "probability/real": 0.75,
            "gradient/discriminator/0.weight": number,
            "gradient/discriminator/head.weight": 3 * number,
            "gradient/discriminator/head.bias": 4 * number,
        }
    )


def generator(number: float) -> dict[str, torch.Tensor]:
    return tensors(
        {
            "loss/generator/adversarial": number,
            "gradient/generator/project.weight": 5 * number,
            "gradient/generator/project.bias": 12 * number,
        }
    )


def add(recorder: Recorder, step: int, player: str, metrics: dict[str, torch.Tensor]) -> None:
    """As an engine returns them: names, and values [K]."""
    recorder.add(step, player, tuple(metrics), torch.stack([value.float() for value in metrics.values()]))


def series(folder: RunFolder, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in read(folder).Scalars(tag)]


def read(folder: RunFolder) -> EventAccumulator:
    events = EventAccumulator(str(folder.path), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    events.Reload()
    return events


def lines(folder: RunFolder) -> list[dict]:
    return [json.loads(line) for line in folder.metrics.read_text().splitlines()]


def test_every_update_has_a_point_and_the_norms_are_those_of_layers(folder):
    recorder = Recorder(folder, every=2, layers=LAYERS)
    for step in (1, 2):
        for repeat in (0.0, 0.5):
            add(recorder, step, "discriminator", discriminator(step + repeat, gp=0.25))
        add(recorder, step, "generator", generator(step))
    means = recorder.flush(2, {"training/learning_rate/generator": 0.5, "training/images": 128.0})
    recorder.close()
    updates = [(1, 1.0), (1, 1.5), (2, 2.0), (2, 2.5)]
    assert series(folder, "weight_gradient/discriminator/00_0") == updates
    assert series(folder, "weight_gradient/discriminator/01_head") == [(step, 5 * value) for step, value in updates]
    assert series(folder, "weight_gradient/generator/00_project") == [(1, 13.0), (2, 26.0)]
    assert series(folder, "loss/discriminator/total") == [(step, value + 0.25) for step, value in updates]
    assert series(folder, "loss/generator/adversarial") == [(1, 1.0), (2, 2.0)]
    assert series(folder, "training/learning_rate/generator") == [(2, 0.5)]
    assert series(folder, "loss/generator/total") == [(1, 1.0), (2, 2.0)]
    assert series(folder, "probability/real") == [(s, 0.75) for s in (1, 1, 2, 2)]
    assert not [tag for tag in read(folder).Tags()["scalars"] if tag.startswith(("gradient/", "window/"))]
    assert means["loss/discriminator/total"] == 2.0 and means["weight_gradient/discriminator/01_head"] == 8.75
    assert means["loss/generator/adversarial"] == 1.5 and means["training/learning_rate/generator"] == 0.5
    (line,) = lines(folder)
    assert line["step"] == 2 and line["training/images"] == 128 and line["time"] > 1e9
    assert {key: line[key] for key in means} == means


def test_lazy_terms_are_averaged_where_they_are_and_the_total_is_never_broken(folder):
    recorder = Recorder(folder, every=4, layers=LAYERS)
    for step in (1, 2, 3, 4):
        add(recorder, step, "discriminator", discriminator(1.0, **({"r1": 16.0} if step == 4 else {})))
    means = recorder.flush(4, {})
    recorder.close()
    assert series(folder, "loss/discriminator/total") == [(1, 1.0), (2, 1.0), (3, 1.0), (4, 17.0)]
    assert series(folder, "loss/discriminator/r1") == [(4, 16.0)]
    assert means["loss/discriminator/r1"] == 16.0 and means["loss/discriminator/total"] == 5.0


def test_a_layer_that_is_not_there_yet_and_a_norm_of_no_layer_are_no_trouble(folder):
    recorder = Recorder(folder, every=1, layers=LAYERS)
    add(recorder, 1, "discriminator", tensors({"gradient/discriminator/head.bias": 2.0, "tricks/ada/p": 0.5}))
    add(recorder, 1, "stranger", tensors({"gradient/stranger/x": 3.0}))
    means = recorder.flush(1, {})
    recorder.close()
    assert means == {"weight_gradient/discriminator/01_head": 2.0, "tricks/ada/p": 0.5}


def test_writing_before_a_checkpoint_keeps_the_window(folder):
    recorder = Recorder(folder, every=3, layers=LAYERS)
    for step in (1, 2):
        add(recorder, step, "generator", generator(step))
    recorder.write()
    assert series(folder, "loss/generator/adversarial") == [(1, 1.0), (2, 2.0)]  # on disk already
    add(recorder, 3, "generator", generator(6.0))
    assert recorder.flush(3, {})["loss/generator/adversarial"] == 3.0
    recorder.close()
    assert series(folder, "loss/generator/adversarial") == [(1, 1.0), (2, 2.0), (3, 6.0)]
    assert recorder.due(6) and not recorder.due(7)


def test_a_window_goes_on_in_another_recorder(folder):
    """Its means, its bounds, and which updates have points of their own."""
    first = Recorder(folder, every=4, layers=LAYERS, full=1)
    add(first, 1, "discriminator", discriminator(1.0, r1=16.0))
    add(first, 2, "discriminator", discriminator(2.0))
    first.write()
    first.means = {"training/images_per_second": 123.0, "score/real": 1.0}
    state = json.loads(json.dumps(first.state_dict()))  # plain values
    assert state["means"] == {"score/real": 1.0}  # nothing that depends on the clock
    first.close()
    second = Recorder(folder, every=4, layers=LAYERS, full=1, purge_step=3)
    second.load_state_dict(state)
    add(second, 3, "discriminator", discriminator(6.0))
    means = second.flush(4, {})
    second.close()
    assert means["loss/discriminator/r1"] == 16.0 and means["loss/discriminator/adversarial"] == 3.0
    assert means["loss/discriminator/total"] == (17 + 2 + 6) / 3
    assert series(folder, "loss/discriminator/total") == [(1, 17.0), (4, np.float32(25 / 3))]
    assert series(folder, "window/least/loss/discriminator/total") == [(4, 2.0)]
    assert series(folder, "window/largest/loss/discriminator/total") == [(4, 17.0)]
    assert series(folder, "loss/discriminator/r1") == [(1, 16.0)], "its only update has a point"


def test_after_its_first_updates_a_player_has_the_mean_and_the_bounds_of_each_window(folder):
    """D has three updates in a step, so its first six end within a window of two steps, and G's with step 6."""
    recorder = Recorder(folder, every=2, layers=LAYERS, full=6)
    for step in range(1, 9):
        for repeat in (0.0, 0.25, 0.5):
            add(recorder, step, "discriminator", discriminator(step + repeat))
        add(recorder, step, "generator", generator(step))
        if recorder.due(step):
            recorder.flush(step, {"training/images": 64.0 * step})
    recorder.close()
    each = [(step, step + repeat) for step in (1, 2) for repeat in (0.0, 0.25, 0.5)]
    assert series(folder, "loss/discriminator/adversarial") == [*each, (4, 3.75), (6, 5.75), (8, 7.75)]
    assert series(folder, "window/least/loss/discriminator/adversarial") == [(4, 3.0), (6, 5.0), (8, 7.0)]
    assert series(folder, "window/largest/weight_gradient/discriminator/01_head") == [(4, 22.5), (6, 32.5), (8, 42.5)]
    assert series(folder, "loss/generator/total") == [*((step, step) for step in range(1, 7)), (8, 7.5)]
    assert series(folder, "training/images") == [(step, 64.0 * step) for step in (2, 4, 6, 8)]
    assert [line["loss/generator/total"] for line in lines(folder)] == [1.5, 3.5, 5.5, 7.5]
    assert not [key for line in lines(folder) for key in line if key.startswith("window/")]


def test_norms_are_recorded_as_finely_as_is_asked():
    one = {"blocks.0.conv": ["w", "b"], "head": ["h"]}
    assert summed(one, ["discriminator"], "layers") == one
    assert summed(one, ["discriminator"], "networks") == {"discriminator": ["w", "b", "h"]}
    assert summed(one, ["discriminator"], "none") == {}
    two = {"ab.blocks.0.conv": ["w"], "ab.head": ["h"], "ba.head": ["k"]}
    assert summed(two, ["ab", "ba"], "networks") == {"ab": ["w", "h"], "ba": ["k"]}


@pytest.mark.parametrize("cuts", [(), (1,), (2, 5), (1, 2, 3, 4, 5, 6)])
def test_means_do_not_depend_on_where_a_window_was_written(folder, cuts):
    """Bit for bit: a checkpoint between two logs changes no line of metrics.jsonl."""
    recorder = Recorder(folder, every=7, layers=LAYERS)
    random_values = torch.rand(7, generator=torch.Generator().manual_seed(0)).tolist()
    for step, value in enumerate(random_values, start=1):
        add(recorder, step, "discriminator", discriminator(value, **({"r1": value / 3} if step % 3 == 1 else {})))
        if step in cuts:
            recorder.write()
    means = recorder.flush(7, {})
    recorder.close()
    norms = [float(np.float32(np.hypot(np.float32(3 * v), np.float32(4 * v)))) for v in random_values]
    assert means["weight_gradient/discriminator/01_head"] == pytest.approx(sum(norms) / 7, rel=1e-6)
    shown = Recorder(folder, every=7, layers=LAYERS)
    for step, value in enumerate(random_values, start=1):
        add(shown, step, "discriminator", discriminator(value, **({"r1": value / 3} if step % 3 == 1 else {})))
    expected = shown.flush(7, {})
    shown.close()
    assert {key: value.hex() for key, value in means.items()} == {k: v.hex() for k, v in expected.items()}


def test_values_of_any_precision_are_kept(folder):
    recorder = Recorder(folder, every=2, layers={})
    recorder.add(1, "generator", ("a", "b"), torch.tensor([2.0, 0.5], dtype=torch.bfloat16))
    recorder.add(2, "generator", ("a", "b"), torch.tensor([4.0, 0.5], dtype=torch.float64))
    assert recorder.flush(2, {}) == {"a": 3.0, "b": 0.5}
    recorder.close()


class NoSync(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert "_local_scalar_dense" not in str(func) and "_to_copy" not in str(func), func
        return func(*args, **(kwargs or {}))


def test_adding_asks_nothing_of_the_device_and_draws_no_randomness(folder):
    recorder = Recorder(folder, every=2, layers=LAYERS)
    before, metrics = torch.get_rng_state(), discriminator(1.0)
    names, values = tuple(metrics), torch.stack(list(metrics.values()))
    with NoSync():
        recorder.add(1, "discriminator", names, values)
        recorder.add(1, "discriminator", names, values)
    recorder.flush(1, {})
    recorder.close()
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("key", ["loss/discriminator/adversarial", "gradient/discriminator/head.weight"])
def test_a_number_that_is_not_finite_ends_the_run_after_it_was_written(folder, key):
    recorder = Recorder(folder, every=5, layers=LAYERS)
    for step in (1, 2, 3):
        bad = {key: torch.tensor(math.nan)} if step >= 2 else {}
        add(recorder, step, "discriminator", discriminator(1.0) | bad)
    with pytest.raises(Stopped, match=rf"^step 2, discriminator: {key} is nan"):
        recorder.flush(3, {})
    recorder.close()
    (line,) = [json.loads(line, parse_constant=pytest.fail) for line in folder.metrics.read_text().splitlines()]
    tag = key if key.startswith("loss") else "weight_gradient/discriminator/01_head"
    others = {name for name in line if name.startswith("weight_gradient/discriminator/")} - {tag}
    assert line[tag] is None and line["probability/real"] == 0.75 and others and all(line[name] for name in others)
    values = series(folder, tag)
    assert values[0][1] == (1.0 if key.startswith("loss") else 5.0) and math.isnan(values[1][1]) and len(values) == 3


def test_resuming_leaves_no_zigzag(folder):
    first = Recorder(folder, every=1, layers=LAYERS)
    for step in range(1, 7):
        add(first, step, "generator", generator(step))
        first.flush(step, {})
    first.close()
    with folder.metrics.open("a") as file:
        file.write('{"step": 3, "cut')  # killed in the middle of a line
    second = Recorder(folder, every=1, layers=LAYERS, purge_step=4)
    for step in range(4, 9):
        add(second, step, "generator", generator(100 + step))
        second.flush(step, {})
    second.close()
    expected = [(1, 1.0), (2, 2.0), (3, 3.0), *((step, 100.0 + step) for step in range(4, 9))]
    assert series(folder, "loss/generator/adversarial") == expected
    assert [(line["step"], line["loss/generator/adversarial"]) for line in lines(folder)] == expected
    assert len(list(folder.path.glob("events*"))) == 2 and not list(folder.path.glob(".*.tmp"))


def test_pictures_and_words(folder):
    recorder = Recorder(folder, every=1, layers={})
    recorder.image("samples", 3, np.zeros((4, 6, 1), np.uint8))
    recorder.text("configuration", "steps: 3")
    recorder.close()
    (picture,) = read(folder).Images("samples")
    assert (picture.step, picture.width, picture.height) == (3, 6, 4)
    (words,) = read(folder).Tensors("configuration/text_summary")
    assert words.tensor_proto.string_val[0] == b"steps: 3"


def test_a_disk_without_room_is_a_failure_of_the_machine(folder):
    recorder = Recorder(folder, every=1, layers={})
    os.dup2(os.open("/dev/full", os.O_WRONLY), recorder._events._file.fileno())
    add(recorder, 1, "generator", generator(1.0))
    with pytest.raises(EnvironmentFailed, match="No space left"):
        recorder.flush(1, {})


def test_the_dashboard_opens_on_losses_balance_and_gradients_by_depth():
    tags = ["loss/generator/a", "loss/discriminator/a", "loss/k", "probability/real", "probability/fake", "score/real"]
    names = [f"weight_gradient/generator/{depth:02d}_blocks.{depth}.conv" for depth in range(4)]
    page = layout(tags, {"discriminator": ["d/00_0", "d/01_1", "d/02_head"], "generator": names})
    assert list(page) == ["losses", "balance", "gradients of the generator", "gradients of the discriminator"]
    assert list(page["losses"]) == ["discriminator", "generator"], "BEGAN's k is no player"
    assert page["balance"]["D(x) and D(G(z))"] == ["^probability/real$", "^probability/fake$"]
    parts = page["gradients of the generator"]
    assert parts == {"bottom": [exactly(names[0])], "middle": [*map(exactly, names[1:3])], "top": [exactly(names[3])]}
    assert list(layout(["energy/real"], {})["balance"]) == ["energies: the lower, the more real"]


@pytest.mark.parametrize("count", range(1, 20))
def test_thirds_hold_every_layer_once_in_order_and_part_no_block(count):
    """A block is a convolution and its norm, and the last is a head of several layers."""
    names = [f"blocks.{block}.{layer}" for block in range(count - 1) for layer in ("conv", "norm")]
    names += ["head.conv", "head.dense"]
    layers = list(tagged("generator", {name: [] for name in names}))
    parts = thirds(layers)
    assert [tag for part in parts.values() for tag in part] == layers
    assert list(parts) == (["whole"], ["bottom", "top"], ["bottom", "middle", "top"])[min(count, 3) - 1]
    assert not any(len(part) % 2 for part in parts.values())
    assert count == 2 or max(map(len, parts.values())) - min(map(len, parts.values())) <= 2


def test_of_several_networks_each_has_a_bottom_and_a_top():
    layers = [f"{block:02d}_{net}.blocks.{block}" for net in ("ab", "ba") for block in range(3)]
    assert thirds(layers, ["ab", "ba"])["bottom"] == ["00_ab.blocks.0", "00_ba.blocks.0"]
    assert thirds(["00_ab", "01_ba"], ["ab", "ba"]) == {"whole": ["00_ab", "01_ba"]}


def test_checksums_are_those_of_crc32c():
    assert crc32c(b"123456789") == 0xE3069283  # the check value of the CRC catalogue
    for length in [*range(20), 4095, 4096, 4097, 4099, 4100, 10000]:
        data = random.Random(length).randbytes(length)
        assert crc32c(data) == reference(data)
