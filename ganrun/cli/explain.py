"""`ganrun explain`: networks, tricks, terms and updates of a run, without training and without writing."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from itertools import groupby
from typing import Any

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import nn

from ganrun.cli.trace import leaves, trace
from ganrun.config.build import Run, build
from ganrun.config.validate import find
from ganrun.core.collective import counted
from ganrun.core.context import Update
from ganrun.core.engine import chain_of
from ganrun.core.pair import Pair
from ganrun.core.ranks import Rank
from ganrun.core.traits import Level
from ganrun.core.trick import Setting, Trick
from ganrun.data.datasets.base import Dataset

WIDTH = 100  # columns, when the output is not a terminal
SEEN = 10_000  # steps whose updates are listed, at most

# The hooks of `Trick` in the order in which a run passes them, and the player in whose updates they act.
HOOKS: dict[str, list[tuple[Callable, str]]] = {
    "once, while the run is built": [(Trick.modify, ""), (Trick.bind, ""), (Trick.on_data, "")],
    "before each step": [(Trick.begin, ""), (Trick.sits_out, "")],
    "in each update": [
        (Trick.latent, "D and G"),
        (Trick.reals, "D and G"),
        (Trick.replay, "D"),
        (Trick.view, "D and G"),
        (Trick.choose, "G"),
        (Trick.targets, "D"),
        (Trick.encode, "D and G"),
        (Trick.observe, "D"),
        (Trick.discriminator_term, "D"),
        (Trick.generator_term, "G"),
        (Trick.before, "D and G"),
        (Trick.after, "D and G"),
        (Trick.metrics, "D"),
    ],
    "between steps": [(Trick.log_metrics, ""), (Trick.watch, ""), (Trick.sampler, ""), (Trick.traversals, "")],
}


def explain(cfg: DictConfig) -> int:
    """Build what this configuration describes, print the page, and return the exit code. Raises ConfigError."""
    run = build(cfg)
    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)
    with closing(run.data), console.capture() as captured:
        Explanation(run, console).print()
    print("\n".join(line.rstrip() for line in captured.get().strip("\n").split("\n")))
    return 0


class Explanation:
    """The sections of the page, in the order in which a run comes about."""

    def __init__(self, run: Run, console: Console):
        self.run, self.console = run, console
        self.trace = trace(run)
        self.steps: dict[str, list[int]] = {}  # the updates of a step -> the steps that have them

    def print(self) -> None:
        """Print every section."""
        self._run()
        for name, pair in self.run.game.named_pairs().items():
            title = f" of pair {name}" if len(self.run.game.pairs) > 1 else ""
            for role in ("generator", "discriminator"):
                self._network(f"{role}{title}", getattr(pair, role))
            self._tricks(f"tricks{title}, in the order in which they act", pair)
        self._terms()
        self._updates()
        if self.run.settings["engine"]["ranks"] > 1:
            self._processes()
        self._diagnostics()

    def _say(self, text: str = "", style: str = "", indent: int = 2) -> None:
        """A paragraph, wrapped and indented; nothing in it is markup."""
        table = Table.grid(padding=(0, 0))
        table.add_column(width=indent)
        table.add_column()
        table.add_row("", Text(text, style=style))
        self.console.print(table)

    def _title(self, text: str) -> None:
        self.console.print()
        self.console.print(Text(text, style="bold"))

    def _columns(self, rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> None:
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(width=0)
        for column in range(len(rows[0]) if rows else 0):
            table.add_column(justify="right" if column in right else "left", overflow="fold")
        for row in rows:
            table.add_row("", *map(Text, row))
        self.console.print(table)

    def _run(self) -> None:
        """Steps, data, loss, game and optimisers."""
        run, settings = self.run, self.run.settings
        loss = next(iter(run.game.named_pairs().values())).loss
        length = f"{settings['steps']} steps, {settings['batch']} images an update, seed {settings['seed']}"
        rows = [
            ("run", f"{settings['name']}: {length}"),
            ("engine", f"{run.device}, {'bf16' if run.engine.autocast else 'fp32'}"),
            *(row for name, data in run.dataset.streams.items() for row in _data_rows(name, data)),
            ("loss", f"{type(loss).__name__}: {_first_line(loss)}"),
            ("game", f"{type(run.game).__name__}: {_first_line(run.game)}"),
            *((f"optim {name}", _optimizer(player, settings["steps"])) for name, player in run.engine.players.items()),
        ]
        self._columns(rows)

    def _network(self, title: str, net: nn.Module) -> None:
        mine = {id(module) for _, module in leaves(net)}
        layers = [layer for key, layer in self.trace.layers.items() if key in mine and layer.kind != "Identity"]
        parameters = list(net.parameters())
        frozen = sum(p.numel() for p in parameters if not p.requires_grad)
        total = f"{sum(p.numel() for p in parameters):,} parameters" + (
            f", {frozen:,} of them frozen" if frozen else ""
        )
        self._title(f"{title} ({type(net).__module__.rpartition('.')[2]}): {total}")
        rows = [
            (layer.name, layer.kind, layer.shape, f"{layer.parameters:,}" * bool(layer.parameters)) for layer in layers
        ]
        self._columns([("layer", "kind", "output", "parameters"), *rows], right=(3,))

    def _tricks(self, title: str, pair: Pair) -> None:
        self._title(title)
        if not pair.tricks:
            self._say("none")
        rows: list[tuple[str, str, str]] = []
        for moment, hooks in HOOKS.items():
            touched = [(f"  {hook.__name__}", player, self._at(pair, hook)) for hook, player in hooks]
            touched = [row for row in touched if row[2]]
            rows += [(moment, "", "")] * bool(touched) + touched
        self._columns(rows)
        for name, trick in pair.tricks.items():
            if isinstance(trick, Setting):
                values = ", ".join(f"{key} = {find(self.run.settings, key)}" for key in trick.sets)
                self._say(f"{name}: a setting; {values}")
            else:
                self._say(f"{name}: {_first_line(trick)}")

    @staticmethod
    def _at(pair: Pair, hook: Callable) -> str:
        lazy = {name: getattr(trick, "every", 1) for name, trick in pair.tricks.items()}
        terms = hook in (Trick.discriminator_term, Trick.generator_term)
        return ", ".join(
            f"{name} (every {lazy[name]} steps, times {lazy[name]})" if terms and lazy[name] > 1 else name
            for name, _ in pair.tricks.at(hook)
        )

    def _terms(self) -> None:
        self._title("what each player minimises")
        rows = []
        for player, outcome in self.trace.outcomes.items():
            instead = [key.partition("/")[2] for key in outcome.metrics if key.startswith("replaced/")]
            left = f"   (in place of {', '.join(instead)}, which is only logged)" if instead else ""
            rows.append((player, " + ".join(outcome.terms) + left))
        self._columns(rows)

    def _updates(self) -> None:
        self._title("the updates of a step")
        steps = min(SEEN, self.run.settings["steps"])
        for step in range(steps):
            self.steps.setdefault(described(self.run.updates(self.run.game, step)), []).append(step + 1)
        self._columns([(ranges(when, steps, self.run.settings["steps"]), order) for order, when in self.steps.items()])
        if any("*" in order for order in self.steps):
            self._say("* a joint update: G trains on the fakes of D's update, so they are made once")

    def _processes(self) -> None:
        """What processes exchange, counted in an update of each player, which is done here as one of them would."""
        rank = Rank(0, self.run.settings["engine"]["ranks"])
        game, engine, data = self.run.game, self.run.engine, self.run.data
        engine.rank = rank
        rows: dict[str, tuple[str, ...]] = {}
        for update in map(rank.share, self.run.updates(game, 0)):
            with counted() as sizes:
                engine.run(update, [data.draw(game.wanted(one)) for one in chain_of(update)])
            own = sum(gradient.nbytes for one in chain_of(update) for gradient in engine.players[one.player].gradients)
            times = f"{len(sizes)} exchange{'s' * (len(sizes) > 1)}"
            words = (f"{sum(sizes) / 1e6:.3g} MB", f"in {times}, gradients {own / 1e6:.3g} MB")
            rows.setdefault(described([update]), (described([update]), *words))
        self._title(
            f"what {rank.world} processes, of {game.shape.images // rank.world} images each, add up in an update"
        )
        self._columns(list(rows.values()), right=[1])
        self._say("each process sends and receives up to twice that")

    def _diagnostics(self) -> None:
        words = {Level.ERROR: "forced", Level.WARNING: "warning", Level.NOTE: "note"}
        self._title("warnings and notes")
        rows = [
            (words[f.level], f"{f.sentence} (rule {f.id})")
            for f in sorted(self.run.diagnostics, key=lambda f: "EWI".index(f.level))
        ] + [("data", note) for note in self.run.dataset.notes]
        self._columns(rows) if rows else self._say("none")


def described(updates: Sequence[Update]) -> str:
    """The updates of one step in words: D, D, G as `D x2, G`; a star where fakes are shared."""
    words = [u.player[:1].upper() + "*" * u.share_fakes for one in updates for u in chain_of(one)]
    runs = [(word, len(list(same))) for word, same in groupby(words)]
    return ", ".join(f"{word} x{times}" if times > 1 else word for word, times in runs) or "no update"


def ranges(steps: Sequence[int], seen: int, total: int) -> str:
    """Step numbers as `1 to 25, 501, 1001`; the last range goes on when it reaches the last that was looked at."""
    parts: list[list[int]] = []
    for step in steps:
        if parts and step == parts[-1][-1] + 1:
            parts[-1][1:] = [step]
        else:
            parts.append([step])
    if len(parts) == 1 and len(steps) == seen:
        return "every step" if seen == total else f"every step of the first {seen}"
    words = [f"step {p[0]}" if len(p) == 1 else f"{p[0]} to {p[-1]}" for p in parts[:3]]
    if parts[-1][-1] == seen and len(parts) <= 3:
        words[-1] = f"{parts[-1][0]} on"
    more = f" ... {len(steps)} of the first {seen}" if len(parts) > 3 else ""
    return "steps " + ", ".join(word.removeprefix("step ") for word in words) + more


def _data_rows(stream: str, data: Dataset) -> list[tuple[str, str]]:
    """One stream: how many images of which shape, and their values."""
    span, size = data.value_range(), f"{data.channels} x {data.resolution} x {data.resolution}"
    labels = f"{len(data.classes)} classes ({_short(data.classes)})" if data.classes else "without labels"
    title = "data" if stream == "images" else f"data {stream}"
    return [
        (title, f"{data.kind}: {len(data):,} images of {size}, {labels}"),
        ("", f"values from {span.low:.3g} to {span.high:.3g}, mean {span.mean:.3g}"),
    ]


def _first_line(part: object) -> str:
    return (inspect.getdoc(type(part)) or "").split("\n")[0]


def _short(names: Sequence[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + ", ..." * (len(names) > most)


def _optimizer(player: Any, steps: int) -> str:
    group = player.optimizer.param_groups[0]
    shown = {key: group[key] for key in ("betas", "momentum", "alpha", "weight_decay") if group.get(key)}
    first, last = player.rate(0), player.rate(max(steps - 1, 0))
    rate = f"{first:g}" if first == last else f"{first:g} at first, {last:.3g} in the end"
    return ", ".join(
        [f"{type(player.optimizer).__name__}, learning rate {rate}", *(f"{k} {v}" for k, v in shown.items())]
    )
