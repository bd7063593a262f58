"""Training in four processes is training in one."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support import host, tiny
from test_processes import ALIKE, compare

from ganrun.run.processes import Others, others


@pytest.fixture(scope="module")
def four() -> Iterator[Others]:
    with others(4, Path("nowhere")) as found:
        assert found is not None
        yield found


def test_batch_norm_and_what_compares_images_are_those_of_one_process(four: Others) -> None:
    compare((*tiny("batch=8", tricks=["minibatch_stddev"]), *ALIKE), 2, four)


@pytest.mark.parametrize("trick", ["ada", "noisy_labels", "replay", "gp"])
def test_tricks_are_those_of_one_process(trick: str, four: Others) -> None:
    overrides = host(trick)
    assert isinstance(overrides, tuple)
    compare((*overrides, "batch=8", *ALIKE), 2, four)
