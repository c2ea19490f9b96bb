"""Progress of a running evaluation."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from robustsabn.report.numbers import duration, percent

__all__ = ["Display", "Event", "live"]


class Event(Protocol):
    """Progress: attack number `index` of `attacks` has `left` of its `total` images to finish."""

    @property
    def attack(self) -> str: ...
    @property
    def index(self) -> int: ...
    @property
    def attacks(self) -> int: ...
    @property
    def left(self) -> int: ...
    @property
    def total(self) -> int: ...
    @property
    def robust(self) -> int: ...
    @property
    def n(self) -> int: ...
    @property
    def seconds(self) -> float: ...


@contextmanager
def live(console: Console | None = None) -> Iterator["Display"]:
    """A function to call with every event: a bar on a terminal, elsewhere one line after each attack."""
    display = Display(console or Console(soft_wrap=True, highlight=False))
    with display.bar:
        yield display
    display.close()


class Display:
    """Shows the event that it is called with."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.last: Event | None = None
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task("clean images", total=None, note="")

    def __call__(self, event: Event) -> None:
        if self.last is None or self.last.index != event.index:
            self.close()
            self.bar.reset(self.task, total=event.total)
        self.last = event
        self.bar.update(
            self.task,
            description=f"{event.attack} ({event.index + 1} of {event.attacks})",
            completed=event.total - event.left,
            note=f"{event.left} left, robust {percent(event.robust / event.n, 1)}",
        )

    def close(self) -> None:
        """Print one line about the attack that has ended."""
        if (event := self.last) is not None:
            accuracy = percent(event.robust / event.n)
            self.console.print(
                f"{event.attack}: robust accuracy {accuracy} after {event.total} images, "
                f"{duration(event.seconds)}",
                markup=False,
            )
        self.last = None
