"""The public face: what a notebook imports, and the example of the README."""

import inspect
import re
import subprocess
import sys
import threading
import typing
from pathlib import Path

import pytest
import torch
from commands import environment
from support import tiny

import ganrun
from ganrun.core.errors import ConfigError
from ganrun.run.draw import draw
from ganrun.run.load import load_run

ROOT = Path(__file__).parents[1]


def trained(folder: Path, *overrides: str, model: str = "dcgan", tricks: tuple[str, ...] = ("ema",)) -> Path:
    """A tiny run, by the public functions alone."""
    return ganrun.train(ganrun.compose(tiny(*overrides, "steps=3", model=model, tricks=tricks)), folder)


def test_the_example_of_the_readme_runs(tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text()
    (block,) = re.findall(r"```python\n(import ganrun\n.*?)```", text, re.DOTALL)
    code = block.split("by_class")[0]  # whose run is the reader's own
    assert len([line for line in block.splitlines() if line.strip()]) <= 10 and "ganrun.train(" in code
    small = code.replace("steps=200", "steps=4").replace('"model=dcgan"', '"model=dcgan", "model.generator.width=8"')
    ended = subprocess.run([sys.executable, "-c", small], cwd=tmp_path, env=environment(), capture_output=True,
                           text=True, timeout=120)  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1] == "torch.Size([16, 1, 32, 32]) 4"
    assert list((tmp_path / "outputs").glob("*/*/checkpoints/step_00000004.*.pt"))


def test_importing_loads_neither_torch_nor_hydra() -> None:
    code = (
        "import sys, ganrun; print([name for name in ('torch', 'hydra', 'omegaconf', 'numpy') if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, timeout=60)
    assert ended.stdout.strip() == "[]", ended.stderr


def test_the_public_functions_are_typed_and_documented() -> None:
    assert set(ganrun.__all__) == {"__version__", "compose", "load", "train"}
    for name in ganrun.__all__[1:]:
        function = getattr(ganrun, name)
        assert "Raises" in (inspect.getdoc(function) or ""), name
        annotations = inspect.get_annotations(function)
        assert set(annotations) == {*inspect.signature(function).parameters, "return"}
    from ganrun.run.load import LoadedRun

    assert typing.get_type_hints(LoadedRun.sample)["return"] is torch.Tensor


def test_a_run_is_loaded_without_its_data(tmp_path: Path) -> None:
    """The folder that it was trained on is gone: networks, average and samples are those of the whole run."""
    from PIL import Image

    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(8):
        Image.new("RGB", (16, 16), (30 * i, 255 - 30 * i, 128)).save(photos / f"{i}.png")
    given = ("dataset=folder", f"dataset.path={photos}", "dataset.resolution=16")
    run = trained(tmp_path / "run", *given, tricks=("ema", "virtual_batch_norm"))
    whole, step = load_run(run)
    expected = draw(whole.game, 5, seed=3)
    whole.data.close()
    for path in photos.iterdir():
        path.unlink()
    photos.rmdir()
    loaded = ganrun.load(run, device="cpu")
    assert loaded.step == step == 3 and torch.equal(loaded.sample(5, seed=3), expected)
    assert loaded.generator is not loaded.pair().generator, "the averaged one"
    mine, theirs = loaded.game.state_dict(), whole.game.state_dict()
    assert mine.keys() == theirs.keys() and all(torch.equal(mine[key], theirs[key]) for key in mine)


def test_samples_follow_the_seed_and_leave_torchs_generators_alone(tmp_path: Path) -> None:
    loaded = ganrun.load(trained(tmp_path / "run"))
    torch.manual_seed(5)
    expected = torch.randn(3)
    torch.manual_seed(5)
    images = loaded.sample(4, seed=1)
    assert torch.equal(torch.randn(3), expected)
    assert images.shape == (4, 1, 16, 16) and images.dtype == torch.float32 and images.abs().max() <= 1
    assert torch.equal(images, loaded.sample(4, seed=1)) and not torch.equal(images, loaded.sample(4, seed=2))


def test_samples_of_classes(tmp_path: Path) -> None:
    loaded = ganrun.load(trained(tmp_path / "run", model="cgan"))
    by_class = loaded.sample(10, labels=range(10), seed=1)
    assert torch.equal(by_class[7], loaded.sample(10, labels=list(range(10)), seed=1)[7])
    assert torch.equal(loaded.sample(2, labels=3), loaded.sample(2, labels=torch.tensor([3, 3])))
    assert not torch.equal(loaded.sample(2, labels=3), loaded.sample(2, labels=4))
    for labels, found in (([0, 1], r"\[2\], from 0 to 1"), ([10, 0, 1], "from 0 to 10"), ([-1, 0, 1], "from -1 to 1")):
        with pytest.raises(ConfigError, match=found):
            loaded.sample(3, labels=labels)


def test_bad_input_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^modle: there is no such setting, expected .*\. Try: model=dcgan$"):
        ganrun.compose(["modle=dcgan"])
    with pytest.raises(ConfigError, match=r"^steps: -1, expected a whole number from 1 up"):
        ganrun.compose(["steps=-1"])
    with pytest.raises(ConfigError, match=r"not a run|does not exist"):
        ganrun.load(tmp_path / "nothing")
    loaded = ganrun.load(trained(tmp_path / "run"))
    with pytest.raises(ConfigError, match="not conditional"):
        loaded.sample(2, labels=1)
    with pytest.raises(ConfigError, match="already holds a run"):
        trained(tmp_path / "run")


def test_a_run_may_be_trained_outside_the_main_thread(tmp_path: Path) -> None:
    """Where Python allows no signal handler; a notebook's server may do so."""
    done: list[Path] = []
    thread = threading.Thread(target=lambda: done.append(trained(tmp_path / "run")))
    thread.start()
    thread.join(60)
    assert done and ganrun.load(done[0]).step == 3
