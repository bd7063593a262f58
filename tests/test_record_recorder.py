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
from ganrun.record.crc import crc32c
from ganrun.record.events import layout, thirds
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
            "balance/D(x)": 0.75,
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
    means = recorder.flush(2, {"learning_rate/generator": 0.5, "images": 128.0})
    recorder.close()
    updates = [(1, 1.0), (1, 1.5), (2, 2.0), (2, 2.5)]
    assert series(folder, "gradient_discriminator/00_0") == updates
    assert series(folder, "gradient_discriminator/01_head") == [(step, 5 * value) for step, value in updates]
    assert series(folder, "gradient_generator/00_project") == [(1, 13.0), (2, 26.0)]
    assert series(folder, "loss/discriminator/total") == [(step, value + 0.25) for step, value in updates]
    assert series(folder, "loss/generator/adversarial") == [(1, 1.0), (2, 2.0)]
    assert series(folder, "learning_rate/generator") == [(2, 0.5)]
    assert series(folder, "balance/D(x)") == series(folder, "probability/real") == [(s, 0.75) for s in (1, 1, 2, 2)]
    assert "probability/real" not in means
    tags = read(folder).Tags()["scalars"]
    assert "loss/generator/total" not in tags and not [tag for tag in tags if tag.startswith("gradient/")]
    assert means["loss/discriminator/total"] == 2.0 and means["gradient_discriminator/01_head"] == 8.75
    assert means["loss/generator/adversarial"] == 1.5 and means["learning_rate/generator"] == 0.5
    (line,) = lines(folder)
    assert line["step"] == 2 and line["images"] == 128 and line["time"] > 1e9
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


def test_a_layer_that_is_not_there_yet_and_a_metric_without_layer_are_no_trouble(folder):
    recorder = Recorder(folder, every=1, layers=LAYERS)
    add(recorder, 1, "discriminator", tensors({"gradient/discriminator/head.bias": 2.0, "ada/p": 0.5}))
    add(recorder, 1, "stranger", tensors({"gradient/stranger/x": 3.0}))
    means = recorder.flush(1, {})
    recorder.close()
    assert means == {"gradient_discriminator/01_head": 2.0, "ada/p": 0.5, "gradient/stranger/x": 3.0}


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
    """Even one that has not met a lazy term yet: the total is written from there on."""
    first = Recorder(folder, every=4, layers=LAYERS)
    add(first, 1, "discriminator", discriminator(1.0, r1=16.0))
    add(first, 2, "discriminator", discriminator(2.0))
    first.write()
    first.means = {"speed/images_per_second": 123.0, "score/real": 1.0}
    state = json.loads(json.dumps(first.state_dict()))  # plain values
    assert state["means"] == {"score/real": 1.0}  # nothing that depends on the clock
    first.close()
    second = Recorder(folder, every=4, layers=LAYERS, purge_step=3)
    second.load_state_dict(state)
    add(second, 3, "discriminator", discriminator(6.0))
    means = second.flush(4, {})
    second.close()
    assert means["loss/discriminator/r1"] == 16.0 and means["loss/discriminator/adversarial"] == 3.0
    assert means["loss/discriminator/total"] == (17 + 2 + 6) / 3
    assert series(folder, "loss/discriminator/total") == [(1, 17.0), (2, 2.0), (3, 6.0)]


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
    assert means["gradient_discriminator/01_head"] == pytest.approx(sum(norms) / 7, rel=1e-6)
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
    tag = key if key.startswith("loss") else "gradient_discriminator/01_head"
    assert line[tag] is None and line["balance/D(x)"] == 0.75
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
    tags = ["loss/generator/a", "loss/discriminator/a", "probability/real", "probability/fake", "score/real"]
    layers = {"discriminator": ["d0", "d1", "d2"], "generator": ["g0", "g1", "g2", "g3"]}
    page = layout(tags, layers)
    assert list(page) == ["losses", "balance", "gradients of the generator", "gradients of the discriminator"]
    assert list(page["losses"]) == ["discriminator", "generator"]
    assert page["balance"]["D(x) and D(G(z))"] == ["^probability/real$", "^probability/fake$"]
    assert page["gradients of the generator"] == {"bottom": ["^g0$"], "middle": ["^g1$", "^g2$"], "top": ["^g3$"]}
    assert "D(x) and D(G(z))" not in layout(["score/real"], {})["balance"]


@pytest.mark.parametrize("count", range(1, 20))
def test_thirds_hold_every_layer_once_in_order(count):
    layers = [str(number) for number in range(count)]
    parts = thirds(layers)
    assert list(parts) == ["bottom", "middle", "top"] and [name for part in parts.values() for name in part] == layers
    assert max(map(len, parts.values())) - min(map(len, parts.values())) <= 1
    assert count < 2 or (parts["bottom"] and parts["top"])


def test_checksums_are_those_of_crc32c():
    assert crc32c(b"123456789") == 0xE3069283  # the check value of the CRC catalogue
    for length in [*range(20), 4095, 4096, 4097, 4099, 4100, 10000]:
        data = random.Random(length).randbytes(length)
        assert crc32c(data) == reference(data)
