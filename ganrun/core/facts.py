"""The one vocabulary in which parts say what they give, need and take away."""

from enum import StrEnum

GIVERS = {
    "loss": "loss",
    "game": "game",
    "discriminator": "model.discriminator",
    "generator": "model.generator",
    "optim": "optim.discriminator",
}


class Fact(StrEnum):
    """Something that is true of a combination of parts: a name, its rule, what it means, what to try without it.

    The name begins with the part that can provide it, when only one can. The rule is a row of docs/compatibility.md.
    """

    id: str
    sentence: str
    remedy: str

    def __new__(cls, name: str, id: str, sentence: str, remedy: str) -> "Fact":
        fact = str.__new__(cls, name)
        fact._value_ = name
        fact.id, fact.sentence, fact.remedy = id, sentence, remedy
        return fact

    @property
    def giver(self) -> str:
        """The part, as the configuration names it, that alone can provide this; empty when several can."""
        return GIVERS.get(self.partition(".")[0], "")

    TARGETS = (
        "loss.targets",
        "C6",
        "a loss that asks the discriminator for labels (1 for real, 0 for fake)",
        "loss=nonsaturating, loss=minimax or loss=least_squares",
    )
    PROBABILITY = (
        "loss.probability",
        "C7",
        "a loss whose targets are probabilities, not the a and b of least squares",
        "loss=nonsaturating or loss=minimax",
    )
    UNDECIDED = (
        "loss.undecided",
        "C44",
        "a loss that says which images are real, so that some score means undecided",
        "loss=nonsaturating, loss=least_squares or loss=hinge",
    )
    FLOOR = (
        "loss.floor",
        "C45",
        "a loss that D cannot bring below 0, so that near 0 means that D has won",
        "loss=nonsaturating, loss=least_squares or loss=hinge",
    )
    FAKES_ALONE = (
        "loss.fakes_alone",
        "C46",
        "a loss that judges each fake alone, without a real to compare it with",
        "loss=nonsaturating or loss=hinge",
    )
    SCORE = (
        "discriminator.score",
        "C5",
        "a discriminator that answers with an unbounded score, without a sigmoid at its end",
        "model.discriminator.output=linear, or model=dcgan in place of an auto-encoder",
    )
    ENERGY = (
        "discriminator.energy",
        "C25",
        "a discriminator whose score is how badly it rebuilds an image, that is, an auto-encoder",
        "model=began or model=ebgan",
    )
    READS_ENERGY = (
        "loss.energy",
        "C25",
        "a loss that takes scores for energies, which are low for reals",
        "loss=began or loss=ebgan",
    )
    PER_SAMPLE = (
        "discriminator.per_sample",
        "C1",
        "a discriminator that judges each image on its own, which batch norm does not",
        "model.discriminator.norm=none or model.discriminator.norm=layer",
    )
    ALONE = (
        "discriminator.alone",
        "C12",
        "features that do not depend on the other images of the batch",
        "leaving minibatch_discrimination and minibatch_stddev out",
    )
    STEADY = (
        "discriminator.steady",
        "C39",
        "the same discriminator at every call, without dropout",
        "model.discriminator.dropout=0",
    )
    FEATURES = ("discriminator.features", "C17", "a discriminator that shows its hidden activations", "model=dcgan")
    FREE_WEIGHTS = (
        "discriminator.free_weights",
        "C3",
        "a discriminator whose weights nothing else confines",
        "keeping one of the tricks that bound the discriminator",
    )
    CLASS_SCORE = (
        "discriminator.class_score",
        "C24",
        "a discriminator whose score is the log of the sum of exp of one logit for each class",
        "model=improved with model.discriminator.classes=10",
    )
    LIPSCHITZ = (
        "lipschitz",
        "C2",
        "something that bounds the slope of the discriminator, or its loss falls for ever",
        "adding gp to tricks (with model.discriminator.norm=none), or clip",
    )
    NO_MOMENTUM = (
        "optim.no_momentum",
        "C4",
        "an optimiser of D without momentum",
        "optim=rmsprop or 'optim.discriminator.betas=[0.0,0.9]'",
    )
    STYLES = (
        "generator.styles",
        "C50",
        "a generator that makes a style for each layer from noise, and the image from those",
        "model=stylegan2",
    )
    CURRENT = ("game.current", "C32", "batches of fakes from one generator, not from a pool", "leaving replay out")
    LATENT = ("game.latent", "C40", "fakes that are made from noise", "game=latent")
    UNLABELLED = ("game.unlabelled", "C24", "a game without class labels", "an unconditional model")
    LABELLED = ("game.labelled", "C24", "a game in which fakes have class labels", "model=acgan or model=cdcgan")
    CLASS_HEAD = (
        "discriminator.class_head",
        "C24",
        "a discriminator that also names the class of an image",
        "model=acgan",
    )
