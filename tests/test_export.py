"""Exported networks: each is loaded again and gives what the run's own network gives, or is refused in one line."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from commands import environment
from support import composed, family, progress, tiny
from torch import Tensor
from torch.nn.utils import parametrize

import ganrun
from ganrun.cli.main import main
from ganrun.config.build import build
from ganrun.core.context import DiscriminatorOutput
from ganrun.core.errors import ConfigError, EnvironmentFailed
from ganrun.core.from_images import reads_image
from ganrun.core.images import largest
from ganrun.core.modes import evaluating
from ganrun.games import latent
from ganrun.record.checkpoint import Checkpoints
from ganrun.record.folder import RunFolder
from ganrun.run.export import folder as folders
from ganrun.run.export.card import PRIORS
from ganrun.run.export.folder import TOLERANCE, export
from ganrun.run.export.formats import FORMATS
from ganrun.run.export.network import blank, plain
from ganrun.run.export.rebuild import open_network
from ganrun.run.load import LoadedRun
from ganrun.run.signals import Interrupted
from ganrun.run.state import state_of

MODELS = family("model")
TRACED = ("cgan", "ebgan", "infogan", "mlp", "translation")  # in the default suite: tracing takes long
DISCRIMINATORS = ("acgan", "translation")  # in the default suite
REPARAMETRISED = [("dcgan", "spectral_norm"), ("dcgan", "weight_norm"), ("cgan", "equalized_lr")]
SETTINGS = {"spectral_norm": ("tricks.spectral_norm.role=both",), "weight_norm": ("tricks.weight_norm.role=both",)}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Runs as the package saves them, once each. Nothing in their networks is 0, or where it started."""
    made: dict[Any, Path] = {}

    def run(model: str = "dcgan", *tricks: str, **more: str) -> Path:
        key = (model, tricks, tuple(more.items()))
        if key not in made:
            made[key] = _save(tmp_path_factory.mktemp("run") / "run", model, tricks, more)
        return made[key]

    return run


def _save(path: Path, model: str, tricks: tuple[str, ...], more: dict[str, str]) -> Path:
    settings = [f"{key.replace('__', '.')}={value}" for key, value in more.items()]
    settings += [setting for trick in tricks for setting in SETTINGS.get(trick, ())]
    run = build(composed(*tiny(*settings, model=model, tricks=("ema", *tricks))))
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in run.game.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
        for name, buffer in run.game.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.mul_(1.5).add_(0.1 * torch.rand_like(buffer))
    folder = RunFolder.create(path)
    folder.describe(config=run.yaml, overrides=[], seed=0, command=[])
    Checkpoints(folder.checkpoints, keep=2).save(3, state_of(run, progress(run, 3)))
    folder.close()
    run.data.close()
    return path


def expected(run: LoadedRun, role: str, given: tuple[Tensor, ...]) -> list[Tensor]:
    """What the run's own network gives, computed without the exporter."""
    net = run.generator if role == "generator" else run.discriminator
    with torch.no_grad(), evaluating(net):
        torch.manual_seed(5)
        made = net(given[0], given[1] if len(given) > 1 else None)
    if isinstance(made, DiscriminatorOutput):
        return [made.score, *made.heads.values()]
    return [largest(made)]


def given_to(run: LoadedRun, role: str, count: int) -> tuple[Tensor, ...]:
    """Inputs of a network, by what it says of itself."""
    torch.manual_seed(count)
    net: Any = run.generator if role == "generator" else run.discriminator
    data = run.settings["dataset"]
    images = torch.rand(count, data["channels"], data["resolution"], data["resolution"]) * 2 - 1
    first = torch.randn(count, net.latent) if role == "generator" and hasattr(net, "latent") else images
    if reads_image(net):
        return first, torch.rand_like(images) * 2 - 1
    if (text := blank(net, count)).dim() == 2:
        return first, torch.randint(data["word_count"], text.shape)
    return (first, torch.arange(count) % run.game.classes) if run.game.classes else (first,)


def scale_of(tensors: Sequence[Tensor]) -> float:
    """The largest of all values."""
    return max(float(one.abs().max()) for one in tensors)


def agrees(path: Path, form: str, out: Path, role: str = "generator") -> None:
    """Export, read the file with its library alone, and compare for several sizes of batch."""
    done = export(path, form=form, out=str(out), network=role)  # type: ignore[arg-type]
    assert done.file.is_file() and done.step == 3 and done.difference <= TOLERANCE
    assert sorted(os.listdir(out)) == sorted(["README.md", "config.yaml", done.file.name])
    run, network = ganrun.load(path, device="cpu"), FORMATS[form].opened(out, ())
    takes = len(re.findall(r"^\| input \|", (out / "README.md").read_text(), re.MULTILINE))
    for count in (1, 2, 5):
        given = given_to(run, role, count)
        wanted = expected(run, role, given)
        torch.manual_seed(5)
        with torch.no_grad():
            made = network(*given[:takes])
        made = [made] if isinstance(made, Tensor) else list(made)
        assert [one.shape for one in made] == [one.shape for one in wanted]
        scale = max(1.0, *(float(one.abs().max()) for one in wanted))
        assert all((one - other).abs().max() <= TOLERANCE * scale for one, other in zip(made, wanted, strict=True))
        apart = max(float((one - other).abs().max()) for one, other in zip(made, wanted, strict=True))
        assert scale_of(made) > 10 * apart, "a network that gives nothing agrees with anything"


# Every model in every format

QUICK = {  # what does not take long; the rest is slow
    "safetensors": {
        *((model, "generator") for model in TRACED),
        *((model, "discriminator") for model in DISCRIMINATORS[:3]),
    },
    "torch_export": {(model, "generator") for model in TRACED},
    "onnx": {("cgan", "generator")},
}


def marked(form: str) -> list[Any]:
    """Every model and role, those that take long marked."""
    pairs = [(model, role) for model in MODELS for role in ("generator", "discriminator")]
    assert QUICK[form] <= set(pairs)
    return [pytest.param(*pair, marks=() if pair in QUICK[form] else pytest.mark.slow) for pair in pairs]


@pytest.mark.parametrize(("model", "role"), marked("safetensors"))
def test_safetensors(saved: Callable[..., Path], tmp_path: Path, model: str, role: str) -> None:
    agrees(saved(model), "safetensors", tmp_path / "out", role)


@pytest.mark.parametrize(("model", "role"), marked("torch_export"))
def test_torch_export(saved: Callable[..., Path], tmp_path: Path, model: str, role: str) -> None:
    agrees(saved(model), "torch_export", tmp_path / "out", role)


@pytest.mark.parametrize(("model", "role"), marked("onnx"))
def test_onnx(saved: Callable[..., Path], tmp_path: Path, model: str, role: str) -> None:
    agrees(saved(model), "onnx", tmp_path / "out", role)


def test_the_page_has_a_row_for_each_model() -> None:
    page = (Path(__file__).parents[1] / "docs" / "export.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| yes \| yes \| yes \|", page.split("## What works")[1], re.MULTILINE)
    assert rows == MODELS and len(MODELS) > 16


# Weights and layers that tricks change


@pytest.mark.parametrize(
    ("model", "trick", "form"),
    [
        *[(*pair, "safetensors") for pair in REPARAMETRISED],
        *[pytest.param(*pair, "torch_export", marks=pytest.mark.slow) for pair in REPARAMETRISED],
        ("dcgan", "virtual_batch_norm", "safetensors"),
        ("dcgan", "virtual_batch_norm", "torch_export"),
    ],
)
def test_tricks_of_weights_and_norms(
    saved: Callable[..., Path], tmp_path: Path, model: str, trick: str, form: str
) -> None:
    agrees(saved(model, trick), form, tmp_path / "out")


def test_small_numbers_stay_in_onnx(saved: Callable[..., Path], tmp_path: Path) -> None:
    """Without its eps of 1e-8, which an optimiser takes for 0, pixel norm gives NaN where every channel is 0."""
    agrees(saved("dcgan", "pixel_norm"), "onnx", tmp_path / "out")
    assert 1e-8 in _constants(tmp_path / "out" / "model.onnx")


def _constants(path: Path) -> list[float]:
    import onnx

    graph = onnx.load(path).graph
    given = [each for node in graph.node if node.op_type == "Constant" for each in node.attribute]
    found = [each.f for each in given if each.type == onnx.AttributeProto.FLOAT]
    tensors = [*graph.initializer, *(each.t for each in given if each.type == onnx.AttributeProto.TENSOR)]
    found += [array.item() for array in map(onnx.numpy_helper.to_array, tensors) if array.size == 1]
    return [round(value, 12) for value in found]


@pytest.mark.slow
@pytest.mark.parametrize("trick", ["virtual_batch_norm", "self_attention", "generator_noise", "weight_norm"])
def test_tricks_in_onnx(saved: Callable[..., Path], tmp_path: Path, trick: str) -> None:
    more = {"tricks__self_attention__at": "8"} if trick == "self_attention" else {}
    agrees(saved("dcgan", trick, **more), "onnx", tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMATS)
def test_codes_of_infogan_and_its_heads(saved: Callable[..., Path], tmp_path: Path, form: str) -> None:
    path = saved("infogan", "info_codes", model__generator__latent="20")
    agrees(path, form, tmp_path / "g")
    agrees(path, form, tmp_path / "d", "discriminator")
    assert "The trick info_codes changes the noise" in (tmp_path / "g" / "README.md").read_text()


@pytest.mark.parametrize(("model", "trick"), REPARAMETRISED)
def test_plain_weights_are_those_that_torch_itself_leaves(saved: Callable[..., Path], model: str, trick: str) -> None:
    """And the network that they were taken from is as it was: copies share a class that torch's own would change."""
    net, other = (ganrun.load(saved(model, trick), device="cpu").generator for _ in range(2))
    before = deepcopy(net.state_dict())
    made = plain(net)
    for layer in list(other.eval().modules()):
        if parametrize.is_parametrized(layer):
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
    mine, theirs = made.state_dict(), other.state_dict()
    assert mine.keys() == theirs.keys() and not any("parametrizations" in key for key in mine)
    assert all(torch.equal(mine[key], theirs[key]) for key in mine)
    assert net.state_dict().keys() == before.keys() and any("parametrizations" in key for key in before)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_dropout_when_sampling_is_kept_and_told(saved: Callable[..., Path], tmp_path: Path) -> None:
    path = saved("dcgan", "generator_dropout")
    for form in ("safetensors", "torch_export"):
        agrees(path, form, tmp_path / form)
        assert "another image at every call" in (tmp_path / form / "README.md").read_text()
    with pytest.raises(ConfigError, match=r"^format: this generator draws random numbers at every call, and onnx "
                       r"draws others than torch, expected .*\. Try: format=safetensors$"):  # fmt: skip
        export(path, form="onnx", out=str(tmp_path / "onnx"))
    assert not (tmp_path / "onnx").exists()


def test_noise_of_stylegan2_is_told(saved: Callable[..., Path], tmp_path: Path) -> None:
    export(saved("stylegan2"), form="safetensors", out=str(tmp_path / "out"))
    card = (tmp_path / "out" / "README.md").read_text()
    assert "noise that is added to the maps of each layer is fixed" in card and "not bounded" in card


def test_a_network_that_counts_its_batch_is_refused_where_batches_are_free(
    saved: Callable[..., Path], tmp_path: Path
) -> None:
    path = saved("dcgan", "minibatch_stddev")
    agrees(path, "safetensors", tmp_path / "weights", "discriminator")
    with pytest.raises(ConfigError, match=r"any number of images, and this one counts .* Try: format=safetensors"):
        export(path, form="torch_export", out=str(tmp_path / "out"), network="discriminator")
    assert os.listdir(tmp_path) == ["weights"]


def test_each_direction_of_a_translation(saved: Callable[..., Path], tmp_path: Path) -> None:
    path = saved("translation")
    files = [
        export(path, form="safetensors", out=str(tmp_path / pair), pair=pair).file for pair in ("a_to_b", "b_to_a")
    ]
    one, other = (open_network(file.parent) for file in files)
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    assert not torch.equal(one(images), other(images))
    run = ganrun.load(path, device="cpu")
    with run.game.named_pairs()["b_to_a"].sampler() as net, torch.no_grad():
        assert torch.allclose(other(images), net(images, None), atol=1e-6)
    with pytest.raises(ConfigError, match=r"^pair: there is no main, expected a_to_b or b_to_a. Try: pair=a_to_b"):
        export(path, form="safetensors", out=str(tmp_path / "c"), pair="main")


# A file that differs, and what is left behind


@pytest.mark.parametrize("change", [lambda value: value + 0.01, lambda value: value * float("nan")])
def test_a_file_that_gives_something_else_is_an_error_and_is_not_kept(
    saved: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Tensor], Tensor]
) -> None:
    kind = FORMATS["safetensors"]
    opened = kind.opened
    monkeypatch.setattr(
        type(kind), "opened", lambda self, folder, plugins: lambda *given: change(opened(folder, plugins)(*given))
    )
    with pytest.raises(
        ConfigError, match=r"its images differ from the network's by (0\.01|nan), of 1 images, expected"
    ):
        export(saved(), form="safetensors", out=str(tmp_path / "new" / "out"))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), Interrupted(2)])
def test_nothing_half_written_stays(
    saved: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    write = folders.write_atomically

    def failing(path: Path, data: Any) -> None:
        if path.name == "README.md":  # the last
            assert sorted(os.listdir(path.parent)) == ["config.yaml", "model.safetensors"]
            raise error
        write(path, data)

    monkeypatch.setattr(folders, "write_atomically", failing)
    with pytest.raises((EnvironmentFailed, Interrupted)) as failure:
        export(saved(), form="safetensors", out=str(tmp_path / "new" / "out"))
    assert os.listdir(tmp_path) == []
    if isinstance(error, OSError):
        assert str(failure.value) == f"cannot write {tmp_path}/new/out: No space left on device"


def test_an_empty_folder_is_filled_and_random_numbers_are_left_alone(
    saved: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    torch.manual_seed(3)
    wanted = torch.randn(4)
    torch.manual_seed(3)
    export(saved(), form="safetensors", out=str(tmp_path / "out"))
    network = open_network(tmp_path / "out")
    assert torch.equal(torch.randn(4), wanted) and not network.training
    assert (tmp_path / "out" / "config.yaml").read_bytes() == (saved() / "config.yaml").read_bytes()


def test_the_folder_is_all_that_the_network_needs(saved: Callable[..., Path], tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    export(saved("cgan"), form="safetensors", out=str(tmp_path / "out"))
    (tmp_path / "out").rename(moved)
    run = ganrun.load(saved("cgan"), device="cpu")
    given = given_to(run, "generator", 7)
    with torch.no_grad():
        assert torch.equal(open_network(moved)(*given), expected(run, "generator", given)[0])
    text = (moved / "config.yaml").read_text()
    (moved / "config.yaml").write_text(text.replace("- 16\n", "- 24\n"))
    with pytest.raises(ConfigError, match=r"model.safetensors: does not fit config.yaml \(.*\), expected"):
        open_network(moved)
    (moved / "model.safetensors").write_bytes(b"\0" * 40)
    with pytest.raises(ConfigError, match=r"model.safetensors: cannot be read .*expected a folder that `ganrun export"):
        open_network(moved)
    (moved / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"model.safetensors: is not there"):
        open_network(moved)


# The model card


@pytest.mark.parametrize("prior", sorted(latent.PRIORS))
def test_noise_of_the_card_is_that_of_the_game(prior: str) -> None:
    """In torch number by number, in numpy by its moments."""
    import numpy

    _, by_torch, by_numpy = PRIORS[prior]
    torch.manual_seed(0)
    mine = eval(by_torch.format(n=5, z=7), {"torch": torch})
    torch.manual_seed(0)
    assert torch.allclose(mine, latent.PRIORS[prior](5, 7))
    names: dict[str, Any] = {"numpy": numpy, "random": numpy.random.default_rng(0)}
    exec(f"noise = {by_numpy.format(n=4000, z=7)}", names)
    theirs = latent.PRIORS[prior](4000, 7).numpy()
    assert names["noise"].shape == (4000, 7) and names["noise"].dtype == numpy.float32
    assert abs(names["noise"].std() - theirs.std()) < 0.03 and abs(names["noise"].mean()) < 0.03
    assert abs(abs(names["noise"]).max() - abs(theirs).max()) < 1
    assert abs((names["noise"] ** 2).sum(1).std() - (theirs**2).sum(1).std()) < 0.4


ROLES = (("torch_export", "generator"), ("onnx", "discriminator"), ("safetensors", "generator"))


def code_of(card: str) -> str:
    """The Python of a model card."""
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    return code


@pytest.mark.slow
def test_the_code_of_the_cards_runs_in_their_folders(saved: Callable[..., Path], tmp_path: Path) -> None:
    """In one process, the two that need no ganrun first."""
    lines = ["import os, sys"]
    for form, role in ROLES:
        export(saved("acgan"), form=form, out=str(tmp_path / form), network=role)  # type: ignore[arg-type]
        code = code_of((tmp_path / form / "README.md").read_text())
        assert len([line for line in code.splitlines() if line and not line.startswith(("import", "from"))]) <= 5
        made = "images" if role == "generator" else "class_"
        lines += [f"os.chdir({str(tmp_path / form)!r})", code, f"print(tuple({made}.shape), 'ganrun' in sys.modules)"]
    ended = subprocess.run([sys.executable, "-c", "\n".join(lines)], cwd=tmp_path, env=environment(),
                           capture_output=True, text=True)  # fmt: skip
    assert ended.stdout.splitlines() == [
        "(16, 1, 16, 16) False", "(16, 10) False", "(16, 1, 16, 16) True"
    ], ended  # fmt: skip


def test_a_card_says_what_the_network_is(saved: Callable[..., Path], tmp_path: Path) -> None:
    export(saved("acgan"), form="safetensors", out=str(tmp_path / "out"))
    card = (tmp_path / "out" / "README.md").read_text()
    _, front, body = card.split("---\n", 2)
    assert yaml.safe_load(front) == {"library_name": "ganrun", "tags": ["gan", "ganrun", "image-generation"]}
    rows = {line.split("|")[1].strip(): line.split("|")[2].strip() for line in body.splitlines() if line[:1] == "|"}
    network = ganrun.load(saved("acgan"), device="cpu").generator
    assert rows["architecture"].startswith("`ganrun.models.cdcgan.Generator`")
    assert rows["parameters"] == f"{sum(p.numel() for p in network.parameters()):,}"
    assert rows["trained on"] == "Digits; 16x16 pixels, 1 channel" and rows["steps"] == "3, of 4 images each"
    assert rows["tricks"] == "ema" and rows["ganrun"] == ganrun.__version__
    for row in ("| input | noise | [N, 8] | float32 | N(0, 1) |", "| input | labels | [N] | int64 | 0 to 9 |",
                "| output | images | [N, 1, 16, 16] | float32 | [-1, 1] |", "## Licence", "config.yaml"):  # fmt: skip
        assert row in body


# From the command line


def test_the_command_tells_what_it_wrote(
    saved: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["export", str(saved()), "format=safetensors", f"out={out}"]) == 0
    told = capsys.readouterr()
    assert told.err == "" and re.fullmatch(
        rf"exported    {out}/model.safetensors  \(the averaged generator of step 3, [\d,]+ parameters\)\n"
        rf"checked     loaded again, its outputs for 12 images differ by at most 0\nhow to use  {out}/README.md\n",
        told.out,
    )


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line with which `ganrun export` refuses these words."""
    assert main(["export", *words]) == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err.count("\n") == 1
    return told.err.strip().removeprefix("ganrun: error: ")


def test_refusals(
    saved: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    say, run, out = partial(refused, capsys), str(saved()), f"out={tmp_path}/out"
    assert say(run, out, "format=pickle") == (
        "format: 'pickle', expected safetensors, onnx or torch_export. Try: ganrun help, which shows how to use export"
    )
    assert say(run, out).startswith("format: not set, expected a value. Try: ganrun export RUN format=")
    assert say("format=onnx", out).startswith("export: no run named, expected one run. Try: ganrun export RUN")
    assert "does not exist" in say(f"{tmp_path}/nothing", "format=safetensors", out)
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "config.yaml").write_bytes((saved() / "config.yaml").read_bytes())
    assert "no checkpoint in it yet, expected a run that has saved one" in say(str(bare), "format=safetensors", out)
    assert say(run, "format=safetensors", f"out={bare}") == (
        f"out: {bare}: it is not empty, expected a new or an empty folder. Try: out={bare}_2"
    )
    assert "it is a file" in say(run, "format=safetensors", f"out={bare}/config.yaml")
    assert "no name" in say(run, "format=safetensors", "out=''")
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "ganrun.run.export.formats.find_spec", lambda name: None if name.startswith("onnx") else find(name)
    )
    assert say(run, "format=onnx", out) == (
        "format: onnx needs onnx and onnxscript and onnxruntime, which are not installed, expected the packages of an "
        "extra. Try: pip install 'ganrun[onnx]'"
    )
    assert os.listdir(tmp_path) == ["bare"]
