"""Stopping on request: SIGINT and SIGTERM are noted, the step in hand is finished and the state saved."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

__all__ = ["Interrupted", "Signals", "noted"]


class Interrupted(KeyboardInterrupt):
    """The run was asked to stop (SIGINT, SIGTERM), and saved its state."""


class Signals:
    """Whether a signal to stop has come."""

    def __init__(self) -> None:
        self.received = False

    def note(self, number: int, frame: FrameType | None) -> None:
        """A signal handler; a second SIGINT is obeyed at once."""
        if self.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = True


@contextlib.contextmanager
def noted() -> Iterator[Signals]:
    """Note signals inside the block; the handlers of before are put back after it."""
    signals = Signals()
    main = threading.current_thread() is threading.main_thread()  # elsewhere Python forbids handlers
    numbers = (signal.SIGINT, signal.SIGTERM) if main else ()
    before = {number: signal.signal(number, signals.note) for number in numbers}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
