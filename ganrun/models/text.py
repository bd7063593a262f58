"""What networks make of sentences: vectors by an encoder, and from these the codes that a generator reads."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ganrun.core import limits
from ganrun.core.errors import ConfigError
from ganrun.models import base, layers

KINDS = ("gru", "bag", "given")
ACTIVATIONS = ("relu", "leaky_relu", "glu", "none")
SLOPE = 0.2  # of leaky_relu


class TextEncoder(nn.Module):
    """A sentence as a vector. Each network has an encoder of its own, which its own player trains.

    `gru`: the last state of a gated recurrent unit over embedded words (Cho et al. 2014, arXiv 1406.1078, equations 5
    to 8). `bag`: the mean of the embedded words, whatever their order. `given`: rows [B, E] of another network, such
    as the char-CNN-RNN of Reed et al. 2016, as they are.
    """

    def __init__(self, *, kind: str, words: int, length: int, embed: int, units: int):
        """`words` and `length` are those of the data: how many numbers of words, and the longest sentence.

        Raises ConfigError where the data have no captions, or not of this kind.
        """
        super().__init__()
        limits.choice(".kind", kind, KINDS)
        limits.whole(".embed", embed, 1)
        limits.whole(".units", units, 1)
        _check_data(kind, words, length)
        self.kind, self.length = kind, length
        self.size = {"gru": units, "bag": embed, "given": length}[kind]  # of the vector
        if kind != "given":
            self.table = nn.Embedding(words, embed)
        if kind == "gru":
            self.input, self.state = nn.Linear(embed, 3 * units), nn.Linear(units, 3 * units)
            for parameter in (*self.input.parameters(), *self.state.parameters()):
                nn.init.uniform_(parameter, -1 / math.sqrt(units), 1 / math.sqrt(units))

    def forward(self, text: Tensor) -> Tensor:
        """Words by number [B, L] int64 to vectors [B, size]; vectors, which are no whole numbers, stay as they are."""
        if text.is_floating_point():
            return text
        return self._last_state(text) if self.kind == "gru" else self._mean(text)

    def blank(self, count: int) -> Tensor:
        """Empty sentences. [count, L] int64 or [count, E]"""
        device = next((p.device for p in self.parameters()), None)
        kind = torch.float32 if self.kind == "given" else torch.int64
        return torch.zeros(count, self.length, dtype=kind, device=device)

    def _mean(self, text: Tensor) -> Tensor:
        """The mean of the vectors of all words; 0 of an empty sentence. [B, L] -> [B, size]"""
        there = text.ne(0)
        vectors: Tensor = self.table(text) * there[..., None]
        return vectors.sum(1) / there.sum(1, keepdim=True).clamp(min=1)

    def _last_state(self, text: Tensor) -> Tensor:
        """The state behind the last word of each sentence. [B, L] -> [B, size]"""
        inputs, there = self.input(self.table(text)), text.ne(0)[..., None]
        state = inputs.new_zeros(text.shape[0], self.size)
        for step in range(text.shape[1]):
            reset, update, new = inputs[:, step].chunk(3, 1)
            of_reset, of_update, of_new = self.state(state).chunk(3, 1)
            kept = torch.sigmoid(update + of_update)
            candidate = torch.tanh(new + torch.sigmoid(reset + of_reset) * of_new)
            state = torch.where(there[:, step], candidate + kept * (state - candidate), state)
        return state

    def extra_repr(self) -> str:
        """The settings, as `print` shows them."""
        return f"{self.kind}, size={self.size}"


class Augmentation(nn.Module):
    """Conditioning augmentation: a sentence is a normal distribution, of which a code is drawn. Section 3.2.

    c = mu + sigma * eps, both made from the sentence's vector by one dense layer, sigma as the logarithm of sigma^2.
    """

    def __init__(self, *, inputs: int, code: int, activation: str):
        """`activation` follows the dense layer: relu, leaky_relu, glu or none.

        relu is that of StackGAN-Pytorch, leaky_relu that of the paper's code. With glu (StackGAN-v2) the layer has
        twice as many outputs: a gated linear unit halves them.
        """
        super().__init__()
        limits.whole(".code", code, 1)
        limits.choice(".augmentation", activation, ACTIVATIONS)
        self.dense = nn.Linear(inputs, (4 if activation == "glu" else 2) * code)
        own: dict[str, nn.Module] = {"none": nn.Identity(), "glu": nn.GLU(1)}
        self.activation = own[activation] if activation in own else layers.activation(activation, SLOPE)

    def moments(self, vector: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance of each number of the code. [B, N] -> [B, C], [B, C]"""
        mean, log_variance = self.activation(self.dense(vector)).chunk(2, 1)
        return mean, log_variance

    def forward(self, vector: Tensor, noise: Tensor) -> Tensor:
        """The code of a sentence's vector [B, N] with this noise eps [B, C] of N(0, 1). [B, C]"""
        mean, log_variance = self.moments(vector)
        return mean + (log_variance / 2).exp() * noise


class TextGenerator(base.Generator):
    """What generators that read a sentence have in common; the last numbers of the latent are eps of the augmentation.

    Zhang et al. 2017, section 3.2.
    """

    conditional = True
    text: TextEncoder
    augmentation: Augmentation

    def moments(self, text: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance of the codes of sentences [B, L] or [B, E]. [B, C] each"""
        return self.augmentation.moments(self.text(text))

    def blank(self, count: int) -> Tensor:
        """Empty sentences. [count, L] int64 or [count, E]"""
        return self.text.blank(count)


def _check_data(kind: str, words: int, length: int) -> None:
    if not length:
        expected, remedy = "captions to read", "dataset=shapes dataset.text=words, or other data with captions"
        raise ConfigError(".length", "0, as no captions are read", expected, remedy)
    if (kind == "given") != (words == 0):
        found = f"{kind}, but dataset.text is {'a file of rows' if words == 0 else 'words'}"
        right = "given" if words == 0 else "gru"
        raise ConfigError(".kind", found, right if words == 0 else "gru or bag", f"model.text.kind={right}")
