"""Bad input: refused in one line with a remedy, exit code 2, nothing left behind, and never a traceback."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import TINY, Nursery, config, refusal

# What is typed, and what the one line must say.
CONFIG_ERROR = {
    # names
    "model=dcgann": ["model: there is no dcgann", "Try: model=dcgan"],
    "optim=sgd": ["optim: there is no sgd", "adam, momentum_sgd, rmsprop"],
    "dataset=fashionmnist": ["Try: dataset=fashion_mnist"],
    "experiment=keepcalm": ["Try: experiment=keep_calm"],
    "tricks=[soft_lables]": ["there is no soft_lables", "soft_labels, spectral_norm", "Try: 'tricks=[soft_labels]'"],
    "tricks=[ema,flipp]": ["there is no flipp", "Try: 'tricks=[ema,flip]'"],
    "tricks=[ema,ema]": ["ema twice", "Try: 'tricks=[ema]'"],
    "tricks=null": ["tricks: no choice", "Try: 'tricks=[]'"],
    "loss=null": ["loss: no choice", "hinge, least_squares"],
    "loss=": ["loss: no choice"],
    "model.generator.wdth=3": ["Try: model.generator.width="],
    "updates.discriminaor=2": ["Try: updates.discriminator="],
    "+steps=3": ["it is there already", "without the +"],
    "+model=mlp": ["model is chosen already", "Try: model=mlp"],
    "~model": ["a run without model", "cdcgan, cgan, dcgan, deep_conv", "Try: model=cdcgan"],
    "~tricks": ["Try: 'tricks=[]'"],
    "~optim.generator": ["optim.generator: not there"],
    "~optim.generator.lr": ["optim.generator.lr: None, expected a number"],
    "~log.every": ["log.every: None"],
    "hydra.foo=1": ["hydra.foo: there is no such setting", "--cfg hydra"],
    "hydra/launcher=nope": ["basic", "processes"],
    # words
    "trian": ["neither a command nor KEY=VALUE", "Try: ganrun train"],
    "resume": ["no run named"],
    "=3": ["cannot be read"],
    "tricks=[ema": ["cannot be read", "Try: 'tricks=[ema]'"],
    "name=é": ["Try: 'name=\"é\"'"],
    "--helpp": ["unrecognized arguments: --helpp", "ganrun --help"],
    "--cfg": ["expected one argument"],
    "steps=abc --": ["steps: 'abc', expected a whole number"],
    "--config-dir=nowhere": ["no folder nowhere"],
    f"dataset.resolution=16 hydra.searchpath={'x' * 5000}": ["hydra.searchpath: 'xxx", "Try: --config-dir FOLDER"],
    f"hydra.searchpath={'x' * 5000}": ["hydra.searchpath: 'xxx", "Try: --config-dir FOLDER"],
    "--config-name=nowhere": ["nowhere: there is no such file"],
    "--experimental-rerun=x": ["may run any code"],
    "-m -c job": ["--cfg: together with -m"],
    "-m seed=1,2 hydra.sweeper.params={a:1}": ["settings and options that Hydra can follow"],
    "--cfg job --package nope": ["--package: there is no nope"],
    "hydra.job.chdir=abc": ["hydra.job.chdir: Value 'abc'", "Try: leaving hydra.job.chdir out"],
    "seed=1,2": ["Try: ganrun -m seed=1,2 for a run each, 'seed=[1,2]' for a list or 'seed=\"1,2\"' for text"],
    "name={x}": ["cannot be read", "Try: 'name=\"{x}\"'"],
    "name=it's": ["cannot be read", 'Try: "name=\\"it\'s\\""'],
    "plugins=[true]": ["plugins: [True], expected a list of modules"],
    "plugins=['']": ["plugins: '', expected the dotted name of a module"],
    "optim.lr=2e-4": ["generator, discriminator, decay", "Try: optim.generator.lr=2e-4 optim.discriminator.lr=2e-4"],
    "dataset.path=x": [
        "Try: dataset=array dataset.path=x or dataset=captions dataset.path=x or dataset=emoji dataset.path=x"
    ],
    "+log.evry=3": [
        "log.evry: there is no such setting",
        "every, full, gradients, samples, checkpoint",
        "Try: log.every=",
    ],
    "steps=${nope}": ["steps: Interpolation key 'nope' not found"],
    "name=${oc.env:GANRUN_NO_SUCH}": ["name: ", "GANRUN_NO_SUCH"],
    # values
    "steps=abc": ["steps: 'abc', expected a whole number from 1 up"],
    "steps=1.5": ["steps: 1.5"],
    "steps=0": ["steps: 0"],
    "steps=": ["steps: ''"],
    "steps=true": ["steps: True"],
    "batch=0": ["batch: 0, expected a whole number from 1 up"],
    "batch=1": ["batch norm", "Try: batch=2"],
    "seed=-1": ["seed: -1, expected a whole number from 0 up"],
    "log.every=0": ["log.every: 0"],
    "log.keep=1": ["log.keep: 1, expected a whole number from 2 up"],
    "log.minutes=abc": ["log.minutes: 'abc', expected a number"],
    "log.minutes=-1": ["log.minutes: -1"],
    "engine.memory=abc": ["engine.memory: 'abc'"],
    "engine.workers=-1": ["engine.workers: -1"],
    "engine.workers=1000000": ["a whole number from 0 to 256", "Try: engine.workers=2"],
    "batch=1000000000000000000000000000000": ["a number that fits into 64 bits", "Try: batch=64"],
    "optim.generator.betas=[0.5]": ["optim.generator.betas: [0.5], expected a list of 2, each a number"],
    "dataset=folder dataset.path=true": ["dataset.path: True, expected", "Try: 'dataset.path=\"true\"'"],
    "dataset=folder dataset.path=2024": ["Try: 'dataset.path=\"2024\"'"],
    "dataset=array dataset.path=x.npy dataset.range=true": ["dataset.range: True, expected a list"],
    "engine.device=tpu": ["engine.device: 'tpu', expected auto, cpu, cuda or cuda:N"],
    "engine.device=null": ["engine.device: None"],
    "engine.precision=fp16": ["engine.precision: 'fp16', expected auto, bf16 or fp32"],
    "optim.generator.lr=-1": ["optim.generator.lr: -1, expected a number from 0 up"],
    "optim.generator.lr=abc": ["optim.generator.lr: 'abc'"],
    "optim.generator.lr=nan": ["optim.generator.lr: nan"],
    "optim.decay=-1": ["optim.decay: -1, expected a number from 0 up, or a schedule"],
    "optim.decay=abc": ["optim.decay: 'abc'"],
    "optim.generator.betas=5": ["optim.generator.betas: 5, expected a list"],
    "optim.generator.betas=[2,3]": [
        "optim.generator.betas: [2.0, 3.0]",
        "beta",
        "Try: 'optim.generator.betas=[0.5,0.999]'",
    ],
    "optim.generator=nan": ["optim.generator: does not name a class"],
    "optim.generator=3": ["optim.generator: does not name a class"],
    "optim.generator._target_=torch.optim.LBFGS": ["optim.generator: LBFGS", "Try: optim.generator._target_="],
    "tricks.ema.decay=2": ["tricks.ema.decay: 2, expected 0 <= decay < 1"],
    "tricks.ema.decay=abc": ["tricks.ema.decay: 'abc', expected a number"],
    "updates.discriminator=1.5": ["updates.discriminator: 1.5, expected a whole number"],
    "updates.discriminator=0": ["updates.discriminator: 0"],
    "updates.share_fakes=3": ["updates.share_fakes: 3, expected true or false"],
    "game.prior=gamma": ["game.prior: 'gamma', expected one of normal, uniform, spherical, unit_uniform"],
    "name=null": ["name: None, expected a name"],
    "objective=[1]": ["objective: [1]"],
    "plugins=nope": ["plugins: 'nope', expected a list", "Try: 'plugins=[nope]'"],
    "plugins=[no_such_module]": ["no_such_module cannot be imported", "PYTHONPATH"],
    # parts that do not fit
    "model.generator.norm=foo": ["expected one of batch, instance, layer, group, none"],
    "model=keep_calm model.discriminator.norm_eps=-0.0": [
        "model.discriminator.norm_eps: -0.0, expected a number above 0"
    ],
    "tricks=[spectral_norm] tricks.spectral_norm.warm_up=1000000000": ["a whole number from 0 to 1000"],
    "tricks=[checkpoint_swap] tricks.checkpoint_swap.keep=1000000000": ["a whole number from 1 to 100"],
    "model=r3gan model.generator.blocks=1000000000": ["a whole number from 1 to 100"],
    "model.generator.width=abc": ["model.generator.width: 'abc', expected a whole number"],
    "model.generator.init=3": ["model.generator.init: 3, expected settings"],
    "model.generator=null": ["model.generator: not there"],
    "model.generator._target_=os.system": ["os.system may not be built"],
    "model.generator.channels=3": ["model.generator.channels: 3, but the data have 1", "Try: dataset.channels=3"],
    "model=cgan model.generator.resolution=4096": [
        "resolution: 4096, but the data have"
    ],  # 80 GB of weights are not made
    "dataset.resolution=17": ["model.generator.resolution: 17", "Try: dataset.resolution=16"],
    "dataset.channels=7": ["dataset.channels: 7"],
    "dataset.classes=[3,77]": ["no class 77"],
    "loss=wasserstein": ["loss (Wasserstein): ", "bounds the slope", "Try: ", "gp", "clip"],
    "loss=wasserstein tricks=[gp]": ["tricks.gp: ", "batch norm", "model.discriminator", "norm=layer"],
    "tricks=[soft_labels,one_sided_smoothing]": ["tricks.soft_labels and tricks.one_sided_smoothing"],
    "loss=hinge tricks=[soft_labels]": ["tricks.soft_labels: ", "loss (Hinge)", "Try: loss=nonsaturating"],
    "model=translation model.generator.halvings=1000000000": ["expected a whole number from 0 to 16"],
    "model=mlp tricks=[big_kernels]": ["tricks.big_kernels: ", "mlp", "Try: model=dcgan"],
    # tricks that are not played
    "tricks.soft_labels.real=[0.8,1.0]": ["soft_labels is not among the tricks", "Try: 'tricks=[ema,soft_labels]'"],
    "tricks=[] tricks.flip=1": ["flip is not among the tricks", "Try: 'tricks=[flip]'"],
    "tricks.soft_lables.real=1": ["soft_lables is not among the tricks", "Try: 'tricks=[ema,soft_labels]'"],
    "experiment=wgan_gp_toy tricks=[ema]": ["needs something that bounds the slope", "adding gp to tricks"],
    "experiment=wgan_gp_toy tricks=[ema] tricks.gp.weight=1": ["not selected: gp", "Try: 'tricks=[ema,gp]'"],
    "experiment=wgan_gp_toy tricks=[ema] tricks.gp={weight:1}": ["not selected: gp", "Try: 'tricks=[ema,gp]'"],
    "optim=momentum_sgd tricks=[lr_decay]": ["optim.decay.factor: Linear has no such", "Try: '~optim.decay.factor'"],
    "~tricks.flip": ["flip is not among the tricks"],
    "tricks=[ttur] ~tricks.ttur": ["ttur is a setting; what it has set would stay"],
    'model=biggan model.generator.upsample="\n"': ["model.generator.upsample: '\\n', expected one of "],
    'log.full="\\${steps}"': ["log.full: '${steps}', expected a whole number from 0 up"],
    "hydra.output_subdir=/": ["hydra.output_subdir: /, where Hydra would write", "Try: hydra.output_subdir=null"],
    "plugins.a=1": ["plugins.a: plugins is a list, expected no name below it. Try: leaving a out"],
    # data
    "dataset=cifar10": ["CIFAR10", "Try: dataset.download=true"],
    f"dataset=mnist dataset.root={'x' * 300}": ["is missing, expected MNIST's files"],
    "dataset=folder": ["dataset.path: not set"],
    "dataset=folder dataset.path=nowhere": ["dataset.path: nothing is at nowhere in "],
    "dataset=array dataset.path=nowhere.npy": ["nothing is at nowhere.npy in "],
    "model=mlp dataset=grid dataset.divide=-0.0": ["dataset.divide: -0.0, expected a number above 0"],
    "model=mlp dataset=ring dataset.gaussians=0": ["dataset.gaussians: 0, expected a whole number from 1"],
    "model=mlp dataset=swiss_roll dataset.noise=-1": ["dataset.noise: -1, expected a number of at least 0"],
    "model=mlp dataset=ring": ["values from -1.4", "Try: model.generator.output=linear"],
    # where to write
    "hydra.run.dir=/proc/nobody/can": ["/proc/nobody", "expected a folder that can be written"],
    "hydra.run.dir=/dev/null": ["/dev/null: ", "expected a folder"],
    "hydra.run.dir=/dev/null/run": ["/dev/null/run: not a directory"],
    # sweeps that cannot begin
    "-m model=dcgan,mlpp": ["there is no mlpp"],
    "-m tricks=[],[flipp]": ["there is no flipp"],
    "-m stepz=1,2": ["stepz"],
}


# A second each: every third here, all under slow.
@pytest.mark.parametrize(
    "typed",
    [pytest.param(typed, marks=() if row % 3 == 0 else pytest.mark.slow) for row, typed in enumerate(CONFIG_ERROR)],
)
def test_refused_in_one_line_and_nothing_is_left(nursery: Nursery, typed: str, tmp_path: Path):
    line = refusal(nursery.run(*typed.split(" "), folder=tmp_path), tmp_path)
    assert [words for words in CONFIG_ERROR[typed] if words not in line] == [], line
    assert "Traceback" not in line and len(line) < 1200
    assert ", expected " in line or "(rule C" in line, "not in the one form"
    assert ". Try: " in line


def test_several_contradictions_are_told_at_once(nursery: Nursery, tmp_path: Path):
    tricks = "tricks=[soft_labels,one_sided_smoothing,gp,clip]"
    ended = nursery.run("loss=wasserstein", tricks, folder=tmp_path)
    assert ended.code == 2 and not list(tmp_path.iterdir())
    lines = ended.err.splitlines()
    assert len(lines) >= 4 and all(line.startswith("ganrun: error: ") for line in lines)
    for words in (
        "tricks.soft_labels: ",
        "tricks.one_sided_smoothing: ",
        "batch norm",
        "tricks.clip",
        "targets of reals",
    ):
        assert any(words in line for line in lines), words


def test_several_wrong_values_are_told_at_once(nursery: Nursery, tmp_path: Path):
    lines = nursery.run("steps=abc", "batch=0", "engine.device=null", folder=tmp_path).err.splitlines()
    assert [line.split(": ")[2] for line in lines] == ["steps", "batch", "engine.device"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA here")
def test_a_device_that_is_asked_for_by_name_is_never_replaced(nursery: Nursery, tmp_path: Path):
    line = refusal(nursery.run("engine.device=cuda", folder=tmp_path), tmp_path)
    assert "PyTorch sees 0 CUDA devices" in line and "Try: engine.device=cpu" in line


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.linspace(0, 255, 8 * 256, dtype=np.float32), ["dataset.range=[0,255]"]),
        (np.linspace(0, 1, 8 * 256, dtype=np.float32), ["dataset.range=[0,1]"]),
        (np.full(8 * 256, np.nan, dtype=np.float32), ["not finite"]),
        (np.zeros(8 * 256, dtype=np.uint8), ["every value is 0"]),
        (np.array([None] * 8 * 256, dtype=object), []),
    ],
    ids=["0..255", "0..1", "nan", "constant", "objects"],
)
def test_arrays_that_are_not_what_they_should_be(nursery: Nursery, values, words, tmp_path: Path):
    np.save(tmp_path / "images.npy", values.reshape(8, 16, 16), allow_pickle=True)
    (tmp_path / "here").mkdir()
    arguments = ("dataset=array", "dataset.path=../images.npy")
    line = refusal(nursery.run(*arguments, folder=tmp_path / "here"), tmp_path / "here")
    assert [word for word in words if word not in line] == [], line


def test_a_file_in_the_place_of_an_array(nursery: Nursery, tmp_path: Path):
    for content in (b"", b"a,b\n1,2\n", b"\x93NUMPY" + os.urandom(99), os.urandom(999)):
        (tmp_path / "images.npy").write_bytes(content)
        ended = nursery.run("dataset=array", "dataset.path=images.npy", folder=tmp_path)
        refusal(ended)
        assert [path.name for path in tmp_path.iterdir()] == ["images.npy"]


def test_a_folder_that_holds_no_images(nursery: Nursery, tmp_path: Path):
    (tmp_path / "photos").mkdir()
    refusal(nursery.run("dataset=folder", "dataset.path=photos", folder=tmp_path))
    (tmp_path / "photos" / "a.jpg").write_text("<html>not found</html>")
    refusal(nursery.run("dataset=folder", "dataset.path=photos", folder=tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_a_refusal_takes_away_only_what_it_made(nursery: Nursery, tmp_path: Path):
    (tmp_path / "kept" / "empty").mkdir(parents=True)
    for folder in ("kept/empty", "kept/empty/new/newer"):
        refusal(nursery.run("batch=1", f"hydra.run.dir={folder}", folder=tmp_path))
        assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["kept", "kept/empty"]


def test_more_memory_than_there_is_is_refused_before_any_work(nursery: Nursery, tmp_path: Path):
    line = refusal(nursery.run("batch=100000000000000000", folder=tmp_path), tmp_path)
    assert line.startswith("batch: 100000000000000000, expected at most ") and line.endswith("Try: batch=64")
    line = refusal(nursery.run("model.generator.latent=100000000000", folder=tmp_path), tmp_path)
    assert line.startswith("memory: not enough for this run (")


# What looks odd and is meant


@pytest.mark.parametrize(
    ("typed", "key", "value"),
    [
        ("~tricks.ema", "tricks", {}),
        ("tricks=[]", "tricks", {}),
        ("tricks=flip", "tricks", ["flip"]),
        ("+tricks=[flip]", "tricks", ["ema", "flip"]),
        ("++steps=1", "steps", 1),
        ("seed=99999999999999999999999", "seed", 99999999999999999999999),
        ("optim.generator.lr=0", "optim", None),
        ("dataset.channels=3", "dataset", None),
        ("experiment=dcgan_digits tricks=[ttur]", "tricks", ["ttur"]),
        ("loss=wasserstein tricks=[gp] model.discriminator.norm=none", "tricks", ["gp"]),
        ("tricks=[soft_labels,flip] tricks.soft_labels.real=[0.8,1.0]", "tricks", ["soft_labels", "flip"]),
    ],
)
def test_accepted(nursery: Nursery, typed: str, key: str, value: object, tmp_path: Path):
    ended = nursery.run(*typed.split(" "), *TINY, "steps=1", folder=tmp_path)
    assert ended.code == 0 and ended.err == "", ended
    found = config(tmp_path / ended.run)[key]
    assert value is None or (sorted(found) == sorted(value) if isinstance(found, dict) else found == value)
