"""Pairs of images: by name, by order, side by side in one file; drawn together from every source; refusals."""

import pickle
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from data_formats import write_emoji, write_image
from omegaconf import OmegaConf
from PIL import Image
from support import composed
from test_data_unpaired import noise

from ganrun.config.build import open_data
from ganrun.config.instantiate import Maker
from ganrun.core.context import Batch, BatchShape
from ganrun.core.errors import ConfigError
from ganrun.data.datasets.base import InMemory
from ganrun.data.datasets.held_out import hold_out
from ganrun.data.datasets.mapped import Negative
from ganrun.data.datasets.paired import Paired
from ganrun.data.datasets.shapes import Shapes
from ganrun.data.sources.open import open_source

CPU = torch.device("cpu")


def opened(name: str, **settings):
    cfg = composed(f"dataset={name}", "dataset.held_out=0")
    cfg.dataset = OmegaConf.merge(cfg.dataset, settings)
    return open_data(cfg, Maker())


def folders(path: Path, inputs: list[str], targets: list[str], **target) -> Paired:
    """Two folders with files of these names: a file's number is in its pixels, its target is the negative."""
    for side, names in (("input", inputs), ("target", targets)):
        (path / side).mkdir()
        for name in names:
            grey = 10 * int(Path(name).stem) + 5
            values = np.full((8, 8, 3), grey if side == "input" else 255 - grey, np.uint8)
            values[0, 0] = 0, 128, 255  # a folder whose pixels are all equal is refused
            Image.fromarray(values).save(path / side / name)
    return opened("paired", input={"path": str(path / "input")}, target={"path": str(path / "target"), **target})


def test_pairs_are_one_stream_of_targets_with_their_inputs():
    images = noise(6)
    pairs = Paired(input=images, target=Negative(dataset=images))
    assert dict(pairs.streams) == {"images": pairs} and pairs.labels is None and len(pairs) == 6
    assert pairs.fingerprint() != Paired(input=images, target=images).fingerprint()
    assert pickle.loads(pickle.dumps(pairs)).fingerprint() == pairs.fingerprint()
    kept = hold_out(pairs, 2)
    for part in (kept, kept.test):
        assert all(torch.equal(part.image(i), 255 - part.inputs.image(i)) for i in range(len(part)))
    assert (len(kept), len(kept.test), len(kept.test.inputs)) == (4, 2, 2)


def opposite(batch: Batch) -> bool:
    """Whether each target is the negative of its own input."""
    return torch.allclose(batch.images, -batch.condition.image, atol=1e-6)


@pytest.mark.parametrize("memory", [1.0, 0.0], ids=["resident", "streamed"])
@pytest.mark.parametrize("workers", [0, 1])
def test_inputs_and_targets_are_drawn_in_step_also_after_resume(memory, workers):
    """Every target is the negative of its own input: in any order, in batches that cross epochs, from workers."""
    if memory and workers:
        pytest.skip("resident data have no workers")
    images = noise(7, channels=3)
    pairs = Paired(input=images, target=Negative(dataset=images))
    how = {"seed": 3, "device": CPU, "workers": workers}
    whole, again = open_source(pairs, memory=memory, **how), open_source(pairs, memory=memory, **how)
    resident = open_source(pairs, memory=1.0, **how)
    shape, drawn = BatchShape(5, 4), []
    for number in range(4):
        batch = whole.draw(shape)
        assert opposite(batch) and batch.labels is None
        assert torch.equal(batch.images, resident.draw(shape).images)
        drawn.append(batch)
        if number == 1:
            again.seen = whole.seen
    for expected in drawn[2:]:
        batch = again.draw(shape)
        assert torch.equal(batch.images, expected.images)
        assert torch.equal(batch.condition.image, expected.condition.image)
    small, picked = whole.draw(BatchShape(3, 2)), whole.pick(torch.tensor([4, 1]))
    assert small.condition.image.shape == (3, 3, 2, 2)
    assert opposite(small) and opposite(picked) and opposite(whole.examples(9))
    for source in (whole, again, resident):
        source.close()


def test_batches_of_inputs_fit_the_memory_twice():
    images = noise(8)  # 8 images of 16 bytes
    pairs = Paired(input=images, target=images)
    kinds = [
        type(open_source(data, seed=0, device=CPU, workers=0, memory=200 / 2**30)).__name__ for data in (images, pairs)
    ]
    assert kinds == ["Resident", "Streamed"]


def test_files_belong_together_by_name_whatever_their_ending(tmp_path):
    pairs = folders(tmp_path, ["1.png", "10.png", "2.png"], ["1.bmp", "10.png", "2.bmp"])
    assert len(pairs) == 3 and (pairs.channels, pairs.resolution) == (3, 8)
    for i in range(3):
        assert torch.equal(pairs.image(i)[:, 1:], 255 - pairs.inputs.image(i)[:, 1:])
    assert any(note.startswith("input: 3 images") for note in pairs.notes)
    kept = hold_out(pairs, 1)
    assert sorted(kept.file_names()) == ["1.bmp", "10.png", "2.bmp"]


def test_files_without_a_partner_are_refused_or_left_out_where_damaged_ones_may_lack(tmp_path):
    with pytest.raises(ConfigError) as caught:
        folders(tmp_path, ["1.png", "2.png", "3.png"], ["1.png", "3.png", "4.png"])
    line = str(caught.value)
    assert line.startswith(
        "dataset: 2 files without a partner of the same name: input/2, target/4, expected two folders"
    )
    sides = {side: {"path": str(tmp_path / side), "skip_bad": True} for side in ("input", "target")}
    pairs = opened("paired", **sides)
    assert len(pairs) == 2 and pairs.may_lack and "left out, without a partner" in pairs.notes[-1]
    assert torch.equal(pairs.image(1)[:, 1:], 255 - pairs.inputs.image(1)[:, 1:])


def test_two_files_of_one_name_and_other_sizes_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"^dataset\.target\.path: two files are named 1, expected one of each name"):
        folders(tmp_path, ["1.png"], ["1.png", "1.bmp"])
    with pytest.raises(ConfigError, match=r"^\.resolution: 4 in input \(InMemory\) and 8 in target \(InMemory\)"):
        Paired(input=noise(), target=noise(side=8))
    with pytest.raises(ConfigError, match=r"^\.: 5 images \(InMemory\) for 6 \(InMemory\), expected as many of both"):
        Paired(input=noise(5), target=noise(6))
    with pytest.raises(ConfigError, match=r"^\.channels: 3, but the data have 1"):
        Paired(input=noise(), target=noise(), channels=3)


def test_both_halves_of_a_file_side_by_side(tmp_path):
    for i in range(4):
        left, right = np.full((8, 8, 3), 20 * i, np.uint8), np.full((8, 8, 3), 255 - 20 * i, np.uint8)
        Image.fromarray(np.concatenate([left, right], 1)).save(tmp_path / f"{i}.png")
    pairs, other = opened("side_by_side", path=str(tmp_path)), opened("side_by_side", path=str(tmp_path), split="right")
    assert (len(pairs), pairs.channels, pairs.resolution) == (4, 3, 8)
    for i in range(4):
        assert (pairs.inputs.image(i) == 20 * i).all() and (pairs.image(i) == 255 - 20 * i).all()
        assert torch.equal(other.image(i), pairs.inputs.image(i)) and torch.equal(other.inputs.image(i), pairs.image(i))
    with pytest.raises(ConfigError, match=r"^dataset\.split: up, expected one of left, right. Try: dataset.split="):
        opened("side_by_side", path=str(tmp_path), split="up")
    write_image(tmp_path / "5.png", size=(15, 8), mode="RGB", seed=0)
    with pytest.raises(
        ConfigError, match=r"dataset\.path: 1 of 5 files: .*is 15 pixels wide, which are not two images"
    ):
        opened("side_by_side", path=str(tmp_path))
    with pytest.raises(ConfigError, match=r"^dataset\.path: not set"):
        opened("side_by_side")


# ---- included pairs


def test_an_outline_is_the_edge_of_its_shape():
    common = {"size": 40, "seed": 1, "scales": [0.3, 0.5], "channels": 1, "resolution": 32, "classes": None}
    filled, outlined = Shapes(**common), Shapes(**common, stroke=0.07)
    whole, edge = filled.bulk()[0].float(), outlined.bulk()[0].float()
    assert (edge <= whole + 1).all() and torch.equal(filled.factors, outlined.factors)
    areas, edges = whole.sum((1, 2, 3)) / 255, edge.sum((1, 2, 3)) / 255
    squares = filled.labels == 0
    side = areas[squares].sqrt()  # of a square: the outline leaves a smaller square out
    assert torch.allclose(edges[squares], areas[squares] - (side - 2 * 0.07 * 32).square(), rtol=0.06)
    straight = filled.labels != 1  # an ellipse's distance is one of first order, without bound in its centre
    assert torch.equal(Shapes(**common, stroke=1.0).bulk()[0][straight], filled.bulk()[0][straight])
    with pytest.raises(ConfigError, match=r"^\.stroke: 0.01, expected a number of at least 0.03125"):
        Shapes(**common, stroke=0.01)


@pytest.mark.parametrize("name", ["outlines_to_shapes", "china_to_flower", "digits_to_negatives", "emoji_to_grey"])
def test_included_domains_without_pairs(name, tmp_path):
    emoji = name == "emoji_to_grey"
    path = [f"dataset.a.path={write_emoji(tmp_path / 'emoji.tgz')}"] if emoji else []
    both = open_data(composed(f"dataset={name}", *path, f"dataset.held_out={1 - emoji}"), Maker())
    assert both.a.image(0).shape == both.b.image(0).shape == (3, both.resolution, both.resolution)
    known = name != "china_to_flower"
    assert all((data.truth is not None) == known for data in both.streams.values())
    assert emoji or [len(data.test) for data in both.streams.values()] == [1, 1]
    if name == "outlines_to_shapes":
        assert (both.a.image(3) <= both.a.truth.image(3).int() + 1).all()
    if name == "china_to_flower":
        assert (both.a.classes, both.b.classes) == (("china",), ("flower",))


def test_included_pairs(tmp_path):
    shapes = opened("paired_shapes", input={"size": 20})
    assert (shapes.inputs.image(3) <= shapes.image(3).int() + 1).all() and len(shapes) == 20
    emoji = opened("paired_emoji", target={"path": str(write_emoji(tmp_path / "emoji.tgz"))})
    grey = emoji.inputs.image(0)
    assert torch.equal(grey[0], grey[1]) and not torch.equal(emoji.image(0)[0], emoji.image(0)[1])
    assert isinstance(emoji._images, InMemory) and len(emoji) == len(emoji.inputs)


def test_accents_of_other_systems_are_the_same_names(tmp_path: Path) -> None:
    """Macs take letters and their accents apart; no name in common has a remedy of its own."""
    for side, form in (("input", "NFD"), ("target", "NFC")):
        write_image(tmp_path / side / f"{unicodedata.normalize(form, 'é è')}.png", size=(8, 8), mode="RGB")
    sides = {side: {"path": str(tmp_path / side)} for side in ("input", "target")}
    assert len(opened("paired", **sides)) == 1
    write_image(tmp_path / "other" / "x.png", size=(8, 8), mode="RGB")
    with pytest.raises(ConfigError, match=r"2 files without a partner.*Try: giving each target the name of its input$"):
        opened("paired", **sides | {"target": {"path": str(tmp_path / "other")}})
