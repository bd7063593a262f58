"""A rehearsal of a run: updates of a copy of its game, whose state is thrown away."""

from __future__ import annotations

from copy import deepcopy

from ganrun.config.build import Run
from ganrun.config.instantiate import Maker
from ganrun.config.players import make_players
from ganrun.core.context import Progress, Update
from ganrun.core.engine import Eager
from ganrun.core.errors import ConfigError, nearest, typed
from ganrun.core.game import Game
from ganrun.core.seeding import the_same_each_time
from ganrun.diagnosis.statistics import FEWEST
from ganrun.metrics.comparison import QUALITY
from ganrun.record.recorder import SPEED
from ganrun.run.measuring import measured_tags, published
from ganrun.run.statistics import images_of, statistics_of


def check_metrics(run: Run) -> None:
    """Raises ConfigError when `objective` or `log.best` names a metric that the run will not have.

    Where one is named it takes as long as one update of each player. `quality` may be named by a run that measures
    none. Raises ConfigError for weights of published networks that cannot be used, too.
    """
    published(run)
    wanted = {"objective": run.settings["objective"], "log.best": run.settings["log"]["best"]}
    wanted = {key: name for key, name in wanted.items() if name != QUALITY}
    names = metric_names(run) if any(wanted.values()) else []
    for key, name in wanted.items():
        if name is not None and name not in names:
            close = nearest(name, names) or "loss/generator/total"
            raise ConfigError(key, f"this run has no metric {name!r}", f"one of {', '.join(names)}", typed(key, close))


def metric_names(run: Run) -> list[str]:
    """The names of what the run will record, but for gradient norms: those of an update of each player of a copy."""
    game, engine = copied(run)
    names = {SPEED, "training/images"}
    with the_same_each_time(run.device):
        engine.begin(Progress())
        for player, role in game.players.items():
            update = Update(player=player, role=role, shape=run.updates.shape(game, role), due=game.due(0))
            wanted = game.wanted(update)
            batches = {stream: run.data.sources[stream].examples(shape.images) for stream, shape in wanted.items()}
            (result,) = engine.run(update, [batches])
            several = [result] * FEWEST  # as many as a log has, of small batches
            if run.settings["diagnosis"]["during"]:
                names |= {*statistics_of(game, several, images_of(game, several))}
            names |= {f"loss/{player}/total", f"training/learning_rate/{player}", *result.names}
    names |= {*game.log_metrics(), *measured_tags(run)}
    return sorted(name for name in names if not name.startswith("gradient/"))


def copied(run: Run) -> tuple[Game, Eager]:
    """A copy of the run's game, and an engine that trains it; the run itself is left alone."""
    game = deepcopy(run.game)
    players = make_players(run.settings, Maker(run.settings["plugins"]), game)
    return game, Eager(game, players, device=run.device, autocast=run.engine.autocast)
