"""Stopping on request: SIGINT, SIGTERM and SIGUSR1 are noted, the step in hand is finished and the state
saved.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

__all__ = ["Interrupted", "Signals", "noted"]

# schedulers of clusters send SIGTERM, or SIGUSR1 where asked to, a while before they kill; Windows has no
# SIGUSR1
_STOP = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))


class Interrupted(KeyboardInterrupt):
    """A run was stopped by a signal (SIGINT, SIGTERM, SIGUSR1) and has saved its state; `resume` continues
    it.

    Example:

        >>> from robustsabn.trainers import Interrupted
        >>> issubclass(Interrupted, KeyboardInterrupt)
        True
    """


class Signals:
    """Whether a signal to stop has come."""

    def __init__(self) -> None:
        self.received = self.immediate = False

    def note(self, number: int, frame: FrameType | None) -> None:
        """A signal handler; a second SIGINT is obeyed at once."""
        before, self.received = self.received, True
        if self.immediate and not before:  # once: what follows may come while files are being closed
            raise Interrupted
        if before and number == signal.SIGINT:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """A signal ends the block with Interrupted, also one that came before: for work of which nothing is
        to be saved.
        """
        self.immediate = True
        try:
            if self.received:
                raise Interrupted
            yield
        finally:
            self.immediate = False


@contextlib.contextmanager
def noted() -> Iterator[Signals]:
    """Note signals inside the block; the handlers of before are put back after it. Inside another such block
    it is that one.
    """
    outer = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    main = threading.current_thread() is threading.main_thread()  # elsewhere Python forbids handlers
    if main and isinstance(outer, Signals):
        yield outer
        return
    signals = Signals()
    before = {number: signal.signal(number, signals.note) for number in (_STOP if main else ())}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
