"""Checks of the values in a configuration."""

from robustsabn.errors import ConfigError

__all__ = ["check", "count"]


def check(fine: bool, message: str) -> None:
    """ConfigError with `message`, which begins with the key, unless `fine`."""
    if not fine:
        raise ConfigError(message)


def count(name: str, value: int | None, least: int = 1) -> None:
    """ConfigError unless `value` is left out or at least `least`."""
    check(value is None or value >= least, f"{name} must be at least {least}, got {value}")
