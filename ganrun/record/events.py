"""One TensorBoard event file."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from os import getpid
from pathlib import Path
from typing import Any

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionStartInfo

from ganrun.record.crc import RecordWriter
from ganrun.record.grid import png

PREFIX = "events.out.tfevents."
Tags = list[str]  # that one chart shows, as regular expressions


class EventFile:
    """Writes events in order and in this thread, so that forked workers and full disks raise where they should."""

    def __init__(self, folder: Path, *, purge_step: int | None):
        """With `purge_step`, TensorBoard forgets what earlier files of this folder hold of that step and later ones."""
        self._file = _new_file(folder).open("xb")
        self._records = RecordWriter(self._file)
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))
        # Always, because TensorBoard's Python reader takes the first start it sees for a beginning and purges nothing.
        session = SessionLog(status=SessionLog.START)
        self._write(Event(wall_time=time.time(), step=purge_step or 0, session_log=session))

    def scalars(self, step: int, tags: Iterable[str], values: Iterable[float], wall_time: float | None = None) -> None:
        """One event with one value for each tag."""
        value = [Summary.Value(tag=tag, simple_value=number) for tag, number in zip(tags, values, strict=True)]
        self._write(Event(wall_time=wall_time or time.time(), step=step, summary=Summary(value=value)))

    def image(self, step: int, tag: str, array: np.ndarray) -> None:
        """A picture, uint8 [H, W, C]."""
        height, width, channels = array.shape
        picture = Summary.Image(height=height, width=width, colorspace=channels, encoded_image_string=png(array))
        self.summary(step, Summary(value=[Summary.Value(tag=tag, image=picture)]))

    def text(self, tag: str, markdown: str) -> None:
        """A text in Markdown, shown on the text page."""
        shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
        self.summary(0, _tensor(f"{tag}/text_summary", "text", markdown.encode(), shape))

    def layout(self, categories: Mapping[str, Mapping[str, Tags]]) -> None:
        """What the custom-scalars page shows, and in which order."""
        from tensorboard.plugins.custom_scalar.layout_pb2 import Category, Chart, Layout, MultilineChartContent

        shown = Layout(
            category=[
                Category(
                    title=category,
                    chart=[
                        Chart(title=title, multiline=MultilineChartContent(tag=tags)) for title, tags in some.items()
                    ],
                )
                for category, some in categories.items()
            ]
        )
        content = shown.SerializeToString()
        self.summary(0, _tensor("custom_scalars__config__", "custom_scalars", content, TensorShapeProto()))

    def hparams(self, settings: Mapping[str, Any]) -> None:
        """A row of the HParams page: the settings of this run.

        Without the list of columns that PyTorch writes too: TensorBoard would take that of one run for all runs, and
        not look for the columns that differ, which it shows first.
        """
        start = HParamsPluginData(session_start_info=SessionStartInfo(start_time_secs=time.time()))
        for name, value in settings.items():
            entry = start.session_start_info.hparams[name]
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                entry.number_value = value
            else:
                entry.string_value = str(value)
        plugin = SummaryMetadata.PluginData(plugin_name="hparams", content=start.SerializeToString())
        metadata = SummaryMetadata(plugin_data=plugin)
        nothing = TensorProto(dtype="DT_FLOAT", float_val=[0.0], tensor_shape=TensorShapeProto())
        row = Summary.Value(tag="_hparams_/session_start_info", metadata=metadata, tensor=nothing)
        self.summary(0, Summary(value=[row]))

    def summary(self, step: int, summary: Summary) -> None:
        """One event with this summary."""
        self._write(Event(wall_time=time.time(), step=step, summary=summary))

    def flush(self) -> None:
        """Hand all events to the system, for readers to see."""
        self._file.flush()

    def close(self) -> None:
        """Flush, and close the file."""
        self._file.close()

    def _write(self, event: Event) -> None:
        self._records.write(event.SerializeToString())


class NoEvents(EventFile):
    """An event file that is not there: of a process that leaves writing to another."""

    def __init__(self) -> None:
        """Opens nothing."""

    def flush(self) -> None:
        """Nothing is kept."""

    def close(self) -> None:
        """Nothing is open."""

    def _write(self, event: Event) -> None:
        """Drop the event."""


def _new_file(folder: Path) -> Path:
    """TensorBoard reads a folder's files by the time in their names, so each must be later than those before it."""
    found = [re.match(re.escape(PREFIX) + r"(\d{1,10})\.", path.name) for path in folder.iterdir()]
    times = [int(name[1]) for name in found if name]
    now = max([int(time.time()), *(earlier + 1 for earlier in times)])
    return folder / f"{PREFIX}{now:010d}.{socket.gethostname()}.{getpid()}"


def _tensor(tag: str, plugin: str, content: bytes, shape: TensorShapeProto) -> Summary:
    """Bytes that a plugin of TensorBoard shows.

    PyTorch's SummaryWriter makes the same, but its import takes half a second at the start of every run.
    """
    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name=plugin))
    tensor = TensorProto(dtype="DT_STRING", string_val=[content], tensor_shape=shape)
    return Summary(value=[Summary.Value(tag=tag, metadata=metadata, tensor=tensor)])


_ORDER = {"generator": 0, "discriminator": 1}
_CHARTS = {  # of D's outputs, by the group of their metrics
    "probability": "D(x) and D(G(z))",
    "score": "scores: the higher, the more real",
    "energy": "energies: the lower, the more real",
}


def layout(
    tags: Iterable[str], layers: Mapping[str, Tags], networks: Mapping[str, Sequence[str]] | None = None
) -> dict[str, dict[str, Tags]]:
    """Losses, balance, then each player's gradients by depth. `layers` holds the tags of each player, bottom first.

    `networks` are the names of each player's networks.
    """
    tags, networks = list(tags), networks or {}
    players = sorted(layers, key=lambda player: _ORDER.get(player, 2))
    losses = {
        player: [f"^loss/{re.escape(player)}/.*$"]
        for player in sorted(layers)
        if any(tag.startswith(f"loss/{player}/") for tag in tags)
    }
    balance = {title: [exactly(tag) for tag in tags if tag.startswith(f"{kind}/")] for kind, title in _CHARTS.items()}
    categories = {"losses": losses, "balance": balance}
    for player in players:
        parts = thirds(layers[player], networks.get(player, ()))
        charts = {part: [exactly(tag) for tag in some] for part, some in parts.items()}
        categories[f"gradients of the {player}"] = charts
    shown = {title: {name: some for name, some in charts.items() if some} for title, charts in categories.items()}
    return {title: charts for title, charts in shown.items() if charts}


def thirds(layers: Sequence[str], networks: Sequence[str] = ()) -> dict[str, Tags]:
    """Tags of layers in depth order as bottom, middle and top of their network, cut between blocks only.

    So a norm stands beside its convolution. A network of one block is whole.
    """
    parts: dict[str, Tags] = {"whole": [], "bottom": [], "middle": [], "top": []}
    for _, own in groupby(layers, lambda tag: network(layer(tag), networks)):
        blocks = [list(some) for _, some in groupby(own, lambda tag: block(layer(tag)))]
        for index, some in enumerate(blocks):
            parts[_third(index, len(blocks))] += some
    return {part: some for part, some in parts.items() if some}


def _third(index: int, count: int) -> str:
    """The part that this one of `count` blocks belongs to."""
    if count == 1:
        return "whole"
    return "bottom" if index < round(count / 3) else "middle" if index < round(count * 2 / 3) else "top"


def layer(tag: str) -> str:
    """The name of the layer in a tag such as weight_gradient/generator/03_blocks.1.conv."""
    return tag.rpartition("/")[2].partition("_")[2]


def block(layer: str) -> str:
    """The block that a layer belongs to: its name up to the first number, or its first word where there is none."""
    words = layer.split(".")
    end = next((index for index, word in enumerate(words) if word.isdigit()), 0)
    return ".".join(words[: end + 1])


def network(layer: str, networks: Sequence[str]) -> str:
    """The network that a layer belongs to, where its player has several: layers then begin with its name."""
    return layer.partition(".")[0] if len(networks) > 1 else ""


def exactly(tag: str) -> str:
    """The regular expression that only this tag matches."""
    return f"^{re.escape(tag)}$"
