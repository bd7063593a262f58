"""The formats of exported networks: how each is written, read again, and loaded by a reader of the model card."""

from __future__ import annotations

import io
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from ganrun.core.errors import ConfigError, out_of_memory
from ganrun.run.export.network import FEW, Subject
from ganrun.run.export.rebuild import FILE, open_network

Called = Callable[..., Any]  # inputs, as tensors -> a tensor, or several
TOO_LARGE = 2**31 - 1  # bytes that one message of protobuf can have


class Format(ABC):
    """One format of exported networks."""

    file: ClassVar[str]
    packages: ClassVar[tuple[str, ...]] = ()  # of an extra of the format's name
    needs: ClassVar[str]  # of whoever loads it, in words
    library: ClassVar[str]  # with which inputs are made in the model card: torch or numpy
    loading: ClassVar[tuple[str, ...]]  # lines of Python, run in the folder, before inputs are made
    calling: ClassVar[str]  # the line after; {outputs}, {inputs} and {named} are replaced
    replays: ClassVar[bool] = True  # whether it draws the random numbers that torch draws after the same seed

    def check_installed(self, name: str) -> None:
        """Raises ConfigError unless the packages that this format needs are installed."""
        missing = [package for package in self.packages if find_spec(package) is None]
        if missing:
            found = f"{name} needs {' and '.join(missing)}, which {'are' if missing[1:] else 'is'} not installed"
            raise ConfigError("format", found, "the packages of an extra", f"pip install 'ganrun[{name}]'")

    @abstractmethod
    def data(self, subject: Subject, about: Mapping[str, str]) -> bytes:
        """The bytes of the file. Raises ConfigError for a network that the format cannot hold."""

    @abstractmethod
    def opened(self, folder: Path, plugins: Sequence[str]) -> Called:
        """The network in this folder, read from the file."""


class Safetensors(Format):
    """Weights by name; the network is built from config.yaml."""

    file = FILE
    needs = "ganrun, and without the run"
    library = "torch"
    loading = (
        "import torch",
        "from ganrun.run.export.rebuild import open_network",
        "",
        'network = open_network("."{plugins})',
    )
    calling = "{outputs} = network({inputs})"

    def data(self, subject: Subject, about: Mapping[str, str]) -> bytes:
        from safetensors.torch import save

        state = subject.network.net.state_dict()
        # One of its own for each name: the format holds no tensor twice, and only such as lie in memory in order.
        return save(
            {key: value.clone(memory_format=torch.contiguous_format) for key, value in state.items()}, dict(about)
        )

    def opened(self, folder: Path, plugins: Sequence[str]) -> Called:
        return open_network(folder, plugins=plugins)


class TorchExport(Format):
    """A graph of PyTorch operations with its weights, which `torch.export.load` reads without ganrun."""

    file = "model.pt2"
    needs = "PyTorch alone. `torch.export.load` is for files from people you trust"
    library = "torch"
    loading = ("import torch", "", 'network = torch.export.load("model.pt2").module()')
    calling = "{outputs} = network({inputs})"

    def data(self, subject: Subject, about: Mapping[str, str]) -> bytes:
        buffer = io.BytesIO()
        with refusing("torch_export"):
            torch.export.save(traced(subject), buffer)
        return buffer.getvalue()

    def opened(self, folder: Path, plugins: Sequence[str]) -> Called:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.export.load(folder / self.file).module()


class Onnx(Format):
    """A graph of ONNX operators with its weights, for ONNX Runtime and others, without PyTorch."""

    file = "model.onnx"
    packages = ("onnx", "onnxscript", "onnxruntime")
    needs = "ONNX Runtime and NumPy alone"
    library = "numpy"
    loading = ("import numpy", "import onnxruntime", "", 'session = onnxruntime.InferenceSession("model.onnx")')
    calling = "{unpacked} = session.run(None, {{{named}}})"
    replays = False

    def data(self, subject: Subject, about: Mapping[str, str]) -> bytes:
        if sum(value.nbytes for value in subject.network.state_dict().values()) > TOO_LARGE:
            raise ConfigError("format", "more than 2 GiB of weights", "at most what one ONNX file can hold", SAFE)
        with refusing("onnx"):
            program = torch.onnx.export(
                traced(subject),
                dynamo=True,
                verbose=False,
                optimize=False,  # the optimiser of onnxscript takes a term of 1e-8, such as a norm's, for 0
                input_names=[port.name for port in subject.inputs],
                output_names=[port.name for port in subject.outputs],
            )
            assert program is not None
            model = program.model_proto
            for key, value in about.items():
                model.metadata_props.add(key=key, value=value)
            return bytes(model.SerializeToString())

    def opened(self, folder: Path, plugins: Sequence[str]) -> Called:
        import onnxruntime

        session = onnxruntime.InferenceSession(folder / self.file, providers=["CPUExecutionProvider"])
        names = [given.name for given in session.get_inputs()]

        def call(*given: Tensor) -> tuple[Tensor, ...]:
            made = session.run(None, {name: each.numpy() for name, each in zip(names, given, strict=True)})
            return tuple(map(torch.from_numpy, made))

        return call


SAFE = "format=safetensors"
FORMATS: Mapping[str, Format] = {"safetensors": Safetensors(), "onnx": Onnx(), "torch_export": TorchExport()}


@torch.no_grad()
def traced(subject: Subject) -> torch.export.ExportedProgram:
    """The network as a graph, for any number of images."""
    given = subject.draw(FEW)
    batch = torch.export.Dim("batch")
    return torch.export.export(subject.network, given, dynamic_shapes=(tuple({0: batch} for _ in given),))


@contextmanager
def refusing(name: str) -> Iterator[None]:
    """Raises ConfigError when a tracer fails in here: they raise nearly anything. Their warnings are not shown."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (ConfigError, MemoryError, OSError):
        raise
    except Exception as error:
        if out_of_memory(error):
            raise
        text = next((line.strip(" -") for line in str(error).splitlines() if line.strip()), type(error).__name__)
        found = f"{name} cannot hold this network ({text[:200]})"
        if "Constraints violated" in str(error):
            found = f"{name} holds networks for any number of images, and this one counts those of its batch"
        raise ConfigError("format", found, "one that can be traced", SAFE) from error
