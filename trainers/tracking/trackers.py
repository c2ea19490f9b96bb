"""The trackers of Accelerate (wandb, mlflow, …) that a run writes to beside TensorBoard."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np

from robustsabn.errors import ConfigError
from robustsabn.text import nearest, one_line, quote

__all__ = ["Trackers", "check_trackers", "run_title"]

PROJECT = "robustsabn"
PACKAGES = {"comet_ml": "comet-ml"}
"""Packages that are not called like their tracker."""
RUN_NAMES = {
    "wandb": "name",
    "trackio": "name",
    "mlflow": "run_name",
    "swanlab": "experiment_name",
    "clearml": "task_name",
}
"""The arguments of trackers that name a run; the project is their first one."""
FOLDERS = {"wandb": "dir", "dvclive": "dir"}
"""The arguments of trackers that choose a folder, which is otherwise the current one."""


def check_trackers(names: Sequence[str]) -> None:
    """Raise ConfigError for trackers that accelerate does not know, or whose package is missing."""
    if not names:
        return
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
    from accelerate.utils import LoggerType

    known = sorted({*LOGGER_TYPE_TO_CLASS} - {"tensorboard"})
    for name in names:
        if name == "tensorboard":
            raise ConfigError("trackers: tensorboard is written anyway; leave it out")
        if name not in known:
            raise ConfigError(
                f"trackers: {quote(name)} is unknown{nearest(name, known)}; accelerate has {', '.join(known)}"
            )
        built_in = name in [str(kind.value) for kind in LoggerType]
        if built_in and name not in [str(kind.value) for kind in get_available_trackers()]:
            package = PACKAGES.get(name, name)
            raise ConfigError(f"trackers: {name} is not installed; pip install {package}, or leave it out")


class Trackers:
    """Sends scalars, images and the configuration of a run to trackers of Accelerate.

    One that fails while the run trains is left out from then on, which `say` reports; the run goes on.
    """

    def __init__(self, names: Iterable[str], folder: Path, say: Callable[[str], None]) -> None:
        self.names, self.folder, self.say = tuple(names), folder, say
        self.running: dict[str, Any] = {}

    def start(self, settings: Mapping[str, Any]) -> None:
        """Start them with the configuration. Raises ConfigError for one that does not start."""
        if not self.names:
            return
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        title = run_title(self.folder)
        for name in self.names:
            kind = LOGGER_TYPE_TO_CLASS[name]
            named = {RUN_NAMES[name]: title} if name in RUN_NAMES else {}
            placed = {FOLDERS[name]: str(self.folder)} if name in FOLDERS else {}
            try:
                if kind.requires_logging_directory:  # aim, whose first argument is the name of the run
                    tracker = kind(title, str(self.folder), **named, **placed)
                else:
                    tracker = kind(PROJECT, **named, **placed)
                tracker.start()
                tracker.store_init_configuration(dict(settings))
            except Exception as error:
                raise ConfigError(
                    f"trackers: {name} does not start ({one_line(error)}); set it up, or leave it out"
                ) from error
            self.running[name] = tracker

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Log numbers by their tags."""
        if values:
            named = {_allowed(tag): value for tag, value in values.items()}
            self._each(lambda tracker: tracker.log(named, step=step))

    def image(self, tag: str, image: np.ndarray, step: int) -> None:
        """Log an image (H, W, C) of bytes, to trackers that take images."""

        def log(tracker: Any) -> None:
            if hasattr(tracker, "log_images"):
                shown = image if tracker.name == "aim" else [image]
                tracker.log_images({_allowed(tag): shown}, step=step)

        self._each(log)

    def close(self) -> None:
        """End them."""
        self._each(lambda tracker: tracker.finish())
        self.running = {}

    def _each(self, use: Callable[[Any], None]) -> None:
        for name, tracker in list(self.running.items()):
            try:
                use(tracker)
            except Exception as error:  # noqa: BLE001  # whatever its server or package raises
                del self.running[name]
                self.say(f"warning: {name} fails ({one_line(error)}); the run goes on without it")


def run_title(folder: Path) -> str:
    """The name of a run: its folder, below those of its sweep.

    Example:

        >>> from pathlib import Path
        >>> run_title(Path("runs/b/attack.eps=2-255/seed-0"))
        'b/attack.eps=2-255/seed-0'
    """
    *above, name = folder.resolve().parts
    names = [name]
    while above and (fnmatch(names[0], "seed-*") or "=" in names[0]):
        names.insert(0, above.pop())
    return "/".join(names)


def _allowed(tag: str) -> str:
    """A tag of letters that every tracker takes; mlflow refuses others."""
    return re.sub(r"[^\w\-. /:]", "_", tag)
