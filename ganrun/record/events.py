"""One TensorBoard event file."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterable, Mapping
from os import getpid
from pathlib import Path
from typing import Any

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto

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

    def hparams(self, step: int, settings: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """A row of the HParams page: the settings of this run and its final metrics."""
        # Imported at the end of a run only: it takes half a second.
        from torch.utils.tensorboard.summary import hparams

        for summary in hparams({key: _plain(value) for key, value in settings.items()}, dict(metrics)):
            self.summary(step, summary)
        self.scalars(step, metrics, metrics.values())

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


def _plain(value: Any) -> str | int | float:
    """A setting as the HParams page can hold it; torch would turn a truth value into a number."""
    return value if type(value) in (str, int, float) else str(value)


_ORDER = {"generator": 0, "discriminator": 1}


def layout(tags: Iterable[str], layers: Mapping[str, list[str]]) -> dict[str, dict[str, Tags]]:
    """Losses, balance, then each player's gradients by depth. `layers` holds the tags of each player, bottom first."""
    tags = list(tags)
    losses = {player: [f"^loss/{re.escape(player)}/.*$"] for player in _players(tags)}
    balance = {
        title: [exactly(tag) for tag in tags if tag.startswith(prefix)]
        for title, prefix in (("D(x) and D(G(z))", "probability/"), ("scores", "score/"))
    }
    categories = {"losses": losses, "balance": balance} | {
        f"gradients of the {player}": {part: [exactly(tag) for tag in some] for part, some in thirds(own).items()}
        for player, own in sorted(layers.items(), key=lambda item: _ORDER.get(item[0], 2))
    }
    shown = {title: {name: some for name, some in charts.items() if some} for title, charts in categories.items()}
    return {title: charts for title, charts in shown.items() if charts}


def drawable(tag: str) -> str:
    """The name under which the custom-scalars page can draw this curve.

    It takes all that follows a tag's first parenthesis for the name of the run, finds no such run, and gives no colour.
    """
    return tag.replace("balance/", "probability/", 1).replace("D(x)", "real").replace("D(G(z))", "fake")


def with_twins(tags: list[str], table: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Tags [T] and numbers [N, T], with a copy of each column that cannot be drawn under its own name."""
    undrawn = [index for index, tag in enumerate(tags) if "(" in tag]
    return [*tags, *(drawable(tags[index]) for index in undrawn)], np.hstack([table, table[:, undrawn]])


def thirds(layers: list[str]) -> dict[str, list[str]]:
    """Layers in depth order as bottom, middle and top."""
    low, high = round(len(layers) / 3), round(len(layers) * 2 / 3)
    return {"bottom": layers[:low], "middle": layers[low:high], "top": layers[high:]}


def exactly(tag: str) -> str:
    """The regular expression that only this tag matches."""
    return f"^{re.escape(tag)}$"


def _players(tags: list[str]) -> list[str]:
    """The players that have losses, in alphabetical order."""
    return sorted({tag.split("/")[1] for tag in tags if tag.startswith("loss/")})
