"""FID, KID and inception score on published networks, from weights that the user has. Never downloads anything.

Features are those of torch-fidelity (Obukhov et al. 2020), which other papers' figures are made with, and so are KID
and the inception score. It can load weights only in ways that let a file run code, or by a download, so that it is
handed tensors that were read here.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ganrun.core.errors import ConfigError
from ganrun.core.seeding import generators_kept
from ganrun.metrics.dinov2 import dinov2
from ganrun.metrics.frechet import frechet_distance

CHUNK = 25  # images at a time through a network
SUBSETS, SUBSET = 100, 1000  # of KID, the defaults of torch-fidelity
FEATURES, LOGITS = "features", "logits"
HELD_OUT, TRAIN = "_held_out", "_train"  # end the names of measures, by the reals that these compare with
Features = Mapping[str, Tensor]


@dataclass(frozen=True)
class Published:
    """A published network with its weights, and the measures that are made of its features."""

    name: str  # inception, dinov2_vits14
    net: nn.Module  # uint8 [B, 3, H, W] -> a tuple of features [B, D]
    layers: tuple[str, ...]  # what that tuple holds
    frechet: str  # what the Fréchet distance of its features is called
    kernel: str  # what the kernel distance is called
    weights: str  # a digest of the file

    def names(self, against: str = HELD_OUT) -> list[str]:
        """The names of all that `measure` finds."""
        score = [f"is_{self.name}"] if LOGITS in self.layers else []
        return [f"{kind}_{self.name}{against}" for kind in (self.frechet, self.kernel)] + score

    @torch.no_grad()
    def features(self, images: Tensor) -> dict[str, Tensor]:
        """What the network makes of images [N, C, H, W] in [-1, 1], rounded to 8 bits. [N, D] each, on the CPU"""
        device = next(self.net.parameters()).device
        found = [self.net(chunk.to(device)) for chunk in as_bytes(images).split(CHUNK)]
        columns = (torch.cat([one[place] for one in found]).cpu() for place in range(len(self.layers)))
        return dict(zip(self.layers, columns, strict=True))

    def measure(self, reals: Features, fakes: Features, against: str = HELD_OUT) -> dict[str, float]:
        """The distances of samples from reals, and where there are logits the samples' inception score, by name.

        `against` says which reals these are. The Fréchet distance is that of `frechet_distance`: torch-fidelity's
        without its rounding. KID is the mean over 100 random subsets of 1,000, or of as many as there are; the score
        the mean over ten parts. [N, D], [M, D]
        """
        from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, isc_features_to_metric

        distances = (frechet_distance(reals[FEATURES], fakes[FEATURES]), kid(reals[FEATURES], fakes[FEATURES]))
        score = [float(isc_features_to_metric(fakes[LOGITS])[KEY_METRIC_ISC_MEAN])] if LOGITS in self.layers else []
        return dict(zip(self.names(against), [*distances, *score], strict=True))


def kid(reals: Tensor, fakes: Tensor) -> float:
    """KID as torch-fidelity estimates it, in float64: the mean of the squared MMD of random subsets. [N, D], [M, D]"""
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric

    size = min(SUBSET, len(reals), len(fakes))
    count = 1 if size == len(reals) == len(fakes) else SUBSETS  # all subsets are one
    found = kid_features_to_metric(
        fakes.double(), reals.double(), kid_subsets=count, kid_subset_size=size, verbose=False
    )
    return float(found[KEY_METRIC_KID_MEAN])


def as_bytes(images: Tensor) -> Tensor:
    """Images [N, C, H, W] in [-1, 1] as these networks take them: uint8 [N, 3, H, W], grey ones three times.

    Raises ConfigError for other than one or three channels.
    """
    check_shape(images.shape[1], images.shape[-1])
    return ((images.clamp(-1, 1) + 1) * 127.5).round().byte().expand(-1, 3, -1, -1)


def check_shape(channels: int, resolution: int) -> None:
    """Raises ConfigError for data that such a network cannot see: points, and other than one or three channels."""
    if channels not in (1, 3) or resolution < 2:
        found = "points of the plane" if resolution < 2 else f"images of {channels} channels"
        raise ConfigError(".", found, "pictures in grey or in colour")


def inception(state: Mapping[str, Tensor], weights: str) -> Published:
    """The Inception network of FID, KID and the inception score, in torch-fidelity's conversion of TensorFlow's.

    `weights` is a digest. Takes uint8 [B, 3, H, W]. Raises ConfigError without torch-fidelity, and for the weights of
    anything else.
    """
    check_installed()
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    buffer = io.BytesIO()
    torch.save(dict(state), buffer)  # tensors alone, which it may load in its own way
    buffer.seek(0)
    with generators_kept(torch.device("cpu")):
        try:
            net = FeatureExtractorInceptionV3(
                "inception-v3-compat", ["2048", "logits_unbiased"], feature_extractor_weights_path=buffer
            )
        except RuntimeError as error:
            raise _misfit(error, "weights-inception-2015-12-05-6726825d.pth of torch-fidelity") from error
    return Published("inception", net, (FEATURES, LOGITS), "fid", "kid", weights)


def dinov2_network(state: Mapping[str, Tensor], weights: str) -> Published:
    """A network of DINOv2 behind torch-fidelity's preparation of images. Its distances: Stein et al. 2023, section 4.

    `weights` is a digest. Takes uint8 [B, 3, H, W]. Raises ConfigError without torch-fidelity, and for the weights of
    anything else.
    """
    check_installed()
    from torch_fidelity.feature_extractor_base import FeatureExtractorBase
    from torch_fidelity.feature_extractor_dinov2 import FeatureExtractorDinoV2

    class Extractor(FeatureExtractorDinoV2):
        """The same network without torch.hub, which fetches code and weights."""

        def __init__(self, model: nn.Module):
            FeatureExtractorBase.__init__(self, "dinov2", ["dinov2"])
            self.model, self.feature_extractor_internal_dtype = model, torch.float32

    try:
        name, model = dinov2(state)
    except RuntimeError as error:
        raise _misfit(error, "dinov2_vits14_pretrain.pth or another of DINOv2's, without registers") from error
    net = Extractor(model).eval().requires_grad_(False)
    return Published(f"dinov2_{name}", net, (FEATURES,), "fd", "kd", weights)


def check_installed() -> None:
    """Raises ConfigError unless torch-fidelity can be imported."""
    try:
        import torch_fidelity  # noqa: F401
    except ImportError as error:
        raise ConfigError(".", "torch-fidelity is not installed", "it", "pip install 'ganrun[fidelity]'") from error


def _misfit(error: RuntimeError, expected: str) -> ConfigError:
    """The refusal of weights of another network, from what torch says of their names and shapes."""
    lines = [line.strip() for line in str(error).splitlines()]
    found = (lines[1] if len(lines) > 1 else lines[0]).rstrip(". ")
    return ConfigError(".", found if len(found) <= 90 else f"{found[:90]}...", expected)
