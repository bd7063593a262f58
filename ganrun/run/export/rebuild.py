"""Networks from an exported folder: built from its config.yaml, with the weights of its model.safetensors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganrun.core.errors import ConfigError
from ganrun.run.export.network import Exported, subject_of
from ganrun.run.load import untrained

FILE = "model.safetensors"
WHAT = "a folder that `ganrun export RUN format=safetensors` wrote"


def open_network(folder: str | Path, *, plugins: Sequence[str] = ()) -> Exported:
    """The network that `ganrun export RUN format=safetensors` wrote into this folder, in evaluation mode on the CPU.

    It is called with noise [N, Z] float32, and labels [N] int64 where it reads them, and needs no run. `plugins` are
    the modules of yours that the run used: a file alone never makes code run. Leaves torch's generator as it was.
    Raises ConfigError for a folder that is no such export.
    """
    path = Path(folder).expanduser()
    weights, about = _weights(path / FILE)
    with torch.random.fork_rng(devices=[]):
        network = _untrained(path, plugins, about)
    try:
        network.net.load_state_dict(weights)
    except RuntimeError as error:
        found = " ".join(str(error).splitlines()[1:2]).strip() or "its tensors are others"
        raise ConfigError(str(path / FILE), f"does not fit config.yaml ({found})", WHAT, "exporting again") from error
    return network


def _untrained(path: Path, plugins: Sequence[str], about: dict[str, str]) -> Exported:
    """The network of the folder's configuration, before it has its weights."""
    settings, game = untrained(path, plugins, torch.device("cpu"))
    role: Any = about["network"]
    return subject_of(game, settings, role, about["pair"]).network


def _weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors in a file, and what it says of them. Raises ConfigError for a file that is no export of a run."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise ConfigError(str(path), "is not there", WHAT, "ganrun export RUN format=safetensors out=FOLDER")
    try:
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no mapping
    except (SafetensorError, OSError) as error:
        raise ConfigError(str(path), f"cannot be read ({error})", WHAT, "exporting again") from error
    if about.get("network") not in ("generator", "discriminator") or "pair" not in about:
        raise ConfigError(str(path), "does not say which network it holds", WHAT, "exporting again")
    return weights, about
