"""A finding: what is wrong with a run, the figures that show it, and what to try."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ganrun.core.errors import for_shell


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong with a run, or with its data; or a remark, such as that it is healthy.

    Each of `remedies` is one word of a command line or more, such as `loss=hinge optim.discriminator.lr=1e-4`, with
    spaces between words and none in them, and without the quotes that a shell needs.
    """

    name: str  # in snake case, such as data_out_of_range
    meaning: str  # one sentence
    failure: bool = False  # whether a run with it cannot become good
    evidence: Mapping[str, float] = field(default_factory=dict)  # figures by name, in the order in which they are read
    remedies: tuple[str, ...] = ()  # the likeliest first

    @property
    def evidence_line(self) -> str:
        """The evidence in words: least -1, largest -0.8. Tags of metrics stay as they are."""
        names = {name: name if "/" in name else name.replace("_", " ") for name in self.evidence}
        return ", ".join(f"{names[name]} {value:.4g}" for name, value in self.evidence.items())

    @property
    def commands(self) -> list[str]:
        """Each remedy as it is typed into a shell."""
        return [" ".join(map(for_shell, remedy.split())) for remedy in self.remedies]

    @property
    def line(self) -> str:
        """All of it in one line, with the likeliest remedy."""
        figures = f" ({self.evidence_line})" if self.evidence else ""
        remedy = f" Try: {self.commands[0]}" if self.remedies else ""
        return f"{self.name}: {self.meaning}{figures}{remedy}"

    @property
    def plain(self) -> dict[str, Any]:
        """What findings.jsonl holds of it beside its name."""
        evidence = {name: round(value, 6) for name, value in self.evidence.items()}
        return {"meaning": self.meaning, "evidence": evidence, "remedies": list(self.remedies)}
