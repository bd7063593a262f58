"""Whose turn it is: the updates of each step, in order."""

from __future__ import annotations

from dataclasses import replace

from ganrun.core.context import Stage, Update
from ganrun.core.errors import Refused
from ganrun.core.game import Game


class Alternate:
    """The discriminator moves, then the generator. Goodfellow et al. 2014, algorithm 1, with k = `discriminator`.

    For the first `head_start_steps` steps, and then at every `head_start_every`-th if that is above 0, the two
    `head_start_*` counts hold instead. With `reuse_fakes`, the fakes of
    the discriminator's last update serve the generator's first as well, so that they are made once; algorithm 1 draws
    fresh noise there, which costs one more pass through the generator. The generator's updates have `generator_batch`
    times as many images as the discriminator's. Gulrajani et al. 2017, gan_cifar_resnet.py.
    """

    def __init__(
        self,
        *,
        discriminator: int,
        generator: int,
        head_start_steps: int,
        head_start_every: int,
        head_start_discriminator: int,
        head_start_generator: int,
        reuse_fakes: bool,
        generator_batch: int,
    ):
        self.counts = self._positive("discriminator", discriminator), self._positive("generator", generator)
        self.head_start_steps, self.head_start_every = head_start_steps, head_start_every
        self.head_start = head_start_discriminator, head_start_generator
        if min(self.head_start) < 0 or not any(self.head_start):
            raise Refused("updates", f"a head start of {self.head_start} updates", "counts of which one is above 0")
        if reuse_fakes and generator_batch > 1:
            found = f"{generator_batch} batches for G, but with updates.reuse_fakes D hands on one"
            raise Refused("updates.generator_batch", found, "1, or fresh fakes", "updates.reuse_fakes=false")
        self.reuse_fakes = reuse_fakes
        self.generator_batch = self._positive("generator_batch", generator_batch, "times the images of a batch")

    @staticmethod
    def _positive(name: str, count: int, what: str = "updates a step") -> int:
        if count < 1:
            raise Refused(f"updates.{name}", f"{count} {what}", "at least 1")
        return count

    def __call__(self, game: Game, step: int) -> list[Update]:
        """The updates of this step (0 is the first)."""
        again = self.head_start_every > 0 and step % self.head_start_every == 0
        counts = self.head_start if again or step < self.head_start_steps else self.counts
        due = game.due(step)
        updates = [
            Update(player=player, stage=self.stage(game, player), due=due)
            for player, count in zip(("discriminator", "generator"), counts, strict=True)
            if not game.sits_out(step, player)
            for _ in range(count)
        ]
        return self._hand_on(updates) if self.reuse_fakes else updates

    def stage(self, game: Game, player: str) -> Stage:
        """The size of this player's updates."""
        batches = self.generator_batch if player == "generator" else 1
        return game.stage._replace(images=game.stage.images * batches)

    @staticmethod
    def _hand_on(updates: list[Update]) -> list[Update]:
        for i in range(1, len(updates)):
            if (updates[i - 1].player, updates[i].player) == ("discriminator", "generator"):
                updates[i - 1] = replace(updates[i - 1], hands_on=True)
                updates[i] = replace(updates[i], takes_over=True)
        return updates
