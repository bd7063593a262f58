"""The command line: training is the default, `resume` continues. Imports torch only when there is work for it."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganrun import __version__
from ganrun.errors import BUG, ENVIRONMENT, JOBS_FAILED, REFUSED, STOPPED, EnvironmentFailed, Refused, Stopped
from ganrun.signals import Interrupted, Signals

if TYPE_CHECKING:
    from omegaconf import DictConfig


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the arguments say; returns the exit code. Bad input gets one line and 2; a traceback is a bug."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return _command(arguments, Signals().install())
    except Refused as refusal:
        _complain(*refusal.lines)
        return REFUSED
    except Stopped as stop:
        _complain(str(stop))
        return STOPPED
    except EnvironmentFailed as failure:
        _complain(str(failure))
        return ENVIRONMENT
    except Interrupted as interruption:
        _complain("interrupted before there was anything to save")
        return 128 + interruption.number
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody listens: say no more
        return BUG


def _complain(*lines: str) -> None:
    for line in lines:
        print(f"ganrun: error: {line}", file=sys.stderr)


def _command(arguments: list[str], signals: Signals) -> int:
    match arguments:
        case ["--version" | "-V"]:
            print(f"ganrun {__version__}")
            return 0
        case ["--help" | "-h" | "help", *_]:
            from ganrun.help import help_text

            print(help_text())
            return 0
        case ["resume", run, *overrides]:
            return _resume(Path(run), overrides, signals)
        case ["resume"]:
            raise Refused("resume", "no run named", "a run's folder", "ganrun resume outputs/DATE/TIME")
        case _:
            return _train(arguments, signals)


def _resume(run: Path, overrides: list[str], signals: Signals) -> int:
    from ganrun.composing import reopen

    cfg, changes = reopen(run, overrides)
    from ganrun.session import Session

    return Session(signals=signals).resume(cfg, run, overrides=overrides, changes=changes)


def _train(arguments: list[str], signals: Signals) -> int:
    """Compose the configuration with Hydra and run it, or the jobs of a sweep."""
    from ganrun.composing import hydra_run

    os.environ["GANRUN_TAG"] = secrets.token_hex(2)  # makes the folder of two runs of one second differ
    result: list[Any] = []

    def task(cfg: DictConfig) -> float | None:
        from hydra.core.hydra_config import HydraConfig
        from hydra.types import RunMode

        hydra = HydraConfig.get()
        single = hydra.mode == RunMode.RUN
        try:
            code, objective = _session(cfg, hydra, signals)
        except Exception as error:
            if not single:  # another launcher than ours: it must see that this job failed
                raise
            result.append(error)
            return None
        result.append(code)
        return objective

    hydra_run(arguments, task)
    for outcome in result:
        if isinstance(outcome, BaseException):
            raise outcome
    return _swept() or next(iter(result), 0)


def _session(cfg: DictConfig, hydra: Any, signals: Signals) -> tuple[int, float | None]:
    from ganrun.session import Session

    folder = Path(hydra.runtime.output_dir)
    session = Session(signals=signals)
    try:
        code = session.start(cfg, folder, overrides=list(hydra.overrides.task))
    except (Refused, Interrupted):
        _remove_empty(folder)
        raise
    return code, session.objective


def _remove_empty(folder: Path) -> None:
    """Leave nothing of a refused run: its folder, made in advance, and those above it that are empty now.

    Never the working folder itself, and above a folder that lies elsewhere nothing.
    """
    here = Path.cwd()
    above = [path for path in folder.parents if here in path.parents]
    for path in (folder, *above):
        try:
            path.rmdir()
        except OSError:
            return


def _swept() -> int:
    launcher = sys.modules.get("hydra_plugins.ganrun_processes")
    outcomes = launcher.ProcessLauncher.outcomes if launcher else []
    if not outcomes:
        return 0
    from ganrun.sweep import print_table

    return JOBS_FAILED if print_table(outcomes) else 0
