"""The TensorBoard files of one run; failures to write them become errors of one line."""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from robustsabn.files import writing

__all__ = ["Board", "events_in"]

EVENTS = "events.out.tfevents.*"


class Board:
    """Writes scalars, histograms, images, text and hyperparameters for TensorBoard in the folder `place`.

    Entries after step `start` from an earlier session are hidden. A thread of TensorBoard writes the files;
    if it fails, the next call here raises WriteError.
    """

    def __init__(self, place: Path, start: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.place, self.start = place, start
        _silence_writers()
        with writing(place):
            self.writer = SummaryWriter(str(place), purge_step=start + 1 if events_in(place) else None)

    def describe(
        self, settings: Mapping[str, Any], card: str, layout: dict[str, dict[str, list[Any]]]
    ) -> None:
        """The hyperparameters of the run, its configuration as Markdown, and the first screen."""
        with writing(self.place):
            self._add(_session(settings)[0])
            self.writer.add_text("configuration", card, self.start)
            self.writer.add_custom_scalars(layout)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        with writing(self.place):
            for tag, value in values.items():
                self.writer.add_scalar(tag, value, step)

    def histogram(self, tag: str, values: np.ndarray, step: int) -> None:
        with writing(self.place):
            self.writer.add_histogram(tag, values, step)

    def image(self, tag: str, image: np.ndarray, step: int) -> None:
        """Log an image (H, W, C) of bytes."""
        with writing(self.place):
            self.writer.add_image(tag, image, step, dataformats="HWC")

    def flush(self) -> None:
        with writing(self.place):
            self.writer.flush()

    def ended(self) -> None:
        """Note that the run has ended."""
        with writing(self.place):
            self._add(_session({})[1])

    def close(self) -> None:
        self.writer.close()

    def _add(self, summary: Any) -> None:
        self.writer._get_file_writer().add_summary(summary)  # type: ignore[no-untyped-call]


def events_in(place: Path) -> bool:
    """Whether a folder has files of TensorBoard."""
    return any(place.glob(EVENTS))


def _session(settings: Mapping[str, Any]) -> tuple[Any, Any]:
    """The beginning and the end of a session, for HPARAMS.

    Without an Experiment: TensorBoard would take that of one run for all.
    """
    from torch.utils.tensorboard.summary import hparams

    # true would be shown as 1
    plain = {k: str(value).lower() if isinstance(value, bool) else value for k, value in settings.items()}
    _, begun, ended = hparams(plain, {})  # type: ignore[no-untyped-call]
    return begun, ended


def _silence_writers() -> None:
    """Print no traceback if a TensorBoard thread cannot write.

    This stays in effect after a board is closed, because its thread may fail while it ends.
    """
    if getattr(threading.excepthook, "silences_writers", False):
        return
    hook = threading.excepthook

    def quiet(failure: threading.ExceptHookArgs) -> None:
        of_tensorboard = type(failure.thread).__module__.startswith("tensorboard")
        if not (of_tensorboard and isinstance(failure.exc_value, OSError)):
            hook(failure)

    quiet.silences_writers = True  # type: ignore[attr-defined]
    threading.excepthook = quiet
