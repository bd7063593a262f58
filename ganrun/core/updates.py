"""Whose turn it is: the updates of each step, in order."""

from __future__ import annotations

from dataclasses import replace

from ganrun.core.context import BatchShape, Role, Update
from ganrun.core.errors import ConfigError
from ganrun.core.game import Game


class Alternate:
    """The discriminator is updated, then the generator. Goodfellow et al. 2014, algorithm 1, with k = `discriminator`.

    For the first `head_start_steps` steps, and then at every `head_start_every`-th if that is above 0, the two
    `head_start_*` counts replace the others. With `share_fakes`, in games that allow it, the discriminator's last
    update and the generator's first are one joint update on the same fakes, so that they are made once; algorithm 1
    draws fresh noise there, which costs one more pass through the generator. The generator's updates have
    `generator_batch` times as many images as the discriminator's. Gulrajani et al. 2017, gan_cifar_resnet.py.
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
        share_fakes: bool,
        generator_batch: int,
    ):
        """Raises ConfigError for counts below 1, and for a larger batch of the generator with shared fakes."""
        self.counts: dict[Role, int] = {
            "discriminator": self._positive("discriminator", discriminator),
            "generator": self._positive("generator", generator),
        }
        self.head_start_steps, self.head_start_every = head_start_steps, head_start_every
        self.head_start: dict[Role, int] = {
            "discriminator": head_start_discriminator,
            "generator": head_start_generator,
        }
        if min(self.head_start.values()) < 0 or not any(self.head_start.values()):
            found = f"a head start of {head_start_discriminator, head_start_generator} updates"
            raise ConfigError(".", found, "counts of which one is above 0")
        if share_fakes and generator_batch > 1:
            found = f"{generator_batch} batches for G, but with .share_fakes D has one to share"
            raise ConfigError(".generator_batch", found, "1, or fresh fakes", ".share_fakes=false")
        self.share_fakes = share_fakes
        self.generator_batch = self._positive("generator_batch", generator_batch, "times the images of a batch")

    @staticmethod
    def _positive(name: str, count: int, what: str = "updates a step") -> int:
        if count < 1:
            raise ConfigError(f".{name}", f"{count} {what}", "at least 1")
        return count

    def __call__(self, game: Game, step: int) -> list[Update]:
        """The updates of this step (0 is the first)."""
        again = self.head_start_every > 0 and step % self.head_start_every == 0
        counts = self.head_start if again or step < self.head_start_steps else self.counts
        due = game.due(step)
        updates = [
            Update(player=player, role=role, shape=self.shape(game, role), due=due)
            for player, role in game.players.items()
            if not game.sits_out(step, player)
            for _ in range(counts[role])
        ]
        return self._joined(updates) if self.share_fakes and game.shares_fakes else updates

    def shape(self, game: Game, role: Role) -> BatchShape:
        """The shapes of the updates of this role's players."""
        batches = self.generator_batch if role == "generator" else 1
        return game.shape._replace(images=game.shape.images * batches)

    @staticmethod
    def _joined(updates: list[Update]) -> list[Update]:
        """Each discriminator's update with the generator's that follows it as one."""
        joined: list[Update] = []
        for update in updates:
            if joined and (joined[-1].role, update.role) == ("discriminator", "generator") and not joined[-1].then:
                joined[-1] = replace(joined[-1], then=replace(update, given_fakes=True))
            else:
                joined.append(update)
        return joined
