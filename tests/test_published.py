"""FID, KID and inception score on published networks: from files of weights, never a download, kept and compared."""

import io
import json
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from commands import TINY, same_state
from rich.console import Console
from support import composed
from torch import Tensor, nn

from ganrun.core.errors import ConfigError
from ganrun.metrics import dinov2 as dinov2_module
from ganrun.metrics.classifier import score
from ganrun.metrics.comparison import falls_as_samples_get_better, tag
from ganrun.metrics.dinov2 import Dinov2
from ganrun.metrics.mmd import kid as kid_of_all
from ganrun.metrics.published import TRAIN, Published, as_bytes, kid
from ganrun.run.cache import kept_tensors
from ganrun.run.published import features_of_reals, networks
from ganrun.run.session import Session
from ganrun.run.signals import Signals

torch.set_num_threads(1)
FIDELITY = "torch_fidelity.feature_extractor_inceptionv3"


def he(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights whose features neither vanish nor explode: He's for matrices, near 1 for scales, near 0 for the rest."""
    random = torch.Generator().manual_seed(0)
    drawn = {}
    for name, tensor in state.items():
        noise = torch.randn(tensor.shape, generator=random)
        if name.endswith("num_batches_tracked"):
            drawn[name] = tensor
        elif tensor.ndim > 1:
            drawn[name] = noise * math.sqrt(2 / tensor[0].numel())
        else:
            drawn[name] = 0.1 * noise + float(name.endswith(("var", "weight", "gamma")))
            drawn[name] = drawn[name].abs() if name.endswith("var") else drawn[name]
    return drawn


@pytest.fixture(scope="module")
def inception(tmp_path_factory) -> Path:
    """A file as torch-fidelity's Inception has it, with random weights."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(f"{FIDELITY}.load_state_dict_from_url", lambda *_, **__: {})
        patched.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        net = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(he(net.state_dict()), path)
    return path


@pytest.fixture
def tiny_dinov2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file as DINOv2 has it, of a network of two blocks, which counts as one of its sizes."""
    monkeypatch.setitem(dinov2_module.SIZES, 64, ("tiny", 2))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "dinov2_tiny.pth"
    torch.save(he(Dinov2(64, 2).state_dict()), path)
    return path


def opened(kind: str, path: Path, channels: int = 1) -> Published:
    (network,) = networks({kind: str(path)}, "metrics.{}.weights", channels=channels, resolution=16)
    return network


def images(count: int, seed: int, channels: int = 1) -> Tensor:
    """Blurred noise, as bytes have it. [N, C, 16, 16] in [-1, 1]"""
    noise = torch.randn(count, channels, 4 + seed, 4 + seed, generator=torch.Generator().manual_seed(seed))
    smooth = F.interpolate(noise, size=16, mode="bilinear")
    return (smooth.clamp(-1, 1) * 127.5 + 127.5).round() / 127.5 - 1


def exactly(mean: Tensor, deviations: Tensor, count: int = 64) -> Tensor:
    """A sample of exactly this mean and diagonal covariance. [N, D]"""
    centred = torch.randn(count, len(mean), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    white = torch.linalg.qr(centred - centred.mean(0)).Q * math.sqrt(count - 1)
    return white * deviations + mean


def test_the_frechet_distance_of_gaussians_is_the_closed_form() -> None:
    """|m1 - m2|^2 + sum (s1 - s2)^2 for diagonal covariances."""
    m1, m2 = torch.tensor([0.0, 1.0, 2.0]).double(), torch.tensor([1.0, 1.0, -1.0]).double()
    s1, s2 = torch.tensor([1.0, 2.0, 0.5]).double(), torch.tensor([2.0, 2.0, 1.5]).double()
    network = Published("x", nn.Identity(), ("features",), "fid", "kid", "")
    found = network.measure({"features": exactly(m1, s1)}, {"features": exactly(m2, s2)})
    assert found["fid_x_held_out"] == pytest.approx((1 + 0 + 9) + (1 + 0 + 1), rel=1e-9)


def test_kid_is_the_mean_over_subsets_and_of_all_at_once_where_they_are_all() -> None:
    """Of 20 against 20, all subsets are one. The mean over subsets of unequal samples is an estimate of the same."""
    random = torch.Generator().manual_seed(0)
    one, other = torch.randn(20, 5, generator=random), torch.randn(20, 5, generator=random) + 1
    assert kid(one, other) == pytest.approx(kid_of_all(one, other), rel=1e-9)
    more = torch.cat([other, torch.randn(180, 5, generator=random) + 1])
    assert kid(one, more) != kid_of_all(one, more) and kid(one, more) == pytest.approx(kid_of_all(one, more), rel=0.1)


def test_the_inception_score_is_the_mean_over_ten_parts() -> None:
    """In the order in which torch-fidelity shuffles, ten scores as its definition has them."""
    logits = torch.randn(100, 7, generator=torch.Generator().manual_seed(0)) * 3
    parts = logits[np.random.RandomState(2020).permutation(100)].split(10)
    network = Published("x", nn.Identity(), ("features", "logits"), "fid", "kid", "")
    fakes = {"features": logits, "logits": logits}
    found = network.measure({"features": logits.flip(0)}, fakes)
    assert found["is_x"] == pytest.approx(np.mean([score(nn.Identity(), part) for part in parts]), rel=1e-6)
    assert found["fid_x_held_out"] == pytest.approx(0, abs=1e-9) and list(found) == network.names()
    against_train = network.measure({"features": logits.flip(0)}, fakes, TRAIN)
    assert list(against_train) == ["fid_x_train", "kid_x_train", "is_x"]
    assert list(against_train.values()) == pytest.approx(list(found.values()), nan_ok=True)
    assert tag("fid_x_train", 50_000) == "metrics/fid_x_50k_train"


def test_inception_sees_what_torch_fidelity_sees_and_leaves_random_numbers_alone(inception: Path) -> None:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    before = torch.get_rng_state()
    network = opened("inception", inception)
    assert torch.equal(torch.get_rng_state(), before)
    theirs = FeatureExtractorInceptionV3("inception-v3-compat", ["2048", "logits_unbiased"], str(inception))
    found, expected = network.features(images(3, 1)), theirs(as_bytes(images(3, 1)))
    assert torch.equal(found["features"], expected[0]) and torch.equal(found["logits"], expected[1])
    assert found["features"].std(0).mean() > 1e-3 and network.names() == [
        "fid_inception_held_out", "kid_inception_held_out", "is_inception"]  # fmt: skip


@pytest.mark.slow
def test_fid_kid_and_is_are_those_of_torch_fidelity(inception: Path) -> None:
    """On the same images and weights, by its own command; 4 minutes on a CPU."""
    from torch_fidelity import calculate_metrics

    network, fakes, reals = opened("inception", inception, 3), images(60, 1, 3), images(60, 2, 3)
    found = network.measure(network.features(reals), network.features(fakes))
    theirs = calculate_metrics(
        input1=Bytes(fakes), input2=Bytes(reals), fid=True, kid=True, isc=True, cuda=False, cache=False, verbose=False,
        kid_subset_size=60, feature_extractor_weights_path=str(inception), save_cpu_ram=True,
    )  # fmt: skip
    assert found["fid_inception_held_out"] == pytest.approx(theirs["frechet_inception_distance"], rel=1e-3)
    assert found["kid_inception_held_out"] == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-3)
    assert found["is_inception"] == pytest.approx(theirs["inception_score_mean"], rel=1e-5)
    assert found["fid_inception_held_out"] > 1e-2 and found["is_inception"] > 1.001


class Bytes(torch.utils.data.Dataset):
    """Images as torch-fidelity reads them."""

    def __init__(self, images: Tensor):
        self.bytes = as_bytes(images)

    def __len__(self) -> int:
        return len(self.bytes)

    def __getitem__(self, index: int) -> Tensor:
        return self.bytes[index]


def test_dinov2_computes_what_torchs_own_transformer_does(tiny_dinov2: Path) -> None:
    """Layers of torch.nn with layer norm first, into whose last matrices the layer scales are multiplied."""
    state = torch.load(tiny_dinov2, weights_only=True)
    _, net = dinov2_module.dinov2(state)
    pictures = torch.randn(2, 3, 28, 42, generator=torch.Generator().manual_seed(0))
    patches = pictures.unfold(2, 14, 14).unfold(3, 14, 14).permute(0, 2, 3, 1, 4, 5).reshape(2, 6, -1)
    tokens = patches @ state["patch_embed.proj.weight"].flatten(1).T + state["patch_embed.proj.bias"]
    tokens = torch.cat([state["cls_token"].expand(2, -1, -1), tokens], 1)
    positions = state["pos_embed"][0]
    resized = torch.stack([bicubic(one.view(37, 37), 2, 3) for one in positions[1:].T])
    tokens = tokens + torch.cat([positions[:1], resized.flatten(1).T])
    for block in range(2):
        tokens = layer(state, f"blocks.{block}.")(tokens)
    expected = F.layer_norm(tokens, (64,), state["norm.weight"], state["norm.bias"], 1e-6)[:, 0]
    assert torch.allclose(net(pictures), expected, rtol=1e-4, atol=1e-5) and expected.std() > 0.1
    whole = torch.zeros(1, 3, 518, 518)  # 37 x 37 patches: the positions as they are
    assert torch.equal(net._positions(37, 37), net.pos_embed) and net(whole).shape == (1, 64)


def bicubic(grid: Tensor, height: int, width: int) -> Tensor:
    """Keys' cubic convolution, a = -0.75, without antialiasing, at a scale of (height + 0.1) / 37. [37, 37]"""

    def weights(count: int) -> Tensor:
        found = torch.zeros(count, 37)
        for place in range(count):
            centre = (place + 0.5) * 37 / (count + 0.1) - 0.5
            for near in range(math.floor(centre) - 1, math.floor(centre) + 3):
                x, a = abs(centre - near), -0.75
                value = ((a + 2) * x - (a + 3)) * x * x + 1 if x <= 1 else ((x - 5) * x + 8) * x * a - 4 * a
                found[place, min(max(near, 0), 36)] += value
        return found

    return weights(height) @ grid @ weights(width).T


def layer(state: dict[str, Tensor], place: str) -> nn.TransformerEncoderLayer:
    own = {key.removeprefix(place): value for key, value in state.items() if key.startswith(place)}
    made = nn.TransformerEncoderLayer(64, 1, 256, 0.0, "gelu", 1e-6, batch_first=True, norm_first=True).eval()
    made.load_state_dict({
        "self_attn.in_proj_weight": own["attn.qkv.weight"], "self_attn.in_proj_bias": own["attn.qkv.bias"],
        "self_attn.out_proj.weight": own["attn.proj.weight"] * own["ls1.gamma"][:, None],
        "self_attn.out_proj.bias": own["attn.proj.bias"] * own["ls1.gamma"],
        "linear1.weight": own["mlp.fc1.weight"], "linear1.bias": own["mlp.fc1.bias"],
        "linear2.weight": own["mlp.fc2.weight"] * own["ls2.gamma"][:, None],
        "linear2.bias": own["mlp.fc2.bias"] * own["ls2.gamma"],
        **{f"norm{i}.{kind}": own[f"norm{i}.{kind}"] for i in (1, 2) for kind in ("weight", "bias")},
    })  # fmt: skip
    return made


def test_images_are_prepared_for_dinov2_as_by_torch_fidelity(tiny_dinov2: Path) -> None:
    """224 pixels, of 255 the mean and deviation of ImageNet; a constant image stays constant when it is resized."""
    network = opened("dinov2", tiny_dinov2)
    grey = torch.full((1, 1, 16, 16), 0.2)
    value = round((0.2 + 1) * 127.5) / 255
    channels = [(value - m) / s for m, s in zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)]
    whole = torch.tensor(channels).view(1, 3, 1, 1).expand(1, 3, 224, 224)
    assert torch.allclose(network.features(grey)["features"], network.net.model(whole), rtol=1e-3, atol=1e-4)
    assert network.names() == ["fd_dinov2_tiny_held_out", "kd_dinov2_tiny_held_out"]


class Code:
    """What runs when it is unpickled."""

    def __reduce__(self):
        return (pytest.fail, ("code of a file of weights ran",))


def broken(path: Path, whole: Path) -> dict[str, Path]:
    """Files that are no weights of Inception."""
    state, found = torch.load(whole, weights_only=True), {}
    few = dict(list(state.items())[:3])
    less = {key: value for key, value in state.items() if key != "fc.bias"}
    for name, content in {
        "code": {**few, "x": Code()}, "list": [1], "named by numbers": {1: torch.zeros(1)}, "few": few, "less": less,
        "nested": {"state_dict": few}, "more": {**state, "extra.weight": torch.zeros(1)},
        "shape": {**state, "fc.bias": torch.zeros(7)}, "NaN": {**few, "x": torch.tensor([math.nan])}, "none": {},
        "sparse": {"x": torch.eye(2).to_sparse()},
        "meta": {"x": torch.zeros(1, device="meta")}, "complex": {"x": torch.zeros(1, dtype=torch.complex64)},
    }.items():  # fmt: skip
        found[name] = path / f"{name.replace(' ', '_')}.pth"
        torch.save(content, found[name])
    (path / "pickled.pth").write_bytes(pickle.dumps(Code()))
    (path / "cut.pth").write_bytes(whole.read_bytes()[:100_000])
    (path / "empty.pth").touch()
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), str(path / "script.pth"))
    return found | {name: path / f"{name}.pth" for name in ("pickled", "cut", "empty", "script", "missing")}


def test_files_that_are_no_such_weights_are_refused_in_one_line_and_run_no_code(
    inception: Path, tmp_path: Path
) -> None:
    found = {}
    for name, path in broken(tmp_path, inception).items():
        with pytest.raises(ConfigError) as refused:
            opened("inception", path)
        found[name] = str(refused.value)
        assert "\n" not in found[name] and found[name].startswith("metrics.inception.weights: "), found[name]
        assert len(found[name]) < 400 and "Try: metrics.inception.weights=null" in found[name]
    assert "nothing is at" in found["missing"] and "NaN or infinity" in found["NaN"]
    assert 'Missing key(s) in state_dict: "fc.bias"' in found["less"] and "extra.weight" in found["more"]
    assert "size mismatch for fc.bias" in found["shape"]
    damaged = ["sparse", "meta", "complex", "code", "pickled", "list", "named by numbers", "nested", "cut", "empty"]
    for name in [*damaged, "script", "none"]:
        assert "is damaged, or holds more than tensors" in found[name], name


def test_weights_of_another_network_or_data_are_refused(inception: Path, tiny_dinov2: Path, monkeypatch) -> None:
    with pytest.raises(ConfigError, match="no class token in it, expected the weights of DINOv2's vits14, vitb14"):
        opened("dinov2", inception)
    with pytest.raises(ConfigError, match=r"metrics\.inception\.weights: Missing key"):
        opened("inception", tiny_dinov2)
    with pytest.raises(ConfigError, match="images of 4 channels, expected pictures in grey or in colour"):
        opened("inception", inception, channels=4)
    with pytest.raises(ConfigError, match="points of the plane"):
        networks({"dinov2": str(tiny_dinov2)}, "{}", channels=2, resolution=1)
    monkeypatch.delitem(dinov2_module.SIZES, 64)
    with pytest.raises(ConfigError, match="tokens of 64 features in it"):
        opened("dinov2", tiny_dinov2)
    monkeypatch.setitem(__import__("sys").modules, "torch_fidelity", None)
    with pytest.raises(ConfigError, match=r"torch-fidelity is not installed, .*pip install 'ganrun\[fidelity\]'"):
        opened("inception", inception)


def test_safetensors_are_read_too(tiny_dinov2: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(torch.load(tiny_dinov2, weights_only=True), tmp_path / "same.safetensors")
    one, other = (
        opened("dinov2", path).features(images(2, 1)) for path in (tiny_dinov2, tmp_path / "same.safetensors")
    )
    assert torch.equal(one["features"], other["features"])


def test_features_of_reals_are_kept_for_these_images_and_weights_alone(
    tiny_dinov2: Path, tmp_path: Path, monkeypatch
) -> None:
    folder, network = tmp_path / "cache" / "ganrun", opened("dinov2", tiny_dinov2)
    made = features_of_reals(network, images(3, 1))
    (kept,) = folder.iterdir()
    monkeypatch.setattr(Published, "features", lambda *_: pytest.fail("computed again"))
    assert torch.equal(features_of_reals(network, images(3, 1))["features"], made["features"])
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setitem(dinov2_module.SIZES, 64, ("tiny", 2))
    features_of_reals(network, images(3, 2))
    state = torch.load(tiny_dinov2, weights_only=True)
    torch.save(state | {"norm.bias": state["norm.bias"] + 1}, tiny_dinov2)
    other = features_of_reals(opened("dinov2", tiny_dinov2), images(3, 1))
    assert len(list(folder.iterdir())) == 3 and torch.allclose(other["features"], made["features"] + 1, atol=1e-4)
    kept.write_bytes(kept.read_bytes()[:-20])
    assert torch.equal(features_of_reals(network, images(3, 1))["features"], made["features"])
    assert kept_tensors(kept, ("features",), 3) is not None  # whole again


def test_a_damaged_file_of_features_is_none_or_the_same(tmp_path: Path) -> None:
    """Each of 300 single bits; what a file of another size, kind or content holds; and what would run."""
    path, tensor = tmp_path / "x.npz", torch.randn(4, 8)
    np.savez(path, features=tensor.numpy())
    whole, random, noticed = path.read_bytes(), np.random.default_rng(0), 0
    for _ in range(300):
        data = bytearray(whole)
        data[random.integers(len(data))] ^= 1 << random.integers(8)
        path.write_bytes(data)
        found = kept_tensors(path, ("features",), 4)
        assert found is None or torch.equal(found["features"], tensor)
        noticed += found is None
    assert noticed > 150
    for content in ({"features": tensor.numpy()[:3]}, {"other": tensor.numpy()}, {"features": np.full((4, 8), np.nan)}):
        np.savez(path, **content)
        assert kept_tensors(path, ("features",), 4) is None
    np.savez(path, features=np.array([Code()] * 4, dtype=object), allow_pickle=True)
    assert kept_tensors(path, ("features",), 4) is None and kept_tensors(tmp_path / "no", ("features",), 4) is None


SMALL = [word for word in TINY if word not in ("dataset.held_out=0", "metrics=none")]
OFTEN = ("metrics.every=2", "metrics.samples=50", "log.every=2", "log.checkpoint=2", "log.samples=100", "steps=4")


def trained(place: Path, name: str, *words: str) -> Path:
    session = Session(signals=Signals(), console=Console(file=io.StringIO()))
    assert session.start(composed(*SMALL, *OFTEN, *words), place / name, overrides=[]) == 0
    return place / name


def test_a_run_measures_with_the_weights_it_is_given_and_trains_as_without(tiny_dinov2: Path, tmp_path: Path) -> None:
    name = "metrics/fd_dinov2_tiny_50_held_out"
    run = trained(tmp_path, "run", f"metrics.dinov2.weights={tiny_dinov2}", f"log.best={name}", f"objective={name}")
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in found if line[name] > 0 and "metrics/kd_dinov2_tiny_50_held_out" in line] == [2, 4]
    summary = json.loads((run / "summary.json").read_text())
    assert summary["best"]["metric"] == name and summary["objective"] == found[-1][name]
    floor = summary["quality"]["floor"]
    assert floor.keys() == {name, "metrics/kd_dinov2_tiny_50_held_out"} and floor[name] < found[0][name]
    assert len(list((tmp_path / "cache" / "ganrun").iterdir())) == 2  # held-out reals, and those for the floor
    assert same_state(run, trained(tmp_path, "without")) == []


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["metrics.inception.weights=nowhere.pth"], r"metrics\.inception\.weights: nothing is at nowhere.pth, "),
        (["metrics.dinov2.weights=bad.pth"], r"metrics\.dinov2\.weights: bad.pth is damaged, or holds more"),
        (["metrics.dinov2.weights=x", "dataset.held_out=0"], r"metrics\.dinov2\.weights: no images are held out"),
        (["metrics.inception.weights=7"], r"metrics\.inception\.weights: 7, expected a file of weights, or null"),
        (["+metrics.inception.weight=x"], r"metrics\.inception\.weight: there is no such setting, expected weights"),
    ],
)
def test_a_run_with_weights_that_cannot_be_used_leaves_nothing(tmp_path: Path, monkeypatch, words, line: str) -> None:
    (tmp_path / "bad.pth").write_bytes(b"no weights")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=line):
        trained(tmp_path, "run", *words)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.pth"]


def test_evaluate_measures_with_the_weights_it_is_given(tiny_dinov2: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    from ganrun.cli.evaluate import main

    for name, seed in (("fakes", 1), ("reals", 4)):
        np.save(tmp_path / f"{name}.npy", as_bytes(images(200, seed))[:, :1].numpy())
    monkeypatch.chdir(tmp_path)
    against = ["against=array", "dataset.path=reals.npy", "dataset.held_out=60", "samples=60"]
    assert main(["fakes.npy", *against, f"dinov2={tiny_dinov2}", "out=found"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("fd_dinov2_tiny_held_out")]
    found = json.loads((tmp_path / "found" / "evaluation.json").read_text())
    ours, floor = (found[key]["fd_dinov2_tiny_held_out"] for key in ("metrics", "of_reals"))
    assert ours > 3 * floor > 0 and line.split()[-1] == "lower"
    with pytest.raises(ConfigError, match="inception: nothing is at no, expected a file of weights"):
        main(["fakes.npy", *against, "inception=no"])


def test_names_say_all() -> None:
    assert tag("fid_inception_held_out", 500) == "metrics/fid_inception_500_held_out"
    assert tag("is_inception", 2000) == "metrics/is_inception_2k"
    assert falls_as_samples_get_better("metrics/fid_inception_500_held_out")
    assert not falls_as_samples_get_better("metrics/is_inception_500")
