"""How tricks compose: one generator against one discriminator."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ganrun.core.context import Context, DiscriminatorOutput, Latent, Outcome, Targets, Update
from ganrun.core.loss import Loss
from ganrun.core.modes import evaluating
from ganrun.core.trick import Trick, Tricks


class Pair(nn.Module):
    """The adversarial contest itself: who scores what, and which terms each side minimises.

    Every game is made of pairs, so a trick that works in one game works in all of them,
    and each pair owns its tricks, so two pairs never share a pool, an average or a k.
    """

    shown: Tensor | None = None  # [B] labels of the batch that tricks are being bound to

    def __init__(
        self, *, generator: nn.Module, discriminator: nn.Module, loss: Loss, tricks: Mapping[str, Trick]
    ) -> None:
        super().__init__()
        self.tricks = Tricks(tricks)
        self.loss = loss
        self.generator: nn.Module = self.tricks.fold(Trick.modify, generator, "generator")
        self.discriminator: nn.Module = self.tricks.fold(Trick.modify, discriminator, "discriminator")

    def judge(self, images: Tensor, labels: Tensor | None = None) -> DiscriminatorOutput:
        """Score images as the discriminator sees them, through every view. [B, C, H, W] -> score [B]"""
        return self.discriminator(self.tricks.fold(Trick.view, images), labels).float()

    def discriminator_outcome(
        self, update: Update, real: Tensor, fake: Tensor, *, labels: Tensor | None = None, latent: Latent | None = None
    ) -> Outcome:
        """The discriminator's side: reals and fakes are judged in two calls, so that no batch statistic mixes them."""
        grad = self.tricks.differentiate(update.due)
        real = self.tricks.fold(Trick.reals, real).detach().requires_grad_(grad)
        fake = self.tricks.fold(Trick.replay, fake.detach()).detach().requires_grad_(grad)
        on_real, on_fake = self.judge(real, labels), self.judge(fake, labels)
        context = Context(
            pair=self, real=real, fake=fake, on_real=on_real, on_fake=on_fake, labels=labels, latent=latent
        )
        self.tricks.each(Trick.observe, context)
        hard = Targets.clean(on_real.score, on_fake.score)
        targets = self.tricks.fold(Trick.encode, self.tricks.fold(Trick.targets, hard))
        adversarial = self.loss.discriminator(on_real.score, on_fake.score, targets)
        terms = {"adversarial": adversarial} | self.tricks.terms(Trick.discriminator_term, context, update.due)
        return Outcome(terms, self._measures(on_real.score, on_fake.score, hard))

    def generator_outcome(
        self,
        update: Update,
        real: Tensor | None,
        fake: Tensor,
        *,
        labels: Tensor | None = None,
        latent: Latent | None = None,
    ) -> Outcome:
        """The generator's side. Reals are judged only when the loss or a due trick compares with them."""
        real = self.tricks.fold(Trick.reals, real) if real is not None else None
        on_real = self.judge(real, labels) if real is not None and self.paired(update) else None
        on_fake = self.judge(fake, labels)
        context = Context(
            pair=self, real=real, fake=fake, on_real=on_real, on_fake=on_fake, labels=labels, latent=latent
        )
        chosen = self.tricks.fold(Trick.choose, on_fake.score)
        targets = self.tricks.fold(Trick.encode, Targets.clean(chosen, chosen))
        adversarial = self.loss.generator(chosen, on_real.score if on_real else None, targets)
        terms = self.tricks.terms(Trick.generator_term, context, update.due)
        if self.tricks.replaces():
            return Outcome(terms, {"replaced/adversarial": adversarial.detach()})
        return Outcome({"adversarial": adversarial} | terms, {})

    def paired(self, update: Update) -> bool:
        """Whether the generator's side of this update compares with reals."""
        return self.loss.paired or self.tricks.paired(update.due)

    @contextmanager
    def sampler(self) -> Iterator[nn.Module]:
        """The generator to draw samples from, with the statistics it has learnt instead of the batch's."""
        net: nn.Module = self.tricks.fold(Trick.sampler, self.generator)
        with evaluating(net):
            yield net

    @torch.no_grad()
    def bind(self, real: Tensor, fake: Tensor, labels: Tensor | None = None) -> None:
        """Let every trick allocate its state from one batch of reals and fakes."""
        self.shown = labels
        self.tricks.each(Trick.bind, self, real, fake)
        self.shown = None

    @torch.no_grad()
    def gauges(self) -> dict[str, Tensor]:
        """The numbers that the loss and the tricks want logged."""
        return {f"loss/{key}": value for key, value in self.loss.gauges().items()} | self.tricks.gauges()

    @torch.no_grad()
    def _measures(self, real: Tensor, fake: Tensor, hard: Targets) -> dict[str, Tensor]:
        """Mean scores and, where the loss has targets, D(x) and D(G(z)): always the probability of being real."""
        measures = {"score/real": real.mean(), "score/fake": fake.mean()}
        code = self.tricks.fold(Trick.encode, hard)
        for name, score, one, zero in (
            ("balance/D(x)", real, code.real, 1 - code.real),
            ("balance/D(G(z))", fake, 1 - code.fake, code.fake),
        ):
            answer = self.loss.answer(score)
            if answer is not None:
                measures[name] = ((answer - zero) / (one - zero)).clamp(0, 1).mean()
        return measures
