"""Tricks that are broken on purpose, each in one way, to show that the family tests see it."""

import torch
from torch import Tensor, nn

from ganrun.core.context import Context, PairView, Role
from ganrun.core.trick import Trick


class LeCamLike(Trick):
    """Correct: a running mean of scores that its own term reads. The tricks below break it, or do less."""

    mean: Tensor
    persistent = True

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.ones(()), persistent=self.persistent)

    def observe(self, context: Context) -> None:
        self.mean.lerp_(context.on_fake.score.mean(), 0.5)

    def discriminator_term(self, context: Context) -> Tensor:
        return (context.on_fake.score - self.mean).square().mean()


class Forgets(LeCamLike):
    """Its state is left out of checkpoints."""

    persistent = False


class RebindsState(LeCamLike):
    """Puts its state into new storage at every update."""

    def observe(self, context: Context) -> None:
        self.mean = self.mean.lerp(context.on_fake.score.mean(), 0.5)


class KeepsStateOnTheHost(Trick):
    """Counts its updates in an attribute, which no checkpoint holds."""

    count = 0

    def discriminator_term(self, context: Context) -> Tensor:
        self.count += 1
        return context.on_fake.score.square().mean() * self.count


class SeesNothing(Trick):
    """A view that draws random numbers and changes nothing."""

    def view(self, images: Tensor) -> Tensor:
        return images + 0 * torch.randn_like(images)


class ChoosesAll(Trick):
    """Keeps every fake's score, after drawing random numbers."""

    def choose(self, score: Tensor) -> Tensor:
        return score + 0 * torch.rand_like(score)


class BeginsIdly(Trick):
    """Draws random numbers before each step; no player sits out, and no gradient changes."""

    def begin(self, pair: PairView, step: int) -> None:
        torch.rand(3)

    def sits_out(self, step: int, player: Role) -> bool:
        return False

    def before(self, pair: PairView, player: Role) -> None:
        for parameter in getattr(pair, player).parameters():
            parameter.grad.mul_(1)


class RebuildsNothing(Trick):
    """Draws random numbers while the networks are fitted, and leaves them as they are."""

    def modify(self, net: nn.Module, role: Role) -> nn.Module:
        torch.rand(3)
        return net


class WeighsNothing(Trick):
    """A term without a gradient."""

    def discriminator_term(self, context: Context) -> Tensor:
        return context.on_fake.score.detach().square().mean()


class AsksTheHost(LeCamLike):
    """Waits for the device in every update."""

    def discriminator_term(self, context: Context) -> Tensor:
        return super().discriminator_term(context) * (1.0 if context.on_fake.score.mean().item() > 0 else 2.0)


class Branches(LeCamLike):
    """Branches on a tensor."""

    def discriminator_term(self, context: Context) -> Tensor:
        term = super().discriminator_term(context)
        return term if context.on_fake.score.mean() > 0 else 2 * term


class Masks(LeCamLike):
    """Selects by a mask, whose count only the device knows."""

    def discriminator_term(self, context: Context) -> Tensor:
        score = context.on_fake.score
        return score[score > -1e9].square().mean()


class Lists(LeCamLike):
    """Turns a tensor into Python numbers."""

    def discriminator_term(self, context: Context) -> Tensor:
        return super().discriminator_term(context) * len(context.on_fake.score.detach().tolist())


class ReplacesGradients(Trick):
    """Gives the networks new gradient tensors after each update."""

    def after(self, pair: PairView, player: Role) -> None:
        for parameter in getattr(pair, player).parameters():
            parameter.grad = parameter.grad.clone()


class ReplacesWeights(Trick):
    """Clamps into new storage."""

    def after(self, pair: PairView, player: Role) -> None:
        for parameter in pair.discriminator.parameters():
            parameter.data = parameter.data.clamp(-0.01, 0.01)


class KeepsAConstantOnTheHost(Trick):
    """Multiplies scores by numbers that stay on the host when the run moves."""

    def __init__(self) -> None:
        super().__init__()
        self.ramp = torch.linspace(0, 1, 4)

    def discriminator_term(self, context: Context) -> Tensor:
        return (context.on_fake.score * self.ramp).mean()


class DrawsOnTheHost(Trick):
    """Draws its random numbers on the host."""

    def view(self, images: Tensor) -> Tensor:
        return torch.where(torch.rand(len(images), 1, 1, 1) < 0.5, images, -images)
