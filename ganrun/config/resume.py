"""The recorded configuration of a run, with the settings that may change on resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from ganrun.config.groups import CONF
from ganrun.config.overrides import read_overrides
from ganrun.config.unknown import flat, leaves, no_such_setting
from ganrun.config.validate import check_values
from ganrun.config.yaml_files import load
from ganrun.core.errors import ConfigError, typed
from ganrun.record.folder import OLD, RunFolder, is_run
from ganrun.record.stored import check_kinds, record
from ganrun.version import __version__

# Settings that may change on resume. Data may be elsewhere: their content is compared with the checkpoint's. So may
# files of weights, and a machine without them goes on without these measures.
FREE = ("steps", "name", "objective", "log", "diagnosis", "plugins", "engine.device", "engine.workers",
        "engine.memory", "engine.data_timeout", "engine.ranks", "engine.capture", "metrics.swd", "metrics.ms_ssim",
        "metrics.inception.weights", "metrics.dinov2.weights",
        *(f"dataset.{place}{key}" for place in ("", "a.", "b.", "input.", "target.")
          for key in ("path", "root", "download", "skip_bad")))  # fmt: skip
WARNED = ("batch", "engine.precision", "engine.compile", "optim.generator.lr", "optim.discriminator.lr", "optim.decay")
NEW = {  # in a run of before them
    "engine.ranks": 1, "engine.sync_batch_norm": False, "engine.compile": False, "engine.capture": "auto",
}  # fmt: skip
LATER = ("metrics", "diagnosis")  # groups that a run of before them has not, or not whole: it does without
CHANGEABLE = "changes of steps, log, engine, batch or learning rates only"


def reopen(run: Path, overrides: list[str]) -> tuple[DictConfig, dict[str, str]]:
    """The configuration to continue with, and for each changed key `old -> new`.

    Modules of the user's must be listed again: a file alone never makes code run. Raises ConfigError for a folder that
    is not a run, a run of another version, a change that would make it another run, and values that no run can have.
    """
    cfg = _read(run)
    with open_dict(cfg):
        for group in LATER:
            recorded = cfg.get(group)
            if recorded is None or OmegaConf.is_dict(recorded):
                cfg[group] = OmegaConf.merge(OmegaConf.load(CONF / group / "none.yaml"), recorded or {})
        for key, value in NEW.items():
            if OmegaConf.is_dict(cfg.get("engine")) and OmegaConf.select(cfg, key) is None:
                OmegaConf.update(cfg, key, value)
    check_values(cfg)
    before = flat(OmegaConf.to_container(cfg))
    wanted = list(before.get("plugins") or [])
    cfg.plugins = []
    _apply(cfg, overrides)
    missing = [name for name in wanted if name not in cfg.plugins]
    if missing:
        found, expected = f"this run used {', '.join(missing)}", "them to be listed again: a file makes no code run"
        raise ConfigError("plugins", found, expected, typed("plugins", wanted))
    changes = _changes(before, flat(OmegaConf.to_container(cfg)))
    check_values(cfg)
    return cfg, changes


def earlier_overrides(run: Path) -> list[str]:
    """The overrides that the run was started with. Raises ConfigError for a file that no run has written."""
    typed: list[str] = record(run / "overrides.yaml") or []
    return typed


def recorded_settings(run: Path) -> Any:
    """The recorded settings as plain data; empty where they cannot be read."""
    try:
        return OmegaConf.to_container(_read(run))
    except ConfigError:
        return {}


def _read(run: Path) -> DictConfig:
    if not is_run(run):
        RunFolder.open(run).close()  # its error suggests what may have been meant
    check_kinds(run)
    _check_version(run)
    path = run / "config.yaml"
    if not path.exists():
        raise ConfigError(str(path), "is not there", "the YAML of a run", "a copy of it")
    cfg = load(path)
    if not {"model", "steps", "dataset", "tricks"} <= set(cfg):
        raise ConfigError(
            str(path), "not a run's configuration", "the YAML that a run wrote", f"the copy in {run}/checkpoints"
        )
    return cfg


def _check_version(run: Path) -> None:
    """A run's configuration names the classes of the version that wrote it."""
    written = str((record(run / "environment.json") or {}).get("ganrun"))
    if written.startswith("0.1."):
        raise ConfigError(str(run), f"a run of ganrun {written}", f"one of {__version__}", OLD)


def _apply(cfg: DictConfig, overrides: list[str]) -> None:
    for override in read_overrides(overrides):
        key, known = override.key_or_group, list(leaves(OmegaConf.to_container(cfg)))
        if key not in known:
            raise no_such_setting(key, str(override.input_line), known)
        if override.is_delete() or override.is_sweep_override():
            raise ConfigError(
                str(override.input_line), "a key taken out, or several values", "one value for each key", f"{key}=VALUE"
            )
        if OmegaConf.is_dict(OmegaConf.select(cfg, key)) and not below(key, WARNED):
            raise ConfigError(
                "resume", f"{override.input_line} would make it another run", CHANGEABLE, "a new run with ganrun"
            )
        with open_dict(cfg):
            OmegaConf.update(cfg, key, override.value())


def _changes(before: dict[str, Any], after: dict[str, Any]) -> dict[str, str]:
    changed = {
        key: f"{before.get(key)} -> {after.get(key)}" for key in before | after if before.get(key) != after.get(key)
    }
    refused = [f"{key}: {change}" for key, change in changed.items() if not below(key, FREE + WARNED)]
    if refused:
        raise ConfigError(
            "resume", f"{'; '.join(refused)} would make it another run", CHANGEABLE, "a new run with ganrun"
        )
    return {key: change for key, change in changed.items() if key != "plugins"}


def below(key: str, places: tuple[str, ...]) -> bool:
    """Whether this key is one of these, or inside one."""
    return any(key == place or key.startswith(f"{place}.") for place in places)
