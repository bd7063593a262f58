"""The command line: training is the default, `resume` continues. Imports torch only when there is work for it."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganrun import __version__
from ganrun.core.errors import (
    BUG,
    CONFIG_ERROR,
    ENVIRONMENT,
    JOBS_FAILED,
    STOPPED,
    ConfigError,
    EnvironmentFailed,
    Stopped,
)
from ganrun.run.signals import Interrupted, Signals, behind

if TYPE_CHECKING:
    from omegaconf import DictConfig

ERASE = "\r\x1b[2K"  # the line that the cursor is in
Play = Callable[["DictConfig", Any, Signals], tuple[int, float | None]]


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the arguments say; returns the exit code. Bad input gets one line and 2; a traceback is a bug."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _interruptible(arguments)
        sys.stdout.flush()
        return code
    except ConfigError as refusal:
        complain(*refusal.lines)
        return CONFIG_ERROR
    except Stopped as stop:
        complain(str(stop))
        return STOPPED
    except EnvironmentFailed as failure:
        complain(str(failure))
        return ENVIRONMENT
    except Interrupted as interruption:
        complain("interrupted before there was anything to save")
        return 128 + interruption.number
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        complain(f"memory: not enough for this run ({str(error)[-120:]}). Try: a smaller batch, or narrower networks")
        return ENVIRONMENT
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody listens: say no more
        return BUG


def _interruptible(arguments: list[str]) -> int:
    """Do what the arguments say; an error that an interruption brought about counts as the interruption."""
    try:
        return _command(arguments, Signals().install())
    except Exception as error:
        if (interruption := behind(error)) is not None:
            raise interruption from None
        raise


def complain(*lines: str) -> None:
    """Each in one line of standard error."""
    for line in lines:
        print(f"ganrun: error: {' '.join(line.split())}", file=sys.stderr)


def out_of_memory(error: BaseException) -> bool:
    """PyTorch has no type of its own for this on a CPU."""
    text = str(error)
    return isinstance(error, MemoryError) or "allocate memory" in text or "out of memory" in text


def _command(arguments: list[str], signals: Signals) -> int:
    if "--version" in arguments or arguments == ["-V"]:
        print(f"ganrun {__version__}")
        return 0
    if {"--help", "-h"} & set(arguments) or arguments[:1] == ["help"]:
        from ganrun.cli.help import help_text

        print(help_text())
        return 0
    match arguments:
        case ["resume", run, *overrides]:
            return _resume(Path(run), overrides, signals)
        case ["resume"]:
            raise ConfigError("resume", "no run named", "a run's folder", "ganrun resume outputs/DATE/TIME")
        case ["explain", *overrides]:
            return _explain(overrides)
        case ["list", *rest]:
            from ganrun.cli.catalog import show

            return show(rest)
        case ["train", *overrides]:
            return train(overrides, signals)
        case _:
            return train(arguments, signals)


def _resume(run: Path, overrides: list[str], signals: Signals) -> int:
    from ganrun.config.resume import earlier_overrides, reopen

    cfg, changes = reopen(run, overrides)
    with loading_torch():
        from ganrun.run.session import Session

    return Session(signals=signals).resume(cfg, run, overrides=earlier_overrides(run) + overrides, changes=changes)


def _explain(arguments: list[str]) -> int:
    with loading_torch():
        from ganrun.cli.explain import explain

    return explain(arguments)


@contextmanager
def loading_torch() -> Iterator[None]:
    """Shows on a terminal that PyTorch is being imported, which takes seconds; the line is removed afterwards."""
    if not sys.stdout.isatty():
        yield
        return
    print("ganrun: loading PyTorch ...", end="", flush=True)
    try:
        yield
    finally:
        print(ERASE, end="", flush=True)


def play(cfg: DictConfig, hydra: Any, signals: Signals) -> tuple[int, float | None]:
    """Train one run in the folder that Hydra made for it."""
    with loading_torch():
        from ganrun.run.session import Session

    session = Session(signals=signals)
    code = session.start(cfg, Path(hydra.runtime.output_dir), overrides=list(hydra.overrides.task))
    return code, session.objective


def train(arguments: list[str], signals: Signals, play: Play = play) -> int:
    """Compose the configuration with Hydra and run it, or the jobs of a sweep."""
    from ganrun.config.compose import FolderMade, hydra_run

    os.environ["GANRUN_TAG"] = secrets.token_hex(2)  # makes the folder of two runs of one second differ
    result: list[Any] = []

    def task(cfg: DictConfig) -> float | None:
        from hydra.core.hydra_config import HydraConfig
        from hydra.types import RunMode

        hydra = HydraConfig.get()
        single = hydra.mode == RunMode.RUN
        try:
            code, objective = play(cfg, hydra, signals)
        except Exception as error:
            if not single:  # another launcher than ours: it must see that this job failed
                raise
            result.append(error)
            return None
        finally:
            FolderMade.remove_empty(Path(hydra.runtime.output_dir))
        if signals.received and not single:
            raise Interrupted(signals.received)
        result.append(code)
        return objective

    interruption = None
    try:
        hydra_run(arguments, task)
    except Interrupted as error:
        interruption = error
    failed = _table()
    if interruption is not None:
        if failed is None:
            raise interruption
        return 128 + interruption.number
    for outcome in result:
        if isinstance(outcome, BaseException):
            raise outcome
    return JOBS_FAILED if failed else next(iter(result), 0)


def _table() -> int | None:
    """Say how the jobs of a sweep ended; how many failed, None when there was no sweep in processes."""
    launcher = sys.modules.get("hydra_plugins.ganrun_processes")
    outcomes = launcher.ProcessLauncher.outcomes if launcher else []
    if not outcomes:
        return None
    from ganrun.run.sweep import print_table, refuse_common

    refuse_common(outcomes)
    return print_table(outcomes)
