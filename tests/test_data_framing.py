"""Random squares and mirror images: where they lie, that pairs, sources, processes and resumed runs agree, refusals."""

from itertools import pairwise

import properties
import pytest
import torch
from support import composed
from test_data_unpaired import noise

from ganrun.config.build import open_data
from ganrun.config.instantiate import Maker
from ganrun.core.context import Batch, BatchShape
from ganrun.core.errors import ConfigError
from ganrun.core.ranks import ALONE, Rank
from ganrun.data.datasets.base import InMemory
from ganrun.data.datasets.beside import Known
from ganrun.data.datasets.framed import frame
from ganrun.data.datasets.held_out import hold_out
from ganrun.data.datasets.mapped import Negative
from ganrun.data.datasets.paired import Paired
from ganrun.data.datasets.unpaired import Unpaired
from ganrun.data.sources.open import open_source
from ganrun.data.transforms.framing import Framing

CPU = torch.device("cpu")
SQUARE = Framing(5, 0.5)  # of images of 8 pixels: 4 x 4 places, mirrored or not


def numbered(count: int) -> InMemory:
    """Images of 8x8 pixels, each pixel of which has the number of its place, so that squares say where they lie."""
    image = torch.arange(64, dtype=torch.uint8).reshape(1, 1, 8, 8)
    return InMemory(images=image.repeat(count, 1, 1, 1), labels=None, names=(), classes=None)


def pairs() -> Paired:
    images = noise(7, side=8, channels=3)
    return Paired(input=images, target=Negative(dataset=images))


def source_of(data, *, memory: float = 1.0, workers: int = 0, rank: Rank = ALONE, seed: int = 3):
    return open_source(data, seed=seed, device=CPU, workers=workers, memory=memory, rank=rank)


def pixels(batch: Batch) -> torch.Tensor:
    return ((batch.images + 1) * 127.5).round().long()


def places(images: torch.Tensor) -> list[tuple[int, int, bool]]:
    """Top, left and whether mirrored, of squares of numbered images."""
    found = []
    for image in images[:, 0]:
        mirrored = bool(image[0, 0] > image[0, -1])
        corner = int(image[0, -1] if mirrored else image[0, 0])
        found.append((corner // 8, corner % 8, mirrored))
    return found


def test_a_frame_is_a_slice_and_its_mirror_image() -> None:
    images = noise(3, side=8, channels=3).images
    taken = SQUARE.take(images, torch.tensor([[0, 3, 0], [2, 1, 1], [3, 0, 1]]))
    assert taken.dtype == torch.uint8 and taken.shape == (3, 3, 5, 5)
    assert torch.equal(taken[0], images[0, :, 0:5, 3:8])
    assert torch.equal(taken[1], images[1, :, 2:7, 1:6].flip(-1))
    assert torch.equal(taken[2], images[2, :, 3:8, 0:5].flip(-1))
    edges = SQUARE.frames(torch.tensor([[0.0, 1 - 2**-24, 0.5], [0.25, 0.2499, 0.4999]]), 8)
    assert edges.tolist() == [[0, 3, 0], [1, 0, 1]]


def test_every_place_is_as_likely_mirrored_or_not() -> None:
    """Chi-squared of 32 cells over 6,400 draws: 31 degrees of freedom, of which 1 in 1,000 is above 61."""
    source = source_of(frame(numbered(10), SQUARE))
    found = [place for _ in range(64) for place in places(pixels(source.draw(BatchShape(100, 5))))]
    counts = {cell: found.count(cell) for cell in set(found)}
    assert len(counts) == 32 and sum((count - 200) ** 2 / 200 for count in counts.values()) < 61
    assert (
        sum(one == other for one, other in pairwise(found)) < 300
    )  # 200 are expected: draws do not depend on the last
    other = source_of(frame(numbered(10), SQUARE), seed=4)
    assert places(pixels(other.draw(BatchShape(100, 5)))) != found[:100]


def test_mirror_is_a_probability_and_works_alone() -> None:
    source = source_of(frame(numbered(10), Framing(8, 0.25)))
    found = [place for _ in range(10) for place in places(pixels(source.draw(BatchShape(100, 8))))]
    assert {place[:2] for place in found} == {(0, 0)} and 200 < sum(mirrored for *_, mirrored in found) < 300
    always = source_of(frame(numbered(3), Framing(8, 1)))
    assert all(mirrored for *_, mirrored in places(pixels(always.draw(BatchShape(9, 8)))))


@pytest.mark.parametrize("memory", [1.0, 0.0], ids=["resident", "streamed"])
@pytest.mark.parametrize("workers", [0, 2])
def test_inputs_and_targets_share_their_frames_in_every_source_and_after_resume(memory: float, workers: int) -> None:
    """A target is the negative of its input at every pixel: only where both are cut and mirrored alike."""
    if memory and workers:
        pytest.skip("resident data have no workers")
    data = frame(pairs(), SQUARE)
    whole, again = (source_of(data, memory=memory, workers=workers) for _ in range(2))
    resident = source_of(data)
    shape, drawn = BatchShape(6, 5), []
    for number in range(4):
        batch = whole.draw(shape)
        assert torch.allclose(batch.images, -batch.condition.image, atol=1e-6)
        expected = resident.draw(shape)
        assert torch.equal(batch.images, expected.images) and batch.images.stride() == expected.images.stride()
        drawn.append(batch)
        if number == 1:
            again.seen = whole.seen
    for expected in drawn[2:]:
        batch = again.draw(shape)
        assert torch.equal(batch.images, expected.images)
        assert torch.equal(batch.condition.image, expected.condition.image)
    assert whole.draw(BatchShape(2, 3)).images.shape == (2, 3, 3, 3)  # smaller, as where a network grows
    for source in (whole, again):
        source.close()


def test_frames_follow_the_position_alone() -> None:
    """However batches are cut, across epochs and blocks of random numbers, and however many processes share them."""
    data = frame(numbered(7), SQUARE)
    whole, cut = source_of(data), source_of(data)
    whole.seen = cut.seen = 4096 - 10
    expected = torch.cat([whole.draw(BatchShape(12, 5)).images for _ in range(2)])
    assert torch.equal(torch.cat([cut.draw(BatchShape(size, 5)).images for size in (1, 3, 8, 12)]), expected)
    several = [source_of(data, rank=Rank(number, 2)) for number in range(2)]
    for one in several:
        one.seen = 4096 - 10
    assert torch.equal(torch.cat([one.draw(BatchShape(12, 5)).images for one in several]), expected)


def test_what_is_not_drawn_shows_the_middle_and_is_not_mirrored() -> None:
    data = frame(hold_out(pairs(), 3), Framing(4, 1.0))
    source = source_of(data)
    assert (data.resolution, data.test.resolution, len(data), len(data.test)) == (4, 4, 4, 3)
    whole = data.stored
    for part, large in ((data, whole), (data.test, whole.test)):
        expected = torch.stack([large.image(i)[:, 2:6, 2:6] for i in range(len(part))])
        assert torch.equal(part.bulk()[0], expected) and torch.equal(part.image(1), expected[1])
        assert torch.equal(part.inputs.bulk()[0], 255 - expected)
        assert torch.equal(part.part(torch.tensor([1])).inputs.image(0), 255 - expected[1])
    picked = source.pick(torch.tensor([2, 0]))
    assert torch.equal(pixels(picked), torch.stack([data.image(2), data.image(0)]).long())
    assert torch.allclose(picked.condition.image, -picked.images, atol=1e-6)
    assert source.examples(9).images.shape == (9, 3, 4, 4)
    held_out = source.held_out()
    assert torch.equal(pixels(held_out), data.test.bulk()[0].long())
    assert torch.allclose(held_out.condition.image, -held_out.images, atol=1e-6)
    streamed = source_of(data, memory=0.0)
    assert torch.equal(streamed.pick(torch.tensor([2, 0])).images, picked.images)
    assert data.fingerprint() == whole.fingerprint() and data.value_range() == whole.value_range()


def test_domains_without_pairs_are_framed_each_on_its_own() -> None:
    both = frame(Unpaired(a=numbered(9), b=numbered(9)), SQUARE)
    a, b = (
        open_source(data, seed=0, device=CPU, workers=0, memory=1.0, stream=f"data/{name}")
        for name, data in both.streams.items()
    )
    assert places(pixels(a.draw(BatchShape(9, 5)))) != places(pixels(b.draw(BatchShape(9, 5))))
    assert [note.partition(":")[0] for note in both.notes] == ["a", "b"] and "5x5 pixels of 8x8" in both.notes[0]
    known = frame(Known(noise(4, side=8), Negative(dataset=noise(4, side=8))), SQUARE)
    assert torch.equal(known.truth.bulk()[0], 255 - known.bulk()[0])


def test_captions_and_labels_come_along() -> None:
    cfg = composed("dataset=shapes", "dataset.size=30", "dataset.resolution=16", "dataset.crop_from=20",
                   "dataset.mirrored=0.5", "dataset.text=words")  # fmt: skip
    data = open_data(cfg, Maker())
    plain = open_data(
        composed("dataset=shapes", "dataset.size=30", "dataset.resolution=20", "dataset.text=words"), Maker()
    )
    assert data.captions == plain.captions and torch.equal(data.text, plain.text)
    assert torch.equal(data.labels, plain.labels) and data.classes == plain.classes and data.resolution == 16
    assert torch.equal(data.image(3), plain.image(3)[:, 2:18, 2:18]) and cfg.dataset.resolution == 16
    rows = source_of(data).draw(BatchShape(5, 16))
    assert rows.condition.text.shape[0] == 5 and rows.labels.shape == (5,)


def test_the_record_opens_the_same_data_again() -> None:
    """Also data of parts inside each other, whose resolution is recorded as a number."""
    cfg = composed("dataset=digits_to_negatives", "dataset.crop_from=18", "dataset.mirrored=0.5")
    data = open_data(cfg, Maker())
    assert data.resolution == cfg.dataset.resolution == cfg.dataset.b.dataset.dataset.resolution == 16
    assert data.a.stored.resolution == data.b.stored.resolution == 18
    recorded = type(cfg)(cfg)
    again = open_data(recorded, Maker())
    assert again.fingerprint() == data.fingerprint() and again.a.stored.resolution == 18


SMALL = {
    "cyclegan": (
        "dataset=outlines_to_shapes",
        "dataset.a.size=40",
        "model.generator.blocks=1",
        "model.discriminator.halvings=1",
    ),
    "pix2pix": ("dataset.input.size=40", "model.generator.halvings=3", "model.discriminator.halvings=1"),
}


@pytest.mark.parametrize("experiment", SMALL)
def test_resume_is_exact(experiment: str) -> None:
    properties.check_resume(
        (f"experiment={experiment}", "steps=4", "batch=2", "game.grid=2", "engine.device=cpu", "engine.precision=fp32",
         "dataset.resolution=16", "dataset.crop_from=18", "dataset.mirrored=0.5", "model.generator.width=2",
         "model.discriminator.width=2", *SMALL[experiment])
    )  # fmt: skip


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["dataset.crop_from=30"], "dataset.crop_from: 30 pixels, for squares of 32, expected at least 32"),
        (["dataset.crop_from=large"], "dataset.crop_from: 'large', expected a whole number from 2 up or null"),
        (["dataset.mirrored=1.5"], "dataset.mirrored: 1.5, expected a number from 0 to 1"),
        (["dataset.mirrored=nan"], "dataset.mirrored: nan, expected a number from 0 to 1"),
        (["dataset=ring", "dataset.mirrored=0.5"], "dataset.mirrored: points of 1 pixel have no picture to move"),
        (["dataset=ring", "dataset.crop_from=2"], "dataset.crop_from: 2, for points of 1 pixel, expected null"),
        (["dataset=photos", "dataset.crop_from=5000"], "dataset.crop_from: 5000, expected at most 256, as data"),
        (
            ["dataset=array", "dataset.crop_from=36"],
            "dataset.resolution: null, with dataset.crop_from=36, expected the pixels of the squares. "
            "Try: dataset.resolution=32",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_one_line(overrides: list[str], line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_data(composed(*overrides), Maker())
    assert str(caught.value).startswith(line) and "\n" not in str(caught.value)
