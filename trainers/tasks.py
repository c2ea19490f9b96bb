"""The kinds of training, by the name in `task` of a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import robustsabn.config
from robustsabn.config.loader import Overrides, listed, read_mapping
from robustsabn.errors import ConfigError
from robustsabn.text import nearest, quote
from robustsabn.trainers.config import RunConfig
from robustsabn.trainers.given import check_given, named

if TYPE_CHECKING:
    from robustsabn.trainers.loop.task import Task
    from robustsabn.trainers.runs.folder import RunFolder

__all__ = ["TASKS", "Config", "load_config", "read_run", "start_from", "task_class"]

Config = str | Path | Mapping[str, Any] | RunConfig

# each NAME is a package robustsabn.trainers.NAME with CONFIG in config.py and TASK in task.py
TASKS = ("adversarial", "gan", "nas", "style")


def load_config(config: Config, overrides: Overrides = ()) -> RunConfig:
    """The configuration of a run, in the class of its `task`; objects in it get a name.

    Raises as `robustsabn.config.load`, and ConfigError for objects that have to be given again.
    """
    own = [named(one) if isinstance(one, Mapping) else one for one in listed(overrides)]
    if isinstance(config, RunConfig):
        return robustsabn.config.load(type(config), config, own)
    mapping = read_mapping(config)
    if not isinstance(config, (str, Path)):
        mapping = named(mapping)
    told = _first_keys(own)
    cls = _config_class(told.get("task", mapping.get("task", TASKS[0])))
    loaded = robustsabn.config.load(cls, mapping, [cls.implied(mapping), *own, cls.implied(told)])
    check_given(loaded)
    return loaded


def _first_keys(overrides: Overrides) -> dict[str, Any]:
    """The keys that overrides set, without what follows a dot; `method.name` is `method`."""
    found: dict[str, Any] = {}
    for one in listed(overrides):
        for key, value in [one.partition("=")[::2]] if isinstance(one, str) else one.items():
            first, _, rest = str(key).partition(".")
            if rest in ("", "name"):
                found[first] = value
            else:
                found.setdefault(first, None)
    return found


def start_from(
    config: Config | None, overrides: Overrides, settings: Mapping[str, Any]
) -> tuple[Config, list[str | Mapping[str, Any]]]:
    """The configuration to start from, by default a recipe or nothing, and all overrides in order."""
    told = [*listed(overrides), *([settings] if settings else [])]
    if config is None:
        config = {} if {"model", "data"} & set(settings) else "digits"
    return config, told


def task_class(config: RunConfig) -> type[Task[Any, Any]]:
    """The task of a configuration."""
    return _task_class(config.task)


def read_run(folder: RunFolder) -> tuple[RunConfig, type[Task[Any, Any]]]:
    """The configuration and the task of a run. Raises CheckpointError if there is no run."""
    task = _task_class(folder.written_config().get("task", TASKS[0]))
    config: RunConfig = task.results.config(folder, task.config)
    return config, task


def _task_class(name: object) -> type[Task[Any, Any]]:
    if name not in TASKS:
        return _own_task(name)
    task: type[Task[Any, Any]] = import_module(f"robustsabn.trainers.{name}.task").TASK
    return task


def _config_class(name: object) -> type[RunConfig]:
    if name in TASKS:
        config_class: type[RunConfig] = import_module(f"robustsabn.trainers.{name}.config").CONFIG
        return config_class
    return _own_task(name).config


@cache
def _own_task(name: object) -> type[Task[Any, Any]]:
    from robustsabn.trainers.loop.task import Task
    from robustsabn.user_code import OwnCode

    place = OwnCode.split(name) if isinstance(name, str) else None
    if place is None:
        allowed = f"{', '.join(TASKS)}, path/to/file.py:CLASS, package.module:CLASS"
        raise ConfigError(f"task: {quote(name)} is unknown{nearest(name, TASKS)}; allowed: {allowed}")
    code = OwnCode(place[0], ConfigError, "a task of your own is path/to/file.py:CLASS")
    with code.opened() as module:
        cls = code.attribute(module, place[1], "class")
    if not isinstance(cls, type) or not issubclass(cls, Task):
        raise ConfigError(f"task: {quote(name)} is no subclass of robustsabn.trainers.loop.task.Task")
    return cls
