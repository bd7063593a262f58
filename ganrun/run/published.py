"""Published networks from files of the user's, and real images as they see them, which are kept between runs."""

from __future__ import annotations

import io
import pickle
import warnings
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ganrun.core.errors import ConfigError
from ganrun.metrics.published import HELD_OUT, Published, as_bytes, check_shape, dinov2_network, inception
from ganrun.record.stored import Unusable, content
from ganrun.run.cache import cache_folder, keep_tensors, kept_tensors

VERSION = 1  # of features that are kept
KINDS: Mapping[str, Callable[[Mapping[str, Tensor], str], Published]] = {
    "inception": inception,
    "dinov2": dinov2_network,
}


def networks(files: Mapping[str, str | None], place: str, *, channels: int, resolution: int) -> list[Published]:
    """The networks of these files of weights, by kind, for images of this shape; none for a file that is null.

    `place` says where such a file is set, with {} for its kind. Raises ConfigError for a file that is missing, broken
    or of another network, for data that are no pictures, and without torch-fidelity.
    """
    found = []
    for kind, file in files.items():
        if file is None:
            continue
        where = place.format(kind)
        state, digest = weights_of(Path(file), where)
        try:
            check_shape(channels, resolution)
            found.append(KINDS[kind](state, digest))
        except ConfigError as error:
            raise ConfigError(where, error.found, error.expected, error.remedy or f"{where}=null") from error
    return found


def weights_of(path: Path, where: str) -> tuple[dict[str, Tensor], str]:
    """The tensors in a file, [N] or of any shape, by name, and a digest of it. Nothing in the file can run.

    Reads what torch.save or safetensors wrote. Raises ConfigError for anything else.
    """
    expected, remedy = "a file of weights, such as torch.save writes of a state_dict", f"{where}=null"
    try:
        data = content(path)
    except FileNotFoundError:
        raise ConfigError(where, f"nothing is at {path}", expected, remedy) from None
    except Unusable as error:
        raise ConfigError(where, f"{path} {error}", expected, remedy) from error
    try:
        state = _tensors(data, path.suffix)
    except MemoryError:
        raise
    except Exception as error:  # a file made to do harm raises anything
        raise ConfigError(where, f"{path} is damaged, or holds more than tensors", expected, remedy) from error
    if not all(bool(tensor.isfinite().all()) for tensor in state.values()):
        raise ConfigError(where, f"{path} holds NaN or infinity", "finite weights", remedy)
    return state, sha256(data).hexdigest()[:16]


def _tensors(data: bytes, suffix: str) -> dict[str, Tensor]:
    """The tensors by name in the bytes of a file. Raises nearly anything for what is something else."""
    if suffix == ".safetensors":
        from safetensors.torch import load

        return load(data)
    with warnings.catch_warnings():  # of what is then refused
        warnings.simplefilter("ignore")
        found = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    if not isinstance(found, Mapping) or not found or any(type(name) is not str for name in found):
        raise pickle.UnpicklingError("no tensors by name")
    if not all(type(tensor) in (Tensor, nn.Parameter) and _is_plain(tensor) for tensor in found.values()):
        raise pickle.UnpicklingError("more than tensors")
    return {name: tensor.detach() for name, tensor in found.items()}


def _is_plain(tensor: Tensor) -> bool:
    """Whether this is an ordinary tensor [...] of real numbers, in memory."""
    ordinary = tensor.layout is torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
    return ordinary and not tensor.is_complex()


class Seen:
    """Reals as published networks see them, which samples are compared with."""

    def __init__(self, networks: Sequence[Published], reals: Tensor, device: torch.device, against: str = HELD_OUT):
        """`reals` [N, C, H, W] in [-1, 1]; `against` says which they are. Networks compute on this device."""
        self.networks, self.against = networks, against
        for network in networks:
            network.net.to(device)
        self.reals = [features_of_reals(network, reals) for network in networks]

    def measure(self, samples: Tensor) -> dict[str, float]:
        """The measures of each network of samples [M, C, H, W], by name."""
        return self._compared([network.features(samples) for network in self.networks])

    def floor(self, others: Tensor) -> dict[str, float]:
        """The same of other real images [M, C, H, W] in the samples' place."""
        return self._compared([features_of_reals(network, others) for network in self.networks])

    def _compared(self, features: Sequence[Mapping[str, Tensor]]) -> dict[str, float]:
        found: dict[str, float] = {}
        for network, reals, own in zip(self.networks, self.reals, features, strict=True):
            found |= network.measure(reals, own, self.against)
        return found


def features_of_reals(network: Published, images: Tensor) -> dict[str, Tensor]:
    """What a network makes of real images [N, C, H, W]: what was kept for the same images and weights, or made anew.

    [N, D] each. What is made anew is kept.
    """
    path = cache_folder() / f"features_{key_of(network, images)}.npz"
    found = kept_tensors(path, network.layers, len(images))
    if found is None:
        found = network.features(images)
        keep_tensors(path, found)
    return found


def key_of(network: Published, images: Tensor) -> str:
    """A hash of all that features depend on: images [N, C, H, W], network, weights, versions and kind of device."""
    from importlib.metadata import version

    device = next(network.net.parameters()).device.type
    about: Any = (VERSION, network.name, network.weights, torch.__version__, version("torch-fidelity"), device)
    digest = blake2b(repr((about, tuple(images.shape))).encode(), digest_size=8)
    digest.update(as_bytes(images)[:, : images.shape[1]].cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
