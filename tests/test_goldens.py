"""What three recipes compute in their first five steps: a refactor that changes the arithmetic fails here.

After a change that is meant, write new ones and look at the difference before you commit it:

    PYTHONPATH=.:tests python tests/test_goldens.py
    git diff tests/goldens*.json
"""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import exact
import pytest
import torch
from support import built, pair_in, play

GOLDENS = Path(__file__).with_name("goldens.json")
EXACT = Path(__file__).with_name("goldens_exact.json")
STEPS = 5
RECIPES: dict[str, tuple[str, tuple[str, ...], list[str]]] = {  # model, overrides, tricks
    "dcgan_digits": ("dcgan", ("batch=8",), ["ema"]),
    "wgan_gp_ring": (
        "mlp",
        ("dataset=ring", "dataset.size=1000", "dataset.held_out=0", "loss=wasserstein", "batch=8",
         "model.generator.output=linear",
         "model.discriminator.activation=relu", "model.discriminator.dropout=0", "model.discriminator.input_dropout=0",
         "model.generator.init.kind=default", "model.discriminator.init.kind=default",  # or all is nearly 0 so early
         "optim.generator.lr=2e-3", "optim.discriminator.lr=2e-3"),
        ["gp", "n_critic"],
    ),
    "keep_calm_soft_flipped": ("keep_calm", ("batch=8", "dataset.classes=[3]"), ["soft_labels", "flip"]),
}  # fmt: skip
# Machines add in another order; five steps of Adam carry that to about 1e-4 of a figure. Tenfold room.
CLOSE = {"rel": 2e-3, "abs": 2e-4}


def figures(recipe: str) -> dict[str, list[float]]:
    """Every loss term and balance of each update, and how far the weights went."""
    model, overrides, tricks = RECIPES[recipe]
    run = built(*overrides, model=model, tricks=tricks)
    nets = {"generator": pair_in(run).generator, "discriminator": pair_in(run).discriminator}
    start = {role: torch.cat([p.detach().flatten().clone() for p in net.parameters()]) for role, net in nets.items()}
    found: dict[str, list[float]] = {}
    for _, _, metrics in play(run, 0, STEPS).rows:
        for name, value in metrics.items():
            if name.startswith(("loss/", "probability/", "score/", "tricks/")):
                found.setdefault(name, []).append(value.item())
    for role, net in nets.items():
        way = torch.cat([p.detach().flatten() for p in net.parameters()]) - start[role]
        found[f"distance/{role}"] = [way.norm().item()]
    found["samples/mean and deviation"] = [run.game.sample().mean().item(), run.game.sample().std().item()]
    return found


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_arithmetic_is_what_it_was(recipe: str) -> None:
    golden, found = json.loads(GOLDENS.read_text())[recipe], figures(recipe)
    assert set(found) == set(golden)
    changed = [name for name, values in golden.items() if found[name] != pytest.approx(values, **CLOSE)]
    was, now = {name: golden[name] for name in changed}, {name: found[name] for name in changed}
    assert not changed, f"it was {was} and is {now}; if that is meant, see the first lines of this file"


def test_the_goldens_are_of_these_recipes_and_are_all_there() -> None:
    goldens = json.loads(GOLDENS.read_text())
    assert set(goldens) == set(RECIPES)
    updates = {"dcgan_digits": 1, "wgan_gp_ring": 5, "keep_calm_soft_flipped": 1}
    for recipe, golden in goldens.items():
        assert len(golden["loss/discriminator/adversarial"]) == STEPS * updates[recipe]
        assert len(golden["loss/generator/adversarial"]) == STEPS
    assert "loss/discriminator/gp" in goldens["wgan_gp_ring"] and "probability/real" not in goldens["wgan_gp_ring"]


def exactly() -> dict:
    """What `exact.py` prints: losses and digests that do not depend on the machine."""
    paths = os.pathsep.join((str(Path(__file__).parents[1]), str(Path(__file__).parent)))
    environment = os.environ | exact.PORTABLE | {"PYTHONPATH": paths}
    done = subprocess.run(
        [sys.executable, exact.__file__], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def vendor() -> str:
    """Who made this processor: matrix products of Intel's library differ in the last bit on those of others."""
    about = Path("/proc/cpuinfo")
    lines = about.read_text().splitlines() if about.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("vendor_id")), "unknown")


def test_losses_and_weights_are_bit_for_bit_what_they_were() -> None:
    golden = json.loads(EXACT.read_text())
    version = torch.__version__.split("+")[0]
    if version != golden["torch"] or platform.machine() != "x86_64":
        pytest.skip(f"recorded with torch {golden['torch']} on x86_64")
    if (own := golden["recipes"].get(vendor())) is None:
        pytest.skip(f"recorded on processors of {', '.join(golden['recipes'])}")
    found = exactly()
    assert set(found["recipes"]) == set(own) == set(exact.RECIPES)
    changed = {
        f"{recipe}: {name}"
        for recipe, one in own.items()
        for name in one | found["recipes"][recipe]
        if one.get(name) != found["recipes"][recipe].get(name)
    }
    assert not changed


def write() -> None:
    rounded = {
        recipe: {name: [float(f"{value:.6g}") for value in values] for name, values in figures(recipe).items()}
        for recipe in RECIPES
    }
    GOLDENS.write_text(json.dumps(rounded, indent=1) + "\n")
    new, old = exactly(), json.loads(EXACT.read_text())
    others = old["recipes"] if old["torch"] == new["torch"] else {}
    EXACT.write_text(
        json.dumps({"torch": new["torch"], "recipes": others | {vendor(): new["recipes"]}}, indent=1) + "\n"
    )


if __name__ == "__main__":
    write()
