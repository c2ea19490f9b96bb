"""Completion of commands, options and recipes in the shell, by argcomplete."""

import argparse
from importlib import import_module
from typing import Any

__all__ = ["complete"]


def complete(parser: argparse.ArgumentParser, config: Any) -> None:
    """Answer the shell, which has set `_ARGCOMPLETE`, and end; nothing without argcomplete.

    `config` is the action of the argument CONFIG, which is completed by the names of recipes.
    """
    try:
        argcomplete = import_module("argcomplete")
    except ImportError:
        return
    config.completer = _recipes
    argcomplete.autocomplete(parser)


def _recipes(prefix: str, **_: object) -> list[str]:
    from robustsabn.config.recipes import recipes

    return [name for name in recipes() if name.startswith(prefix)]
