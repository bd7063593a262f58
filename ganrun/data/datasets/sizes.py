"""How many images a data set may have whose number is a setting."""

from __future__ import annotations

from ganrun.core.errors import ConfigError

MOST = 100_000_000


def check_size(size: int, what: str, *, least: int, usual: int) -> None:
    """Raises ConfigError for fewer images than `least`, and for more than any memory holds."""
    if not least <= size <= MOST:
        expected = f"at least {least}" if size < least else f"at most {MOST:,}"
        raise ConfigError(".size", f"{size} {what}", expected, f".size={usual}")
