"""Checks of the values in a configuration."""

from robustsabn.errors import ConfigError

__all__ = ["check", "count"]


def check(allowed: bool, message: str) -> None:
    """Raise ConfigError with `message`, which starts with the key, unless `allowed`."""
    if not allowed:
        raise ConfigError(message)


def count(name: str, value: int | None, least: int = 1) -> None:
    """Raise ConfigError unless `value` is None or at least `least`."""
    check(value is None or value >= least, f"{name} must be at least {least}, got {value}")
