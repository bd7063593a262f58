"""Random command lines: each is answered, or refused in the one form, within seconds, and leaves nothing behind.

    python scripts/fuzz.py [--draws 2000] [--first 0] [--seed 0] [--jobs 2] [--only NUMBER]

A draw takes settings from every file of `conf/`, gives one or two of them a value that may be wrong in any way (kind,
size, sign, text for a shell or for Hydra, a path of any kind of file), or swaps, adds, deletes and misspells keys, and
runs the command in a child forked from this process, which has imported PyTorch and computed nothing. Asked of each:
exit code 0 or 2 (3 where a guard stopped a run that did train), no traceback, at most one line for each fault in the
form `where: found, expected. Try: one thing`, a remedy that the shell and Hydra can read, nothing left by what was
refused, and at most 5 s of work. Prints the failures, a table by kind, and exits with 1 if anything failed. A draw
follows from SEED and its number alone: `--only NUMBER` shows one, `--first NUMBER` goes on from there.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import shlex
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

SECONDS = 5.0  # of work that an answer may take
PATIENCE = 40.0  # seconds after which a child that has not ended is killed: it hangs
MEMORY = 12 * 2**30  # bytes of addresses that a child may have beyond what this process has
TINY = ("model.generator.width=4", "model.discriminator.width=4", "dataset.resolution=16", "batch=4", "game.grid=4",
        "engine.device=cpu", "steps=1", "engine.workers=0")  # fmt: skip
ERROR = "ganrun: error: "
# The one form, and that of a rule of docs/compatibility.md.
FORM = re.compile(r".+?: .+, expected .+\. Try: .+|.+\. Try: .+ \(rule C\d+\)|.+ \(rule C\d+\), expected .+")
ASSIGNED = re.compile(r"[~+]*[a-z_][\w./@]*=")

TEXTS = ("", " ", "it's", 'say "x"', "a b", "photos (1)", "{x}", "[", "]", "a,b", "a:b", "$HOME",
         "${steps}", "${nope}", "${oc.env:HOME}", "`id`", "$(id)", "a;b", "a|b", "a&b", "<x>", "*", "?",
         "~", "~/x", "#a", "!", '\\', "\\\\'", "a=b", "%s", "\n", "\t", "é", "\udcff", "\x1b[31m",
         "null", "true", "x" * 5000, "../..", "-1", "--help", "-m", "nan", "@x", "a/../b", "train",
         "_target_", "${", "}", "'", '"', '"\'', "0x10", "1_000", "1e", "%")  # fmt: skip
NUMBERS = ("0", "-1", "1", "2", "3", "1.5", "-0.0", "1e-30", "1e30", "1e400", "-1e400", "nan", "inf",
           "-inf", "10", "17", "1000000", "1000000000", "10000000000000000000",
           "1000000000000000000000000000000", "9" * 4500, "0.5", "0.999", "1e-4")  # fmt: skip
SHAPES = ("null", "true", "false", "[]", "{}", "[1]", "[1,2]", "[0.5,0.5]", "[0,1,2]", "[null]", "[[]]",
          "[a,b]", "{a:1}", "{_target_:os.system}",
          "{_target_:ganrun.core.schedule.Linear,start:1,end:0,steps:5}", "1,2", "range(1,3)",
          "choice(1,2)", "interval(0,1)", "glob(*)", "[" * 60 + "]" * 60, "[1,[1,[1,2", "'a'", '"1"')  # fmt: skip
PATHS = ("text.txt", "pics", "pics/0.png", "empty", "fifo", "link", "loop", "dangling", "data.npy",
         "cut.npy", "/dev/null", "/dev/zero", "/proc/self/mem", "/nowhere/x", "nowhere/x", "~/x", "/", ".",
         "fifo/x", "text.txt/x", "x" * 300, "odd \udcff name")  # fmt: skip
HYDRAS = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir", "hydra.job.name", "hydra.job.chdir",
          "hydra.verbose", "hydra.mode", "hydra.output_subdir", "hydra.searchpath", "hydra.job.num",
          "hydra.sweeper.params", "hydra.launcher.jobs", "hydra.callbacks", "hydra/launcher",
          "hydra/sweeper", "hydra.job_logging", "hydra.help.app_name")  # fmt: skip
WORDS = ("--cfg", "--cfg job", "--info", "--package model", "--config-dir nowhere",
         "--config-dir text.txt", "--config-name x", "-m", "--resolve", "--run", "--hydra-help",
         "--version", "-c job --package nope", "--config-dir conf", "trian", "=3", "==", "+", "~", "++",
         "-x", "--", "''", "a b=3", "steps = 10", "resume", "list", "help")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Draw:
    """One command line, and what kind of fault it has."""

    number: int
    kind: str
    arguments: tuple[str, ...]
    faults: int = 1

    @property
    def runs_jobs(self) -> bool:
        """Whether it runs jobs, which are processes that import PyTorch and are told of."""
        return bool({"-m", "--multirun"} & set(self.arguments))

    @property
    def line(self) -> str:
        """As it is typed."""
        return "ganrun " + " ".join(map(shlex.quote, self.arguments))


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a command line came to."""

    code: int  # the exit code; negative: the signal that ended it
    out: str
    err: str
    work: float  # seconds of the processor
    hung: bool = False
    left: tuple[str, ...] = ()  # paths that were not there before


@dataclass
class Row:
    """The draws of one kind."""

    draws: int = 0
    refused: int = 0
    failed: int = 0
    slowest: float = 0.0
    reasons: list[str] = field(default_factory=list)


def settings() -> dict[str, tuple[tuple[str, ...], Any]]:
    """Every key of every file of `conf/`, with what must be chosen for it to be there and its value in that file."""
    import yaml

    from ganrun.config.groups import CONF
    from ganrun.config.unknown import flat

    found: dict[str, tuple[tuple[str, ...], Any]] = {}
    for path in sorted(CONF.rglob("*.yaml")):
        group = path.parent.relative_to(CONF).as_posix()
        if group.startswith(("hydra", "experiment")) or "@package _global_" in path.read_text(encoding="utf-8"):
            continue
        node: Any = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
        chosen = () if group == "." else (f"tricks=[{path.stem}]",) if group == "tricks" else (f"{group}={path.stem}",)
        prefix = "" if group == "." else f"{group}."
        node = {key: value for key, value in node.items() if key not in ("defaults", "hydra")}
        for key, value in flat(node).items():
            found.setdefault(f"{prefix}{key}", (chosen, value))
            found.setdefault(f"{prefix}{key}@{path.stem}", (chosen, value))
    return found


def models() -> Iterator[tuple[str, str]]:
    """Every experiment with the model that it chooses."""
    from ganrun.config.groups import CONF

    for path in sorted((CONF / "experiment").glob("*.yaml")):
        if found := re.search(r"override /model: (\w+)", path.read_text(encoding="utf-8")):
            yield path.stem, found[1]


class Drawer:
    """Draws command lines; a draw follows from the seed and its number."""

    def __init__(self, seed: int):
        from ganrun.config.groups import Choices

        self.seed, self.settings, self.choices = seed, settings(), Choices()
        self.keys, self.groups = sorted(self.settings), sorted(self.choices.groups)
        self.models = dict(models())
        self.kinds: dict[str, Callable[[Random], list[str]]] = {
            "number": lambda r: self._set(r, NUMBERS), "text": lambda r: self._set(r, TEXTS),
            "quoted text": lambda r: self._set(r, [_quoted(text) for text in TEXTS]),
            "shape": lambda r: self._set(r, SHAPES), "path": self._path, "own value": self._same, "sign": self._sign,
            "group": self._group, "key": self._key, "hydra": self._hydra, "word": self._word, "class": self._class,
        }  # fmt: skip

    def draw(self, number: int) -> Draw:
        """The draw of this number."""
        random = Random(f"{self.seed}/{number}")
        kinds = random.sample(sorted(self.kinds), 2 if random.random() < 0.25 else 1)
        faulty = [word for kind in kinds for word in self.kinds[kind](random)]
        command = random.choices(
            ([], ["explain"], ["train"], ["--cfg", "job"], ["list"], ["resume"]), (20, 70, 4, 8, 1, 2)
        )[0]
        fitting = [word for word in TINY if not any(_replaces(other, word) for other in faulty)]
        if command in ([], ["train"]) and len(fitting) < len(TINY):
            command = ["explain"]  # a network of full size would train for minutes
        dropped = 0.0 if command in ([], ["train"]) else 0.1
        words = [*(word for word in fitting if random.random() >= dropped), *self._narrow(faulty), *faulty]
        line = [*words, *command] if random.random() < 0.1 else [*command, *words]
        return Draw(number=number, kind=" + ".join(kinds) if len(kinds) == 1 else "two faults", arguments=tuple(line),
                    faults=len(kinds))  # fmt: skip

    def _narrow(self, faulty: Sequence[str]) -> list[str]:
        """Settings that make the networks of a model that is chosen here small: of full size some build for minutes."""
        chosen = dict(word.split("=", 1) for word in faulty if "=" in word)
        model = chosen.get("model") or self.models.get(chosen.get("experiment", ""), "")
        keys = [f"model.{role}.width" for role in ("generator", "discriminator")]
        return [f"{key}=16" for key in keys if f"{key}@{model}" in self.settings and key not in chosen]

    def _chosen(self, random: Random) -> tuple[list[str], str, Any]:
        name = random.choice(self.keys)
        chosen, value = self.settings[name]
        return list(chosen), name.partition("@")[0], value

    def _set(self, random: Random, values: Sequence[str]) -> list[str]:
        chosen, key, _ = self._chosen(random)
        return [*chosen, f"{key}={random.choice(values)}"]

    def _path(self, random: Random) -> list[str]:
        value = random.choice(PATHS)
        if random.random() < 0.5:
            return self._set(random, [value, _quoted(value)])
        group = random.choice(
            ["folder dataset.path", "array dataset.path", "mnist dataset.root", "unpaired dataset.a.path"]
        )
        choice, key = group.split(" ")
        return [f"dataset={choice}", f"{key}={random.choice([value, _quoted(value)])}"]

    def _same(self, random: Random) -> list[str]:
        from ganrun.core.errors import literal

        chosen, key, value = self._chosen(random)
        return [
            *chosen,
            f"{key}={literal(value)}" if not isinstance(value, str) or "${" not in value else f"{key}={value}",
        ]

    def _sign(self, random: Random) -> list[str]:
        chosen, key, _ = self._chosen(random)
        sign = random.choice(["~", "+", "++", "~~", "+++"])
        return [*chosen, f"{sign}{key}{random.choice(['', '=1', '=a', '.more=1'])}"]

    def _group(self, random: Random) -> list[str]:
        group = random.choice(self.groups)
        options = self.choices.options(group)
        if group == "tricks":
            listed = ",".join(random.choices([*options, "nope"], k=random.randint(0, 5)))
            return [random.choice([f"tricks=[{listed}]", f"+tricks=[{listed}]", f"tricks={listed}"])]
        value = random.choice([*options, *options, "nope", "", "null", "[a]", "3", options[0][:-1], "a/b", "../x"])
        return [f"{random.choice(['', '', '', '+', '++', '~'])}{group}={value}"]

    def _key(self, random: Random) -> list[str]:
        chosen, key, _ = self._chosen(random)
        place, _, last = key.rpartition(".")
        wrong = random.choice([key[:-1], f"{key}x", place or "x", last, key.upper(), f"{key}.a", f"{key}[0]", f".{key}",
                               f"{key}.", key.replace(".", "/"), f"{key}@x"])  # fmt: skip
        return [*chosen, f"{wrong}={random.choice(NUMBERS[:12])}"]

    def _hydra(self, random: Random) -> list[str]:
        key = random.choice(HYDRAS)
        values = [*NUMBERS[:6], *TEXTS[:30], *SHAPES[:12], *PATHS]
        return [f"{random.choice(['', '', '', '+', '~'])}{key}={random.choice(values)}"]

    def _word(self, random: Random) -> list[str]:
        return random.choice([shlex.split(random.choice(WORDS)), [random.choice(TEXTS)]])

    def _class(self, random: Random) -> list[str]:
        places = [key for key in self.keys if key.endswith("_target_")]
        key = random.choice(places)
        chosen, _ = self.settings[key]
        targets = [str(self.settings[place][1]) for place in places]
        bases = ["core.trick.Trick", "core.loss.Loss", "core.game.Game", "nope.X"]
        torchs = [f"torch.optim.{name}" for name in ("Optimizer", "SGD", "SparseAdam")]
        odd = [*(f"ganrun.{base}" for base in bases), *torchs, "os.system", "ganrun", "", "null", "3", "[a]", "a..b"]
        return [*chosen, f"{key.partition('@')[0]}={random.choice([*targets, *odd])}"]


def _replaces(other: str, word: str) -> bool:
    """Whether a choice of another group's option leaves no place for this setting."""
    group = other.partition("=")[0]
    return group == "experiment" or (group in ("model", "dataset") and word.startswith(f"{group}."))


def _quoted(text: str) -> str:
    """A text in the quotes that Hydra reads, whatever is in it."""
    from ganrun.core.errors import literal

    return literal(text)


def furnish(folder: Path) -> None:
    """Files of every kind for paths to name."""
    (folder / "pics").mkdir()
    (folder / "empty").mkdir()
    (folder / "home").mkdir()
    (folder / "conf" / "tricks").mkdir(parents=True)
    (folder / "conf" / "tricks" / "bad.yaml").write_bytes(b"a: [1\n\tb: \xff")
    (folder / "text.txt").write_text("no image")
    (folder / "pics" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n cut")
    (folder / "data.npy").write_bytes(b"\x93NUMPY")
    (folder / "cut.npy").write_bytes(b"")
    os.mkfifo(folder / "fifo")
    (folder / "link").symlink_to("pics")
    (folder / "loop").symlink_to("loop")
    (folder / "dangling").symlink_to("gone")


def run(arguments: Sequence[str], folder: Path) -> Callable[[], Answer | None]:
    """Start the command in a child in this folder; what is returned gives its answer once there is one."""
    furnish(folder)
    before = _paths(folder)
    streams = [folder.with_suffix(f".{name}") for name in ("out", "err")]
    pid, began = os.fork(), time.monotonic()
    if pid == 0:
        _become(arguments, folder, streams)

    def answer() -> Answer | None:
        done, status, used = os.wait4(pid, os.WNOHANG)
        hung = not done and time.monotonic() - began > PATIENCE
        if not done and not hung:
            return None
        if hung:
            os.killpg(pid, signal.SIGKILL)
            _, status, used = os.wait4(pid, 0)
        out, err = (stream.read_text(errors="replace") if stream.exists() else "" for stream in streams)
        left = tuple(sorted(_paths(folder) - before))
        shutil.rmtree(folder, ignore_errors=True)
        for stream in streams:
            stream.unlink(missing_ok=True)
        return Answer(code=os.waitstatus_to_exitcode(status), out=out, err=err, work=used.ru_utime + used.ru_stime,
                      hung=hung, left=left)  # fmt: skip

    return answer


def _paths(folder: Path) -> set[str]:
    return {os.path.join(place, name) for place, folders, files in os.walk(folder) for name in (*folders, *files)}


def _become(arguments: Sequence[str], folder: Path, streams: Sequence[Path]) -> None:
    """In the child: be `ganrun` with these arguments, and end."""
    import ganrun.cli.main

    code = 1
    try:
        os.setsid()
        for number, path in enumerate(["/dev/null", *map(str, streams)]):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
            os.dup2(descriptor, number)
        os.chdir(folder)
        os.environ["HOME"] = str(folder / "home")
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
        sys.argv = ["ganrun", *arguments]
        code = ganrun.cli.main.main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
    threading._shutdown()  # type: ignore[attr-defined]
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def faults(draw: Draw, answer: Answer) -> Iterator[str]:
    """What is wrong with the answer to a command line; nothing when all is well."""
    if answer.hung:
        yield f"hangs: killed after {PATIENCE:.0f} s"
        return
    lines = [line for line in answer.err.splitlines() if line.startswith(ERROR)]
    trains = not {"explain", "--cfg", "-c", "list", "resume"} & set(draw.arguments)
    if answer.code not in ((0, 2, 3) if trains else (0, 2)):
        yield f"exit code {answer.code}: {(answer.err.strip().splitlines() or ['nothing said'])[-1][:200]}"
    if "Traceback" in answer.err + answer.out:
        yield "a traceback"
    if answer.work > SECONDS and not draw.runs_jobs:
        yield f"{answer.work:.1f} s of work"
    if answer.left and (answer.code == 2 or not trains):
        yield f"left behind: {', '.join(os.path.basename(path) for path in answer.left[:3])}"
    if answer.code == 2:
        yield from _form(draw, lines, answer)


def _form(draw: Draw, lines: Sequence[str], answer: Answer) -> Iterator[str]:
    """What is wrong with the lines of a refusal."""
    rules = sum("(rule C" in line for line in lines)
    if not lines:
        yield "refused and no reason given"
    if len(lines) - rules > draw.faults or len(set(lines)) < len(lines):
        yield f"{len(lines)} lines for {draw.faults} faults"
    if len(answer.err.splitlines()) > len(lines) or (answer.out and not draw.runs_jobs):
        yield f"more is printed than the refusal: {(answer.out + answer.err).splitlines()[0][:100]}"
    for line in lines:
        told = line.removeprefix(ERROR)
        if not FORM.fullmatch(told):
            yield f"not in the one form: {told[:200]}"
        yield from unreadable(told.rpartition(". Try: ")[2])


def unreadable(remedy: str) -> Iterator[str]:
    """Each KEY=VALUE of a remedy that the shell or Hydra's parser cannot read."""
    from ganrun.config.overrides import is_readable

    if "=" not in remedy:
        return
    try:
        words = shlex.split(remedy)
    except ValueError as error:
        yield f"a remedy that the shell cannot read ({error}): {remedy[:200]}"
        return
    for word in words:  # a sentence may go on after one
        if ASSIGNED.match(word) and not any(map(is_readable, (word, word.rstrip(",;.)")))):
            yield f"a remedy that Hydra cannot read: {word[:200]}"


def fuzz(draws: Sequence[Draw], jobs: int, report: Callable[[Draw, Answer, list[str]], None]) -> dict[str, Row]:
    """Run every draw, some at a time; returns a row for each kind."""
    rows: dict[str, Row] = defaultdict(Row)
    running: dict[int, tuple[Draw, Callable[[], Answer | None]]] = {}
    waiting = list(reversed(draws))
    with tempfile.TemporaryDirectory(prefix="fuzz") as scratch:
        while waiting or running:
            while waiting and len(running) < jobs:
                draw, place = waiting.pop(), Path(scratch) / f"{len(waiting)}"
                place.mkdir()
                running[draw.number] = draw, run(draw.arguments, place)
            for number, (draw, ask) in list(running.items()):
                if (answer := ask()) is not None:
                    del running[number]
                    wrong = list(faults(draw, answer))
                    _count(rows[draw.kind], answer, wrong)
                    report(draw, answer, wrong)
            time.sleep(0.005)
    return rows


def _count(row: Row, answer: Answer, wrong: Sequence[str]) -> None:
    row.draws += 1
    row.refused += answer.code == 2
    row.failed += bool(wrong)
    row.slowest = max(row.slowest, answer.work)


def print_table(rows: Mapping[str, Row]) -> None:
    """How many of each kind were drawn, refused and failed, and the most work that one took."""
    print(f"\n{'kind':<14}{'draws':>7}{'refused':>9}{'failed':>8}{'slowest':>9}")
    for kind, row in sorted(rows.items()):
        print(f"{kind:<14}{row.draws:>7}{row.refused:>9}{row.failed:>8}{row.slowest:>8.1f}s")
    print(f"{'all':<14}{sum(r.draws for r in rows.values()):>7}{sum(r.refused for r in rows.values()):>9}"
          f"{sum(r.failed for r in rows.values()):>8}")  # fmt: skip


def warm() -> None:
    """Import everything and compose something, so that a child only has to work. Computes nothing: threads are lost."""
    import gc
    import importlib
    import pkgutil

    import torch

    import ganrun
    from ganrun.config.compose import compose
    from ganrun.data.datasets.mnist_5k import read_mnist_5k

    torch.set_num_threads(1)
    for module in pkgutil.walk_packages(ganrun.__path__, "ganrun."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    compose(["model=mlp", "tricks=[ema,r1]", "tricks.ema.decay=0.9", "optim.generator.betas=[0.5,0.9]", "name='a b'"])
    read_mnist_5k()
    gc.freeze()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0, help="the number of the first draw")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", type=int, help="the number of the one draw to run and show")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    warm()
    drawer = Drawer(arguments.seed)
    last = arguments.first + arguments.draws
    numbers = range(arguments.first, last) if arguments.only is None else [arguments.only]

    def report(draw: Draw, answer: Answer, wrong: list[str]) -> None:
        if arguments.only is not None:
            print(draw.line, answer.out, answer.err, f"exit code {answer.code}, {answer.work:.1f} s", sep="\n")
        if wrong:
            shown = draw.line if len(draw.line) < 600 else f"{draw.line[:300]} ... {draw.line[-200:]}"
            print(
                f"[{arguments.seed}/{draw.number}] {draw.kind}: {'; '.join(wrong)}\n    {shown}".encode(
                    errors="replace"
                ).decode(),
                flush=True,
            )

    rows = fuzz([drawer.draw(number) for number in numbers], arguments.jobs, report)
    print_table(rows)
    return int(any(row.failed for row in rows.values()))


if __name__ == "__main__":
    sys.exit(main())
