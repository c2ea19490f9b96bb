"""Exceptions. The message of each says what was given, what is allowed, and what to do next."""

__all__ = [
    "CheckpointError",
    "ConfigError",
    "ConversionError",
    "DataError",
    "FolderInUseError",
    "InputError",
    "MissingExtraError",
    "ModelError",
    "PlainNormWarning",
    "RobustsabnError",
    "RouteError",
    "TrainingError",
    "UsageError",
    "WriteError",
]


class RobustsabnError(Exception):
    """Base of all errors that this package raises; the command line prints one line and exits with code 2."""


class RouteError(RobustsabnError, ValueError):
    """A selection of routes does not fit the model or the batch."""


class ConversionError(RobustsabnError, ValueError):
    """A model cannot be converted or baked as asked; it was not changed."""


class ConfigError(RobustsabnError, ValueError):
    """A configuration key or value is not allowed."""


class DataError(RobustsabnError, ValueError):
    """A data set cannot be read, or its contents are not as described."""


class InputError(RobustsabnError, ValueError):
    """Images, labels, logits, features or options given to an attack or a metric are unusable."""


class ModelError(RobustsabnError, ValueError):
    """A model specification or weight file cannot be used."""


class CheckpointError(RobustsabnError, RuntimeError):
    """A checkpoint is missing, incomplete or altered."""


class MissingExtraError(RobustsabnError, ImportError):
    """An optional package is needed but not installed."""


class UsageError(RobustsabnError, ValueError):
    """The arguments of a command are wrong."""


class TrainingError(RobustsabnError, RuntimeError):
    """Training cannot continue."""


class FolderInUseError(TrainingError):
    """Another command is writing into the folder."""


class WriteError(RobustsabnError, OSError):
    """A file or folder cannot be written: the disk is full, or the place is not writable."""


class PlainNormWarning(UserWarning):
    """Some norm layers of a converted model have no routes."""
