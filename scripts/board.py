"""How large the event files of a long run are, and how soon TensorBoard shows its curves.

    python scripts/board.py FOLDER [KEY=VALUE ...] [--steps 500000]

Builds the run that the settings describe, trains a few steps of it, and records these again and again, as a run of
STEPS steps would: by the same recorder, with the same names, pictures and windows. Trains nothing more, so half a
million steps take minutes. Then starts TensorBoard on FOLDER and waits until it answers with a curve, and with its end.
"""

from __future__ import annotations

import argparse
import io
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import urlopen

from rich.console import Console

from ganrun.config.build import Run, build
from ganrun.config.compose import compose
from ganrun.core.callbacks import Callback
from ganrun.core.context import Progress, UpdateResult
from ganrun.core.train import train
from ganrun.record.folder import RunFolder
from ganrun.record.progress import Display
from ganrun.run.callbacks import Grids, Record, on_the_board
from ganrun.run.recording import recorder_of

TRAINED = 16  # steps, as often as the rarest of the usual lazy terms is added
CURVE = "loss/generator/total"
PATIENCE = 600  # seconds


class Kept(Callback):
    """Keeps what each step measured."""

    name = "kept"

    def __init__(self) -> None:
        self.steps: list[Sequence[UpdateResult]] = []

    def after_step(self, now: Progress, results: Sequence[UpdateResult], *, last: bool) -> None:
        self.steps.append(results)


def measured(run: Run) -> list[Sequence[UpdateResult]]:
    """What the first steps of this run measure."""
    kept = Kept()
    train(game=run.game, engine=run.engine, updates=run.updates, data=run.data, callbacks=[kept],
          seed=run.settings["seed"], start=Progress(), steps=TRAINED)  # fmt: skip
    return kept.steps


def record(run: Run, path: Path, steps: int) -> None:
    """Leave what a run of this many steps would leave of its metrics and pictures."""
    found, images = measured(run), run.game.shape.images
    with closing(RunFolder.create(path)) as folder, closing(recorder_of(run, folder, None, [])) as recorder:
        record, grids = Record(run, recorder, silent(steps), Progress()), Grids(run, folder, recorder)
        grids.write_reals(0)
        for step in range(1, steps + 1):
            record.after_step(Progress(step, step * images), found[step % TRAINED], last=step == steps)
            if step % grids.every == 0 and on_the_board(step // grids.every):
                grids.write(step)


def silent(steps: int) -> Display:
    """A display that nobody sees."""
    return Display(steps=steps, console=Console(file=io.StringIO()))


@contextmanager
def tensorboard(path: Path) -> Iterator[str]:
    """A server of this folder; gives its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(path), "--host", "127.0.0.1"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([*command, "--port", str(port)], **quiet)  # type: ignore[call-overload]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def shown_after(path: Path, steps: int) -> tuple[float, float]:
    """Seconds from the start of TensorBoard until it has the first points of a curve, and its last."""
    began, first = time.monotonic(), None
    query = urlencode({"run": ".", "tag": CURVE})
    with tensorboard(path) as address:
        while time.monotonic() - began < PATIENCE:
            with suppress(OSError), urlopen(f"{address}/data/plugin/scalars/scalars?{query}", timeout=10) as answer:
                first = first or time.monotonic() - began
                if max(step for _, step, _ in json.load(answer)) == steps:
                    return first, time.monotonic() - began
            time.sleep(0.1)
    raise TimeoutError(f"TensorBoard did not come to step {steps}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--steps", type=int, default=500_000)
    options = parser.parse_args()
    run = build(compose([*options.settings, f"steps={options.steps}"]))
    with closing(run.data):
        record(run, options.folder, options.steps)
    size = sum(path.stat().st_size for path in options.folder.glob("events*"))
    print(
        f"{' '.join(options.settings) or 'the default run'}: {size / 1e6:.1f} MB for {options.steps:,} steps",
        flush=True,
    )
    first, last = shown_after(options.folder, options.steps)
    print(f"TensorBoard shows the first points after {first:.1f} s, all of the run after {last:.1f} s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
