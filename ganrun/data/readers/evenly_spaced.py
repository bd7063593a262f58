"""Indices spread over something long, of which a part is looked at."""

from __future__ import annotations


def evenly_spaced(total: int, count: int) -> list[int]:
    """At most `count` indices spread evenly over `total`, first and last included."""
    count = min(total, count)
    return [i * (total - 1) // max(count - 1, 1) for i in range(count)]
