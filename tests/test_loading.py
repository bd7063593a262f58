"""A finished run gives samples again; the judge of digits judges."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ganrun.cli.main import main
from ganrun.core.errors import ConfigError
from ganrun.record.grid import to_bytes
from ganrun.run.draw import draw
from ganrun.run.load import load_run

SCRIPTS = Path(__file__).parents[1] / "scripts"
TINY = ["steps=2", "batch=4", "model.generator.width=4", "model.discriminator.width=4", "engine.precision=fp32"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("loading") / "run"
    assert main([*TINY, f"hydra.run.dir={folder}"]) == 0
    return folder


def test_samples_come_from_the_average_of_the_last_checkpoint(finished: Path):
    run, step = load_run(finished)
    assert step == 2
    images = draw(run.game, 6, seed=3)
    assert images.shape == (6, 1, 32, 32)
    assert torch.equal(images, draw(run.game, 6, seed=3))
    assert not torch.equal(images, draw(run.game, 6, seed=4))
    average = run.game.pairs["main"].tricks["ema"].average
    with torch.no_grad():
        average.to_image[0].weight.zero_()
    assert draw(run.game, 2, seed=3).abs().max() == 0


def test_a_folder_without_a_checkpoint_is_refused(finished: Path, tmp_path: Path):
    (tmp_path / "config.yaml").write_text((finished / "config.yaml").read_text())
    with pytest.raises(ConfigError, match="no checkpoint"):
        load_run(tmp_path)


@pytest.mark.slow
def test_a_gallery_shows_samples_of_each_run(finished: Path, tmp_path: Path):
    out, dense = tmp_path / "gallery.png", tmp_path / "dense"
    wide = ["model=mlp", "tricks=[]", "steps=1", "batch=4", "model.generator.init.scale=0.5"]  # samples of every grey
    assert main([*wide, f"hydra.run.dir={dense}"]) == 0
    subprocess.run([sys.executable, SCRIPTS / "gallery.py", out, finished, dense, dense], check=True)
    picture = np.asarray(Image.open(out).convert("L"), dtype=int)
    assert picture.shape == (2 * (18 + 67) + 8, 2 * 331 + 8)  # two rows of two panels, of tiles of 32 with gaps of 1
    samples = to_bytes(draw(load_run(dense)[0].game, 20, seed=0))[..., 0].astype(int)
    assert samples.std() > 20
    for top, left in ((18, 331 + 8), (18 + 67 + 8 + 18, 0)):
        for number in (0, 9, 10):
            y, x = top + 1 + number // 10 * 33, left + 1 + number % 10 * 33
            assert (picture[y : y + 32, x : x + 32] == samples[number]).all()


@pytest.mark.slow
def test_the_judge_knows_digits_and_rejects_an_untrained_generator(finished: Path):
    judged = subprocess.run(
        [sys.executable, SCRIPTS / "judge_digits.py", finished, "--samples", "100", "--json"],
        capture_output=True,
        text=True,
    )
    found = json.loads(judged.stdout)
    assert judged.returncode == 1
    assert found["held_out_accuracy"] > 0.95 and found["held_out_median_confidence"] > 0.95
    assert sum(found["shares"]) == pytest.approx(1, abs=1e-3)
    assert found["median_confidence"] < 0.85
