"""A process that trains beside the first one of its run: it is told what to train, and writes and prints nothing."""

from __future__ import annotations

import io
import os
import shutil
import signal
import sys
import threading
import time
from contextlib import closing
from typing import Any

import torch
import torch.distributed as dist
from omegaconf import OmegaConf

from ganrun.config.build import build
from ganrun.core.collective import ProcessLost
from ganrun.core.errors import ENVIRONMENT
from ganrun.core.ranks import Rank
from ganrun.core.train import train
from ganrun.machine import keep_big_blocks
from ganrun.run.processes import END, FAILED, TICK, Launch, broadcast, launched, prepare
from ganrun.run.state import restore


def follow() -> int:
    """Train what the first process trains until it ends this one; returns the exit code if that is lost."""
    launch = launched()
    assert launch is not None and launch.rank.number > 0, "this process was started by no other"
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the first process decides when to stop
    keep_big_blocks()
    prepare(launch)
    store = launch.store()
    threading.Thread(target=_watch, args=(launch,), daemon=True).start()
    try:
        launch.join(store)
        while True:
            _train(broadcast(), launch.rank)
    except ProcessLost:
        time.sleep(2 * TICK)  # the exit code of the first process, where it has left one, is that of all
    except BaseException as error:
        line = (str(error).splitlines() or [""])[0] or type(error).__name__
        store.set(f"{FAILED}/{launch.rank.number}", f"process {launch.rank.number}: {line}")
    return ENVIRONMENT


def _train(job: dict[str, Any], rank: Rank) -> None:
    """Train a run beside the others, from the state that it is in there."""
    run = build(OmegaConf.create(job["config"]), rank)
    with closing(run.data):
        start = restore(run, torch.load(io.BytesIO(job["state"]), weights_only=True), "the state of the first process")
        try:
            train(
                game=run.game,
                engine=run.engine,
                updates=run.updates,
                data=run.data,
                callbacks=[],
                seed=run.settings["seed"],
                start=start,
                steps=run.settings["steps"],
                rank=rank,
            )
        except ProcessLost:
            if not dist.is_initialized():
                raise  # otherwise it was agreed that the run stops; if not, waiting for the next one tells


def _watch(launch: Launch) -> None:
    """End this process when the first one says so, or is gone, be it before this line."""
    store = launch.store()  # of its own: who waits for a key blocks a store
    while launch.first in (None, os.getppid()):
        try:
            if store.check([END]):
                os._exit(int(store.get(END)))
        except RuntimeError:  # the store went with the first process
            break
        time.sleep(TICK)
    if launch.folder is not None:
        shutil.rmtree(launch.folder, ignore_errors=True)  # nobody else will
    os._exit(ENVIRONMENT)


if __name__ == "__main__":
    sys.exit(follow())
