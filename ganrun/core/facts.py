"""The one vocabulary in which parts say what they provide, need and invalidate. Knows no part by name."""

from enum import StrEnum


class Fact(StrEnum):
    """Something that is true of a combination of parts: a name, its rule, and what it means.

    The name begins with the part that alone can provide it, where only one can. The rule is a row of
    docs/compatibility.md; what to try without the fact is said in `ganrun.config.combination`.
    """

    id: str
    sentence: str

    def __new__(cls, name: str, id: str, sentence: str) -> "Fact":
        fact = str.__new__(cls, name)
        fact._value_ = name
        fact.id, fact.sentence = id, sentence
        return fact

    TARGETS = ("loss.targets", "C6", "a loss with target labels (1 for real, 0 for fake)")
    PROBABILITY = ("loss.probability", "C7", "a loss whose targets are probabilities, not the a and b of least squares")
    UNDECIDED = ("loss.undecided", "C44", "a loss that says which images are real, so that some score means undecided")
    FAKES_ALONE = ("loss.fakes_alone", "C46", "a loss that scores each fake alone, without a real to compare it with")
    SCORE = (
        "discriminator.score",
        "C5",
        "a discriminator whose output is an unbounded score, without a sigmoid at its end",
    )
    ENERGY = (
        "discriminator.energy",
        "C25",
        "a discriminator whose score is how badly it rebuilds an image, that is, an auto-encoder",
    )
    READS_ENERGY = ("loss.energy", "C25", "a loss that takes scores for energies, which are low for reals")
    PER_SAMPLE = (
        "discriminator.per_sample",
        "C1",
        "a discriminator that scores each image on its own, which batch norm does not",
    )
    ALONE = ("discriminator.alone", "C12", "features that do not depend on the other images of the batch")
    STEADY = ("discriminator.steady", "C39", "the same discriminator at every call, without dropout")
    SMOOTH = (
        "discriminator.smooth",
        "C58",
        "a smooth discriminator, whose gradient is continuous, as that of ReLU and leaky ReLU is not",
    )
    ONE_IMAGE = (
        "discriminator.one_image",
        "C56",
        "a discriminator that sees one image at a time, not several together",
    )
    FEATURES = ("discriminator.features", "C17", "a discriminator that shows its hidden activations")
    FREE_WEIGHTS = ("discriminator.free_weights", "C3", "a discriminator whose weights nothing else confines")
    CLASS_SCORE = (
        "discriminator.class_score",
        "C24",
        "a discriminator whose score is the log-sum-exp of one logit for each class",
    )
    LIPSCHITZ = (
        "lipschitz",
        "C2",
        "something that bounds the slope of the discriminator, as its loss is unbounded below",
    )
    NO_MOMENTUM = ("optim.no_momentum", "C4", "an optimiser of D without momentum")
    STYLES = (
        "generator.styles",
        "C50",
        "a generator that makes a style for each layer from noise, and the image from those",
    )
    CURRENT = ("game.current", "C32", "batches of fakes from one generator, not from a pool")
    LATENT = ("game.latent", "C40", "fakes that are made from noise")
    UNLABELLED = ("game.unlabelled", "C24", "a game without class labels or captions")
    LABELLED = ("game.labelled", "C24", "a game in which fakes have class labels")
    CLASS_HEAD = ("discriminator.class_head", "C24", "a discriminator that also names the class of an image")
    SAME_SIZE = ("game.same_size", "C52", "images of the same size from the first step to the last")
    IMAGE_ALONE = (
        "game.image_alone",
        "C55",
        "a discriminator that sees each image alone, not beside the one that it was made from",
    )
    SINGLE_SCALE = ("game.single_scale", "C51", "images of one resolution, not a pyramid of several")
