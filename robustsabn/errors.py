"""Exceptions: every error a user can cause says what was given, what is allowed and what to do next."""

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
    """Base of every error raised on purpose; the command line prints it in one line and exits with 2."""


class RouteError(RobustsabnError, ValueError):
    """A selection names no route of the model, or does not fit the batch."""


class ConversionError(RobustsabnError, ValueError):
    """A model cannot be converted or baked as asked; it was not touched."""


class ConfigError(RobustsabnError, ValueError):
    """A configuration key or value is not allowed."""


class DataError(RobustsabnError, ValueError):
    """A data set cannot be read or does not hold what was promised."""


class InputError(RobustsabnError, ValueError):
    """Images, labels, logits or features handed to an attack or a metric are unusable."""


class ModelError(RobustsabnError, ValueError):
    """A model specification or weight file cannot be used."""


class CheckpointError(RobustsabnError, RuntimeError):
    """A checkpoint is missing, truncated or altered."""


class MissingExtraError(RobustsabnError, ImportError):
    """An optional package is needed and not installed."""


class UsageError(RobustsabnError, ValueError):
    """A command line that cannot be understood."""


class TrainingError(RobustsabnError, RuntimeError):
    """Training cannot go on."""


class FolderInUseError(TrainingError):
    """Another command writes into the folder."""


class WriteError(RobustsabnError, OSError):
    """A file or folder cannot be written: the disk is full, or the place is not writable."""


class PlainNormWarning(UserWarning):
    """Norm layers of a converted model take no routes."""
