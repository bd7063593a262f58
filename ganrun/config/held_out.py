"""The setting `dataset.held_out`, which every data set has."""

from __future__ import annotations

from typing import Annotated, Any

from ganrun.config.types import Within, fits, unfit
from ganrun.core.errors import ConfigError
from ganrun.data.datasets.base import DataSets
from ganrun.data.datasets.held_out import hold_out

SHARE = Annotated[float, Within(0)]  # of the images, or their number


def without_held_out(data: DataSets, share: Any) -> DataSets:
    """The data without this share of their images. Raises ConfigError for a value that is none, and for too many."""
    if not fits(share, SHARE):
        raise unfit("dataset.held_out", share, SHARE)
    try:
        return hold_out(data, share)
    except ConfigError as error:
        raise error.at("dataset") from error
