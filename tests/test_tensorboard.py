"""A real TensorBoard server, asked over HTTP for everything that a run is to show."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest
import torch
from PIL import Image

from ganrun.record.folder import RunFolder
from ganrun.record.grid import grid
from ganrun.record.recorder import Recorder

STEPS = 30
DEPTH = 6
LAYERS = {
    player: {
        f"layers.{depth}": [f"gradient/{player}/layers.{depth}.{kind}" for kind in ("weight", "bias")]
        for depth in range(DEPTH)
    }
    for player in ("discriminator", "generator")
}
OTHERS = {"training/learning_rate/generator": 2e-4, "training/images_per_second": 500.0}
TERMS = {"discriminator": ["adversarial", "gp"], "generator": ["adversarial", "feature_matching"]}


def metrics(player: str, step: int) -> dict[str, torch.Tensor]:
    terms = {f"loss/{player}/{term}": torch.tensor(1.0 / step + i) for i, term in enumerate(TERMS[player])}
    norms = {key: torch.tensor(float(step)) for keys in LAYERS[player].values() for key in keys}
    watched = {"probability/real": 0.5 + 0.4 / step, "probability/fake": 0.5 - 0.4 / step, "score/real": 1.0}
    watched["tricks/ada/p"] = 0.25
    return terms | norms | {k: torch.tensor(v) for k, v in watched.items() if player == "discriminator"}


def leave(path: Path, seed: int, **own: Any) -> None:
    """What a run leaves: two parts, the first killed at step 25, the second resumed from its checkpoint of step 20.

    `own` are hyperparameters that other runs may lack.
    """
    for first, last, make in ((1, 25, RunFolder.create), (21, STEPS, RunFolder.open)):
        folder = make(path)
        folder.describe(config="steps: 30\n", overrides=[], seed=seed, command=[])
        recorder = Recorder(folder, every=5, layers=LAYERS, purge_step=first if first > 1 else None)
        recorder.text("configuration", "```yaml\nsteps: 30\n```")
        recorder.hparams(
            {"batch": 8, "ema": True, "loss": "hinge", "model": "mlp", "optim": "adam", "seed": seed} | own
        )
        for step in range(first, last + 1):
            for player in LAYERS:
                values = metrics(player, step)
                recorder.add(step, player, tuple(values), torch.stack(list(values.values())))
            if recorder.due(step):
                recorder.flush(step, OTHERS)
        recorder.image("samples", last, grid(torch.rand(16, 1, 32, 32) * 2 - 1))
        recorder.close()
        folder.close()


class Server:
    """One `tensorboard` process on a free port of this machine."""

    def __init__(self, folder: Path, *options: str):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"http://127.0.0.1:{free.getsockname()[1]}"
        command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--host", "127.0.0.1"]
        command += ["--port", self.address.rsplit(":", 1)[1], "--reload_interval", "1", *options]
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )

    def get(self, path: str, body: Any = None, **query: str) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = Request(f"{self.address}/data/{path}?{urlencode(query)}", data)
        if data is not None:
            request.add_header("Content-Type", "application/json")
        with urlopen(request, timeout=10) as response:
            content = response.read()
        return json.loads(content) if response.headers["Content-Type"].startswith("application/json") else content

    def wait(self, *runs: str) -> None:
        """Until the last thing that each run wrote has been read: its second picture."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                pictures = [self.get("plugin/images/images", run=run, tag="samples", sample="0") for run in runs]
                if all(some and some[-1]["step"] == STEPS for some in pictures):
                    return
            except (URLError, ConnectionError, TimeoutError):
                assert self.process.poll() is None, "the server ended"
            time.sleep(0.1)
        raise AssertionError(f"TensorBoard did not show all of {runs}")

    def series(self, run: str, tag: str) -> list[tuple[int, float]]:
        return [(step, value) for _, step, value in self.get("plugin/scalars/scalars", run=run, tag=tag)]

    def end(self) -> None:
        os.kill(self.process.pid, signal.SIGTERM)
        self.process.wait(10)


@pytest.fixture(scope="module", params=["data server", "python reader"])
def server(request, tmp_path_factory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("runs")
    leave(folder / "a", 1, tricks="ema")
    leave(folder / "b", 2, tricks="soft_labels ema", **{"tricks.ema.half_life": "500"})
    server = Server(folder, "--load_fast=auto" if request.param == "data server" else "--load_fast=false")
    try:
        server.wait("a", "b")
        yield server
    finally:
        server.end()


def test_every_curve_is_there(server):
    tags = set(server.get("plugin/scalars/tags")["a"])
    losses = {f"loss/{player}/{term}" for player, terms in TERMS.items() for term in [*terms, "total"]}
    assert losses | OTHERS.keys() | {"probability/real", "probability/fake", "tricks/ada/p"} <= tags
    assert server.series("a", "training/learning_rate/generator")[-1] == (STEPS, pytest.approx(2e-4))


def test_every_layer_has_one_point_for_every_update_across_the_resume(server):
    shown = server.get("plugin/scalars/tags")["a"]
    for player in LAYERS:
        tags = sorted(tag for tag in shown if tag.startswith(f"weight_gradient/{player}/"))
        assert tags == [f"weight_gradient/{player}/{depth:02d}_layers.{depth}" for depth in range(DEPTH)]
        for tag in tags:
            expected = [(step, pytest.approx(step * 2**0.5)) for step in range(1, STEPS + 1)]
            assert server.series("a", tag) == expected


def test_the_custom_scalars_page_opens_on_what_matters_and_every_chart_finds_its_curves(server):
    layout = server.get("plugin/custom_scalars/layout")
    titles = [category["title"] for category in layout["category"]]
    assert titles == ["losses", "balance", "gradients of the generator", "gradients of the discriminator"]
    for category in layout["category"]:
        assert not category.get("closed")
        for chart in category["chart"]:
            for tag in chart["multiline"]["tag"]:
                found = server.get("plugin/custom_scalars/scalars", run="b", tag=tag)
                assert found["regex_valid"] and found["tag_to_events"], (chart["title"], tag)
                assert not any("(" in name for name in found["tag_to_events"]), "such a curve is not drawn"
    assert [chart["title"] for chart in layout["category"][2]["chart"]] == ["bottom", "middle", "top"]
    found = server.get(
        "plugin/custom_scalars/scalars", run="a", tag=layout["category"][0]["chart"][0]["multiline"]["tag"][0]
    )
    assert set(found["tag_to_events"]) == {f"loss/discriminator/{term}" for term in ("adversarial", "gp", "total")}


@pytest.mark.slow
def test_a_script_measures_how_large_event_files_get_and_how_soon_they_show(tmp_path):
    script, tiny = Path(__file__).parents[1] / "scripts" / "board.py", ["model.generator.width=4", "batch=4"]
    command = [sys.executable, script, tmp_path / "run", *tiny, "log.full=100", "--steps", "400"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    size, shown = done.stdout.splitlines()
    assert size.endswith(" MB for 400 steps") and "all of the run after" in shown


def test_pictures_and_the_configuration_are_there(server):
    pictures = server.get("plugin/images/images", run="a", tag="samples", sample="0")
    assert pictures[-1]["step"] == STEPS
    blob = pictures[-1]["query"].removeprefix("blob_key=")
    picture = Image.open(BytesIO(server.get("plugin/images/individualImage", blob_key=blob)))
    assert picture.size == (4 * 66 + 2, 4 * 66 + 2)
    assert "steps: 30" in server.get("plugin/text/text", run="a", tag="configuration/text_summary")[-1]["text"]


def test_the_page_that_opens_begins_with_what_is_read_first(server):
    """Its groups are in alphabetical order."""
    groups = sorted({tag.partition("/")[0] for tag in server.get("plugin/scalars/tags")["a"]})
    assert groups == ["loss", "probability", "score", "training", "tricks", "weight_gradient"]


def test_the_hyperparameters_page_shows_the_columns_that_differ_and_the_curves_own_metrics(server):
    """It ticks the first five hyperparameters, those that differ first, and the first five metrics."""
    experiment = server.get("plugin/hparams/experiment", {"experimentName": ""})
    differing = [info["name"] for info in experiment["hparamInfos"] if info.get("differs")]
    assert set(differing) == {"seed", "tricks"} and len(experiment["hparamInfos"]) == 8
    metrics = [info["name"]["tag"] for info in experiment["metricInfos"]]
    assert set(metrics) == set(server.get("plugin/scalars/tags")["a"])
    assert metrics[:2] == ["loss/discriminator/adversarial", "loss/discriminator/gp"]
    query = {
        "experimentName": "",
        "allowedStatuses": ["STATUS_SUCCESS", "STATUS_UNKNOWN", "STATUS_RUNNING"],
        "colParams": [{"metric": {"tag": "loss/generator/total", "group": ""}}],
        "startIndex": 0,
        "sliceSize": 10,
    }
    groups = server.get("plugin/hparams/session_groups", query)["sessionGroups"]
    assert sorted(group["hparams"]["seed"] for group in groups) == [1, 2]
    assert [group["hparams"]["ema"] for group in groups] == ["True", "True"]
    assert sorted(len(group["hparams"]) for group in groups) == [7, 8]
    for group in groups:
        values = {metric["name"]["tag"]: metric["value"] for metric in group["metricValues"]}
        assert values["loss/generator/total"] == pytest.approx(2 / STEPS + 1)
