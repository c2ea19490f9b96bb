"""Stopping on request: SIGINT, SIGTERM and SIGUSR1 are noted, the step in hand is finished and the state saved."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

__all__ = ["Interrupted", "Signals", "noted"]

# schedulers of clusters send SIGTERM, or SIGUSR1 where asked to, a while before they kill; Windows has no SIGUSR1
_STOP = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))


class Interrupted(KeyboardInterrupt):
    """The run was asked to stop (SIGINT, SIGTERM, SIGUSR1), and saved its state."""


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
    before = {number: signal.signal(number, signals.note) for number in (_STOP if main else ())}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
