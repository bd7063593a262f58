"""What records a run: its recorder, with the layers and the hyperparameters of the run."""

from __future__ import annotations

from ganrun.config.build import Run
from ganrun.record.columns import summed
from ganrun.record.folder import RunFolder
from ganrun.record.recorder import Recorder
from ganrun.run.hyperparameters import hyperparameters


def recorder_of(run: Run, folder: RunFolder, done: int | None, overrides: list[str]) -> Recorder:
    """What records a run. `done` are the steps of a resumed one: what it recorded later is dropped. None: a new run."""
    log, players = run.settings["log"], run.engine.players
    networks = {name: list(player.networks) for name, player in players.items()}
    recorder = Recorder(
        folder,
        every=log["every"],
        full=log["full"],
        layers={
            name: summed(player.layers(name), networks[name], log["gradients"]) for name, player in players.items()
        },
        networks=networks,
        purge_step=done + 1 if done else done,
        writes=run.rank.writes,
    )
    recorder.text("configuration", f"```yaml\n{run.yaml}```")
    recorder.hparams(hyperparameters(run.settings, overrides))
    return recorder
