"""The command line: training is the default, `resume` continues. Imports torch only when there is work for it."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganrun.cli.lines import ERASE
from ganrun.cli.torchrun import in_one_process, refuse_sweep
from ganrun.cli.words import LONGEST
from ganrun.config.groups import AFTER_TRAINING, COMMANDS, expand_home
from ganrun.core.errors import (
    CONFIG_ERROR,
    ENVIRONMENT,
    JOBS_FAILED,
    STOPPED,
    ConfigError,
    EnvironmentFailed,
    Stopped,
    out_of_memory,
)
from ganrun.record.screen import check_printed, unbreakable
from ganrun.run.signals import Interrupted, Signals, behind
from ganrun.version import __version__

if TYPE_CHECKING:
    from omegaconf import DictConfig

# The options of Hydra that take the next word as their value.
WITH_VALUE = ("--config-dir", "-cd", "--config-name", "-cn", "--config-path", "-cp", "--package", "-p", "--cfg", "-c")
RUN = "a run's folder"
Play = Callable[["DictConfig", Any, Signals], tuple[int, float | None]]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code. A user's error is one line and exit code 2; a traceback is a bug."""
    with unbreakable():
        return in_one_process(lambda: _code(list(sys.argv[1:] if argv is None else argv)))


def _code(arguments: list[str]) -> int:
    """Run the command; every way in which it may end as an exit code, but for a bug."""
    try:
        return _interruptible(arguments)
    except ConfigError as refusal:
        complain(*_remedied(refusal, arguments).lines)
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


def _interruptible(arguments: list[str]) -> int:
    """Run the command; an error that an interruption caused counts as the interruption."""
    try:
        return _command(arguments, Signals().install())
    except Exception as error:
        if (interruption := behind(error)) is not None:
            raise interruption from None
        raise


def complain(*lines: str) -> None:
    """Print each message as one line on standard error; what cannot be printed is shown as an escape."""
    for line in lines:
        line = " ".join(part.strip() for part in line.splitlines())
        shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
        print(f"ganrun: error: {shown}", file=sys.stderr)


def _remedied(refusal: ConfigError, arguments: list[str]) -> ConfigError:
    """The refusal with something to try in every line."""
    if refusal.complete:
        return refusal
    from ganrun.config.remedies import filled, remedied

    match _command_first(arguments):
        case ["resume", *rest]:
            from ganrun.config.resume import recorded_settings

            return filled(refusal, recorded_settings(_run_in(rest)))
        case [command, *_] if command in AFTER_TRAINING:
            return refusal.trying(f"ganrun help, which shows how to use {command}")
        case rest:
            return remedied(refusal, rest[1:] if rest[:1] and rest[0] in COMMANDS else rest)


def _command_first(arguments: list[str]) -> list[str]:
    """The command first, wherever it stands."""
    for position, word in enumerate(arguments):
        if word in COMMANDS and (position == 0 or arguments[position - 1] not in WITH_VALUE):
            return [word, *arguments[:position], *arguments[position + 1 :]]
    return arguments


def _run_in(words: list[str]) -> Path:
    """The run among the arguments of `resume`: the first that is not KEY=VALUE. Raises ConfigError without one."""
    for word in words:
        path = Path(expand_home(word))
        if "=" not in word or os.path.isdir(path):
            if max(map(len, map(os.fsencode, path.parts)), default=0) <= LONGEST:
                return path
            raise ConfigError("resume", "a name too long for a file", RUN, "ganrun resume outputs/DATE/TIME")
    raise ConfigError("resume", "no run named", RUN, "ganrun resume outputs/DATE/TIME")


def _command(arguments: list[str], signals: Signals) -> int:
    if (code := _answer(arguments)) is not None:
        check_printed()
        return code
    match _command_first(arguments):
        case ["resume", *words]:
            run = _run_in(words)
            return _resume(run, [word for word in words if Path(expand_home(word)) != run], signals)
        case [command, *words] if command in AFTER_TRAINING:
            with loading_torch():
                module = import_module(f"ganrun.cli.{command}")
            done: int = module.main(words)
            check_printed()
            return done
        case ["train", *overrides] | overrides:
            return train(overrides, signals)


def _answer(arguments: list[str]) -> int | None:
    """Print what was asked for; None when the command is not a question."""
    if "--version" in arguments or arguments == ["-V"]:
        print(f"ganrun {__version__}")
        return 0
    if {"--help", "-h"} & set(arguments) or _command_first(arguments)[:1] == ["help"]:
        from ganrun.cli.help import help_text

        print(help_text())
        return 0
    match _command_first(arguments):
        case ["list", *rest]:
            from ganrun.cli.catalog import show

            return show(rest)
        case ["explain" | "speed" as command, *overrides]:
            return _page(command, overrides)
        case ["check", *overrides]:
            return _check(overrides)
    return None


def _resume(run: Path, overrides: list[str], signals: Signals) -> int:
    from ganrun.config.resume import earlier_overrides, reopen

    cfg, changes = reopen(run, overrides)
    with loading_torch():
        from ganrun.run.session import Session

    return Session(signals=signals).resume(cfg, run, overrides=earlier_overrides(run) + overrides, changes=changes)


def _page(command: str, arguments: list[str]) -> int:
    """Compose and check as training does, before PyTorch is imported, then print what there is to say of the run."""
    cfg = _composed_here(command, arguments)
    if cfg is None:
        return 0
    with loading_torch():
        page = getattr(import_module(f"ganrun.cli.{command}"), command)
    code: int = page(cfg)
    return code


def _check(arguments: list[str]) -> int:
    """Compose and check as training does, then look at data, networks and rates, and print what is wrong."""
    cfg = _composed_here("check", arguments)
    if cfg is None:
        return 0
    with loading_torch():
        from ganrun.cli.check import check

    return check(cfg, arguments)


def _composed_here(command: str, arguments: list[str]) -> DictConfig | None:
    """The configuration of one run, in the current folder, so that none is made; None if Hydra only printed it."""
    from ganrun.config.compose import hydra_run
    from ganrun.config.overrides import read_options

    if read_options(arguments).multirun:
        raise ConfigError(command, "a sweep", "one run", f"ganrun {command} with one value for each key")
    found: list[DictConfig] = []
    hydra_run([*arguments, "hydra.run.dir=.", "hydra.output_subdir=null", "hydra.mode=RUN"], found.append)
    return found[0] if found else None


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
    """Train one run in the folder that Hydra made for it; returns the exit code and the objective."""
    with loading_torch():
        from ganrun.run.session import Session

    from omegaconf import OmegaConf

    session = Session(signals=signals)
    typed: Any = OmegaConf.to_container(hydra.overrides.task)  # as typed: a reference in it is not resolved
    code = session.start(cfg, Path(hydra.runtime.output_dir), overrides=typed)
    return code, session.objective


def train(arguments: list[str], signals: Signals, play: Play = play) -> int:
    """Compose the configuration with Hydra and train, or run the jobs of a sweep; returns the exit code.

    Raises ConfigError for a configuration that is refused, and Interrupted for a signal before there was a run.
    """
    from ganrun.config.compose import hydra_run
    from ganrun.config.folder_made import FolderMade
    from ganrun.run import hydra_job

    refuse_sweep(arguments)
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
            if not single:  # a launcher of the user's must see that this job failed
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
        hydra_run(arguments, task, hydra_job.task)
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
    if not result and failed is None:  # Hydra printed what was asked for, such as --cfg
        check_printed()
    return JOBS_FAILED if failed else next(iter(result), 0)


def _table() -> int | None:
    """Print how the jobs of a sweep ended; returns how many failed, None when there was no sweep in processes."""
    from ganrun.config.folder_made import FolderMade
    from ganrun.run import hydra_job

    launcher = sys.modules.get("hydra_plugins.ganrun_processes")
    outcomes = launcher.ProcessLauncher.outcomes if launcher else []
    if not outcomes and FolderMade.sweep is not None:
        outcomes = list(hydra_job.outcomes(FolderMade.sweep))
    if not outcomes:
        return None
    from ganrun.run.sweep import refuse_common
    from ganrun.run.sweep_table import print_table

    refuse_common(outcomes)
    return print_table(outcomes)
