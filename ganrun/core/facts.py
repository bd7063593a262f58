"""The one vocabulary in which parts say what they give, need and take away."""

from enum import StrEnum


class Fact(StrEnum):
    """Something that is true of a combination of parts: a name, what it means, what to try where it is missing.

    The name begins with the part that can provide it, when only one can.
    """

    sentence: str
    remedy: str

    def __new__(cls, name: str, sentence: str, remedy: str) -> "Fact":
        fact = str.__new__(cls, name)
        fact._value_ = name
        fact.sentence, fact.remedy = sentence, remedy
        return fact

    @property
    def giver(self) -> str:
        """The part, as the configuration names it, that alone can provide this; empty when several can."""
        givers = {"loss": "loss", "game": "game", "discriminator": "model.discriminator"}
        return givers.get(self.partition(".")[0], "")

    TARGETS = (
        "loss.targets",
        "a loss that asks the discriminator for labels (1 for real, 0 for fake)",
        "loss=nonsaturating, loss=minimax or loss=least_squares",
    )
    SCORE = (
        "discriminator.score",
        "a discriminator that answers with an unbounded score, without a sigmoid at its end",
        "model.discriminator.output=linear",
    )
    PER_SAMPLE = (
        "discriminator.per_sample",
        "a discriminator that judges each image on its own, which batch norm does not",
        "model.discriminator.norm=none or model.discriminator.norm=layer",
    )
    FEATURES = ("discriminator.features", "a discriminator that shows its hidden activations", "model=dcgan")
    FREE_WEIGHTS = (
        "discriminator.free_weights",
        "a discriminator whose weights nothing else confines",
        "keeping one of the tricks that bound the discriminator",
    )
    LIPSCHITZ = (
        "lipschitz",
        "something that bounds the slope of the discriminator, or its loss falls for ever",
        "adding gp to tricks (with model.discriminator.norm=none), or clip",
    )
    LATENT = ("game.latent", "fakes that are made from noise", "game=latent")
    UNLABELLED = ("game.unlabelled", "a game without class labels", "an unconditional model")
