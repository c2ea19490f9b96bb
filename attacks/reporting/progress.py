"""Progress of a running evaluation."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from robustsabn.attacks.report import ProgressEvent
from robustsabn.report.console import progress_bar
from robustsabn.report.numbers import duration, percent

__all__ = ["Display", "live"]


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
        self.last: ProgressEvent | None = None
        self.done = 0
        self.bar = progress_bar(console)
        self.task = self.bar.add_task("clean images", total=None, note="")

    def __call__(self, event: ProgressEvent) -> None:
        if self.last is None or self.last.index != event.index:
            self.close()
            self.bar.reset(self.task, total=event.work or event.total)
            self.done = 0
        self.last = event
        # a point that ends gives its iterations in flight back until the next report: never show that
        self.done = max(self.done, event.done if event.work else event.total - event.left)
        self.bar.update(
            self.task,
            description=f"{event.attack} ({event.index + 1} of {event.attacks})",
            completed=self.done,
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
