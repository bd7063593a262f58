"""Sources: one order for all, exact resume, the same bits resident or streamed, workers that outlive a signal."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from ganrun.core.context import Batch, BatchShape
from ganrun.core.errors import ConfigError, EnvironmentFailed, WaitInterrupted
from ganrun.core.ranks import ALONE, Rank
from ganrun.core.seeding import generator
from ganrun.data.datasets.base import Dataset, InMemory
from ganrun.data.datasets.unpaired import Unpaired
from ganrun.data.sources.open import open_source, open_streams
from ganrun.data.sources.order import Order
from ganrun.data.sources.source import Resident, Source
from ganrun.data.sources.streamed import Streamed
from ganrun.data.sources.workers import child_handler_kept

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[1]


def numbered(count: int = 10, *, channels: int = 3, side: int = 4, labels: bool = True) -> InMemory:
    """Image i is known by its first value, i."""
    images = torch.randint(256, (count, channels, side, side), generator=generator(0, "test")).to(torch.uint8)
    images[:, 0, 0, 0] = torch.arange(count)
    names = [str(i) for i in range(count)] if labels else []
    return InMemory(images=images, labels=torch.arange(count) if labels else None, names=names, classes=None)


def sources(dataset: Dataset, *, seed: int = 0, workers: int = 2, rank: Rank = ALONE) -> list[Source]:
    return [
        Resident(dataset, seed=seed, device=CPU, rank=rank),
        Streamed(dataset, seed=seed, device=CPU, workers=workers, rank=rank),
    ]


def shown(source: Source, *sizes: int) -> list[int]:
    side = source.dataset.resolution
    return [int(i) for size in sizes for i in source.draw(BatchShape(size, side)).labels]


@pytest.mark.parametrize("sort", [0, 1])
def test_every_epoch_shows_each_image_once_in_an_order_of_its_own(sort):
    source = sources(numbered(10))[sort]
    seen = shown(source, 4, 4, 4, 4, 4)
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    assert seen[:10] != seen[10:]
    expected = [torch.randperm(10, generator=generator(0, "data", step=e)).tolist() for e in (0, 1)]
    assert seen == expected[0] + expected[1]
    source.close()


def test_the_order_is_a_function_of_the_seed():
    orders = [shown(Resident(numbered(50), seed=seed, device=CPU), 50) for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("channels", [1, 3])
def test_resident_and_streamed_give_identical_batches(workers, channels):
    resident, streamed = sources(numbered(23, channels=channels, side=8), workers=workers)
    for size in (5, 5, 5, 5, 5, 7, 60, 1):  # across epochs, beyond an epoch, and changing size
        a, b = (source.draw(BatchShape(size, 8)) for source in (resident, streamed))
        assert torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels)
        assert a.images.dtype == b.images.dtype == torch.float32 and len(a.images) == size
        assert a.images.is_contiguous(memory_format=torch.channels_last)
        assert b.images.is_contiguous(memory_format=torch.channels_last)
    a, b = (source.examples(30) for source in (resident, streamed))
    assert torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels)
    streamed.close()


@pytest.mark.parametrize("sort", [0, 1])
def test_assigning_seen_continues_exactly_from_there(sort):
    whole = sources(numbered(10))[sort]
    expected = [whole.draw(BatchShape(4, 4)) for _ in range(9)]
    assert whole.seen == 36
    resumed = sources(numbered(10))[sort]
    resumed.draw(BatchShape(3, 4))
    resumed.seen = 16
    for batch in expected[4:]:
        again = resumed.draw(BatchShape(4, 4))
        assert torch.equal(again.images, batch.images) and torch.equal(again.labels, batch.labels)
    whole.close(), resumed.close()


@pytest.mark.parametrize("sort", [0, 1])
def test_examples_do_not_change_the_position_and_do_not_depend_on_the_position(sort):
    source = sources(numbered(10))[sort]
    before = source.examples(4)
    drawn = shown(source, 6)
    after = source.examples(4)
    assert source.seen == 6 and torch.equal(before.images, after.images) and torch.equal(before.labels, after.labels)
    assert drawn + shown(source, 6) == Order(count=10, seed=0).take(0, 12).tolist()
    assert len(source.examples(25).images) == 25
    source.close()


@pytest.mark.parametrize("sort", [0, 1])
def test_torchs_own_generators_are_left_alone(sort):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    source = sources(numbered(10))[sort]
    source.examples(3)
    shown(source, 8, 8)
    source.close()
    assert torch.equal(before, torch.get_rng_state())


# ---- several processes

KINDS = pytest.mark.parametrize(("sort", "workers"), [(0, 0), (1, 0), (1, 2)], ids=["resident", "streamed", "workers"])


def draw_alone(images: int, draws: int, *, start: int = 0) -> list[Batch]:
    """The batches of one process from this position on."""
    source = Resident(numbered(10), seed=0, device=CPU)
    source.seen = start
    return [source.draw(BatchShape(images, 4)) for _ in range(draws)]


def together(batches: list[Batch]) -> tuple[torch.Tensor, torch.Tensor]:
    """The batches of all ranks as one."""
    return torch.cat([batch.images for batch in batches]), torch.cat([batch.labels for batch in batches])


@KINDS
@pytest.mark.parametrize("world", [2, 3])
def test_ranks_together_draw_the_batches_of_one_process(sort, workers, world):
    """Batches of 2 images in each of `world` processes, over two epochs of 10 images, in rank order."""
    ranks = [sources(numbered(10), workers=workers, rank=Rank(n, world))[sort] for n in range(world)]
    for whole in draw_alone(2 * world, 6):
        images, labels = together([source.draw(BatchShape(2, 4)) for source in ranks])
        assert torch.equal(images, whole.images) and torch.equal(labels, whole.labels)
    assert [source.seen for source in ranks] == [12 * world] * world
    for source in ranks:
        source.close()


@KINDS
def test_one_rank_does_not_depend_on_the_others(sort, workers):
    """A process draws its own part of each batch, whether the other processes run or not."""
    second = sources(numbered(10), workers=workers, rank=Rank(1, 2))[sort]
    for whole in draw_alone(6, 5):
        assert torch.equal(second.draw(BatchShape(3, 4)).images, whole.images[3:])
    second.close()


@KINDS
def test_ranks_continue_from_an_assigned_position(sort, workers):
    """`seen` counts the images of all processes: each rank resumes from the same number, here within an epoch."""
    ranks = [sources(numbered(10), workers=workers, rank=Rank(n, 2))[sort] for n in range(2)]
    for source in ranks:
        source.draw(BatchShape(4, 4))  # what was read ahead of another position must be forgotten
        source.seen = 18
    for whole in draw_alone(6, 4, start=18):
        images, labels = together([source.draw(BatchShape(3, 4)) for source in ranks])
        assert torch.equal(images, whole.images) and torch.equal(labels, whole.labels)
    assert [source.seen for source in ranks] == [42, 42]
    for source in ranks:
        source.close()


@KINDS
def test_ranks_follow_changing_sizes(sort, workers):
    """Batches of the two players may differ in size, e.g. with updates.generator_batch."""
    ranks = [sources(numbered(10), workers=workers, rank=Rank(n, 2))[sort] for n in range(2)]
    alone = Resident(numbered(10), seed=0, device=CPU)
    for size in (2, 5, 5, 1, 12, 2):
        whole = alone.draw(BatchShape(2 * size, 4))
        images, labels = together([source.draw(BatchShape(size, 4)) for source in ranks])
        assert torch.equal(images, whole.images) and torch.equal(labels, whole.labels)
    for source in ranks:
        source.close()


def test_ranks_share_their_examples():
    first, second = (Resident(numbered(10), seed=0, device=CPU, rank=Rank(n, 2)) for n in range(2))
    assert torch.equal(first.examples(4).images, second.examples(4).images)


def test_two_streams_have_orders_of_their_own_and_a_single_one_keeps_its_order():
    data, pair = numbered(50), Unpaired(a=numbered(50), b=numbered(50))
    single, both = (open_streams(d, seed=0, device=CPU, workers=0, memory=1.0) for d in (data, pair))
    shape = BatchShape(50, 4)
    drawn = both.draw({"a": shape, "b": shape})
    a, b = (drawn[name].labels.tolist() for name in ("a", "b"))
    alone = single.draw({"images": shape})["images"].labels.tolist()
    assert len({tuple(order) for order in (a, b, alone)}) == 3 and sorted(a) == sorted(b) == sorted(alone)
    assert alone == Order(count=50, seed=0).take(0, 50).tolist()
    assert both.seen == {"a": 50, "b": 50}
    both.seen = {"a": 0, "b": 50}
    assert both.draw({"a": shape})["a"].labels.tolist() == a and both.seen == {"a": 50, "b": 50}


def test_the_memory_limit_holds_for_all_streams_together():
    pair = Unpaired(a=numbered(10), b=numbered(10))
    size = 10 * 3 * 4 * 4 / 2**30  # GiB of one
    for memory, kind in ((1.5 * size, Streamed), (2 * size, Resident)):
        streams = open_streams(pair, seed=0, device=CPU, workers=0, memory=memory)
        assert all(isinstance(source, kind) for source in streams.sources.values())


def test_values_are_minus_one_to_one_exactly():
    images = torch.tensor([[0, 255], [127, 128]], dtype=torch.uint8).view(1, 1, 2, 2)
    source = Resident(InMemory(images=images, labels=None, names=[], classes=None), seed=0, device=CPU)
    batch = source.draw(BatchShape(1, 2))
    assert batch.labels is None
    assert batch.images.flatten().tolist() == pytest.approx([-1, 1, 127 / 127.5 - 1, 128 / 127.5 - 1], abs=1e-7)


def test_a_lower_resolution_averages_pixels():
    source = Resident(numbered(6, side=8), seed=0, device=CPU)
    small = source.draw(BatchShape(6, 4)).images
    source.seen = 0
    full = source.draw(BatchShape(6, 8)).images
    torch.testing.assert_close(small, full.unfold(2, 2, 2).unfold(3, 2, 2).mean((-1, -2)))


def test_the_memory_limit_chooses():
    assert isinstance(open_source(numbered(10), seed=0, device=CPU, workers=0, memory=1.0), Resident)
    assert isinstance(open_source(numbered(10), seed=0, device=CPU, workers=0, memory=0.0), Streamed)


def test_a_draw_of_residents_never_waits_for_the_host():
    from torch.utils._python_dispatch import TorchDispatchMode

    class Listening(TorchDispatchMode):
        names: list[str] = []  # noqa: RUF012

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.names.append(str(func))
            return func(*args, **(kwargs or {}))

    source = Resident(numbered(64), seed=0, device=CPU)
    source.draw(BatchShape(8, 4))
    with Listening() as listening:
        source.draw(BatchShape(8, 4))
    assert listening.names and not any(word in n for n in listening.names for word in ("local_scalar", "nonzero"))


class Breaking(InMemory):
    """One image cannot be read."""

    def image(self, index: int) -> torch.Tensor:
        if index == 7:
            raise ConfigError("cat.jpg", "is cut", "a whole image", "deleting it")
        return super().image(index)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_cannot_be_read_ends_the_run_in_one_line(workers):
    plain = numbered(10)
    dataset = Breaking(images=plain.images, labels=None, names=[], classes=None)
    source = Streamed(dataset, seed=0, device=CPU, workers=workers)
    with pytest.raises(EnvironmentFailed, match=r"^cat.jpg: is cut, expected a whole image. Try: deleting it$"):
        source.draw(BatchShape(10, 4))
    source.close()


def test_a_killed_worker_ends_the_run_in_one_line():
    source = Streamed(numbered(10), seed=0, device=CPU, workers=1)
    source.draw(BatchShape(2, 4))
    os.kill(source._ahead.workers[0].pid, signal.SIGKILL)
    with pytest.raises(EnvironmentFailed, match=r"^data: reading ahead failed: .*worker.*(killed|exited).*workers=0"):
        for _ in range(50):
            source.draw(BatchShape(2, 4))
    source.close()


def test_a_dead_worker_is_heard_where_data_are_drawn_and_nowhere_else():
    """torch installs a handler that raises wherever the run is: in a save, or in an update."""
    before = signal.getsignal(signal.SIGCHLD)
    source = Streamed(numbered(10), seed=0, device=CPU, workers=2)
    source.draw(BatchShape(2, 4))
    assert signal.getsignal(signal.SIGCHLD) == before
    os.kill(source._ahead.workers[1].pid, signal.SIGKILL)
    time.sleep(0.2)  # here it raised
    with pytest.raises(EnvironmentFailed, match=r"a worker process was killed by SIGKILL \(out of memory\?\)"):
        for _ in range(50):
            source.draw(BatchShape(2, 4))
    source.close()


def test_torch_installs_no_handler_of_dead_workers_even_while_they_start():
    """It would raise wherever the run is, such as where a thread starts."""
    before = signal.getsignal(signal.SIGCHLD)
    with child_handler_kept():
        rows = iter(DataLoader(list(range(4)), num_workers=1))
        assert signal.getsignal(signal.SIGCHLD) == before
        assert [int(row) for row in rows] == [0, 1, 2, 3]


def test_a_worker_killed_while_it_asks_whether_to_stop_does_not_hold_up_the_end():
    """It then keeps a lock of all processes, on which torch's own end of a loader waits."""
    source = Streamed(numbered(10), seed=0, device=CPU, workers=2)
    source.draw(BatchShape(2, 4))
    asked = source._ahead._chunks._workers_done_event
    assert asked._cond.acquire(timeout=5)  # what the worker holds at that moment
    ending = threading.Thread(target=source.close, daemon=True)
    ending.start()
    ending.join(timeout=10)
    held_up = ending.is_alive()
    asked._cond.release()
    ending.join()
    assert not held_up


@pytest.mark.parametrize("workers", [0, 2])
def test_waiting_for_data_hears_a_signal_and_has_an_end(workers):
    """As with a network disk that hangs: workers that are stopped, or a read that does not return."""
    hanging = Hanging(images=numbered(64).images, labels=None, names=[], classes=None)
    source = Streamed(hanging, seed=0, device=CPU, workers=workers, timeout=0.5)
    while source.seen < 8:
        assert source.ready(lambda: False)
        source.draw(BatchShape(4, 4))
    hanging.hangs.set()
    for worker in source._ahead.workers:
        os.kill(worker.pid, signal.SIGSTOP)
    for _ in range(8):  # what was read ahead is drawn first
        if not source.ready(lambda: True):
            break
        source.draw(BatchShape(4, 4))
    else:
        raise AssertionError("it never waited")
    with pytest.raises(WaitInterrupted):
        source.draw(BatchShape(4, 4))
    source._interrupted = lambda: False
    with pytest.raises(EnvironmentFailed, match=r"not one image came for 0.5 s. Try: engine.data_timeout=1,"):
        source.draw(BatchShape(4, 4))
    began = time.monotonic()
    workers = source._ahead.workers
    source.close()
    assert time.monotonic() - began < 3 and not any(worker.is_alive() for worker in workers)
    hanging.go_on.set()


class Hanging(InMemory):
    """Its images stop coming when told, in the process that reads them."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.hangs, self.go_on = threading.Event(), threading.Event()

    def image(self, index: int) -> torch.Tensor:
        if self.hangs.is_set():
            self.go_on.wait(30)
        return super().image(index)


SCRIPT = """
import hashlib, os, signal, sys, time, torch
sys.path.insert(0, "tests")
from test_data_source import CPU, BatchShape, Streamed, numbered
torch.set_num_threads(1)
received = []
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda *_: received.append(1))
source = Streamed(numbered(50), seed=0, device=CPU, workers=2)
digest = hashlib.sha256()
for i in range(40):
    digest.update(source.draw(BatchShape(8, 4)).images.numpy().tobytes())
    if i == 5:
        print("ready", *[w.pid for w in source._ahead.workers], flush=True)
        if "wait" in sys.argv:
            while not received:
                time.sleep(0.01)
print(digest.hexdigest(), flush=True)
if "close" in sys.argv:
    source.close()
"""


def start(*arguments: str) -> tuple[subprocess.Popen, list[int]]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *arguments], cwd=ROOT, env=environment,
        stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    return process, [int(pid) for pid in process.stdout.readline().split()[1:]]


def gone(pids: list[int], within: float) -> bool:
    deadline = time.monotonic() + within
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(alive(pid) for pid in pids)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_workers_leave_signals_to_the_run_and_none_is_left_over():
    runs = [start("wait", "close"), start()]  # the second is not signalled, and never closes its source
    os.killpg(runs[0][0].pid, signal.SIGTERM)
    os.killpg(runs[0][0].pid, signal.SIGINT)
    lines = [process.communicate(timeout=60)[0].strip() for process, _ in runs]
    assert lines[0] == lines[1] and len(lines[0]) == 64
    for process, workers in runs:
        assert process.returncode == 0 and len(workers) == 2
        assert gone(workers, within=1)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_workers_end_when_the_run_is_killed():
    process, workers = start("wait")
    assert all(alive(pid) for pid in workers)
    process.kill()
    process.communicate()
    assert gone(workers, within=15)  # they look for their parent every five seconds


BREAKS = """
import multiprocessing, os, signal, socket, time
from multiprocessing import reduction
from ganrun.data.sources.workers import prepare_worker

def work(sent):
    prepare_worker(0)
    sent.send(reduction.DupFd(0)._id[0])  # what sends a tensor to the run: a thread that answers at this address
    time.sleep(60)

here, there = multiprocessing.Pipe()
worker = multiprocessing.get_context("fork").Process(target=work, args=(there,))
worker.start()
broken = socket.socket(socket.AF_UNIX)
broken.connect(here.recv())
broken.close()
time.sleep(0.5)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere workers notice the end of the run later")
def test_a_worker_says_nothing_of_a_connection_that_breaks_a_moment_before_its_run_is_gone():
    ended = subprocess.run(
        [sys.executable, "-c", BREAKS], capture_output=True, text=True, timeout=30
    )  # of 60 it sleeps
    assert ended.returncode == -signal.SIGKILL and ended.stderr == ""
