"""A finding: what is wrong with a run, the figures that show it, and what to try."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ganrun.core.errors import for_shell


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong with a run, or with its data.

    Each of `remedies` is one word of a command line or more, such as `loss=hinge optim.discriminator.lr=1e-4`, with
    spaces between words and none in them, and without the quotes that a shell needs.
    """

    name: str  # in snake case, such as data_out_of_range
    meaning: str  # one sentence
    evidence: Mapping[str, float] = field(default_factory=dict)  # figures by name, in the order in which they are read
    remedies: tuple[str, ...] = ()  # the likeliest first

    @property
    def evidence_line(self) -> str:
        """The evidence in words: least -1, largest -0.8."""
        return ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in self.evidence.items())

    @property
    def line(self) -> str:
        """All of it in one line, with the likeliest remedy."""
        figures = f" ({self.evidence_line})" if self.evidence else ""
        remedy = f" Try: {' '.join(map(for_shell, self.remedies[0].split()))}" if self.remedies else ""
        return f"{self.name}: {self.meaning}{figures}{remedy}"
