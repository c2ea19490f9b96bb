"""The TensorBoard files of one run; failures to write them become errors of one line."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from robustsabn.files import writing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Board"]


class Board:
    """Writes scalars and images for TensorBoard in the folder `place`.

    Entries after step `start` from an earlier session are hidden. A thread of TensorBoard writes the files;
    if it fails, the next call here raises WriteError.
    """

    def __init__(self, place: Path, start: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.place = place
        _silence_writers()
        with writing(place):
            again = place.is_dir()
            self.writer = SummaryWriter(str(place), purge_step=start + 1 if again else None)

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Close the files after the block."""
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # the numbers are in metrics.jsonl
                self.writer.close()

    def scalar(self, name: str, value: float, step: int) -> None:
        with writing(self.place):
            self.writer.add_scalar(name, value, step)

    def image(self, name: str, image: Tensor, step: int) -> None:
        with writing(self.place):
            self.writer.add_image(name, image, step)

    def figure(self, name: str, figure: "Figure", step: int) -> None:
        with writing(self.place):
            self.writer.add_figure(name, figure, step)

    def flush(self) -> None:
        with writing(self.place):
            self.writer.flush()


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
