"""Captions as data: vocabularies, files of captions, rows of an encoder, and what a batch carries of them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from data_formats import write_image
from support import composed

from ganrun.config.build import open_data
from ganrun.config.instantiate import Maker
from ganrun.core.context import BatchShape, Condition
from ganrun.core.errors import ConfigError
from ganrun.data.datasets.base import Dataset
from ganrun.data.sources.open import open_source
from ganrun.data.transforms.vocabulary import Vocabulary, words_of

SHAPES = ("dataset=shapes", "dataset.size=60", "dataset.text=words")
CPU = torch.device("cpu")


def opened(*overrides: str) -> tuple[Dataset, dict]:
    cfg = composed(*overrides)
    data = open_data(cfg, Maker())
    assert isinstance(data, Dataset)
    return data, cfg.dataset


# Vocabularies


def test_words_are_those_of_a_sentence() -> None:
    assert words_of("A medium-sized, RED star; turned by 30 degrees!") == [
        "a", "medium-sized", "red", "star", "turned", "by", "30", "degrees",
    ]  # fmt: skip
    assert words_of("the cat's Überraschung") == ["the", "cat's", "überraschung"] and words_of("-- !") == []


def test_sentences_come_back_from_their_numbers() -> None:
    captions = ["a small red circle", "a red star, at the top", "Red!"]
    vocabulary = Vocabulary.of(captions)
    assert vocabulary.words[:2] == ("red", "a") and vocabulary.length == 6 and vocabulary.size == 9
    rows = vocabulary.encode(captions)
    assert rows.shape == (3, 6) and rows.dtype == torch.int64 and rows[2].tolist() == [1, 0, 0, 0, 0, 0]
    assert vocabulary.decode(rows) == ["a small red circle", "a red star at the top", "red"]
    again = Vocabulary(" ".join(vocabulary.words).split(), vocabulary.length)  # as the configuration records it
    assert torch.equal(again.encode(captions), rows)


@pytest.mark.parametrize(
    ("sentence", "line"),
    [
        ("a small red pentagon", r"text: 'pentagon' is in no caption, .* such as .*red.* Try: 'text=a small red'$"),
        ("a smal red circle", r"text: 'smal' is in no caption, expected .* such as small. Try: 'text=a small red c"),
        ("", r"text: '' has no word, expected 1 to 4 words"),
        ("a small red circle red", r"text: 'a small red circle red' has 5 words, expected 1 to 4 words"),
    ],
)
def test_what_cannot_be_read_is_refused(sentence: str, line: str) -> None:
    vocabulary = Vocabulary.of(["a small red circle"])
    with pytest.raises(ConfigError, match=f"^{line}"):
        vocabulary.read(["a red circle", sentence], "text")


# What a batch carries


def test_captions_are_numbered_by_the_words_of_the_data() -> None:
    data, settings = opened(*SHAPES)
    assert data.text is not None and data.test is not None and data.test.text is not None
    assert data.text.shape == (54, settings.text_size) and len(data.test.text) == 6
    vocabulary = Vocabulary(settings.words.split(), settings.text_size)
    assert vocabulary.size == settings.word_count
    assert vocabulary.decode(data.text) == [" ".join(words_of(caption)) for caption in data.captions]
    assert vocabulary.decode(data.test.text) == [" ".join(words_of(caption)) for caption in data.test.captions]
    assert "captions of up to" in data.notes[0]


def test_captions_are_part_of_the_fingerprint() -> None:
    data, _ = opened(*SHAPES)
    plain, settings = opened("dataset=shapes", "dataset.size=60")
    assert plain.text is None and (settings.words, settings.text_size) == ("", 0)
    assert data.fingerprint() != plain.fingerprint()


@pytest.mark.parametrize("kind", ["words", "rows"])
def test_resident_and_streamed_captions_are_equal(kind: str, tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.arange(120.0).reshape(60, 2))
    data, settings = opened(*SHAPES[:2], f"dataset.text={'words' if kind == 'words' else tmp_path / 'rows.npy'}")
    resident = open_source(data, seed=3, device=CPU, workers=0, memory=1)
    streamed = open_source(data, seed=3, device=CPU, workers=0, memory=0)
    order = []
    for size in (7, 7, 20, 50, 7):  # across epochs
        one, other = (source.draw(BatchShape(size, 32)) for source in (resident, streamed))
        assert torch.equal(one.images, other.images)
        for given, also in zip(one.condition, other.condition, strict=True):
            assert (given is None) == (also is None) and (given is None or torch.equal(given, also))
        order.append(one.condition)
    assert order[0].tensor is (order[0].text if kind == "words" else order[0].embedding) is not None
    held_out = resident.held_out()
    assert held_out is not None and held_out.condition.tensor is not None and len(held_out.condition.tensor) == 6
    assert torch.equal(resident.pick(torch.tensor([4])).condition.tensor, data.condition.tensor[4:5])  # type: ignore
    streamed.close()
    assert settings.text_size == (2 if kind == "rows" else data.text.shape[1])  # type: ignore[union-attr]


def test_a_condition_is_changed_as_a_whole() -> None:
    given = Condition(labels=torch.arange(3), text=torch.arange(6).view(3, 2), mismatch=torch.zeros(3, 2))
    assert given.tensor is given.text and given.mismatched.text is given.mismatch
    some = given.each(lambda tensor: tensor[1:])
    assert some.labels.tolist() == [1, 2] and some.mismatch.shape == (2, 2) and some.image is None  # type: ignore


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["dataset=digits", "dataset.text=words"], "dataset.text: words, but Digits has no captions"),
        (["dataset=shapes", "dataset.text=rows.txt"], "dataset.text: rows.txt, expected words, or a FILE.npy"),
        (["dataset=shapes", "dataset.text=7"], "dataset.text: 7, expected words, a FILE.npy, or null"),
        (["dataset=digits_to_negatives", "dataset.text=words"], "dataset.text: words, but these are several data sets"),
        ([*SHAPES, "dataset.words=a b c"], "dataset.text_size: '0', but the captions have"),
    ],
)
def test_text_that_cannot_be_is_refused(overrides: list[str], line: str) -> None:
    with pytest.raises(ConfigError, match=f"^{line}"):
        opened(*overrides)


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        (np.zeros((59, 3)), "has 59 rows, expected 60, one for each image"),
        (np.zeros(60), r"has \[60\] values of float64, expected \[N, E\] numbers"),
        (np.full((60, 2), np.nan), "has values that are not finite"),
    ],
)
def test_rows_that_do_not_fit_are_refused(rows: np.ndarray, line: str, tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", rows)
    with pytest.raises(ConfigError, match=f"^dataset.text: .*{line}"):
        opened(*SHAPES[:2], f"dataset.text={tmp_path / 'rows.npy'}")


# Files


def folder(path: Path, count: int = 3) -> Path:
    for number in range(count):
        write_image(path / f"{number}.png", size=(8, 8), seed=number)
    return path


def captions_of(path: Path, *overrides: str) -> tuple[list[str], Dataset]:
    data, _ = opened("dataset=captions", f"dataset.path={path}", "dataset.held_out=0", *overrides)
    return list(data.captions), data


def test_a_text_file_beside_each_image(tmp_path: Path) -> None:
    folder(tmp_path)
    for number, text in enumerate(("a cat\n", "\ufeffa dog\n\n a hound \n", "a bird")):
        (tmp_path / f"{number}.txt").write_text(text)
    captions, data = captions_of(tmp_path, "dataset.text=words")
    assert captions == ["a cat", "a dog", "a hound", "a bird"] and len(data) == 4
    assert torch.equal(data.image(1), data.image(2)) and not torch.equal(data.image(0), data.image(1))
    assert data.text is not None and data.text.shape == (4, 2)
    assert any("4 captions" in note for note in data.notes) and not any("left out" in note for note in data.notes)


LINES = "\n".join(json.dumps({"file": f"{n}.png", "caption": text}) for n, text in ((0, "x y"), (2, "z"), (1, "y")))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("captions.jsonl", LINES),
        ("captions.csv", "file,caption\n0.png,x y\n2,z\n1.png,y\n"),
        ("metadata.csv", "file_name;text\n0.png;x y\n2;z\n1.png;y\n"),
        ("mine.jsonl", LINES.replace("caption", "text").replace('"z"', '["z"]')),
    ],
)
def test_one_file_of_all_captions(name: str, text: str, tmp_path: Path) -> None:
    (folder(tmp_path) / name).write_text(text)
    captions, data = captions_of(tmp_path, *(["dataset.captions=mine.jsonl"] if name == "mine.jsonl" else []))
    assert captions == ["x y", "y", "z"] and data.part(torch.tensor([2, 0])).captions == ["z", "x y"]
    assert not any("left out" in note for note in data.notes)


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("captions.jsonl", '{"file": "0.png", "caption": "x"}', "2 of 3 images have no caption in .*1.png, 2.png"),
        ("captions.jsonl", '{"file": "0.png"}', "line 1 of .* has no name and sentence"),
        ("captions.jsonl", "[", "line 1 of .* cannot be read"),
        ("captions.csv", "a,b\n1,2\n", "has the columns a, b, expected the titles file and caption"),
        ("captions.csv", "file,caption\n0.png, \n", "row 2 of .* has no caption"),
        ("nothing.md", "", "3 of 3 images have no caption in .* expected a FILE.txt beside"),
    ],
)
def test_captions_that_are_not_there_are_refused(name: str, text: str, line: str, tmp_path: Path) -> None:
    (folder(tmp_path) / name).write_text(text)
    with pytest.raises(ConfigError, match=f"^dataset.captions: .*{line}"):
        captions_of(tmp_path)


# Captions as people have them


def folder_of(tmp_path: Path, *names: str) -> Path:
    for seed, name in enumerate(names):
        write_image(tmp_path / name, size=(8, 8), mode="RGB", seed=seed)
    return tmp_path


def test_a_table_of_another_system_is_read(tmp_path: Path) -> None:
    """A byte order mark, CRLF, quotes, a line break in a caption, backslashes, accents taken apart, a stranger."""
    path = folder_of(tmp_path, "a b.png", "\u00e9.png", "sub/c.png")
    rows = ['"a b.png","a ""red"", round\r\ncircle"', "e\u0301.png,blue", ".\\sub\\c.png,green", "gone.png,x"]
    table = "\r\n".join(["file,caption", *rows, ""])
    (path / "captions.csv").write_bytes(table.encode("utf-8-sig"))
    data, _ = opened("dataset=captions", f"dataset.path={path}", "dataset.text=words", "dataset.held_out=0")
    assert dict(zip(data.file_names(), data.captions, strict=True)) == {
        "a b.png": 'a "red", round\r\ncircle', "\u00e9.png": "blue", "sub/c.png": "green",
    }  # fmt: skip
    assert any("captions of images that are not there: 1 (gone.png)" in note for note in data.notes)


def test_no_image_is_held_out_by_one_caption_and_trained_on_by_another(tmp_path: Path) -> None:
    path = folder_of(tmp_path, *(f"{i}.png" for i in range(6)))
    for i in range(6):
        (path / f"{i}.txt").write_text("red\nround\nlarge\n")
    for share in ("0.1", "0.3", "4", "17"):
        data, _ = opened("dataset=captions", f"dataset.path={path}", f"dataset.held_out={share}")
        out = data.test.file_names()
        own = data.file_names()[: len(data)]
        assert out and own and not set(own) & set(out) and len(own) + len(out) == 18


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"file,caption\na.png,\n", "row 2 of .* has no caption, .*Try: writing one there$"),
        ("file,caption\na.png,\u00e9\n".encode("latin1"), "no text in UTF-8 .*Try: saving it as UTF-8$"),
        (b"file,caption\nb.png,x\n", "1 of 1 images have no caption .*Try: adding them, or taking these images out$"),
    ],
)
def test_remedies_of_captions_can_be_followed(content: bytes, line: str, tmp_path: Path) -> None:
    path = folder_of(tmp_path, "a.png")
    (path / "captions.csv").write_bytes(content)
    with pytest.raises(ConfigError, match=f"^dataset.captions: .*{line}"):
        opened("dataset=captions", f"dataset.path={path}", "dataset.text=words")


def test_a_file_of_rows_that_is_not_there_is_named_at_its_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^dataset\.text: .*gone\.npy cannot be opened .*Try: dataset\.text=words$"):
        opened("dataset=shapes", "dataset.size=60", f"dataset.text={tmp_path / 'gone.npy'}")
