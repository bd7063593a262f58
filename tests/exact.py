"""Bit-exact golden losses, printed as one JSON object by a process that test_goldens.py starts.

On x86-64 the bits do not depend on the machine: one thread, the portable kernels of ATen (no vector instructions beyond
the baseline) and of MKL, no oneDNN. They depend on the version of torch, which the golden file therefore names.
"""

import hashlib
import json
import os
import sys

import torch
from support import built, pair_in, play

PORTABLE = {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
STEPS = 3
RECIPES: dict[str, tuple[str, tuple[str, ...], list[str]]] = {  # model, overrides, tricks
    "default": ("dcgan", (), ["ema"]),
    "labels": ("dcgan", (), ["soft_labels", "flip", "noisy_labels", "instance_noise", "feature_matching"]),
    "augmented": ("dcgan", (), ["diffaugment", "replay", "historical_averaging", "mode_seeking", "gradient_clipping"]),
    "ada": ("dcgan", ("tricks.ada.start=0.5",), ["ada", "ema", "lecam"]),
    "virtual_batch_norm": ("dcgan", (), ["virtual_batch_norm", "one_sided_smoothing", "spherical_latent"]),
    "r3": (
        "dcgan",
        ("loss=relativistic", "model.discriminator.norm=none", "updates.share_fakes=false"),
        ["r1", "r2", "ema"],
    ),
    "wgan_gp": ("dcgan", ("loss=wasserstein", "model.discriminator.norm=none"), ["gp", "n_critic"]),
    "wgan": ("mlp", ("loss=wasserstein", "optim=rmsprop"), ["clip"]),
    "hinge": ("resnet", ("loss=hinge",), ["spectral_norm", "ttur", "lr_decay"]),
    "generator_batch": ("dcgan", ("updates.share_fakes=false", "updates.generator_batch=2"), ["minibatch_stddev"]),
    "semi_supervised": ("improved", ("model.discriminator.classes=10",), ["semi_supervised", "weight_norm"]),
    "acgan": ("acgan", (), ["auxiliary_classifier"]),
    "info_codes": ("infogan", ("model.generator.latent=20",), ["info_codes"]),
    "began": ("began", ("loss=began",), []),
    "ebgan": ("ebgan", ("loss=ebgan",), ["pulling_away"]),
    "stylegan2": ("stylegan2", ("model.discriminator.epilogue=null",), ["r1", "path_length", "style_mixing"]),
    "cgan": ("cgan", (), ["ema"]),
    "cdcgan": (
        "cdcgan",
        (
            "model.generator.condition=every",
            "model.discriminator.condition=every",
            "model.generator.kernel=5",
            "model.discriminator.kernel=5",
        ),
        [],
    ),
    "projection": ("projection", ("loss=hinge",), []),
    "biggan": ("biggan", ("loss=hinge",), ["orthogonal"]),
    "deep_conv": ("deep_conv", ("dataset.resolution=32",), []),
    "keep_calm": ("keep_calm", ("dataset.classes=[3]",), ["soft_labels", "flip"]),
    "r3gan": ("r3gan", ("loss=relativistic_average",), ["r1", "r2"]),
}


def digest(*tensors: torch.Tensor) -> str:
    """The first 16 hex digits of the SHA-256 of the bytes of these tensors."""
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:16]


def figures(recipe: str) -> dict[str, object]:
    """Every loss term of each update in hexadecimal, and digests of the weights, averages and samples at the end."""
    model, overrides, tricks = RECIPES[recipe]
    run = built(*overrides, model=model, tricks=tricks)
    rows = play(run, 0, STEPS).rows
    names = sorted({name for _, _, metrics in rows for name in metrics if name.startswith("loss/")})
    losses: dict[str, object] = {
        name: [metrics[name].item().hex() for _, _, metrics in rows if name in metrics] for name in names
    }
    pair = pair_in(run)
    return losses | {
        "weights/generator": digest(*pair.generator.parameters(), *pair.generator.buffers()),
        "weights/discriminator": digest(*pair.discriminator.parameters(), *pair.discriminator.buffers()),
        "samples": digest(run.game.sample()),
    }


def main() -> None:
    """Print the figures of the recipes that were named, or of all."""
    assert PORTABLE.items() <= os.environ.items(), f"torch reads these while it is imported: {PORTABLE}"
    torch.backends.mkldnn.enabled = False
    torch.set_num_threads(1)
    found = {recipe: figures(recipe) for recipe in sys.argv[1:] or RECIPES}
    print(json.dumps({"torch": torch.__version__.split("+")[0], "recipes": found}, indent=1))


if __name__ == "__main__":
    main()
