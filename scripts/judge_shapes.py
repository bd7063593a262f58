"""How often colour, shape and size of a sample agree with the sentence that it was made for.

    scripts/judge_shapes.py RUN [--samples 8] [--json]

RUN was trained on `dataset=shapes dataset.text=words`. Three classifiers, small convolutional networks, are trained
here on 10,000 new images with known factors, every combination of colour and shape among them; their accuracy is
measured on 2,000 more. Sentences are "a SIZE COLOUR SHAPE" with every size, colour and shape.
Combinations that `dataset.leave_out` kept out of training are counted by themselves too.
"""

from __future__ import annotations

import argparse
import json
from itertools import product
from pathlib import Path

import torch
from torch import Tensor

from ganrun.core.context import Condition
from ganrun.data.datasets.shapes import SIZES, Shapes
from ganrun.data.datasets.shapes_rendering import COLOURS, SHAPES
from ganrun.data.transforms.value_range import to_units
from ganrun.metrics.classifier import classify, resized, train
from ganrun.run.draw import draw
from ganrun.run.load import load

REALS, OTHERS = 10_000, 2_000
WORDS = {"size": SIZES, "colour": tuple(COLOURS), "shape": tuple(SHAPES)}


def evaluate(path: Path, samples: int, seed: int, reals: int = REALS, others: int = OTHERS) -> dict[str, object]:
    """The measurements by name."""
    run = load(path)
    data = run.settings["dataset"]
    assert run.vocabulary is not None, f"{path} reads no sentences"
    images, known = _reals(data, reals + others, seed + 1)
    wanted = torch.tensor(list(product(*(range(len(words)) for words in WORDS.values())))).repeat_interleave(samples, 0)
    names = [[list(words)[one] for words, one in zip(WORDS.values(), row, strict=True)] for row in wanted.tolist()]
    lines = [" ".join(["a", *row]) for row in names]
    text = run.vocabulary.read(lines, "text")
    drawn = draw(run.game, len(lines), seed=seed, condition=Condition(text=text))
    right: list[Tensor] = []
    found: dict[str, object] = {"step": run.step, "samples": len(lines)}
    for column, (name, words) in enumerate(WORDS.items()):
        net = train(images[:reals], known[:reals, column], seed, classes=len(words))
        held_out = classify(net, images[reals:]).classes == known[reals:, column]
        right.append(classify(net, drawn).classes == wanted[:, column])
        found |= {name: _share(right[-1]), f"{name}_of_reals": _share(held_out)}
        found[f"{name}_by_chance"] = round(1 / len(words), 4)
    every = torch.stack(right).all(0)
    left_out = torch.tensor([any(line.endswith(one) for one in data.get("leave_out", ())) for line in lines])
    found["all_three"] = _share(every)
    if left_out.any():
        found["all_three_of_combinations_left_out"] = _share(every[left_out])
        found["colour_and_shape_of_combinations_left_out"] = _share((right[1] & right[2])[left_out])
    return found


def _reals(data: dict, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """New images of every combination [N, C, 32, 32], and their size, colour and shape [N, 3]."""
    shapes = Shapes(size=count, seed=seed, scales=data["scales"], channels=data["channels"],
                    resolution=data["resolution"], classes=None)  # fmt: skip
    sizes = torch.tensor([SIZES.index(caption.split()[1]) for caption in shapes.captions])
    kind, colour = shapes.factors[:, 0].long(), shapes.factors[:, 1].long()
    return resized(to_units(shapes.bulk()[0])), torch.stack([sizes, colour, kind], 1)


def _share(right: Tensor) -> float:
    return round(right.float().mean().item(), 4)


def show(found: dict[str, object], *, as_json: bool) -> None:
    """Print measurements, a line each, or as one line of JSON."""
    print(json.dumps(found) if as_json else "\n".join(f"{name:<45}{value}" for name, value in found.items()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--samples", type=int, default=8, help="of each sentence")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = evaluate(arguments.run, arguments.samples, arguments.seed)
    show(found, as_json=arguments.json)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
