"""The former place of `robustsabn.cli.support.subject`, for scripts that import it."""

from robustsabn.cli.support.subject import Subject, prepare

__all__ = ["Subject", "prepare"]
