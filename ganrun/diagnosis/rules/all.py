"""Every rule, the one whose finding explains most first."""

from __future__ import annotations

from ganrun.diagnosis.rule import Rule
from ganrun.diagnosis.rules.balance import DiscriminatorIdle, DiscriminatorWins, GeneratorStarves
from ganrun.diagnosis.rules.course import Healthy, Oscillation, Peaked, SlowStart, UnusualSettings
from ganrun.diagnosis.rules.numbers import GradientExplodes, NotFinite, PenaltyOffTarget, Saturated
from ganrun.diagnosis.rules.samples import (
    AverageLags,
    Checkerboard,
    Copies,
    CriticOverfits,
    LabelsIgnored,
    LowContrast,
    ModeCollapse,
    PartialCollapse,
)

RULES: tuple[Rule, ...] = (
    NotFinite(), GradientExplodes(), UnusualSettings(), PenaltyOffTarget(), Saturated(), DiscriminatorIdle(),
    GeneratorStarves(), DiscriminatorWins(), ModeCollapse(), PartialCollapse(), Copies(), CriticOverfits(),
    LabelsIgnored(), Oscillation(), LowContrast(), Peaked(), AverageLags(), Checkerboard(), SlowStart(), Healthy(),
)  # fmt: skip
