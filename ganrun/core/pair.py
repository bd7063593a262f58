"""How tricks compose: one generator against one discriminator."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ganrun.core.context import (
    ALONE,
    UNCONDITIONAL,
    Condition,
    Context,
    DiscriminatorOutput,
    Latent,
    Metrics,
    Observed,
    Outcome,
    Role,
    Targets,
    Update,
)
from ganrun.core.images import Images, detached, largest
from ganrun.core.loss import Loss
from ganrun.core.modes import evaluating
from ganrun.core.trick import Trick, Tricks


class Pair(nn.Module):
    """One generator against one discriminator: which scores are computed, and which terms each side minimises.

    Every game is made of pairs, so a trick that works in one game works in all of them,
    and each pair owns its tricks, so two pairs never share a pool, an average or a k.
    """

    condition: Condition = UNCONDITIONAL  # of the batch that tricks are being bound to

    def __init__(
        self,
        *,
        generator: nn.Module,
        discriminator: nn.Module,
        loss: Loss,
        tricks: Mapping[str, Trick],
        shared: frozenset[Role] = frozenset(),
    ) -> None:
        """`shared` are the roles whose network an earlier pair has too, and has let its own tricks modify."""
        super().__init__()
        self.tricks = Tricks(tricks)
        self.loss = loss
        self.generator = self._modified(generator, "generator", shared)
        self.discriminator = self._modified(discriminator, "discriminator", shared)

    def _modified(self, net: nn.Module, role: Role, shared: frozenset[Role]) -> nn.Module:
        if role in shared:
            return net
        modified: nn.Module = self.tricks.fold(Trick.modify, net, role)
        return modified

    def judge(self, images: Images, condition: Condition = UNCONDITIONAL) -> DiscriminatorOutput:
        """Score images as the discriminator sees them, through every view. [B, C, H, W] -> score [B] in float32"""
        return self.discriminator(self.tricks.fold(Trick.view, images), condition.tensor).float()

    def discriminator_outcome(
        self,
        update: Update,
        real: Images,
        fake: Images,
        *,
        condition: Condition = UNCONDITIONAL,
        latent: Latent | None = None,
    ) -> Outcome:
        """The discriminator's side, on reals and fakes [B, C, H, W].

        They are judged in two calls, so that no batch statistic mixes them. With conditions of other images
        (`mismatch`), D's loss is the mean of that against fakes and that against reals which do not fit theirs: Zhang
        et al. 2017, equation 3, where each is half of what D is to call fake.
        """
        grad = self.tricks.differentiate(update.due)
        real = detached(self.tricks.fold(Trick.reals, real), differentiable=grad)
        fake = detached(self.tricks.fold(Trick.replay, detached(fake)), differentiable=grad)
        on_real, on_fake = self.judge(real, condition), self.judge(fake, condition)
        context = Context(
            pair=self, real=real, fake=fake, on_real=on_real, on_fake=on_fake, condition=condition, latent=latent
        )
        self.tricks.each(Trick.observe, context)
        hard = Targets.clean(on_real.score, on_fake.score)
        targets = self.tricks.fold(Trick.encode, self.tricks.fold(Trick.targets, hard))
        adversarial = self.loss.discriminator(on_real.score, on_fake.score, targets)
        scores = {"real": on_real.score, "fake": on_fake.score}
        if condition.mismatch is not None:
            scores["mismatch"] = self.judge(real, condition.mismatched).score
            adversarial = (adversarial + self.loss.discriminator(on_real.score, scores["mismatch"], targets)) / 2
        terms = {"adversarial": adversarial} | self.tricks.terms(Trick.discriminator_term, context, update.due)
        if (alone := on_real.alone) is not None and on_fake.alone is not None:
            terms[ALONE] = self.loss.discriminator(alone, on_fake.alone, targets)
        metrics = self._score_metrics(scores, hard)
        return Outcome(terms=terms, metrics=metrics, observed={"": observed(context)})

    def generator_outcome(
        self,
        update: Update,
        real: Images | None,
        fake: Images,
        *,
        condition: Condition = UNCONDITIONAL,
        latent: Latent | None = None,
    ) -> Outcome:
        """The generator's side, on [B, C, H, W]. Reals are judged only when the loss or a due trick compares them."""
        real = self.tricks.fold(Trick.reals, real) if real is not None else None
        on_real = self.judge(real, condition) if real is not None and self.paired(update) else None
        on_fake = self.judge(fake, condition)
        context = Context(
            pair=self, real=real, fake=fake, on_real=on_real, on_fake=on_fake, condition=condition, latent=latent
        )
        chosen = self.tricks.fold(Trick.choose, on_fake.score)
        targets = self.tricks.fold(Trick.encode, Targets.clean(chosen, chosen))
        adversarial = self.loss.generator(chosen, on_real.score if on_real else None, targets)
        terms = self.tricks.terms(Trick.generator_term, context, update.due)
        if on_fake.alone is not None:
            alone = self.tricks.fold(Trick.choose, on_fake.alone)
            terms[ALONE] = self.loss.generator(alone, on_real.alone if on_real else None, targets)
        seen = {"": observed(context)}
        if self.tricks.replaces():
            return Outcome(terms=terms, metrics={"replaced/adversarial": adversarial.detach()}, observed=seen)
        return Outcome(terms={"adversarial": adversarial} | terms, metrics={}, observed=seen)

    def paired(self, update: Update) -> bool:
        """Whether the generator's side of this update compares with reals."""
        return self.loss.paired or self.tricks.paired(update.due)

    def log_odds(self, images: Images, condition: Condition = UNCONDITIONAL) -> Tensor:
        """D's logit that images [B, C, H, W] are real, without views and with the statistics it has learnt. [B]

        Means something where the loss trains D as a classifier (Fact.PROBABILITY).
        """
        with evaluating(self.discriminator):
            score = self.discriminator(images, condition.tensor).float().score
        code = self.tricks.fold(Trick.encode, Targets.clean(score, score))
        return score * (2 * code.real - 1)  # the logit of "fake" where a trick made 0 stand for real

    @contextmanager
    def sampler(self) -> Iterator[nn.Module]:
        """The generator to draw samples from, with the statistics it has learnt instead of the batch's."""
        net: nn.Module = self.tricks.fold(Trick.sampler, self.generator)
        with evaluating(net):
            yield net

    @torch.no_grad()
    def bind(self, real: Images, fake: Images, condition: Condition = UNCONDITIONAL) -> None:
        """Let every trick allocate its state from one batch of reals and fakes, [B, C, H, W] each."""
        self.condition = condition
        self.tricks.each(Trick.bind, self, real, fake)
        self.condition = UNCONDITIONAL

    @torch.no_grad()
    def metrics(self) -> Metrics:
        """The numbers that the loss and the tricks want logged after each discriminator update. Each []"""
        return {f"loss/{key}": value for key, value in self.loss.metrics().items()} | self.tricks.metrics()

    @torch.no_grad()
    def _score_metrics(self, scores: Mapping[str, Tensor], hard: Targets) -> Metrics:
        """Mean scores [] of reals, fakes and mismatches, and where the loss has targets, D(x) and so on.

        Scores and probabilities rise with being real, whichever number a trick made stand for it. Energies fall.
        """
        code, metrics = self.tricks.fold(Trick.encode, hard), {}
        for name, score in scores.items():
            one, zero = (code.real, 1 - code.real) if name == "real" else (1 - code.fake, code.fake)
            metrics[f"{self.loss.output_name}/{name}"] = (score * (one - zero)).mean()
            probability = self.loss.probability(score)
            if probability is not None:
                metrics[f"probability/{name}"] = ((probability - zero) / (one - zero)).clamp(0, 1).mean()
        return metrics


def observed(context: Context) -> Observed:
    """What callbacks may see of an update: [B, C, H, W] at the largest scale and scores [B], without gradients."""
    compared = context.real is not None and context.on_real is not None
    return Observed(
        fake=largest(context.fake).detach(),
        fake_score=context.on_fake.score.detach(),
        real=largest(context.real).detach() if context.real is not None and compared else None,
        real_score=context.on_real.score.detach() if context.on_real is not None and compared else None,
    )
