"""Sentences as numbers: the words of a data set's captions, each with its number."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from ganrun.core.errors import ConfigError, for_shell, nearest

WORD = re.compile(r"[^\W_]+(?:[-'.][^\W_]+)*")  # letters and digits; one mark may join two parts
MOST = 20_000  # words; of more, the rarest are left out of the sentences
LONGEST = 64  # words of a sentence that are read
SHOWN, SHORT = 30, 2  # words that a message lists, and letters of those that it does not


def words_of(sentence: str) -> list[str]:
    """The words of a sentence in lower case, without punctuation."""
    return WORD.findall(sentence.lower())


class Vocabulary:
    """Words by number, from 1 on; 0 stands for the end of a sentence."""

    def __init__(self, words: Iterable[str], length: int):
        """`length` is the number of words of the longest sentence, to which all are filled up."""
        self.words, self.length = tuple(words), length
        self._numbers = {word: number for number, word in enumerate(self.words, 1)}

    @classmethod
    def of(cls, captions: Sequence[str]) -> Vocabulary:
        """The words of these captions, the most frequent first."""
        split = [words_of(caption) for caption in captions]
        counts = Counter(word for words in split for word in words)
        common = sorted(counts, key=lambda word: (-counts[word], word))[:MOST]
        longest = max((len(words) for words in split), default=0)
        return cls(common, max(1, min(longest, LONGEST)))

    @property
    def size(self) -> int:
        """How many numbers there are, 0 included."""
        return len(self.words) + 1

    def encode(self, sentences: Sequence[str]) -> Tensor:
        """The numbers of the words of each sentence, 0 after its end. [N, L] int64

        Words that are not in the vocabulary are left out, and so is what is beyond the longest sentence.
        """
        rows = torch.zeros(len(sentences), self.length, dtype=torch.int64)
        for row, sentence in zip(rows, sentences, strict=True):
            numbers = [self._numbers[word] for word in words_of(sentence) if word in self._numbers][: self.length]
            row[: len(numbers)] = torch.tensor(numbers, dtype=torch.int64)
        return rows

    def read(self, sentences: Sequence[str], where: str) -> Tensor:
        """As `encode`, [N, L]. Raises ConfigError for unknown words, for no word, and for a sentence too long."""
        for sentence in sentences:
            self._check(sentence, where)
        return self.encode(sentences)

    def decode(self, rows: Tensor) -> list[str]:
        """The words of each row [L] of numbers, separated by spaces."""
        return [" ".join(self.words[number - 1] for number in row if number) for row in rows.tolist()]

    def _check(self, sentence: str, where: str) -> None:
        words = words_of(sentence)
        if not words or len(words) > self.length:
            found = f"{sentence!r} has {len(words)} words" if words else f"{sentence!r} has no word"
            raise ConfigError(where, found, f"1 to {self.length} words, as the captions of this run have")
        unknown = next((word for word in words if word not in self._numbers), None)
        if unknown is not None:
            close = nearest(unknown, self.words)
            replaced = re.sub(rf"(?<!\w){re.escape(unknown)}(?!\w)", close, sentence.lower())
            shorter = " ".join(replaced.split()) if words_of(replaced) else self.words[0]
            known = close or ", ".join([word for word in self.words if len(word) > SHORT][:SHOWN])
            expected = f"words of the captions of this run, such as {known}"
            raise ConfigError(where, f"{unknown!r} is in no caption", expected, for_shell(f"{where}={shorter}"))
