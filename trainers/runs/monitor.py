"""The log of a run: metrics.jsonl, TensorBoard, trackers and the terminal, in the main process only."""

import contextlib
import io
import json
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import numpy as np
import torch
from rich.console import Console
from rich.progress import TaskID
from rich.table import Table
from torch import Tensor

from robustsabn.files import write_text, writing
from robustsabn.report.console import moves, progress_bar
from robustsabn.text import printable
from robustsabn.trainers.config import RunConfig
from robustsabn.trainers.runs.config_diff import departures, settings, value_text
from robustsabn.trainers.runs.metrics import Record, parse_record
from robustsabn.trainers.tracking.board import Board
from robustsabn.trainers.tracking.card import configuration_card
from robustsabn.trainers.tracking.charts import Charts
from robustsabn.trainers.tracking.trackers import Trackers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Monitor", "Window"]


class Window:
    """Means of scalars over the steps since the last reading, without synchronising the device."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.steps = 0
        self.since = time.perf_counter()

    def add(self, scalars: dict[str, Tensor]) -> None:
        """Add the scalars of one step."""
        for name, value in scalars.items():
            value = value.detach().float()
            self.sums[name] = self.sums[name] + value if name in self.sums else value
        self.steps += 1

    def mean(self) -> tuple[list[str], Tensor]:
        """Names and means, still on the device; the window is empty afterwards."""
        names, values = list(self.sums), torch.stack(list(self.sums.values())) / self.steps
        self.sums, self.steps = {}, 0
        return names, values

    def lap(self) -> float:
        """Seconds since the last lap."""
        now = time.perf_counter()
        seconds, self.since = now - self.since, now
        return seconds


class Monitor:
    """The log of one run; `validations` has its validation records so far.

    Numbers are written to metrics.jsonl, and by the tags of `charts` to TensorBoard and to `trackers`. With
    `active=False`, as in all but the main process, calls do nothing.
    """

    def __init__(
        self,
        metrics: Path,
        tb: Path,
        total: int,
        start: int,
        active: bool,
        charts: Charts | None = None,
        trackers: Sequence[str] = (),
    ) -> None:
        self.active, self.total, self.spoken = active, total, time.monotonic()
        self.charts = charts or Charts()
        self.console = Console(quiet=not active, soft_wrap=True, highlight=False)
        self.validations: list[Record] = []
        if not active:
            return
        self.validations = [entry for entry in _truncate(metrics, start) if entry["kind"] == "validation"]
        self.metrics = metrics
        self.file: TextIO = metrics.open("a", encoding="utf-8")
        self.board, self.trackers = Board(tb, start), Trackers(trackers, metrics.parent, self.say)
        self.progress = progress_bar(self.console)
        self.task = self.progress.add_task("training", total=total, completed=start, note="")
        self.other: TaskID | None = None

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Show progress inside the block; flush and close the log at its end."""
        if not self.active:
            yield
            return
        try:
            with self.progress:
                yield
            self.board.ended()
            self.flush()
        finally:
            with contextlib.suppress(OSError):  # the numbers are in metrics.jsonl
                self.board.close()
            self.trackers.close()
            with writing(self.metrics):
                self.file.close()

    def describe(self, config: RunConfig) -> None:
        """Start the trackers, and show the configuration: those settings first that are not the defaults."""
        if not self.active:
            return
        shown = {key: value for key, value in settings(config).items() if value is not None}
        shown |= {"seed": config.seed}

        def text(key: str, value: object) -> str:
            return printable(value_text(key, value))  # trackers take no names that are not UTF-8

        texts = {key: text(key, value) for key, value in shown.items()}
        changed = [(key, text(key, value), text(key, default)) for key, value, default in departures(config)]
        numbers = {k: texts[k] if isinstance(v, (str, list, dict)) else v for k, v in shown.items()}
        self.trackers.start(numbers)
        self.board.describe(numbers, configuration_card(changed, texts), self.charts.layout())

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Replace earlier closing evaluations in metrics.jsonl by those of the block.

        All are written at the end of the block; if it fails, none.
        """
        if not self.active:
            yield
            return
        with writing(self.metrics):
            self.file.close()
        self.file = buffer = io.StringIO()
        try:
            yield
            lines = self.metrics.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [line for line in lines if not _closing(line)]
            write_text(self.metrics, "".join(kept) + buffer.getvalue())
        finally:
            self.file = self.metrics.open("a", encoding="utf-8")

    def say(self, line: str) -> None:
        """Print one line."""
        self.console.print(line, markup=False)
        self.spoken = time.monotonic()

    def advance(self, step: int, note: str) -> None:
        """Move the progress bar to `step`; without a terminal, print a line every minute."""
        if not self.active:
            return
        self.progress.update(self.task, completed=step, note=note)
        self._say_now_and_then(f"step {step}/{self.total}  {note}")

    def note(self, text: str) -> None:
        """Show the state of a long step beside the bar of the training, or as a line every minute."""
        if self.active:
            self.progress.update(self.task, note=text)
            self._say_now_and_then(text)

    def show(self, what: str, done: int, total: int, note: str = "") -> None:
        """Move the bar of an evaluation, which `hide` removes; without a terminal, a line every minute."""
        if not self.active:
            return
        if self.other is None:
            self.other = self.progress.add_task(what, note=note)
        self.progress.update(self.other, description=what, completed=done, total=total, note=note)
        self._say_now_and_then(f"{what}: {done} of {total}  {note}".rstrip())

    def hide(self) -> None:
        """Remove the bar of an evaluation."""
        if self.active and self.other is not None:
            self.progress.remove_task(self.other)
            self.progress.refresh()  # or the next line is printed above the bar once more
            self.other = None

    @contextlib.contextmanager
    def counting(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """A bar for `total` things in the block, which gets a function to count some of them."""
        done = 0

        def count(more: int) -> None:
            nonlocal done
            done += more
            self.show(what, min(done, total), total)

        try:
            yield count
        finally:
            self.hide()

    def _say_now_and_then(self, line: str) -> None:
        if not moves(self.console) and time.monotonic() - self.spoken > 60:
            self.say(line)

    def record(self, kind: str, step: int, values: Record) -> None:
        """Write one line to metrics.jsonl, and its numbers to TensorBoard and trackers by their tags."""
        if not self.active:
            return
        entry = {"kind": kind, "step": step, **values}
        with writing(self.metrics):
            self.file.write(json.dumps(entry) + "\n")
        if kind == "validation":
            self.validations.append(entry)
        scalars = self.charts.scalars(kind, values)
        self.board.scalars(scalars, step)
        self.trackers.scalars(scalars, step)

    def picture(self, tag: str, image: Tensor, step: int) -> None:
        """Log a picture (C, H, W) in [0, 1] for TensorBoard and trackers."""
        if self.active:
            levels = (image.detach().float().clamp(0, 1) * 255).round().byte()
            self._image(tag, levels.permute(1, 2, 0).cpu().numpy(), step)

    def figure(self, tag: str, figure: "Figure", step: int) -> None:
        """Log a matplotlib figure for TensorBoard and trackers."""
        if self.active:
            from matplotlib.backends.backend_agg import FigureCanvasAgg

            canvas = FigureCanvasAgg(figure)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a box stands for it
                canvas.draw()  # type: ignore[no-untyped-call]
            pixels: memoryview = canvas.buffer_rgba()  # type: ignore[no-untyped-call]
            self._image(tag, np.asarray(pixels)[..., :3], step)

    def histograms(self, values: Mapping[str, np.ndarray], step: int) -> None:
        """Log histograms for TensorBoard, by their tags."""
        if self.active:
            for tag, numbers in values.items():
                self.board.histogram(tag, numbers, step)

    def _image(self, tag: str, image: np.ndarray, step: int) -> None:
        self.board.image(tag, image, step)
        self.trackers.image(tag, image, step)

    def flush(self) -> None:
        """Write everything to disk."""
        if self.active:
            with writing(self.metrics):
                self.file.flush()
                os.fsync(self.file.fileno())
            self.board.flush()

    def table(self, table: Table) -> None:
        self.console.print(table)


def _closing(line: str) -> bool:
    record = parse_record(line)
    return record is not None and record["kind"].startswith("test")


def _truncate(metrics: Path, start: int) -> list[Record]:
    """Remove records after step `start` and an incomplete last line; return the others.

    A closing evaluation stays until another one is complete.
    """
    if not metrics.exists():
        return []
    kept, lines = [], []
    for line in metrics.read_text(encoding="utf-8", errors="replace").splitlines():
        entry = parse_record(line)
        if entry is not None and entry["step"] <= start:
            kept.append(entry)
            lines.append(line + "\n")
    write_text(metrics, "".join(lines))
    return kept
